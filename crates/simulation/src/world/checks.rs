//! What must hold of every single answer of the server, and of what devices park: rules that the
//! final state does not show, because replicas that break them are equal all the same.

use super::World;
use crate::model::Key;
use coditect_protocol::catalogue::{Class, Direction, File, Merge, by_cloud_name};
use coditect_protocol::limits::{ATTEMPTS_MAX, CLOCK_SKEW_MS_MAX};
use coditect_protocol::wire::push::{Change, Outcome, PushReply, PushRequest, Status};
use coditect_protocol::wire::{Op, Stored};
use serde_json::Value;

impl World {
    /// Checks the answer to a push.
    pub(super) fn check_answer(
        &mut self,
        number: usize,
        request: &PushRequest,
        reply: Option<&PushReply>,
    ) -> Result<(), String> {
        let Some(reply) = reply else { return Ok(()) };
        for (change, outcome) in request.changes.iter().zip(&reply.outcomes) {
            let Some(stored) = &outcome.stored else {
                continue;
            };
            self.check_clock(number, change, outcome, stored)?;
            self.check_origin(request, change, stored)?;
            self.check_version(request, change, stored)?;
            self.check_loser(number, request, change, outcome)?;
            self.note_maxima(request, change, outcome);
        }
        Ok(())
    }

    /// No version lies in the future, and no edit is dated back because of a slow clock.
    fn check_clock(
        &self,
        number: usize,
        change: &Change,
        outcome: &Outcome,
        stored: &Stored,
    ) -> Result<(), String> {
        let stored_ms = stored.version.unix_ms() as i64;
        if stored_ms > self.now_ms {
            let ahead_ms = stored_ms - self.now_ms;
            return Err(format!("a version lies {ahead_ms} ms in the future"));
        }
        let device = &self.devices[number];
        let made_ms = change.proposed.unix_ms() as i64 - device.skew_ms;
        let new = change.base.is_none() && outcome.status == Status::Applied;
        if new && !device.jumped && stored_ms + CLOCK_SKEW_MS_MAX < made_ms {
            let late_ms = made_ms - stored_ms;
            return Err(format!(
                "an edit of a slow clock is dated back {late_ms} ms"
            ));
        }
        Ok(())
    }

    /// The origin is fixed.
    fn check_origin(
        &mut self,
        request: &PushRequest,
        change: &Change,
        stored: &Stored,
    ) -> Result<(), String> {
        let Some(key) = key_of(request, change) else {
            return Ok(());
        };
        let first = *self.origins.entry(key).or_insert(stored.origin);
        if first == stored.origin {
            return Ok(());
        }
        let now = stored.origin;
        Err(format!("{key:?} came from {first} and now from {now}"))
    }

    /// Versions of a row only grow.
    fn check_version(
        &mut self,
        request: &PushRequest,
        change: &Change,
        stored: &Stored,
    ) -> Result<(), String> {
        let Some(key) = key_of(request, change) else {
            return Ok(());
        };
        let last = self.versions.insert(key, stored.version);
        match last.filter(|last| *last > stored.version) {
            None => Ok(()),
            Some(last) => Err(format!("the version of {key:?} fell from {last}")),
        }
    }

    /// Nobody is in conflict with himself.
    fn check_loser(
        &self,
        number: usize,
        request: &PushRequest,
        change: &Change,
        outcome: &Outcome,
    ) -> Result<(), String> {
        let Some(loser) = &outcome.loser else {
            return Ok(());
        };
        let own = loser.device == request.device && loser.row != change.row;
        // Two copies are one device until one of them is fenced.
        if !own || self.devices[number].copied {
            return Ok(());
        }
        let place = (&change.table, change.id);
        Err(format!(
            "{number} is in conflict with itself about {place:?}"
        ))
    }

    fn note_maxima(&mut self, request: &PushRequest, change: &Change, outcome: &Outcome) {
        let Some(key) = key_of(request, change) else {
            return;
        };
        if change.op == Op::Delete || outcome.status == Status::Rejected {
            self.maxima.retain(|(of, _), _| *of != key);
            return;
        }
        // A duplicate may be a batch that came twice, long after.
        if matches!(outcome.status, Status::Superseded | Status::Duplicate) {
            return;
        }
        for column in key.table().columns_by(Merge::Max) {
            let value = change.row.as_ref().and_then(|row| row.get(column.name));
            let Some(value) = value.and_then(Value::as_i64) else {
                continue;
            };
            let greatest = self.maxima.entry((key, column.name)).or_insert(value);
            *greatest = (*greatest).max(value);
        }
    }

    /// Columns that only grow never shrank. A set back may take away what their device had.
    pub(super) fn judge_maxima(&mut self) -> Result<(), String> {
        if self.set_backs > 0 || self.devices.iter().any(|device| device.copied) {
            return Ok(());
        }
        let mut checked = 0;
        for ((key, column), greatest) in &self.maxima {
            let Some(row) = self.server.database.shown(key) else {
                continue;
            };
            checked += 1;
            let value = row.get(*column).and_then(Value::as_i64);
            if value < Some(*greatest) {
                return Err(format!(
                    "{column} of {key:?} grew to {greatest} and is {value:?}"
                ));
            }
        }
        self.log.count("maxima exact", checked);
        Ok(())
    }

    /// The first accepted row of a fact's identity stays, and its tombstone is final; a row that
    /// only goes up is written by its own device.
    pub(super) fn judge_classes(&self) -> Result<(), String> {
        for (key, contents) in &self.server.database.history {
            if key.table().class == Class::Fact && contents.len() > 1 {
                return Err(format!("the fact {key:?} was written again: {contents:?}"));
            }
        }
        for (key, kept) in &self.server.database.rows {
            if key.table().direction == Direction::Up && kept.device != kept.origin {
                let (origin, device) = (kept.origin, kept.device);
                return Err(format!("{key:?} of {origin} was written by {device}"));
            }
        }
        Ok(())
    }

    /// Only rows that the server refuses are parked, after three refusals and not later.
    pub(super) fn judge_parked(&self) -> Result<(), String> {
        for (number, device) in self.devices.iter().enumerate() {
            for file in File::ALL {
                let bad = match file {
                    File::Org => {
                        "exists (select 1 from decisions d where q.table_name = 'org_decisions'
                           and (d.seq = q.row_seq or d.id = q.row_id) and d.title = 'unwanted')"
                    }
                    _ => "false",
                };
                let sql = format!(
                    "select table_name, row_id, code, reason from sync_queue q
                     where state = 'parked'
                       and code not in ('direction_refused', 'key_mismatch') and not {bad}"
                );
                if let Some(row) = device.rows(file, &sql).first() {
                    return Err(format!("{number} parks a good row: {row:?}"));
                }
                let sql = "select coalesce(max(attempts), 0) from sync_queue";
                let attempts = device.number(file, sql);
                if attempts > i64::from(ATTEMPTS_MAX) {
                    return Err(format!("{number} sent a refused row {attempts} times"));
                }
            }
        }
        Ok(())
    }
}

fn key_of(request: &PushRequest, change: &Change) -> Option<Key> {
    Some(Key {
        scope: request.scope,
        table: by_cloud_name(&change.table)?.cloud,
        id: change.id,
    })
}
