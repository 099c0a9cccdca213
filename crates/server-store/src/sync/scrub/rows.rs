//! The rows of a table: read in the order of their keys, each held against its hash, its term and
//! its counter parts. What looks wrong is read once more under the stream's lock before anything
//! is done.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use coditect_core::hash;
use coditect_protocol::catalogue::{Merge, Table};
use coditect_protocol::limits::INTEGER_MAX;
use coditect_protocol::{DeviceId, Version};
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::findings::{self, How, Kind, New};
use super::{Place, Round, Step};
use crate::StoreError;
use crate::db::{Db, Param, SystemTask, SystemTx};
use crate::sync::held::Held;
use crate::sync::sql::{self, EXTRA_POSITION, ScrubSql};

/// Bytes that one transaction reads, about.
const BYTES_AT_ONCE: i64 = 4 * 1024 * 1024;
/// Rows that one transaction reads: at first, at least, at most.
const ROWS_FIRST: i64 = 64;
const ROWS_MIN: i64 = 4;
const ROWS_MAX: i64 = 500;

const PARTS: &str = "select scope_id, row_id, column_name,
    greatest(least(sum(total), $4), -$4)::bigint from counter_parts
    where tenant_id = $1 and table_name = $2 and row_id = any ($3)
    group by scope_id, row_id, column_name";

/// How many rows are read at once, by what the rows before weighed.
#[derive(Debug)]
pub(super) struct Pace {
    rows: i64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rows: ROWS_FIRST }
    }
}

impl Pace {
    fn weigh(&mut self, rows: usize, bytes: usize) {
        if let Some(average) = bytes.checked_div(rows) {
            let average = i64::try_from(average.max(1)).unwrap_or(i64::MAX);
            self.rows = (BYTES_AT_ONCE / average).clamp(ROWS_MIN, ROWS_MAX);
        }
    }
}

/// What is wrong with a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wrong {
    /// Its bytes are not those that its hash was made from.
    pub(super) hash: bool,
    /// The term in the key's index is not the row's.
    pub(super) term: bool,
    /// Counters that are not the sum of their parts, with the sum.
    pub(super) counters: BTreeMap<&'static str, i64>,
}

impl Wrong {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads the next rows of a table, and mends or notes those that are wrong.
pub(super) async fn step(
    db: &Db,
    round: &mut Round,
    table: &'static Table,
    pace: &mut Pace,
    left: i64,
    now: DateTime<Utc>,
) -> Result<Step, StoreError> {
    let Some(statements) = sql::scrub(table) else {
        return Ok(Step::default());
    };
    let limit = pace.rows.min(left.max(1));
    let (tenant, place) = (round.tenant, round.place);
    let read = db
        .system(SystemTask::Scrub, |mut tx| async move {
            read(&mut tx, table, statements, (tenant, place), limit).await
        })
        .await?;
    pace.weigh(read.rows.len(), read.bytes);
    let (count, last) = (read.rows.len() as i64, read.rows.last().copied());
    let mut found = 0;
    for (scope, ids) in read.wrong {
        found += db
            .system(SystemTask::Scrub, |mut tx| {
                let ids = ids.clone();
                async move { treat(&mut tx, table, statements, (tenant, scope), ids, now).await }
            })
            .await?;
    }
    round.place = match last {
        Some((scope, row)) if count == limit => Place {
            scope,
            row,
            ..place
        },
        _ => Place {
            table: place.table,
            sums: true,
            ..Place::START
        },
    };
    Ok(Step { rows: count, found })
}

/// Rows of a batch.
struct Batch {
    /// Scope and id of each.
    rows: Vec<(Uuid, Uuid)>,
    bytes: usize,
    /// Those that look wrong, by scope.
    wrong: BTreeMap<Uuid, Vec<Uuid>>,
}

async fn read(
    tx: &mut SystemTx,
    table: &'static Table,
    statements: &'static ScrubSql,
    (tenant, place): (Uuid, Place),
    limit: i64,
) -> Result<Batch, StoreError> {
    let params = [
        (&tenant as _, Type::UUID),
        (&place.scope as _, Type::UUID),
        (&place.row as _, Type::UUID),
        (&limit as _, Type::INT8),
    ];
    let rows = tx.query(&statements.rows, &params).await?;
    let at = EXTRA_POSITION + 1 + table.columns.len();
    let mut batch = Batch {
        rows: Vec::with_capacity(rows.len()),
        bytes: 0,
        wrong: BTreeMap::new(),
    };
    let mut ids = Vec::with_capacity(rows.len());
    for row in &rows {
        batch.bytes += row.raw_size_bytes();
        batch.rows.push((row.try_get(at)?, row.try_get(0)?));
        ids.push(row.try_get::<_, Uuid>(0)?);
    }
    let sums = sums(tx, table, tenant, &ids).await?;
    for (row, (scope, id)) in rows.iter().zip(&batch.rows) {
        if !look(table, row, row.try_get(at + 1)?, *scope, &sums)?.is_none() {
            batch.wrong.entry(*scope).or_default().push(*id);
        }
    }
    Ok(batch)
}

type Sums = HashMap<(Uuid, Uuid), Vec<(String, i64)>>;

/// Returns the sums of the parts of the rows' counters, of those that have parts.
async fn sums(
    tx: &mut SystemTx,
    table: &Table,
    tenant: Uuid,
    ids: &Vec<Uuid>,
) -> Result<Sums, StoreError> {
    let mut sums = Sums::new();
    if ids.is_empty() || table.columns_by(Merge::Counter).next().is_none() {
        return Ok(sums);
    }
    let params = [
        (&tenant as _, Type::UUID),
        (&table.cloud as _, Type::TEXT),
        (ids as _, Type::UUID_ARRAY),
        (&INTEGER_MAX as _, Type::INT8),
    ];
    for row in tx.query(PARTS, &params).await? {
        let key = (row.try_get(0)?, row.try_get(1)?);
        let part = (row.try_get(2)?, row.try_get(3)?);
        sums.entry(key).or_default().push(part);
    }
    Ok(sums)
}

/// Holds one row against what is kept about it.
fn look(
    table: &'static Table,
    row: &Row,
    term: i64,
    scope: Uuid,
    sums: &Sums,
) -> Result<Wrong, StoreError> {
    let held = match Held::read(table, row) {
        Ok(held) => held,
        // A hash that is none.
        Err(StoreError::Corrupt { .. }) => {
            return Ok(Wrong {
                hash: true,
                ..Wrong::default()
            });
        }
        Err(error) => return Err(error),
    };
    let mut wrong = Wrong {
        term: held.term(table) != term.cast_unsigned(),
        ..Wrong::default()
    };
    // A tombstone has no bytes that could be compared.
    if let Some(content) = &held.existing.row {
        wrong.hash = hash::content(table, content) != held.existing.hash;
        let parts = sums.get(&(scope, held.id.get()));
        for (name, sum) in parts.into_iter().flatten() {
            let Some(column) = table.column(name) else {
                continue;
            };
            let value = content.get(column.name).and_then(Value::as_i64);
            if column.merge == Merge::Counter && value != Some(*sum) {
                wrong.counters.insert(column.name, *sum);
            }
        }
    }
    Ok(wrong)
}

/// Reads rows once more while nobody writes the stream, mends what follows from other rows, and
/// notes whose bytes have to come from a device. Returns the number of faults.
async fn treat(
    tx: &mut SystemTx,
    table: &'static Table,
    statements: &'static ScrubSql,
    (tenant, scope): (Uuid, Uuid),
    ids: Vec<Uuid>,
    now: DateTime<Utc>,
) -> Result<i64, StoreError> {
    let mut n = findings::lock(tx, tenant, scope).await?;
    let params = [
        (&tenant as _, Type::UUID),
        (&scope as _, Type::UUID),
        (&ids as _, Type::UUID_ARRAY),
    ];
    let rows = tx.query(&statements.again, &params).await?;
    let sums = sums(tx, table, tenant, &ids).await?;
    let (at, first) = (EXTRA_POSITION + 1 + table.columns.len(), n);
    let (mut news, mut terms) = (Vec::new(), Vec::new());
    for row in &rows {
        let id: Uuid = row.try_get(0)?;
        let wrong = look(table, row, row.try_get(at)?, scope, &sums)?;
        let new = |kind, detail| New {
            table: table.cloud,
            kind,
            row: Some(id),
            origin: row.try_get(3).ok().flatten(),
            detail,
        };
        if wrong.term {
            terms.push(id);
            news.push((new(Kind::Term, json!({})), None));
        }
        if !wrong.counters.is_empty() {
            n += 1;
            recount(tx, table, statements, (tenant, scope, id), n, &wrong).await?;
            let names: Vec<_> = wrong.counters.keys().collect();
            let detail = json!({ "columns": names });
            news.push((new(Kind::Counter, detail), Some(How::Recomputed)));
        }
        if wrong.hash {
            let version: i64 = row.try_get(5)?;
            let device: Option<Uuid> = row.try_get(2)?;
            let detail = json!({
                "version": Version::from_i64(version),
                "device": DeviceId::new(device.unwrap_or_default()),
            });
            news.push((new(Kind::Hash, detail), None));
        }
    }
    if !terms.is_empty() {
        let right = refresh(tx, table, statements, (tenant, scope), &terms).await?;
        for (new, how) in &mut news {
            let mended = new.kind == Kind::Term && new.row.is_some_and(|id| right.contains(&id));
            *how = how.or(mended.then_some(How::Recomputed));
        }
    }
    if n > first {
        findings::advance(tx, table.file, (tenant, scope), n).await?;
    }
    findings::note(tx, (tenant, scope), &news, now).await
}

/// Has terms computed anew and returns the rows whose term is right now.
async fn refresh(
    tx: &mut SystemTx,
    table: &'static Table,
    statements: &'static ScrubSql,
    (tenant, scope): (Uuid, Uuid),
    ids: &Vec<Uuid>,
) -> Result<Vec<Uuid>, StoreError> {
    let params = [
        (&tenant as _, Type::UUID),
        (&scope as _, Type::UUID),
        (ids as _, Type::UUID_ARRAY),
    ];
    tx.execute(&statements.refresh, &params).await?;
    let mut right = Vec::new();
    for row in tx.query(&statements.again, &params).await? {
        let at = EXTRA_POSITION + 1 + table.columns.len();
        if !look(table, &row, row.try_get(at)?, scope, &Sums::new())?.term {
            right.push(row.try_get(0)?);
        }
    }
    Ok(right)
}

/// Makes counters the sums of their parts. The row gets a new cursor, so that devices read it; its
/// version stays, because nobody changed it.
async fn recount(
    tx: &mut SystemTx,
    table: &Table,
    statements: &ScrubSql,
    (tenant, scope, id): (Uuid, Uuid, Uuid),
    cursor: i64,
    wrong: &Wrong,
) -> Result<(), StoreError> {
    let counters = table.columns_by(Merge::Counter);
    let values: Vec<Option<i64>> = counters
        .map(|column| wrong.counters.get(column.name).copied())
        .collect();
    let mut params: Vec<Param<'_>> = vec![
        (&tenant, Type::UUID),
        (&scope, Type::UUID),
        (&id, Type::UUID),
        (&cursor, Type::INT8),
    ];
    params.extend(values.iter().map(|value| (value as _, Type::INT8)));
    tx.execute(&statements.recount, &params).await.map(drop)
}

/// Returns which of the rows are still damaged; those that are gone or deleted are not.
pub(super) async fn still_wrong(
    tx: &mut SystemTx,
    table: &'static Table,
    (tenant, scope): (Uuid, Uuid),
    ids: &Vec<Uuid>,
) -> Result<Vec<Uuid>, StoreError> {
    let Some(statements) = sql::scrub(table) else {
        return Ok(Vec::new());
    };
    let params = [
        (&tenant as _, Type::UUID),
        (&scope as _, Type::UUID),
        (ids as _, Type::UUID_ARRAY),
    ];
    let mut wrong = Vec::new();
    for row in tx.query(&statements.again, &params).await? {
        let at = EXTRA_POSITION + 1 + table.columns.len();
        if look(table, &row, row.try_get(at)?, scope, &Sums::new())?.hash {
            wrong.push(row.try_get(0)?);
        }
    }
    Ok(wrong)
}
