//! `POST /api/v1/sync/push`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use coditect_protocol::ErrorCode;
use coditect_protocol::wire::DEVICE_TIME_HEADER;
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
        ErrorCode::QuotaExceeded,
    ],
    ..Operation::AUTHENTICATED
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    body: SyncJson<PushRequest>,
) -> Result<Json<PushReply>, AppError> {
    let mut request = body.0;
    if let Some(sent_at_ms) = device_time(&headers) {
        request.sent_at_ms = sent_at_ms;
    }
    app::sync::push(&state, &caller, request).await.map(Json)
}

/// Returns the device's clock at the moment of sending. The batch says when it was made, which
/// is earlier when it is sent again after a lost reply.
fn device_time(headers: &HeaderMap) -> Option<i64> {
    headers.get(DEVICE_TIME_HEADER)?.to_str().ok()?.parse().ok()
}
