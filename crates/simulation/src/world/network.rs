//! The network between devices and server: each request and each reply takes a step of its own,
//! can be lost, and a request can arrive twice.

use super::World;
use super::device::{Performed, Run, Waits, failure, summary};
use crate::model::Begun;
use crate::model::Key;
use coditect_core::sync::{Action, Comparison, Failure, Input, Outgoing, Plan, Report};
use coditect_protocol::catalogue::{File, by_cloud_name};
use coditect_protocol::wire::pull::PullRequest;
use coditect_protocol::wire::push::{PushReply, PushRequest, Status};
use coditect_protocol::{ErrorCode, Problem};

impl World {
    /// Takes one step of a device's run.
    pub(super) fn advance(&mut self, number: usize) -> Result<(), String> {
        let Some(Run { mut engine, waits }) = self.devices[number].run.take() else {
            return Ok(());
        };
        let (input, waits) = match waits {
            Waits::Act(Action::Done(report)) => return self.done(number, &report),
            Waits::Act(action) => self.act(number, action)?,
            Waits::PullSent(request) => (None, Some(self.carry_pull(number, request))),
            Waits::PullAnswered(answer) => (Some(Input::Pulled(answer)), None),
            Waits::PushSent(batch) => (None, Some(self.carry_push(batch)?)),
            Waits::PushOpen(batch, ticket, left @ 1..) if !self.healed => {
                (None, Some(Waits::PushOpen(batch, ticket, left - 1)))
            }
            Waits::PushOpen(batch, ticket, _) => (None, Some(self.commit(number, batch, &ticket)?)),
            Waits::PushAnswered(answer) => (Some(Input::Pushed(answer)), None),
        };
        let waits = match (input, waits) {
            (_, Some(waits)) => waits,
            (Some(input), None) => Waits::Act(engine.handle(input)),
            // The process came to its end.
            (None, None) => return Ok(()),
        };
        self.devices[number].run = Some(Run { engine, waits });
        Ok(())
    }

    fn act(
        &mut self,
        number: usize,
        action: Action,
    ) -> Result<(Option<Input>, Option<Waits>), String> {
        let online = self.devices[number].online;
        let long = matches!(
            action,
            Action::Fence(..) | Action::BeginReconcile(_) | Action::FinishReconcile
        );
        if long && self.weather.kills && self.random.chance(300) {
            // What touches several files is the best moment to die.
            self.devices[number].fuse = Some(self.random.below(6) as u32);
        }
        let offline = || self.silence();
        Ok(match action {
            Action::Fence(file, _) if !self.devices[number].copied => {
                return Err(format!("{number} is fenced for its {file}, but is no copy"));
            }
            Action::PlanRepair(heads) if self.is_calm() && !heads.iter().all(Comparison::equal) => {
                return Err(format!("{number} has to mend what nobody damaged"));
            }
            Action::PlanRepair(_) if !self.settings.driver.ranges => {
                (Some(Input::Planned(Plan::default())), None)
            }
            Action::Pull(_) if !online => (Some(Input::Pulled(Err(offline()))), None),
            Action::Push(_) if !online => (Some(Input::Pushed(Err(offline()))), None),
            Action::Pull(request) => (None, Some(Waits::PullSent(request))),
            Action::Push(batch) => (None, Some(Waits::PushSent(batch))),
            Action::Wait(ms) => {
                self.now_ms += i64::try_from(ms).unwrap_or(0).min(60_000);
                (Some(Input::Woken(self.random.next())), None)
            }
            Action::BeginReconcile(epoch) => {
                self.log
                    .event(format!("{number}: reconciles with epoch {epoch}"));
                self.log.count("reconciliations", 1);
                (self.perform(number, &action)?, None)
            }
            Action::Fence(file, device) => {
                self.log
                    .event(format!("{number}: {file} is fenced, becomes {device}"));
                self.log.count("fences", 1);
                (self.perform(number, &action)?, None)
            }
            action => (self.perform(number, &action)?, None),
        })
    }

    fn perform(&mut self, number: usize, action: &Action) -> Result<Option<Input>, String> {
        let before = self.captured(number, action);
        let performed = self.devices[number].perform(action)?;
        match performed {
            Performed::Answer(input) => {
                if before.is_some() && before < self.captured(number, action) {
                    return Err(format!("{number} queues what came from the server"));
                }
                self.see(number, action);
                if let (Action::Settle(..), Input::Settled(settled)) = (action, &input) {
                    self.log.event(format!("{number}: settles {settled:?}"));
                }
                Ok(Some(input))
            }
            Performed::NotMine => Ok(None),
            Performed::Ended => {
                self.log
                    .event(format!("{number}: is killed in {}", name(action)));
                self.log.count("kills between two commits", 1);
                self.end_process(number)?;
                Ok(None)
            }
            Performed::NoSpace => {
                self.log
                    .event(format!("{number}: finds no space in {}", name(action)));
                self.log.count("runs that found no space", 1);
                self.devices[number].broken = true;
                Ok(None)
            }
        }
    }

    /// A process ends, and the next one opens the files.
    pub(super) fn end_process(&mut self, number: usize) -> Result<(), String> {
        if self.devices[number].disk_full {
            self.devices[number].broken = true;
            self.devices[number].fuse = None;
            return Ok(());
        }
        self.devices[number].reopen();
        self.check_folder(number)
    }

    /// Returns how many changes wait that a writer's trigger marked, where nothing that comes in
    /// may add to them.
    fn captured(&self, number: usize, action: &Action) -> Option<i64> {
        if !matches!(action, Action::Apply(_)) || !self.is_calm() {
            return None;
        }
        let sql = "select count(*) from sync_queue where action not in ('found', 'reconcile')";
        let device = &self.devices[number];
        Some(File::ALL.iter().map(|file| device.number(*file, sql)).sum())
    }

    /// Notes which versions a device has got.
    fn see(&mut self, number: usize, action: &Action) {
        let key = |scope, table: &str, id| {
            let table = by_cloud_name(table)?.cloud;
            Some(Key { scope, table, id })
        };
        match action {
            Action::Apply(reply) => {
                for page in &reply.pages {
                    for stored in &page.changes {
                        if let Some(key) = key(page.scope, &stored.table, stored.id) {
                            self.note_seen(number, key, stored.version);
                        }
                    }
                }
            }
            Action::Settle(batch, reply) => {
                for stored in reply.outcomes.iter().filter_map(|it| it.stored.as_ref()) {
                    if let Some(key) = key(batch.request.scope, &stored.table, stored.id) {
                        self.note_seen(number, key, stored.version);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether nothing has happened after which replicas may differ at a head.
    pub(super) fn is_calm(&self) -> bool {
        let copied = self.devices.iter().any(|device| device.copied);
        self.set_backs == 0 && !copied && !self.is_damaged()
    }

    /// What an engine hears when no answer came.
    fn silence(&self) -> Failure {
        if self.settings.driver.offline {
            return Failure::Offline("no answer".to_owned());
        }
        let problem = Problem::new(ErrorCode::Unavailable, "no answer");
        Failure::Refused(Box::new(problem))
    }

    /// Most transactions are quick; a slow one stays open while others come and go.
    fn transaction_steps(&mut self) -> u32 {
        let slow = self.random.chance(self.weather.slow_per_mille);
        if slow {
            self.random.between(10, 60) as u32
        } else {
            0
        }
    }

    fn lost(&mut self, what: &'static str) -> bool {
        let lost = self.random.chance(self.weather.loss_per_mille);
        if lost {
            self.log.count(what, 1);
        }
        lost
    }

    fn carry_pull(&mut self, number: usize, request: PullRequest) -> Waits {
        if self.lost("requests lost") {
            return Waits::PullAnswered(Err(self.silence()));
        }
        let answer = self.server.pull(self.devices[number].user, &request);
        if self.lost("replies lost") {
            return Waits::PullAnswered(Err(self.silence()));
        }
        Waits::PullAnswered(answer.map(Box::new).map_err(failure))
    }

    fn carry_push(&mut self, batch: Box<Outgoing>) -> Result<Waits, String> {
        if self.lost("requests lost") {
            return Ok(Waits::PushAnswered(Err(self.silence())));
        }
        let request = arrived(&batch)?;
        match self.server.begin_push(&request) {
            Begun::Open(ticket) => {
                let steps = self.transaction_steps();
                Ok(Waits::PushOpen(batch, ticket, steps))
            }
            Begun::Waits => {
                self.log.count("waits for a stream's lock", 1);
                Ok(Waits::PushSent(batch))
            }
        }
    }

    /// The server commits, or dies before; then the answer travels.
    fn commit(
        &mut self,
        number: usize,
        batch: Box<Outgoing>,
        ticket: &crate::model::Ticket,
    ) -> Result<Waits, String> {
        let silence = Waits::PushAnswered(Err(self.silence()));
        if self.lost("server crashes") {
            self.server.abort_push(ticket);
            return Ok(silence);
        }
        let (user, now_ms, request) = (self.devices[number].user, self.now_ms, arrived(&batch)?);
        let tombstones = self.tombstones(&request);
        let answer = self.server.commit_push(ticket, user, &request, now_ms);
        self.note(number, &request, answer.as_ref().ok());
        self.check_answer(number, &request, answer.as_ref().ok(), &tombstones)?;
        if answer.is_ok() && self.lost("requests doubled") {
            let again = self.server.push(user, &request, now_ms);
            if let Ok(again) = again
                && again
                    .outcomes
                    .iter()
                    .any(|outcome| !matches!(outcome.status, Status::Duplicate | Status::Rejected))
            {
                return Err("a doubled request changed something".to_owned());
            }
        }
        if self.weather.late && answer.is_ok() && self.random.chance(150) {
            self.late.push((user, request));
        }
        if self.lost("replies lost") {
            self.log
                .event(format!("{number}: the reply to its push is lost"));
            return Ok(silence);
        }
        Ok(Waits::PushAnswered(answer.map(Box::new).map_err(failure)))
    }

    /// A request arrives a second time, long after. Nobody hears the answer, and it changes
    /// nothing.
    pub(super) fn arrive_late(&mut self) -> Result<(), String> {
        if self.late.is_empty() || !self.random.chance(60) {
            return Ok(());
        }
        let (user, request) = self.late.remove(self.random.below(self.late.len()));
        let before = self.server.database.rows.clone();
        let answer = self.server.push(user, &request, self.now_ms);
        self.log
            .event(format!("push {} arrives late", request.batch_id));
        self.log.count("requests that arrived again, long after", 1);
        if self.settings.server.token && self.server.database.rows != before {
            return Err(format!("a late request changed something: {answer:?}"));
        }
        Ok(())
    }

    /// Finishes or gives up what a crashed device left at the server.
    pub(super) fn orphan(&mut self, number: usize, waits: Waits) -> Result<(), String> {
        let Waits::PushOpen(batch, ticket, _) = waits else {
            return Ok(());
        };
        if self.random.chance(500) {
            self.server.abort_push(&ticket);
            return Ok(());
        }
        let (user, request) = (self.devices[number].user, arrived(&batch)?);
        let tombstones = self.tombstones(&request);
        let answer = self
            .server
            .commit_push(&ticket, user, &request, self.now_ms);
        self.note(number, &request, answer.as_ref().ok());
        self.check_answer(number, &request, answer.as_ref().ok(), &tombstones)
    }

    fn note(&mut self, number: usize, request: &PushRequest, reply: Option<&PushReply>) {
        let batch = request.batch_id;
        let Some(reply) = reply else {
            self.log.event(format!("{number}: push {batch} is refused"));
            return;
        };
        for (change, outcome) in request.changes.iter().zip(&reply.outcomes) {
            let line = format!(
                "{number}: push {} {} {} {:?} base {:?} {} {:?}: {:?} {:?} at {:?}",
                request.scope.kind(),
                change.table,
                change.id,
                change.op,
                change.base.map(|base| base.to_i64()),
                if change.register {
                    "register"
                } else {
                    "beside"
                },
                change.row.as_ref().and_then(super::Token::of),
                outcome.status,
                outcome.code,
                outcome
                    .stored
                    .as_ref()
                    .map(|stored| (stored.version.to_i64(), stored.cursor)),
            );
            self.log.event(line);
            self.log.count(status_name(outcome.status), 1);
            if outcome.status == Status::Conflict
                && change.row.is_some()
                && outcome
                    .loser
                    .as_ref()
                    .is_some_and(|loser| loser.row == change.row)
            {
                self.lost.push((number, change.row.clone()));
            }
        }
    }

    fn done(&mut self, number: usize, report: &Report) -> Result<(), String> {
        self.log
            .event(format!("{number}: done: {}", summary(report)));
        self.log.count("runs", 1);
        if report.offline {
            self.log.count("runs that ended offline", 1);
        }
        self.reports[number] = Some(report.clone());
        if self.is_calm() && report.converged == Some(false) {
            return Err(format!(
                "{number} sees a difference where nothing can be lost"
            ));
        }
        Ok(())
    }
}

/// What arrives are the stored bytes, not what the engine holds.
fn arrived(batch: &Outgoing) -> Result<PushRequest, String> {
    serde_json::from_slice(&batch.bytes).map_err(|error| format!("a batch does not read: {error}"))
}

/// Returns an action's name.
fn name(action: &Action) -> String {
    let text = format!("{action:?}");
    let end = text.find(['(', ' ']).unwrap_or(text.len());
    text[..end].to_owned()
}

const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Applied => "changes applied",
        Status::Duplicate => "changes duplicate",
        Status::Superseded => "changes superseded",
        Status::Merged => "changes merged",
        Status::Conflict => "changes in conflict",
        Status::Rejected => "changes rejected",
    }
}
