//! The state machine itself.

use coditect_protocol::catalogue::File;
use coditect_protocol::wire::moves::{MoveReply, MoveRequest};
use coditect_protocol::wire::pull::{Position, PullReply, PullRequest};
use coditect_protocol::{API_VERSION, DeviceId, Epoch, ErrorCode, Problem, Scope};
use std::collections::VecDeque;

use super::repair::{self, Plan, Questions, TableRepair, Wanted};
use super::report::{Comparison, Report, Sent};
use super::{Action, Applied, Failure, Input, Outgoing};
use crate::backoff;

/// Reconciliations that one run may start; more means that the server changes under it.
const RECONCILES_MAX: u32 = 3;

/// How a run shall behave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Pull nothing; the run then says nothing about convergence.
    pub push_only: bool,
    /// Pull and compare, but push and repair nothing.
    pub verify_only: bool,
    /// How often a request that got no answer is repeated before the run ends as offline.
    pub retries: u32,
    /// Random bits for the jitter of the first delay; later ones come with [`Input::Woken`].
    pub random: u64,
}

/// What a run is about, when it is not about everything: the fast way of a process that was
/// told what changed. What it leaves out is found by the next whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Focus {
    /// Files to look through for rows that lost their mark.
    pub adopt: Vec<File>,
    /// Files whose marks are adopted and sent.
    pub push: Vec<File>,
    /// Streams to read to their heads, after that.
    pub pull: Vec<(Scope, File)>,
}

/// What the engine waits for. Names say which action is out.
#[derive(Debug)]
enum State {
    Start,
    Adopting(usize),
    AskingPositions,
    Pulling(PullRequest),
    Applying { asked: Vec<Position> },
    ListingQueued,
    TakingBatch,
    Pushing(Box<Outgoing>),
    Settling,
    TakingMove,
    Moving(Box<MoveRequest>),
    SettlingMove,
    PlanningRepair,
    NotingRepair,
    BeginningReconcile,
    FinishingReconcile,
    Authenticating(Box<State>),
    Waiting(Box<State>),
    Finished,
}

/// Where in the run we are: before or after the pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    After,
}

/// The sync state machine. Feed it with [`Engine::start`], then with [`Engine::handle`] until
/// it answers [`Action::Done`].
#[derive(Debug)]
pub struct Engine {
    options: Options,
    /// What the run is about; none for everything.
    focus: Option<Focus>,
    state: State,
    phase: Phase,
    /// Positions that have not reached the head yet; empty asks for all.
    behind: Vec<(Scope, File)>,
    files: VecDeque<File>,
    scopes: VecDeque<Scope>,
    comparisons: Vec<Comparison>,
    reconciling: bool,
    /// Questions of the descent in progress.
    questions: Option<Questions>,
    /// Whether this run has repaired already what it may.
    repaired: bool,
    authenticated_again: bool,
    attempt: u32,
    random: u64,
    report: Report,
}

impl Engine {
    /// Makes an engine for one run.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            focus: None,
            state: State::Start,
            phase: Phase::Before,
            behind: Vec::new(),
            files: VecDeque::new(),
            scopes: VecDeque::new(),
            comparisons: Vec::new(),
            reconciling: false,
            questions: None,
            repaired: false,
            authenticated_again: false,
            attempt: 0,
            random: options.random,
            report: Report::default(),
        }
    }

    /// Makes an engine for one run about a part of what there is. A reconciliation widens it to
    /// everything; otherwise it says nothing about convergence.
    #[must_use]
    pub fn focused(options: Options, focus: Focus) -> Self {
        Self {
            focus: Some(focus),
            ..Self::new(options)
        }
    }

    /// Returns the first action.
    ///
    /// # Panics
    /// When called twice.
    pub fn start(&mut self) -> Action {
        assert!(matches!(self.state, State::Start), "an engine runs once");
        self.adopt_from(0)
    }

    /// Takes what came of the last action and returns the next.
    ///
    /// # Panics
    /// When the input is not an answer to the last action: that is the driver's bug.
    pub fn handle(&mut self, input: Input) -> Action {
        let state = std::mem::replace(&mut self.state, State::Finished);
        match (state, input) {
            (State::Adopting(at), Input::Adopted) => self.adopt_from(at + 1),
            (State::AskingPositions, Input::Positions(device, all)) => self.pull(device, all),
            (State::Pulling(request), Input::Pulled(result)) => self.pulled(request, result),
            (State::Applying { asked }, Input::Applied(applied)) => self.applied(&asked, applied),
            (State::ListingQueued, Input::Queued(scopes)) => {
                self.scopes = scopes.into();
                self.next_batch()
            }
            (State::TakingBatch, Input::Batch(None)) => {
                self.scopes.pop_front();
                self.next_batch()
            }
            (State::TakingBatch, Input::Batch(Some(batch))) => self.push(batch),
            (State::Pushing(batch), Input::Pushed(result)) => self.pushed(batch, result),
            (State::Settling, Input::Settled(settled)) => {
                self.report.pushed += settled.pushed;
                self.report.duplicates += settled.duplicates;
                self.report.conflicts += settled.conflicts;
                self.report.rejected += settled.rejected;
                self.next_batch()
            }
            (State::TakingMove, Input::NextMove(Some(request))) => {
                self.state = State::Moving(request.clone());
                Action::Move(request)
            }
            (State::TakingMove, Input::NextMove(None)) => {
                self.files.pop_front();
                self.list_queued()
            }
            (State::Moving(request), Input::Moved(result)) => self.moved(request, result),
            (State::SettlingMove, Input::MoveSettled(settled)) => {
                self.report.moved += settled.moved;
                self.report.rejected += settled.refused;
                self.next_batch()
            }
            (State::PlanningRepair, Input::Planned(plan)) => self.planned(plan),
            (State::NotingRepair, Input::Stored) => self.finish(),
            (State::BeginningReconcile, Input::Stored) => self.ask_positions(),
            (State::FinishingReconcile, Input::Stored) => self.push_all(),
            (State::Authenticating(then), Input::Authenticated(true)) => self.repeat(*then),
            (State::Authenticating(_), Input::Authenticated(false)) => self.unauthenticated(),
            (State::Waiting(then), Input::Woken(random)) => {
                self.random = random;
                self.repeat(*then)
            }
            (state, input) => unreachable!("{input:?} does not answer {state:?}"),
        }
    }

    fn adopt_from(&mut self, at: usize) -> Action {
        let files = match &self.focus {
            Some(focus) => focus.adopt.as_slice(),
            None => File::ALL.as_slice(),
        };
        let Some(file) = files.get(at).copied() else {
            return if self.options.push_only || self.focus.is_some() {
                self.push_all()
            } else {
                self.ask_positions()
            };
        };
        self.state = State::Adopting(at);
        Action::Adopt(file)
    }

    fn ask_positions(&mut self) -> Action {
        self.state = State::AskingPositions;
        Action::Positions
    }

    fn pull(&mut self, device: DeviceId, all: Vec<Position>) -> Action {
        let wanted = |position: &Position| {
            self.behind.is_empty() || self.behind.contains(&(position.scope, position.file))
        };
        let positions = match &mut self.questions {
            Some(questions) => ask(all, questions.take()),
            None => all.into_iter().filter(wanted).collect(),
        };
        let api_version = API_VERSION.to_owned();
        let request = PullRequest {
            api_version,
            device,
            positions,
            table: None,
        };
        if self.questions.is_some() {
            self.report.rounds += 1;
            self.report.repair_bytes += repair::asked_bytes(&request);
        }
        self.state = State::Pulling(request.clone());
        Action::Pull(request)
    }

    fn pulled(&mut self, request: PullRequest, result: Result<Box<PullReply>, Failure>) -> Action {
        let reply = match result {
            Ok(reply) => reply,
            Err(Failure::Fenced(device)) => {
                let said = |position: &&Position| position.token.is_some();
                let file = request.positions.iter().find(said).map(|it| it.file);
                return self.reconcile(Action::Fence(file.unwrap_or(File::Org), device));
            }
            Err(failure) => return self.failed(failure, State::Pulling(request)),
        };
        self.attempt = 0;
        self.report.repair_bytes += repair::answered_bytes(&reply);
        // A server that does not check epochs itself cannot be trusted with old cursors.
        let old = |position: &Position| position.cursor.is_some_and(|c| c.epoch != reply.epoch);
        if request.positions.iter().any(old) {
            return self.reconcile(Action::BeginReconcile(reply.epoch));
        }
        // Positions of scopes that may not be read any more have no page: they are done.
        self.comparisons
            .retain(|known| known.scope == Scope::Platform || reply.scopes.contains(&known.scope));
        let answered = |position: &Position| {
            let mut pages = reply.pages.iter();
            pages.any(|page| (page.scope, page.file) == (position.scope, position.file))
        };
        let mut asked = request.positions;
        asked.retain(answered);
        self.state = State::Applying { asked };
        Action::Apply(reply)
    }

    fn applied(&mut self, asked: &[Position], applied: Applied) -> Action {
        self.report.pulled += applied.pulled;
        let reached = |position: &Position| {
            let at_head =
                |head: &Comparison| (head.scope, head.file) == (position.scope, position.file);
            applied.heads.iter().any(at_head)
        };
        let behind = asked.iter().filter(|position| !reached(position));
        self.behind = behind
            .map(|position| (position.scope, position.file))
            .collect();
        if let Some(questions) = &mut self.questions {
            // What a page before the head left without an answer is asked again.
            let behind = asked.iter().filter(|position| !reached(position));
            behind.for_each(|position| questions.add(wanted_at(position)));
            // A pull that only brought what others wrote would have been made anyway.
            if !asked.iter().any(reached) {
                self.report.rounds -= 1;
                self.report.rounds_behind += 1;
            }
            applied.wanted.into_iter().for_each(|it| questions.add(it));
            repair::join(&mut self.report.repairs, &applied.repairs);
        }
        for head in applied.heads {
            let same = |old: &Comparison| (old.scope, old.file) == (head.scope, head.file);
            self.comparisons.retain(|old| !same(old));
            self.comparisons.push(head);
        }
        if self.questions.is_some() {
            return self.descend();
        }
        match (self.behind.is_empty(), self.phase) {
            (false, _) => self.ask_positions(),
            (true, Phase::Before) if self.reconciling => {
                self.reconciling = false;
                self.state = State::FinishingReconcile;
                Action::FinishReconcile
            }
            (true, Phase::Before) if self.options.verify_only => {
                self.phase = Phase::After;
                self.finish()
            }
            (true, Phase::Before) => self.push_all(),
            (true, Phase::After) => self.compare(),
        }
    }

    /// All heads are reached and compared.
    fn compare(&mut self) -> Action {
        if self.repaired {
            return self.note_repair();
        }
        if self.focus.is_some() || self.options.verify_only {
            return self.finish();
        }
        self.state = State::PlanningRepair;
        Action::PlanRepair(self.comparisons.clone())
    }

    fn planned(&mut self, plan: Plan) -> Action {
        let epoch = self.comparisons.first().map(|head| head.cursor.epoch);
        if let Some(epoch) = epoch.filter(|_| plan.reread) {
            self.repaired = true;
            return self.reconcile(Action::BeginReconcile(epoch));
        }
        if plan.wanted.is_empty() {
            return self.finish();
        }
        let mut questions = Questions::default();
        plan.wanted.into_iter().for_each(|it| questions.add(it));
        self.questions = Some(questions);
        self.descend()
    }

    /// Asks the next questions; at the end pushes what the server turned out to lack.
    fn descend(&mut self) -> Action {
        let more = self.questions.as_ref().is_some_and(|it| !it.is_empty());
        let rounds = self.report.rounds + self.report.rounds_behind;
        let spent = rounds >= repair::ROUNDS_MAX || self.report.repair_bytes >= repair::BYTES_MAX;
        if more && !spent {
            return self.ask_positions();
        }
        self.report.unfinished |= more;
        self.questions = None;
        self.repaired = true;
        let queued = |repair: &TableRepair| repair.queued > 0;
        if self.report.repairs.iter().any(queued) {
            return self.push_all();
        }
        self.note_repair()
    }

    fn note_repair(&mut self) -> Action {
        let equal = self.comparisons.iter().all(Comparison::equal);
        self.state = State::NotingRepair;
        Action::NoteRepair(equal || self.report.unfinished)
    }

    fn push_all(&mut self) -> Action {
        self.files = match &self.focus {
            Some(focus) => focus.push.clone().into(),
            None => File::ALL.into(),
        };
        self.scopes.clear();
        self.list_queued()
    }

    fn list_queued(&mut self) -> Action {
        let Some(file) = self.files.front() else {
            self.phase = Phase::After;
            let reads = match &self.focus {
                Some(focus) => {
                    self.behind.clone_from(&focus.pull);
                    !focus.pull.is_empty()
                }
                None => !self.options.push_only,
            };
            return if !reads {
                self.finish()
            } else {
                self.ask_positions()
            };
        };
        self.state = State::ListingQueued;
        Action::ListQueued(*file)
    }

    fn next_batch(&mut self) -> Action {
        match (self.files.front().copied(), self.scopes.front().copied()) {
            (Some(file), Some(scope)) => {
                self.state = State::TakingBatch;
                Action::NextBatch(file, scope)
            }
            // A row leaves its scope when nothing of it waits to be pushed there.
            (Some(file), None) => {
                self.state = State::TakingMove;
                Action::NextMove(file)
            }
            (None, _) => self.list_queued(),
        }
    }

    fn moved(
        &mut self,
        request: Box<MoveRequest>,
        result: Result<Box<MoveReply>, Failure>,
    ) -> Action {
        match result {
            Ok(reply) => {
                self.attempt = 0;
                self.state = State::SettlingMove;
                Action::SettleMove(request, reply)
            }
            Err(Failure::Refused(problem)) => {
                self.report.problem = Some((*problem).clone());
                self.state = State::SettlingMove;
                Action::RefuseMove(request, problem)
            }
            Err(failure) => self.failed(failure, State::Moving(request)),
        }
    }

    fn push(&mut self, batch: Box<Outgoing>) -> Action {
        self.state = State::Pushing(batch.clone());
        Action::Push(batch)
    }

    fn pushed(
        &mut self,
        batch: Box<Outgoing>,
        result: Result<Box<coditect_protocol::wire::push::PushReply>, Failure>,
    ) -> Action {
        match result {
            Ok(reply) => {
                self.attempt = 0;
                self.report.sent.extend(Sent::of(&batch.request, &reply));
                self.state = State::Settling;
                Action::Settle(batch, reply)
            }
            Err(Failure::Fenced(device)) => {
                let file = batch.request.file;
                self.reconcile(Action::Fence(file, device))
            }
            // A full plan says nothing about the rows: they wait for room as they are, and what
            // needs none flows on.
            Err(Failure::Refused(problem)) if problem.code == ErrorCode::QuotaExceeded => {
                self.scopes.pop_front();
                self.report.problem = Some(*problem);
                self.next_batch()
            }
            // A refusal of the batch is counted, so that its rows are parked in the end and
            // the streams behind it flow on.
            Err(Failure::Refused(problem)) => {
                self.scopes.pop_front();
                self.report.problem = Some((*problem).clone());
                self.state = State::Settling;
                Action::Refuse(batch, problem)
            }
            Err(failure) => self.failed(failure, State::Pushing(batch)),
        }
    }

    fn reconcile(&mut self, begin: Action) -> Action {
        self.report.reconciled += 1;
        if self.report.reconciled > RECONCILES_MAX {
            let detail = "the server's history changed again and again during one run";
            return self.stop(Problem::new(ErrorCode::EpochChanged, detail));
        }
        self.phase = Phase::Before;
        self.focus = None;
        self.reconciling = true;
        self.questions = None;
        self.behind.clear();
        self.comparisons.clear();
        self.state = State::BeginningReconcile;
        begin
    }

    fn failed(&mut self, failure: Failure, again: State) -> Action {
        match failure {
            Failure::EpochChanged(epoch) => self.reconcile(Action::BeginReconcile(epoch)),
            Failure::Offline(reason) => self.retry(reason, again),
            Failure::Unauthenticated(problem) if self.authenticated_again => self.stop(*problem),
            Failure::Unauthenticated(_) => {
                self.authenticated_again = true;
                self.state = State::Authenticating(Box::new(again));
                Action::Authenticate
            }
            Failure::RateLimited(seconds, _) if self.attempt < self.options.retries => {
                self.attempt += 1;
                self.state = State::Waiting(Box::new(again));
                Action::Wait(seconds.saturating_mul(1_000))
            }
            // The stream is shorter than this file remembers, within the same epoch. Reading it
            // from the start mends the file, whatever the reason.
            Failure::InvalidCursor(problem) => match Self::epoch_of(&again) {
                Some(epoch) => self.reconcile(Action::BeginReconcile(epoch)),
                None => self.stop(*problem),
            },
            Failure::Fenced(_) => {
                let detail = "the server fenced a request that carries no token";
                self.stop(Problem::new(ErrorCode::FileFenced, detail))
            }
            Failure::RateLimited(_, problem) | Failure::Refused(problem) => self.stop(*problem),
        }
    }

    fn epoch_of(state: &State) -> Option<Epoch> {
        let State::Pulling(request) = state else {
            return None;
        };
        request
            .positions
            .iter()
            .find_map(|position| position.cursor)
            .map(|cursor| cursor.epoch)
    }

    /// Being offline costs a row no attempt; only the run gives up in the end.
    fn retry(&mut self, reason: String, again: State) -> Action {
        if self.attempt >= self.options.retries {
            self.report.offline = true;
            self.report.offline_reason = Some(reason);
            return self.finish();
        }
        let delay = backoff::delay_ms(self.attempt, self.random);
        self.attempt += 1;
        self.state = State::Waiting(Box::new(again));
        Action::Wait(delay)
    }

    fn repeat(&mut self, state: State) -> Action {
        let action = match &state {
            State::Pulling(request) => Action::Pull(request.clone()),
            State::Pushing(batch) => Action::Push(batch.clone()),
            State::Moving(request) => Action::Move(request.clone()),
            other => unreachable!("{other:?} sends nothing"),
        };
        self.state = state;
        action
    }

    fn unauthenticated(&mut self) -> Action {
        let detail = "the session has ended and could not be renewed";
        self.stop(Problem::new(ErrorCode::Unauthenticated, detail))
    }

    fn stop(&mut self, problem: Problem) -> Action {
        self.report.problem = Some(problem);
        self.finish()
    }

    fn finish(&mut self) -> Action {
        let reached = self.phase == Phase::After && self.behind.is_empty();
        let everything = self.focus.is_none() && !self.comparisons.is_empty();
        let complete = reached && !self.report.offline && everything;
        self.report.converged = complete.then(|| self.comparisons.iter().all(Comparison::equal));
        self.report.comparisons = std::mem::take(&mut self.comparisons);
        self.state = State::Finished;
        Action::Done(Box::new(std::mem::take(&mut self.report)))
    }
}

/// Returns the positions of the streams that something is asked of, with the questions.
fn ask(all: Vec<Position>, wanted: Vec<Wanted>) -> Vec<Position> {
    let question = |mut position: Position| {
        let same = |it: &&Wanted| (it.scope, it.file) == (position.scope, position.file);
        let descent = wanted.iter().find(same)?.descent.clone();
        position.descent = Some(descent);
        Some(position)
    };
    all.into_iter().filter_map(question).collect()
}

fn wanted_at(position: &Position) -> Wanted {
    Wanted {
        scope: position.scope,
        file: position.file,
        descent: position.descent.clone().unwrap_or_default(),
    }
}
