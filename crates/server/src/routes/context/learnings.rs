//! `GET /api/v1/context/learnings/`

use axum::Json;
use axum::extract::State;
use coditect_protocol::wire::context::LearningPage;

use super::{LIST_ERRORS, NamedDevice, RANGE, RangeQuery, VIEW};
use crate::app;
use crate::auth::Authenticated;
use crate::body::CheckedQuery;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "listLearnings",
    summary: "Return the caller's learnings behind a position",
    query: &RANGE,
    reply: Reply::Json("LearningPage"),
    errors: LIST_ERRORS,
    ..VIEW
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    query: CheckedQuery<RangeQuery>,
) -> Result<Json<LearningPage>, AppError> {
    let range = query.0.range();
    app::context::learnings(&state, device.of(&caller), range)
        .await
        .map(Json)
}
