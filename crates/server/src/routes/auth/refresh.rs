//! `POST /api/v1/auth/refresh/`

use axum::Json;
use axum::extract::State;
use coditect_protocol::ErrorCode;
use coditect_protocol::wire::auth::{LoginReply, Refresh};

use crate::app;
use crate::body::SmallJson;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "refresh",
    summary: "Trade a refresh token for new tokens; each is good for one use",
    request: Some("Refresh"),
    reply: Reply::Json("LoginReply"),
    errors: &[
        ErrorCode::BadRequest,
        ErrorCode::Unauthenticated,
        ErrorCode::DeviceUnknown,
        ErrorCode::AccountErased,
        ErrorCode::BodyTooLarge,
        ErrorCode::UnsupportedMediaType,
    ],
    ..Operation::PUBLIC
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    body: SmallJson<Refresh>,
) -> Result<Json<LoginReply>, AppError> {
    app::auth::refresh(&state, body.0).await.map(Json)
}
