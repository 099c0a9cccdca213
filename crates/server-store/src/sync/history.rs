//! The versions of a record: what was overwritten or lost is kept, shown, and can hold again.

use chrono::{DateTime, Utc};
use coditect_protocol::catalogue::{Class, Table, by_cloud_name};
use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::history::{RecordHistory, RecordVersion, RestoreVersion, Take};
use coditect_protocol::wire::push::Status;
use coditect_protocol::wire::{Op, Row, Stored};
use coditect_protocol::{DeviceId, ErrorCode, RowId, Scope, UserId, Version};
use serde_json::Value;
use tokio_postgres::Row as DbRow;
use tokio_postgres::types::{Json, Type};
use uuid::Uuid;

use super::held::Held;
use super::views::{self, Writer};
use super::{SyncError, access, columns, escape, sql};
use crate::StoreError;
use crate::audit;
use crate::db::TenantTx;

/// Most versions that are listed.
pub const VERSIONS_MAX: i64 = 200;

const LIST: &str = "select version, device_id, user_id, deleted, reason, recorded_at, row
    from record_history
    where tenant_id = $1 and scope_id = $2 and table_name = $3 and row_id = $4
    union all
    select loser_version, loser_device, loser_user, loser_deleted, reason, detected_at, row
    from sync_conflicts
    where tenant_id = $1 and scope_id = $2 and table_name = $3 and row_id = $4
    order by 1 desc, 6 desc limit $5";
const FLOOR: &str = "select complete_since, days from history_floors
    where tenant_id = $1 and scope_id = $2";
const CONFLICT: &str = "select table_name, row_id, loser_deleted, row, resolved_at is not null
    from sync_conflicts where tenant_id = $1 and scope_id = $2 and id = $3 for update";
const SETTLE: &str = "update sync_conflicts set resolved_at = $4, resolved_by = $5, resolution = $6
    where tenant_id = $1 and scope_id = $2 and id = $3";

/// Returns the versions of a record, the one that holds first, and since when none of them is gone;
/// none for a record that does not exist.
///
/// # Errors
///
/// [`SyncError::UnknownTable`], [`SyncError::ScopeNotFound`], [`SyncError::DeviceUnknown`].
pub async fn history(
    tx: &mut TenantTx,
    device: DeviceId,
    scope: Scope,
    table: &str,
    id: RowId,
) -> Result<RecordHistory, SyncError> {
    let table = record_table(table)?;
    access::require(tx, device, Permission::SyncPull, scope).await?;
    let stored = fetch(tx, scope, table, id).await?;
    let floor = floor(tx, scope).await?;
    // What was made later than that has lost nothing.
    let since = floor.map(|floor| columns::time_text(floor.since));
    let created_at = stored.as_ref().map(|stored| stored.created_at.clone());
    let complete_since = since.filter(|since| created_at.is_none_or(|at| at < *since));
    let mut versions: Vec<RecordVersion> = stored.into_iter().map(of_stored).collect();
    let (tenant, scope_id, id) = (tx.tenant().get(), scope.id(), id.get());
    let params = [
        (&tenant as _, Type::UUID),
        (&scope_id as _, Type::UUID),
        (&table.cloud as _, Type::TEXT),
        (&id as _, Type::UUID),
        (&VERSIONS_MAX as _, Type::INT8),
    ];
    for row in tx.query(LIST, &params).await? {
        versions.push(read(&row)?);
    }
    versions.truncate(VERSIONS_MAX as usize);
    Ok(RecordHistory {
        versions,
        complete_since,
    })
}

/// Up to where versions of a stream were removed.
#[derive(Clone, Copy)]
struct Floor {
    since: DateTime<Utc>,
    days: i32,
}

async fn floor(tx: &mut TenantTx, scope: Scope) -> Result<Option<Floor>, StoreError> {
    let (tenant, scope) = (tx.tenant().get(), scope.id());
    let params = [(&tenant as _, Type::UUID), (&scope as _, Type::UUID)];
    let row = tx.query_opt(FLOOR, &params).await?;
    let read = |row: DbRow| {
        Ok(Floor {
            since: row.try_get(0)?,
            days: row.try_get(1)?,
        })
    };
    row.map(read).transpose()
}

/// Returns why a version is not there: it may have been removed if it is older than what is kept.
async fn lacking(
    tx: &mut TenantTx,
    scope: Scope,
    version: Version,
) -> Result<SyncError, StoreError> {
    let floor = floor(tx, scope).await?;
    let before = |floor: &Floor| {
        let ms = floor.since.timestamp_millis().max(0).cast_unsigned();
        version.unix_ms() <= ms
    };
    Ok(match floor.filter(before) {
        Some(floor) => SyncError::VersionPurged {
            before: columns::time_text(floor.since),
            days: floor.days,
        },
        None => SyncError::ScopeNotFound,
    })
}

/// Makes an earlier version of a record hold again, under a new version.
///
/// # Errors
///
/// [`SyncError::ScopeNotFound`] when the record has no such version,
/// [`SyncError::VersionPurged`] when it may have had it; as a push.
pub async fn restore_version(
    tx: &mut TenantTx,
    writer: Writer,
    wanted: &RestoreVersion,
) -> Result<Stored, SyncError> {
    let known = history(tx, writer.device, writer.scope, &wanted.table, wanted.id).await?;
    let mut versions = known.versions.into_iter();
    let Some(found) = versions.find(|one| one.version == wanted.version) else {
        return Err(lacking(tx, writer.scope, wanted.version).await?);
    };
    put(
        tx,
        writer,
        record_table(&wanted.table)?,
        wanted.id,
        found.row,
    )
    .await
}

/// How a conflict is settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    /// The conflict.
    pub conflict: Uuid,
    /// Which content shall hold.
    pub take: Take,
    /// The merged columns; with [`Take::Merged`] only.
    pub row: Option<Row>,
    /// The time of this moment.
    pub now: DateTime<Utc>,
}

/// Settles a conflict, and makes the chosen content hold.
///
/// # Errors
///
/// [`SyncError::ScopeNotFound`] when the scope has no such open conflict; as a push.
pub async fn settle(
    tx: &mut TenantTx,
    writer: Writer,
    settlement: &Settlement,
) -> Result<Stored, SyncError> {
    access::require(
        tx,
        writer.device,
        Permission::ConflictsResolve,
        writer.scope,
    )
    .await?;
    let (tenant, scope) = (tx.tenant().get(), writer.scope.id());
    let key = [
        (&tenant as _, Type::UUID),
        (&scope as _, Type::UUID),
        (&settlement.conflict as _, Type::UUID),
    ];
    let row = tx.query_opt(CONFLICT, &key).await?;
    let row = row.ok_or(SyncError::ScopeNotFound)?;
    if row.try_get(4)? {
        return Err(SyncError::ScopeNotFound);
    }
    let table = record_table(row.try_get(0)?)?;
    let id = RowId::new(row.try_get(1)?);
    let lost = content(&row, 2, 3)?;
    let stored = match settlement.take {
        Take::Stored => {
            let stored = fetch(tx, writer.scope, table, id).await?;
            stored.ok_or(SyncError::ScopeNotFound)?
        }
        Take::Lost => put(tx, writer, table, id, lost).await?,
        Take::Merged => {
            let merged = settlement.row.clone();
            let merged = merged.ok_or(SyncError::BadRequest("merged needs a row"))?;
            put(tx, writer, table, id, Some(merged)).await?
        }
    };
    let by = tx.caller().user_id().get();
    let resolution = match settlement.take {
        Take::Stored => "stored",
        Take::Lost => "lost",
        Take::Merged => "merged",
    };
    let mut params = key.to_vec();
    params.push((&settlement.now, Type::TIMESTAMPTZ));
    params.push((&by, Type::UUID));
    params.push((&resolution, Type::TEXT));
    tx.execute(SETTLE, &params).await?;
    let entry = audit::Entry {
        at: settlement.now,
        action: "conflict.resolve",
        resource_type: Some("conflict"),
        resource_id: Some(settlement.conflict.to_string()),
        detail: serde_json::json!({ "scope": writer.scope, "take": resolution }),
    };
    audit::record(tx, &entry).await?;
    Ok(stored)
}

/// Returns a table whose rows change.
fn record_table(name: &str) -> Result<&'static Table, SyncError> {
    let table = by_cloud_name(name).filter(|table| table.class == Class::Record);
    table.ok_or(SyncError::UnknownTable)
}

async fn fetch(
    tx: &mut TenantTx,
    scope: Scope,
    table: &'static Table,
    id: RowId,
) -> Result<Option<Stored>, SyncError> {
    let (tenant, scope, ids) = (tx.tenant().get(), scope.id(), vec![id.get()]);
    let params = [
        (&tenant as _, Type::UUID),
        (&scope as _, Type::UUID),
        (&ids as _, Type::UUID_ARRAY),
    ];
    let row = tx.query_opt(&sql::of(table).fetch, &params).await?;
    let held = row.map(|row| Held::read(table, &row)).transpose()?;
    Ok(held.map(|held| held.into_stored(table)))
}

/// Writes the columns, or a tombstone, over what is stored, and returns what holds then.
async fn put(
    tx: &mut TenantTx,
    writer: Writer,
    table: &'static Table,
    id: RowId,
    row: Option<Row>,
) -> Result<Stored, SyncError> {
    let written = views::put_record(tx, writer, table, id, row).await?;
    if let Some(outcome) = written.outcomes.first()
        && outcome.status == Status::Rejected
    {
        return Err(match outcome.code {
            Some(ErrorCode::DirectionRefused) => SyncError::DirectionRefused,
            _ => SyncError::BadRequest("the row does not fit its table"),
        });
    }
    let stored = fetch(tx, writer.scope, table, id).await?;
    stored.ok_or(SyncError::ScopeNotFound)
}

fn of_stored(stored: Stored) -> RecordVersion {
    RecordVersion {
        version: stored.version,
        device: stored.device,
        user_id: stored.user_id,
        op: stored.op,
        reason: "stored".to_owned(),
        at: stored.updated_at,
        row: stored.row,
    }
}

fn read(row: &DbRow) -> Result<RecordVersion, StoreError> {
    let user: Option<Uuid> = row.try_get(2)?;
    let content = content(row, 3, 6)?;
    Ok(RecordVersion {
        version: Version::from_i64(row.try_get(0)?),
        device: DeviceId::new(row.try_get(1)?),
        user_id: user.map(UserId::new),
        op: if content.is_none() {
            Op::Delete
        } else {
            Op::Upsert
        },
        reason: row.try_get(4)?,
        at: columns::time_text(row.try_get(5)?),
        row: content,
    })
}

/// Returns the columns of a kept version; none for a delete.
fn content(row: &DbRow, deleted: usize, content: usize) -> Result<Option<Row>, StoreError> {
    let deleted: bool = row.try_get(deleted)?;
    let Json(content): Json<Value> = row.try_get(content)?;
    match escape::original_json(content) {
        Value::Object(content) if !deleted => Ok(Some(content)),
        _ => Ok(None),
    }
}
