//! `POST /api/v1/users/{id}/erase`

use axum::Json;
use axum::extract::State;
use coditect_protocol::wire::erasure::{AccountErased, AccountErasure};
use coditect_protocol::{ErrorCode, UserId};

use crate::app::membership::account;
use crate::auth::Authenticated;
use crate::body::{CheckedPath, SmallJson};
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

pub(crate) const ERASE: Operation = Operation {
    id: "eraseUser",
    summary: "Erase the caller's own account: all rows of the own scope and what says who the \
              person is, for good; the reply has the signed receipt",
    request: Some("AccountErasure"),
    reply: Reply::Json("AccountErased"),
    errors: &[
        ErrorCode::BadRequest,
        ErrorCode::BodyTooLarge,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::NotFound,
        ErrorCode::LastOwner,
    ],
    ..Operation::AUTHENTICATED
};

pub(crate) async fn erase(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    CheckedPath(user): CheckedPath<UserId>,
    body: SmallJson<AccountErasure>,
) -> Result<Json<AccountErased>, AppError> {
    account::erase(&state, &caller, user, &body.0)
        .await
        .map(Json)
}
