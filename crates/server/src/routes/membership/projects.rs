//! `POST` and `GET /api/v1/projects/`, `GET` and `PUT /api/v1/projects/{id}/`, and the teams of
//! a project

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use coditect_protocol::wire::membership::{
    NewProject, Project, ProjectList, Repository, ScopeEdit, ScopeRoleEdit,
};
use uuid::Uuid;

use super::{READ, REMOVE, WRITE};
use crate::app::membership::{members, scopes};
use crate::auth::Authenticated;
use crate::body::{CheckedPath, CheckedQuery, SmallJson};
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;
use coditect_protocol::ErrorCode;

/// Query parameters that name a repository.
pub(super) const REPOSITORY: [(&str, &str, &str); 2] = [
    (
        "remote",
        "string",
        "Address of a remote of the repository, in any spelling",
    ),
    (
        "root_commit",
        "string",
        "First commit of the repository's history",
    ),
];

pub(crate) const CREATE: Operation = Operation {
    id: "createProject",
    summary: "Make a project, or return the one that the repository has already",
    request: Some("NewProject"),
    reply: Reply::JsonOrCreated("Project"),
    errors: WRITE,
    ..Operation::AUTHENTICATED
};
pub(crate) const LIST: Operation = Operation {
    id: "listProjects",
    summary: "List the projects that the caller may know of, or find that of a repository",
    query: &REPOSITORY,
    reply: Reply::Json("ProjectList"),
    errors: &[ErrorCode::BadRequest],
    ..Operation::AUTHENTICATED
};
pub(crate) const SHOW: Operation = Operation {
    id: "showProject",
    summary: "Return a project, with what the caller may do there",
    reply: Reply::Json("Project"),
    errors: READ,
    ..Operation::AUTHENTICATED
};
pub(crate) const EDIT: Operation = Operation {
    id: "editProject",
    summary: "Rename a project, or move it into the archive or out of it",
    request: Some("ScopeEdit"),
    reply: Reply::Json("Project"),
    errors: WRITE,
    ..Operation::AUTHENTICATED
};
pub(crate) const PUT_TEAM: Operation = Operation {
    id: "putProjectTeam",
    summary: "Make a team a member of the project, or give it another role there",
    request: Some("ScopeRoleEdit"),
    reply: Reply::Empty,
    errors: WRITE,
    ..Operation::AUTHENTICATED
};
pub(crate) const REMOVE_TEAM: Operation = Operation {
    id: "removeProjectTeam",
    summary: "Remove a team from the project",
    reply: Reply::Empty,
    errors: REMOVE,
    ..Operation::AUTHENTICATED
};

pub(crate) async fn create(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    body: SmallJson<NewProject>,
) -> Result<(StatusCode, Json<Project>), AppError> {
    let (project, new) = scopes::create_project(&state, &caller, &body.0).await?;
    let status = if new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(project)))
}

pub(crate) async fn list(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    query: CheckedQuery<Repository>,
) -> Result<Json<ProjectList>, AppError> {
    let projects = scopes::list_projects(&state, &caller, &query.0).await?;
    Ok(Json(ProjectList { projects }))
}

pub(crate) async fn show(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath(id): CheckedPath<Uuid>,
) -> Result<Json<Project>, AppError> {
    scopes::show_project(&state, &caller, id).await.map(Json)
}

pub(crate) async fn edit(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath(id): CheckedPath<Uuid>,
    body: SmallJson<ScopeEdit>,
) -> Result<Json<Project>, AppError> {
    scopes::edit_project(&state, &caller, id, &body.0)
        .await
        .map(Json)
}

pub(crate) async fn put_team(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath((id, team)): CheckedPath<(Uuid, Uuid)>,
    body: SmallJson<ScopeRoleEdit>,
) -> Result<StatusCode, AppError> {
    members::set_team(&state, &caller, id, team, Some(body.0.role)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn remove_team(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath((id, team)): CheckedPath<(Uuid, Uuid)>,
) -> Result<StatusCode, AppError> {
    members::set_team(&state, &caller, id, team, None).await?;
    Ok(StatusCode::NO_CONTENT)
}
