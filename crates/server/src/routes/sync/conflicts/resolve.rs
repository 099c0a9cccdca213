//! `POST /api/v1/sync/conflicts/{id}/resolve`

use axum::Json;
use axum::extract::State;
use coditect_protocol::wire::history::{RecordReply, ResolveConflict};
use uuid::Uuid;

use crate::app;
use crate::auth::Authenticated;
use crate::body::{CheckedPath, SyncJson};
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::routes::context::{NamedDevice, VIEW};
use crate::routes::sync::history::restore::WRITE_ERRORS;
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "resolveConflict",
    summary: "Settle a conflict: keep what is stored, take what lost, or store merged columns",
    request: Some("ResolveConflict"),
    reply: Reply::Json("RecordReply"),
    errors: WRITE_ERRORS,
    ..VIEW
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    CheckedPath(conflict): CheckedPath<Uuid>,
    body: SyncJson<ResolveConflict>,
) -> Result<Json<RecordReply>, AppError> {
    app::history::resolve(&state, device.of(&caller), conflict, body.0)
        .await
        .map(Json)
}
