//! Push, pull and conflicts: the order of store calls around the engine's rules.

use coditect_core::body;
use coditect_protocol::limits::BODY_BYTES_MAX;
use coditect_protocol::wire::Op;
use coditect_protocol::wire::moves::{MoveReply, MoveRequest};
use coditect_protocol::wire::pull::PullRequest;
use coditect_protocol::wire::push::{PushReply, PushRequest};
use coditect_protocol::{API_VERSION, ErrorCode, Scope};
use coditect_server_store::credential::Caller;
use coditect_server_store::sync::{self, ConflictEntry, Looked, Pulled, SyncError};
use coditect_server_store::{StoreError, cluster, devices};

use crate::app::progress;
use crate::error::AppError;
use crate::state::AppState;

/// Minor versions that a client may be behind.
const MINOR_VERSIONS_SERVED: u32 = 2;

/// Stores a batch of changes.
///
/// A token ahead of the database ends the epoch; a token behind it gives the file a new device.
///
/// # Errors
/// [`AppError::EpochChanged`], [`AppError::FileFenced`], [`AppError::DeviceUnknown`],
/// [`AppError::NotFound`] for a scope that the caller may not see, [`AppError::Refused`] for the
/// rest of what refuses a whole batch.
pub async fn push(
    state: &AppState,
    caller: &Caller,
    mut request: PushRequest,
) -> Result<PushReply, AppError> {
    check_version(&request.api_version)?;
    let mut left = BODY_BYTES_MAX;
    for row in request
        .changes
        .iter_mut()
        .filter_map(|change| change.row.as_mut())
    {
        body::numbers::put_into_row(row, &mut left);
    }
    let now = state.clock.now();
    if request.changes.iter().any(|change| change.op == Op::Upsert) {
        state.limits.check_storage(&state.db, caller, now).await?;
    }
    let pushed = state
        .pushes
        .push(caller, request, now.timestamp_millis())
        .await;
    match pushed {
        Ok(reply) => {
            state.metrics.pushed(&reply.outcomes);
            Ok(reply)
        }
        Err(error) => Err(refused(state, caller, error).await),
    }
}

/// Moves rows from one scope to another. An organisation's storage stays what it is, so a full
/// one does not refuse it.
///
/// # Errors
/// [`AppError::DeviceUnknown`], [`AppError::NotFound`] for a scope that the caller may not see,
/// [`AppError::Refused`] for the rest of what refuses a whole move.
pub async fn move_rows(
    state: &AppState,
    caller: &Caller,
    request: &MoveRequest,
) -> Result<MoveReply, AppError> {
    check_version(&request.api_version)?;
    let now_ms = state.clock.now().timestamp_millis();
    let moved = state
        .db
        .tenant("sync.move", caller, |mut tx| async move {
            sync::move_rows(&mut tx, request, now_ms).await
        })
        .await;
    match moved {
        Ok(reply) => Ok(reply),
        Err(error) => Err(refused(state, caller, error).await),
    }
}

/// Does what a refused token asks for: a database that was set back begins a new life, a copied
/// file becomes a device of its own.
async fn refused(state: &AppState, caller: &Caller, error: SyncError) -> AppError {
    match error {
        SyncError::EpochBehind { epoch } => match cluster::end_epoch(&state.db, epoch).await {
            Ok(new) => {
                tracing::warn!(epoch.old = %epoch, epoch.new = %new, "the database was set back");
                AppError::EpochChanged(new)
            }
            Err(error) => error.into(),
        },
        SyncError::Fenced => {
            let now = state.clock.now();
            match devices::register_replacement(&state.db, caller, now).await {
                Ok(device) => AppError::FileFenced(device),
                Err(StoreError::NotFound) => AppError::DeviceUnknown,
                Err(error) => error.into(),
            }
        }
        error => error.into(),
    }
}

/// Returns what happened in the caller's streams since the given positions.
///
/// # Errors
/// [`AppError::EpochChanged`] and `SYNC_001` for cursors, [`AppError::EpochChanged`] and
/// [`AppError::FileFenced`] for tokens as in a push, [`AppError::NotFound`] for a scope that the
/// caller may not see, [`AppError::DeviceUnknown`].
pub async fn pull(
    state: &AppState,
    caller: &Caller,
    request: &PullRequest,
) -> Result<Pulled, AppError> {
    check_version(&request.api_version)?;
    let pulled = match state.db.has_replica() {
        true => pull_by_replica(state, caller, request).await,
        false => pull_here(state, caller, request).await,
    };
    let pulled = match pulled {
        Ok(pulled) => pulled,
        Err(error) => return Err(refused(state, caller, error).await),
    };
    // A single table that was asked for says nothing about the rest of its file.
    if request.table.is_none() {
        progress::of_pull(state, caller, request, &pulled).await;
    }
    Ok(pulled)
}

async fn pull_here(
    state: &AppState,
    caller: &Caller,
    request: &PullRequest,
) -> Result<Pulled, SyncError> {
    state
        .db
        .tenant_snapshot("sync.pull", caller, |mut tx| async move {
            sync::pull(&mut tx, request, &state.token_key, &state.pages).await
        })
        .await
}

/// Has the rows read by the replica where they are many; the primary says who may read them, and
/// reads them itself where the replica is behind.
async fn pull_by_replica(
    state: &AppState,
    caller: &Caller,
    request: &PullRequest,
) -> Result<Pulled, SyncError> {
    let looked = state
        .db
        .tenant_snapshot("sync.pull", caller, |mut tx| async move {
            sync::look(&mut tx, request, &state.token_key, &state.pages).await
        })
        .await?;
    let gate = match looked {
        Looked::Answered(reply) => return Ok(reply),
        Looked::Elsewhere(gate) => gate,
    };
    let gate = &gate;
    let answered = state
        .db
        .replica_snapshot::<_, SyncError, _, _>("sync.pull", caller, |mut tx| async move {
            gate.answer(&mut tx, &state.token_key).await
        })
        .await;
    match answered {
        Some(reply) => Ok(reply),
        None => pull_here(state, caller, request).await,
    }
}

/// Returns the open conflicts of a scope, the caller's own when none is named. A scope that the
/// caller may not see has none.
///
/// # Errors
/// Those of the store.
pub async fn conflicts(
    state: &AppState,
    caller: &Caller,
    scope: Option<Scope>,
    limit: Option<u32>,
) -> Result<Vec<ConflictEntry>, AppError> {
    let scope = scope.unwrap_or(Scope::User(caller.user_id().get()));
    let limit = limit.unwrap_or(sync::CONFLICTS_MAX);
    let found = state
        .db
        .tenant_snapshot("sync.conflicts", caller, |mut tx| async move {
            sync::conflicts(&mut tx, scope, limit).await
        })
        .await?;
    Ok(found)
}

/// Serves clients of this version and up to two minor versions older.
pub(super) fn check_version(theirs: &str) -> Result<(), AppError> {
    if is_served(theirs, API_VERSION) {
        return Ok(());
    }
    let detail = format!("this server speaks {API_VERSION} and two minor versions older");
    Err(AppError::refused(ErrorCode::ApiVersion, detail))
}

fn is_served(theirs: &str, ours: &str) -> bool {
    match (parts(theirs), parts(ours)) {
        (Some((major, minor)), Some((our_major, our_minor))) => {
            major == our_major && minor <= our_minor && our_minor - minor <= MINOR_VERSIONS_SERVED
        }
        _ => false,
    }
}

fn parts(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_minor_versions_older_are_served() {
        for served in ["1.5", "1.4", "1.3"] {
            assert!(is_served(served, "1.5"), "{served}");
        }
        for refused in ["1.2", "1.6", "0.5", "2.5", "1", "", "1.x", "1.5.0"] {
            assert!(!is_served(refused, "1.5"), "{refused}");
        }
        assert!(check_version(API_VERSION).is_ok());
    }
}
