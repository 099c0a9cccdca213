//! Writes through a view, based on the version that is stored (PROTOCOL 29).

use std::collections::BTreeMap;

use coditect_core::{canonical, clock, hash};
use coditect_protocol::catalogue::Table;
use coditect_protocol::wire::push::{Change, PushRequest};
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{API_VERSION, BatchId, DeviceId, RowId, Scope, Version};
use tokio_postgres::types::Type;

use crate::StoreError;
use crate::credential::random_uuid;
use crate::db::TenantTx;
use crate::sync::held::Held;
use crate::sync::push::unfiled::{self, Written};
use crate::sync::{SyncError, sql};

/// Who writes where, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The stream.
    pub scope: Scope,
    /// The device that the writes count for.
    pub device: DeviceId,
    /// The server's time, milliseconds since 1970.
    pub now_ms: i64,
}

/// A fact to store.
#[derive(Clone, Debug, PartialEq)]
pub struct NewFact {
    /// Its columns.
    pub row: Row,
    /// When it was made, in canonical form.
    pub created_at: String,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Edited {
    /// Its id.
    pub id: RowId,
    /// Whether a live row was there before.
    pub existed: bool,
    /// What was written.
    pub written: Written,
}

/// Stores new facts of a table whose ids are derived from the row; those that are there already
/// stay as they are.
///
/// # Errors
///
/// As [`crate::sync::push`]; [`SyncError::BadRequest`] when a key column is missing.
pub async fn add_facts(
    tx: &mut TenantTx,
    writer: Writer,
    table: &'static Table,
    facts: &[NewFact],
) -> Result<Written, SyncError> {
    let changes = facts.iter().map(|fact| {
        let row = canonical::row(table, fact.row.clone());
        let id = derived_id(table, &row, writer.device)?;
        Ok(change(
            table,
            id,
            row,
            None,
            &fact.created_at,
            writer.now_ms,
        ))
    });
    let request = request(writer, table, changes.collect::<Result<_, SyncError>>()?)?;
    let opened = unfiled::open(tx, writer.scope, writer.device).await?;
    unfiled::write(tx, opened, &request).await
}

/// Makes or changes the record that `key` gives the id of: `edit` gets the stored columns, none
/// when there is no live row, and returns those to store. It may be called again when the
/// transaction runs again.
///
/// # Errors
///
/// As [`crate::sync::push`]; [`SyncError::BadRequest`] when a key column is missing.
pub async fn edit_record(
    tx: &mut TenantTx,
    writer: Writer,
    table: &'static Table,
    key: &Row,
    edit: &(dyn Fn(Option<&Row>) -> Row + Sync),
) -> Result<Edited, SyncError> {
    let id = derived_id(table, key, writer.device)?;
    edit_by_id(tx, writer, table, id, &|stored| Some(edit(stored))).await
}

/// Makes or changes the record of an id: `edit` gets the stored columns, none when there is no
/// live row, and returns those to store.
///
/// # Errors
///
/// As [`crate::sync::push`]; [`SyncError::ScopeNotFound`] when `edit` returns none.
pub(super) async fn edit_by_id(
    tx: &mut TenantTx,
    writer: Writer,
    table: &'static Table,
    id: RowId,
    edit: &(dyn Fn(Option<&Row>) -> Option<Row> + Sync),
) -> Result<Edited, SyncError> {
    let opened = unfiled::open(tx, writer.scope, writer.device).await?;
    let held = fetch(tx, writer.scope, table, id).await?;
    let now = canonical::time_from_ms(writer.now_ms);
    let base = held.as_ref().map(|held| held.existing.version);
    let stored = held.and_then(|held| held.existing.row);
    let row = edit(stored.as_ref()).ok_or(SyncError::ScopeNotFound)?;
    let row = canonical::row(table, row);
    let change = change(table, id, row, base, &now, writer.now_ms);
    let request = request(writer, table, vec![change])?;
    let written = unfiled::write(tx, opened, &request).await?;
    Ok(Edited {
        id,
        existed: stored.is_some(),
        written,
    })
}

/// Makes a record what `row` says, a tombstone without one, over the version that is stored.
///
/// # Errors
///
/// As [`crate::sync::push`].
pub async fn put_record(
    tx: &mut TenantTx,
    writer: Writer,
    table: &'static Table,
    id: RowId,
    row: Option<Row>,
) -> Result<Written, SyncError> {
    let opened = unfiled::open(tx, writer.scope, writer.device).await?;
    let held = fetch(tx, writer.scope, table, id).await?;
    let now = canonical::time_from_ms(writer.now_ms);
    let base = held.as_ref().map(|held| held.existing.version);
    let row_or_none = row.map(|row| canonical::row(table, row));
    let written = row_or_none.clone().unwrap_or_default();
    let mut change = change(table, id, written, base, &now, writer.now_ms);
    if row_or_none.is_none() {
        change.op = Op::Delete;
        change.row = None;
        change.hash = held.map_or(change.hash, |held| held.existing.hash.to_string());
    }
    let request = request(writer, table, vec![change])?;
    unfiled::write(tx, opened, &request).await
}

fn derived_id(table: &'static Table, row: &Row, device: DeviceId) -> Result<RowId, SyncError> {
    let id = hash::derived_id(table, row, device).ok().flatten();
    id.ok_or(SyncError::BadRequest("a part of the identity is missing"))
}

pub(super) async fn fetch(
    tx: &mut TenantTx,
    scope: Scope,
    table: &'static Table,
    id: RowId,
) -> Result<Option<Held>, SyncError> {
    let (tenant, scope, ids) = (tx.tenant().get(), scope.id(), vec![id.get()]);
    let params = [
        (&tenant as _, Type::UUID),
        (&scope as _, Type::UUID),
        (&ids as _, Type::UUID_ARRAY),
    ];
    let row = tx.query_opt(&sql::of(table).fetch, &params).await?;
    Ok(row.map(|row| Held::read(table, &row)).transpose()?)
}

pub(super) fn change(
    table: &Table,
    id: RowId,
    row: Row,
    base: Option<Version>,
    created_at: &str,
    now_ms: i64,
) -> Change {
    Change {
        table: table.cloud.to_owned(),
        id,
        op: Op::Upsert,
        base,
        follows: None,
        base_hash: None,
        proposed: clock::propose(now_ms, 0),
        register: true,
        hash: hash::content(table, &row).to_string(),
        created_at: created_at.to_owned(),
        updated_at: canonical::time_from_ms(now_ms),
        row: Some(row),
        counters: BTreeMap::new(),
    }
}

pub(super) fn request(
    writer: Writer,
    table: &Table,
    changes: Vec<Change>,
) -> Result<PushRequest, SyncError> {
    Ok(PushRequest {
        api_version: API_VERSION.to_owned(),
        device: writer.device,
        batch_id: BatchId::new(random_uuid().map_err(StoreError::from)?),
        sent_at_ms: writer.now_ms,
        file: table.file,
        scope: writer.scope,
        epoch: None,
        token: None,
        changes,
    })
}
