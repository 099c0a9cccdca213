//! The reply to a batch: each row takes over what the server stored, unless it was edited again
//! while the batch was out (PROTOCOL 9, 16, 17, 19, 21). One transaction; settling a batch a
//! second time changes nothing.

use coditect_core::backoff;
use coditect_core::hash::ContentHash;
use coditect_core::sync::{Outgoing, Settled};
use coditect_protocol::catalogue::{Class, Merge, Table};
use coditect_protocol::limits::ATTEMPTS_MAX;
use coditect_protocol::wire::push::{Change, Outcome, PushReply, Status};
use coditect_protocol::wire::{Op, Stored};
use coditect_protocol::{BatchId, ErrorCode, Problem};
use rusqlite::{OptionalExtension as _, params};

use crate::LocalStore;
use crate::base::{Base, Edit};
use crate::conflicts::{Kind, NewConflict};
use crate::database::set_meta;
use crate::error::{Error, InFile as _, Result};
use crate::guards::FileGuard;
use crate::marks;
use crate::statements::{self, LocalRow};
use crate::work::Work;

/// The local side of one change when its answer arrives.
struct Local<'a> {
    table: &'static Table,
    scope: &'a str,
    id: String,
    /// The row; without its columns where the answer does not depend on them.
    live: Option<LocalRow>,
    base: Option<Base>,
    /// Whether the row is as it was when it was sent.
    settled: bool,
}

impl LocalStore {
    /// Stores the outcomes of a batch. A batch that is not the stored one was settled before:
    /// nothing changes.
    ///
    /// # Errors
    /// [`Error::ReplyMismatch`] when the reply has another number of outcomes than the batch
    /// has changes, or when the database fails.
    pub fn settle(
        &mut self,
        outgoing: &Outgoing,
        reply: &PushReply,
        now_ms: i64,
    ) -> Result<Settled> {
        let request = &outgoing.request;
        if reply.outcomes.len() != request.changes.len() {
            return Err(Error::ReplyMismatch(request.batch_id));
        }
        let owner = self.owner()?;
        let scope = request.scope.to_local(owner.user.get());
        self.write(request.file, |work| {
            let mut settled = Settled::default();
            let Some(numbers) = batch_numbers(work, request.batch_id)? else {
                return Ok(settled);
            };
            if numbers.len() != request.changes.len() {
                return Err(work.corrupt("stored batch"));
            }
            drop_batch(work)?;
            let pairs = request.changes.iter().zip(&reply.outcomes).zip(numbers);
            for ((change, outcome), n) in pairs {
                count(&mut settled, outcome.status);
                settle_change(work, &scope, change, n, outcome, now_ms)?;
            }
            if work.guards.token {
                keep_token(work, reply)?;
            }
            Ok(settled)
        })
    }

    /// Counts a refusal of the whole batch against each of its rows and forgets the batch, so
    /// that the next one is made anew.
    ///
    /// # Errors
    /// When the database fails.
    pub fn refuse(
        &mut self,
        outgoing: &Outgoing,
        problem: &Problem,
        now_ms: i64,
    ) -> Result<Settled> {
        let request = &outgoing.request;
        self.write(request.file, |work| {
            let mut settled = Settled::default();
            let Some(numbers) = batch_numbers(work, request.batch_id)? else {
                return Ok(settled);
            };
            drop_batch(work)?;
            let reason = problem.detail.as_deref().unwrap_or(&problem.title);
            for n in numbers {
                settled.rejected += 1;
                reject(work, n, Some(problem.code), Some(reason), now_ms)?;
            }
            Ok(settled)
        })
    }
}

fn count(settled: &mut Settled, status: Status) {
    let counter = match status {
        Status::Applied | Status::Merged => &mut settled.pushed,
        Status::Duplicate | Status::Superseded => &mut settled.duplicates,
        Status::Conflict => &mut settled.conflicts,
        Status::Rejected => &mut settled.rejected,
    };
    *counter += 1;
}

/// Returns the mark numbers of the stored batch in the order of its changes; none if the stored
/// batch is another one, or none.
pub(crate) fn batch_numbers(work: &Work<'_>, batch: BatchId) -> Result<Option<Vec<i64>>> {
    let read = || -> rusqlite::Result<Option<Vec<i64>>> {
        let known = work
            .tx
            .prepare_cached("select 1 from sync_batch where batch_id = ?1")?
            .exists([batch.to_string()])?;
        if !known {
            return Ok(None);
        }
        let mut statement = work
            .tx
            .prepare_cached("select n from sync_batch_mark order by position")?;
        let numbers = statement.query_map([], |row| row.get(0))?;
        numbers.collect::<rusqlite::Result<Vec<_>>>().map(Some)
    };
    read().in_file(work.file)
}

/// Forgets the stored batch; its marks stay.
pub(crate) fn drop_batch(work: &Work<'_>) -> Result<()> {
    let forget = || -> rusqlite::Result<()> {
        work.tx.execute("delete from sync_batch", [])?;
        work.tx.execute("delete from sync_batch_mark", [])?;
        work.tx.execute(
            "update sync_queue set batch_id = null
             where batch_id is not null and table_name is not null",
            [],
        )?;
        Ok(())
    };
    forget().in_file(work.file)
}

/// Key of the file's note in which epoch its token was given out.
pub(crate) const TOKEN_EPOCH: &str = "token_epoch";

fn keep_token(work: &Work<'_>, reply: &PushReply) -> Result<()> {
    let keep = || -> rusqlite::Result<()> {
        work.tx.execute("delete from sync_token", [])?;
        work.tx
            .execute("insert into sync_token (token) values (?1)", [&reply.token])?;
        set_meta(work.tx, TOKEN_EPOCH, &reply.epoch.to_string())
    };
    keep().in_file(work.file)
}

/// Notes a refusal. After [`ATTEMPTS_MAX`] of them the mark is parked; before, it waits a while.
fn reject(
    work: &mut Work<'_>,
    n: i64,
    code: Option<ErrorCode>,
    reason: Option<&str>,
    now_ms: i64,
) -> Result<()> {
    let attempts: Option<u32> = work
        .tx
        .prepare_cached("select attempts from sync_queue where n = ?1")
        .and_then(|mut statement| statement.query_row([n], |row| row.get(0)).optional())
        .in_file(work.file)?;
    let Some(attempts) = attempts.map(|before| before + 1) else {
        return Ok(());
    };
    let state = if attempts >= ATTEMPTS_MAX && work.guards.parking {
        "parked"
    } else {
        "queued"
    };
    // Never at once: the same run must not send the row again.
    let delay_ms = match work.guards.retry_delay {
        true => 1 + backoff::delay_ms(attempts, work.random.bits()),
        false => 0,
    };
    work.tx
        .prepare_cached(
            "update sync_queue set attempts = ?2, retry_count = ?2, state = ?3, code = ?4,
               reason = ?5, not_before_ms = ?6
             where n = ?1",
        )
        .and_then(|mut statement| {
            let code = code.unwrap_or(ErrorCode::Unknown).as_str();
            statement.execute(params![
                n,
                attempts,
                state,
                code,
                reason,
                now_ms.saturating_add(delay_ms as i64)
            ])
        })
        .in_file(work.file)?;
    Ok(())
}

fn settle_change(
    work: &mut Work<'_>,
    scope: &str,
    change: &Change,
    n: i64,
    outcome: &Outcome,
    now_ms: i64,
) -> Result<()> {
    let Some(table) = statements::table_in(work.file, &change.table) else {
        return Err(work.corrupt("stored batch"));
    };
    let id = change.id.to_string();
    let accepted = outcome.status != Status::Rejected;
    let Some(stored) = outcome.stored.as_ref().filter(|_| accepted) else {
        return settle_rejected(work, table, scope, &id, n, outcome, now_ms);
    };
    let follows = change.op == Op::Upsert && FileGuard::EditFollows.is_on();
    if let Some(to) = outcome.moved_to.filter(|_| follows) {
        return crate::moves::retarget(work, table, scope, change, to, stored, now_ms);
    }
    let local = local_side(work, table, scope, id, change, n, stored)?;
    keep_losers(work, &local, change, outcome, stored, now_ms)?;
    // What the server was found not to have is no such state, whatever its version.
    let known = |base: &Base| base.generation == work.generation && !base.lost;
    let stale = |base: &Base| known(base) && base.version > stored.version;
    match &local.base {
        // A pull has brought a later state while the batch was out.
        Some(base) if work.guards.stale_reply && stale(base) => {
            settle_behind(work, &local, change, stored, base.clone())
        }
        _ => settle_ahead(work, &local, change, stored),
    }
}

/// A refused row that a reconciliation sent: the server has another owner for it, and that is
/// the answer.
fn settle_rejected(
    work: &mut Work<'_>,
    table: &Table,
    scope: &str,
    id: &str,
    n: i64,
    outcome: &Outcome,
    now_ms: i64,
) -> Result<()> {
    if outcome.code == Some(ErrorCode::DirectionRefused)
        && let Some(mut base) = work.base(table, scope, id)?.filter(|base| base.lost)
    {
        if table.comes_down() {
            base.lost = false;
            work.set_base(table, scope, id, &base)?;
        } else {
            // Another device was first to push it to a server that had lost it: the row counts
            // there now, and no longer here.
            work.remove_base(table, scope, id)?;
            if !base.deleted {
                work.note_foreign(table, scope, id, base.version, base.device, base.origin)?;
            }
        }
        work.remove_mark(n)?;
        return Ok(());
    }
    reject(work, n, outcome.code, outcome.reason.as_deref(), now_ms)
}

/// Looks at the row as it is now, and clears exactly the mark that was sent.
fn local_side<'a>(
    work: &mut Work<'_>,
    table: &'static Table,
    scope: &'a str,
    id: String,
    change: &Change,
    n: i64,
    stored: &Stored,
) -> Result<Local<'a>> {
    let marked = marks::seq_of(work.tx, n).in_file(work.file)?;
    let is_whole = stored.row.is_some() || table.columns_by(Merge::Counter).next().is_some();
    let live = match is_whole {
        true => statements::by_seq_or_key(work.tx, table, marked, scope, &id),
        false => statements::head_by_seq_or_key(work.tx, table, marked, scope, &id),
    };
    let live = live.in_file(work.file)?;
    let base = work.base(table, scope, &id)?;
    let seq = live.as_ref().map(|live| live.seq);
    let mark = marks::of_row(work.tx, table, scope, &id, seq).in_file(work.file)?;
    let settled = match mark {
        Some(mark) if !work.guards.mark_number => work.remove_mark(mark.n)?,
        Some(mark) if mark.n == n => work.remove_mark(n)?,
        Some(_) => false,
        None => {
            let whole = statements::by_key(work.tx, table, scope, &id).in_file(work.file)?;
            no_mark(work, table, scope, &id, whole.as_ref(), change)?
        }
    };
    Ok(Local {
        table,
        scope,
        id,
        live,
        base,
        settled,
    })
}

/// The mark was removed by hand. If the row was edited since, it needs a new one.
fn no_mark(
    work: &Work<'_>,
    table: &Table,
    scope: &str,
    id: &str,
    live: Option<&LocalRow>,
    change: &Change,
) -> Result<bool> {
    let Some(live) = live else {
        return Ok(change.op == Op::Delete);
    };
    // Counters and growing columns count as well, though no hash covers them.
    // A long value may have come, or gone, in between: that is no edit.
    let form = |row| coditect_core::body::parted(table, row);
    let sent = change.row.clone().map(form);
    let same = change.op == Op::Upsert && sent == Some(form(live.canonical(table)));
    if !same {
        let made_ms = change.proposed.unix_ms() as i64;
        work.put_mark(
            table,
            Some(live.seq),
            scope,
            Some(id),
            "found",
            made_ms,
            false,
        )?;
    }
    Ok(same)
}

/// Keeps what lost: the side that the server names; a fact's edited bytes; and what was refused
/// a place without being named.
fn keep_losers(
    work: &Work<'_>,
    local: &Local<'_>,
    change: &Change,
    outcome: &Outcome,
    stored: &Stored,
    now_ms: i64,
) -> Result<()> {
    if !work.guards.losers {
        return Ok(());
    }
    let mut conflict = NewConflict {
        table: local.table,
        scope: local.scope,
        id: &local.id,
        kind: Kind::Concurrent,
        op: change.op,
        version: Some(change.proposed),
        device: Some(work.device),
        kept_version: Some(stored.version),
        row: change.row.as_ref(),
        at_ms: now_ms,
    };
    if let Some(loser) = &outcome.loser {
        conflict.op = loser.op;
        conflict.version = Some(loser.version);
        conflict.device = Some(loser.device);
        conflict.row = loser.row.as_ref();
        return work.keep_conflict(&conflict);
    }
    let other_content = change.op == Op::Upsert && change.register && stored.hash != change.hash;
    let kind = match (local.table.class, outcome.status) {
        (Class::Fact, _) if change.base.is_some() => Kind::Fact,
        // A duplicate with another content is a batch that came twice: its content was stored, or
        // lost, and something else is stored now. Which it was only the lost reply knew.
        (Class::Record, Status::Conflict | Status::Superseded | Status::Duplicate) => {
            Kind::Concurrent
        }
        _ => return Ok(()),
    };
    if other_content {
        conflict.kind = kind;
        work.keep_conflict(&conflict)?;
    }
    Ok(())
}

/// The usual case: the reply is the latest that is known of the row.
fn settle_ahead(
    work: &mut Work<'_>,
    local: &Local<'_>,
    change: &Change,
    stored: &Stored,
) -> Result<()> {
    let (table, scope, id) = (local.table, local.scope, local.id.as_str());
    let sent_is_stored = change.op == stored.op && change.hash == stored.hash;
    let content = stored.row.as_ref().or(change.row.as_ref());
    let mut base = Base::of(work, table, stored, content, local.base.as_ref())?;
    acknowledge_parts(&mut base, change);
    if !local.settled && !sent_is_stored {
        // Edited again, on top of what lost: still made from what it was made from before.
        base.edit = Some(Edit {
            version: change.base,
            hash: change.hash.parse().ok().filter(|_| change.op == Op::Upsert),
            lost: false,
        });
        base.pulled = Some(stored.clone());
    }
    work.set_base(table, scope, id, &base)?;
    if local.settled {
        let (row, live) = (stored.row.as_ref(), local.live.as_ref());
        work.put_stored_over(table, (scope, id), stored, row, live)?;
    }
    keep_added(work, local, &base)
}

/// What was sent has been overtaken: the row becomes what was pulled meanwhile.
fn settle_behind(
    work: &mut Work<'_>,
    local: &Local<'_>,
    change: &Change,
    stored: &Stored,
    mut base: Base,
) -> Result<()> {
    let (table, scope, id) = (local.table, local.scope, local.id.as_str());
    acknowledge_parts(&mut base, change);
    let pulled = base.pulled.take();
    if !local.settled {
        let sent: Option<ContentHash> = change.hash.parse().ok();
        let version = if change.hash == stored.hash && change.op == stored.op {
            Some(stored.version)
        } else {
            change.base
        };
        base.edit = Some(Edit {
            version,
            hash: sent.filter(|_| change.op == Op::Upsert),
            lost: false,
        });
        base.pulled = pulled;
        work.set_base(table, scope, id, &base)?;
        return keep_added(work, local, &base);
    }
    base.edit = None;
    work.set_base(table, scope, id, &base)?;
    if let Some(pulled) = pulled {
        work.put_stored(table, scope, id, &pulled, pulled.row.as_ref())?;
    }
    keep_added(work, local, &base)
}

/// What was sent of this device's part of each counter is acknowledged now.
fn acknowledge_parts(base: &mut Base, change: &Change) {
    for (name, counter) in &mut base.counters {
        if let Some(part) = change.counters.get(name) {
            counter.own = part.total;
        }
    }
}

/// What was added to counters since the batch was made stays on top of the new base.
fn keep_added(work: &Work<'_>, local: &Local<'_>, base: &Base) -> Result<()> {
    let Some(live) = &local.live else {
        return Ok(());
    };
    if base.counters.is_empty() || base.deleted && local.settled {
        return Ok(());
    }
    // Without an old base all of the local value is this device's own.
    let before = local.base.clone().unwrap_or_else(|| {
        let mut none = base.clone();
        none.counters
            .values_mut()
            .for_each(|counter| *counter = crate::base::Counter::default());
        none
    });
    work.shift_counters(local.table, live.seq, Some(&before), base, &live.raw)
}
