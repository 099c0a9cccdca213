//! Error codes and the problem document (RFC 9457) that carries them.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal, $title:literal;)+) => {
        /// Stable code of a refusal. `docs/ERRORS.md` lists cause and next step of each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
            /// A code that this version does not know.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl ErrorCode {
            /// All codes of this version, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the code's text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ Self::Unknown => "unknown" }
            }

            /// Returns the HTTP status that the code is answered with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ Self::Unknown => 500 }
            }

            /// Returns the problem's title.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ Self::Unknown => "unknown error" }
            }
        }
    };
}

codes! {
    /// The cursor is not a position of this stream, or lies in its future.
    InvalidCursor = "SYNC_001", 409, "invalid cursor position";
    /// The content hash is not that of the row.
    HashMismatch = "SYNC_002", 422, "content hash mismatch";
    /// The backup does not exist.
    BackupNotFound = "SYNC_003", 404, "backup not found";
    /// A checksum does not match.
    ChecksumFailed = "SYNC_004", 422, "checksum verification failed";
    /// The caller's role does not allow it.
    PermissionDenied = "SYNC_005", 403, "permission denied";
    /// Too many requests; `Retry-After` says when to come back.
    RateLimited = "SYNC_006", 429, "rate limit exceeded";
    /// The plan's storage is full.
    QuotaExceeded = "SYNC_007", 507, "storage quota exceeded";
    /// The table is not in the catalogue, or not in the file named.
    UnknownTable = "unknown_table", 422, "unknown table";
    /// The row does not fit its table.
    MalformedRow = "malformed_row", 422, "malformed row";
    /// The row is larger than one row may be.
    RowTooLarge = "row_too_large", 413, "row too large";
    /// The row names a body that the server does not have in this scope; send its bytes.
    BodyMissing = "body_missing", 422, "body missing";
    /// The table's direction does not allow this write.
    DirectionRefused = "direction_refused", 422, "direction refused";
    /// The key columns do not give the row's id.
    KeyMismatch = "key_mismatch", 422, "key mismatch";
    /// The file is a copy or was restored; the device takes a new identity.
    FileFenced = "file_fenced", 409, "file fenced";
    /// The server's database was set back; positions and tokens start again.
    EpochChanged = "epoch_changed", 409, "epoch changed";
    /// The device is not registered, or was revoked.
    DeviceUnknown = "device_unknown", 403, "device unknown";
    /// No credential, or one that is not valid (any more).
    Unauthenticated = "unauthenticated", 401, "authentication required";
    /// The account was erased; `erasure` proves it to the person's devices.
    AccountErased = "account_erased", 410, "account erased";
    /// The scope was erased, with the person or the organisation; nothing brings it back.
    ScopeErased = "scope_erased", 410, "scope erased";
    /// The e-mail belongs to several organisations; one must be named.
    TenantAmbiguous = "tenant_ambiguous", 409, "several organisations";
    /// There is no such thing, or the caller may not know of it.
    NotFound = "not_found", 404, "not found";
    /// A team, project or organisation would be left without an owner.
    LastOwner = "last_owner", 409, "last owner";
    /// What has to be unique is somebody else's already.
    AlreadyTaken = "already_taken", 409, "already taken";
    /// The request is not of the form that the route takes.
    BadRequest = "bad_request", 400, "bad request";
    /// The method does not exist on this route.
    MethodNotAllowed = "method_not_allowed", 405, "method not allowed";
    /// The body is larger than the route takes.
    BodyTooLarge = "body_too_large", 413, "body too large";
    /// The body's content type or encoding is not supported.
    UnsupportedMediaType = "unsupported_media_type", 415, "unsupported media type";
    /// The client is too old, or newer than the server knows.
    ApiVersion = "api_version", 426, "API version not served";
    /// The database does not answer, or the server is stopping.
    Unavailable = "unavailable", 503, "service unavailable";
    /// A fault of the server.
    Internal = "internal", 500, "internal error";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Problem document (RFC 9457), sent as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// URI reference of the code's documentation.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short text, the same for every occurrence of the code.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Stable code.
    pub code: ErrorCode,
    /// What happened this time; names the thing, never another tenant's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Id under which the server's log has more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Seconds after which another try makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// Further fields that a code documents, such as the new device id of a fenced file.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Problem {
    /// Makes the document of a code.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("/docs/errors#{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: Some(detail.into()),
            request_id: None,
            retry_after: None,
            extra: serde_json::Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_codes_read_as_unknown() {
        let code: ErrorCode = serde_json::from_str("\"from_the_future\"").unwrap();
        assert_eq!(code, ErrorCode::Unknown);
        assert_eq!(
            serde_json::to_string(&ErrorCode::InvalidCursor).unwrap(),
            "\"SYNC_001\""
        );
    }
}
