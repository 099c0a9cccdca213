//! What is kept beside the rows: overwritten versions, and versions that lost a conflict.

use chrono::{DateTime, Utc};
use coditect_core::hash;
use serde_json::Value;
use tokio_postgres::types::{Json, Type};
use uuid::Uuid;

use super::Batch;
use super::decide::{Conflict, Kept};
use crate::StoreError;
use crate::credential::random_bytes;
use crate::db::{Param, Statement};
use crate::sync::{SyncError, escape};

const KEEP_HISTORY: &str = "insert into record_history (tenant_id, scope_id, id, table_name,
    row_id, version, device_id, user_id, deleted, reason, row, batch_id, recorded_at, cursor)
    select $1, $2, id, table_name, row_id, version, device_id, user_id, deleted, reason, row,
    $12, $13, cursor
    from unnest($3::uuid[], $4::text[], $5::uuid[], $6::bigint[], $7::uuid[], $8::uuid[],
    $9::boolean[], $10::text[], $11::jsonb[], $14::bigint[])
    as given (id, table_name, row_id, version, device_id, user_id, deleted, reason, row, cursor)
    on conflict do nothing";
const KEEP_CONFLICTS: &str = "insert into sync_conflicts (tenant_id, scope_id, id, table_name,
    row_id, reason, winner_version, winner_device, loser_version, loser_device, loser_user,
    loser_deleted, row, batch_id, detected_at)
    select $1, $2, id, table_name, row_id, reason, winner_version, winner_device, version,
    device_id, user_id, deleted, row, $12, $13
    from unnest($3::uuid[], $4::text[], $5::uuid[], $6::bigint[], $7::uuid[], $8::uuid[],
    $9::boolean[], $10::text[], $11::jsonb[], $14::bigint[], $15::uuid[])
    as given (id, table_name, row_id, version, device_id, user_id, deleted, reason, row,
    winner_version, winner_device)
    on conflict do nothing";

/// Versions as arrays.
#[derive(Debug, Default)]
struct Versions {
    ids: Vec<Uuid>,
    tables: Vec<&'static str>,
    rows: Vec<Uuid>,
    versions: Vec<i64>,
    devices: Vec<Uuid>,
    users: Vec<Option<Uuid>>,
    deleted: Vec<bool>,
    reasons: Vec<&'static str>,
    contents: Vec<Json<Value>>,
    cursors: Vec<i64>,
}

impl Versions {
    fn push(&mut self, kept: &Kept, now: DateTime<Utc>) -> Result<(), SyncError> {
        let random = random_bytes().map_err(StoreError::from)?;
        self.ids.push(hash::random_id(
            now.timestamp_millis().max(0).cast_unsigned(),
            random,
        ));
        self.tables.push(kept.table);
        self.rows.push(kept.id.get());
        self.versions.push(kept.version.to_i64());
        self.devices.push(kept.device.get());
        self.users.push(kept.user);
        self.deleted.push(kept.row.is_none());
        self.reasons.push(kept.reason);
        self.cursors.push(kept.cursor);
        let content = Value::Object(kept.row.clone().unwrap_or_default());
        self.contents
            .push(Json(escape::json(&content).into_owned()));
        Ok(())
    }

    fn params<'b>(&'b self, batch: &'b Batch<'_>) -> Vec<Param<'b>> {
        vec![
            (&batch.tenant, Type::UUID),
            (&batch.scope, Type::UUID),
            (&self.ids, Type::UUID_ARRAY),
            (&self.tables, Type::TEXT_ARRAY),
            (&self.rows, Type::UUID_ARRAY),
            (&self.versions, Type::INT8_ARRAY),
            (&self.devices, Type::UUID_ARRAY),
            (&self.users, Type::UUID_ARRAY),
            (&self.deleted, Type::BOOL_ARRAY),
            (&self.reasons, Type::TEXT_ARRAY),
            (&self.contents, Type::JSONB_ARRAY),
            (&batch.id, Type::UUID),
            (&batch.now, Type::TIMESTAMPTZ),
        ]
    }
}

/// Entries of `record_history`.
#[derive(Debug, Default)]
pub(super) struct History(Versions);

impl History {
    pub(super) fn of(kept: &[Kept], batch: &Batch<'_>) -> Result<Self, SyncError> {
        let mut versions = Versions::default();
        for kept in kept {
            versions.push(kept, batch.now)?;
        }
        Ok(Self(versions))
    }

    pub(super) fn statement<'b>(&'b self, batch: &'b Batch<'_>) -> Option<Statement<'b>> {
        let mut params = self.0.params(batch);
        params.push((&self.0.cursors, Type::INT8_ARRAY));
        (!self.0.ids.is_empty()).then_some(Statement {
            sql: KEEP_HISTORY,
            params,
        })
    }
}

/// Entries of `sync_conflicts`.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    losers: Versions,
    winner_versions: Vec<i64>,
    winner_devices: Vec<Uuid>,
}

impl Conflicts {
    pub(super) fn of(conflicts: &[Conflict], batch: &Batch<'_>) -> Result<Self, SyncError> {
        let mut of = Self::default();
        for conflict in conflicts {
            of.losers.push(&conflict.loser, batch.now)?;
            of.winner_versions.push(conflict.winner_version.to_i64());
            of.winner_devices.push(conflict.winner_device.get());
        }
        Ok(of)
    }

    pub(super) fn statement<'b>(&'b self, batch: &'b Batch<'_>) -> Option<Statement<'b>> {
        let mut params = self.losers.params(batch);
        params.push((&self.winner_versions, Type::INT8_ARRAY));
        params.push((&self.winner_devices, Type::UUID_ARRAY));
        (!self.winner_versions.is_empty()).then_some(Statement {
            sql: KEEP_CONFLICTS,
            params,
        })
    }
}
