//! `POST /api/v1/{users,teams,projects,organizations}/{id}/context/backup`, and beside it
//! `GET …/context/backups`, `POST …/context/restore`, `GET …/context/restores` and
//! `GET …/context/restores/{restore_id}`: the same for each kind of scope.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use coditect_protocol::wire::backups::{
    BackupList, BackupMetadata, BackupRequest, RestoreJob, RestoreJobList, RestoreRequest,
};
use coditect_protocol::{ErrorCode, Scope};
use uuid::Uuid;

use super::{NamedDevice, VIEW};
use crate::app;
use crate::app::backups::restores::Answer;
use crate::auth::Authenticated;
use crate::body::{CheckedPath, SyncJson};
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::routes::prefer::Prefer;
use crate::state::AppState;

/// Name of the header that says which preference counted.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// A kind of scope in a path.
pub(crate) trait Kind {
    /// The part of the path before its id.
    const FOLDER: &str;

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
    const FOLDER: &str = "users";

    fn scope(id: Uuid) -> Scope {
        Scope::User(id)
    }
}

impl Kind for Teams {
    const FOLDER: &str = "teams";

    fn scope(id: Uuid) -> Scope {
        Scope::Team(id)
    }
}

impl Kind for Projects {
    const FOLDER: &str = "projects";

    fn scope(id: Uuid) -> Scope {
        Scope::Project(id)
    }
}

impl Kind for Organizations {
    const FOLDER: &str = "organizations";

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
        summary: "Restore the scope from a backup, or say what that would change; a restore goes \
                  on without its request, and is answered with 202 when that is not to wait for \
                  it, or cannot",
        request: Some("RestoreRequest"),
        reply: Reply::JsonOrAccepted("RestoreReply", "RestoreJob"),
        errors: RESTORE_ERRORS,
        ..VIEW
    }
}

/// Describes the list of restores.
pub(crate) const fn restores_operation(id: &'static str) -> Operation {
    Operation {
        id,
        summary: "List the scope's restores, newest first",
        reply: Reply::Json("RestoreJobList"),
        errors: LIST_ERRORS,
        ..VIEW
    }
}

/// Describes a look at a restore.
pub(crate) const fn show_restore_operation(id: &'static str) -> Operation {
    Operation {
        id,
        summary: "Show a restore: where it stands, and what it did or why it failed",
        reply: Reply::Json("RestoreJob"),
        errors: LIST_ERRORS,
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
    prefer: Prefer,
    body: SyncJson<RestoreRequest>,
) -> Result<Response, AppError> {
    let (asker, scope) = (device.of(&caller), K::scope(id));
    let asked = app::backups::restores::create(&state, asker, scope, &body.0, prefer.wait());
    let job = match asked.await? {
        Answer::Done(reply) => return Ok(Json(reply).into_response()),
        Answer::Later(job) => job,
    };
    let location = format!("/api/v1/{}/{id}/context/restores/{}", K::FOLDER, job.id);
    let location = [(header::LOCATION, location)];
    let mut response = (StatusCode::ACCEPTED, location, Json(*job)).into_response();
    if prefer.respond_async {
        let applied = HeaderValue::from_static("respond-async");
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

pub(crate) async fn restores<K: Kind>(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    CheckedPath(id): CheckedPath<Uuid>,
) -> Result<Json<RestoreJobList>, AppError> {
    let found = app::backups::restores::list(&state, device.of(&caller), K::scope(id)).await?;
    Ok(Json(RestoreJobList { restores: found }))
}

pub(crate) async fn show_restore<K: Kind>(
    State(state): State<AppState>,
    caller: Authenticated,
    device: NamedDevice,
    CheckedPath((id, restore)): CheckedPath<(Uuid, Uuid)>,
) -> Result<Json<RestoreJob>, AppError> {
    let (asker, scope) = (device.of(&caller), K::scope(id));
    let found = app::backups::restores::find(&state, asker, scope, restore).await?;
    Ok(Json(found))
}
