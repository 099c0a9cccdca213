//! Logins: from a credential to tokens, a device and an audit entry.

use coditect_protocol::wire::auth::{LicenseLogin, LoginReply, PasswordLogin, Refresh};
use coditect_server_store::credential::{self, TokenPair};

use crate::error::AppError;
use crate::state::AppState;

/// Logs in with a licence key.
///
/// # Errors
/// [`AppError::LoginDenied`] for a key that is unknown, expired or revoked,
/// [`AppError::DeviceUnknown`] for a device that was locked out.
pub async fn login_with_license(
    state: &AppState,
    login: LicenseLogin,
) -> Result<LoginReply, AppError> {
    let (key, device) = (login.license_key, login.device.unwrap_or_default());
    let now = state.clock.now();
    let pair =
        credential::login_with_license(&state.db, &state.secrets, &key, &device, now).await?;
    Ok(reply(pair))
}

/// Logs in with e-mail and password.
///
/// # Errors
/// As [`login_with_license`], and [`AppError::TenantAmbiguous`] when one organisation must be
/// named.
pub async fn login_with_password(
    state: &AppState,
    login: PasswordLogin,
) -> Result<LoginReply, AppError> {
    let device = login.device.unwrap_or_default();
    let pair = credential::login_with_password(
        &state.db,
        &state.secrets,
        (&login.email, &login.password),
        login.tenant_id,
        &device,
        state.clock.now(),
    )
    .await?;
    Ok(reply(pair))
}

/// Trades a refresh token for new tokens.
///
/// # Errors
/// As [`login_with_license`].
pub async fn refresh(state: &AppState, request: Refresh) -> Result<LoginReply, AppError> {
    let token = &request.refresh_token;
    let now = state.clock.now();
    Ok(reply(
        credential::refresh(&state.db, &state.secrets, token, now).await?,
    ))
}

/// Ends the login that a refresh token belongs to.
///
/// # Errors
/// Those of the store; an unknown token is none.
pub async fn log_out(state: &AppState, request: Refresh) -> Result<(), AppError> {
    Ok(credential::log_out(&state.db, &request.refresh_token, state.clock.now()).await?)
}

fn reply(pair: TokenPair) -> LoginReply {
    LoginReply {
        access_token: pair.access_token,
        tenant_id: pair.caller.tenant().organization(),
        refresh_token: pair.refresh_token,
        expires_in: pair.expires_in,
        user_id: pair.caller.user_id(),
        device_id: pair.caller.device_id(),
    }
}
