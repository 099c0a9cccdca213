//! `POST /api/v1/sync/push`

use axum::Json;
use axum::extract::State;
use coditect_protocol::ErrorCode;
use coditect_protocol::wire::push::{PushReply, PushRequest};

use crate::app;
use crate::auth::Authenticated;
use crate::body::SyncJson;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "push",
    summary: "Store changes of one stream and one file; sending a batch again changes nothing",
    request: Some("PushRequest"),
    reply: Reply::Json("PushReply"),
    errors: &[
        ErrorCode::BadRequest,
        ErrorCode::PermissionDenied,
        ErrorCode::DeviceUnknown,
        ErrorCode::NotFound,
        ErrorCode::EpochChanged,
        ErrorCode::FileFenced,
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
    body: SyncJson<PushRequest>,
) -> Result<Json<PushReply>, AppError> {
    app::sync::push(&state, &caller, &body.0).await.map(Json)
}
