//! `POST /api/v1/{teams,projects}/{id}/context/push` and `GET …/context/pull`

use axum::Json;
use axum::extract::State;
use coditect_protocol::ErrorCode;
use coditect_protocol::wire::context::{ContextPush, ContextPushReply, MessagePage};
use uuid::Uuid;

use crate::app;
use crate::auth::Authenticated;
use crate::body::{CheckedPath, CheckedQuery, SyncJson};
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::routes::context::backups::Kind;
use crate::routes::context::{NamedDevice, RANGE, RangeQuery, VIEW};
use crate::state::AppState;

/// Describes a push.
pub(crate) const fn push_operation(id: &'static str) -> Operation {
    Operation {
        id,
        summary: "Store messages for all members; those that are stored already are left alone",
        request: Some("ContextPush"),
        reply: Reply::Json("ContextPushReply"),
        errors: &[
            ErrorCode::BadRequest,
            ErrorCode::PermissionDenied,
            ErrorCode::NotFound,
            ErrorCode::BodyTooLarge,
            ErrorCode::RowTooLarge,
            ErrorCode::UnsupportedMediaType,
            ErrorCode::MalformedRow,
        ],
        ..VIEW
    }
}

/// Describes a pull.
pub(crate) const fn pull_operation(id: &'static str) -> Operation {
    Operation {
        id,
        summary: "Return the messages behind a position, with who contributed them",
        query: &RANGE,
        reply: Reply::Json("MessagePage"),
        errors: &[
            ErrorCode::BadRequest,
            ErrorCode::PermissionDenied,
            ErrorCode::NotFound,
            ErrorCode::InvalidCursor,
        ],
        ..VIEW
    }
}

pub(crate) async fn push<K: Kind>(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    CheckedPath(id): CheckedPath<Uuid>,
    body: SyncJson<ContextPush>,
) -> Result<Json<ContextPushReply>, AppError> {
    app::context::push(&state, device.about(K::scope(id), &caller), body.0)
        .await
        .map(Json)
}

pub(crate) async fn pull<K: Kind>(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    CheckedPath(id): CheckedPath<Uuid>,
    query: CheckedQuery<RangeQuery>,
) -> Result<Json<MessagePage>, AppError> {
    let range = query.0.range();
    app::context::messages(&state, device.about(K::scope(id), &caller), range)
        .await
        .map(Json)
}
