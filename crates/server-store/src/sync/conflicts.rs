//! Versions that lost a conflict, kept until a person settles it.

use chrono::{DateTime, Utc};
use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{DeviceId, RowId, Scope, UserId, Version};
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::types::{Json, Type};
use uuid::Uuid;

use super::{SyncError, columns, escape};
use crate::StoreError;
use crate::authority::Authority;
use crate::db::TenantTx;

/// Most conflicts that one call returns.
pub const CONFLICTS_MAX: u32 = 500;

const LIST: &str = "select id, table_name, row_id, reason, winner_version, winner_device,
    loser_version, loser_device, loser_user, loser_deleted, row, detected_at
    from sync_conflicts
    where tenant_id = $1 and scope_id = $2 and resolved_at is null
    order by detected_at desc, id desc limit $3";

/// An open conflict: what lost, and what won.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConflictEntry {
    /// Its own id.
    pub id: Uuid,
    /// Cloud name of the table.
    pub table: String,
    /// The row that both versions are of.
    pub row_id: RowId,
    /// Why it is kept: `conflict`, or `edited_fact` for an edit of a row that does not change.
    pub reason: String,
    /// Version that is stored since.
    pub winner_version: Version,
    /// Device that wrote it.
    pub winner_device: DeviceId,
    /// Version that lost.
    pub loser_version: Version,
    /// Device that wrote it.
    pub loser_device: DeviceId,
    /// Its author.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loser_user: Option<UserId>,
    /// Whether it deleted the row.
    pub loser_op: Op,
    /// Its columns; none for a delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<Row>,
    /// When the server met it, RFC 3339 UTC with microseconds.
    pub detected_at: String,
}

/// Returns the open conflicts of a scope, the latest first, at most `limit` and
/// [`CONFLICTS_MAX`]. A scope that the caller may not see has none.
///
/// # Errors
///
/// Those of the database.
pub async fn conflicts(
    tx: &mut TenantTx,
    scope: Scope,
    limit: u32,
) -> Result<Vec<ConflictEntry>, SyncError> {
    let authority = Authority::of(tx).await?;
    if !authority.may(Permission::ConflictsRead, scope) {
        return Ok(Vec::new());
    }
    let (tenant, scope) = (tx.tenant().get(), scope.id());
    let limit = i64::from(limit.min(CONFLICTS_MAX));
    let rows = tx
        .query(
            LIST,
            &[
                (&tenant, Type::UUID),
                (&scope, Type::UUID),
                (&limit, Type::INT8),
            ],
        )
        .await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

fn read(row: &tokio_postgres::Row) -> Result<ConflictEntry, StoreError> {
    let deleted: bool = row.try_get(9)?;
    let Json(content): Json<Value> = row.try_get(10)?;
    let content = match escape::original_json(content) {
        Value::Object(content) if !deleted => Some(content),
        _ => None,
    };
    let user: Option<Uuid> = row.try_get(8)?;
    let detected_at: DateTime<Utc> = row.try_get(11)?;
    Ok(ConflictEntry {
        id: row.try_get(0)?,
        table: row.try_get(1)?,
        row_id: RowId::new(row.try_get(2)?),
        reason: row.try_get(3)?,
        winner_version: Version::from_i64(row.try_get(4)?),
        winner_device: DeviceId::new(row.try_get(5)?),
        loser_version: Version::from_i64(row.try_get(6)?),
        loser_device: DeviceId::new(row.try_get(7)?),
        loser_user: user.map(UserId::new),
        loser_op: if deleted { Op::Delete } else { Op::Upsert },
        row: content,
        detected_at: columns::time_text(detected_at),
    })
}
