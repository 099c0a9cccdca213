//! Pushes. A push is begun (its numbers are taken) and committed as two steps, so that a
//! simulation can let others act in between, as concurrent transactions do.

use super::merge::{self, Judgement};
use super::pull::epoch_changed;
use super::token::Standing;
use super::validate::{Sender, refuse_direction};
use super::{Conflict, Guards, Kept, Key, Refusal, Server, refusal};
use coditect_protocol::limits::CLOCK_SKEW_MS_MAX;
use coditect_protocol::wire::push::{Change, Loser, Outcome, PushReply, PushRequest, Status};
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{DeviceId, ErrorCode, Scope, UserId, Version};
use serde_json::Value;

/// A transaction in progress: the numbers that its changes will get.
#[derive(Debug)]
pub struct Ticket {
    id: u64,
    scope: Scope,
    first: i64,
}

/// What came of beginning a push.
#[derive(Debug)]
pub enum Begun {
    /// The transaction is open.
    Open(Ticket),
    /// Another transaction holds the stream's lock; try again after it.
    Waits,
}

impl Server {
    /// Begins a push: takes the stream's lock and its next numbers.
    pub fn begin_push(&mut self, request: &PushRequest) -> Begun {
        let open = self.open.entry(request.scope).or_default();
        if self.guards.stream_lock && !open.is_empty() {
            return Begun::Waits;
        }
        self.ticket += 1;
        open.push(self.ticket);
        let last = self.database.numbers.entry(request.scope).or_insert(0);
        let first = *last + 1;
        *last += request.changes.len() as i64;
        Begun::Open(Ticket {
            id: self.ticket,
            scope: request.scope,
            first,
        })
    }

    /// Does a begun push's work and commits it: dedup, merge, write, answer.
    ///
    /// # Errors
    /// `device_unknown`, `not_found`, `file_fenced`, `epoch_changed`; then nothing is stored.
    /// `unavailable` when the database was set back since the push began.
    pub fn commit_push(
        &mut self,
        ticket: &Ticket,
        user: UserId,
        request: &PushRequest,
        now_ms: i64,
    ) -> Result<PushReply, Refusal> {
        let open = self.open.entry(ticket.scope).or_default();
        let Some(at) = open.iter().position(|id| *id == ticket.id) else {
            return Err(refusal(ErrorCode::Unavailable, "the connection was lost"));
        };
        open.remove(at);
        self.work(ticket.first, user, request, now_ms)
    }

    /// Gives a begun push up, as a crash of the server does.
    pub fn abort_push(&mut self, ticket: &Ticket) {
        self.open
            .entry(ticket.scope)
            .or_default()
            .retain(|id| *id != ticket.id);
    }

    /// Begins and commits a push at once.
    ///
    /// # Errors
    /// Those of [`Self::commit_push`]; `unavailable` when the stream is locked.
    pub fn push(
        &mut self,
        user: UserId,
        request: &PushRequest,
        now_ms: i64,
    ) -> Result<PushReply, Refusal> {
        match self.begin_push(request) {
            Begun::Open(ticket) => self.commit_push(&ticket, user, request, now_ms),
            Begun::Waits => Err(refusal(ErrorCode::Unavailable, "the stream is locked")),
        }
    }

    fn work(
        &mut self,
        first: i64,
        user: UserId,
        request: &PushRequest,
        now_ms: i64,
    ) -> Result<PushReply, Refusal> {
        if self.database.devices.get(&request.device) != Some(&user) {
            return Err(refusal(ErrorCode::DeviceUnknown, "not registered"));
        }
        if !self.scopes(user).contains(&request.scope) {
            return Err(refusal(ErrorCode::NotFound, "no such scope"));
        }
        let (device, file) = (request.device, request.file);
        let standing = self.push_standing(request);
        let sender = Sender {
            user,
            device,
            scope: request.scope,
            file,
        };
        let bad = |change: &Change| self.check(&sender, change).is_err();
        if !self.guards.neighbours && request.changes.iter().any(bad) {
            return Err(refusal(ErrorCode::MalformedRow, "a row of it is bad"));
        }
        let outcomes = match standing {
            Standing::Copy => return Err(self.fence(user)),
            Standing::OldLife => return Err(epoch_changed(self)),
            Standing::SetBack if self.guards.epoch => {
                self.bump_epoch();
                return Err(epoch_changed(self));
            }
            Standing::Repeat if self.guards.batch_dedup => request
                .changes
                .iter()
                .map(|change| self.repeated(&sender, change))
                .collect(),
            Standing::Current | Standing::Repeat | Standing::SetBack => (first..)
                .zip(&request.changes)
                .map(|(number, change)| {
                    // A version that a server minted holds no device's clock.
                    let minted = change.base == Some(change.proposed);
                    let sent_ms = if minted { now_ms } else { request.sent_at_ms };
                    let corrected = correct(&self.guards, change, sent_ms, now_ms);
                    self.take(&sender, change, corrected, number)
                })
                .collect(),
        };
        let token = match standing {
            Standing::Repeat if self.guards.batch_dedup => {
                self.token(device, file).unwrap_or_default()
            }
            _ => {
                let epoch = self.database.epoch.to_string();
                let sent = request.token.as_deref();
                let sent = sent.filter(|sent| sent.starts_with(&epoch));
                self.rotate(device, file, sent, request.batch_id)
            }
        };
        let epoch = self.database.epoch;
        Ok(PushReply {
            epoch,
            token,
            server_time_ms: now_ms,
            outcomes,
        })
    }

    pub(super) fn fence(&mut self, user: UserId) -> Refusal {
        let device = DeviceId::new(self.random.uuid());
        self.database.devices.insert(device, user);
        let mut problem = refusal(ErrorCode::FileFenced, "the file is a copy");
        let device = Value::String(device.to_string());
        problem.extra.insert("device_id".to_owned(), device);
        problem
    }

    /// Takes one change into the database.
    fn take(
        &mut self,
        sender: &Sender,
        change: &Change,
        corrected: Version,
        number: i64,
    ) -> Outcome {
        let key = match self.check(sender, change) {
            Ok(key) => key,
            Err((code, reason)) => return refused(code, reason),
        };
        let before = self.database.shown(&key);
        let grown = change.op == Op::Upsert && self.add_parts(sender, &key, change);
        let kept = self.database.rows.get(&key);
        let guards = &self.guards;
        let device = sender.device;
        let judgement = merge::judge(guards, kept, change, key.table(), corrected, device, grown);
        if guards.direction
            && judgement.status != Status::Duplicate
            && let Err((code, reason)) = refuse_direction(key.table(), kept, sender)
        {
            return refused(code, reason);
        }
        let loser = self.note_conflict(sender, &key, change, corrected, &judgement, before);
        self.trace.extend(judgement.store.iter().flatten().cloned());
        if let Some(fields) = judgement.store {
            self.write(
                sender,
                &key,
                change,
                corrected,
                number,
                fields,
                judgement.hash,
            );
        }
        let stored = self.answer(&key, change);
        Outcome {
            status: judgement.status,
            code: None,
            reason: None,
            stored,
            loser,
            moved_to: None,
        }
    }

    /// Stores the sender's shares of the counters, the latest of each; says whether a sum moved.
    fn add_parts(&mut self, sender: &Sender, key: &Key, change: &Change) -> bool {
        let mut moved = false;
        for (name, part) in &change.counters {
            let Some(column) = key.table().column(name) else {
                continue;
            };
            let before = self.database.sum(key, column.name);
            let parts = self.database.parts.entry((*key, column.name)).or_default();
            let known = parts.get(&sender.device);
            let newest = known.is_none_or(|known| part.seq > known.seq);
            if newest || !self.guards.part_number {
                parts.insert(sender.device, *part);
            }
            moved |= self.database.sum(key, column.name) != before;
        }
        moved
    }

    fn note_conflict(
        &mut self,
        sender: &Sender,
        key: &Key,
        change: &Change,
        corrected: Version,
        judgement: &Judgement,
        before: Option<Row>,
    ) -> Option<Loser> {
        if judgement.status != Status::Conflict || !self.guards.losers {
            return None;
        }
        let kept = self.database.rows.get(key)?;
        let (loser, hash) = if judgement.sender_won {
            let (version, device) = (kept.version, kept.device);
            (
                Loser {
                    version,
                    device,
                    op: Op::Upsert,
                    row: before,
                },
                kept.hash.clone(),
            )
        } else {
            let (version, device) = (corrected, sender.device);
            let row = change.row.clone();
            (
                Loser {
                    version,
                    device,
                    op: Op::Upsert,
                    row,
                },
                change.hash.clone(),
            )
        };
        let (key, pusher) = (*key, sender.device);
        self.database.conflicts.push(Conflict {
            key,
            pusher,
            loser: loser.clone(),
            hash,
        });
        Some(loser)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a row's parts come from so many places"
    )]
    fn write(
        &mut self,
        sender: &Sender,
        key: &Key,
        change: &Change,
        corrected: Version,
        number: i64,
        fields: Option<Row>,
        hash: String,
    ) {
        let kept = self.database.rows.get(key);
        let rises = self.guards.version_above;
        let fixed = self.guards.origin;
        // Above what is stored, and not below what the change was made from.
        let made_from = change
            .base
            .filter(|base| *base > corrected)
            .map(Version::next);
        let lacking = made_from.unwrap_or(corrected);
        let above = kept.map_or(lacking, |kept| corrected.max(kept.version.next()));
        let row = Kept {
            version: if rises { above } else { corrected },
            device: sender.device,
            origin: kept
                .filter(|_| fixed)
                .map_or(sender.device, |kept| kept.origin),
            user: kept.map_or(sender.user, |kept| kept.user),
            created_at: kept
                .map_or(&change.created_at, |kept| &kept.created_at)
                .clone(),
            updated_at: change.updated_at.clone(),
            hash,
            cursor: number,
            fields,
        };
        if let Some(fields) = row.fields.clone() {
            self.database.history.entry(*key).or_default().push(fields);
        }
        self.database.rows.insert(*key, row);
    }

    /// The stored row, with its columns only where they differ from what was sent.
    fn answer(&self, key: &Key, change: &Change) -> Option<coditect_protocol::wire::Stored> {
        let mut stored = self.database.stored(key)?;
        if stored.row == change.row {
            stored.row = None;
        }
        Some(stored)
    }

    /// The answer to a change that came before, from what is stored now.
    fn repeated(&self, sender: &Sender, change: &Change) -> Outcome {
        let key = match self.check(sender, change) {
            Ok(key) => key,
            Err((code, reason)) => return refused(code, reason),
        };
        let Some(stored) = self.answer(&key, change) else {
            return refused(ErrorCode::MalformedRow, "it was refused before");
        };
        let stored = Some(stored);
        Outcome {
            status: Status::Duplicate,
            code: None,
            reason: None,
            stored,
            loser: None,
            moved_to: None,
        }
    }
}

fn refused(code: ErrorCode, reason: &str) -> Outcome {
    Outcome {
        status: Status::Rejected,
        code: Some(code),
        reason: Some(reason.to_owned()),
        stored: None,
        loser: None,
        moved_to: None,
    }
}

/// Shifts a stamp of a clock that is wrong by more than the limit, and caps it at our time. A
/// stamp that is the base's is ours and not the device's.
fn correct(guards: &Guards, change: &Change, sent_ms: i64, now_ms: i64) -> Version {
    let proposed = change.proposed;
    let wrong_by = sent_ms - now_ms;
    let of_device = change.base != Some(proposed) && guards.clock_shift;
    let shift = if wrong_by.abs() > CLOCK_SKEW_MS_MAX && of_device {
        wrong_by
    } else {
        0
    };
    let ms = (proposed.unix_ms() as i64 - shift).max(0);
    if ms > now_ms && guards.clock_cap {
        Version::from_parts(now_ms as u64, 0)
    } else {
        Version::from_parts(ms as u64, proposed.counter())
    }
}
