//! `GET /api/v1/sync/history`, `POST /api/v1/sync/history/restore` and
//! `POST /api/v1/sync/conflicts/{id}/resolve`: the versions of a record, and going back to one.

use super::{Op, Row, Stored};
use crate::{DeviceId, RowId, Scope, UserId, Version};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A version of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecordVersion {
    /// Its version.
    pub version: Version,
    /// Device that wrote it; nil for a restore by the server.
    pub device: DeviceId,
    /// Author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Whether it deletes the record.
    pub op: Op,
    /// `stored` for the one that holds; else why it is kept: `overwritten`, `conflict` for one
    /// that lost, `edited_fact`, `restored` for one that a restore replaced.
    pub reason: String,
    /// When it was replaced, or for the one that holds when it was written; RFC 3339 UTC.
    pub at: String,
    /// Its columns; none for a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub row: Option<Row>,
}

/// The versions of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecordHistory {
    /// The versions, the one that holds first, then the latest; at most 200.
    pub versions: Vec<RecordVersion>,
    /// Versions that were replaced before this time may be gone, RFC 3339 UTC; without it none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_since: Option<String>,
}

/// Asks for a version to hold again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RestoreVersion {
    /// Scope of the record.
    pub scope: Scope,
    /// Cloud name of its table.
    pub table: String,
    /// The record.
    pub id: RowId,
    /// The version; its content comes back under a new one.
    pub version: Version,
}

/// Which content a settled conflict leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Take {
    /// What is stored stays.
    Stored,
    /// The version that lost.
    Lost,
    /// The columns that the request gives.
    Merged,
}

/// Settles a conflict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ResolveConflict {
    /// Scope of the record.
    pub scope: Scope,
    /// Which content shall hold.
    pub take: Take,
    /// All columns of the merged version; only with `merged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub row: Option<Row>,
}

/// The record after a version came back or a conflict was settled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecordReply {
    /// The settled conflict, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict_id: Option<Uuid>,
    /// What holds now.
    pub stored: Stored,
}
