//! How far each device has read: noted after pulls, shown by the status.
//!
//! Noted are two positions: the one that a reply gave out, which the status shows; and the one that
//! the request named. Whether a device got a reply only its next request says, so the floor below
//! which old versions are removed looks at the second (ADR 0037).

use chrono::{DateTime, Utc};
use coditect_protocol::{DeviceId, Epoch, Scope};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::SyncError;
use crate::db::TenantTx;

/// Stands for a file where a view was read, which has messages of one file only.
pub const VIEW: &str = "view";

const NOTE: &str = "insert into device_cursors
    (tenant_id, device_id, scope_id, file, epoch, n, acked_n, rows_pulled, last_pull_at)
    select $1, $2, scope_id, file, $3, n, held, rows, $4
    from unnest($5::uuid[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[])
    as t (scope_id, file, n, held, rows)
    on conflict (tenant_id, device_id, scope_id, file) do update set
    epoch = excluded.epoch, n = excluded.n, acked_n = excluded.acked_n,
    rows_pulled = device_cursors.rows_pulled + excluded.rows_pulled,
    last_pull_at = excluded.last_pull_at";

/// A position that a reply gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Stream.
    pub scope: Scope,
    /// File of the stream, or [`VIEW`].
    pub file: &'static str,
    /// The position.
    pub n: i64,
    /// The position that the device asked from: it holds everything up to there.
    pub held: i64,
    /// Rows that the reply has.
    pub rows: usize,
}

/// Notes what `device` of the caller was given at `at`. The catalogue's stream belongs to no
/// tenant and is left out.
///
/// # Errors
///
/// Those of the database, such as for a device that is not registered.
pub async fn note(
    tx: &mut TenantTx,
    device: DeviceId,
    epoch: Epoch,
    readings: &[Reading],
    at: DateTime<Utc>,
) -> Result<(), SyncError> {
    let mut readings: Vec<&Reading> = readings
        .iter()
        .filter(|reading| reading.scope != Scope::Platform)
        .collect();
    // In one order, so that two replies to one device do not stop each other; each row once.
    readings.sort_unstable_by_key(|reading| (reading.scope.id(), reading.file));
    readings.dedup_by_key(|reading| (reading.scope.id(), reading.file));
    if readings.is_empty() {
        return Ok(());
    }
    let (tenant, device, epoch) = (tx.tenant().get(), device.get(), epoch.to_string());
    let scopes: Vec<Uuid> = readings.iter().map(|reading| reading.scope.id()).collect();
    let files: Vec<&str> = readings.iter().map(|reading| reading.file).collect();
    let positions: Vec<i64> = readings.iter().map(|reading| reading.n).collect();
    let held: Vec<i64> = readings.iter().map(|reading| reading.held).collect();
    let rows: Vec<i64> = readings.iter().map(|reading| reading.rows as i64).collect();
    tx.execute(
        NOTE,
        &[
            (&tenant, Type::UUID),
            (&device, Type::UUID),
            (&epoch, Type::TEXT),
            (&at, Type::TIMESTAMPTZ),
            (&scopes, Type::UUID_ARRAY),
            (&files, Type::TEXT_ARRAY),
            (&positions, Type::INT8_ARRAY),
            (&held, Type::INT8_ARRAY),
            (&rows, Type::INT8_ARRAY),
        ],
    )
    .await?;
    Ok(())
}
