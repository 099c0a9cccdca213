//! Devices: which machines of a person are logged in.

use crate::{DeviceId, UserId};
use serde::{Deserialize, Serialize};

/// A registered device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// The person who logged in on it.
    pub user_id: UserId,
    /// Name for people, the host's as a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it logged in first; RFC 3339 UTC.
    pub created_at: String,
    /// When it last logged in or renewed its tokens; RFC 3339 UTC.
    pub last_seen_at: String,
    /// When it was locked out, if it was; RFC 3339 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// Reply of `GET /api/v1/devices/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceList {
    /// The devices, oldest first.
    pub devices: Vec<Device>,
}
