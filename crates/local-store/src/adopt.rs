//! Adoption: a row that somebody changed by SQL becomes one that can be sent. It gets its id,
//! scope, author, times and hash, is redacted and made canonical; a mark of a row that did not
//! really change goes away (PROTOCOL 10, 14).

use coditect_core::redact::{Report, redact_text, redact_value};
use coditect_core::{canonical, hash};
use coditect_protocol::catalogue::{Class, Direction, File, Identity, Merge, Table};
use coditect_protocol::scope::LOCAL_USER;
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{ErrorCode, RowId};
use rusqlite::params;
use serde_json::Value;
use std::borrow::Cow;
use uuid::Uuid;

use crate::LocalStore;
use crate::base::Base;
use crate::conflicts::{Kind, NewConflict};
use crate::error::{InFile as _, Result};
use crate::marks::{self, Mark, RECONCILE, SCOPE_MOVE};
use crate::statements::{self, LocalRow};
use crate::value;
use crate::work::Work;

/// Marks adopted in one transaction, so that other writers wait milliseconds only.
const CHUNK_MARKS: usize = 200;
/// Marks that one call adopts at most. Of millions the first are sent while the rest waits: the
/// next batches adopt what they send.
pub(crate) const ADOPTED_AT_ONCE: usize = 10_000;

/// What an adoption did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Marks of rows without mark and base that were found (PROTOCOL 11).
    pub found: u64,
    /// Changes ready to be sent.
    pub ready: u64,
    /// Marks of rows that equal what the server has.
    pub unchanged: u64,
    /// Rows that joined another one of the same identity.
    pub joined: u64,
    /// Rows that cannot be sent as they are.
    pub parked: u64,
    /// Rows that another program wrote with a secret, which was replaced.
    pub cleaned: u64,
}

impl LocalStore {
    /// Adopts what changed in a file since the last time: first marks the rows that have neither
    /// base nor mark, then goes through the new marks, a few hundred per transaction.
    ///
    /// # Errors
    /// When the database fails.
    pub fn adopt(&mut self, file: File, now_ms: i64) -> Result<Adopted> {
        let mut adopted = Adopted {
            found: match self.guards.anti_join {
                true => self.mark_unmarked(file, now_ms)?,
                false => 0,
            },
            ..Adopted::default()
        };
        self.adopt_marks(file, now_ms, &mut adopted)?;
        self.index_new(file, 1)?;
        Ok(adopted)
    }

    /// Adopts what is marked, oldest first and [`ADOPTED_AT_ONCE`] at most, without looking for
    /// rows whose mark was removed. Returns whether there is more.
    pub(crate) fn adopt_marks(
        &mut self,
        file: File,
        now_ms: i64,
        adopted: &mut Adopted,
    ) -> Result<bool> {
        self.adopt_marks_behind(file, &mut 0, now_ms, adopted)
    }

    /// The same behind a mark's number, which moves on: what cannot be adopted yet is not looked
    /// at twice.
    pub(crate) fn adopt_marks_behind(
        &mut self,
        file: File,
        after: &mut i64,
        now_ms: i64,
        adopted: &mut Adopted,
    ) -> Result<bool> {
        let cleaned_before = adopted.cleaned;
        let more = self.adopt_chunks(file, after, now_ms, adopted)?;
        if adopted.cleaned > cleaned_before {
            self.forget_overwritten(file);
        }
        Ok(more)
    }

    fn adopt_chunks(
        &mut self,
        file: File,
        after: &mut i64,
        now_ms: i64,
        adopted: &mut Adopted,
    ) -> Result<bool> {
        let mut left = ADOPTED_AT_ONCE;
        loop {
            // Looking does not need the write lock; most of the time there is nothing.
            if fresh_marks(self.read(file)?, *after, 1)
                .in_file(file)?
                .is_empty()
            {
                return Ok(false);
            }
            if left == 0 {
                return Ok(true);
            }
            left = left.saturating_sub(CHUNK_MARKS);
            let behind = *after;
            *after = self.write(file, |work| {
                let marks = fresh_marks(work.tx, behind, CHUNK_MARKS).in_file(file)?;
                let last = marks.last().map_or(i64::MAX, |mark| mark.n);
                for mark in marks {
                    adopt_mark(work, &mark, now_ms, adopted)?;
                }
                Ok(last)
            })?;
        }
    }
}

fn fresh_marks(
    connection: &rusqlite::Connection,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Mark>> {
    let sql = format!(
        "select {} from sync_queue
         where state = 'queued' and adopted = 0 and n > ?1 and table_name is not null
         order by n limit ?2",
        Mark::COLUMNS
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let marks = statement.query_map(params![after, limit as i64], Mark::read)?;
    marks.collect()
}

fn adopt_mark(work: &mut Work<'_>, mark: &Mark, now_ms: i64, adopted: &mut Adopted) -> Result<()> {
    // An earlier mark of the chunk may have removed this one.
    if !still_there(work, mark.n)? {
        return Ok(());
    }
    let Some(table) = statements::table_in(work.file, &mark.table) else {
        let reason = format!("table '{}' is not in this file", mark.table);
        adopted.parked += 1;
        return work.park(mark.n, ErrorCode::UnknownTable.as_str(), &reason);
    };
    if table.direction == Direction::Down {
        let (code, reason) = marks::down_only(table);
        adopted.parked += 1;
        return work.park(mark.n, code, &reason);
    }
    if let Some(seq) = mark.gone_seq {
        work.unindex_if_gone(table, seq)?;
    }
    match live_row(work, table, mark)? {
        Some(live) if work.guards.live_row || mark.row_seq.is_some() => {
            adopt_live(work, table, mark, live, now_ms, adopted)
        }
        _ => adopt_removed(work, table, mark, adopted),
    }
}

fn still_there(work: &Work<'_>, n: i64) -> Result<bool> {
    work.tx
        .prepare_cached("select 1 from sync_queue where n = ?1")
        .and_then(|mut statement| statement.exists([n]))
        .in_file(work.file)
}

fn live_row(work: &Work<'_>, table: &Table, mark: &Mark) -> Result<Option<LocalRow>> {
    if let Some(seq) = mark.row_seq
        && let Some(live) = statements::by_seq(work.tx, table, seq).in_file(work.file)?
    {
        return Ok(Some(live));
    }
    let Some(id) = &mark.id else { return Ok(None) };
    statements::by_key(work.tx, table, &mark.scope, id).in_file(work.file)
}

/// The row is gone. Its delete is sent if the server has the row, or may have it: an earlier
/// change of it may be in a batch without answer.
fn adopt_removed(
    work: &mut Work<'_>,
    table: &Table,
    mark: &Mark,
    adopted: &mut Adopted,
) -> Result<()> {
    let valid = |id: &String| {
        id.parse::<Uuid>()
            .is_ok_and(|uuid| uuid.to_string() == **id)
    };
    let key = work
        .normal_scope(&mark.scope)
        .zip(mark.id.clone().filter(valid));
    let Some((scope, id)) = key else {
        work.remove_mark(mark.n)?;
        return Ok(());
    };
    let waits = work.reconciling || work.may_be_stored(table, &scope, &id)?;
    match work.base(table, &scope, &id)? {
        Some(base) if !base.deleted || base.lost => {
            adopted.ready += 1;
            work.adopt_mark(mark.n, None, &scope, &id)
        }
        _ if waits => work.aim_mark(mark.n, &scope, &id),
        Some(mut base) => {
            base.edit = None;
            base.pulled = None;
            work.set_base(table, &scope, &id, &base)?;
            adopted.unchanged += 1;
            work.remove_mark(mark.n).map(drop)
        }
        None if work.remember_sent(table, &scope, &id, mark.made_ms(0))? => {
            adopted.ready += 1;
            work.adopt_mark(mark.n, None, &scope, &id)
        }
        None => {
            adopted.unchanged += 1;
            work.remove_mark(mark.n).map(drop)
        }
    }
}

fn adopt_live(
    work: &mut Work<'_>,
    table: &'static Table,
    mark: &Mark,
    mut live: LocalRow,
    now_ms: i64,
    adopted: &mut Adopted,
) -> Result<()> {
    let Some(scope) = work.normal_scope(&live.scope) else {
        // Before login nobody knows which organisation `org` is.
        if live.scope.trim() == "org" && work.owner.is_none() {
            return Ok(());
        }
        adopted.parked += 1;
        let reason = "the row's scope is none";
        return work.park(mark.n, ErrorCode::MalformedRow.as_str(), reason);
    };
    let made_ms = mark.made_ms(now_ms);
    let (row, is_cleaned) = clean(table, live.raw.clone());
    adopted.cleaned += u64::from(is_cleaned);
    let scope = ruled_if_new(work, table, &live, &row, made_ms)?.unwrap_or(scope);
    // Asked by the id that the row has: where the device is part of the key, its key would give
    // an id of this device.
    if let Some(own) = &live.id
        && is_foreign(work, table, &scope, own)?
    {
        adopted.parked += 1;
        let reason = "the row belongs to another device";
        return work.park(mark.n, ErrorCode::DirectionRefused.as_str(), reason);
    }
    let id = match identity(work, table, &scope, &live, &row, made_ms)? {
        Ok(id) => id,
        Err(reason) => {
            adopted.parked += 1;
            return work.park(mark.n, ErrorCode::MalformedRow.as_str(), &reason);
        }
    };
    if live.deleted_at.as_deref().is_some_and(|at| !at.is_empty()) {
        return delete_by_sql(work, table, mark, &live, &scope, &id, adopted);
    }
    let twin = statements::by_key(work.tx, table, &scope, &id).in_file(work.file)?;
    if let Some(twin) = twin.filter(|twin| work.guards.join && twin.seq != live.seq) {
        adopted.joined += 1;
        return join(work, table, mark, &live, &row, twin, made_ms);
    }
    let base = work.base(table, &scope, &id)?;
    if base.is_none() && has_moved(work, table, &live, &scope, &id)? {
        return adopt_moved(work, table, mark, live, (&scope, &id), now_ms, adopted);
    }
    let content = hash::content(table, &row);
    let kept = work.may_be_stored(table, &scope, &id)? || mark.action == RECONCILE;
    if let Some(base) = base
        && !kept
        && !base.lost
        && is_unchanged(table, &base, &row, content)
    {
        adopted.unchanged += 1;
        return settle_unchanged(work, table, mark, live, &row, &scope, &id, base);
    }
    live.id = Some(id.clone());
    live.scope = scope.clone();
    live.content_hash = Some(content.to_string());
    stamp(work, &mut live, made_ms);
    statements::write(work.tx, table, &live, &row).in_file(work.file)?;
    work.index(table, live.seq, &row)?;
    adopted.ready += 1;
    work.adopt_mark(mark.n, Some(live.seq), &scope, &id)
}

/// Takes the changed scope of a row that the server has for the wish to move it.
fn adopt_moved(
    work: &mut Work<'_>,
    table: &'static Table,
    mark: &Mark,
    live: LocalRow,
    (scope, id): (&str, &str),
    now_ms: i64,
    adopted: &mut Adopted,
) -> Result<()> {
    if !crate::moves::is_movable(table) {
        adopted.parked += 1;
        let reason = "rows of this table stay in their scope; set it back";
        return work.park(mark.n, SCOPE_MOVE, reason);
    }
    let back = work.moved_by_sql(table, mark, live, scope, id, mark.made_ms(now_ms))?;
    match back.scope == scope {
        true => Ok(()),
        false => adopt_live(work, table, mark, back, now_ms, adopted),
    }
}

/// Returns where a rule wants a row that nobody has adopted yet. What only takes the place of a
/// private row, as by `replace`, stays private.
fn ruled_if_new(
    work: &Work<'_>,
    table: &'static Table,
    live: &LocalRow,
    row: &Row,
    made_ms: i64,
) -> Result<Option<String>> {
    let is_own = work.normal_scope(&live.scope).as_deref() == Some(LOCAL_USER);
    if live.content_hash.is_some() || !is_own {
        return Ok(None);
    }
    let Some(to) = work.ruled_scope(table, row)? else {
        return Ok(None);
    };
    let Ok(id) = identity(work, table, LOCAL_USER, live, row, made_ms)? else {
        return Ok(None);
    };
    let twin = statements::by_key(work.tx, table, LOCAL_USER, &id).in_file(work.file)?;
    let is_known = twin.is_some_and(|twin| twin.seq != live.seq)
        || work.base(table, LOCAL_USER, &id)?.is_some();
    Ok((!is_known).then_some(to))
}

/// Says when a row was changed, and by whom.
fn stamp(work: &Work<'_>, live: &mut LocalRow, made_ms: i64) {
    let made_at = canonical::time_from_ms(made_ms);
    let created = live.created_at.as_deref().and_then(canonical::time);
    live.created_at = Some(created.unwrap_or_else(|| made_at.clone()));
    live.updated_at = Some(made_at);
    live.deleted_at = None;
    live.device_id = Some(work.device.to_string());
    if live.user_id.as_deref().is_none_or(str::is_empty) {
        live.user_id = work.owner.map(|owner| owner.user.to_string());
    }
}

/// Returns the row redacted and canonical.
pub(crate) fn prepare(table: &Table, raw: Row) -> Row {
    clean(table, raw).0
}

/// The same, and whether there was a secret in it.
fn clean(table: &Table, mut raw: Row) -> (Row, bool) {
    let mut report = Report::default();
    for (name, value) in &mut raw {
        let json = table
            .column(name)
            .is_none_or(|column| column.ty == coditect_protocol::catalogue::ColumnType::Json);
        if json {
            redact_value(value, &mut report);
        } else if let Value::String(text) = value
            && let Cow::Owned(clean) = redact_text(text, &mut report)
        {
            *text = clean;
        }
    }
    let is_cleaned = !report.is_empty();
    (canonical::row(table, raw), is_cleaned)
}

/// Returns the row's id: the one it was adopted under, else the one its key gives, else a new
/// one, which a copy of this file would give it, too. The inner error is why there is none.
fn identity(
    work: &Work<'_>,
    table: &Table,
    scope: &str,
    live: &LocalRow,
    row: &Row,
    made_ms: i64,
) -> Result<Result<String, String>> {
    let own = live
        .id
        .as_deref()
        .and_then(|id| id.trim().parse::<Uuid>().ok());
    if let Some(own) = own.map(|own| own.to_string()) {
        let random = table.identity == Identity::Random;
        if random || work.base(table, scope, &own)?.is_some() {
            return Ok(Ok(own));
        }
    }
    Ok(match hash::derived_id(table, row, work.device) {
        Ok(Some(id)) => Ok(id.to_string()),
        Ok(None) => {
            let content = hash::content(table, row);
            Ok(hash::adopted_id(table, work.device, live.seq, made_ms, content).to_string())
        }
        Err(missing) => Err(missing.to_string()),
    })
}

/// A `deleted_at` written by SQL is a delete: live rows only are in the tables.
fn delete_by_sql(
    work: &mut Work<'_>,
    table: &Table,
    mark: &Mark,
    live: &LocalRow,
    scope: &str,
    id: &str,
    adopted: &mut Adopted,
) -> Result<()> {
    statements::remove(work.tx, table, live.seq).in_file(work.file)?;
    work.unindex(table, live.seq)?;
    let gone = Mark {
        row_seq: None,
        scope: scope.to_owned(),
        id: Some(id.to_owned()),
        ..mark.clone()
    };
    adopt_removed(work, table, &gone, adopted)
}

/// A second local row of the same identity joins the first: the first one's register stays,
/// gaps are filled, greater `max` values are taken; what the second said otherwise is kept.
fn join(
    work: &mut Work<'_>,
    table: &'static Table,
    mark: &Mark,
    second: &LocalRow,
    row: &Row,
    first: LocalRow,
    made_ms: i64,
) -> Result<()> {
    statements::remove(work.tx, table, second.seq).in_file(work.file)?;
    work.unindex(table, second.seq)?;
    work.remove_mark(mark.n)?;
    let before = first.canonical(table);
    let (scope, id) = (first.scope.clone(), first.id.clone().unwrap_or_default());
    let mut joined = before.clone();
    let mut differs = false;
    for column in table.columns {
        let (old, new) = (joined.get(column.name), row.get(column.name));
        let Some(new) = new.filter(|new| Some(*new) != old) else {
            continue;
        };
        let takes = match column.merge {
            Merge::Max => value::is_greater(column, Some(new), old),
            Merge::Counter => false,
            Merge::Lww | Merge::Owner => old.is_none() && table.class != Class::Fact,
        };
        if takes {
            joined.insert(column.name.to_owned(), new.clone());
        } else {
            differs |= column.hashed();
        }
    }
    if differs {
        work.keep_conflict(&NewConflict {
            table,
            scope: &scope,
            id: &id,
            kind: Kind::SameIdentity,
            op: Op::Upsert,
            version: None,
            device: Some(work.device),
            kept_version: None,
            row: Some(row),
            at_ms: made_ms,
        })?;
    }
    if joined != before {
        statements::write(work.tx, table, &first, &joined).in_file(work.file)?;
        let seq = Some(first.seq);
        work.put_mark(table, seq, &scope, Some(&id), "update", made_ms, false)?;
    }
    Ok(())
}

pub(crate) fn is_foreign(work: &Work<'_>, table: &Table, scope: &str, id: &str) -> Result<bool> {
    work.tx
        .prepare_cached(
            "select 1 from sync_foreign where table_name = ?1 and scope = ?2 and id = ?3",
        )
        .and_then(|mut statement| statement.exists([table.cloud, scope, id]))
        .in_file(work.file)
}

/// Returns whether the row was acknowledged in another scope, from which it is gone.
fn has_moved(
    work: &Work<'_>,
    table: &Table,
    live: &LocalRow,
    scope: &str,
    id: &str,
) -> Result<bool> {
    if live.content_hash.is_none() {
        return Ok(false);
    }
    let sql = format!(
        "select 1 from sync_base b
         where b.table_name = ?1 and b.id = ?2 and b.scope <> ?3 and b.deleted = 0
           and not exists (select 1 from \"{}\" t where t.id = b.id and t.scope = b.scope)
           and not exists (select 1 from sync_queue q where q.table_name = b.table_name
             and q.row_id = b.id and q.row_scope = b.scope and q.action = 'delete')",
        table.local
    );
    work.tx
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.exists([table.cloud, id, scope]))
        .in_file(work.file)
}

/// Returns whether the row holds nothing that the server lacks.
fn is_unchanged(table: &Table, base: &Base, row: &Row, content: hash::ContentHash) -> bool {
    if base.deleted && base.edit.is_none() {
        return false;
    }
    let register = match base.edit {
        Some(edit) => {
            let back = edit.acknowledged() == Some(content);
            back || (!base.deleted && base.hash == content)
        }
        None => base.hash == content,
    };
    let counters = || {
        let totals = base.totals(row);
        base.counters
            .iter()
            .all(|(name, counter)| totals.get(name) == Some(&counter.own))
    };
    let maxima = || {
        let same = |column: &coditect_protocol::catalogue::Column| {
            let (local, known) = (row.get(column.name), base.maxima.get(column.name));
            // While the base is ahead, only a greater value is news.
            local == known || (base.edit.is_some() && !value::is_greater(column, local, known))
        };
        table.columns_by(Merge::Max).all(same)
    };
    register && counters() && maxima()
}

/// The edit was undone, or is what the server has: the row takes over what was pulled meanwhile.
#[expect(
    clippy::too_many_arguments,
    reason = "all of it was read already; reading it again would cost more than it tells"
)]
fn settle_unchanged(
    work: &mut Work<'_>,
    table: &Table,
    mark: &Mark,
    mut live: LocalRow,
    row: &Row,
    scope: &str,
    id: &str,
    mut base: Base,
) -> Result<()> {
    work.remove_mark(mark.n)?;
    if let Some(pulled) = base.pulled.take() {
        base.edit = None;
        work.set_base(table, scope, id, &base)?;
        return work.put_stored(table, scope, id, &pulled, pulled.row.as_ref());
    }
    if base.edit.take().is_some() {
        work.set_base(table, scope, id, &base)?;
    }
    let content = hash::content(table, row).to_string();
    let known = live.id.as_deref() == Some(id)
        && live.content_hash.as_deref() == Some(&content)
        && live.raw == *row
        && live.scope == scope
        && live.version == Some(base.version.to_i64())
        && live.device_id == Some(base.device.to_string());
    if !known {
        live.id = Some(id.to_owned());
        live.scope = scope.to_owned();
        live.content_hash = Some(content);
        live.version = Some(base.version.to_i64());
        live.device_id = Some(base.device.to_string());
        statements::write(work.tx, table, &live, row).in_file(work.file)?;
    }
    work.index(table, live.seq, row)
}

/// Returns a row id from its stored text.
pub(crate) fn row_id(work: &Work<'_>, id: &str) -> Result<RowId> {
    id.parse().map_err(|_| work.corrupt("id of a row"))
}
