//! `GET /api/v1/context/tasks/`

use axum::Json;
use axum::extract::State;
use coditect_protocol::Epoch;
use coditect_protocol::wire::context::TaskPage;
use coditect_server_store::sync::views::Filter;
use serde::Deserialize;

use crate::app;
use crate::app::context::Range;
use crate::auth::Authenticated;
use crate::body::CheckedQuery;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::routes::context::{LIST_ERRORS, NamedDevice, RANGE, VIEW};
use crate::state::AppState;

pub(crate) const OPERATION: Operation = Operation {
    id: "listTasks",
    summary: "Return the caller's tasks behind a position",
    query: &[
        RANGE[0],
        RANGE[1],
        RANGE[2],
        ("status", "string", "Only tasks in this state"),
        ("project_id", "string", "Only tasks of this project"),
        ("session_id", "string", "Only tasks of this session"),
        ("task_id", "string", "Only tasks of this name"),
    ],
    reply: Reply::Json("TaskPage"),
    errors: LIST_ERRORS,
    ..VIEW
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Selection {
    cursor: Option<i64>,
    epoch: Option<Epoch>,
    limit: Option<u32>,
    status: Option<String>,
    project_id: Option<String>,
    session_id: Option<String>,
    task_id: Option<String>,
}

pub(crate) async fn handle(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    query: CheckedQuery<Selection>,
) -> Result<Json<TaskPage>, AppError> {
    let query = query.0;
    let range = Range {
        cursor: query.cursor,
        epoch: query.epoch,
        limit: query.limit,
    };
    let filter = Filter::default()
        .with("status", query.status)
        .with("project_id", query.project_id)
        .with("session_id", query.session_id)
        .with("task_id", query.task_id);
    app::context::tasks(&state, device.of(&caller), range, filter)
        .await
        .map(Json)
}
