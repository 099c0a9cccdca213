//! `GET /api/v1/audit/`: who did what, when.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{DeviceId, UserId};

/// An entry of the audit trail. It names things by id and never shows what they hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// Its id.
    pub id: Uuid,
    /// When it happened.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::openapi::Timestamp))]
    pub at: String,
    /// Who did it; none for an operator's command and for the server itself.
    pub user_id: Option<UserId>,
    /// On which device.
    pub device_id: Option<DeviceId>,
    /// What was done, such as `login` or `push`.
    pub action: String,
    /// Kind of the thing that it was done to, such as `device`.
    pub resource_type: Option<String>,
    /// Id of that thing.
    pub resource_id: Option<String>,
    /// Counts and hashes beside it.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub detail: Value,
    /// Block of the chain that proves the entry; none for about a minute.
    pub block: Option<i64>,
}

/// A page of the trail, the latest entry first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Value of `before` for the next page; none on the last one.
    pub next: Option<String>,
}
