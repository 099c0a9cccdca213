//! What to do when: a state machine without I/O. Events and times go in, imports and runs come
//! out, so that a test can let a day pass in a millisecond.
//!
//! Each file has a tier (seed `000`): how soon a change of it is sent, and how often it is
//! compared although nothing happened. Hints are followed at once. A run that got no answer is
//! made again after delays that grow, and at once when the connection for hints stands again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use coditect_core::backoff;
use coditect_protocol::Scope;
use coditect_protocol::catalogue::File;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

/// When the streams of a file are sent and read.
#[derive(Clone, Copy, Debug)]
struct Tier {
    /// Milliseconds without another change after which a change is sent.
    quiet_ms: i64,
    /// Milliseconds after which it is sent although changes go on.
    patience_ms: i64,
    /// Milliseconds between two comparisons.
    every_ms: i64,
    /// The same while no hints come.
    every_alone_ms: i64,
}

/// Returns the tier of a file.
const fn tier(file: File) -> Tier {
    match file {
        // Critical: at once, and every five minutes.
        File::Org => Tier {
            quiet_ms: 0,
            patience_ms: 0,
            every_ms: 5 * MINUTE,
            every_alone_ms: MINUTE,
        },
        // At the end of a session and every quarter of an hour; a little after each change, so
        // that work can go on elsewhere.
        File::Sessions => Tier {
            quiet_ms: 2 * SECOND,
            patience_ms: 15 * SECOND,
            every_ms: 15 * MINUTE,
            every_alone_ms: 5 * MINUTE,
        },
        File::Projects => Tier {
            quiet_ms: SECOND,
            patience_ms: 5 * SECOND,
            every_ms: 30 * MINUTE,
            every_alone_ms: 5 * MINUTE,
        },
        // At start and once a day; usage counters are in no hurry.
        File::Platform => Tier {
            quiet_ms: MINUTE,
            patience_ms: 10 * MINUTE,
            every_ms: 24 * 60 * MINUTE,
            every_alone_ms: 24 * 60 * MINUTE,
        },
    }
}

/// Milliseconds without a new line after which a transcript is read.
const TRANSCRIPT_QUIET_MS: i64 = 300;
/// Milliseconds after which it is read although lines go on coming.
const TRANSCRIPT_PATIENCE_MS: i64 = 2 * SECOND;
/// Transcripts that are read in one step.
const TRANSCRIPTS_AT_ONCE: usize = 8;
/// Milliseconds without a new line in any transcript after which a session counts as ended.
const SESSION_QUIET_MS: i64 = 2 * MINUTE;
/// Milliseconds by which reading back what only we wrote is put off.
const ECHO_DELAY_MS: i64 = SECOND;
/// Milliseconds until another process, which syncs now, is done with it.
const LEASE_DELAY_MS: i64 = 200;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is a server and a login now, or there is none any more.
    Able(bool),
    /// Hints come from now on.
    Connected,
    /// No hints come for now.
    Lost,
    /// Somebody else wrote to a file.
    Changed(File),
    /// A stream has got further than we have read; `echo` when only by what we wrote.
    Hinted {
        /// Stream.
        scope: Scope,
        /// File of the stream.
        file: File,
        /// Whether it is nothing but our own.
        echo: bool,
    },
    /// A transcript grew or appeared.
    Transcript(PathBuf),
    /// A transcript was there before anybody watched.
    Found(PathBuf),
    /// An agent began a session.
    SessionStarted,
    /// An agent ended a session.
    SessionEnded,
    /// A person asked for a whole run.
    Asked,
    /// The run that [`Scheduler::next`] started is over.
    Ran(Outcome),
}

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was for.
    Done,
    /// It was broken off for something more urgent.
    BrokenOff,
    /// Another process syncs the folder.
    Leased,
    /// No answer, or a refusal; random bits for the delay.
    Failed(u64),
}

/// What a run shall do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Everything; the rest says nothing then.
    pub whole: bool,
    /// Files to compare: look for rows without a mark, send, read all their streams.
    pub compare: Vec<File>,
    /// Files whose changes are sent.
    pub push: Vec<File>,
    /// Streams to read.
    pub pull: Vec<(Scope, File)>,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Import these transcripts.
    Import(Vec<PathBuf>),
    /// Sync.
    Run(Plan),
    /// Nothing before that time; never, unless something happens, when there is none.
    Wait(Option<i64>),
}

/// A change that waits for quiet.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    first_ms: i64,
    last_ms: i64,
}

impl Waiting {
    fn again(before: Option<Self>, now_ms: i64) -> Self {
        Self {
            first_ms: before.map_or(now_ms, |before| before.first_ms),
            last_ms: now_ms,
        }
    }

    fn due_ms(self, quiet_ms: i64, patience_ms: i64) -> i64 {
        (self.last_ms + quiet_ms).min(self.first_ms + patience_ms)
    }
}

/// State of one file.
#[derive(Clone, Copy, Debug, Default)]
struct FileState {
    changed: Option<Waiting>,
    /// When it was compared last; never before.
    compared_ms: Option<i64>,
}

/// The state machine. Feed it with [`Scheduler::note`], ask it with [`Scheduler::next`].
#[derive(Debug, Default)]
pub struct Scheduler {
    files: BTreeMap<&'static str, FileState>,
    hinted: BTreeMap<(Scope, File), i64>,
    transcripts: BTreeMap<PathBuf, Waiting>,
    /// When the session that goes on counts as ended.
    session_ends_ms: Option<i64>,
    whole_ms: Option<i64>,
    able: bool,
    connected: bool,
    running: Option<Plan>,
    attempt: u32,
    retry_ms: i64,
}

impl Scheduler {
    /// Makes one that knows of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what happened at `now_ms`.
    pub fn note(&mut self, event: Event, now_ms: i64) {
        match event {
            Event::Able(able) => {
                // The first run compares everything: nobody watched before.
                if able && !self.able {
                    self.whole_ms = Some(now_ms);
                    self.calm();
                }
                self.able = able;
            }
            Event::Connected => {
                self.connected = true;
                self.calm();
            }
            Event::Lost => self.connected = false,
            Event::Changed(file) => {
                let state = self.file(file);
                state.changed = Some(Waiting::again(state.changed, now_ms));
            }
            Event::Hinted { scope, file, echo } => {
                let due_ms = now_ms + if echo { ECHO_DELAY_MS } else { 0 };
                let entry = self.hinted.entry((scope, file)).or_insert(due_ms);
                *entry = due_ms.min(*entry);
            }
            Event::Transcript(path) => {
                let before = self.transcripts.get(&path).copied();
                let waiting = Waiting::again(before, now_ms);
                self.transcripts.insert(path, waiting);
                self.session_ends_ms = Some(now_ms + SESSION_QUIET_MS);
            }
            Event::Found(path) => {
                let long_ago = now_ms - TRANSCRIPT_PATIENCE_MS;
                let waiting = Waiting::again(None, long_ago);
                self.transcripts.entry(path).or_insert(waiting);
            }
            // Whoever begins to work shall know what the others know.
            Event::SessionStarted => self.compare_now(&[File::Org, File::Sessions, File::Projects]),
            Event::SessionEnded => {
                self.session_ends_ms = None;
                self.compare_now(&[File::Sessions]);
            }
            Event::Asked => {
                self.whole_ms = Some(now_ms);
                self.calm();
            }
            Event::Ran(outcome) => self.ran(outcome, now_ms),
        }
    }

    /// Returns what to do at `now_ms`. After [`Step::Run`] nothing else is due until
    /// [`Event::Ran`] was noted.
    pub fn next(&mut self, now_ms: i64) -> Step {
        if self.running.is_some() {
            return Step::Wait(None);
        }
        // A folder full of old transcripts must not hold a decision up.
        if !(self.may_run(now_ms) && self.is_urgent(now_ms)) {
            let due = self.due_transcripts(now_ms);
            if !due.is_empty() {
                return Step::Import(due);
            }
        }
        if self.session_ends_ms.is_some_and(|at| at <= now_ms) {
            self.note(Event::SessionEnded, now_ms);
        }
        if self.may_run(now_ms) {
            let plan = self.take(now_ms);
            if plan != Plan::default() {
                self.running = Some(plan.clone());
                return Step::Run(plan);
            }
        }
        Step::Wait(self.earliest(now_ms))
    }

    /// Returns whether something is due that must not wait for a long run.
    #[must_use]
    pub fn is_urgent(&self, now_ms: i64) -> bool {
        let org = self.files.get(File::Org.as_str());
        let changed = org.is_some_and(|state| state.changed.is_some());
        changed || self.hinted.values().any(|due_ms| *due_ms <= now_ms)
    }

    fn may_run(&self, now_ms: i64) -> bool {
        self.able && self.retry_ms <= now_ms
    }

    fn file(&mut self, file: File) -> &mut FileState {
        self.files.entry(file.as_str()).or_default()
    }

    fn state(&self, file: File) -> FileState {
        self.files.get(file.as_str()).copied().unwrap_or_default()
    }

    fn calm(&mut self) {
        (self.attempt, self.retry_ms) = (0, 0);
    }

    fn compare_now(&mut self, files: &[File]) {
        for file in files {
            self.file(*file).compared_ms = None;
        }
    }

    /// Returns when a file is compared next.
    fn compare_ms(&self, file: File) -> i64 {
        let tier = tier(file);
        let every_ms = if self.connected {
            tier.every_ms
        } else {
            tier.every_alone_ms
        };
        match self.state(file).compared_ms {
            Some(last_ms) => last_ms + every_ms,
            None => i64::MIN,
        }
    }

    fn change_ms(&self, file: File) -> Option<i64> {
        let tier = tier(file);
        let changed = self.state(file).changed?;
        Some(changed.due_ms(tier.quiet_ms, tier.patience_ms))
    }

    fn due_transcripts(&mut self, now_ms: i64) -> Vec<PathBuf> {
        let is_due = |waiting: &Waiting| {
            waiting.due_ms(TRANSCRIPT_QUIET_MS, TRANSCRIPT_PATIENCE_MS) <= now_ms
        };
        let due = self.transcripts.iter().filter(|(_, at)| is_due(at));
        let due = due.map(|(path, _)| path.clone());
        let due: Vec<PathBuf> = due.take(TRANSCRIPTS_AT_ONCE).collect();
        for path in &due {
            self.transcripts.remove(path);
        }
        due
    }

    /// Takes out what is due.
    fn take(&mut self, now_ms: i64) -> Plan {
        if self.whole_ms.is_some_and(|at| at <= now_ms) {
            self.whole_ms = None;
            self.hinted.clear();
            for file in File::ALL {
                *self.file(file) = FileState {
                    changed: None,
                    compared_ms: Some(now_ms),
                };
            }
            return Plan {
                whole: true,
                ..Plan::default()
            };
        }
        let mut plan = Plan::default();
        for file in File::ALL {
            if self.compare_ms(file) <= now_ms {
                plan.compare.push(file);
                let state = self.file(file);
                (state.compared_ms, state.changed) = (Some(now_ms), None);
                self.hinted.retain(|(_, of), _| *of != file);
            } else if self.change_ms(file).is_some_and(|at| at <= now_ms) {
                plan.push.push(file);
                self.file(file).changed = None;
            }
        }
        let due = self.hinted.iter().filter(|(_, at)| **at <= now_ms);
        plan.pull = due.map(|(stream, _)| *stream).collect();
        self.hinted.retain(|_, at| *at > now_ms);
        plan
    }

    /// Puts back what a run did not do.
    fn put_back(&mut self, plan: Plan, now_ms: i64) {
        if plan.whole {
            self.whole_ms = Some(now_ms);
        }
        self.compare_now(&plan.compare);
        for file in plan.push {
            let state = self.file(file);
            let waiting = state.changed.map_or(now_ms, |changed| changed.last_ms);
            state.changed = Some(Waiting {
                // Long enough ago to be due.
                first_ms: i64::MIN / 2,
                last_ms: waiting,
            });
        }
        for stream in plan.pull {
            self.hinted.insert(stream, now_ms);
        }
    }

    fn ran(&mut self, outcome: Outcome, now_ms: i64) {
        let Some(plan) = self.running.take() else {
            return;
        };
        match outcome {
            Outcome::Done => {
                self.calm();
                return;
            }
            Outcome::BrokenOff => {}
            Outcome::Leased => self.retry_ms = now_ms + LEASE_DELAY_MS,
            Outcome::Failed(random) => {
                let delay_ms = backoff::delay_ms(self.attempt, random);
                self.retry_ms = now_ms + i64::try_from(delay_ms).unwrap_or(i64::MAX / 2);
                self.attempt = self.attempt.saturating_add(1);
            }
        }
        // What was urgent enough to break off goes first: a whole run waits until it is done.
        let later_ms = now_ms + i64::from(outcome == Outcome::BrokenOff);
        self.put_back(plan, later_ms);
    }

    /// Returns the time at which something becomes due.
    fn earliest(&self, now_ms: i64) -> Option<i64> {
        let transcripts = self
            .transcripts
            .values()
            .map(|at| at.due_ms(TRANSCRIPT_QUIET_MS, TRANSCRIPT_PATIENCE_MS));
        let local = transcripts.chain(self.session_ends_ms).min();
        if !self.able {
            return local;
        }
        let files = File::ALL
            .into_iter()
            .flat_map(|file| [Some(self.compare_ms(file)), self.change_ms(file)])
            .flatten();
        let hinted = self.hinted.values().copied();
        let remote = files.chain(hinted).chain(self.whole_ms).min();
        let remote = remote.map(|at| at.max(self.retry_ms).max(now_ms));
        match (local, remote) {
            (Some(local), Some(remote)) => Some(local.min(remote)),
            (local, remote) => local.or(remote),
        }
    }
}

#[cfg(test)]
mod tests;
