//! `GET /api/v1/sync/conflicts`

pub(crate) mod resolve;

use axum::Json;
use axum::extract::State;
use coditect_protocol::{ErrorCode, Scope};
use coditect_server_store::sync::ConflictEntry;
use serde::{Deserialize, Serialize};

use crate::app;
use crate::auth::Authenticated;
use crate::body::CheckedQuery;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "listConflicts",
    summary: "List the versions that lost a conflict and wait for a person, the latest first",
    query: &[
        ("scope", "string", "Scope; the caller's own when left out"),
        ("limit", "integer", "Most entries, 500 at most"),
    ],
    reply: Reply::Json("ConflictList"),
    errors: &[ErrorCode::BadRequest],
    ..Operation::AUTHENTICATED
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Selection {
    scope: Option<Scope>,
    limit: Option<u32>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ConflictList {
    conflicts: Vec<ConflictEntry>,
}

pub(crate) async fn handle(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    query: CheckedQuery<Selection>,
) -> Result<Json<ConflictList>, AppError> {
    let Selection { scope, limit } = query.0;
    let conflicts = app::sync::conflicts(&state, &caller, scope, limit).await?;
    Ok(Json(ConflictList { conflicts }))
}
