//! `/api/v1/teams/…`, `/api/v1/projects/…`, `/api/v1/organization/…`, and a person's own account
//! below `/api/v1/users/…`: one file for what a path
//! ends with.

pub(crate) mod account;
pub(crate) mod context;
pub(crate) mod invitations;
pub(crate) mod members;
pub(crate) mod organization;
pub(crate) mod projects;
pub(crate) mod repositories;
pub(crate) mod teams;

use coditect_protocol::ErrorCode;

/// Codes of what reads a thing by its id.
const READ: &[ErrorCode] = &[ErrorCode::NotFound, ErrorCode::PermissionDenied];
/// Codes of what has a body and an id.
const WRITE: &[ErrorCode] = &[
    ErrorCode::BadRequest,
    ErrorCode::BodyTooLarge,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::NotFound,
    ErrorCode::PermissionDenied,
    ErrorCode::LastOwner,
    ErrorCode::AlreadyTaken,
];
/// Codes of what removes a thing.
const REMOVE: &[ErrorCode] = &[
    ErrorCode::NotFound,
    ErrorCode::PermissionDenied,
    ErrorCode::LastOwner,
];
