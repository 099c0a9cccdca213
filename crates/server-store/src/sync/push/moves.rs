//! Scope moves: rows leave one stream, as tombstones, and enter another under the same id, in one
//! transaction that holds both streams' locks. Readers of either need nothing special.
//!
//! A move is about where a row belongs, not about its content: what is stored is moved, whatever
//! version the device knew. Author and origin stay.

mod earlier;

pub(super) use earlier::gone;

use std::collections::{BTreeMap, HashMap, HashSet};

use coditect_core::clock;
use coditect_core::merge::Existing;
use coditect_protocol::catalogue::{Class, Direction, Merge, Table, by_cloud_name};
use coditect_protocol::limits::MOVE_ROWS_MAX;
use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::moves::{Move, MoveReply, MoveRequest, Moved};
use coditect_protocol::wire::push::{PushRequest, Status};
use coditect_protocol::{DeviceId, ErrorCode, Scope};
use serde_json::json;
use tokio_postgres::types::Type;
use uuid::Uuid;

use self::earlier::Earlier;
use super::apply::{Key, by_table};
use super::counters::{self, Counters};
use super::decide::{Changed, Conflict, Kept};
use super::{Batch, LOCK_STREAM, MAKE_STREAM, Totals, write};
use crate::StoreError;
use crate::audit;
use crate::db::{Statement, TenantTx};
use crate::sync::access::{self, Access, Question};
use crate::sync::guards::Guard;
use crate::sync::held::Held;
use crate::sync::validate::Refusal;
use crate::sync::{SyncError, bodies, sql};

const COPY_PARTS: &str = "insert into counter_parts
    (tenant_id, scope_id, table_name, row_id, column_name, device_id, seq, total)
    select $1, $3, table_name, row_id, column_name, device_id, seq, total
    from counter_parts where tenant_id = $1 and scope_id = $2 and table_name = any ($4)
    and row_id = any ($5)
    on conflict (tenant_id, scope_id, table_name, row_id, column_name, device_id)
    do update set seq = excluded.seq, total = excluded.total
    where counter_parts.seq < excluded.seq";

/// Moves rows and answers each.
///
/// # Errors
///
/// [`SyncError`] when the request is refused as a whole; nothing was moved then.
pub async fn move_rows(
    tx: &mut TenantTx,
    request: &MoveRequest,
    now_ms: i64,
) -> Result<MoveReply, SyncError> {
    check(request)?;
    let (from, to) = (side(request, request.from), side(request, request.to));
    let (leaving, entering) = (Batch::new(tx, &from, now_ms)?, Batch::new(tx, &to, now_ms)?);
    let opened = open(tx, request).await?;
    let mut work = Work {
        leaves: read(tx, &leaving, request).await?,
        enters: read(tx, &entering, request).await?,
        earlier: Earlier::read(tx, &leaving, request).await?,
        sums: Counters::default(),
        left: Side::at(opened.from_n),
        entered: Side::at(opened.to_n),
        moved: Vec::new(),
    };
    let verdicts: Vec<_> = request
        .moves
        .iter()
        .map(|wanted| judge(&work, &opened.access, request, leaving.user, wanted))
        .collect();
    let moving: Vec<Key> = verdicts
        .iter()
        .filter_map(|verdict| match verdict {
            Verdict::Moves(key, _) => Some(*key),
            Verdict::Answered(_) => None,
        })
        .collect();
    work.sums = counters(tx, (&leaving, &entering), &moving).await?;
    let outcomes = verdicts.into_iter().zip(&request.moves);
    let outcomes: Vec<Moved> = outcomes
        .map(|(verdict, wanted)| match verdict {
            Verdict::Answered(outcome) => *outcome,
            Verdict::Moves(key, table) => work.carry_out((&leaving, &entering), key, table, wanted),
        })
        .collect();
    if !work.moved.is_empty() {
        let carried = work.write(tx, (&leaving, &entering)).await?;
        for (batch, side, action, bytes) in [
            (&leaving, &work.left, "move_out", 0),
            (&entering, &work.entered, "move_in", carried),
        ] {
            let mut totals = side.changed.totals();
            totals.bytes += bytes;
            advance(tx, batch, &totals).await?;
            super::note_head(tx, batch.request, opened.access.life.epoch, &totals);
            audit::record(tx, &entry(batch, request, action, &work.moved)).await?;
        }
    }
    Ok(MoveReply {
        epoch: opened.access.life.epoch,
        server_time_ms: now_ms,
        outcomes,
    })
}

fn check(request: &MoveRequest) -> Result<(), SyncError> {
    if request.moves.len() > MOVE_ROWS_MAX {
        return Err(SyncError::BadRequest("a move has at most 200 rows"));
    }
    if request.from == request.to {
        return Err(SyncError::BadRequest("the rows are in that scope already"));
    }
    let mut seen = HashSet::new();
    let mut names = request.moves.iter().map(|one| (&one.table, one.id));
    if names.any(|name| !seen.insert(name)) {
        return Err(SyncError::BadRequest("a row is named twice"));
    }
    Ok(())
}

/// Returns one side of a move as a push without changes: what writes rows needs to know of a
/// stream.
fn side(request: &MoveRequest, scope: Scope) -> PushRequest {
    PushRequest {
        api_version: request.api_version.clone(),
        device: request.device,
        batch_id: request.batch_id,
        sent_at_ms: 0,
        file: request.file,
        scope,
        epoch: None,
        token: None,
        changes: Vec::new(),
    }
}

/// Both streams, locked until the transaction ends.
struct Opened {
    access: Access,
    from_n: i64,
    to_n: i64,
}

/// Locks both streams, in the order of their ids as every transaction that locks several, and
/// checks that the caller may write both.
async fn open(tx: &mut TenantTx, request: &MoveRequest) -> Result<Opened, SyncError> {
    let caller = tx.caller().clone();
    let question = Question::new(&caller, request.device);
    let tenant = tx.tenant().get();
    let (from, to) = (request.from.id(), request.to.id());
    let mut scopes = [from, to];
    if Guard::MoveOrder.is_on() {
        scopes.sort_unstable();
    }
    let stream = |sql, scope| Statement {
        sql,
        params: vec![(&tenant as _, Type::UUID), (scope as _, Type::UUID)],
    };
    let lock = Guard::MoveLocks.sql(LOCK_STREAM);
    let locks = || scopes.iter().map(|scope| stream(lock, scope));
    let mut statements: Vec<Statement<'_>> = locks().collect();
    statements.extend(question.statements());
    let mut answers = tx.pipeline(&statements).await?;
    let access = question.read(&answers[2..2 + access::STATEMENTS])?;
    for scope in [request.from, request.to] {
        access.require(Permission::SyncPush, scope)?;
    }
    if answers[0].is_empty() || answers[1].is_empty() {
        // Locked anew from the first on: the other order could wait for each other.
        let mut statements: Vec<Statement<'_>> = scopes
            .iter()
            .map(|scope| stream(MAKE_STREAM, scope))
            .collect();
        statements.extend(locks());
        answers = tx.pipeline(&statements).await?.split_off(2);
    }
    let n = |scope: Uuid| -> Result<i64, SyncError> {
        let at = usize::from(scopes[0] != scope);
        let row = answers[at].first().ok_or(StoreError::NotFound)?;
        Ok(row.try_get(0)?)
    };
    Ok(Opened {
        from_n: n(from)?,
        to_n: n(to)?,
        access,
    })
}

/// Reads what a stream has under the keys of the request.
async fn read(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    request: &MoveRequest,
) -> Result<HashMap<Key, Held>, SyncError> {
    let known = request.moves.iter().filter_map(|wanted| {
        let table = movable(request, wanted).ok()?;
        Some((table, wanted.id.get()))
    });
    let ids = by_table(known);
    let statements: Vec<Statement<'_>> = ids
        .iter()
        .map(|(table, ids)| Statement {
            sql: &sql::of(table).fetch,
            params: vec![
                (&batch.tenant as _, Type::UUID),
                (&batch.scope as _, Type::UUID),
                (ids as _, Type::UUID_ARRAY),
            ],
        })
        .collect();
    let mut held = HashMap::new();
    if statements.is_empty() {
        return Ok(held);
    }
    for ((table, _), rows) in ids.iter().zip(tx.pipeline(&statements).await?) {
        for row in &rows {
            let row = Held::read(table, row)?;
            held.insert((table.cloud, row.id), row);
        }
    }
    Ok(held)
}

/// Returns the row's table, if its rows can be moved.
fn movable(request: &MoveRequest, wanted: &Move) -> Result<&'static Table, Refusal> {
    let table = by_cloud_name(&wanted.table).filter(|table| table.file == request.file);
    let Some(table) = table else {
        let reason = "the file has no such table";
        return Err(Refusal::new(ErrorCode::UnknownTable, reason));
    };
    match table.direction {
        Direction::Both | Direction::Mirror => Ok(table),
        Direction::Up | Direction::Down => {
            let reason = "rows of this table stay where they are";
            Err(Refusal::new(ErrorCode::DirectionRefused, reason))
        }
    }
}

enum Verdict {
    Moves(Key, &'static Table),
    Answered(Box<Moved>),
}

/// Says whether a row is moved, from what both streams have of it.
fn judge(
    work: &Work,
    access: &Access,
    request: &MoveRequest,
    caller: Uuid,
    wanted: &Move,
) -> Verdict {
    let table = match movable(request, wanted) {
        Ok(table) => table,
        Err(refusal) => return refused(refusal, None),
    };
    let key = (table.cloud, wanted.id);
    let place = |held: Option<&Held>| held.map(|held| held.clone().into_stored(table));
    let Some(before) = work.leaves.get(&key) else {
        let refusal = Refusal::new(ErrorCode::NotFound, "the scope has no such row");
        return refused(refusal, None);
    };
    let moved = work.earlier.of(key);
    let again = Guard::MoveAgain.is_on() && work.earlier.of_batch(key, request.batch_id.get());
    let there = moved.is_some_and(|to| to == request.to.id());
    if again || before.deleted() && there {
        return Verdict::Answered(Box::new(Moved {
            status: Status::Duplicate,
            code: None,
            reason: None,
            left: place(Some(before)),
            entered: place(work.enters.get(&key)),
        }));
    }
    if before.deleted() {
        let reason = match moved {
            Some(_) => "the row was moved elsewhere meanwhile",
            None => "the row was deleted",
        };
        let refusal = Refusal::new(ErrorCode::NotFound, reason);
        return refused(refusal, place(Some(before)));
    }
    if Guard::MoveAuthor.is_on()
        && before.user != Some(caller)
        && let Some(refusal) = not_the_author(access, request, table)
    {
        return refused(refusal, None);
    }
    Verdict::Moves(key, table)
}

/// Returns why somebody else than the author may not move a row. Private scopes take the rows of
/// their owner only; conversations are moved by their author only.
fn not_the_author(access: &Access, request: &MoveRequest, table: &Table) -> Option<Refusal> {
    if table.direction == Direction::Mirror {
        let reason = "the row has another author";
        return Some(Refusal::new(ErrorCode::DirectionRefused, reason));
    }
    let private = matches!(request.to, Scope::User(_));
    let manages = access.may(Permission::RowsMove, request.from);
    let reason = match (private, manages) {
        (true, _) => "only its author takes a row back",
        (false, false) => "the role does not allow to move other people's rows",
        (false, true) => return None,
    };
    Some(Refusal::new(ErrorCode::PermissionDenied, reason))
}

fn refused(refusal: Refusal, left: Option<coditect_protocol::wire::Stored>) -> Verdict {
    Verdict::Answered(Box::new(Moved {
        status: Status::Rejected,
        code: Some(refusal.code),
        reason: Some(refusal.reason),
        left,
        entered: None,
    }))
}

/// Carries the counters' parts over, and returns those of both scopes together.
async fn counters(
    tx: &mut TenantTx,
    (leaving, entering): (&Batch<'_>, &Batch<'_>),
    moving: &[Key],
) -> Result<Counters, SyncError> {
    let counted: Vec<Key> = moving
        .iter()
        .copied()
        .filter(|(table, _)| {
            let table = by_cloud_name(table);
            table.is_some_and(|table| table.columns_by(Merge::Counter).next().is_some())
        })
        .collect();
    if counted.is_empty() || !Guard::MoveParts.is_on() {
        return Ok(Counters::default());
    }
    let tables: Vec<&str> = counted.iter().map(|(table, _)| *table).collect();
    let rows: Vec<Uuid> = counted.iter().map(|(_, id)| id.get()).collect();
    let copy = Statement {
        sql: COPY_PARTS,
        params: vec![
            (&leaving.tenant, Type::UUID),
            (&leaving.scope, Type::UUID),
            (&entering.scope, Type::UUID),
            (&tables, Type::TEXT_ARRAY),
            (&rows, Type::UUID_ARRAY),
        ],
    };
    let wanted = counters::Wanted::of_rows(&counted);
    let mut statements = vec![copy];
    statements.extend(wanted.statement(entering));
    let parts = tx.pipeline(&statements).await?.pop().unwrap_or_default();
    Ok(Counters::read(&parts)?)
}

/// What is written to one of both streams.
struct Side {
    n: i64,
    rows: HashMap<Key, Held>,
    changed: Changed,
}

impl Side {
    fn at(n: i64) -> Self {
        Self {
            n,
            rows: HashMap::new(),
            changed: Changed::default(),
        }
    }

    fn put(&mut self, table: &'static Table, before: Option<&Held>, after: Held) {
        let key = (table.cloud, after.id);
        self.changed.put(table, before, &after);
        self.changed.rows.push(key);
        self.rows.insert(key, after);
    }

    fn next(&mut self) -> i64 {
        self.n += 1;
        self.n
    }
}

struct Work {
    leaves: HashMap<Key, Held>,
    enters: HashMap<Key, Held>,
    earlier: Earlier,
    /// Counters of the rows that move, over the parts of both scopes.
    sums: Counters,
    left: Side,
    entered: Side,
    moved: Vec<Key>,
}

impl Work {
    fn carry_out(
        &mut self,
        (leaving, entering): (&Batch<'_>, &Batch<'_>),
        key: Key,
        table: &'static Table,
        wanted: &Move,
    ) -> Moved {
        let before = self.leaves[&key].clone();
        let there = self.enters.get(&key).cloned();
        let tombstone = tombstone(leaving, &before, self.left.next());
        self.left
            .changed
            .history
            .push(kept(table, &before, tombstone.cursor));
        self.left.put(table, Some(&before), tombstone.clone());
        self.moved.push(key);
        let twin = there.as_ref().filter(|there| !there.deleted());
        let entered = match twin {
            // Somebody's row of the same identity was there first.
            Some(twin) => {
                let fact = table.class == Class::Fact;
                if twin.existing.hash != before.existing.hash && !fact {
                    self.entered.changed.conflicts.push(Conflict {
                        loser: kept(table, &before, twin.cursor),
                        winner_version: twin.existing.version,
                        winner_device: twin.existing.device,
                    });
                }
                twin.clone()
            }
            None => {
                let cursor = self.entered.next();
                let sums = self.sums.sums(table, before.id);
                let row = entering_row(entering, &before, there.as_ref(), sums, cursor);
                self.entered.put(table, there.as_ref(), row.clone());
                row
            }
        };
        let known = twin.is_none() && before.existing.version == wanted.base;
        let mut stored = entered.into_stored(table);
        if known {
            stored.row = None;
        }
        Moved {
            status: if known {
                Status::Applied
            } else {
                Status::Merged
            },
            code: None,
            reason: None,
            left: Some(tombstone.into_stored(table)),
            entered: Some(stored),
        }
    }

    async fn write(
        &self,
        tx: &mut TenantTx,
        (leaving, entering): (&Batch<'_>, &Batch<'_>),
    ) -> Result<i64, SyncError> {
        let none = Counters::default();
        let (left, entered) = (&self.left, &self.entered);
        write::write(tx, leaving, &left.rows, &none, &left.changed).await?;
        write::write(tx, entering, &entered.rows, &none, &entered.changed).await?;
        earlier::record(tx, leaving, entering.scope, &left.rows).await?;
        self.carry_bodies(tx, leaving, entering).await
    }

    /// Gives the bodies of the rows to the scope that they enter; returns the bytes of those that
    /// it lacked.
    async fn carry_bodies(
        &self,
        tx: &mut TenantTx,
        leaving: &Batch<'_>,
        entering: &Batch<'_>,
    ) -> Result<i64, SyncError> {
        let place = |batch: &Batch<'_>| bodies::Place {
            tenant: batch.tenant,
            scope: batch.scope,
        };
        let (mut gone, mut there) = (bodies::Links::default(), bodies::Links::default());
        for (table, id) in self.left.rows.keys() {
            gone.gone(table_of(table), id.get());
        }
        for ((table, id), row) in &self.entered.rows {
            if let Some(row) = &row.existing.row {
                there.row(table_of(table), id.get(), row);
            }
        }
        let bytes = bodies::copy(tx, place(leaving), entering.scope, &there).await?;
        there.write(tx, place(entering)).await?;
        gone.write(tx, place(leaving)).await?;
        Ok(bytes)
    }
}

fn table_of(cloud: &str) -> &'static Table {
    by_cloud_name(cloud).expect("a table of the catalogue")
}

fn tombstone(batch: &Batch<'_>, before: &Held, cursor: i64) -> Held {
    let mut after = before.clone();
    after.cursor = cursor;
    after.updated_at = batch.now;
    after.existing.row = None;
    after.existing.device = batch.device;
    after.existing.version = minted(batch, Some(before), None);
    after
}

/// Returns the row as it is stored in the scope that it enters. Where it was before, author,
/// origin and creation are those that it had there.
fn entering_row(
    batch: &Batch<'_>,
    before: &Held,
    there: Option<&Held>,
    sums: coditect_protocol::wire::Row,
    cursor: i64,
) -> Held {
    let kept = there.unwrap_or(before);
    let row = before.existing.row.clone().map(|mut row| {
        row.extend(sums);
        row
    });
    Held {
        id: before.id,
        user: kept.user,
        origin: kept.origin,
        created_at: kept.created_at,
        updated_at: before.updated_at,
        cursor,
        existing: Existing {
            version: minted(batch, Some(before), there),
            device: batch.device,
            hash: before.existing.hash,
            row,
        },
    }
}

fn minted(
    batch: &Batch<'_>,
    one: Option<&Held>,
    other: Option<&Held>,
) -> coditect_protocol::Version {
    let known = one
        .into_iter()
        .chain(other)
        .map(|held| held.existing.version);
    let proposed = clock::propose(batch.now.timestamp_millis(), 0);
    clock::mint(proposed, known.max())
}

fn kept(table: &'static Table, held: &Held, cursor: i64) -> Kept {
    Kept {
        table: table.cloud,
        id: held.id,
        version: held.existing.version,
        device: held.existing.device,
        user: held.user,
        reason: "moved",
        row: held.existing.row.clone(),
        cursor,
    }
}

async fn advance(tx: &mut TenantTx, batch: &Batch<'_>, totals: &Totals) -> Result<(), SyncError> {
    if totals.head == 0 {
        return Ok(());
    }
    let statement = Statement {
        sql: sql::advance(batch.request.file),
        params: vec![
            (&batch.tenant, Type::UUID),
            (&batch.scope, Type::UUID),
            (&totals.head, Type::INT8),
            (&totals.rows, Type::INT8),
            (&totals.bytes, Type::INT8),
        ],
    };
    tx.pipeline(&[statement]).await?;
    Ok(())
}

/// Returns one side's entry in the audit trail: counts per table, never content.
fn entry(
    batch: &Batch<'_>,
    request: &MoveRequest,
    action: &'static str,
    moved: &[Key],
) -> audit::Entry<'static> {
    let mut tables: BTreeMap<&str, u64> = BTreeMap::new();
    for (table, _) in moved {
        *tables.entry(table).or_default() += 1;
    }
    let device: DeviceId = request.device;
    audit::Entry {
        at: batch.now,
        action,
        resource_type: Some("stream"),
        resource_id: Some(batch.request.scope.to_string()),
        detail: json!({
            "device": device,
            "batch": batch.id,
            "file": request.file,
            "from": request.from,
            "to": request.to,
            "tables": tables,
        }),
    }
}
