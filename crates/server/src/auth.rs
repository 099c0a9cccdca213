//! Who makes a request: the extractor of [`Caller`], from a verified bearer and nothing else.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use chrono::{DateTime, Utc};
use coditect_server_store::credential::Caller;

use crate::error::AppError;
use crate::layers::RequestLog;
use crate::state::AppState;

impl FromRequestParts<AppState> for Authenticated {
    type Rejection = AppError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AppState,
    ) -> Result<Self, Self::Rejection> {
        let token = bearer(&parts.headers)?;
        let now = state.clock.now();
        let caller = state.secrets.verify(token, now)?;
        note(parts, state, &caller, now).await?;
        Ok(Self(caller))
    }
}

/// The caller of a request, verified.
#[derive(Debug, Clone)]
pub struct Authenticated(pub Caller);

/// The caller of a connection that outlives its request, and when the token expires.
#[derive(Debug, Clone)]
pub(crate) struct AuthenticatedUntil(pub(crate) Caller, pub(crate) DateTime<Utc>);

impl FromRequestParts<AppState> for AuthenticatedUntil {
    type Rejection = AppError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AppState,
    ) -> Result<Self, Self::Rejection> {
        let token = bearer(&parts.headers)?;
        let now = state.clock.now();
        let (caller, until) = state.secrets.verify_until(token, now)?;
        note(parts, state, &caller, now).await?;
        Ok(Self(caller, until))
    }
}

/// Notes who asks, and counts the request.
async fn note(
    parts: &Parts,
    state: &AppState,
    caller: &Caller,
    now: DateTime<Utc>,
) -> Result<(), AppError> {
    let log = parts.extensions.get::<RequestLog>();
    if let Some(log) = log {
        log.set_caller(caller);
    }
    let taken = state.limits.take(&state.db, caller, now).await;
    let rate = match &taken {
        Ok(rate) => *rate,
        Err(AppError::TooManyRequests(rate)) => Some(*rate),
        Err(_) => None,
    };
    if let (Some(log), Some(rate)) = (log, rate) {
        log.set_rate(rate);
    }
    taken.map(drop)
}

/// Where a request came from; none from within the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) Option<IpAddr>);

impl FromRequestParts<AppState> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        _state: &AppState,
    ) -> Result<Self, Self::Rejection> {
        let log = parts.extensions.get::<RequestLog>();
        Ok(Self(log.and_then(RequestLog::client)))
    }
}

/// Returns the bearer token of a request.
fn bearer(headers: &HeaderMap) -> Result<&str, AppError> {
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or(AppError::NoCredential)?;
    let text = value.to_str().map_err(|_| AppError::NoCredential)?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(AppError::NoCredential),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_is_a_credential() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(str::to_owned).ok()
        };
        assert_eq!(read("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(read("bearer  abc").as_deref(), Some("abc"));
        assert_eq!(read("Basic abc"), None);
        assert_eq!(read("Bearer"), None);
        assert!(bearer(&HeaderMap::new()).is_err());
    }
}
