//! `POST /api/v1/auth/license/`

use axum::Json;
use axum::extract::State;
use coditect_protocol::ErrorCode;
use coditect_protocol::wire::auth::{LicenseLogin, LoginReply};

use crate::app;
use crate::auth::ClientAddress;
use crate::body::SmallJson;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "loginWithLicense",
    summary: "Log in with a licence key and register the device",
    request: Some("LicenseLogin"),
    reply: Reply::Json("LoginReply"),
    errors: &[
        ErrorCode::BadRequest,
        ErrorCode::Unauthenticated,
        ErrorCode::DeviceUnknown,
        ErrorCode::RateLimited,
        ErrorCode::BodyTooLarge,
        ErrorCode::UnsupportedMediaType,
    ],
    ..Operation::PUBLIC
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    ClientAddress(address): ClientAddress,
    body: SmallJson<LicenseLogin>,
) -> Result<Json<LoginReply>, AppError> {
    app::auth::login_with_license(&state, body.0, address)
        .await
        .map(Json)
}
