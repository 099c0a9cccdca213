//! `POST /api/v1/sync/history/restore`

use axum::Json;
use axum::extract::State;
use coditect_protocol::ErrorCode;
use coditect_protocol::wire::history::{RecordReply, RestoreVersion};

use crate::app;
use crate::auth::Authenticated;
use crate::body::SyncJson;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::routes::context::{NamedDevice, VIEW};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "restoreVersion",
    summary: "Make an earlier version of a record hold again, under a new version",
    request: Some("RestoreVersion"),
    reply: Reply::Json("RecordReply"),
    errors: WRITE_ERRORS,
    ..VIEW
};

/// What refuses a record that a person chose.
pub(crate) const WRITE_ERRORS: &[ErrorCode] = &[
    ErrorCode::BadRequest,
    ErrorCode::BodyTooLarge,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::NotFound,
    ErrorCode::PermissionDenied,
    ErrorCode::UnknownTable,
    ErrorCode::DirectionRefused,
    ErrorCode::QuotaExceeded,
];

pub(crate) async fn handle(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    body: SyncJson<RestoreVersion>,
) -> Result<Json<RecordReply>, AppError> {
    app::history::restore(&state, device.of(&caller), &body.0)
        .await
        .map(Json)
}
