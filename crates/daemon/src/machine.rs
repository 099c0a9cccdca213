//! The daemon itself: turns what is noticed into events, and what the scheduler says into
//! imports and runs. One thread, which sleeps while nothing happens.

mod inbox;
mod suspects;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coditect_capture::Root;
use coditect_client::{
    ConfigFile, FileError, HintEvent, HttpTransport, Paths, SyncError, SyncState, erasure,
    follow_hints,
};
use coditect_core::canonical;
use coditect_core::sync::{Engine, Focus, Options, Report};
use coditect_local_store::backup::Backups;
use coditect_local_store::{self as local_store, LocalStore, Random};
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::hints::Hint;
use coditect_protocol::{ErrorCode, Scope};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::control::{ControlError, Place, Request};
use crate::hooks;
use crate::importer::{ImportError, Importer};
use crate::schedule::{Event, Outcome, Plan, Scheduler, Step};
use crate::status::Status;
use crate::watch::{Change, WatchError, Watched};
use inbox::{Inbox, News};
use suspects::Suspects;

/// Longest sleep: a clock that was set, or a machine that slept, is noticed after it.
const SLEEP_MAX_MS: i64 = 5 * 60 * 1_000;
/// Time after which a run gives way to something urgent, in milliseconds.
const RUN_UNDISTURBED_MS: i64 = 3_000;
/// Time between two whole runs because digests differed, in milliseconds.
const COMPARE_AGAIN_MS: i64 = 60_000;
/// Time between two counts of the queue, in milliseconds.
const COUNT_EVERY_MS: i64 = 1_000;
/// The same in lengths of one count: a long queue takes long to count.
const COUNT_SHARE: i64 = 100;
/// Time between two looks whether the daily backup is due, in milliseconds.
const BACKUP_LOOK_MS: i64 = 15 * 60 * 1_000;
/// Events of the hints' connection that may wait.
const HINTS_WAITING_MAX: usize = 16;
/// Requests over the local socket that may wait.
const COMMANDS_WAITING_MAX: usize = 16;

/// Makes the way to the server from what is configured at this moment; the error says, for
/// people, why there is none.
pub type Linker = Box<dyn Fn(&LocalStore) -> Result<HttpTransport, String>>;

/// What a daemon works with.
pub struct Settings {
    /// Folders and files of the profile.
    pub paths: Paths,
    /// The agents' folders.
    pub agents: Vec<Root>,
    /// Milliseconds since 1970.
    pub clock: fn() -> i64,
    /// The way to the server.
    pub link: Linker,
    /// Version of the program, for `status`.
    pub version: String,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Settings")
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}

/// Why a daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A database cannot be used.
    #[error(transparent)]
    Store(#[from] local_store::Error),
    /// Its place is taken, or its socket cannot be made.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Nothing can be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// A folder cannot be made.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Runs a daemon until `stop` says so; the batch that is on its way is finished first. `ready`
/// is called once it watches and answers.
///
/// # Errors
/// [`DaemonError`] when it cannot start. What goes wrong later is logged and tried again.
pub async fn run(
    settings: Settings,
    stop: watch::Receiver<bool>,
    ready: impl FnOnce(),
) -> Result<(), DaemonError> {
    let store = open(&settings)?;
    let place = Place::take(&settings.paths.data_dir())?;
    let changes = crate::watch::watch(watched(&settings)?)?;
    let (commands, requests) = mpsc::channel(COMMANDS_WAITING_MAX);
    let status = Arc::new(Mutex::new(Status {
        version: settings.version.clone(),
        started_at: canonical::time_from_ms((settings.clock)()),
        ..Status::default()
    }));
    place.answer(Arc::clone(&status), commands)?;
    tracing::info!(target: "coditect::daemon", version = settings.version, "started");
    let mut machine = Machine {
        state: SyncState::load(&settings.paths.state_file()),
        state_is_new: false,
        erased: false,
        scheduler: Scheduler::new(),
        transport: None,
        inbox: Inbox::new(changes, requests),
        versions: HashMap::new(),
        suspects: Suspects::default(),
        queue_is_new: true,
        count_ms: 0,
        backup_ms: 0,
        own: HashMap::new(),
        compared_ms: 0,
        random: Random::System,
        settings,
        store,
        status,
        stop,
    };
    machine.begin();
    ready();
    machine.work().await;
    machine.store_state();
    tracing::info!(target: "coditect::daemon", "stopped");
    Ok(())
}

fn open(settings: &Settings) -> Result<LocalStore, local_store::Error> {
    let folder = settings.paths.context_storage();
    LocalStore::open(&folder, (settings.clock)(), Random::System)
}

fn watched(settings: &Settings) -> Result<Watched, DaemonError> {
    let paths = &settings.paths;
    let config = paths.config_file();
    let tokens = paths.credentials_file();
    let folders: Vec<PathBuf> = [config.parent(), tokens.parent()]
        .into_iter()
        .flatten()
        .map(PathBuf::from)
        .collect();
    for folder in &folders {
        local_store::make_private_folder(folder)?;
    }
    Ok(Watched {
        databases: paths.context_storage(),
        settings: folders,
        agents: settings.agents.clone(),
    })
}

/// A running daemon.
struct Machine {
    settings: Settings,
    store: LocalStore,
    scheduler: Scheduler,
    transport: Option<HttpTransport>,
    inbox: Inbox,
    /// Of each file the number that other writers change.
    versions: HashMap<&'static str, i64>,
    /// Files that somebody is writing to.
    suspects: Suspects,
    /// Whether the queue has changed since it was counted.
    queue_is_new: bool,
    /// When it may be counted next.
    count_ms: i64,
    /// When to look whether the daily backup is due.
    backup_ms: i64,
    /// Numbers that our own pushes took in streams and that we have not read back.
    own: HashMap<(Scope, File), i64>,
    compared_ms: i64,
    state: SyncState,
    state_is_new: bool,
    /// Whether the account was erased, and with it what this daemon works on.
    erased: bool,
    random: Random,
    status: Arc<Mutex<Status>>,
    stop: watch::Receiver<bool>,
}

impl Machine {
    fn now_ms(&self) -> i64 {
        (self.settings.clock)()
    }

    fn note(&mut self, event: Event) {
        let now_ms = self.now_ms();
        self.scheduler.note(event, now_ms);
    }

    fn status(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Catches up with what happened while nobody watched.
    fn begin(&mut self) {
        for file in File::ALL {
            self.has_changed(file);
        }
        for agent in self.settings.agents.clone() {
            let found = agent.find().map(|found| found.files);
            for path in found.unwrap_or_default() {
                self.note(Event::Found(path));
            }
        }
        self.link();
    }

    async fn work(&mut self) {
        while !*self.stop.borrow() && !self.erased {
            while let Some(news) = self.inbox.take() {
                self.hear(news);
            }
            for file in self.suspects.due(self.now_ms()) {
                self.look(file);
            }
            self.take_spooled();
            match self.scheduler.next(self.now_ms()) {
                Step::Import(paths) => self.import(&paths),
                Step::Run(plan) => {
                    let outcome = self.sync(plan).await;
                    self.note(Event::Ran(outcome));
                    self.queue_is_new = true;
                }
                Step::Wait(until_ms) => {
                    self.store_state();
                    self.back_up();
                    let count_ms = self.count_queue();
                    self.wait(until_ms.into_iter().chain(count_ms).min()).await;
                }
            }
        }
    }

    /// Stores what hooks could not. Our own write is noticed by nobody, so it is said here.
    fn take_spooled(&mut self) {
        let folder = hooks::Folder::new(&self.settings.paths.data_dir());
        let now_ms = self.now_ms();
        match folder.drain(&mut self.store, u64::MAX, now_ms) {
            Ok(drained) if drained.events > 0 => {
                self.note(Event::Changed(File::Sessions));
                self.queue_is_new = true;
            }
            Ok(_) => {}
            Err(error) => self.trouble(&error),
        }
    }

    async fn wait(&mut self, until_ms: Option<i64>) {
        let until_ms = until_ms.into_iter().chain(self.suspects.next_ms()).min();
        let left_ms = until_ms.map_or(SLEEP_MAX_MS, |at| at - self.now_ms());
        let left_ms = left_ms.clamp(0, SLEEP_MAX_MS).cast_unsigned();
        let until = Instant::now() + Duration::from_millis(left_ms);
        tokio::select! {
            () = self.inbox.filled() => {}
            () = tokio::time::sleep_until(until) => {}
            _ = self.stop.changed() => {}
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Change(Change::Database(file)) => {
                self.suspects.add(file, self.now_ms());
                self.look(file);
            }
            News::Change(Change::Transcript(path)) => self.note(Event::Transcript(path)),
            News::Change(Change::Settings) => self.link(),
            News::Hint(HintEvent::Connected(hints)) => {
                tracing::info!(target: "coditect::daemon", "hints come");
                self.status(|status| status.connected = true);
                self.note(Event::Connected);
                self.hinted(&hints);
            }
            News::Hint(HintEvent::Hints(hints)) => self.hinted(&hints),
            News::Hint(HintEvent::Lost(_)) => {
                self.status(|status| status.connected = false);
                self.note(Event::Lost);
            }
            News::Command(Request::Sync) => self.note(Event::Asked),
            News::Command(Request::SessionStarted) => self.note(Event::SessionStarted),
            News::Command(Request::SessionEnded) => self.note(Event::SessionEnded),
            News::Command(Request::Status) => {}
        }
    }

    /// Looks whether somebody else wrote to a file.
    fn look(&mut self, file: File) {
        if self.has_changed(file) {
            tracing::trace!(target: "coditect::daemon", file = file.as_str(), "noticed");
            self.note(Event::Changed(file));
            self.queue_is_new = true;
        }
    }

    /// Returns whether somebody else wrote to the file since it was asked last. A folder that
    /// was given another device or owner meanwhile is opened again.
    fn has_changed(&mut self, file: File) -> bool {
        match self.store.is_outdated() {
            Ok(false) => {}
            Ok(true) => self.reopen(),
            Err(error) => self.trouble(&error),
        }
        match self.store.outside_version(file) {
            Ok(version) => self.versions.insert(file.as_str(), version) != Some(version),
            Err(error) => {
                self.trouble(&error);
                false
            }
        }
    }

    fn reopen(&mut self) {
        match open(&self.settings) {
            Ok(store) => {
                self.store = store;
                self.versions.clear();
                self.transport = None;
                self.link();
            }
            Err(error) => self.trouble(&error),
        }
    }

    fn trouble(&self, error: &dyn std::error::Error) {
        tracing::error!(target: "coditect::daemon", %error, "a local database failed");
        let text = error.to_string();
        self.status(|status| status.last_error = Some(text));
    }

    /// Makes the way to the server anew, or notes that there is none.
    fn link(&mut self) {
        // A login binds the folder, which another process did.
        if self.store.owner_of_folder().is_none() && self.store.is_outdated().unwrap_or(false) {
            return self.reopen();
        }
        match (self.settings.link)(&self.store) {
            Ok(transport) if self.store.owner_of_folder().is_some() => {
                let server = transport.http().server();
                let same = self.transport.as_ref().map(|old| old.http().server());
                if same.as_ref() != Some(&server) {
                    self.follow(transport, &server);
                }
            }
            Ok(_) => self.unlink("this folder is not linked to an account".to_owned()),
            Err(reason) => self.unlink(reason),
        }
    }

    fn follow(&mut self, transport: HttpTransport, server: &str) {
        // A second one, because the connection for hints renews its token by itself.
        if let Ok(other) = (self.settings.link)(&self.store) {
            let (sender, events) = mpsc::channel(HINTS_WAITING_MAX);
            tokio::spawn(follow_hints(other, sender, Random::System));
            self.inbox.follow(events);
        }
        self.transport = Some(transport);
        self.status(|status| {
            status.server = Some(server.to_owned());
            status.idle_because = None;
        });
        self.note(Event::Able(true));
    }

    fn unlink(&mut self, reason: String) {
        tracing::info!(target: "coditect::daemon", reason, "not syncing");
        self.transport = None;
        self.inbox.unfollow();
        self.status(|status| {
            status.idle_because = Some(reason);
            status.connected = false;
        });
        self.note(Event::Lost);
        self.note(Event::Able(false));
    }

    /// Notes the streams that have got further than we have read.
    fn hinted(&mut self, hints: &[Hint]) {
        self.status(|status| status.hints += hints.len() as u64);
        for hint in hints {
            let read = self.store.cursor(hint.file, hint.scope).ok().flatten();
            let read = read.filter(|cursor| cursor.epoch == hint.cursor.epoch);
            let own = self.own.get(&(hint.scope, hint.file)).copied();
            if read.is_some_and(|cursor| cursor.n >= hint.cursor.n) {
                continue;
            }
            tracing::trace!(target: "coditect::daemon", n = hint.cursor.n, "hinted");
            let echo = read
                .zip(own)
                .is_some_and(|(cursor, own)| cursor.n + own >= hint.cursor.n);
            self.note(Event::Hinted {
                scope: hint.scope,
                file: hint.file,
                echo,
            });
        }
    }

    fn import(&mut self, paths: &[PathBuf]) {
        let now_ms = self.now_ms();
        // Read anew each time, because it changes while the daemon runs.
        let config = ConfigFile::load(&self.settings.paths.config_file());
        let ignored = match config.and_then(|config| config.hooks()) {
            Ok(hooks) => hooks.ignore,
            Err(error) => {
                // Nobody knows now what may be recorded.
                tracing::warn!(target: "coditect::daemon", %error, "transcripts were not read");
                return;
            }
        };
        let imported = Importer::new(&mut self.store, now_ms)
            .and_then(|importer| importer.leaving_out(ignored).run_some(paths));
        let summary = match imported {
            Ok(summary) => summary,
            Err(ImportError::Store(error)) => return self.trouble(&error),
            Err(error) => {
                tracing::warn!(target: "coditect::daemon", %error, "transcripts were not read");
                return;
            }
        };
        let written = summary
            .tables
            .values()
            .map(|done| done.inserted + done.updated);
        let written: u64 = written.sum();
        if written == 0 {
            return;
        }
        tracing::info!(target: "coditect::daemon", rows = written, "imported");
        self.status(|status| status.imported += written);
        self.note(Event::Changed(File::Sessions));
        let sessions = summary.tables.get("context_sessions");
        if sessions.is_some_and(|done| done.inserted > 0) {
            self.note(Event::SessionStarted);
        }
    }

    async fn sync(&mut self, plan: Plan) -> Outcome {
        let _lease = match self.store.lease() {
            Ok(lease) => lease,
            Err(local_store::Error::Leased) => return Outcome::Leased,
            Err(error) => {
                self.trouble(&error);
                return Outcome::Failed(self.random.bits());
            }
        };
        let ran = match self.engine(&plan) {
            Ok(engine) => self.run(engine).await,
            Err(error) => Err(error.into()),
        };
        self.status(|status| status.runs += 1);
        match ran {
            Ok(Some(report)) => {
                self.obey_erasure();
                self.ran(&report)
            }
            Ok(None) => Outcome::BrokenOff,
            Err(SyncError::Store(error)) => {
                self.trouble(&error);
                Outcome::Failed(self.random.bits())
            }
        }
    }

    /// Removes what the account has left here, where the server proves that it was erased; then
    /// there is nothing more to do.
    fn obey_erasure(&mut self) {
        let owner = self.store.owner_of_folder();
        let transport = self.transport.as_ref();
        let told = owner
            .zip(transport)
            .and_then(|(owner, it)| it.erasure(owner));
        match told {
            None => {}
            Some(Err(reason)) => tracing::error!(
                target: "coditect::daemon", %reason,
                "the server says that the account was erased; it is not believed"
            ),
            Some(Ok(notice)) => match erasure::carry_out(&self.settings.paths, &notice) {
                Ok(()) => {
                    tracing::warn!(
                        target: "coditect::daemon",
                        "the account was erased: its databases were removed, nothing is left to do"
                    );
                    self.erased = true;
                }
                Err(error) => self.trouble(&error),
            },
        }
    }

    fn engine(&mut self, plan: &Plan) -> Result<Engine, local_store::Error> {
        let options = Options {
            random: self.random.bits(),
            ..Options::default()
        };
        if plan.whole {
            return Ok(Engine::new(options));
        }
        let streams = self.store.streams()?;
        // A scope that this device has never read becomes known by a whole run.
        if plan.pull.iter().any(|stream| !streams.contains(stream)) {
            return Ok(Engine::new(options));
        }
        let compared = |(_, file): &(Scope, File)| plan.compare.contains(file);
        let mut pull: Vec<_> = streams.into_iter().filter(compared).collect();
        pull.extend(&plan.pull);
        let push = plan.compare.iter().chain(&plan.push).copied().collect();
        let focus = Focus {
            adopt: plan.compare.clone(),
            push,
            pull,
        };
        Ok(Engine::focused(options, focus))
    }

    async fn run(&mut self, engine: Engine) -> Result<Option<Report>, SyncError> {
        let Some(transport) = &mut self.transport else {
            return Ok(None);
        };
        let (clock, began_ms) = (self.settings.clock, (self.settings.clock)());
        let (inbox, stop, versions) = (&mut self.inbox, &self.stop, &self.versions);
        let go_on = |store: &LocalStore| {
            let is_long = clock() - began_ms > RUN_UNDISTURBED_MS;
            let changed = || {
                let now = store.outside_version(File::Org).ok();
                now != versions.get(File::Org.as_str()).copied()
            };
            !(*stop.borrow() || is_long && (inbox.is_urgent() || changed()))
        };
        let (store, random) = (&mut self.store, &mut self.random);
        coditect_client::run(store, transport, engine, clock, random, |_| {}, go_on).await
    }

    /// Takes in how a run went.
    fn ran(&mut self, report: &Report) -> Outcome {
        for sent in &report.sent {
            *self.own.entry((sent.scope, sent.file)).or_default() += sent.changes;
        }
        for head in &report.comparisons {
            self.own.remove(&(head.scope, head.file));
        }
        let now_ms = self.now_ms();
        let now = canonical::time_from_ms(now_ms);
        if report.converged.is_some() {
            self.state.note(report, &now);
        } else {
            self.state.note_part(report, &now);
        }
        self.state_is_new = true;
        let (last_sync_at, last_error) = (
            self.state.last_sync_at.clone(),
            self.state.last_error.clone(),
        );
        self.status(|status| {
            (status.last_sync_at, status.last_error) = (last_sync_at, last_error);
        });
        let differs = report.comparisons.iter().any(|head| !head.equal());
        if differs && now_ms - self.compared_ms > COMPARE_AGAIN_MS {
            self.compared_ms = now_ms;
            self.note(Event::Asked);
        }
        let problem = report.problem.as_ref().map(|problem| problem.code);
        if problem == Some(ErrorCode::Unauthenticated) {
            self.unlink("the login has ended: coditect login".to_owned());
        }
        if report.offline || problem.is_some() {
            return Outcome::Failed(self.random.bits());
        }
        Outcome::Done
    }

    /// Counts the queue for `status`, where it has changed: once a second at most, and less
    /// often the longer it takes. Returns when it has to be done if not now.
    fn count_queue(&mut self) -> Option<i64> {
        let began_ms = self.now_ms();
        if !self.queue_is_new {
            return None;
        }
        if began_ms < self.count_ms {
            return Some(self.count_ms);
        }
        let (mut queued, mut parked) = (0, 0);
        for file in File::ALL {
            if let Ok(state) = self.store.queue_state(file) {
                (queued, parked) = (queued + state.queued, parked + state.parked);
            }
        }
        self.status(|status| (status.queued, status.parked) = (queued, parked));
        let now_ms = self.now_ms();
        self.queue_is_new = false;
        self.count_ms = now_ms + COUNT_EVERY_MS.max(COUNT_SHARE * (now_ms - began_ms));
        None
    }

    /// Backs up the critical file once a day, when nothing else is to be done.
    fn back_up(&mut self) {
        let now_ms = self.now_ms();
        if now_ms < self.backup_ms {
            return;
        }
        self.backup_ms = now_ms + BACKUP_LOOK_MS;
        let paths = &self.settings.paths;
        // Read anew each time, because it changes while the daemon runs.
        let config = ConfigFile::load(&paths.config_file());
        let cloud = config.and_then(|config| config.cloud(paths.profile()));
        if !cloud.is_ok_and(|cloud| cloud.daily_backup) {
            return;
        }
        let backups = Backups::new(paths.backups_dir());
        match backups.take_daily(&paths.context_storage(), now_ms) {
            Ok(Some(made)) => tracing::info!(target: "coditect::daemon", id = made.id, "backed up"),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(target: "coditect::daemon", %error, "no daily backup was made");
            }
        }
    }

    /// Writes down what the last runs saw, for commands that ask without a network.
    fn store_state(&mut self) {
        if !std::mem::take(&mut self.state_is_new) || self.erased {
            return;
        }
        if let Err(error) = self.state.store(&self.settings.paths.state_file()) {
            tracing::warn!(target: "coditect::daemon", %error, "the last run is not remembered");
        }
    }
}
