//! `GET /api/v1/organization/` and `…/members/`, `PUT` and `DELETE …/members/{user_id}/`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use coditect_protocol::UserId;
use coditect_protocol::wire::membership::{
    Organization, OrganizationMemberEdit, OrganizationMemberList,
};

use super::{READ, REMOVE, WRITE};
use crate::app::membership::organization;
use crate::auth::Authenticated;
use crate::body::{CheckedPath, SmallJson};
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const SHOW: Operation = Operation {
    id: "showOrganization",
    summary: "Return the caller's organisation, with what the caller may do in it",
    reply: Reply::Json("Organization"),
    ..Operation::AUTHENTICATED
};
pub(crate) const MEMBERS: Operation = Operation {
    id: "listOrganizationMembers",
    summary: "List the organisation's members",
    reply: Reply::Json("OrganizationMemberList"),
    errors: READ,
    ..Operation::AUTHENTICATED
};
pub(crate) const EDIT: Operation = Operation {
    id: "editOrganizationMember",
    summary: "Give a member another role, or grant and deny single permissions",
    request: Some("OrganizationMemberEdit"),
    reply: Reply::Empty,
    errors: WRITE,
    ..Operation::AUTHENTICATED
};
pub(crate) const REMOVE_MEMBER: Operation = Operation {
    id: "removeOrganizationMember",
    summary: "Remove a member from the organisation and all its teams and projects",
    reply: Reply::Empty,
    errors: REMOVE,
    ..Operation::AUTHENTICATED
};

pub(crate) async fn show(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
) -> Result<Json<Organization>, AppError> {
    organization::show(&state, &caller).await.map(Json)
}

pub(crate) async fn members(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
) -> Result<Json<OrganizationMemberList>, AppError> {
    let members = organization::members(&state, &caller).await?;
    Ok(Json(OrganizationMemberList { members }))
}

pub(crate) async fn edit(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath(user): CheckedPath<UserId>,
    body: SmallJson<OrganizationMemberEdit>,
) -> Result<StatusCode, AppError> {
    organization::edit(&state, &caller, user, &body.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn remove(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath(user): CheckedPath<UserId>,
) -> Result<StatusCode, AppError> {
    organization::remove(&state, &caller, user).await?;
    Ok(StatusCode::NO_CONTENT)
}
