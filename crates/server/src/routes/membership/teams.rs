//! `POST` and `GET /api/v1/teams/`, `GET` and `PUT /api/v1/teams/{id}/`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use coditect_protocol::wire::membership::{NewTeam, ScopeEdit, Team, TeamList};
use uuid::Uuid;

use super::{READ, WRITE};
use crate::app::membership::scopes;
use crate::auth::Authenticated;
use crate::body::{CheckedPath, SmallJson};
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const CREATE: Operation = Operation {
    id: "createTeam",
    summary: "Make a team; the caller becomes its owner",
    request: Some("NewTeam"),
    reply: Reply::JsonOrCreated("Team"),
    errors: WRITE,
    ..Operation::AUTHENTICATED
};
pub(crate) const LIST: Operation = Operation {
    id: "listTeams",
    summary: "List the teams that the caller may know of",
    reply: Reply::Json("TeamList"),
    ..Operation::AUTHENTICATED
};
pub(crate) const SHOW: Operation = Operation {
    id: "showTeam",
    summary: "Return a team, with what the caller may do there",
    reply: Reply::Json("Team"),
    errors: READ,
    ..Operation::AUTHENTICATED
};
pub(crate) const EDIT: Operation = Operation {
    id: "editTeam",
    summary: "Rename a team, or move it into the archive or out of it",
    request: Some("ScopeEdit"),
    reply: Reply::Json("Team"),
    errors: WRITE,
    ..Operation::AUTHENTICATED
};

pub(crate) async fn create(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    body: SmallJson<NewTeam>,
) -> Result<(StatusCode, Json<Team>), AppError> {
    let team = scopes::create_team(&state, &caller, &body.0).await?;
    Ok((StatusCode::CREATED, Json(team)))
}

pub(crate) async fn list(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
) -> Result<Json<TeamList>, AppError> {
    let teams = scopes::list_teams(&state, &caller).await?;
    Ok(Json(TeamList { teams }))
}

pub(crate) async fn show(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath(id): CheckedPath<Uuid>,
) -> Result<Json<Team>, AppError> {
    scopes::show_team(&state, &caller, id).await.map(Json)
}

pub(crate) async fn edit(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath(id): CheckedPath<Uuid>,
    body: SmallJson<ScopeEdit>,
) -> Result<Json<Team>, AppError> {
    scopes::edit_team(&state, &caller, id, &body.0)
        .await
        .map(Json)
}
