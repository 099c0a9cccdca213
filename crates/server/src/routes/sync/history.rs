//! `GET /api/v1/sync/history`

pub(crate) mod restore;

use axum::Json;
use axum::extract::State;
use coditect_protocol::wire::history::RecordHistory;
use coditect_protocol::{ErrorCode, RowId, Scope};
use serde::Deserialize;

use crate::app;
use crate::auth::Authenticated;
use crate::body::CheckedQuery;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::routes::context::{NamedDevice, VIEW};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "recordHistory",
    summary: "List the versions of a record with device and author, the one that holds first",
    query: &[
        ("scope", "string", "Scope; the caller's own when left out"),
        (
            "table",
            "string",
            "Cloud name of the record's table; required",
        ),
        ("id", "string", "The record; required"),
    ],
    reply: Reply::Json("RecordHistory"),
    errors: &[
        ErrorCode::BadRequest,
        ErrorCode::NotFound,
        ErrorCode::PermissionDenied,
        ErrorCode::UnknownTable,
    ],
    ..VIEW
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Selection {
    scope: Option<Scope>,
    table: String,
    id: RowId,
}

pub(crate) async fn handle(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    query: CheckedQuery<Selection>,
) -> Result<Json<RecordHistory>, AppError> {
    let Selection { scope, table, id } = query.0;
    let scope = scope.unwrap_or(Scope::User(caller.0.user_id().get()));
    app::history::list(&state, device.of(&caller), scope, &table, id)
        .await
        .map(Json)
}
