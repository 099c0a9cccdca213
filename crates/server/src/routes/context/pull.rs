//! `GET /api/v1/context/pull`

use axum::Json;
use axum::extract::State;
use coditect_protocol::wire::context::MessagePage;

use super::{LIST_ERRORS, NamedDevice, RANGE, RangeQuery, VIEW};
use crate::app;
use crate::auth::Authenticated;
use crate::body::CheckedQuery;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "pullContext",
    summary: "Return the caller's messages behind a position",
    query: &RANGE,
    reply: Reply::Json("MessagePage"),
    errors: LIST_ERRORS,
    ..VIEW
};

pub(crate) async fn handle(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    query: CheckedQuery<RangeQuery>,
) -> Result<Json<MessagePage>, AppError> {
    let range = query.0.range();
    app::context::messages(&state, device.of(&caller), range)
        .await
        .map(Json)
}
