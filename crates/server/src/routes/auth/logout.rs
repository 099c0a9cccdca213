//! `POST /api/v1/auth/logout/`

use axum::extract::State;
use axum::http::StatusCode;
use coditect_protocol::ErrorCode;
use coditect_protocol::wire::auth::Refresh;

use crate::app;
use crate::body::SmallJson;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "logout",
    summary: "End the login that a refresh token belongs to; an unknown token is no error",
    request: Some("Refresh"),
    reply: Reply::Empty,
    errors: &[
        ErrorCode::BadRequest,
        ErrorCode::BodyTooLarge,
        ErrorCode::UnsupportedMediaType,
    ],
    ..Operation::PUBLIC
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    body: SmallJson<Refresh>,
) -> Result<StatusCode, AppError> {
    app::auth::log_out(&state, body.0).await?;
    Ok(StatusCode::NO_CONTENT)
}
