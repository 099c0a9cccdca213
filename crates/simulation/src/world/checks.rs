//! What must hold of every single answer of the server, and of what devices park: rules that the
//! final state does not show, because replicas that break them are equal all the same.

use super::{Token, World};
use crate::model::Key;
use coditect_protocol::catalogue::{Class, Direction, File, Merge, by_cloud_name};
use coditect_protocol::limits::{ATTEMPTS_MAX, CLOCK_SKEW_MS_MAX};
use coditect_protocol::wire::push::{Change, Outcome, PushReply, PushRequest, Status};
use coditect_protocol::wire::{Op, Stored};
use coditect_protocol::{BatchId, Version};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Versions of a row that a device surely remembers.
const REMEMBERED: usize = 20;

impl World {
    /// Returns which of a push's rows are tombstones now.
    pub(super) fn tombstones(&self, request: &PushRequest) -> BTreeSet<Key> {
        let keys = request.changes.iter().filter_map(|it| key_of(request, it));
        keys.filter(|key| self.is_tombstone(key)).collect()
    }

    fn is_tombstone(&self, key: &Key) -> bool {
        let kept = self.server.database.rows.get(key);
        kept.is_some_and(|kept| kept.fields.is_none())
    }

    /// Checks the answer to a push. `tombstones` are those of its rows that were deleted before.
    pub(super) fn check_answer(
        &mut self,
        number: usize,
        request: &PushRequest,
        reply: Option<&PushReply>,
        tombstones: &BTreeSet<Key>,
    ) -> Result<(), String> {
        let Some(reply) = reply else { return Ok(()) };
        self.check_refusals(number, request, reply)?;
        for (change, outcome) in request.changes.iter().zip(&reply.outcomes) {
            let Some(stored) = &outcome.stored else {
                continue;
            };
            self.check_clock(number, change, outcome, stored)?;
            self.check_origin(request, change, stored)?;
            self.check_version(request, change, stored)?;
            self.check_loser(number, change, outcome)?;
            self.check_conflict(number, request, change, outcome)?;
            self.check_revival(request, change, tombstones)?;
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

    /// Nobody is in conflict with himself. Whose version it is does not tell: it may have merged
    /// a counter beside another's text.
    fn check_loser(&self, number: usize, change: &Change, outcome: &Outcome) -> Result<(), String> {
        let Some(loser) = &outcome.loser else {
            return Ok(());
        };
        let text = loser.row.as_ref().and_then(Token::of);
        let own = text.and_then(|text| self.ledger.author(text)) == Some(number);
        let own = own && text != change.row.as_ref().and_then(Token::of);
        // Two copies are one device until one of them is fenced.
        if !own || self.devices[number].copied {
            return Ok(());
        }
        let place = (&change.table, change.id);
        Err(format!(
            "{number} is in conflict with itself about {place:?}"
        ))
    }

    /// A refused row waits: it is not sent again at once.
    fn check_refusals(
        &mut self,
        number: usize,
        request: &PushRequest,
        reply: &PushReply,
    ) -> Result<(), String> {
        let now_ms = self.now_ms;
        let refused: &mut BTreeMap<_, (BatchId, i64)> = &mut self.devices[number].refused;
        for (change, outcome) in request.changes.iter().zip(&reply.outcomes) {
            let place = (change.table.clone(), change.id);
            if outcome.status != Status::Rejected {
                continue;
            }
            let before = refused.insert(place, (request.batch_id, now_ms));
            let at_once = |it: (BatchId, i64)| it.0 != request.batch_id && it.1 == now_ms;
            if before.is_some_and(at_once) {
                let place = (&change.table, change.id);
                return Err(format!(
                    "{number} sent a refused row twice at once: {place:?}"
                ));
            }
        }
        Ok(())
    }

    /// No conflict is reported where none exists: with a state of which the sender knew that it
    /// is an earlier one, or between a text and what was made from it.
    fn check_conflict(
        &mut self,
        number: usize,
        request: &PushRequest,
        change: &Change,
        outcome: &Outcome,
    ) -> Result<(), String> {
        let (Some(loser), Some(key)) = (&outcome.loser, key_of(request, change)) else {
            return Ok(());
        };
        let place = (&change.table, change.id);
        let mut had = self.seen.iter().filter(|it| (it.0, it.1) == (number, key));
        let known = had.any(|it| it.2 == loser.version);
        let few = self.had(number, &key) < REMEMBERED;
        let below = change.base > Some(loser.version);
        if below && known && few && !self.devices[number].copied {
            return Err(format!(
                "{number} is in conflict with what it knew: {place:?}"
            ));
        }
        if below {
            self.log
                .count("conflicts with a state from before a set back", 1);
        }
        // Against what is stored, if the sender's own side lost.
        let own_lost = loser.row.is_some() && loser.row == change.row;
        let kept = outcome.stored.as_ref().filter(|_| own_lost);
        let winner = kept.map_or(change.row.as_ref(), |stored| stored.row.as_ref());
        let texts = [loser.row.as_ref(), winner].map(|row| row.and_then(Token::of));
        let [Some(one), Some(other)] = texts else {
            return Ok(());
        };
        let related = self.ledger.leads(one, other) || self.ledger.leads(other, one);
        if one != other && related && self.is_calm() {
            return Err(format!(
                "a text is in conflict with its own successor: {place:?}"
            ));
        }
        Ok(())
    }

    fn had(&self, number: usize, key: &Key) -> usize {
        let had = self.seen.iter().filter(|it| (it.0, it.1) == (number, *key));
        had.count()
    }

    /// Notes that a device has a version of a row now.
    pub(super) fn note_seen(&mut self, number: usize, key: Key, version: Version) {
        // What lies below what it had is found after a set back: not known to be earlier.
        let mut had = self.seen.iter().filter(|it| (it.0, it.1) == (number, key));
        if had.all(|it| it.2 < version) {
            self.seen.insert((number, key, version));
        }
    }

    /// Neither a counter nor the same fact again brings a deleted row back.
    fn check_revival(
        &self,
        request: &PushRequest,
        change: &Change,
        tombstones: &BTreeSet<Key>,
    ) -> Result<(), String> {
        let Some(key) = key_of(request, change).filter(|key| tombstones.contains(key)) else {
            return Ok(());
        };
        if self.is_tombstone(&key) {
            return Ok(());
        }
        match key.table().class {
            Class::Fact => Err(format!("a deleted fact came back: {key:?}")),
            _ if !change.register => Err(format!("a counter revived a deleted row: {key:?}")),
            _ => Ok(()),
        }
    }

    /// What people deleted is deleted, unless somebody else wrote something else into it.
    pub(super) fn judge_deletes(&mut self) -> Result<(), String> {
        if self.devices.iter().any(|device| device.copied) {
            return Ok(());
        }
        for (key, kept) in &self.server.database.rows {
            let token = kept.fields.as_ref().and_then(Token::of);
            if token.is_some_and(|token| self.ledger.deletes().contains(&token)) {
                return Err(format!("the delete of {key:?} is lost: {:?}", kept.fields));
            }
        }
        let mut gone = 0;
        for (number, name) in self.ledger.facts_gone() {
            gone += 1;
            let scope = coditect_protocol::Scope::User(self.devices[*number].user.get());
            let of = |key: &Key| key.scope == scope && key.table == "context_messages";
            let rows = self.server.database.rows.iter().filter(|(key, _)| of(key));
            let mut fields = rows.filter_map(|(_, kept)| kept.fields.as_ref());
            let is = |row: &coditect_protocol::wire::Row| {
                row.get("message_id").and_then(Value::as_str) == Some(name)
            };
            if fields.any(is) {
                return Err(format!("the delete of {name} on {number} is lost"));
            }
        }
        self.log.count(
            "deletes accounted for",
            self.ledger.deletes().len() as u64 + gone,
        );
        Ok(())
    }

    /// All files of a folder are of one device.
    pub(super) fn check_folder(&self, number: usize) -> Result<(), String> {
        let device = &self.devices[number];
        for file in File::ALL {
            let sql = "select value from sync_meta where key = 'device_id'";
            let rows = device.rows(file, sql);
            let held = rows.first().and_then(|row| row[0].as_str());
            if held != Some(device.store.device().to_string().as_str()) {
                return Err(format!("the files of folder {number} are of two devices"));
            }
        }
        Ok(())
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
            // A row that the server lost comes back as it was.
            let other = contents.windows(2).any(|pair| pair[0] != pair[1]);
            if key.table().class == Class::Fact && other {
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
