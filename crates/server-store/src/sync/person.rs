//! A person's rows as an export has them, read back for an import into another account.
//!
//! What rows need besides themselves (long values, parts of counters, which tombstones are moves)
//! is put aside first, into tables that go with the transaction.

use std::collections::BTreeMap;

use coditect_core::hash;
use coditect_protocol::catalogue::{Class, Merge, Table, by_cloud_name};
use coditect_protocol::wire::{Op, Stored};
use coditect_protocol::{DeviceId, OrganizationId, RowId, UserId};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::bodies::{self, Place};
use super::held::Held;
use super::push::{ArchivedPart, ArchivedRow};
use super::sql;
use crate::StoreError;
use crate::db::{Param, SystemTx};

const MAKE: &[&str] = &[
    "create temporary table import_bodies
        (hash bytea primary key, packed bytea not null) on commit drop",
    "create temporary table import_parts (table_name text, row_id uuid, column_name text,
        device_id uuid, seq bigint not null, total bigint not null,
        primary key (table_name, row_id, column_name, device_id)) on commit drop",
    "create temporary table import_moves (table_name text, row_id uuid, version bigint,
        primary key (table_name, row_id, version)) on commit drop",
];
/// Tables of an export that are put aside, each with what to do with its rows: `$1` are they, `$2`
/// is the tenant, `$3` the scope.
const ASIDE: &[(&str, &str)] = &[
    (
        "bodies",
        "insert into pg_temp.import_bodies select hash, packed
         from jsonb_populate_recordset(null::bodies, $1::text::jsonb)
         where tenant_id = $2 and scope_id = $3",
    ),
    (
        "counter_parts",
        "insert into pg_temp.import_parts
         select table_name, row_id, column_name, device_id, seq, total
         from jsonb_populate_recordset(null::counter_parts, $1::text::jsonb)
         where tenant_id = $2 and scope_id = $3",
    ),
    (
        "row_moves",
        "insert into pg_temp.import_moves select table_name, row_id, version
         from jsonb_populate_recordset(null::row_moves, $1::text::jsonb)
         where tenant_id = $2 and scope_id = $3",
    ),
];
/// Of `$1` and `$2`, tenant and scope, it has no others.
const BODIES: &str = "select hash, packed from pg_temp.import_bodies where hash = any ($3)";
const PARTS: &str = "select row_id, column_name, device_id, seq, total from pg_temp.import_parts
    where table_name = $1 and row_id = any ($2)";
const MOVED: &str = "select row_id, version from pg_temp.import_moves
    where table_name = $1 and row_id = any ($2)";

/// Whose rows they are, on the server that they come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    /// The organisation there.
    pub(crate) tenant: OrganizationId,
    /// The person there, who is the scope, too.
    pub(crate) user: UserId,
}

/// Why rows were not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// The database failed, or a value is none that its column takes.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is wrong with them.
    #[error("{0}")]
    Rows(String),
}

/// What is done with the rows of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    /// They are what is imported.
    Rows(&'static Table),
    /// Rows need them.
    Aside(&'static str),
    /// They belong to the account there.
    None,
}

/// Returns what is done with the rows of a table.
pub(crate) fn use_of(name: &str) -> Use {
    if let Some((_, insert)) = ASIDE.iter().find(|(known, _)| *known == name) {
        return Use::Aside(insert);
    }
    match by_cloud_name(name) {
        Some(table) if table.class != Class::Catalogue => Use::Rows(table),
        _ => Use::None,
    }
}

/// Makes the tables for what is put aside.
pub(crate) async fn prepare(tx: &mut SystemTx) -> Result<(), StoreError> {
    for make in MAKE {
        tx.execute(make, &[]).await?;
    }
    Ok(())
}

/// Puts rows aside; all of them must be the owner's.
pub(crate) async fn put_aside(
    tx: &mut SystemTx,
    owner: Owner,
    insert: &str,
    rows: &[String],
) -> Result<(), Unreadable> {
    let json = format!("[{}]", rows.join(","));
    let put = tx.execute(insert, &params(&json, &place(owner))).await?;
    all(put, rows)
}

fn place(owner: Owner) -> Place {
    Place {
        tenant: owner.tenant.get(),
        scope: owner.user.get(),
    }
}

fn params<'a>(json: &'a String, place: &'a Place) -> [Param<'a>; 3] {
    [
        (json as _, Type::TEXT),
        (&place.tenant as _, Type::UUID),
        (&place.scope as _, Type::UUID),
    ]
}

fn all(found: u64, rows: &[String]) -> Result<(), Unreadable> {
    if found == rows.len() as u64 {
        return Ok(());
    }
    Err(Unreadable::Rows("it has rows of somebody else".to_owned()))
}

/// Reads rows of a table: whole, as their author `author`, each what its hash says. A tombstone
/// that stands for a move is left out: the row is in another scope there, and was not deleted.
pub(crate) async fn read(
    tx: &mut SystemTx,
    owner: Owner,
    author: UserId,
    table: &'static Table,
    rows: &[String],
) -> Result<Vec<ArchivedRow>, Unreadable> {
    let Some(statements) = sql::scratch(table) else {
        return Ok(Vec::new());
    };
    let (json, place) = (format!("[{}]", rows.join(",")), place(owner));
    let found = tx.query(&statements.given, &params(&json, &place)).await?;
    all(found.len() as u64, rows)?;
    let mut stored = Vec::with_capacity(found.len());
    for row in &found {
        let row = Held::read(table, row)?.into_stored(table);
        stored.push(row);
    }
    let ids: Vec<Uuid> = stored.iter().map(|row| row.id.get()).collect();
    let moved = moved(tx, table, &ids).await?;
    let mut parts = parts(tx, table, &ids).await?;
    let mut read = Vec::with_capacity(stored.len());
    for mut row in stored {
        if moved.contains(&(row.id.get(), row.version.to_i64())) {
            continue;
        }
        if let Some(content) = &mut row.row {
            bodies::fill_by(tx, BODIES, &place, table, content).await?;
        }
        if !is_whole(table, &row) {
            let reason = format!("a row of {} is not what its hash says", table.cloud);
            return Err(Unreadable::Rows(reason));
        }
        if row.user_id == Some(owner.user) {
            row.user_id = Some(author);
        }
        let parts = parts.remove(&row.id).unwrap_or_default();
        read.push(ArchivedRow { stored: row, parts });
    }
    Ok(read)
}

fn is_whole(table: &Table, row: &Stored) -> bool {
    match &row.row {
        Some(content) => hash::content(table, content).to_string() == row.hash,
        None => row.op == Op::Delete,
    }
}

async fn moved(
    tx: &mut SystemTx,
    table: &Table,
    ids: &Vec<Uuid>,
) -> Result<Vec<(Uuid, i64)>, StoreError> {
    let params = [
        (&table.cloud as _, Type::TEXT),
        (ids as _, Type::UUID_ARRAY),
    ];
    let rows = tx.query(MOVED, &params).await?;
    let pairs = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    pairs.collect()
}

type Parts = BTreeMap<RowId, BTreeMap<String, Vec<ArchivedPart>>>;

async fn parts(tx: &mut SystemTx, table: &Table, ids: &Vec<Uuid>) -> Result<Parts, StoreError> {
    let mut parts = Parts::new();
    if table.columns_by(Merge::Counter).next().is_none() {
        return Ok(parts);
    }
    let params = [
        (&table.cloud as _, Type::TEXT),
        (ids as _, Type::UUID_ARRAY),
    ];
    for row in tx.query(PARTS, &params).await? {
        let columns = parts.entry(RowId::new(row.try_get(0)?)).or_default();
        columns
            .entry(row.try_get(1)?)
            .or_default()
            .push(ArchivedPart {
                device: DeviceId::new(row.try_get(2)?),
                seq: row.try_get(3)?,
                total: row.try_get(4)?,
            });
    }
    Ok(parts)
}
