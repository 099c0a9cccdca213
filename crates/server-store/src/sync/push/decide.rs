//! From one change and what is stored to what becomes of both. Pure.

use std::collections::{HashMap, HashSet};

use coditect_core::digest::Digest;
use coditect_core::merge::{self, Existing, Incoming, Losing, Verdict};
use coditect_protocol::catalogue::{Class, Direction, Table};
use coditect_protocol::wire::push::{Change, Loser, Outcome, Status};
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{DeviceId, ErrorCode, RowId, Scope, Version};
use uuid::Uuid;

use super::apply::Key;
use super::counters::Counters;
use super::{Batch, Numbered, Totals, rejected};
use crate::sync::columns;
use crate::sync::held::Held;
use crate::sync::validate::{self, Refusal};

/// The table whose rows take a permission of their own to delete.
const CHECKPOINTS: &str = "context_checkpoints";

/// All that a push changes besides the counters.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Rows to write, each once, in the order of the first change.
    pub(super) rows: Vec<Key>,
    known: HashSet<Key>,
    /// Differences of the digests per table and origin.
    pub(super) digests: HashMap<(&'static str, DeviceId), Digest>,
    /// Versions that were overwritten or lost.
    pub(super) history: Vec<Kept>,
    /// Versions that lost a conflict.
    pub(super) conflicts: Vec<Conflict>,
    head: i64,
    rows_added: i64,
    bytes_added: i64,
}

/// A version to keep in the record's history.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) table: &'static str,
    pub(super) id: RowId,
    pub(super) version: Version,
    pub(super) device: DeviceId,
    pub(super) user: Option<Uuid>,
    pub(super) reason: &'static str,
    pub(super) row: Option<Row>,
    /// Number of the version that holds in its place.
    pub(super) cursor: i64,
}

/// A version that lost, with the one that won.
#[derive(Debug)]
pub(super) struct Conflict {
    pub(super) loser: Kept,
    pub(super) winner_version: Version,
    pub(super) winner_device: DeviceId,
}

impl Changed {
    pub(super) fn totals(&self) -> Totals {
        Totals {
            head: self.head,
            rows: self.rows_added,
            bytes: self.bytes_added,
        }
    }

    /// Returns whether nothing is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.digests.is_empty()
            && self.history.is_empty()
            && self.conflicts.is_empty()
    }

    /// Notes that a row of so many bytes is written where there was none.
    pub(super) fn put_new(&mut self, table: &'static Table, row: &Held, bytes: usize) {
        self.head = self.head.max(row.cursor);
        let digest = self.digests.entry((table.cloud, row.origin)).or_default();
        digest.add(row.term(table), row.deleted());
        self.rows_added += i64::from(!row.deleted());
        self.bytes_added += bytes as i64;
    }

    /// Notes that a row is written: the stream's head, the digests, the usage.
    pub(super) fn put(&mut self, table: &'static Table, before: Option<&Held>, after: &Held) {
        self.head = self.head.max(after.cursor);
        let digest = self.digests.entry((table.cloud, after.origin)).or_default();
        let bytes = |held: &Held| held.existing.row.as_ref().map_or(0, validate::bytes) as i64;
        if let Some(before) = before {
            digest.remove(before.term(table), before.deleted());
            self.rows_added -= i64::from(!before.deleted());
            self.bytes_added -= bytes(before);
        }
        digest.add(after.term(table), after.deleted());
        self.rows_added += i64::from(!after.deleted());
        self.bytes_added += bytes(after);
    }
}

/// Returns the row of a new fact, which is stored as it was sent: facts have no columns that
/// grow. Its columns stay in the change and are not copied.
pub(super) fn fresh(batch: &Batch<'_>, change: &Numbered<'_>) -> Held {
    let write = merge::Write {
        version: corrected(batch, &change.valid.change),
        hash: change.valid.hash,
        row: Some(Row::new()),
    };
    held(batch, change, None, write)
}

/// Returns the outcome of a change that was inserted as new.
pub(super) fn inserted(change: &Numbered<'_>, row: &Held, changed: &mut Changed) -> Outcome {
    changed.put_new(change.valid.table, row, change.valid.bytes);
    let stored = row.place(change.valid.table);
    outcome(Status::Applied, Some(stored), None)
}

/// Decides about a change and notes what it changes.
pub(super) fn decide(
    batch: &Batch<'_>,
    change: &Numbered<'_>,
    held: &mut HashMap<Key, Held>,
    counters: &mut Counters,
    changed: &mut Changed,
) -> Outcome {
    let table = change.valid.table;
    let pushed = &*change.valid.change;
    let key = (table.cloud, pushed.id);
    let before = held.get(&key);
    // Tables with counters take pushes of every holder, so none of these is refused below.
    let sums = counters.take(table, pushed, batch.device, before.is_some());
    let verdict = verdict(batch, change, before.map(|held| &held.existing), &sums);
    if let Some(refusal) = before.and_then(|held| refusal(batch, change, held, verdict.status)) {
        return rejected(refusal);
    }
    let before = before.cloned();
    let after = match verdict.write {
        None => before.clone(),
        Some(write) => Some(self::held(batch, change, before.as_ref(), write)),
    };
    let after = after.expect("a change of nothing is stored");
    let wrote = before
        .as_ref()
        .is_none_or(|before| before.cursor != after.cursor);
    if wrote {
        keep_overwritten(change, before.as_ref(), &after, verdict.losing, changed);
        changed.put(table, before.as_ref(), &after);
        if changed.known.insert(key) {
            changed.rows.push(key);
        }
    }
    let loser = match verdict.losing {
        Some(Losing::Incoming) => Some(incoming(batch, change, "conflict")),
        Some(Losing::Existing) => before
            .as_ref()
            .map(|before| kept(change, before, "conflict")),
        None if is_edit_of_a_fact(change, before.as_ref()) => {
            conflict(incoming(batch, change, "edited_fact"), &after, changed);
            None
        }
        None => None,
    };
    let wire_loser = loser.as_ref().map(loser_on_the_wire);
    if let Some(loser) = loser {
        conflict(loser, &after, changed);
    }
    let stored = after.reply_to(table, pushed.row.as_ref());
    held.insert(key, after);
    outcome(verdict.status, Some(stored), wire_loser)
}

/// Returns the outcome of an edit of a row that was moved out of the stream: it belongs where the
/// row is by now. Where that is not for the caller to know, it is kept here, with the tombstone.
pub(super) fn moved_away(
    batch: &Batch<'_>,
    change: &Numbered<'_>,
    held: &Held,
    to: Option<Scope>,
    changed: &mut Changed,
) -> Outcome {
    let pushed = &*change.valid.change;
    let fact = change.valid.table.class == Class::Fact;
    if to.is_none() && !fact && pushed.register && held.existing.hash != change.valid.hash {
        conflict(incoming(batch, change, "conflict"), held, changed);
    }
    let stored = held.reply_to(change.valid.table, pushed.row.as_ref());
    Outcome {
        // A fact was not edited but found again.
        moved_to: to.filter(|_| !fact),
        ..outcome(
            if fact {
                Status::Duplicate
            } else {
                Status::Superseded
            },
            Some(stored),
            None,
        )
    }
}

/// Returns why the change may not be made to the stored row: it is another device's, or another
/// author's. What changes nothing is a duplicate, whoever sends it.
pub(super) fn refusal(
    batch: &Batch<'_>,
    change: &Numbered<'_>,
    held: &Held,
    status: Status,
) -> Option<Refusal> {
    let deletes = change.valid.change.op == Op::Delete && !held.deleted();
    if deletes && batch.keeps_checkpoints && change.valid.table.cloud == CHECKPOINTS {
        let reason = "the role does not allow to delete checkpoints";
        return Some(Refusal::new(ErrorCode::PermissionDenied, reason));
    }
    let reason = match change.valid.table.direction {
        Direction::Up if held.origin != batch.device => "the row belongs to another device",
        Direction::Mirror if held.user != Some(batch.user) => "the row has another author",
        _ => return None,
    };
    (status != Status::Duplicate).then(|| Refusal::new(ErrorCode::DirectionRefused, reason))
}

fn verdict(
    batch: &Batch<'_>,
    change: &Numbered<'_>,
    existing: Option<&Existing>,
    counters: &Row,
) -> Verdict {
    let pushed: &Change = &change.valid.change;
    let incoming = Incoming {
        change: pushed,
        hash: change.valid.hash,
        corrected: corrected(batch, pushed),
        sender: batch.device,
        counters,
    };
    merge::decide(change.valid.table, existing, &incoming)
}

fn corrected(batch: &Batch<'_>, change: &Change) -> Version {
    batch.skew.correct_from(change.proposed, change.base)
}

/// Returns the row as it will be stored.
fn held(
    batch: &Batch<'_>,
    change: &Numbered<'_>,
    before: Option<&Held>,
    write: merge::Write,
) -> Held {
    let pushed = &change.valid.change;
    // Times of rows are read by people: those of a clock that is off are corrected like versions.
    let minted = pushed.base == Some(pushed.proposed);
    let time = |text: &str| match columns::time(text) {
        Some(time) if minted => time.min(batch.now),
        Some(time) => batch.corrected_time(time),
        None => batch.now,
    };
    let updated_at = time(&pushed.updated_at);
    // The time of an edit that was not stored counts only if it was later.
    let stored_edit = write.row.is_none() || write.hash == change.valid.hash;
    let updated_at = match before {
        Some(before) if !stored_edit => updated_at.max(before.updated_at),
        _ => updated_at,
    };
    Held {
        id: pushed.id,
        user: before.map_or(Some(batch.user), |before| before.user),
        origin: before.map_or(batch.device, |before| before.origin),
        cursor: change.cursor,
        created_at: before.map_or_else(|| time(&pushed.created_at), |before| before.created_at),
        updated_at,
        existing: Existing {
            version: write.version,
            device: batch.device,
            hash: write.hash,
            row: write.row,
        },
    }
}

/// Keeps the overwritten version, unless only columns changed that grow: those lose nothing.
fn keep_overwritten(
    change: &Numbered<'_>,
    before: Option<&Held>,
    after: &Held,
    losing: Option<Losing>,
    changed: &mut Changed,
) {
    let Some(before) = before else { return };
    let same = before.existing.hash == after.existing.hash && before.deleted() == after.deleted();
    if !same && losing != Some(Losing::Existing) {
        changed.history.push(kept(change, before, "overwritten"));
    }
}

fn kept(change: &Numbered<'_>, held: &Held, reason: &'static str) -> Kept {
    Kept {
        table: change.valid.table.cloud,
        id: held.id,
        version: held.existing.version,
        device: held.existing.device,
        user: held.user,
        reason,
        row: held.existing.row.clone(),
        cursor: change.cursor,
    }
}

fn incoming(batch: &Batch<'_>, change: &Numbered<'_>, reason: &'static str) -> Kept {
    Kept {
        table: change.valid.table.cloud,
        id: change.valid.change.id,
        version: corrected(batch, &change.valid.change),
        device: batch.device,
        user: Some(batch.user),
        reason,
        row: change.valid.change.row.clone(),
        cursor: change.cursor,
    }
}

/// Returns whether the device edited a fact that it had got acknowledged before: the stored row
/// stays, and the edit is kept beside it (PROTOCOL 21).
fn is_edit_of_a_fact(change: &Numbered<'_>, before: Option<&Held>) -> bool {
    let pushed = &change.valid.change;
    change.valid.table.class == Class::Fact
        && pushed.op == Op::Upsert
        && pushed.base.is_some()
        && before.is_some_and(|held| !held.deleted() && held.existing.hash != change.valid.hash)
}

/// Keeps a losing version, in the list of conflicts and in the record's history.
fn conflict(loser: Kept, winner: &Held, changed: &mut Changed) {
    let Kept {
        table,
        id,
        version,
        device,
        user,
        reason,
        ref row,
        cursor: _,
    } = loser;
    changed.history.push(Kept {
        table,
        id,
        version,
        device,
        user,
        reason,
        row: row.clone(),
        cursor: winner.cursor,
    });
    changed.conflicts.push(Conflict {
        loser,
        winner_version: winner.existing.version,
        winner_device: winner.existing.device,
    });
}

fn loser_on_the_wire(kept: &Kept) -> Loser {
    Loser {
        version: kept.version,
        device: kept.device,
        op: if kept.row.is_some() {
            Op::Upsert
        } else {
            Op::Delete
        },
        row: kept.row.clone(),
    }
}

fn outcome(
    status: Status,
    stored: Option<coditect_protocol::wire::Stored>,
    loser: Option<Loser>,
) -> Outcome {
    Outcome {
        status,
        code: None,
        reason: None,
        stored,
        loser,
        moved_to: None,
    }
}

#[cfg(test)]
mod tests {
    use coditect_protocol::catalogue::{Class, Merge, TABLES};

    #[test]
    fn a_new_fact_is_stored_as_it_was_sent() {
        for table in TABLES.iter().filter(|table| table.class == Class::Fact) {
            for column in table.columns {
                let whole = matches!(column.merge, Merge::Lww | Merge::Owner);
                assert!(whole, "{}.{}", table.cloud, column.name);
            }
        }
    }
}
