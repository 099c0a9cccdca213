//! Logins and their end.

use coditect_core::sync::Failure;
use coditect_protocol::wire::auth::{LicenseLogin, LoginReply, PasswordLogin, Refresh};
use coditect_protocol::{ErrorCode, Problem};
use serde::Serialize;

use crate::http::Http;

/// Logs in with a licence key.
///
/// # Errors
/// [`Failure`] when the server does not answer or refuses the key.
pub async fn license(http: &Http, login: &LicenseLogin) -> Result<LoginReply, Failure> {
    http.post("/api/v1/auth/license/", &encode(login)?, None)
        .await
}

/// Logs in with e-mail and password.
///
/// # Errors
/// [`Failure`] when the server does not answer, refuses, or wants the tenant named.
pub async fn password(http: &Http, login: &PasswordLogin) -> Result<LoginReply, Failure> {
    http.post("/api/v1/auth/login/", &encode(login)?, None)
        .await
}

/// Turns a refresh token into new tokens; the old one is used up.
///
/// # Errors
/// [`Failure`] when the server does not answer or the token is not valid any more.
pub async fn refresh(http: &Http, refresh_token: &str) -> Result<LoginReply, Failure> {
    let body = Refresh {
        refresh_token: refresh_token.to_owned(),
    };
    http.post("/api/v1/auth/refresh/", &encode(&body)?, None)
        .await
}

/// Ends the session that the refresh token belongs to.
///
/// # Errors
/// [`Failure`] when the server does not answer or refuses.
pub async fn logout(http: &Http, access: &str, refresh_token: &str) -> Result<(), Failure> {
    let body = Refresh {
        refresh_token: refresh_token.to_owned(),
    };
    http.send("/api/v1/auth/logout/", &encode(&body)?, Some(access))
        .await
        .map(drop)
}

/// Encodes a request's body. It cannot fail for our types; if it did, that is our fault and no
/// reason to try again.
pub(crate) fn encode<T: Serialize>(body: &T) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(body).map_err(|error| {
        let detail = format!("the request could not be encoded: {error}");
        Failure::Refused(Box::new(Problem::new(ErrorCode::Internal, detail)))
    })
}
