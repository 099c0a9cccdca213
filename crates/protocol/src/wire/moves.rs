//! `POST /api/v1/sync/move`: rows leave one stream and enter another, by sharing or unsharing.

use super::Stored;
use super::push::Status;
use crate::catalogue::File;
use crate::{BatchId, DeviceId, Epoch, ErrorCode, RowId, Scope, Version};
use serde::{Deserialize, Serialize};

/// Rows of one file to move from one scope to another. Sending it again changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// Wire version that the client speaks.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[0-9]{1,5}\\.[0-9]{1,5}$"))]
    pub api_version: String,
    /// Device that moves; must be registered for the caller.
    pub device: DeviceId,
    /// Identity of this batch. A row that it moved before is not moved again, wherever it is
    /// by now.
    pub batch_id: BatchId,
    /// File that the rows are in.
    pub file: File,
    /// Scope that they leave.
    pub from: Scope,
    /// Scope that they enter.
    pub to: Scope,
    /// The rows, each once; at most [`crate::limits::MOVE_ROWS_MAX`].
    #[cfg_attr(feature = "openapi", schema(max_items = 200))]
    pub moves: Vec<Move>,
}

/// One row to move. It says nothing about the row's content: what is stored is moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// Cloud name of the table.
    pub table: String,
    /// Row id.
    pub id: RowId,
    /// Version that the device knows. Where another one is stored, the reply has its columns.
    pub base: Version,
}

/// Reply to a move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MoveReply {
    /// The database's life.
    pub epoch: Epoch,
    /// The server's clock, milliseconds since 1970.
    pub server_time_ms: i64,
    /// One outcome per row, in the order of the request.
    pub outcomes: Vec<Moved>,
}

/// What became of a move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Moved {
    /// `applied`: moved as the device knows it. `merged`: moved, but the row there has another
    /// content than the device knows. `duplicate`: it was moved before. `rejected`: it was not.
    pub status: Status,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// The same for people; never content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is stored under the row's key in the scope that it leaves: its tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Stored>,
    /// What is stored in the scope that it enters. Without columns it has the content of
    /// version `base`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entered: Option<Stored>,
}
