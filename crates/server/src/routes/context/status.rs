//! `GET /api/v1/context/status`

use axum::Json;
use axum::extract::State;
use coditect_protocol::ErrorCode;
use coditect_protocol::wire::context::ContextStatus;

use super::{NamedDevice, VIEW};
use crate::app;
use crate::auth::Authenticated;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "contextStatus",
    summary: "Return the figures of the caller's stream and devices",
    reply: Reply::Json("ContextStatus"),
    errors: &[ErrorCode::BadRequest, ErrorCode::DeviceUnknown],
    ..VIEW
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
) -> Result<Json<ContextStatus>, AppError> {
    app::context::status(&state, device.of(&caller))
        .await
        .map(Json)
}
