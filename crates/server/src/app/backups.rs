//! Backups: asking for one, and listing them.

pub mod restores;
pub(crate) mod spool;

use coditect_core::{canonical, hash};
use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::backups::{BackupMetadata, BackupRequest, BackupStatus, BackupType};
use coditect_protocol::{ErrorCode, Scope};
use coditect_server_store::StoreError;
use coditect_server_store::backups::{self, Backup, Request};
use coditect_server_store::credential::Caller;
use coditect_server_store::sync::{self, SyncError};
use uuid::Uuid;

use crate::app::context::{Asker, as_device};
use crate::backups::Backups;
use crate::error::AppError;
use crate::state::AppState;

/// Longest chain of incremental backups that a restore follows.
const CHAIN_MAX: usize = 1_000;

/// Asks for a backup of the scope, and has it written.
///
/// # Errors
/// `SYNC_005` when the role does not allow it, [`AppError::NotFound`] for a scope that the caller
/// may not know of, [`AppError::Unavailable`] where there is no place for backups.
pub async fn create(
    state: &AppState,
    asker: Asker<'_>,
    scope: Scope,
    request: &BackupRequest,
) -> Result<BackupMetadata, AppError> {
    let backups = place(state)?;
    let backup = ask(state, asker, scope, request.kind).await?;
    backups.wake();
    Ok(metadata(asker.caller, backups, backup))
}

/// Returns the backups of the scope, newest first.
///
/// # Errors
/// As [`create`].
pub async fn list(
    state: &AppState,
    asker: Asker<'_>,
    scope: Scope,
) -> Result<Vec<BackupMetadata>, AppError> {
    let (backups, caller) = (place(state)?, asker.caller);
    let found = as_device(state, asker, |device| async move {
        let read = state
            .db
            .tenant_snapshot("backups.list", caller, |mut tx| async move {
                sync::require(&mut tx, device, Permission::BackupsRead, scope).await?;
                Ok(backups::list(&mut tx, scope).await?)
            });
        read.await
    })
    .await?;
    let found = found.into_iter();
    Ok(found.map(|one| metadata(caller, backups, one)).collect())
}

fn place(state: &AppState) -> Result<&Backups, AppError> {
    state.backups.as_ref().ok_or(AppError::Unavailable {
        reason: "this server has no place for backups",
    })
}

fn not_there() -> AppError {
    let detail = "the scope has no such backup, or it is not complete";
    AppError::refused(ErrorCode::BackupNotFound, detail)
}

async fn ask(
    state: &AppState,
    asker: Asker<'_>,
    scope: Scope,
    kind: BackupType,
) -> Result<Backup, AppError> {
    let (caller, now) = (asker.caller, state.clock.now());
    let wanted = &Request {
        scope,
        incremental: kind == BackupType::Incremental,
        now,
    };
    as_device(state, asker, |device| async move {
        let asked = state
            .db
            .tenant("backups.create", caller, |mut tx| async move {
                sync::require(&mut tx, device, Permission::BackupsCreate, scope).await?;
                Ok::<_, SyncError>(backups::request(&mut tx, wanted).await?)
            });
        asked.await
    })
    .await
}

/// Returns the backup and those that it goes on from, the full one first; empty when one is
/// missing or not complete.
async fn chain(
    tx: &mut coditect_server_store::TenantTx,
    scope: Scope,
    id: Uuid,
) -> Result<Vec<Backup>, StoreError> {
    let (mut chain, mut next) = (Vec::new(), Some(id));
    while let Some(id) = next {
        let backup = match backups::find(tx, scope, id).await {
            Ok(backup) if backup.status == "completed" && chain.len() < CHAIN_MAX => backup,
            Ok(_) | Err(StoreError::NotFound) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        next = backup.base;
        chain.push(backup);
    }
    chain.reverse();
    Ok(chain)
}

fn time(moment: chrono::DateTime<chrono::Utc>) -> String {
    canonical::time_from_ms(moment.timestamp_millis())
}

fn metadata(caller: &Caller, backups: &Backups, backup: Backup) -> BackupMetadata {
    let address = backups.storage.address(&backup.path);
    BackupMetadata {
        id: backup.id,
        tenant_id: caller.tenant().organization(),
        scope_type: backup.scope.kind().to_owned(),
        scope_id: backup.scope.id(),
        backup_type: match backup.kind.as_str() {
            "incremental" => BackupType::Incremental,
            _ => BackupType::Full,
        },
        gcs_path: address.clone(),
        path: address,
        size_bytes: backup.size_bytes,
        record_count: backup.record_count,
        checksum: backup.checksum,
        status: match backup.status.as_str() {
            "completed" => BackupStatus::Completed,
            "running" => BackupStatus::Running,
            "failed" => BackupStatus::Failed,
            _ => BackupStatus::Pending,
        },
        created_at: time(backup.created_at),
        completed_at: backup.completed_at.map(time),
        expires_at: backup.expires_at.map(time),
        failure: backup.failure,
        base_id: backup.base,
        on_demand: backup.on_demand,
    }
}

/// Returns whether an archived row is what its hash says.
fn is_whole(row: &coditect_protocol::wire::Stored) -> bool {
    let table = coditect_protocol::catalogue::by_cloud_name(&row.table);
    match (table, &row.row) {
        (Some(table), Some(columns)) => hash::content(table, columns).to_string() == row.hash,
        (Some(_), None) => row.op == coditect_protocol::wire::Op::Delete,
        (None, _) => false,
    }
}
