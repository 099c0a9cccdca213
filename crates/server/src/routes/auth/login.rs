//! `POST /api/v1/auth/login/`

use axum::Json;
use axum::extract::State;
use coditect_protocol::ErrorCode;
use coditect_protocol::wire::auth::{LoginReply, PasswordLogin};

use crate::app;
use crate::auth::ClientAddress;
use crate::body::SmallJson;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "loginWithPassword",
    summary: "Log in with e-mail and password and register the device; a person of several \
              organisations names one",
    request: Some("PasswordLogin"),
    reply: Reply::Json("LoginReply"),
    errors: &[
        ErrorCode::BadRequest,
        ErrorCode::Unauthenticated,
        ErrorCode::DeviceUnknown,
        ErrorCode::TenantAmbiguous,
        ErrorCode::RateLimited,
        ErrorCode::BodyTooLarge,
        ErrorCode::UnsupportedMediaType,
    ],
    ..Operation::PUBLIC
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    ClientAddress(address): ClientAddress,
    body: SmallJson<PasswordLogin>,
) -> Result<Json<LoginReply>, AppError> {
    app::auth::login_with_password(&state, body.0, address)
        .await
        .map(Json)
}
