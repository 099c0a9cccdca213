//! Logins: from a credential to tokens, a device and an audit entry.

use std::net::IpAddr;

use coditect_protocol::wire::auth::{LicenseLogin, LoginReply, PasswordLogin, Refresh};
use coditect_server_store::credential::{self, LoginError, TokenPair};
use coditect_server_store::erasure;

use crate::error::AppError;
use crate::state::AppState;

/// Logs in with a licence key.
///
/// # Errors
/// [`AppError::LoginDenied`] for a key that is unknown, expired or revoked,
/// [`AppError::DeviceUnknown`] for a device that was locked out, [`AppError::TooManyLogins`]
/// after too many wrong credentials.
pub async fn login_with_license(
    state: &AppState,
    login: LicenseLogin,
    address: Option<IpAddr>,
) -> Result<LoginReply, AppError> {
    let (key, device) = (login.license_key, login.device.unwrap_or_default());
    let now = state.clock.now();
    let login = credential::login_with_license(&state.db, &state.secrets, &key, &device, now);
    limited(state, ("license", key.trim()), address, login).await
}

/// Logs in with e-mail and password.
///
/// # Errors
/// As [`login_with_license`], and [`AppError::TenantAmbiguous`] when one organisation must be
/// named.
pub async fn login_with_password(
    state: &AppState,
    login: PasswordLogin,
    address: Option<IpAddr>,
) -> Result<LoginReply, AppError> {
    let device = login.device.unwrap_or_default();
    let email = credential::normal_email(&login.email);
    let attempt = credential::login_with_password(
        &state.db,
        &state.secrets,
        (&login.email, &login.password),
        login.tenant_id,
        &device,
        state.clock.now(),
    );
    limited(state, ("email", &email), address, attempt).await
}

/// Trades a refresh token for new tokens.
///
/// # Errors
/// As [`login_with_license`], and [`AppError::AccountErased`] for a token of an erased account.
pub async fn refresh(state: &AppState, request: Refresh) -> Result<LoginReply, AppError> {
    let token = &request.refresh_token;
    let now = state.clock.now();
    match credential::refresh(&state.db, &state.secrets, token, now).await {
        Err(LoginError::Erased(erased)) => {
            let key = state.erasure_key.as_deref();
            let notice = key.map(|key| Box::new(erasure::notice(key, &erased)));
            Err(AppError::AccountErased(notice))
        }
        done => Ok(reply(state, done?)),
    }
}

/// Ends the login that a refresh token belongs to.
///
/// # Errors
/// Those of the store; an unknown token is none.
pub async fn log_out(state: &AppState, request: Refresh) -> Result<(), AppError> {
    Ok(credential::log_out(&state.db, &request.refresh_token, state.clock.now()).await?)
}

/// Runs a login within the limits of whom it is for and where it comes from. Only a credential
/// that is not accepted counts.
async fn limited(
    state: &AppState,
    subject: (&str, &str),
    address: Option<IpAddr>,
    login: impl Future<Output = Result<TokenPair, LoginError>>,
) -> Result<LoginReply, AppError> {
    let attempt = state.throttle.take(subject, address, state.clock.now());
    let attempt = attempt.map_err(|retry_after_seconds| AppError::TooManyLogins {
        retry_after_seconds,
    })?;
    let outcome = login.await;
    if !matches!(outcome, Err(LoginError::Denied)) {
        state.throttle.give_back(attempt);
    }
    Ok(reply(state, outcome?))
}

fn reply(state: &AppState, pair: TokenPair) -> LoginReply {
    LoginReply {
        access_token: pair.access_token,
        tenant_id: pair.caller.tenant().organization(),
        refresh_token: pair.refresh_token,
        expires_in: pair.expires_in,
        user_id: pair.caller.user_id(),
        device_id: pair.caller.device_id(),
        erasure_key: state.erasure_key.as_ref().map(|key| key.public_key()),
    }
}
