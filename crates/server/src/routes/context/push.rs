//! `POST /api/v1/context/push`

use axum::Json;
use axum::extract::State;
use coditect_protocol::wire::context::{ContextPush, ContextPushReply};

use super::{NamedDevice, VIEW, WRITE_ERRORS};
use crate::app;
use crate::auth::Authenticated;
use crate::body::SyncJson;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "pushContext",
    summary: "Store messages, several or one; those that are stored already are left alone",
    request: Some("ContextPush"),
    reply: Reply::Json("ContextPushReply"),
    errors: WRITE_ERRORS,
    ..VIEW
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    body: SyncJson<ContextPush>,
) -> Result<Json<ContextPushReply>, AppError> {
    app::context::push(&state, device.of(&caller), body.0)
        .await
        .map(Json)
}
