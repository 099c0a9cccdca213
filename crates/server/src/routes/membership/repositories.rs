//! `POST` and `DELETE /api/v1/projects/{id}/repositories/`

use axum::Json;
use axum::extract::State;
use coditect_protocol::wire::membership::{Project, Repository};
use uuid::Uuid;

use super::WRITE;
use super::projects::REPOSITORY;
use crate::app::membership::scopes;
use crate::auth::Authenticated;
use crate::body::{CheckedPath, CheckedQuery, SmallJson};
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;
use coditect_protocol::ErrorCode;

pub(crate) const LINK: Operation = Operation {
    id: "linkRepository",
    summary: "Have the project recognised by a repository, whatever its path on a machine",
    request: Some("Repository"),
    reply: Reply::Json("Project"),
    errors: WRITE,
    ..Operation::AUTHENTICATED
};
pub(crate) const UNLINK: Operation = Operation {
    id: "unlinkRepository",
    summary: "Have the project not recognised by a repository any more",
    query: &REPOSITORY,
    reply: Reply::Json("Project"),
    errors: &[
        ErrorCode::BadRequest,
        ErrorCode::NotFound,
        ErrorCode::PermissionDenied,
    ],
    ..Operation::AUTHENTICATED
};

pub(crate) async fn link(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath(id): CheckedPath<Uuid>,
    body: SmallJson<Repository>,
) -> Result<Json<Project>, AppError> {
    scopes::link_project(&state, &caller, id, &body.0, true)
        .await
        .map(Json)
}

pub(crate) async fn unlink(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath(id): CheckedPath<Uuid>,
    query: CheckedQuery<Repository>,
) -> Result<Json<Project>, AppError> {
    scopes::link_project(&state, &caller, id, &query.0, false)
        .await
        .map(Json)
}
