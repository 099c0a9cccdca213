//! `GET /api/v1/context/decisions/`

use axum::Json;
use axum::extract::State;
use coditect_protocol::wire::context::DecisionPage;

use super::{LIST_ERRORS, NamedDevice, RANGE, RangeQuery, VIEW};
use crate::app;
use crate::auth::Authenticated;
use crate::body::CheckedQuery;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "listDecisions",
    summary: "Return the caller's decisions behind a position",
    query: &RANGE,
    reply: Reply::Json("DecisionPage"),
    errors: LIST_ERRORS,
    ..VIEW
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    query: CheckedQuery<RangeQuery>,
) -> Result<Json<DecisionPage>, AppError> {
    let range = query.0.range();
    app::context::decisions(&state, device.of(&caller), range)
        .await
        .map(Json)
}
