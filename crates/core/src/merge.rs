//! The server's decision about one pushed change (DESIGN 4, PROTOCOL 15 to 21). Pure: the
//! store reads what is there, asks here, and writes what comes out.

use coditect_protocol::catalogue::{Class, ColumnType, Direction, Merge, Table};
use coditect_protocol::wire::push::{Change, Status};
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{DeviceId, Version};
use serde_json::Value;

use crate::canonical::EXTRA;
use crate::clock::mint;
use crate::hash::{self, ContentHash};

/// A row as the server has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Existing {
    /// Its version.
    pub version: Version,
    /// Device that wrote this version.
    pub device: DeviceId,
    /// Its content hash.
    pub hash: ContentHash,
    /// Its columns; none for a tombstone.
    pub row: Option<Row>,
}

/// A validated change on its way in.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The change; its row is canonical and its hash was recomputed.
    pub change: &'a Change,
    /// Its content hash.
    pub hash: ContentHash,
    /// Its proposal after the correction of the device's clock.
    pub corrected: Version,
    /// Device that pushes.
    pub sender: DeviceId,
    /// Values of the row's counter columns after this push: the sums over all devices' parts.
    pub counters: &'a Row,
}

/// The row to store.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Version to store, above both sides.
    pub version: Version,
    /// Content hash to store.
    pub hash: ContentHash,
    /// Columns to store; none for a tombstone.
    pub row: Option<Row>,
}

/// The side of a conflict that was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Losing {
    /// What the server had.
    Existing,
    /// What was pushed.
    Incoming,
}

/// What becomes of a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Status to answer.
    pub status: Status,
    /// What to store; none when the stored row stays as it is.
    pub write: Option<Write>,
    /// Which side to keep as a conflict.
    pub losing: Option<Losing>,
}

impl Verdict {
    const fn keep(status: Status) -> Self {
        Self {
            status,
            write: None,
            losing: None,
        }
    }

    const fn store(status: Status, write: Write) -> Self {
        Self {
            status,
            write: Some(write),
            losing: None,
        }
    }
}

/// Decides about a change of `table`, given what is stored under its key.
#[must_use]
pub fn decide(table: &Table, existing: Option<&Existing>, incoming: &Incoming<'_>) -> Verdict {
    let Some(existing) = existing else {
        return insert(table, incoming);
    };
    match table.class {
        Class::Fact => fact(table, existing, incoming),
        Class::Record | Class::Catalogue => record(table, existing, incoming),
    }
}

/// Nothing is stored under the key: also a change with a base is taken, because absence is
/// never deletion.
fn insert(table: &Table, incoming: &Incoming<'_>) -> Verdict {
    let row = incoming
        .change
        .row
        .as_ref()
        .map(|row| joined(table, row, None, incoming));
    // A version that the database lost is not below the one that follows it.
    let version = match incoming.change.base {
        Some(base) if base > incoming.corrected => base.next(),
        _ => incoming.corrected,
    };
    Verdict::store(Status::Applied, write(version, incoming.hash, row))
}

/// The first accepted row of an identity stays, and its tombstone is final.
fn fact(table: &Table, existing: &Existing, incoming: &Incoming<'_>) -> Verdict {
    match (incoming.change.op, &existing.row, &incoming.change.row) {
        (Op::Delete, Some(_), _) => Verdict::store(Status::Applied, tombstone(existing, incoming)),
        (Op::Upsert, Some(stored), Some(pushed)) if is_damaged(table, existing, incoming) => {
            let row = joined(table, pushed, Some(stored), incoming);
            let version = mint(incoming.corrected, Some(existing.version));
            Verdict::store(Status::Merged, write(version, existing.hash, Some(row)))
        }
        _ => Verdict::keep(Status::Duplicate),
    }
}

/// Returns whether the stored bytes are not those of the stored hash, while the pushed ones are.
/// Rows of one hash have one register, though not always in one form: a long value may be in the
/// row or apart from it. So the hash decides, where the forms differ.
fn is_damaged(table: &Table, existing: &Existing, incoming: &Incoming<'_>) -> bool {
    let (Some(stored), Some(pushed)) = (&existing.row, &incoming.change.row) else {
        return false;
    };
    let hashed = table.columns.iter().filter(|column| column.hashed());
    let bodies = table.body_names().map(|column| column.name);
    let mut names = hashed
        .map(|column| column.name)
        .chain([EXTRA])
        .chain(bodies);
    existing.hash == incoming.hash
        && names.any(|name| stored.get(name) != pushed.get(name))
        && hash::content(table, stored) != existing.hash
}

fn record(table: &Table, existing: &Existing, incoming: &Incoming<'_>) -> Verdict {
    match (incoming.change.op, &existing.row) {
        (Op::Delete, None) => Verdict::keep(Status::Duplicate),
        (Op::Delete, Some(_)) => delete(table, existing, incoming),
        // A counter alone resurrects nothing.
        (Op::Upsert, None) if !incoming.change.register => Verdict::keep(Status::Superseded),
        (Op::Upsert, None) if is_what_was_deleted(table, existing, incoming) => {
            Verdict::keep(Status::Superseded)
        }
        (Op::Upsert, None) => resurrect(table, existing, incoming),
        (Op::Upsert, Some(stored)) => update(table, existing, stored, incoming),
    }
}

/// An update beats a concurrent delete. A change of other columns than the register's is no
/// update in this sense: the delete then still carries the register's hash. Of a content below
/// its base, in a database that was set back, nobody knows whether it was made before the delete
/// or beside it: it is deleted, and kept as the losing side of a conflict.
fn delete(table: &Table, existing: &Existing, incoming: &Incoming<'_>) -> Verdict {
    let removes = || tombstone(existing, incoming);
    if follows(table, existing, incoming) || existing.hash == incoming.hash {
        Verdict::store(Status::Applied, removes())
    } else if incoming.change.base > Some(existing.version) {
        Verdict {
            status: Status::Conflict,
            write: Some(removes()),
            losing: Some(Losing::Existing),
        }
    } else {
        Verdict::keep(Status::Superseded)
    }
}

/// Returns whether a row comes again with the very content that was deleted, from one who had it
/// before: a server that was set back is given what it lacks, and the delete came first.
fn is_what_was_deleted(table: &Table, existing: &Existing, incoming: &Incoming<'_>) -> bool {
    let had = incoming.change.base.is_some() && !follows(table, existing, incoming);
    had && existing.hash == incoming.hash
}

fn resurrect(table: &Table, existing: &Existing, incoming: &Incoming<'_>) -> Verdict {
    let row = incoming
        .change
        .row
        .as_ref()
        .map(|row| joined(table, row, None, incoming));
    let status = if follows(table, existing, incoming) {
        Status::Applied
    } else {
        Status::Merged
    };
    let version = mint(incoming.corrected, Some(existing.version));
    Verdict::store(status, write(version, incoming.hash, row))
}

fn update(table: &Table, existing: &Existing, stored: &Row, incoming: &Incoming<'_>) -> Verdict {
    let Some(pushed) = incoming.change.row.as_ref() else {
        return Verdict::keep(Status::Superseded);
    };
    let version = mint(incoming.corrected, Some(existing.version));
    if !incoming.change.register || existing.hash == incoming.hash {
        let row = if is_damaged(table, existing, incoming) {
            joined(table, pushed, Some(stored), incoming)
        } else {
            joined(table, stored, Some(pushed), incoming)
        };
        return if row == *stored {
            Verdict::keep(Status::Duplicate)
        } else {
            Verdict::store(Status::Merged, write(version, existing.hash, Some(row)))
        };
    }
    // What was made from a later version is the later one, whatever its device's clock says.
    let newer = (incoming.corrected, incoming.sender) > (existing.version, existing.device)
        || incoming.change.base > Some(existing.version);
    let clean = follows(table, existing, incoming);
    if clean || newer {
        let row = joined(table, pushed, Some(stored), incoming);
        let status = match clean {
            false => Status::Conflict,
            true if row == *pushed => Status::Applied,
            true => Status::Merged,
        };
        let losing = (!clean).then_some(Losing::Existing);
        return Verdict {
            status,
            write: Some(write(version, incoming.hash, Some(row))),
            losing,
        };
    }
    let row = joined(table, stored, Some(pushed), incoming);
    let write = (row != *stored).then(|| write(version, existing.hash, Some(row)));
    Verdict {
        status: Status::Conflict,
        write,
        losing: Some(Losing::Incoming),
    }
}

/// Returns whether the change was made knowing what is stored: it names that version as its base,
/// or a base with the same content, or an earlier state of it, which a database that was set back
/// has; of a row that one device alone writes every version below the base is one. That the sender
/// wrote the version proves nothing: it may have merged a counter beside another's register
/// (ADR 0020).
fn follows(table: &Table, existing: &Existing, incoming: &Incoming<'_>) -> bool {
    let (stored, change) = (Some(existing.version), incoming.change);
    let same = || {
        let hash = change.base_hash.as_ref().and_then(|hash| hash.parse().ok());
        existing.row.is_some() && hash == Some(existing.hash)
    };
    let alone = table.direction == Direction::Up && change.base > stored;
    change.base == stored || change.follows == stored || alone || same()
}

fn tombstone(existing: &Existing, incoming: &Incoming<'_>) -> Write {
    write(
        mint(incoming.corrected, Some(existing.version)),
        existing.hash,
        None,
    )
}

const fn write(version: Version, hash: ContentHash, row: Option<Row>) -> Write {
    Write { version, hash, row }
}

/// Returns the register of one row with the greater of each `max` column of both, and the
/// counters' sums.
fn joined(table: &Table, register: &Row, other: Option<&Row>, incoming: &Incoming<'_>) -> Row {
    let mut row = Row::new();
    for column in table.columns {
        let value = match column.merge {
            Merge::Lww | Merge::Owner => register.get(column.name).cloned(),
            Merge::Max => {
                let other = other.and_then(|row| row.get(column.name));
                greater(column.ty, register.get(column.name), other).cloned()
            }
            Merge::Counter => {
                let sum = incoming.counters.get(column.name);
                sum.or_else(|| register.get(column.name)).cloned()
            }
        };
        if let Some(value) = value {
            row.insert(column.name.to_owned(), value);
        }
    }
    if let Some(extra) = register.get(EXTRA) {
        row.insert(EXTRA.to_owned(), extra.clone());
    }
    row
}

fn greater<'a>(ty: ColumnType, a: Option<&'a Value>, b: Option<&'a Value>) -> Option<&'a Value> {
    let (Some(left), Some(right)) = (a, b) else {
        return a.or(b);
    };
    let right_wins = match ty {
        ColumnType::Integer => right.as_i64() > left.as_i64(),
        ColumnType::Real => right.as_f64() > left.as_f64(),
        _ => right.as_str() > left.as_str(),
    };
    Some(if right_wins { right } else { left })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{canonical, clock, hash};
    use coditect_protocol::RowId;
    use coditect_protocol::catalogue::by_cloud_name;
    use serde_json::json;
    use std::collections::BTreeMap;
    use uuid::Uuid;

    const A: DeviceId = DeviceId::new(Uuid::from_u128(1));
    const B: DeviceId = DeviceId::new(Uuid::from_u128(2));

    fn learning(text: &str) -> Option<Value> {
        Some(json!({"skill_name": "s", "learning": text}))
    }

    fn existing(table: &Table, at: i64, device: DeviceId, row: Option<Value>) -> Existing {
        let row = row.map(|row| canonical::row(table, row.as_object().unwrap().clone()));
        let hash = hash::content(table, row.as_ref().unwrap_or(&Row::new()));
        Existing {
            version: clock::propose(at, 0),
            device,
            hash,
            row,
        }
    }

    struct Push {
        base: Option<i64>,
        follows: Option<i64>,
        base_hash: Option<Value>,
        at: i64,
        register: bool,
        row: Option<Value>,
        hash_of: Option<Value>,
        counters: Value,
    }

    fn push(base: Option<i64>, at: i64, row: Option<Value>) -> Push {
        Push {
            base,
            follows: None,
            base_hash: None,
            at,
            register: true,
            row,
            hash_of: None,
            counters: json!({}),
        }
    }

    fn run(table: &str, existing: Option<&Existing>, push: Push) -> Verdict {
        let table = by_cloud_name(table).unwrap();
        let canonical = |row: &Value| canonical::row(table, row.as_object().unwrap().clone());
        let row = push.row.as_ref().map(canonical);
        let hashed = push.hash_of.as_ref().map(canonical).or_else(|| row.clone());
        let hash = hash::content(table, &hashed.unwrap_or_default());
        let change = Change {
            table: table.cloud.to_owned(),
            id: RowId::new(Uuid::nil()),
            op: if row.is_some() {
                Op::Upsert
            } else {
                Op::Delete
            },
            base: push.base.map(|at| clock::propose(at, 0)),
            follows: push.follows.map(|at| clock::propose(at, 0)),
            base_hash: (push.base_hash.as_ref())
                .map(|row| hash::content(table, &canonical(row)).to_string()),
            proposed: clock::propose(push.at, 0),
            register: push.register,
            hash: hash.to_string(),
            created_at: String::new(),
            updated_at: String::new(),
            row,
            counters: BTreeMap::new(),
        };
        let counters = push.counters.as_object().unwrap();
        let corrected = change.proposed;
        let incoming = Incoming {
            change: &change,
            hash,
            corrected,
            sender: B,
            counters,
        };
        decide(table, existing, &incoming)
    }

    fn learnings() -> &'static Table {
        by_cloud_name("org_skill_learnings").unwrap()
    }

    #[test]
    fn damaged_bytes_give_way_to_those_that_fit_the_hash() {
        for (table, right, damaged) in [
            (
                "org_skill_learnings",
                json!({"skill_name": "s", "learning": "right", "usage_count": 3}),
                json!({"skill_name": "s", "learning": "rihgt", "usage_count": 3}),
            ),
            (
                "context_messages",
                json!({"role": "user", "content": "right"}),
                json!({"role": "user", "content": "rihgt"}),
            ),
        ] {
            let entry = by_cloud_name(table).unwrap();
            let canonical = |row: &Value| canonical::row(entry, row.as_object().unwrap().clone());
            let mut stored = existing(entry, 50, B, Some(right.clone()));
            let sound = run(
                table,
                Some(&stored),
                push(Some(50), 50, Some(right.clone())),
            );
            assert_eq!(
                (sound.status, sound.write),
                (Status::Duplicate, None),
                "{table}"
            );
            stored.row = Some(canonical(&damaged));
            let mended = run(
                table,
                Some(&stored),
                push(Some(50), 50, Some(right.clone())),
            );
            assert_eq!(
                (mended.status, mended.losing),
                (Status::Merged, None),
                "{table}"
            );
            let write = mended.write.unwrap();
            assert_eq!(write.row, Some(canonical(&right)), "{table}");
            assert!(
                write.version > stored.version && write.hash == stored.hash,
                "{table}"
            );
        }
    }

    #[test]
    fn an_edit_of_the_stored_version_is_applied() {
        let stored = existing(learnings(), 10, A, learning("old"));
        let verdict = run(
            "org_skill_learnings",
            Some(&stored),
            push(Some(10), 20, learning("new")),
        );
        assert_eq!((verdict.status, verdict.losing), (Status::Applied, None));
        assert_eq!(verdict.write.unwrap().version, clock::propose(20, 0));
    }

    #[test]
    fn an_edit_with_a_late_clock_still_goes_above_its_base() {
        let stored = existing(learnings(), 10, A, learning("old"));
        let verdict = run(
            "org_skill_learnings",
            Some(&stored),
            push(Some(10), 5, learning("new")),
        );
        assert_eq!(verdict.status, Status::Applied);
        assert_eq!(verdict.write.unwrap().version, clock::propose(10, 1));
    }

    #[test]
    fn of_concurrent_edits_the_higher_version_wins_and_the_other_is_kept() {
        let stored = existing(learnings(), 10, A, learning("theirs"));
        let wins = run(
            "org_skill_learnings",
            Some(&stored),
            push(Some(3), 20, learning("ours")),
        );
        assert_eq!(
            (wins.status, wins.losing),
            (Status::Conflict, Some(Losing::Existing))
        );
        assert_eq!(wins.write.unwrap().row.unwrap()["learning"], "ours");
        let loses = run(
            "org_skill_learnings",
            Some(&stored),
            push(Some(3), 9, learning("ours")),
        );
        assert_eq!(
            (loses.status, loses.losing),
            (Status::Conflict, Some(Losing::Incoming))
        );
        assert_eq!(loses.write, None);
    }

    #[test]
    fn a_version_of_its_own_is_no_proof_that_the_sender_knew_the_register() {
        let stored = existing(
            learnings(),
            10,
            B,
            learning("theirs, merged with our counter"),
        );
        let verdict = run(
            "org_skill_learnings",
            Some(&stored),
            push(Some(3), 20, learning("new")),
        );
        assert_eq!(
            (verdict.status, verdict.losing),
            (Status::Conflict, Some(Losing::Existing))
        );
    }

    #[test]
    fn a_counter_that_was_merged_meanwhile_is_no_other_edit() {
        let stored = existing(learnings(), 10, A, learning("before"));
        let mut edit = push(Some(3), 20, learning("after"));
        edit.base_hash = learning("before");
        let verdict = run("org_skill_learnings", Some(&stored), edit);
        assert_eq!((verdict.status, verdict.losing), (Status::Applied, None));
        assert_eq!(verdict.write.unwrap().row.unwrap()["learning"], "after");
    }

    #[test]
    fn counters_add_up_beside_a_register_that_did_not_change() {
        let stored = existing(learnings(), 10, A, learning("theirs, edited meanwhile"));
        let mut increment = push(Some(3), 20, learning("before their edit"));
        increment.register = false;
        increment.counters = json!({"usage_count": 7});
        let verdict = run("org_skill_learnings", Some(&stored), increment);
        assert_eq!((verdict.status, verdict.losing), (Status::Merged, None));
        let write = verdict.write.unwrap();
        let row = write.row.unwrap();
        assert_eq!((&row["usage_count"], write.hash), (&json!(7), stored.hash));
        assert_eq!(row["learning"], "theirs, edited meanwhile");
    }

    #[test]
    fn greater_values_win_without_conflict() {
        let table = by_cloud_name("context_sessions").unwrap();
        let row = |count: i64, end: &str| {
            Some(json!({"session_id": "s", "message_count": count, "end_time": end}))
        };
        let stored = existing(table, 10, A, row(5, "2026-01-02"));
        let verdict = run(
            "context_sessions",
            Some(&stored),
            push(None, 20, row(9, "2026-01-01")),
        );
        let merged = verdict.write.unwrap().row.unwrap();
        assert_eq!(verdict.status, Status::Merged);
        assert_eq!(merged["message_count"], 9);
        assert_eq!(merged["end_time"], "2026-01-02T00:00:00.000000Z");
        let less = run(
            "context_sessions",
            Some(&stored),
            push(None, 20, row(4, "2026-01-01")),
        );
        assert_eq!(less, Verdict::keep(Status::Duplicate));
    }

    #[test]
    fn an_update_beats_a_delete_whichever_comes_first() {
        let stored = existing(learnings(), 10, A, learning("edited"));
        let mut delete = push(Some(3), 20, None);
        delete.hash_of = learning("before");
        let verdict = run("org_skill_learnings", Some(&stored), delete);
        assert_eq!(verdict, Verdict::keep(Status::Superseded));

        let deleted = existing(learnings(), 10, A, None);
        let verdict = run(
            "org_skill_learnings",
            Some(&deleted),
            push(Some(3), 4, learning("new")),
        );
        assert_eq!(verdict.status, Status::Merged);
        let write = verdict.write.unwrap();
        assert!(write.row.is_some() && write.version > deleted.version);
    }

    #[test]
    fn what_was_deleted_does_not_come_back_with_one_who_had_it() {
        let mut deleted = existing(learnings(), 20, A, None);
        let learning = learning("same");
        let table = learnings();
        let row = canonical::row(
            table,
            learning.as_ref().unwrap().as_object().unwrap().clone(),
        );
        deleted.hash = hash::content(table, &row);
        let push = |base| push(base, 10, learning.clone());
        let verdict = |base| run("org_skill_learnings", Some(&deleted), push(base)).status;
        assert_eq!(verdict(Some(10)), Status::Superseded);
        assert_eq!(verdict(Some(20)), Status::Applied);
        assert_eq!(verdict(None), Status::Merged);
    }

    #[test]
    fn a_delete_is_not_stopped_by_a_counter() {
        let stored = existing(learnings(), 10, A, learning("same"));
        let mut delete = push(Some(3), 20, None);
        delete.hash_of = learning("same");
        let verdict = run("org_skill_learnings", Some(&stored), delete);
        assert_eq!(
            (verdict.status, verdict.write.unwrap().row),
            (Status::Applied, None)
        );

        let deleted = existing(learnings(), 10, A, None);
        let mut increment = push(Some(3), 20, learning("same"));
        increment.register = false;
        let verdict = run("org_skill_learnings", Some(&deleted), increment);
        assert_eq!(verdict, Verdict::keep(Status::Superseded));
    }

    #[test]
    fn the_first_accepted_fact_stays_and_its_tombstone_is_final() {
        let table = by_cloud_name("context_messages").unwrap();
        let row = |text: &str| {
            Some(json!({"message_id": "m", "session_id": "s", "role": "user", "content": text}))
        };
        let stored = existing(table, 10, A, row("first"));
        let other = run(
            "context_messages",
            Some(&stored),
            push(None, 20, row("second")),
        );
        assert_eq!(other, Verdict::keep(Status::Duplicate));
        let deleted = existing(table, 10, A, None);
        let again = run(
            "context_messages",
            Some(&deleted),
            push(None, 20, row("first")),
        );
        assert_eq!(again, Verdict::keep(Status::Duplicate));
    }

    #[test]
    fn an_earlier_state_that_a_restored_server_has_makes_no_conflict_if_it_is_known() {
        let stored = existing(learnings(), 10, A, learning("from the backup"));
        for (row, tombstone) in [(learning("later"), false), (None, true)] {
            let mut known = push(Some(15), 15, row.clone());
            known.follows = Some(10);
            let verdict = run("org_skill_learnings", Some(&stored), known);
            assert_eq!((verdict.status, verdict.losing), (Status::Applied, None));

            let unknown = push(Some(15), 15, row);
            let verdict = run("org_skill_learnings", Some(&stored), unknown);
            assert_eq!(
                (verdict.status, verdict.losing),
                (Status::Conflict, Some(Losing::Existing))
            );
            let row = verdict.write.unwrap().row;
            assert_eq!(row.is_none(), tombstone);
        }
    }
}
