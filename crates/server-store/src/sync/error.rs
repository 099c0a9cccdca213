//! Why a whole push or pull is refused. A single bad change is an outcome, no error.

use coditect_protocol::{Epoch, ErrorCode};

use crate::StoreError;
use crate::db::Retryable;

/// Why a push or a pull was refused as a whole; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The scope does not exist, or the caller may not know of it.
    #[error("no such scope")]
    ScopeNotFound,
    /// The caller reads the scope, but may not write it.
    #[error("the role does not allow to write this scope")]
    PermissionDenied,
    /// The device is not registered for the caller, or was revoked.
    #[error("the device is not registered or was revoked")]
    DeviceUnknown,
    /// The platform catalogue takes no push.
    #[error("the platform catalogue is read only")]
    DirectionRefused,
    /// The request is not of the form that sync takes.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The table is none that the request may name.
    #[error("no such table in the files asked for")]
    UnknownTable,
    /// The database has another life than the one that the request speaks of.
    #[error("the database has the epoch {epoch}")]
    EpochChanged {
        /// The epoch of this moment.
        epoch: Epoch,
    },
    /// A token that we signed is ahead of the database: the database was set back. The caller
    /// must change the epoch, unless it is another than `epoch` by now, and answer
    /// `epoch_changed`.
    #[error("the database is behind a token of its own epoch {epoch}")]
    EpochBehind {
        /// The epoch that has to end.
        epoch: Epoch,
    },
    /// The token is none of the two that the file may send: the file is a copy or was restored.
    #[error("the file's token was replaced already")]
    Fenced,
    /// The version was removed, as old ones are, or never was.
    #[error(
        "there is no such version: those that were replaced before {before} are older than the \
         retention of {days} days and may be gone"
    )]
    VersionPurged {
        /// Since when the history is complete, RFC 3339 UTC.
        before: String,
        /// How long versions were kept when that was last seen to.
        days: i32,
    },
    /// The cursor lies beyond the stream's head.
    #[error("the cursor lies in the stream's future")]
    InvalidCursor,
}

impl SyncError {
    /// Returns the code to answer with; `None` for a fault of the store, which its own kind
    /// decides. [`Self::EpochBehind`] has the code of what the caller makes of it.
    #[must_use]
    pub const fn code(&self) -> Option<ErrorCode> {
        Some(match self {
            Self::Store(_) => return None,
            Self::ScopeNotFound | Self::VersionPurged { .. } => ErrorCode::NotFound,
            Self::PermissionDenied => ErrorCode::PermissionDenied,
            Self::DeviceUnknown => ErrorCode::DeviceUnknown,
            Self::DirectionRefused => ErrorCode::DirectionRefused,
            Self::BadRequest(_) => ErrorCode::BadRequest,
            Self::UnknownTable => ErrorCode::UnknownTable,
            Self::EpochChanged { .. } | Self::EpochBehind { .. } => ErrorCode::EpochChanged,
            Self::Fenced => ErrorCode::FileFenced,
            Self::InvalidCursor => ErrorCode::InvalidCursor,
        })
    }
}

impl From<StoreError> for SyncError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DeviceRevoked => Self::DeviceUnknown,
            error => Self::Store(error),
        }
    }
}

impl From<tokio_postgres::Error> for SyncError {
    fn from(error: tokio_postgres::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl Retryable for SyncError {
    fn is_retry(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retry())
    }
}
