//! What an access token says about itself. It is read unchecked: the server checks it with every
//! request, and a wrong guess here only names something wrongly.

use base64::Engine as _;
use coditect_protocol::{DeviceId, OrganizationId, UserId};
use serde::Deserialize;

/// The parts of a token that people are told about.
#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    /// Person.
    pub(crate) sub: UserId,
    /// Organisation.
    pub(crate) tenant_id: OrganizationId,
    /// Device that it was issued to.
    pub(crate) device_id: Option<DeviceId>,
    /// When it ends, in seconds since 1970.
    pub(crate) exp: Option<i64>,
}

/// Returns what a token says; none when it is no token of a CODITECT server.
pub(crate) fn claims(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload);
    serde_json::from_slice(&bytes.ok()?).ok()
}
