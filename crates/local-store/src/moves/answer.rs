//! What the server answered: the row, its base, its mark and its conflicts go to the new scope in
//! one transaction, and a tombstone's base stays in the old one.

use coditect_core::backoff;
use coditect_core::hash;
use coditect_core::sync::MoveSettled;
use coditect_protocol::catalogue::{Table, by_cloud_name};
use coditect_protocol::limits::ATTEMPTS_MAX;
use coditect_protocol::wire::moves::{MoveReply, MoveRequest, Moved};
use coditect_protocol::wire::push::Status;
use coditect_protocol::wire::{Op, Stored};
use coditect_protocol::{BatchId, ErrorCode, Problem};
use rusqlite::{OptionalExtension as _, params};

use crate::LocalStore;
use crate::base::Base;
use crate::conflicts::{Kind, NewConflict};
use crate::database::meta;
use crate::error::{Error, InFile as _, Result};
use crate::marks::{self, Mark};
use crate::statements::{self, LocalRow};
use crate::work::Work;

impl LocalStore {
    /// Stores the outcomes of a move. Rows that are not on their way with this batch any more
    /// were settled before: nothing changes.
    ///
    /// # Errors
    /// [`Error::ReplyMismatch`] when the reply has another number of outcomes than the request
    /// has rows, or when the database fails.
    pub fn settle_move(
        &mut self,
        request: &MoveRequest,
        reply: &MoveReply,
        now_ms: i64,
    ) -> Result<MoveSettled> {
        if reply.outcomes.len() != request.moves.len() {
            return Err(Error::ReplyMismatch(request.batch_id));
        }
        let user = self.owner()?.user.get();
        let (from, to) = (request.from.to_local(user), request.to.to_local(user));
        self.write(request.file, |work| {
            let mut settled = MoveSettled::default();
            let epoch = meta(work.tx, "epoch").in_file(work.file)?;
            // A database that was set back: the run that finds out asks again.
            if epoch.is_some_and(|epoch| epoch != reply.epoch.to_string()) {
                return Ok(settled);
            }
            for (wanted, outcome) in request.moves.iter().zip(&reply.outcomes) {
                let table = by_cloud_name(&wanted.table).ok_or_else(|| work.corrupt("move"))?;
                let id = wanted.id.to_string();
                let Some(n) = on_its_way(work, table, &id, request.batch_id)? else {
                    continue;
                };
                if outcome.status == Status::Rejected {
                    settled.refused += 1;
                    refused(work, table, &from, n, outcome, now_ms)?;
                    continue;
                }
                settled.moved += 1;
                if let Some((left, entered)) = outcome.left.as_ref().zip(outcome.entered.as_ref()) {
                    arrive(work, table, (&from, &to), left, entered, now_ms)?;
                }
                work.forget_move(table, &id)?;
            }
            Ok(settled)
        })
    }

    /// Puts the rows of a move aside that was refused as a whole.
    ///
    /// # Errors
    /// When the database fails.
    pub fn refuse_move(
        &mut self,
        request: &MoveRequest,
        problem: &Problem,
        now_ms: i64,
    ) -> Result<MoveSettled> {
        let reason = problem.detail.as_deref().unwrap_or(&problem.title);
        self.write(request.file, |work| {
            let mut settled = MoveSettled::default();
            for wanted in &request.moves {
                let table = by_cloud_name(&wanted.table).ok_or_else(|| work.corrupt("move"))?;
                let id = wanted.id.to_string();
                if let Some(n) = on_its_way(work, table, &id, request.batch_id)? {
                    settled.refused += 1;
                    put_aside(work, n, Some(problem.code), Some(reason), now_ms)?;
                }
            }
            Ok(settled)
        })
    }
}

/// Returns the number of the wish, if it went out with that batch.
fn on_its_way(work: &Work<'_>, table: &Table, id: &str, batch: BatchId) -> Result<Option<i64>> {
    work.tx
        .prepare_cached(
            "select n from sync_move where table_name = ?1 and id = ?2 and batch_id = ?3",
        )
        .and_then(|mut statement| {
            statement
                .query_row([table.cloud, id, &batch.to_string()], |row| row.get(0))
                .optional()
        })
        .in_file(work.file)
}

/// The row stays where it is, or is gone from there as the server says.
fn refused(
    work: &mut Work<'_>,
    table: &'static Table,
    from: &str,
    n: i64,
    outcome: &Moved,
    now_ms: i64,
) -> Result<()> {
    if let Some(left) = &outcome.left {
        work.apply_one(table, from, left)?;
    }
    put_aside(work, n, outcome.code, outcome.reason.as_deref(), now_ms)
}

/// What may change by itself is tried again; the rest waits for a person.
fn put_aside(
    work: &mut Work<'_>,
    n: i64,
    code: Option<ErrorCode>,
    reason: Option<&str>,
    now_ms: i64,
) -> Result<()> {
    let attempts: u32 = work
        .tx
        .prepare_cached("select attempts + 1 from sync_move where n = ?1")
        .and_then(|mut statement| statement.query_row([n], |row| row.get(0)))
        .in_file(work.file)?;
    let code = code.unwrap_or(ErrorCode::Unknown);
    let lasting = matches!(
        code,
        ErrorCode::NotFound
            | ErrorCode::PermissionDenied
            | ErrorCode::DirectionRefused
            | ErrorCode::UnknownTable
    );
    let parked = lasting || attempts >= ATTEMPTS_MAX;
    let state = if parked { "parked" } else { "queued" };
    // Never at once: the same run must not ask again.
    let delay_ms = 1 + backoff::delay_ms(attempts, work.random.bits());
    work.tx
        .prepare_cached(
            "update sync_move set attempts = ?2, state = ?3, code = ?4, reason = ?5,
               not_before_ms = ?6, batch_id = null
             where n = ?1",
        )
        .and_then(|mut statement| {
            let not_before = now_ms.saturating_add(delay_ms as i64);
            statement.execute(params![
                n,
                attempts,
                state,
                code.as_str(),
                reason,
                not_before
            ])
        })
        .in_file(work.file)?;
    Ok(())
}

/// The server has moved the row.
fn arrive(
    work: &mut Work<'_>,
    table: &'static Table,
    (from, to): (&str, &str),
    left: &Stored,
    entered: &Stored,
    now_ms: i64,
) -> Result<()> {
    let id = left.id.to_string();
    if entered.op == Op::Delete {
        // It was moved on, or back, before this answer came.
        work.apply_one(table, from, left)?;
        return work.apply_one(table, to, entered);
    }
    let live = statements::by_key(work.tx, table, from, &id).in_file(work.file)?;
    let twin = statements::by_key(work.tx, table, to, &id).in_file(work.file)?;
    let seq = live.as_ref().map(|live| live.seq);
    let mark = marks::of_row(work.tx, table, from, &id, seq).in_file(work.file)?;
    if twin.is_some() {
        return meet(work, table, (from, to), live, mark, left, entered, now_ms);
    }
    let old = work.base(table, from, &id)?.filter(|base| !base.deleted);
    let Some(old) = old.filter(|_| live.is_some() || mark.is_some()) else {
        // A pull was faster.
        work.apply_one(table, from, left)?;
        return match entered.row {
            Some(_) => work.apply_one(table, to, entered),
            None => Ok(()),
        };
    };
    if let Some(mut live) = live {
        live.scope = to.to_owned();
        let raw = live.raw.clone();
        statements::write(work.tx, table, &live, &raw).in_file(work.file)?;
    }
    follow(work, table, &id, seq, from, to)?;
    bury(work, table, from, left, Some(&old))?;
    let mut base = old;
    if entered.row.is_some() {
        // Another content than the one that the row here was made from: as if it were pulled.
        work.set_base(table, to, &id, &base)?;
        return work.apply_one(table, to, entered);
    }
    base.version = entered.version;
    base.device = entered.device;
    base.origin = entered.origin;
    base.created_at.clone_from(&entered.created_at);
    work.set_base(table, to, &id, &base)?;
    match mark {
        Some(_) => Ok(()),
        None => work.put_stored(table, to, &id, entered, None),
    }
}

/// Marks and conflicts of a row go where it goes.
fn follow(
    work: &Work<'_>,
    table: &Table,
    id: &str,
    seq: Option<i64>,
    from: &str,
    to: &str,
) -> Result<()> {
    let go = || -> rusqlite::Result<()> {
        work.tx
            .prepare_cached(
                "update sync_queue set row_scope = ?5, adopted = 0 where table_name = ?1
                 and (row_seq = ?4 or row_id = ?3 and row_scope = ?2)",
            )?
            .execute(params![table.cloud, from, id, seq, to])?;
        work.tx
            .prepare_cached(
                "update sync_conflicts set scope = ?4
                 where table_name = ?1 and id = ?3 and scope = ?2",
            )?
            .execute(params![table.cloud, from, id, to])?;
        Ok(())
    };
    go().in_file(work.file)
}

/// Makes the base in the scope that a row left that of its tombstone.
pub(super) fn bury(
    work: &mut Work<'_>,
    table: &Table,
    scope: &str,
    left: &Stored,
    old: Option<&Base>,
) -> Result<()> {
    let base = Base::of(work, table, left, None, old)?;
    work.set_base(table, scope, &left.id.to_string(), &base)
}

/// A row of the same identity is there already: pulled, or somebody else's. It stays; an edit of
/// the one that came, which was not sent yet, is kept beside it.
#[expect(
    clippy::too_many_arguments,
    reason = "all of it was read already; reading it again would cost more than it tells"
)]
fn meet(
    work: &mut Work<'_>,
    table: &'static Table,
    (from, to): (&str, &str),
    live: Option<LocalRow>,
    mark: Option<Mark>,
    left: &Stored,
    entered: &Stored,
    now_ms: i64,
) -> Result<()> {
    let id = left.id.to_string();
    let mut entered = entered.clone();
    if let Some(live) = live {
        let row = live.canonical(table);
        if mark.is_some() {
            work.keep_conflict(&NewConflict {
                table,
                scope: to,
                id: &id,
                kind: Kind::Concurrent,
                op: Op::Upsert,
                version: None,
                device: Some(work.device),
                kept_version: Some(entered.version),
                row: Some(&row),
                at_ms: now_ms,
            })?;
        } else if entered.row.is_none() && hash::content(table, &row).to_string() == entered.hash {
            entered.row = Some(row);
        }
        work.drop_row(table, from, &live)?;
    } else {
        work.forget_marks_of(table, from, &id, None)?;
    }
    let old = work.base(table, from, &id)?;
    bury(work, table, from, left, old.as_ref())?;
    match entered.row {
        Some(_) => work.apply_one(table, to, &entered),
        None => Ok(()),
    }
}

impl Work<'_> {
    /// Removes a row with its marks, without telling the server.
    pub(super) fn drop_row(&mut self, table: &Table, scope: &str, live: &LocalRow) -> Result<()> {
        statements::remove(self.tx, table, live.seq).in_file(self.file)?;
        self.unindex(table, live.seq)?;
        let id = live.id.as_deref().unwrap_or_default();
        self.forget_marks_of(table, scope, id, Some(live.seq))
    }
}
