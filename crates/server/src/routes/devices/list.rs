//! `GET /api/v1/devices/`

use axum::Json;
use axum::extract::State;
use coditect_protocol::wire::devices::DeviceList;

use crate::app;
use crate::auth::Authenticated;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "listDevices",
    summary: "List the caller's devices; for owners and admins those of the organisation",
    reply: Reply::Json("DeviceList"),
    ..Operation::AUTHENTICATED
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
) -> Result<Json<DeviceList>, AppError> {
    let devices = app::devices::list(&state, &caller).await?;
    Ok(Json(DeviceList { devices }))
}
