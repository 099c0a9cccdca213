//! Everything that a request can end with besides success, and its one way into a response.
//!
//! Two texts per error: the detail for the caller, which never holds content, driver text or
//! anything of another tenant, and the operator's for the log.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use coditect_protocol::wire::erasure::{self, ErasureNotice};
use coditect_protocol::{DeviceId, Epoch, ErrorCode, Problem};
use coditect_server_store::credential::{LoginError, TenantChoice, TokenError};
use coditect_server_store::sync::SyncError;
use coditect_server_store::{Retryable, StoreError};
use serde_json::{Value, json};

use crate::limits::Rate;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The request is not of the form that the route takes. The text may repeat a part of it
    /// and stays out of the log.
    #[error("the request is not of the form that the route takes")]
    BadRequest(String),
    /// The body is larger than the route takes, as it came or unpacked.
    #[error("the body is larger than {bytes_max} bytes")]
    BodyTooLarge {
        /// The limit that was passed.
        bytes_max: usize,
    },
    /// The body's type or encoding is not one that we read.
    #[error("unsupported body: {0}")]
    UnsupportedMediaType(String),
    /// No bearer was sent.
    #[error("no credential")]
    NoCredential,
    /// The bearer is not valid (any more).
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The licence key, password or refresh token is not accepted.
    #[error("the credential is not accepted")]
    LoginDenied,
    /// Too many wrong credentials were tried.
    #[error("too many attempts to log in")]
    TooManyLogins {
        /// When another attempt makes sense.
        retry_after_seconds: u64,
    },
    /// The caller's plan has no more requests in this minute.
    #[error("the plan's requests of this minute are used up")]
    TooManyRequests(Rate),
    /// The person must name one of several organisations.
    #[error("the person belongs to {} organisations", .0.len())]
    TenantAmbiguous(Vec<TenantChoice>),
    /// The device is not the caller's, or was locked out.
    #[error("the device is unknown or revoked")]
    DeviceUnknown,
    /// The account was erased; the notice proves it to its devices.
    #[error("the account was erased")]
    AccountErased(Option<Box<ErasureNotice>>),
    /// There is no such route or thing, or the caller may not know of it.
    #[error("not found")]
    NotFound,
    /// The route exists for other methods.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// The database was set back since the client's last request.
    #[error("the epoch has changed to {0}")]
    EpochChanged(Epoch),
    /// The client's file is a copy or was restored; it goes on as another device.
    #[error("the file is fenced, its new device is {0}")]
    FileFenced(DeviceId),
    /// A refusal with a code of its own.
    #[error("{code}: {detail}")]
    Refused {
        /// The code.
        code: ErrorCode,
        /// What was refused and why; for the caller.
        detail: String,
    },
    /// Too much is at work, or the server is stopping.
    #[error("unavailable: {reason}")]
    Unavailable {
        /// Which condition.
        reason: &'static str,
    },
    /// A handler panicked.
    #[error("a handler panicked: {0}")]
    Panic(String),
    /// The storage of backups, or the disk beside it, failed.
    #[error("backups: {0}")]
    Spool(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The operator's text of a fault, carried to the one place that logs it.
#[derive(Debug, Clone)]
pub(crate) struct OperatorText(pub(crate) String);

impl OperatorText {
    /// Returns the error with its causes.
    pub(crate) fn of(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let inner_text = inner.to_string();
            if !text.ends_with(&inner_text) {
                text.push_str(": ");
                text.push_str(&inner_text);
            }
            cause = inner.source();
        }
        Self(text)
    }
}

const RETRY_SOON: Duration = Duration::from_secs(1);

impl AppError {
    /// Makes a refusal with a code and a text for the caller.
    pub(crate) fn refused(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self::Refused {
            code,
            detail: detail.into(),
        }
    }

    /// Returns the error's stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::BadRequest(_) => ErrorCode::BadRequest,
            Self::BodyTooLarge { .. } => ErrorCode::BodyTooLarge,
            Self::UnsupportedMediaType(_) => ErrorCode::UnsupportedMediaType,
            Self::NoCredential
            | Self::Token(_)
            | Self::LoginDenied
            | Self::Store(StoreError::NotMember) => ErrorCode::Unauthenticated,
            Self::TooManyLogins { .. } | Self::TooManyRequests(_) => ErrorCode::RateLimited,
            Self::TenantAmbiguous(_) => ErrorCode::TenantAmbiguous,
            Self::DeviceUnknown | Self::Store(StoreError::DeviceRevoked) => {
                ErrorCode::DeviceUnknown
            }
            Self::AccountErased(_) => ErrorCode::AccountErased,
            Self::NotFound | Self::Store(StoreError::NotFound) => ErrorCode::NotFound,
            Self::Store(StoreError::Forbidden) => ErrorCode::PermissionDenied,
            Self::MethodNotAllowed => ErrorCode::MethodNotAllowed,
            Self::EpochChanged(_) => ErrorCode::EpochChanged,
            Self::FileFenced(_) => ErrorCode::FileFenced,
            Self::Refused { code, .. } => *code,
            Self::Unavailable { .. } => ErrorCode::Unavailable,
            Self::Panic(_) | Self::Spool(_) => ErrorCode::Internal,
            Self::Store(error) if is_away(error) => ErrorCode::Unavailable,
            Self::Store(error) if holds_nul(error) => ErrorCode::BadRequest,
            Self::Store(_) => ErrorCode::Internal,
        }
    }

    /// Returns the problem document, without a request id.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let code = self.code();
        let mut problem = Problem::new(code, self.detail());
        if code == ErrorCode::Unavailable {
            problem.retry_after = Some(RETRY_SOON.as_secs());
        }
        if let Self::TooManyLogins {
            retry_after_seconds,
        } = self
        {
            problem.retry_after = Some(*retry_after_seconds);
        }
        if let Self::TooManyRequests(rate) = self {
            problem.retry_after = Some(rate.reset_seconds.max(1).cast_unsigned());
        }
        let extra = match self {
            Self::TenantAmbiguous(tenants) => Some(("tenants", choices(tenants))),
            Self::EpochChanged(epoch) => Some(("epoch", json!(epoch))),
            Self::FileFenced(device) => Some(("device_id", json!(device))),
            Self::AccountErased(Some(notice)) => Some((erasure::NOTICE, json!(notice))),
            _ => None,
        };
        if let Some((name, value)) = extra {
            problem.extra.insert(name.to_owned(), value);
        }
        problem
    }

    /// Returns the text for the caller.
    fn detail(&self) -> String {
        let fixed = match self {
            Self::BadRequest(detail)
            | Self::UnsupportedMediaType(detail)
            | Self::Refused { detail, .. } => return detail.clone(),
            Self::BodyTooLarge { bytes_max } => {
                return format!("the body is larger than {bytes_max} bytes");
            }
            Self::NoCredential => "send an access token as Authorization: Bearer",
            Self::Token(TokenError::Expired) => "the access token has expired",
            Self::Token(TokenError::Invalid) => "the access token is not valid",
            Self::LoginDenied => "the credential is not accepted",
            Self::Store(StoreError::NotMember) => "the credential is not valid any more",
            Self::TooManyLogins { .. } => "too many attempts to log in: wait, then try again",
            Self::TooManyRequests(_) => "the plan has no more requests in this minute",
            Self::TenantAmbiguous(_) => "name one of these organisations as tenant_id",
            Self::AccountErased(_) => "the account was erased, with everything that it had",
            Self::DeviceUnknown | Self::Store(StoreError::DeviceRevoked) => {
                "the device is not registered for the caller, or was revoked"
            }
            Self::MethodNotAllowed => "the route exists, but not for this method",
            Self::EpochChanged(_) => "the database was set back: start again from its epoch",
            Self::FileFenced(_) => "the file is a copy or was restored: go on as the new device",
            Self::Unavailable { reason } => reason,
            Self::NotFound | Self::Store(StoreError::NotFound) => "there is no such thing",
            Self::Store(StoreError::Forbidden) => "the role does not allow it",
            Self::Store(error) if is_away(error) => "the database does not answer",
            Self::Store(error) if holds_nul(error) => {
                "a text of the request holds the character U+0000, which cannot be stored"
            }
            Self::Panic(_) | Self::Spool(_) | Self::Store(_) => {
                "a fault of the server; its log has more"
            }
        };
        fixed.to_owned()
    }

    /// Returns the value of WWW-Authenticate, for refusals of a credential.
    fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::Token(_) | Self::Store(StoreError::NotMember) => {
                Some("Bearer realm=\"coditect\", error=\"invalid_token\"")
            }
            _ if self.code() == ErrorCode::Unauthenticated => Some("Bearer realm=\"coditect\""),
            _ => None,
        }
    }
}

impl From<LoginError> for AppError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Denied => Self::LoginDenied,
            LoginError::Ambiguous(tenants) => Self::TenantAmbiguous(tenants),
            LoginError::DeviceRevoked => Self::DeviceUnknown,
            LoginError::Erased(_) => Self::AccountErased(None),
            LoginError::Store(error) => Self::Store(error),
        }
    }
}

impl From<SyncError> for AppError {
    fn from(error: SyncError) -> Self {
        match (error.code(), error) {
            (_, SyncError::Store(error)) => Self::Store(error),
            (_, SyncError::EpochChanged { epoch } | SyncError::EpochBehind { epoch }) => {
                Self::EpochChanged(epoch)
            }
            (_, SyncError::ScopeNotFound) => Self::NotFound,
            (_, SyncError::DeviceUnknown) => Self::DeviceUnknown,
            (_, SyncError::BadRequest(detail)) => Self::BadRequest(detail.to_owned()),
            (code, error) => Self::refused(code.unwrap_or(ErrorCode::Internal), error.to_string()),
        }
    }
}

impl Retryable for AppError {
    fn is_retry(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retry())
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        let challenge = self.challenge();
        let mut response = problem_response(self.problem());
        if let Some(challenge) = challenge {
            let value = HeaderValue::from_static(challenge);
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, value);
        }
        response.extensions_mut().insert(OperatorText::of(&self));
        response
    }
}

/// Returns the response of a problem. The document stays with it, so that the outermost layer
/// can add the request id.
pub(crate) fn problem_response(problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let content_type = HeaderValue::from_static("application/problem+json");
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response.extensions_mut().insert(problem);
    response
}

/// Name of the header that carries the request id in and out.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Returns whether the database is away, rather than refusing one statement.
fn is_away(error: &StoreError) -> bool {
    match error {
        StoreError::Retry { .. } => true,
        StoreError::Driver(error) => match error.code() {
            // Connection exceptions, insufficient resources, operator intervention.
            Some(state) => ["08", "53", "57P"]
                .iter()
                .any(|class| state.code().starts_with(class)),
            None => true,
        },
        _ => false,
    }
}

/// Tells whether PostgreSQL refused U+0000, in text or in JSON. Every text comes from a request and
/// is UTF-8, so that nothing else is behind these states. Rows do not get here: theirs is escaped.
fn holds_nul(error: &StoreError) -> bool {
    let states = ["22021", "22P05"];
    matches!(error, StoreError::Refused { sqlstate } if states.contains(&sqlstate.as_str()))
}

fn choices(tenants: &[TenantChoice]) -> Value {
    let choice =
        |tenant: &TenantChoice| json!({ "tenant_id": tenant.tenant_id, "name": tenant.name });
    Value::Array(tenants.iter().map(choice).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_keeps_its_cause_from_the_caller() {
        let error = AppError::Store(StoreError::Corrupt {
            table: "decisions",
            row: "7".into(),
        });
        let problem = error.problem();
        assert_eq!((problem.status, problem.code), (500, ErrorCode::Internal));
        assert!(
            !serde_json::to_string(&problem)
                .unwrap()
                .contains("decisions")
        );
        let response = error.into_response();
        let operator = response.extensions().get::<OperatorText>().unwrap();
        assert_eq!(operator.0, "corrupt row 7 in decisions");
    }

    #[test]
    fn refused_credential_is_challenged() {
        let challenge = |error: AppError| {
            let response = error.into_response();
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            response.headers()[header::WWW_AUTHENTICATE]
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(
            challenge(AppError::NoCredential),
            "Bearer realm=\"coditect\""
        );
        assert!(challenge(TokenError::Expired.into()).contains("invalid_token"));
        assert!(challenge(StoreError::NotMember.into()).contains("invalid_token"));
    }

    #[test]
    fn passing_conditions_say_when_to_come_back() {
        let response = AppError::Unavailable { reason: "busy" }.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let retry = AppError::Store(StoreError::Retry { reason: "deadlock" });
        assert_eq!(retry.code(), ErrorCode::Unavailable);
        assert!(retry.is_retry());
    }
}
