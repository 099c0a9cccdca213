//! `POST /api/v1/sync/pull`

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use coditect_protocol::ErrorCode;
use coditect_protocol::wire::pull::PullRequest;

use crate::app;
use crate::auth::Authenticated;
use crate::body::SyncJson;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "pull",
    summary: "Return what happened in the caller's streams since the given positions",
    request: Some("PullRequest"),
    reply: Reply::Json("PullReply"),
    errors: &[
        ErrorCode::BadRequest,
        ErrorCode::DeviceUnknown,
        ErrorCode::NotFound,
        ErrorCode::InvalidCursor,
        ErrorCode::EpochChanged,
        ErrorCode::FileFenced,
        ErrorCode::BodyTooLarge,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::UnknownTable,
        ErrorCode::ApiVersion,
    ],
    ..Operation::AUTHENTICATED
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    body: SyncJson<PullRequest>,
) -> Result<impl IntoResponse, AppError> {
    let pulled = app::sync::pull(&state, &caller, &body.0).await?;
    Ok(([(CONTENT_TYPE, "application/json")], pulled.into_json()))
}
