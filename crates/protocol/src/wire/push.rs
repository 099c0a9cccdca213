//! `POST /api/v1/sync/push`: changes of one stream and one file.

use super::{Op, Row, Stored};
use crate::catalogue::File;
use crate::{BatchId, DeviceId, Epoch, ErrorCode, RowId, Scope, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A batch of changes. Sending it again, byte for byte, changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    /// Wire version that the client speaks.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[0-9]{1,5}\\.[0-9]{1,5}$"))]
    pub api_version: String,
    /// Device that pushes; must be registered for the caller.
    pub device: DeviceId,
    /// Identity of this batch.
    pub batch_id: BatchId,
    /// The device's clock when the batch was made, milliseconds since 1970.
    pub sent_at_ms: i64,
    /// File that the changes come from.
    pub file: File,
    /// Stream that they go to.
    pub scope: Scope,
    /// Life of the database that the device follows; none before its first pull. A server of
    /// another life carries nothing out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The file's token from the last acknowledgement; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The changes, in the order of the queue; at most
    /// [`crate::limits::PUSH_CHANGES_MAX`].
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub changes: Vec<Change>,
}

/// One change of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Cloud name of the table.
    pub table: String,
    /// Row id.
    pub id: RowId,
    /// What happened to it.
    pub op: Op,
    /// Acknowledged version that the change was made on; none for a new row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Version>,
    /// Stored version below the base that the device knows to be an earlier state of what it
    /// sends: after the database was set back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Version>,
    /// Content hash of the base, 64 hexadecimal digits; none for a new row, and where it is not
    /// known. A stored version with the same content holds no other edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::openapi::ContentHash>))]
    pub base_hash: Option<String>,
    /// Version that the device proposes, from the time of the edit.
    pub proposed: Version,
    /// Whether the register (the `lww` columns) differs from the base; when not, only the other
    /// columns are merged and no conflict can arise.
    pub register: bool,
    /// Content hash, 64 hexadecimal digits; of the last content for a delete.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::openapi::ContentHash))]
    pub hash: String,
    /// When the row was made, RFC 3339 UTC with microseconds.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::openapi::Timestamp))]
    pub created_at: String,
    /// When it was changed, in the same form.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::openapi::Timestamp))]
    pub updated_at: String,
    /// The row; none for a delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub row: Option<Row>,
    /// What this device has added to each counter column so far.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, CounterPart>,
}

/// One device's share of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CounterPart {
    /// Grows with every push of the part; the highest wins.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub seq: i64,
    /// All that the device has added so far.
    #[cfg_attr(
        feature = "openapi",
        schema(minimum = -9007199254740992_i64, maximum = 9007199254740992_i64)
    )]
    pub total: i64,
}

/// Reply to a push.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PushReply {
    /// The database's life.
    pub epoch: Epoch,
    /// Token to send with the file's next push.
    pub token: String,
    /// The server's clock, milliseconds since 1970.
    pub server_time_ms: i64,
    /// One outcome per change, in the order of the request.
    pub outcomes: Vec<Outcome>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Stored as sent.
    Applied,
    /// Was there already.
    Duplicate,
    /// Not stored, because what is stored goes first (an update beats a delete).
    Superseded,
    /// Stored after joining it with what was there.
    Merged,
    /// Both sides had changed; the higher version is stored, the other one kept.
    Conflict,
    /// Refused; the change alone, its neighbours are not affected.
    Rejected,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Applied,
        Self::Duplicate,
        Self::Superseded,
        Self::Merged,
        Self::Conflict,
        Self::Rejected,
    ];

    /// Returns the word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded",
            Self::Merged => "merged",
            Self::Conflict => "conflict",
            Self::Rejected => "rejected",
        }
    }
}

/// Outcome of one change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Outcome {
    /// What became of it.
    pub status: Status,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// The same for people; never content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The stored row's place and version; its columns are given only where they differ from
    /// what was sent. None when refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Stored>,
    /// The losing side of a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loser: Option<Loser>,
    /// Where the row is by now, when it was moved out of the stream and the caller may read it
    /// there: an edit made before belongs there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<Scope>,
}

/// A version that lost a conflict; kept until a person settles it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Loser {
    /// Version that it had, or that its device proposed.
    pub version: Version,
    /// Device that wrote it.
    pub device: DeviceId,
    /// Whether it deleted the row.
    pub op: Op,
    /// Its columns; none for a delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub row: Option<Row>,
}
