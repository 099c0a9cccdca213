//! `POST /api/v1/sync/pull`: what happened in the caller's streams since a cursor.

use super::Stored;
use super::descent::{Descended, Descent};
use crate::catalogue::File;
use crate::{Cursor, DeviceId, Epoch, Scope};
use serde::{Deserialize, Serialize};

/// Asks for the changes behind each position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PullRequest {
    /// Wire version that the client speaks.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[0-9]{1,5}\\.[0-9]{1,5}$"))]
    pub api_version: String,
    /// Device that pulls.
    pub device: DeviceId,
    /// Positions; a stream without one is read from its start.
    #[cfg_attr(feature = "openapi", schema(max_items = 1024))]
    pub positions: Vec<Position>,
    /// Cloud name of one `up` table whose rows are wanted, of all devices
    /// (`coditect pull --table`). Ordinary pages leave `up` tables out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
}

/// A stream's file and how far it was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Stream.
    pub scope: Scope,
    /// File of the stream.
    pub file: File,
    /// Last position read; none from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
    /// The file's token from its last push. One position of a file is enough to say it: one
    /// ahead of the database shows that the database was set back, one behind that the file is
    /// a copy. A pull replaces no token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What to compare or read again, once the page reaches the head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descent: Option<Descent>,
}

/// One snapshot of the asked streams, bounded in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PullReply {
    /// The database's life.
    pub epoch: Epoch,
    /// All scopes that the caller may read now.
    pub scopes: Vec<Scope>,
    /// A page for each position asked, in that order.
    pub pages: Vec<Page>,
}

/// Changes of one stream and file in cursor order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page {
    /// Stream.
    pub scope: Scope,
    /// File of the stream.
    pub file: File,
    /// The changes; own ones included.
    pub changes: Vec<Stored>,
    /// Position to ask from next time.
    pub cursor: Cursor,
    /// Whether the page reaches the snapshot's head; if not, ask again at once.
    pub at_head: bool,
    /// Digests of the file's tables at the head; only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<Vec<TableDigest>>,
    /// Answer to the position's `descent`; only at the head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descent: Option<Descended>,
}

/// Fingerprint of the rows of one table in one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TableDigest {
    /// Cloud name of the table.
    pub table: String,
    /// Rows that are no tombstones.
    pub rows: i64,
    /// Rows and tombstones.
    pub count: i64,
    /// XOR of the rows' terms, 16 hexadecimal digits. Over all devices' rows, or for an `up`
    /// table over those that the asking device was first to push.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[0-9a-f]{16}$"))]
    pub digest: String,
}
