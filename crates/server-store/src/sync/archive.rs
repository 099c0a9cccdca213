//! Reading a stream for a backup: in cursor order, in short transactions, while others write.
//!
//! A row that changes meanwhile moves behind the reader and is read again, so that what was read
//! last of each row is the stream as of the end. The last piece is read under the stream's lock:
//! nobody waits longer than that takes, and a stream that never rests is read to an end, too.

use std::collections::BTreeMap;

use coditect_core::body;
use coditect_core::digest::Digest;
use coditect_protocol::catalogue::{Class, Merge, TABLES, Table, by_cloud_name};
use coditect_protocol::{DeviceId, Epoch, OrganizationId, RowId, Scope};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::bodies::{self, Place};
use super::held::Held;
use super::push::{ArchivedPart, ArchivedRow};
use super::sql;
use crate::StoreError;
use crate::db::{Db, SystemTask, SystemTx};

/// Rows that one transaction reads.
const ROWS_AT_ONCE: usize = 500;
const HEAD: &str = "select n from streams where tenant_id = $1 and scope_id = $2";
const HEAD_LOCKED: &str = "select n from streams where tenant_id = $1 and scope_id = $2 for update";
const EPOCH: &str = "select epoch from cluster";
const DIGEST: &str = "select coalesce(sum(rows), 0)::bigint, coalesce(sum(count), 0)::bigint,
    coalesce(bit_xor(xor), 0) from stream_digests where tenant_id = $1 and scope_id = $2";
const PARTS: &str = "select table_name, row_id, column_name, device_id, seq, total
    from counter_parts where tenant_id = $1 and scope_id = $2 and table_name = any ($3)
    and row_id = any ($4)";

/// A piece of a stream.
#[derive(Debug)]
pub struct Piece {
    /// Its rows in cursor order, tombstones included.
    pub rows: Vec<ArchivedRow>,
    /// The cursor behind which the next piece begins.
    pub to: i64,
    /// Whether the stream ended here at a moment when nobody wrote.
    pub at_head: bool,
    /// The database's life.
    pub epoch: Epoch,
    /// The sums that are kept of the whole stream as of this moment; at the head only.
    pub digest: Option<Digest>,
}

/// Reads the next piece of the scope's stream behind `from`.
///
/// # Errors
///
/// Those of the database.
pub async fn piece(
    db: &Db,
    tenant: OrganizationId,
    scope: Scope,
    from: i64,
) -> Result<Piece, StoreError> {
    let stream = Stream {
        tenant: tenant.get(),
        scope: scope.id(),
    };
    let read = read(db, stream, from, false).await?;
    if read.at_head {
        // The rest is short now: once more, with nobody writing.
        let rest = self::read(db, stream, read.to, true).await?;
        let mut rows = read.rows;
        rows.extend(rest.rows);
        return Ok(Piece { rows, ..rest });
    }
    Ok(read)
}

#[derive(Clone, Copy)]
struct Stream {
    tenant: Uuid,
    scope: Uuid,
}

async fn read(db: &Db, stream: Stream, from: i64, locked: bool) -> Result<Piece, StoreError> {
    db.system(SystemTask::Backup, |mut tx| async move {
        let Stream { tenant, scope } = &stream;
        let params = [(tenant as _, Type::UUID), (scope as _, Type::UUID)];
        let head = tx
            .query_opt(if locked { HEAD_LOCKED } else { HEAD }, &params)
            .await?;
        let head: i64 = head.map_or(Ok(0), |row| row.try_get(0))?;
        let epoch = epoch(&mut tx).await?;
        let (places, complete) = places(&mut tx, stream, from, head).await?;
        let to = match (complete, places.last()) {
            (false, Some((cursor, _))) => *cursor,
            _ => head.max(from),
        };
        let mut rows = Vec::with_capacity(places.len());
        for table in tables() {
            let of_table = places.iter().filter(|(_, at)| at.cloud == table.cloud);
            let Some(first) = of_table.map(|(cursor, _)| *cursor).min() else {
                continue;
            };
            let params = [
                (tenant as _, Type::UUID),
                (scope as _, Type::UUID),
                (&first as _, Type::INT8),
                (&to as _, Type::INT8),
            ];
            for row in tx.query(&sql::of(table).page, &params).await? {
                rows.push(Held::read(table, &row)?.into_stored(table));
            }
        }
        rows.sort_unstable_by_key(|stored| stored.cursor);
        let digest = match locked && complete {
            true => Some(digest(&mut tx, stream).await?),
            false => None,
        };
        let mut parts = parts(&mut tx, stream, &rows).await?;
        let rows = rows.into_iter().map(|stored| {
            let parts = parts.remove(&(stored.table.clone(), stored.id));
            ArchivedRow {
                parts: parts.unwrap_or_default(),
                stored,
            }
        });
        Ok::<_, StoreError>(Piece {
            rows: rows.collect(),
            to,
            at_head: complete,
            epoch,
            digest,
        })
    })
    .await
}

/// Puts a row's bodies into it: an archive holds whole rows.
///
/// # Errors
///
/// [`StoreError::Corrupt`] when a body is not there; those of the database.
pub async fn whole(
    db: &Db,
    tenant: OrganizationId,
    scope: Scope,
    row: &mut ArchivedRow,
) -> Result<(), StoreError> {
    let Some(table) = by_cloud_name(&row.stored.table) else {
        return Ok(());
    };
    let Some(parted) = row.stored.row.take() else {
        return Ok(());
    };
    if body::names(table, &parted).is_empty() {
        row.stored.row = Some(parted);
        return Ok(());
    }
    let place = Place {
        tenant: tenant.get(),
        scope: scope.id(),
    };
    let filled = db
        .system(SystemTask::Backup, |mut tx| {
            let mut row = parted.clone();
            async move {
                bodies::fill_as_system(&mut tx, place, table, &mut row).await?;
                Ok::<_, StoreError>(row)
            }
        })
        .await?;
    row.stored.row = Some(filled);
    Ok(())
}

fn tables() -> impl Iterator<Item = &'static Table> {
    let own = |table: &&Table| table.class != Class::Catalogue;
    TABLES.iter().copied().filter(own)
}

async fn epoch(tx: &mut SystemTx) -> Result<Epoch, StoreError> {
    let corrupt = || StoreError::Corrupt {
        table: "cluster",
        row: "epoch".to_owned(),
    };
    let row = tx.query_opt(EPOCH, &[]).await?.ok_or_else(corrupt)?;
    row.try_get::<_, &str>(0)?.parse().map_err(|_| corrupt())
}

async fn digest(tx: &mut SystemTx, stream: Stream) -> Result<Digest, StoreError> {
    let Stream { tenant, scope } = &stream;
    let params = [(tenant as _, Type::UUID), (scope as _, Type::UUID)];
    let row = tx.query_opt(DIGEST, &params).await?;
    row.map_or(Ok(Digest::default()), |row| {
        Ok(Digest {
            rows: row.try_get(0)?,
            count: row.try_get(1)?,
            xor: row.try_get::<_, i64>(2)?.cast_unsigned(),
        })
    })
}

type Places = Vec<(i64, &'static Table)>;

/// Returns the next cursors of all tables in order, as many as are read at once, and whether
/// they are all up to the head.
async fn places(
    tx: &mut SystemTx,
    stream: Stream,
    from: i64,
    head: i64,
) -> Result<(Places, bool), StoreError> {
    let limit = ROWS_AT_ONCE as i64 + 1;
    let mut places = Vec::new();
    for table in tables() {
        let params = [
            (&stream.tenant as _, Type::UUID),
            (&stream.scope as _, Type::UUID),
            (&from as _, Type::INT8),
            (&limit as _, Type::INT8),
        ];
        for row in tx.query(&sql::of(table).cursors, &params).await? {
            let cursor: i64 = row.try_get(0)?;
            // What was written since the head was read is a later piece's.
            if cursor <= head {
                places.push((cursor, table));
            }
        }
    }
    places.sort_unstable_by_key(|(cursor, _)| *cursor);
    let complete = places.len() <= ROWS_AT_ONCE;
    places.truncate(ROWS_AT_ONCE);
    Ok((places, complete))
}

type Parts = BTreeMap<(String, RowId), BTreeMap<String, Vec<ArchivedPart>>>;

/// Returns the counter parts of the rows.
async fn parts(
    tx: &mut SystemTx,
    stream: Stream,
    rows: &[coditect_protocol::wire::Stored],
) -> Result<Parts, StoreError> {
    let counted = |name: &str| {
        let table = by_cloud_name(name);
        table.is_some_and(|table| table.columns_by(Merge::Counter).next().is_some())
    };
    let rows = rows.iter().filter(|row| counted(&row.table));
    let (mut tables, mut ids): (Vec<&str>, Vec<Uuid>) = (Vec::new(), Vec::new());
    for row in rows {
        tables.push(&row.table);
        ids.push(row.id.get());
    }
    let mut parts = Parts::new();
    if ids.is_empty() {
        return Ok(parts);
    }
    tables.dedup();
    let params = [
        (&stream.tenant as _, Type::UUID),
        (&stream.scope as _, Type::UUID),
        (&tables as _, Type::TEXT_ARRAY),
        (&ids as _, Type::UUID_ARRAY),
    ];
    for row in tx.query(PARTS, &params).await? {
        let key = (row.try_get(0)?, RowId::new(row.try_get(1)?));
        let part = ArchivedPart {
            device: DeviceId::new(row.try_get(3)?),
            seq: row.try_get(4)?,
            total: row.try_get(5)?,
        };
        let columns = parts.entry(key).or_default();
        columns.entry(row.try_get(2)?).or_default().push(part);
    }
    Ok(parts)
}
