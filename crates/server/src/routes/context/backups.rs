//! `POST /api/v1/{users,teams,projects,organizations}/{id}/context/backup`, and beside it
//! `GET …/context/backups` and `POST …/context/restore`: the same for each kind of scope.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use coditect_protocol::wire::backups::{
    BackupList, BackupMetadata, BackupRequest, RestoreReply, RestoreRequest,
};
use coditect_protocol::{ErrorCode, Scope};
use uuid::Uuid;

use super::{NamedDevice, VIEW};
use crate::app;
use crate::auth::Authenticated;
use crate::body::{CheckedPath, SyncJson};
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

/// A kind of scope in a path.
pub(crate) trait Kind {
    /// Returns the scope that the path names.
    fn scope(id: Uuid) -> Scope;
}

/// `/users/{id}`.
pub(crate) enum Users {}
/// `/teams/{id}`.
pub(crate) enum Teams {}
/// `/projects/{id}`.
pub(crate) enum Projects {}
/// `/organizations/{id}`.
pub(crate) enum Organizations {}

impl Kind for Users {
    fn scope(id: Uuid) -> Scope {
        Scope::User(id)
    }
}

impl Kind for Teams {
    fn scope(id: Uuid) -> Scope {
        Scope::Team(id)
    }
}

impl Kind for Projects {
    fn scope(id: Uuid) -> Scope {
        Scope::Project(id)
    }
}

impl Kind for Organizations {
    fn scope(id: Uuid) -> Scope {
        Scope::Org(id)
    }
}

const ERRORS: &[ErrorCode] = &[
    ErrorCode::BadRequest,
    ErrorCode::BodyTooLarge,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::NotFound,
    ErrorCode::PermissionDenied,
];
const LIST_ERRORS: &[ErrorCode] = &[
    ErrorCode::BadRequest,
    ErrorCode::NotFound,
    ErrorCode::PermissionDenied,
];
const RESTORE_ERRORS: &[ErrorCode] = &[
    ErrorCode::BadRequest,
    ErrorCode::BodyTooLarge,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::NotFound,
    ErrorCode::PermissionDenied,
    ErrorCode::BackupNotFound,
    ErrorCode::ChecksumFailed,
    ErrorCode::ScopeErased,
    ErrorCode::QuotaExceeded,
];

/// Describes asking for a backup.
pub(crate) const fn create_operation(id: &'static str) -> Operation {
    Operation {
        id,
        summary: "Back the scope up; the archive is written behind the reply",
        request: Some("BackupRequest"),
        reply: Reply::Accepted("BackupMetadata"),
        errors: ERRORS,
        ..VIEW
    }
}

/// Describes the list of backups.
pub(crate) const fn list_operation(id: &'static str) -> Operation {
    Operation {
        id,
        summary: "List the scope's backups, newest first",
        reply: Reply::Json("BackupList"),
        errors: LIST_ERRORS,
        ..VIEW
    }
}

/// Describes a restore.
pub(crate) const fn restore_operation(id: &'static str) -> Operation {
    Operation {
        id,
        summary: "Restore the scope from a backup, or say what that would change",
        request: Some("RestoreRequest"),
        reply: Reply::Json("RestoreReply"),
        errors: RESTORE_ERRORS,
        ..VIEW
    }
}

pub(crate) async fn create<K: Kind>(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    CheckedPath(id): CheckedPath<Uuid>,
    body: SyncJson<BackupRequest>,
) -> Result<(StatusCode, Json<BackupMetadata>), AppError> {
    let asker = device.of(&caller);
    let asked = app::backups::create(&state, asker, K::scope(id), &body.0).await?;
    Ok((StatusCode::ACCEPTED, Json(asked)))
}

pub(crate) async fn list<K: Kind>(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    CheckedPath(id): CheckedPath<Uuid>,
) -> Result<Json<BackupList>, AppError> {
    let backups = app::backups::list(&state, device.of(&caller), K::scope(id)).await?;
    Ok(Json(BackupList { backups }))
}

pub(crate) async fn restore<K: Kind>(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    CheckedPath(id): CheckedPath<Uuid>,
    body: SyncJson<RestoreRequest>,
) -> Result<Json<RestoreReply>, AppError> {
    let asker = device.of(&caller);
    app::backups::restore(&state, asker, K::scope(id), &body.0)
        .await
        .map(Json)
}
