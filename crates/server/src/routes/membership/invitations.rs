//! Invitations: `POST` and `GET /api/v1/teams/{id}/invitations/` and
//! `/api/v1/organization/invitations/`, `DELETE` of one, `POST /api/v1/invitations/accept/`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use coditect_protocol::wire::membership::{
    AcceptInvitation, Accepted, Invitation, InvitationList, NewInvitation,
};
use coditect_protocol::{ErrorCode, Scope};
use uuid::Uuid;

use super::{READ, WRITE};
use crate::app::membership::invitations;
use crate::auth::Authenticated;
use crate::body::{CheckedPath, SmallJson};
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

/// Describes inviting.
pub(crate) const fn create_operation(id: &'static str) -> Operation {
    Operation {
        id,
        summary: "Invite a person; the reply has the secret that accepts, and nothing else has",
        request: Some("NewInvitation"),
        reply: Reply::JsonOrCreated("Invitation"),
        errors: WRITE,
        ..Operation::AUTHENTICATED
    }
}

/// Describes the list.
pub(crate) const fn list_operation(id: &'static str) -> Operation {
    Operation {
        id,
        summary: "List the invitations, the latest first",
        reply: Reply::Json("InvitationList"),
        errors: READ,
        ..Operation::AUTHENTICATED
    }
}

/// Describes taking one back.
pub(crate) const fn revoke_operation(id: &'static str) -> Operation {
    Operation {
        id,
        summary: "Take an open invitation back",
        reply: Reply::Empty,
        errors: READ,
        ..Operation::AUTHENTICATED
    }
}

pub(crate) const ACCEPT: Operation = Operation {
    id: "acceptInvitation",
    summary: "Accept an invitation by its secret; accepting again changes nothing",
    request: Some("AcceptInvitation"),
    reply: Reply::Json("Accepted"),
    errors: &[
        ErrorCode::BadRequest,
        ErrorCode::BodyTooLarge,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::NotFound,
    ],
    ..Operation::PUBLIC
};

pub(crate) async fn create_in_team(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath(id): CheckedPath<Uuid>,
    body: SmallJson<NewInvitation>,
) -> Result<(StatusCode, Json<Invitation>), AppError> {
    let invited = invitations::create(&state, &caller, Scope::Team(id), &body.0).await?;
    Ok((StatusCode::CREATED, Json(invited)))
}

pub(crate) async fn create_in_organization(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    body: SmallJson<NewInvitation>,
) -> Result<(StatusCode, Json<Invitation>), AppError> {
    let scope = Scope::Org(caller.tenant().get());
    let invited = invitations::create(&state, &caller, scope, &body.0).await?;
    Ok((StatusCode::CREATED, Json(invited)))
}

pub(crate) async fn list_of_team(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath(id): CheckedPath<Uuid>,
) -> Result<Json<InvitationList>, AppError> {
    let invitations = invitations::list(&state, &caller, Scope::Team(id)).await?;
    Ok(Json(InvitationList { invitations }))
}

pub(crate) async fn list_of_organization(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
) -> Result<Json<InvitationList>, AppError> {
    let scope = Scope::Org(caller.tenant().get());
    let invitations = invitations::list(&state, &caller, scope).await?;
    Ok(Json(InvitationList { invitations }))
}

pub(crate) async fn revoke_of_team(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath((id, invitation)): CheckedPath<(Uuid, Uuid)>,
) -> Result<StatusCode, AppError> {
    invitations::revoke(&state, &caller, Scope::Team(id), invitation).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn revoke_of_organization(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath(invitation): CheckedPath<Uuid>,
) -> Result<StatusCode, AppError> {
    let scope = Scope::Org(caller.tenant().get());
    invitations::revoke(&state, &caller, scope, invitation).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn accept(
    State(state): State<AppState>,
    body: SmallJson<AcceptInvitation>,
) -> Result<Json<Accepted>, AppError> {
    invitations::accept(&state, &body.0).await.map(Json)
}
