//! One row at a time, by its id: what the routes of sprints, tracks, metrics, calibrations and
//! checkpoints show and write.

use coditect_core::{canonical, hash};
use coditect_protocol::catalogue::Table;
use coditect_protocol::wire::{Op, Row, Stored};
use coditect_protocol::{DeviceId, RowId, Scope};

use super::view::View;
use super::write::{self, Edited, Writer, edit_by_id};
use crate::StoreError;
use crate::credential::random_bytes;
use crate::db::TenantTx;
use crate::sync::push::unfiled::{self, Written};
use crate::sync::{SyncError, access};

/// Returns a live row of the scope.
///
/// # Errors
///
/// [`SyncError::ScopeNotFound`] when there is none, or the caller may not know of the scope;
/// [`SyncError::PermissionDenied`], [`SyncError::DeviceUnknown`].
pub async fn get(
    tx: &mut TenantTx,
    view: View,
    scope: Scope,
    device: DeviceId,
    id: RowId,
) -> Result<Stored, SyncError> {
    access::require(tx, device, view.permission(), scope).await?;
    let held = write::fetch(tx, scope, view.table(), id).await?;
    let live = held.filter(|held| !held.deleted());
    let live = live.ok_or(SyncError::ScopeNotFound)?;
    Ok(live.into_stored(view.table()))
}

/// Stores a row under `id`, or under a new one. `edit` gets the columns of the live row of that
/// id, if there is one, and returns those to store; a fact that is there stays as it is. It may
/// be called again when the transaction runs again.
///
/// # Errors
///
/// As [`crate::sync::push`].
pub async fn add_record(
    tx: &mut TenantTx,
    writer: Writer,
    table: &'static Table,
    id: Option<RowId>,
    edit: &(dyn Fn(Option<&Row>) -> Row + Sync),
) -> Result<Edited, SyncError> {
    let id = match id {
        Some(id) => id,
        None => {
            let random = random_bytes().map_err(StoreError::from)?;
            RowId::new(hash::random_id(writer.now_ms.unsigned_abs(), random))
        }
    };
    edit_by_id(tx, writer, table, id, &|stored| Some(edit(stored))).await
}

/// Changes a live row: `edit` gets its columns and returns those to store.
///
/// # Errors
///
/// As [`crate::sync::push`]; [`SyncError::ScopeNotFound`] when the scope has no such live row.
pub async fn change_record(
    tx: &mut TenantTx,
    writer: Writer,
    table: &'static Table,
    id: RowId,
    edit: &(dyn Fn(&Row) -> Row + Sync),
) -> Result<Edited, SyncError> {
    edit_by_id(tx, writer, table, id, &|stored| stored.map(edit)).await
}

/// Leaves a tombstone in place of a live row.
///
/// # Errors
///
/// As [`crate::sync::push`]; [`SyncError::ScopeNotFound`] when the scope has no such live row.
pub async fn delete_record(
    tx: &mut TenantTx,
    writer: Writer,
    table: &'static Table,
    id: RowId,
) -> Result<Written, SyncError> {
    let opened = unfiled::open(tx, writer.scope, writer.device).await?;
    let held = write::fetch(tx, writer.scope, table, id).await?;
    let live = held.filter(|held| !held.deleted());
    let existing = live.ok_or(SyncError::ScopeNotFound)?.existing;
    let now = canonical::time_from_ms(writer.now_ms);
    let base = Some(existing.version);
    let mut change = write::change(table, id, Row::new(), base, &now, writer.now_ms);
    change.op = Op::Delete;
    change.row = None;
    change.hash = existing.hash.to_string();
    let request = write::request(writer, table, vec![change])?;
    unfiled::write(tx, opened, &request).await
}
