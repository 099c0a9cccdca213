//! `POST /api/v1/sync/move`

use axum::Json;
use axum::extract::State;
use coditect_protocol::ErrorCode;
use coditect_protocol::wire::moves::{MoveReply, MoveRequest};

use crate::app;
use crate::auth::Authenticated;
use crate::body::SyncJson;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "move",
    summary: "Move rows from one scope to another; sending it again changes nothing",
    request: Some("MoveRequest"),
    reply: Reply::Json("MoveReply"),
    errors: &[
        ErrorCode::BadRequest,
        ErrorCode::PermissionDenied,
        ErrorCode::DeviceUnknown,
        ErrorCode::NotFound,
        ErrorCode::BodyTooLarge,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::DirectionRefused,
        ErrorCode::ApiVersion,
    ],
    ..Operation::AUTHENTICATED
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    body: SyncJson<MoveRequest>,
) -> Result<Json<MoveReply>, AppError> {
    app::sync::move_rows(&state, &caller, &body.0)
        .await
        .map(Json)
}
