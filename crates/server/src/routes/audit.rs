//! `GET /api/v1/audit/` and `GET /api/v1/audit/export`

pub(crate) mod export;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use coditect_protocol::wire::audit::AuditPage;
use coditect_protocol::{DeviceId, ErrorCode, UserId};
use coditect_server_store::audit::Filter;
use serde::Deserialize;

use crate::app;
use crate::auth::Authenticated;
use crate::body::CheckedQuery;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

const ERRORS: &[ErrorCode] = &[ErrorCode::BadRequest, ErrorCode::PermissionDenied];

pub(crate) const OPERATION: Operation = Operation {
    id: "listAuditEntries",
    summary: "List who did what, the latest first",
    query: &[
        ("user_id", "string", "Who did it"),
        ("device_id", "string", "On which device"),
        (
            "action",
            "string",
            "What was done; 'project' also stands for 'project.create' and its like",
        ),
        ("resource_type", "string", "Kind of the thing"),
        ("resource_id", "string", "Id of the thing"),
        ("since", "string", "From this moment on (RFC 3339)"),
        ("until", "string", "Before this moment (RFC 3339)"),
        (
            "before",
            "string",
            "Entries behind this place: a page's 'next'",
        ),
        (
            "limit",
            "integer",
            "Most entries: 100 when left out, 1,000 at most",
        ),
    ],
    reply: Reply::Json("AuditPage"),
    errors: ERRORS,
    ..Operation::AUTHENTICATED
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Selection {
    user_id: Option<UserId>,
    device_id: Option<DeviceId>,
    action: Option<String>,
    resource_type: Option<String>,
    resource_id: Option<String>,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    before: Option<String>,
    limit: Option<u32>,
}

pub(crate) async fn handle(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    query: CheckedQuery<Selection>,
) -> Result<Json<AuditPage>, AppError> {
    let wanted = query.0;
    let filter = Filter {
        user: wanted.user_id,
        device: wanted.device_id,
        action: wanted.action,
        resource_type: wanted.resource_type,
        resource_id: wanted.resource_id,
        since: wanted.since,
        until: wanted.until,
        before: wanted.before,
    };
    let page = app::audit::list(&state, &caller, &filter, wanted.limit).await?;
    Ok(Json(page))
}
