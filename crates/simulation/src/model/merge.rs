//! The merge rules, from the text of PROTOCOL 15 to 21 and DESIGN 3.1 and 4.

use super::{Guards, Kept};
use coditect_protocol::catalogue::{Class, ColumnType, Direction, Merge, Table};
use coditect_protocol::wire::Row;
use coditect_protocol::wire::push::{Change, Status};
use coditect_protocol::{DeviceId, Version};
use serde_json::Value;
use std::cmp::Ordering;

/// What becomes of a change.
#[derive(Debug)]
pub(super) struct Judgement {
    /// Status to answer.
    pub(super) status: Status,
    /// Fields to store, none of them for a tombstone; `None` leaves what is stored.
    pub(super) store: Option<Option<Row>>,
    /// Content hash to store.
    pub(super) hash: String,
    /// In a conflict: whether the sender's side is stored.
    pub(super) sender_won: bool,
}

/// Judges a change. `grown` says whether one of its counters moved the sum.
pub(super) fn judge(
    guards: &Guards,
    kept: Option<&Kept>,
    change: &Change,
    table: &Table,
    corrected: Version,
    sender: DeviceId,
    grown: bool,
) -> Judgement {
    let pushed = change.row.as_ref().map(|row| without_counters(table, row));
    let Some(kept) = kept else {
        let pushed = pushed.filter(|_| guards.absence || change.base.is_none());
        return store(Status::Applied, pushed, &change.hash);
    };
    let knew = knew(guards, table, kept, change);
    let below = Some(kept.version) < change.base;
    match (table.class, pushed, &kept.fields) {
        // A fact: the first stays, its tombstone is final.
        (Class::Fact, None, Some(_)) => store(Status::Applied, None, &kept.hash),
        (Class::Fact, Some(pushed), None) if !guards.fact_tombstone => {
            store(Status::Applied, Some(pushed), &change.hash)
        }
        (Class::Fact, Some(pushed), Some(_)) if !guards.first_fact && change.hash != kept.hash => {
            store(Status::Applied, Some(pushed), &change.hash)
        }
        (Class::Fact, _, _) | (_, None, None) => keep(Status::Duplicate, kept),
        // A delete loses against content that its author did not know.
        (_, None, Some(_)) if knew || kept.hash == change.hash || !guards.update_beats_delete => {
            store(Status::Applied, None, &kept.hash)
        }
        // In a database that was set back it may be an earlier state of what was deleted, or
        // beside it: it goes, and is kept as the losing side.
        (_, None, Some(_)) if below => store(Status::Conflict, None, &kept.hash),
        (_, None, Some(_)) => keep(Status::Superseded, kept),
        // New content beats a delete; a counter or a greater number alone does not.
        (_, Some(_), None) if !change.register && guards.register_revives => {
            keep(Status::Superseded, kept)
        }
        // The content that was deleted is no new one, from somebody who had it before.
        (_, Some(_), None)
            if guards.deleted_content
                && !knew
                && change.base.is_some()
                && change.hash == kept.hash =>
        {
            keep(Status::Superseded, kept)
        }
        (_, Some(pushed), None) => {
            let status = if knew {
                Status::Applied
            } else {
                Status::Merged
            };
            store(status, Some(pushed), &change.hash)
        }
        (_, Some(pushed), Some(stored)) => meet(
            guards,
            kept,
            stored,
            &pushed,
            change,
            table,
            (corrected, sender),
            knew,
            grown,
        ),
    }
}

/// Two contents of one record meet.
#[expect(clippy::too_many_arguments, reason = "the rule depends on all of them")]
fn meet(
    guards: &Guards,
    kept: &Kept,
    stored: &Row,
    pushed: &Row,
    change: &Change,
    table: &Table,
    stamp: (Version, DeviceId),
    knew: bool,
    grown: bool,
) -> Judgement {
    let register_moves = change.register && change.hash != kept.hash;
    let later = stamp > (kept.version, kept.device) || Some(kept.version) < change.base;
    let sender_wins = register_moves && (knew || later);
    let (register, hash) = if sender_wins {
        (pushed, &change.hash)
    } else {
        (stored, &kept.hash)
    };
    let other = if guards.max { stored } else { pushed };
    let joined = join(table, register, other, pushed);
    let changed = joined != *stored || grown;
    let status = match (register_moves, knew) {
        (true, false) => Status::Conflict,
        // With nothing of the other side in it the sender's row is stored as it came.
        (true, true) if joined == *pushed && !grown_apart(table, change, grown) => Status::Applied,
        (true, true) => Status::Merged,
        (false, _) if changed => Status::Merged,
        (false, _) => Status::Duplicate,
    };
    Judgement {
        status,
        store: (sender_wins || changed).then_some(Some(joined)),
        hash: hash.clone(),
        sender_won: sender_wins,
    }
}

/// Whether the stored counters can be others than the sender showed. To call such a change
/// merged rather than applied is always allowed: both are stored, and the row is answered.
fn grown_apart(table: &Table, change: &Change, grown: bool) -> bool {
    grown && table.columns_by(Merge::Counter).next().is_some() && !change.counters.is_empty()
}

/// A sender knew what is stored if it is its base, or if it says that it is an earlier state of
/// its base, in a database that was set back (ADR 20).
fn knew(guards: &Guards, table: &Table, kept: &Kept, change: &Change) -> bool {
    let stored = Some(kept.version);
    let earlier = guards.follows && change.follows == stored;
    // A version that merged other columns has the same register.
    let same = kept.fields.is_some() && change.base_hash.as_ref() == Some(&kept.hash);
    // Only its own device writes a row that goes up, so what is older is older.
    let alone = table.direction == Direction::Up && change.base > stored;
    change.base == stored || earlier || alone || same || !guards.conflict
}

/// The register of one side, and the greater of every `max` column of both.
fn join(table: &Table, register: &Row, one: &Row, other: &Row) -> Row {
    let mut joined = register.clone();
    for column in table.columns_by(Merge::Max) {
        let values = [one.get(column.name), other.get(column.name)];
        let greatest = values
            .into_iter()
            .flatten()
            .max_by(|a, b| compare(column.ty, a, b));
        if let Some(value) = greatest {
            joined.insert(column.name.to_owned(), value.clone());
        }
    }
    joined
}

fn compare(ty: ColumnType, one: &Value, other: &Value) -> Ordering {
    match ty {
        ColumnType::Integer => one.as_i64().cmp(&other.as_i64()),
        ColumnType::Real => one
            .as_f64()
            .partial_cmp(&other.as_f64())
            .unwrap_or(Ordering::Equal),
        _ => one.as_str().cmp(&other.as_str()),
    }
}

fn without_counters(table: &Table, row: &Row) -> Row {
    let mut row = row.clone();
    for column in table.columns_by(Merge::Counter) {
        row.remove(column.name);
    }
    row
}

fn store(status: Status, fields: Option<Row>, hash: &str) -> Judgement {
    let (store, hash) = (Some(fields), hash.to_owned());
    Judgement {
        status,
        store,
        hash,
        sender_won: true,
    }
}

fn keep(status: Status, kept: &Kept) -> Judgement {
    let hash = kept.hash.clone();
    Judgement {
        status,
        store: None,
        hash,
        sender_won: false,
    }
}
