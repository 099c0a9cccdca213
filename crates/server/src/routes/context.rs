//! The seeds' routes over the caller's own stream, and what they have in common: the header that
//! names a device, and the range of a list.

pub(crate) mod backups;
pub(crate) mod decisions;
pub(crate) mod learnings;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod records;
pub(crate) mod status;
pub(crate) mod tasks;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use coditect_protocol::{DeviceId, Epoch, ErrorCode, Scope};
use serde::Deserialize;

use crate::app::context::Range;
use crate::auth::Authenticated;
use crate::error::AppError;
use crate::openapi::Operation;
use crate::state::AppState;

/// Name of the header that names a device.
pub(crate) const DEVICE_HEADER: &str = "x-device-id";

/// A view's description; to be filled in.
pub(super) const VIEW: Operation = Operation {
    device_header: true,
    ..Operation::AUTHENTICATED
};

/// Query parameters of every list.
pub(super) const RANGE: [(&str, &str, &str); 3] = [
    (
        "cursor",
        "integer",
        "Position behind which to begin; the beginning when left out",
    ),
    (
        "limit",
        "integer",
        "Most rows: 100 when left out, 1,000 at most",
    ),
    (
        "epoch",
        "string",
        "Life of the database that the position is of; not checked when left out",
    ),
];

/// Codes of every list.
const LIST_ERRORS: &[ErrorCode] = &[
    ErrorCode::BadRequest,
    ErrorCode::DeviceUnknown,
    ErrorCode::InvalidCursor,
];

/// Codes of every write.
const WRITE_ERRORS: &[ErrorCode] = &[
    ErrorCode::BadRequest,
    ErrorCode::DeviceUnknown,
    ErrorCode::BodyTooLarge,
    ErrorCode::RowTooLarge,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::MalformedRow,
    ErrorCode::QuotaExceeded,
];

/// The device that a request names, if it names one. A bearer is checked first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NamedDevice(pub(crate) Option<DeviceId>);

impl FromRequestParts<AppState> for NamedDevice {
    type Rejection = AppError;

    async fn from_request_parts(
        parts: &mut Parts,
        _state: &AppState,
    ) -> Result<Self, Self::Rejection> {
        let Some(value) = parts.headers.get(DEVICE_HEADER) else {
            return Ok(Self(None));
        };
        let id = value
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let detail = "X-Device-ID is no UUID; leave it out to write as the web device";
        let id: DeviceId = id.ok_or_else(|| AppError::BadRequest(detail.to_owned()))?;
        Ok(Self(Some(id)))
    }
}

impl NamedDevice {
    /// Returns who asks, about the own stream.
    pub(crate) const fn of(self, caller: &Authenticated) -> crate::app::context::Asker<'_> {
        let own = Scope::User(caller.0.user_id().get());
        self.about(own, caller)
    }

    /// Returns who asks, about another stream.
    pub(super) const fn about(
        self,
        scope: Scope,
        caller: &Authenticated,
    ) -> crate::app::context::Asker<'_> {
        crate::app::context::Asker {
            caller: &caller.0,
            device: self.0,
            scope,
        }
    }
}

/// The query string of a list without filters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RangeQuery {
    cursor: Option<i64>,
    epoch: Option<Epoch>,
    limit: Option<u32>,
}

impl RangeQuery {
    pub(super) const fn range(&self) -> Range {
        Range {
            cursor: self.cursor,
            epoch: self.epoch,
            limit: self.limit,
        }
    }
}
