//! `POST /api/v1/sync/bodies/known`

use axum::Json;
use axum::extract::State;
use coditect_protocol::wire::bodies::{BodiesKnown, BodiesRequest};

use super::ERRORS;
use crate::app;
use crate::auth::Authenticated;
use crate::body::SyncJson;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "bodies_known",
    summary: "Say which long values need not be sent: a row that the caller may read has them",
    request: Some("BodiesRequest"),
    reply: Reply::Json("BodiesKnown"),
    errors: ERRORS,
    ..Operation::AUTHENTICATED
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    body: SyncJson<BodiesRequest>,
) -> Result<Json<BodiesKnown>, AppError> {
    app::bodies::known(&state, &caller, &body.0).await.map(Json)
}
