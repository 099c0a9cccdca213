//! Versions that lost a conflict, as the server keeps them. A device keeps those that its own
//! pushes met; the server knows those of all devices.

use coditect_core::sync::Failure;
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{DeviceId, RowId, Scope, Version};
use serde::Deserialize;

use crate::transport::{HttpTransport, Transport as _};

/// A version that lost.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ServerConflict {
    /// Cloud name of the table.
    pub table: String,
    /// The row that both versions are of.
    pub row_id: RowId,
    /// Why it is kept: `conflict`, or `edited_fact`.
    pub reason: String,
    /// Version that is stored since.
    pub winner_version: Version,
    /// Version that lost.
    pub loser_version: Version,
    /// Device that wrote it.
    pub loser_device: DeviceId,
    /// Whether it deleted the row.
    pub loser_op: Op,
    /// Its columns; none for a delete.
    #[serde(default)]
    pub row: Option<Row>,
    /// When the server met it.
    pub detected_at: String,
}

#[derive(Deserialize)]
struct ConflictList {
    conflicts: Vec<ServerConflict>,
}

/// Returns the open conflicts of a scope, the latest first, as many as the server gives.
///
/// # Errors
/// [`Failure`] when the server does not answer or refuses.
pub async fn list(
    transport: &mut HttpTransport,
    scope: Scope,
) -> Result<Vec<ServerConflict>, Failure> {
    let path = format!("/api/v1/sync/conflicts?scope={scope}");
    let first = transport.get::<ConflictList>(&path).await;
    let reply = match first {
        Err(Failure::Unauthenticated(problem)) => {
            if !transport.authenticate().await {
                return Err(Failure::Unauthenticated(problem));
            }
            transport.get::<ConflictList>(&path).await?
        }
        other => other?,
    };
    Ok(reply.conflicts)
}
