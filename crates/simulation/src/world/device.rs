//! A device: its files, its clock, and the run of the sync engine that is in progress.

use super::ledger::Token;
use crate::model::{Refusal, Ticket};
use coditect_client::perform_local;
use coditect_core::canonical;
use coditect_core::sync::{Action, Engine, Failure, Input, Options, Outgoing, Report};
use coditect_local_store::{LocalStore, Random};
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::pull::{PullReply, PullRequest};
use coditect_protocol::wire::push::PushReply;
use coditect_protocol::{BatchId, ErrorCode, RowId, UserId};
use serde_json::Value;
use std::collections::BTreeMap;

/// Transactions that one action of a run may take: many times what any needs.
const TRANSACTIONS_MAX: u32 = 1_000;

/// One installation.
#[derive(Debug)]
pub struct Device {
    /// Its user.
    pub user: UserId,
    /// The four files.
    pub store: LocalStore,
    /// How wrong its clock is, in milliseconds.
    pub skew_ms: i64,
    /// Whether it reaches the server.
    pub online: bool,
    /// The run in progress.
    pub(super) run: Option<Run>,
    /// The device's clock, milliseconds since 1970.
    pub(super) now_ms: i64,
    /// Whether its identity or one of its files ever came from a copy.
    pub(super) copied: bool,
    /// A second process that syncs the folder; none while the lease is respected.
    pub(super) other_run: Option<Run>,
    /// Whether its clock was ever set to another time.
    pub(super) jumped: bool,
    /// Steps for which its process stands still.
    pub(super) pause: u32,
    /// Transactions until its process ends.
    pub(super) fuse: Option<u32>,
    /// Whether its disk has no space.
    pub(super) disk_full: bool,
    /// Whether its process failed for want of space.
    pub(super) broken: bool,
    /// Rows that were refused in its run, and in which batch.
    pub(super) refused: BTreeMap<(String, RowId), (BatchId, i64)>,
    /// Lines of its transcript.
    pub(super) transcript: Vec<Token>,
}

/// What came of an action.
pub(super) enum Performed {
    /// It was done.
    Answer(Input),
    /// It is not the device's.
    NotMine,
    /// The process came to its end before a commit.
    Ended,
    /// The disk has no space.
    NoSpace,
}

/// A run of the engine and what it waits for.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) engine: Engine,
    pub(super) waits: Waits,
}

/// Where a run stands; each is left in a step of its own, so that others can act in between.
#[derive(Debug)]
pub(super) enum Waits {
    /// The device acts next.
    Act(Action),
    /// A pull is on its way.
    PullSent(PullRequest),
    /// Its answer is on its way.
    PullAnswered(Result<Box<PullReply>, Failure>),
    /// A push is on its way, or waits for the stream's lock.
    PushSent(Box<Outgoing>),
    /// The server works on it, for so many steps more.
    PushOpen(Box<Outgoing>, Ticket, u32),
    /// Its answer is on its way.
    PushAnswered(Result<Box<PushReply>, Failure>),
}

impl Waits {
    /// Whether something is on its way.
    pub(super) const fn is_remote(&self) -> bool {
        !matches!(self, Self::Act(_))
    }
}

impl Device {
    /// Makes a device of files.
    pub(super) fn new(user: UserId, store: LocalStore, now_ms: i64) -> Self {
        Self {
            user,
            store,
            skew_ms: 0,
            online: true,
            run: None,
            now_ms,
            copied: false,
            other_run: None,
            jumped: false,
            pause: 0,
            fuse: None,
            disk_full: false,
            broken: false,
            refused: BTreeMap::new(),
            transcript: Vec::new(),
        }
    }

    /// Begins a run.
    pub(super) fn begin(&mut self) {
        let options = Options {
            retries: 1,
            ..Options::default()
        };
        let mut engine = Engine::new(options);
        let waits = Waits::Act(engine.start());
        self.refused.clear();
        self.run = Some(Run { engine, waits });
    }

    /// Begins a run that only reads.
    pub(super) fn begin_reading(&mut self) {
        let options = Options {
            verify_only: true,
            ..Options::default()
        };
        let mut engine = Engine::new(options);
        let waits = Waits::Act(engine.start());
        self.run = Some(Run { engine, waits });
    }

    /// Does what the engine asks of the device itself.
    pub(super) fn perform(&mut self, action: &Action) -> Result<Performed, String> {
        let remote = matches!(action, Action::Pull(_) | Action::Push(_));
        if remote || matches!(action, Action::Wait(_) | Action::Done(_)) {
            return Ok(Performed::NotMine);
        }
        if matches!(action, Action::Authenticate) {
            return Ok(Performed::Answer(Input::Authenticated(true)));
        }
        let fuse = self.fuse.unwrap_or(TRANSACTIONS_MAX);
        self.store.end_before_commit(Some(fuse));
        let input = perform_local(&mut self.store, action.clone(), self.now_ms);
        let ended = self.store.has_ended();
        if ended && self.fuse.is_none() {
            return Err("a store that marks its own writes never comes to rest".to_owned());
        }
        let left = self.store.ends_before_commit();
        self.fuse = left.filter(|_| !ended && self.fuse.is_some());
        self.store.end_before_commit(None);
        match input {
            Ok(input) => Ok(Performed::Answer(input)),
            Err(_) if ended => Ok(Performed::Ended),
            Err(_) if self.disk_full => Ok(Performed::NoSpace),
            Err(error) => Err(format!("the local store failed: {error}")),
        }
    }

    /// Opens the files again, as the next process does.
    pub(super) fn reopen(&mut self) {
        self.fuse = None;
        let nothing = LocalStore::in_memory(self.now_ms, Random::Seeded(0));
        let nothing = nothing.expect("files in memory can be made");
        let store = std::mem::replace(&mut self.store, nothing);
        let opened = store.reopen(self.now_ms);
        self.store = opened.expect("files can be opened again");
    }

    /// Takes the space of the disk, or gives it back.
    pub(super) fn fill_disk(&mut self, full: bool) {
        for file in File::ALL {
            let filled = self.store.fill_disk(file, full);
            filled.expect("files in memory can be limited");
        }
        self.disk_full = full;
    }

    /// Runs a statement that the triggers shall refuse; says whether they did.
    pub(super) fn is_refused(&mut self, file: File, sql: &str) -> bool {
        self.store.execute_sql(file, sql).is_err()
    }

    /// Runs a statement as another program would. The triggers stamp marks with the machine's
    /// time; here the device's clock says what it is.
    pub(super) fn write_sql(&mut self, file: File, sql: &str) {
        let last = "select coalesce(max(n), 0) from sync_queue";
        let before = self.rows(file, last)[0][0].as_i64().unwrap_or(0);
        self.execute(file, sql);
        let now = canonical::time_from_ms(self.now_ms);
        let stamp = format!("update sync_queue set created_at = '{now}' where n > {before}");
        self.execute(file, &stamp);
    }

    fn execute(&mut self, file: File, sql: &str) {
        let done = self.store.execute_sql(file, sql);
        done.unwrap_or_else(|error| panic!("a statement failed: {error}: {sql}"));
    }

    /// Returns a query's rows.
    pub(super) fn rows(&self, file: File, sql: &str) -> Vec<Vec<Value>> {
        let rows = self.store.query_sql(file, sql);
        rows.unwrap_or_else(|error| panic!("a query failed: {error}: {sql}"))
    }

    /// Returns a query's only number.
    pub(super) fn number(&self, file: File, sql: &str) -> i64 {
        self.rows(file, sql)[0][0].as_i64().unwrap_or(0)
    }
}

/// Returns what a refusal means to the engine, as the client reads it from the wire.
pub(super) fn failure(problem: Refusal) -> Failure {
    let extra = |name: &str| problem.extra.get(name).and_then(Value::as_str);
    match problem.code {
        ErrorCode::EpochChanged => match extra("epoch").and_then(|epoch| epoch.parse().ok()) {
            Some(epoch) => Failure::EpochChanged(epoch),
            None => Failure::Refused(problem),
        },
        ErrorCode::FileFenced => match extra("device_id").and_then(|id| id.parse().ok()) {
            Some(device) => Failure::Fenced(device),
            None => Failure::Refused(problem),
        },
        ErrorCode::InvalidCursor => Failure::InvalidCursor(problem),
        ErrorCode::Unavailable => Failure::Offline("the server is busy".to_owned()),
        _ => Failure::Refused(problem),
    }
}

/// Returns a report in one line of the log.
pub(super) fn summary(report: &Report) -> String {
    let problem = report.problem.as_ref().map(|problem| problem.code);
    format!(
        "pushed {} pulled {} duplicates {} conflicts {} rejected {} reconciled {} converged {:?} \
         offline {} problem {problem:?}",
        report.pushed,
        report.pulled,
        report.duplicates,
        report.conflicts,
        report.rejected,
        report.reconciled,
        report.converged,
        report.offline,
    )
}
