//! Versions that lost a conflict, as the server keeps them. A device keeps those that its own
//! pushes met; the server knows those of all devices.

use coditect_core::sync::Failure;
use coditect_protocol::wire::history::{RecordHistory, RecordReply, ResolveConflict, Take};
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{DeviceId, RowId, Scope, Version};
use serde::Deserialize;
use uuid::Uuid;

use crate::transport::{HttpTransport, Transport as _};

/// A version that lost.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ServerConflict {
    /// Its own id.
    pub id: Uuid,
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

/// Notes at the server that a person has settled a conflict. What is stored stays; the content
/// that the person chose is pushed like any other edit.
///
/// # Errors
/// [`Failure`] when the server does not answer or refuses.
pub async fn settle(
    transport: &mut HttpTransport,
    scope: Scope,
    conflict: Uuid,
) -> Result<(), Failure> {
    let path = format!("/api/v1/sync/conflicts/{conflict}/resolve");
    let body = ResolveConflict {
        scope,
        take: Take::Stored,
        row: None,
    };
    let first = transport
        .post_document::<_, RecordReply>(&path, &body)
        .await;
    match first {
        Err(Failure::Unauthenticated(problem)) => {
            if !transport.authenticate().await {
                return Err(Failure::Unauthenticated(problem));
            }
            let again = transport.post_document::<_, RecordReply>(&path, &body);
            again.await.map(drop)
        }
        other => other.map(drop),
    }
}

/// Returns the versions of a record that the server keeps, the one that holds first.
///
/// # Errors
/// [`Failure`] when the server does not answer or refuses.
pub async fn history(
    transport: &mut HttpTransport,
    scope: Scope,
    table: &str,
    id: &str,
) -> Result<RecordHistory, Failure> {
    let path = format!("/api/v1/sync/history?scope={scope}&table={table}&id={id}");
    match transport.get::<RecordHistory>(&path).await {
        Err(Failure::Unauthenticated(problem)) => {
            if !transport.authenticate().await {
                return Err(Failure::Unauthenticated(problem));
            }
            transport.get::<RecordHistory>(&path).await
        }
        other => other,
    }
}
