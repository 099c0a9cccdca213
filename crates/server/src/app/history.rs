//! The versions of a record: showing them, going back to one, settling a conflict.

use coditect_protocol::wire::history::{
    RecordHistory, RecordReply, ResolveConflict, RestoreVersion,
};
use coditect_protocol::{RowId, Scope};
use coditect_server_store::sync::views::Writer;
use coditect_server_store::sync::{self, Settlement};
use uuid::Uuid;

use crate::app::context::{Asker, as_device};
use crate::error::AppError;
use crate::state::AppState;

/// Returns the versions of a record, the one that holds first.
///
/// # Errors
/// [`AppError::NotFound`] for a scope that the caller may not see, [`AppError::Refused`] for a
/// table without records, [`AppError::DeviceUnknown`].
pub async fn list(
    state: &AppState,
    asker: Asker<'_>,
    scope: Scope,
    table: &str,
    id: RowId,
) -> Result<RecordHistory, AppError> {
    let caller = asker.caller;
    as_device(state, asker, |device| async move {
        let read = state
            .db
            .tenant_snapshot("history.list", caller, |mut tx| async move {
                sync::history(&mut tx, device, scope, table, id).await
            });
        read.await
    })
    .await
}

/// Makes an earlier version of a record hold again, under a new version.
///
/// # Errors
/// [`AppError::NotFound`] when there is no such version; as a push.
pub async fn restore(
    state: &AppState,
    asker: Asker<'_>,
    wanted: &RestoreVersion,
) -> Result<RecordReply, AppError> {
    let (caller, now) = (asker.caller, state.clock.now());
    state.limits.check_storage(&state.db, caller, now).await?;
    let stored = as_device(state, asker, |device| async move {
        let writer = Writer {
            scope: wanted.scope,
            device,
            now_ms: now.timestamp_millis(),
        };
        let written = state
            .db
            .tenant("history.restore", caller, |mut tx| async move {
                sync::restore_version(&mut tx, writer, wanted).await
            });
        written.await
    })
    .await?;
    Ok(RecordReply {
        conflict_id: None,
        stored,
    })
}

/// Settles a conflict, and makes the chosen content hold.
///
/// # Errors
/// [`AppError::NotFound`] when the scope has no such open conflict; as a push.
pub async fn resolve(
    state: &AppState,
    asker: Asker<'_>,
    conflict: Uuid,
    wanted: ResolveConflict,
) -> Result<RecordReply, AppError> {
    let (caller, now) = (asker.caller, state.clock.now());
    state.limits.check_storage(&state.db, caller, now).await?;
    let settlement = &Settlement {
        conflict,
        take: wanted.take,
        row: wanted.row,
        now,
    };
    let stored = as_device(state, asker, |device| async move {
        let writer = Writer {
            scope: wanted.scope,
            device,
            now_ms: now.timestamp_millis(),
        };
        let written = state
            .db
            .tenant("conflicts.resolve", caller, |mut tx| async move {
                sync::settle(&mut tx, writer, settlement).await
            });
        written.await
    })
    .await?;
    Ok(RecordReply {
        conflict_id: Some(conflict),
        stored,
    })
}
