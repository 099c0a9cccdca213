//! What goes out: a batch of adopted marks of one stream, stored until it is answered and sent
//! again byte for byte (PROTOCOL 24).

use coditect_core::clock::propose;
use coditect_core::hash::ContentHash;
use coditect_core::sync::Outgoing;
use coditect_core::{canonical, hash};
use coditect_protocol::catalogue::{File, Merge, Table};
use coditect_protocol::limits::{PUSH_BYTES_TARGET, PUSH_CHANGES_MAX, RETRY_CAP_MS, ROW_BYTES_MAX};
use coditect_protocol::scope::LOCAL_USER;
use coditect_protocol::wire::Op;
use coditect_protocol::wire::push::{Change, CounterPart, PushRequest};
use coditect_protocol::{API_VERSION, BatchId, ErrorCode, Scope, Version};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::BTreeMap;

use crate::adopt::{Adopted, row_id};
use crate::apply;
use crate::base::{Base, Edit};
use crate::database::{Database, meta};
use crate::error::{Error, InFile as _, Result};
use crate::marks::{Mark, RECONCILE};
use crate::settle::{TOKEN_EPOCH, drop_batch};
use crate::statements::{self, LocalRow};
use crate::value;
use crate::work::Work;
use crate::{LocalStore, Owner};

/// Longest wait of a refused change, in milliseconds. One that seems longer is that of a clock that
/// was set back since, and is over.
const WAIT_MS_MAX: i64 = RETRY_CAP_MS as i64 + 1;

impl LocalStore {
    /// Returns the streams of a file that have something to send, oldest first; the one of the
    /// stored batch before all others. Adopts first, and ends a reconciliation whose pulls have
    /// reached the heads.
    ///
    /// # Errors
    /// [`Error::NotBound`] before the first login, or when the database fails.
    pub fn scopes_with_work(&mut self, file: File, now_ms: i64) -> Result<Vec<Scope>> {
        let owner = self.owner()?;
        self.finish_reconcile_at_head(file, now_ms)?;
        let more = self.adopt_marks(file, now_ms, &mut Adopted::default())?;
        let connection = self.read(file)?;
        let list = || -> rusqlite::Result<Vec<String>> {
            // The first of each scope that is ready: a look at each would read all of a long queue.
            let found = scopes_of_marks(true);
            let mut statement = connection.prepare_cached(&format!(
                "{found}
                 select scope from (
                   select scope, -1 as first from sync_batch
                   union all
                   select scope, (select q.n from sync_queue q
                     where q.state = 'queued' and q.adopted = 1 and q.row_scope = found.scope
                       and q.table_name is not null
                       and (q.not_before_ms <= ?1 or q.not_before_ms > ?1 + ?2)
                     order by q.n limit 1)
                   from found where scope is not null)
                 where first is not null
                 group by scope order by min(first)"
            ))?;
            let rows = statement.query_map([now_ms, WAIT_MS_MAX], |row| row.get(0))?;
            rows.collect()
        };
        let mut scopes = list().in_file(file)?;
        if more {
            // Scopes of which nothing is adopted yet.
            for text in fresh_scopes(connection).in_file(file)? {
                let known = text
                    .parse::<Scope>()
                    .map(|scope| scope.to_local(owner.user.get()));
                let local = known.unwrap_or_else(|_| LOCAL_USER.to_owned());
                if !scopes.contains(&local) {
                    scopes.push(local);
                }
            }
        }
        let wire = scopes.iter().map(|text| from_local(file, text, owner));
        wire.collect()
    }

    /// Returns the batch to send: the stored one if an answer is outstanding, whatever its
    /// stream, else a new one of that stream. None when nothing is queued.
    ///
    /// # Errors
    /// [`Error::NotBound`] before the first login, or when the database fails.
    pub fn next_batch(
        &mut self,
        file: File,
        scope: Scope,
        now_ms: i64,
    ) -> Result<Option<Outgoing>> {
        let owner = self.owner()?;
        let resends = self.guards.stored_batch;
        if let Some(stored) = stored_batch(self.read(file)?, file)?.filter(|_| resends) {
            return Ok(Some(stored));
        }
        let local = scope.to_local(owner.user.get());
        // Only what goes out is adopted, so that of millions the first leave at once.
        let mut after = 0;
        loop {
            let ready = count_ready(self.read(file)?, &local, now_ms, PUSH_CHANGES_MAX);
            if ready.in_file(file)? >= PUSH_CHANGES_MAX {
                break;
            }
            let mut adopted = Adopted::default();
            if self.adopt_marks_behind(file, &mut after, now_ms, &mut adopted)? {
                continue;
            }
            // Looking needs no write lock, and costs no wait for the disk.
            let ready = count_ready(self.read(file)?, &local, now_ms, 1);
            if ready.in_file(file)? == 0 {
                return Ok(None);
            }
            break;
        }
        let batch = self.write(file, |work| {
            // Another process cannot have made one: the caller holds the lease. But be sure.
            if let Some(stored) = stored_batch(work.tx, file)? {
                if resends {
                    return Ok(Some(stored));
                }
                drop_batch(work)?;
            }
            make_batch(work, scope, &local, now_ms)
        })?;
        // Where this batch is full of small rows, so will many be.
        if let Some(batch) = &batch
            && batch.request.changes.len() >= PUSH_CHANGES_MAX
        {
            self.database(file)?.send_much()?;
        }
        Ok(batch)
    }

    /// Gives back the memory that sending a long queue took. Whoever runs the engine calls it when
    /// the run is over.
    ///
    /// # Errors
    /// When a database fails.
    pub fn end_run(&mut self) -> Result<()> {
        self.files
            .iter()
            .flatten()
            .try_for_each(Database::send_little)
    }

    /// Returns the batch that waits for its answer.
    ///
    /// # Errors
    /// When the database fails.
    pub fn stored_batch(&self, file: File) -> Result<Option<Outgoing>> {
        stored_batch(self.read(file)?, file)
    }

    /// Returns who the folder belongs to.
    pub(crate) fn owner(&self) -> Result<Owner> {
        self.owner.ok_or(Error::NotBound)
    }
}

/// Begins a query with `found (scope)`: the scopes of queued marks, and a null one at the end. It
/// finds one after the other in the index, without a look at each mark.
fn scopes_of_marks(are_adopted: bool) -> String {
    let marks = format!(
        "q.state = 'queued' and q.adopted = {}",
        u8::from(are_adopted)
    );
    format!(
        "with recursive found (scope) as (
           select min(q.row_scope) from sync_queue q where {marks}
           union all
           select (select min(q.row_scope) from sync_queue q
             where {marks} and q.row_scope > found.scope)
           from found where found.scope is not null)"
    )
}

/// Returns the scopes of marks that are not adopted yet.
fn fresh_scopes(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let found = scopes_of_marks(false);
    let sql = format!("{found} select scope from found where scope is not null");
    let mut statement = connection.prepare_cached(&sql)?;
    let scopes = statement.query_map([], |row| row.get(0))?;
    scopes.collect()
}

/// Returns the wire form of a stored scope.
pub(crate) fn from_local(file: File, text: &str, owner: Owner) -> Result<Scope> {
    Scope::from_local(text, owner.user.get()).map_err(|_| Error::Corrupt {
        file,
        what: "scope",
    })
}

pub(crate) fn stored_batch(connection: &Connection, file: File) -> Result<Option<Outgoing>> {
    let bytes: Option<Vec<u8>> = connection
        .prepare_cached("select request from sync_batch limit 1")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)).optional())
        .in_file(file)?;
    let Some(bytes) = bytes else { return Ok(None) };
    let request = serde_json::from_slice(&bytes).map_err(|_| Error::Corrupt {
        file,
        what: "stored batch",
    })?;
    Ok(Some(Outgoing { request, bytes }))
}

fn make_batch(
    work: &mut Work<'_>,
    scope: Scope,
    local: &str,
    now_ms: i64,
) -> Result<Option<Outgoing>> {
    let marks = ready_marks(work.tx, local, now_ms, PUSH_CHANGES_MAX).in_file(work.file)?;
    let mut changes = Vec::new();
    let mut sent = Vec::new();
    let mut size_bytes = 0;
    for mark in marks {
        let Some(change) = change_of(work, &mark, now_ms)? else {
            continue;
        };
        let bytes = serde_json::to_vec(&change).map_or(0, |text| text.len());
        if bytes > ROW_BYTES_MAX {
            let reason = format!("the row has {bytes} bytes, one may have {ROW_BYTES_MAX}");
            work.park(mark.n, ErrorCode::RowTooLarge.as_str(), &reason)?;
            continue;
        }
        if !changes.is_empty() && size_bytes + bytes > PUSH_BYTES_TARGET {
            break;
        }
        size_bytes += bytes;
        sent.push((mark.n, change.table.clone(), change.id.to_string()));
        changes.push(change);
    }
    if changes.is_empty() {
        return Ok(None);
    }
    let request = PushRequest {
        api_version: API_VERSION.to_owned(),
        device: work.device,
        batch_id: BatchId::new(work.random.id(now_ms)),
        sent_at_ms: now_ms,
        file: work.file,
        scope,
        epoch: match work.guards.names_epoch {
            true => apply::follows(work.tx).in_file(work.file)?,
            false => None,
        },
        token: token_to_push(work)?,
        changes,
    };
    let bytes = serde_json::to_vec(&request).map_err(|_| work.corrupt("batch"))?;
    store_batch(work, &request, &bytes, local, &sent).in_file(work.file)?;
    Ok(Some(Outgoing { request, bytes }))
}

/// Condition of the marks of a scope (first parameter) that may be sent now (second, fourth), up to
/// a number of them (third).
const READY: &str = "from sync_queue
     where state = 'queued' and adopted = 1 and row_scope = ?1 and table_name is not null
       and (not_before_ms <= ?2 or not_before_ms > ?2 + ?4)
     order by n limit ?3";

/// Returns how many marks may be sent now, `limit` at most.
fn count_ready(tx: &Connection, local: &str, now_ms: i64, limit: usize) -> rusqlite::Result<usize> {
    let sql = format!("select count(*) from (select 1 {READY})");
    tx.prepare_cached(&sql)?
        .query_row(params![local, now_ms, limit as i64, WAIT_MS_MAX], |row| {
            row.get(0)
        })
}

fn ready_marks(
    tx: &Connection,
    local: &str,
    now_ms: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Mark>> {
    let sql = format!("select {} {READY}", Mark::COLUMNS);
    let mut statement = tx.prepare_cached(&sql)?;
    let marks = statement.query_map(
        params![local, now_ms, limit as i64, WAIT_MS_MAX],
        Mark::read,
    )?;
    marks.collect()
}

/// Returns the token that a push shows. One of another epoch than the file follows goes along as
/// long as the push names the epoch: a server that was set back once more, to that token's epoch,
/// knows the file by it.
fn token_to_push(work: &Work<'_>) -> Result<Option<String>> {
    if !work.guards.token {
        return Ok(None);
    }
    let held = if work.guards.names_epoch {
        token(work.tx)
    } else {
        token_of_epoch(work.tx)
    };
    held.in_file(work.file)
}

/// Returns the file's token if it is of the epoch that the file follows.
pub(crate) fn token_of_epoch(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let of_token = meta(connection, TOKEN_EPOCH)?;
    let follows = meta(connection, "epoch")?;
    // Before its first pull a file follows none.
    if of_token.is_some() && follows.is_some() && of_token != follows {
        return Ok(None);
    }
    token(connection)
}

/// Returns the file's token from its last acknowledged push.
fn token(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("select token from sync_token limit 1")?
        .query_row([], |row| row.get(0))
        .optional()
}

pub(crate) fn store_batch(
    work: &Work<'_>,
    request: &PushRequest,
    bytes: &[u8],
    local: &str,
    sent: &[(i64, String, String)],
) -> rusqlite::Result<()> {
    let batch = request.batch_id.to_string();
    work.tx.execute("delete from sync_batch_mark", [])?;
    work.tx.execute(
        "insert into sync_batch (batch_id, scope, request) values (?1, ?2, ?3)",
        params![batch, local, bytes],
    )?;
    let mut insert = work.tx.prepare_cached(
        "insert into sync_batch_mark (position, n, table_name, scope, id)
         values (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (position, (n, table, id)) in sent.iter().enumerate() {
        insert.execute(params![position as i64, n, table, local, id])?;
    }
    Ok(())
}

/// Returns the change that an adopted mark stands for; none (and no mark) if there is nothing
/// to say to the server.
fn change_of(work: &Work<'_>, mark: &Mark, now_ms: i64) -> Result<Option<Change>> {
    let key = statements::table_in(work.file, &mark.table).zip(mark.id.as_deref());
    let Some((table, id)) = key else {
        work.remove_mark(mark.n)?;
        return Ok(None);
    };
    let base = work.base(table, &mark.scope, id)?;
    let live = statements::by_seq_or_key(work.tx, table, mark.row_seq, &mark.scope, id);
    match (live.in_file(work.file)?, base) {
        (Some(_), Some(base)) if !work.guards.live_row && mark.row_seq.is_none() => {
            delete(work, table, mark, id, &base, now_ms).map(Some)
        }
        (Some(live), base) => upsert(work, table, mark, live, base.as_ref(), now_ms).map(Some),
        (None, Some(base)) => delete(work, table, mark, id, &base, now_ms).map(Some),
        (None, None) => {
            work.remove_mark(mark.n)?;
            Ok(None)
        }
    }
}

fn upsert(
    work: &Work<'_>,
    table: &Table,
    mark: &Mark,
    live: LocalRow,
    base: Option<&Base>,
    now_ms: i64,
) -> Result<Change> {
    let row = canonical::row(table, live.raw);
    let content = hash::content(table, &row);
    let from = base.map(|base| edited_from(work, base));
    let register = match (base, from) {
        (Some(base), Some(from)) if !base.lost && work.guards.register => {
            from.acknowledged() != Some(content)
        }
        _ => true,
    };
    let totals = base.map(|base| base.totals(&row)).unwrap_or_default();
    let counters = table.columns_by(Merge::Counter).map(|column| {
        let all = value::integer(&row, column.name);
        let total = totals.get(column.name).copied().unwrap_or(all);
        (column.name.to_owned(), CounterPart { seq: mark.n, total })
    });
    let made_ms = mark.made_ms(now_ms);
    let made_at = canonical::time_from_ms(made_ms);
    let follows = match base {
        Some(base) => earlier_state(work, table, mark, base)?,
        None => None,
    };
    // What is sent again as the server lost it was made from what the server has.
    let again = from.is_some_and(|from| from.lost && from.hash == Some(content));
    let made_from = match base.filter(|_| again && follows.is_some()) {
        Some(base) => Some(base.hash),
        None => from.and_then(|from| from.hash),
    };
    Ok(Change {
        table: table.cloud.to_owned(),
        id: row_id(work, live.id.as_deref().unwrap_or_default())?,
        op: Op::Upsert,
        base: from.and_then(|from| from.version),
        follows,
        base_hash: made_from
            .filter(|_| register && work.guards.base_hash)
            .map(|hash| hash.to_string()),
        proposed: proposal(work, mark, made_ms, base),
        register,
        hash: content.to_string(),
        created_at: live.created_at.unwrap_or_else(|| made_at.clone()),
        updated_at: live.updated_at.unwrap_or(made_at),
        counters: counters.collect::<BTreeMap<_, _>>(),
        row: Some(row),
    })
}

fn delete(
    work: &Work<'_>,
    table: &Table,
    mark: &Mark,
    id: &str,
    base: &Base,
    now_ms: i64,
) -> Result<Change> {
    let made_ms = mark.made_ms(now_ms);
    let from = edited_from(work, base);
    // The hash says which content was deleted: an update of another content goes first. A row
    // that was deleted before it was ever compared had none that the server could know.
    let hash = match from {
        Edit {
            hash: Some(hash), ..
        } => hash,
        Edit { version: None, .. } => ContentHash([0; 32]),
        Edit { .. } => base.hash,
    };
    Ok(Change {
        table: table.cloud.to_owned(),
        id: row_id(work, id)?,
        op: Op::Delete,
        base: from.version,
        follows: earlier_state(work, table, mark, base)?,
        base_hash: None,
        proposed: proposal(work, mark, made_ms, Some(base)),
        register: true,
        hash: hash.to_string(),
        created_at: base.created_at.clone(),
        updated_at: canonical::time_from_ms(made_ms),
        row: None,
        counters: BTreeMap::new(),
    })
}

/// Returns the version that the local content was made from: not what was pulled over it since.
fn edited_from(work: &Work<'_>, base: &Base) -> Edit {
    let edit = base.edit.filter(|_| work.guards.edited_from);
    edit.unwrap_or(Edit {
        version: Some(base.version),
        hash: (!base.deleted).then_some(base.hash),
        lost: false,
    })
}

/// Returns what the server has of the row, if it was set back and this device knows that to be an
/// earlier state of what it sends: it was the row's base once, or has the content of one, which
/// somebody counted on since the server lost what came after it.
fn earlier_state(
    work: &Work<'_>,
    table: &Table,
    mark: &Mark,
    base: &Base,
) -> Result<Option<Version>> {
    if !work.guards.past {
        return Ok(None);
    }
    let id = mark.id.as_deref().unwrap_or_default();
    if base.lost && base.edit.is_none() {
        // The server has none of it, but another device may give back the state before this one
        // first.
        return work.last_base(table, &mark.scope, id);
    }
    let (stored, from) = (base.version, edited_from(work, base));
    let below = from.version > Some(stored);
    let known = below && work.was_base(table, &mark.scope, id, stored)?
        || from.lost && !base.deleted && work.was_content(table, &mark.scope, id, &base.hash)?;
    Ok(known.then_some(stored))
}

/// Returns the version to propose: the time of the edit by this device's clock, and nothing else,
/// because the server shifts it by what the clock is off. It mints a version above what is stored
/// by itself. A row that a reconciliation sends again goes out under the version that it had.
fn proposal(work: &Work<'_>, mark: &Mark, made_ms: i64, base: Option<&Base>) -> Version {
    match base.and_then(|base| edited_from(work, base).version) {
        Some(version) if mark.action == RECONCILE => version,
        _ => propose(made_ms, (mark.n & 0xffff) as u16),
    }
}
