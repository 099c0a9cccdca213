//! Logins: a licence key or e-mail and password become tokens; a device is registered.

use crate::{DeviceId, OrganizationId, UserId};
use serde::{Deserialize, Serialize};

/// The device that logs in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceInfo {
    /// Id that the data folder made; the server answers another one if it is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<DeviceId>,
    /// Name for people, the host's as a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Hardware id that a licence may be bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware_id: Option<String>,
}

/// `POST /api/v1/auth/license/`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LicenseLogin {
    /// Licence key; carries the tenant.
    pub license_key: String,
    /// Device to register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceInfo>,
}

/// `POST /api/v1/auth/login/`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PasswordLogin {
    /// E-mail address.
    pub email: String,
    /// Password.
    pub password: String,
    /// Organisation, when the person belongs to several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<OrganizationId>,
    /// Device to register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceInfo>,
}

/// `POST /api/v1/auth/refresh/` and `/api/v1/auth/logout/`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Refresh {
    /// Refresh token; each is good for one use.
    pub refresh_token: String,
}

/// Reply of every login.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LoginReply {
    /// JWT to send as bearer.
    pub access_token: String,
    /// Tenant of the caller.
    pub tenant_id: OrganizationId,
    /// Token for the next access token.
    pub refresh_token: String,
    /// Seconds until the access token ends.
    pub expires_in: u64,
    /// The caller.
    pub user_id: UserId,
    /// The device as registered.
    pub device_id: DeviceId,
    /// Public key (Ed25519, base64) that would sign the notice of the account's erasure. A device
    /// keeps the one of its login and believes no other (ADR 0034).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erasure_key: Option<String>,
}
