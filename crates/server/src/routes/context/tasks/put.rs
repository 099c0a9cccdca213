//! `POST /api/v1/context/tasks/`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use coditect_protocol::wire::context::{TaskEvent, TaskReply, ViewStatus};

use crate::app;
use crate::auth::Authenticated;
use crate::body::SyncJson;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::routes::context::{NamedDevice, VIEW, WRITE_ERRORS};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "putTask",
    summary: "Make a task, or change the one of that session and name",
    request: Some("TaskEvent"),
    reply: Reply::JsonOrCreated("TaskReply"),
    errors: WRITE_ERRORS,
    ..VIEW
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    body: SyncJson<TaskEvent>,
) -> Result<(StatusCode, Json<TaskReply>), AppError> {
    let reply = app::context::put_task(&state, device.of(&caller), &body.0).await?;
    let status = match reply.status {
        ViewStatus::Created => StatusCode::CREATED,
        ViewStatus::Updated | ViewStatus::Duplicate => StatusCode::OK,
    };
    Ok((status, Json(reply)))
}
