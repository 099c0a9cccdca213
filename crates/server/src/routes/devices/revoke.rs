//! `DELETE /api/v1/devices/{id}/`

use axum::extract::State;
use axum::http::StatusCode;
use coditect_protocol::{DeviceId, ErrorCode};

use crate::app;
use crate::auth::Authenticated;
use crate::body::CheckedPath;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "revokeDevice",
    summary: "Lock a device out at once and end its logins; one that is locked out stays so",
    reply: Reply::Empty,
    errors: &[ErrorCode::NotFound],
    ..Operation::AUTHENTICATED
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath(device): CheckedPath<DeviceId>,
) -> Result<StatusCode, AppError> {
    app::devices::revoke(&state, &caller, device).await?;
    Ok(StatusCode::NO_CONTENT)
}
