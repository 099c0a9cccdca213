//! Long values of rows: which are there, and what they are.

use coditect_protocol::wire::bodies::{BodiesKnown, BodiesReply, BodiesRequest};
use coditect_server_store::credential::Caller;
use coditect_server_store::sync::bodies;

use super::sync::check_version;
use crate::error::AppError;
use crate::state::AppState;

/// Returns bodies that rows name which the caller may read.
///
/// # Errors
/// [`AppError::NotFound`] for a scope that the caller may not see, [`AppError::DeviceUnknown`].
pub async fn read(
    state: &AppState,
    caller: &Caller,
    request: &BodiesRequest,
) -> Result<BodiesReply, AppError> {
    check_version(&request.api_version)?;
    let read = state
        .db
        .tenant_snapshot("sync.bodies", caller, |mut tx| async move {
            bodies::read(&mut tx, request).await
        })
        .await;
    Ok(read?)
}

/// Returns those of the bodies that rows name which the caller may read.
///
/// # Errors
/// As [`read`].
pub async fn known(
    state: &AppState,
    caller: &Caller,
    request: &BodiesRequest,
) -> Result<BodiesKnown, AppError> {
    check_version(&request.api_version)?;
    let known = state
        .db
        .tenant_snapshot("sync.bodies_known", caller, |mut tx| async move {
            bodies::known(&mut tx, request).await
        })
        .await;
    Ok(known?)
}
