//! `GET /api/v1/{teams,projects}/{id}/members/`, `PUT` and `DELETE …/members/{user_id}/`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use coditect_protocol::UserId;
use coditect_protocol::wire::membership::{ScopeMemberList, ScopeRoleEdit};
use uuid::Uuid;

use super::{READ, REMOVE, WRITE};
use crate::app::membership::members;
use crate::auth::Authenticated;
use crate::body::{CheckedPath, SmallJson};
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::routes::context::backups::Kind;
use crate::state::AppState;

/// Describes the list.
pub(crate) const fn list_operation(id: &'static str) -> Operation {
    Operation {
        id,
        summary: "List the members, people and of a project teams",
        reply: Reply::Json("ScopeMemberList"),
        errors: READ,
        ..Operation::AUTHENTICATED
    }
}

/// Describes a change of role.
pub(crate) const fn put_operation(id: &'static str) -> Operation {
    Operation {
        id,
        summary: "Give a member another role; a project takes members of the organisation",
        request: Some("ScopeRoleEdit"),
        reply: Reply::Empty,
        errors: WRITE,
        ..Operation::AUTHENTICATED
    }
}

/// Describes a removal.
pub(crate) const fn remove_operation(id: &'static str) -> Operation {
    Operation {
        id,
        summary: "Remove a member; everybody may leave",
        reply: Reply::Empty,
        errors: REMOVE,
        ..Operation::AUTHENTICATED
    }
}

pub(crate) async fn list<K: Kind>(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath(id): CheckedPath<Uuid>,
) -> Result<Json<ScopeMemberList>, AppError> {
    members::list(&state, &caller, K::scope(id)).await.map(Json)
}

pub(crate) async fn put<K: Kind>(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath((id, user)): CheckedPath<(Uuid, UserId)>,
    body: SmallJson<ScopeRoleEdit>,
) -> Result<StatusCode, AppError> {
    members::put(&state, &caller, K::scope(id), user, body.0.role).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn remove<K: Kind>(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath((id, user)): CheckedPath<(Uuid, UserId)>,
) -> Result<StatusCode, AppError> {
    members::remove(&state, &caller, K::scope(id), user).await?;
    Ok(StatusCode::NO_CONTENT)
}
