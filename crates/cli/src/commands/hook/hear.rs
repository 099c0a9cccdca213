//! One call of a hook: read, record, answer. In the order of what costs least.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use coditect_capture::hooks::{Event, SessionChange, with_context};
use coditect_client::{ConfigFile, HooksConfig, Paths};
use coditect_daemon::hooks::{Folder, apply, is_opted_out, keep};
use coditect_local_store::{Error, LocalStore, Random};
use coditect_protocol::catalogue::File;

use super::{Call, background, gather, stdin, worker};
use crate::context::own_rules;
use crate::environment::HookEnvironment;
use crate::{clock, logs};

/// Longest wait for another writer.
const WAIT: Duration = Duration::from_millis(5);
/// Bytes of the spool that the start of a session takes along; with more it does not wait.
const TAKEN_BYTES_MAX: u64 = 64 * 1024;
/// Bytes that may wait before somebody is started to take them in.
const WAITING_BYTES_MAX: u64 = 128 * 1024;
/// Time between two such processes while nobody looks for what waits.
const DRAIN_EVERY: Duration = Duration::from_secs(10);
/// Time between two workers that only catch up.
const WORK_EVERY: Duration = Duration::from_secs(60);

/// Where a call's files are, and what the owner wants.
struct Surroundings {
    paths: Paths,
    settings: HooksConfig,
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recorded {
    /// It is in the database, or there is nothing to store.
    Stored,
    /// It waits in the spool, with so many bytes.
    Spooled(u64),
}

/// Hears what the agent says; returns what to answer. What goes wrong is logged.
pub(super) fn hear(call: &Call) -> Option<String> {
    let environment = HookEnvironment::from_process();
    if call.drain {
        drain(&environment, call);
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
            warn(&surroundings.paths, &error, "an event was not recorded");
            None
        }
    }
}

fn drain(environment: &HookEnvironment, call: &Call) {
    match surroundings(environment, call.profile.as_deref()) {
        Err(error) => complain(environment.home.as_deref(), &error),
        Ok(surroundings) => {
            let paths = &surroundings.paths;
            if let Err(error) = background::drain(paths) {
                warn(paths, &error, "the spool was left as it is");
            }
        }
    }
}

fn warn(paths: &Paths, error: &anyhow::Error, what: &str) {
    logs::start(&paths.logs_dir());
    tracing::warn!(target: logs::HOOKS, error = format!("{error:#}"), "{what}");
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
    // What they would keep out must not get into the spool either.
    own_rules(&ordinary)?;
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
    if LocalStore::erased_note(&surroundings.paths.context_storage()).is_some() {
        return Ok(None);
    }
    let folder = Folder::new(&surroundings.paths.data_dir());
    let (recorded, answer) = if event.wants_answer() {
        let mut store = open(&surroundings.paths, File::Sessions);
        let recorded = store_or_spool(&folder, &mut store, &event, now_ms);
        let answer = answer(surroundings, &store, place.as_deref(), &event, now_ms);
        (recorded, answer)
    } else {
        (spool_or_store(surroundings, &folder, &event, now_ms), None)
    };
    if let Err(error) = leave(surroundings, &folder, &event, &recorded) {
        warn(
            &surroundings.paths,
            &error,
            "what takes longer was left undone",
        );
    }
    if let Err(error) = keep(&folder, &event) {
        warn(
            &surroundings.paths,
            &error.into(),
            "an event could not be kept",
        );
    }
    recorded.map(|_| answer)
}

/// Starts a process for what a hook has no time for, where there is something.
fn leave(
    surroundings: &Surroundings,
    folder: &Folder,
    event: &Event,
    recorded: &anyhow::Result<Recorded>,
) -> anyhow::Result<()> {
    let paths = &surroundings.paths;
    let work_every = match event.session {
        Some(SessionChange::Ended) => Some(Duration::ZERO),
        Some(SessionChange::Begun { .. }) => Some(WORK_EVERY),
        _ if event.read_transcript => Some(WORK_EVERY),
        _ => None,
    };
    if let Some(every) = work_every
        && folder.claim_start(every)
    {
        // It takes in the spool before anything else.
        return worker::start(paths);
    }
    let drain_every = match recorded {
        Ok(Recorded::Spooled(waiting)) if event.is_urgent() || *waiting > WAITING_BYTES_MAX => {
            Duration::ZERO
        }
        Ok(Recorded::Spooled(_)) => DRAIN_EVERY,
        Ok(Recorded::Stored) if !event.wants_answer() => return Ok(()),
        _ if background::is_log_long(&paths.context_storage()) => Duration::ZERO,
        _ => return Ok(()),
    };
    background::start_drain(paths, folder, drain_every)
}

type Opened = coditect_local_store::Result<Option<LocalStore>>;

fn open(paths: &Paths, file: File) -> Opened {
    LocalStore::open_one(&paths.context_storage(), file, WAIT, Random::System)
}

/// Writes an event to the spool; where that does not go, stores it at once.
fn spool_or_store(
    surroundings: &Surroundings,
    folder: &Folder,
    event: &Event,
    now_ms: i64,
) -> anyhow::Result<Recorded> {
    if !event.has_rows() {
        return Ok(Recorded::Stored);
    }
    let failed = match folder.spool(event) {
        Ok(waiting) => return Ok(Recorded::Spooled(waiting)),
        Err(error) => error,
    };
    if let Ok(Some(mut store)) = open(&surroundings.paths, File::Sessions)
        && try_to_store(folder, &mut store, event, now_ms)?
    {
        return Ok(Recorded::Stored);
    }
    Err(failed.into())
}

/// Stores an event, or writes it to the spool when the file is busy, missing or of no use now.
fn store_or_spool(
    folder: &Folder,
    store: &mut Opened,
    event: &Event,
    now_ms: i64,
) -> anyhow::Result<Recorded> {
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
    let waiting = folder.spool(event)?;
    stored.map(|_| Recorded::Spooled(waiting))
}

fn try_to_store(
    folder: &Folder,
    store: &mut LocalStore,
    event: &Event,
    now_ms: i64,
) -> anyhow::Result<bool> {
    let earlier = match folder.drain(store, TAKEN_BYTES_MAX, now_ms) {
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
    place: Option<&Path>,
    event: &Event,
    now_ms: i64,
) -> Option<String> {
    if !surroundings.settings.context {
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
    if let Some(paths) = home.and_then(|home| Paths::new(home, None).ok()) {
        warn(&paths, error, "nothing was recorded");
    }
}
