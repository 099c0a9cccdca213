//! An edit that was made before the device knew that its row had been moved: it goes where the
//! row is.

use coditect_core::hash::ContentHash;
use coditect_protocol::Scope;
use coditect_protocol::catalogue::Table;
use coditect_protocol::wire::push::Change;
use coditect_protocol::wire::{Op, Stored};

use super::answer::bury;
use crate::base::{Base, Edit};
use crate::conflicts::{Kind, NewConflict};
use crate::error::{InFile as _, Result};
use crate::marks;
use crate::statements::{self, LocalRow};
use crate::work::Work;

/// Takes an edit that met the tombstone of a moved row to the scope where the row is.
pub(crate) fn retarget(
    work: &mut Work<'_>,
    table: &'static Table,
    scope: &str,
    change: &Change,
    to: Scope,
    left: &Stored,
    now_ms: i64,
) -> Result<()> {
    let id = left.id.to_string();
    let to = match work.owner {
        Some(owner) => to.to_local(owner.user.get()),
        None => to.to_string(),
    };
    let old = work.base(table, scope, &id)?;
    let live = statements::by_key(work.tx, table, scope, &id).in_file(work.file)?;
    let seq = live.as_ref().map(|live| live.seq);
    let mark = marks::of_row(work.tx, table, scope, &id, seq).in_file(work.file)?;
    let made_ms = mark.map_or(now_ms, |mark| mark.made_ms(now_ms));
    bury(work, table, scope, left, old.as_ref())?;
    let Some(live) = live else {
        return work.forget_marks_of(table, scope, &id, None);
    };
    match statements::by_key(work.tx, table, &to, &id).in_file(work.file)? {
        Some(twin) => onto(
            work,
            table,
            (scope, &to),
            (live, old),
            twin,
            change,
            made_ms,
        ),
        // Not pulled yet. When it is, the row is dirty, and the push settles it.
        None => work.rescope(table, live, &to, made_ms).and_then(|()| {
            // What was removed with the way is the tombstone: it is needed for the digest.
            bury(work, table, scope, left, old.as_ref())
        }),
    }
}

/// Puts the edit on top of the moved row, as if that had been pulled over it.
fn onto(
    work: &mut Work<'_>,
    table: &'static Table,
    (scope, to): (&str, &str),
    (mut live, old): (LocalRow, Option<Base>),
    twin: LocalRow,
    change: &Change,
    made_ms: i64,
) -> Result<()> {
    let id = live.id.clone().unwrap_or_default();
    let own_edit = marks::of_row(work.tx, table, to, &id, Some(twin.seq)).in_file(work.file)?;
    let there = work.base(table, to, &id)?;
    let Some((there, old)) = there.filter(|_| own_edit.is_none()).zip(old) else {
        let row = live.canonical(table);
        work.keep_conflict(&NewConflict {
            table,
            scope: to,
            id: &id,
            kind: Kind::Concurrent,
            op: Op::Upsert,
            version: Some(change.proposed),
            device: Some(work.device),
            kept_version: None,
            row: Some(&row),
            at_ms: made_ms,
        })?;
        return work.drop_row(table, scope, &live);
    };
    let current = stored(work, table, &twin, &there)?;
    work.drop_row(table, to, &twin)?;
    let raw = live.raw.clone();
    live.scope = to.to_owned();
    statements::write(work.tx, table, &live, &raw).in_file(work.file)?;
    work.forget_marks_of(table, scope, &id, Some(live.seq))?;
    let mut base = Base::of(work, table, &current, current.row.as_ref(), Some(&old))?;
    let made_from = made_from(change, &old);
    if made_from.hash != Some(base.hash) {
        base.edit = Some(made_from);
        base.pulled = Some(current);
    }
    work.set_base(table, to, &id, &base)?;
    work.shift_counters(table, live.seq, Some(&old), &base, &raw)?;
    work.put_mark(
        table,
        Some(live.seq),
        to,
        Some(&id),
        "update",
        made_ms,
        false,
    )?;
    Ok(())
}

/// Returns what the edit was made from.
fn made_from(change: &Change, old: &Base) -> Edit {
    let hash: Option<ContentHash> = match old.edit {
        Some(edit) => edit.hash,
        None => (!old.deleted).then_some(old.hash),
    };
    Edit {
        version: change.base,
        hash,
        lost: old.edit.is_some_and(|edit| edit.lost),
    }
}

fn stored(work: &Work<'_>, table: &Table, twin: &LocalRow, base: &Base) -> Result<Stored> {
    let id = twin.id.as_deref().unwrap_or_default();
    let user = twin.user_id.as_deref();
    Ok(Stored {
        table: table.cloud.to_owned(),
        id: crate::adopt::row_id(work, id)?,
        op: Op::Upsert,
        version: base.version,
        device: base.device,
        origin: base.origin,
        user_id: user.and_then(|user| user.parse().ok()),
        hash: base.hash.to_string(),
        cursor: 0,
        created_at: base.created_at.clone(),
        updated_at: twin.updated_at.clone().unwrap_or_default(),
        row: Some(twin.canonical(table)),
    })
}
