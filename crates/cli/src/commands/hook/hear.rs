//! One call of a hook: read, record, answer. In the order of what costs least.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use coditect_capture::hooks::{Event, SessionChange, with_context};
use coditect_client::{ConfigFile, HooksConfig, Paths};
use coditect_daemon::hooks::{Folder, apply, is_opted_out, keep};
use coditect_local_store::{Error, LocalStore, Random};
use coditect_protocol::catalogue::File;

use super::{Call, gather, log, stdin, worker};
use crate::environment::HookEnvironment;
use crate::{clock, logs};

/// Longest wait for another writer; then the event goes to the spool.
const WAIT: Duration = Duration::from_millis(5);
/// Events of the spool that one hook takes along.
const DRAIN_MAX: usize = 64;
/// Time between two workers that only catch up.
const WORK_EVERY: Duration = Duration::from_secs(60);
/// The same while events wait in the spool.
const WORK_EVERY_SPOOLED: Duration = Duration::from_secs(5);

/// Where a call's files are, and what the owner wants.
struct Surroundings {
    paths: Paths,
    settings: HooksConfig,
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recorded {
    Stored,
    Spooled,
}

/// Hears what the agent says; returns what to answer. What goes wrong is logged.
pub(super) fn hear(call: &Call) -> Option<String> {
    let environment = HookEnvironment::from_process();
    if call.shorten_log {
        shorten_log(&environment, call);
        return None;
    }
    let Some(input) = stdin::read() else {
        crate::printer::remark("reads an event as JSON from standard input; see --help");
        return None;
    };
    let surroundings = surroundings(&environment, call.profile.as_deref());
    let surroundings = match surroundings {
        Ok(surroundings) => surroundings,
        Err(error) => {
            // Without the settings nobody knows what may be recorded.
            complain(environment.home.as_deref(), &error);
            return None;
        }
    };
    if !surroundings.settings.enabled || environment.off {
        return None;
    }
    match act(&surroundings, call, &input, &environment) {
        Ok(answer) => answer,
        Err(error) => {
            logs::start(&surroundings.paths.logs_dir());
            let error = format!("{error:#}");
            tracing::warn!(target: logs::HOOKS, error, "an event was not recorded");
            None
        }
    }
}

fn shorten_log(environment: &HookEnvironment, call: &Call) {
    let done = surroundings(environment, call.profile.as_deref())
        .and_then(|surroundings| log::shorten(&surroundings.paths));
    if let Err(error) = done {
        complain(environment.home.as_deref(), &error);
    }
}

fn surroundings(
    environment: &HookEnvironment,
    profile: Option<&str>,
) -> anyhow::Result<Surroundings> {
    let home = environment.home.as_deref();
    let home = home.context("neither CODITECT_HOME nor HOME is set")?;
    let ordinary = Paths::new(home, None)?;
    let config = ConfigFile::load(&ordinary.config_file())?;
    let configured = config.cloud(None)?.profile;
    let paths = match profile.or(configured.as_deref()) {
        Some(profile) => Paths::new(home, Some(profile))?,
        None => ordinary,
    };
    Ok(Surroundings {
        paths,
        settings: config.hooks()?,
    })
}

fn act(
    surroundings: &Surroundings,
    call: &Call,
    input: &stdin::Input,
    environment: &HookEnvironment,
) -> anyhow::Result<Option<String>> {
    if input.is_too_long {
        anyhow::bail!("the input is too long; the transcript will tell");
    }
    let now_ms = clock::now_ms();
    let name = call.event.as_deref();
    let event = Event::read(call.agent, name, &input.bytes, now_ms)?;
    let place = event
        .cwd
        .as_deref()
        .map(PathBuf::from)
        .or_else(|| environment.project.clone());
    let of_setting = &surroundings.settings.ignore;
    if place
        .as_deref()
        .is_some_and(|place| is_opted_out(place, of_setting))
    {
        return Ok(None);
    }
    let folder = Folder::new(&surroundings.paths.data_dir());
    let mut store = if event.has_rows() {
        open(&surroundings.paths, File::Sessions)
    } else {
        Ok(None)
    };
    let recorded = record(&folder, &mut store, &event, now_ms);
    let answer = answer(surroundings, &store, &event, place.as_deref(), now_ms);
    let every = match (&recorded, event.session.as_ref()) {
        (_, Some(SessionChange::Ended)) => Some(Duration::ZERO),
        (Ok(Recorded::Spooled), _) => Some(WORK_EVERY_SPOOLED),
        (_, Some(SessionChange::Begun { .. })) => Some(WORK_EVERY),
        _ if event.read_transcript => Some(WORK_EVERY),
        _ => None,
    };
    if let Some(every) = every
        && folder.claim_start(every)
    {
        worker::start(&surroundings.paths)?;
    }
    // Closed first: whoever writes the log back must not find this process reading it.
    drop(store);
    if let Err(error) = log::shorten_in_background(&surroundings.paths) {
        logs::start(&surroundings.paths.logs_dir());
        tracing::warn!(target: logs::HOOKS, error = format!("{error:#}"), "the log stays long");
    }
    if let Err(error) = keep(&folder, &event) {
        logs::start(&surroundings.paths.logs_dir());
        tracing::warn!(target: logs::HOOKS, %error, "an event could not be kept");
    }
    recorded.map(|_| answer)
}

type Opened = coditect_local_store::Result<Option<LocalStore>>;

fn open(paths: &Paths, file: File) -> Opened {
    LocalStore::open_one(&paths.context_storage(), file, WAIT, Random::System)
}

/// Stores an event, or writes it to the spool when the file is busy, missing or of no use now.
fn record(
    folder: &Folder,
    store: &mut Opened,
    event: &Event,
    now_ms: i64,
) -> anyhow::Result<Recorded> {
    if !event.has_rows() {
        return Ok(Recorded::Stored);
    }
    let stored = match store {
        Ok(Some(store)) => try_to_store(folder, store, event, now_ms),
        // It has to be made or migrated first, which takes longer than a hook has.
        Ok(None) => Ok(false),
        Err(Error::Busy(_)) => Ok(false),
        Err(error) => Err(anyhow::anyhow!("{error}")),
    };
    if matches!(stored, Ok(true)) {
        return Ok(Recorded::Stored);
    }
    folder.spool(event)?;
    stored.map(|_| Recorded::Spooled)
}

fn try_to_store(
    folder: &Folder,
    store: &mut LocalStore,
    event: &Event,
    now_ms: i64,
) -> anyhow::Result<bool> {
    let earlier = match folder.drain(store, DRAIN_MAX, now_ms) {
        Ok(drained) => drained.left,
        Err(Error::Busy(_)) => true,
        Err(error) => return Err(error.into()),
    };
    // What waits was said before; where the order matters, this one waits behind it.
    if earlier && event.is_ordered() {
        return Ok(false);
    }
    match apply(store, std::slice::from_ref(event), now_ms) {
        Ok(_) => Ok(true),
        Err(Error::Busy(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns the facts that a session begins with.
fn answer(
    surroundings: &Surroundings,
    sessions: &Opened,
    event: &Event,
    place: Option<&Path>,
    now_ms: i64,
) -> Option<String> {
    let begins = matches!(event.session, Some(SessionChange::Begun { .. }));
    if !begins || !surroundings.settings.context {
        return None;
    }
    let sessions = sessions.as_ref().ok()?.as_ref()?;
    let org = open(&surroundings.paths, File::Org).ok()??;
    let facts = gather(sessions, &org, place?, Some(&event.session_id), now_ms).ok()?;
    let text = facts.text()?;
    Some(with_context("SessionStart", &text))
}

/// Logs what went wrong before the profile was known.
fn complain(home: Option<&Path>, error: &anyhow::Error) {
    let Some(paths) = home.and_then(|home| Paths::new(home, None).ok()) else {
        return;
    };
    logs::start(&paths.logs_dir());
    tracing::warn!(target: logs::HOOKS, error = format!("{error:#}"), "nothing was recorded");
}
