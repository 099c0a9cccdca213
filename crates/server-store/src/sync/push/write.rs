//! Writes what a push changed: rows, counter parts, digests, history, conflicts; all in one
//! round trip.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use coditect_core::digest::Digest;
use coditect_protocol::DeviceId;
use coditect_protocol::catalogue::{Table, by_cloud_name};
use coditect_protocol::wire::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::apply::{Key, by_table};
use super::counters::Counters;
use super::decide::Changed;
use super::{Batch, Numbered, trail};
use crate::db::{Param, Statement, TenantTx};
use crate::sync::columns::Array;
use crate::sync::held::Held;
use crate::sync::{SyncError, sql};

const ADD_DIGESTS: &str = "insert into stream_digests
    (tenant_id, scope_id, table_name, origin_device, rows, count, xor)
    select $1, $2, table_name, origin_device, rows, count, xor
    from unnest($3::text[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[])
    as given (table_name, origin_device, rows, count, xor)
    on conflict (tenant_id, scope_id, table_name, origin_device) do update set
    rows = stream_digests.rows + excluded.rows, count = stream_digests.count + excluded.count,
    xor = stream_digests.xor # excluded.xor";

/// Writes everything that was decided.
pub(super) async fn write(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    held: &HashMap<Key, Held>,
    counters: &Counters,
    changed: &Changed,
) -> Result<(), SyncError> {
    let rows = changed.rows.iter();
    let rows = rows.filter_map(|key| Some((by_cloud_name(key.0)?, held.get(key)?)));
    let tables: Vec<_> = by_table(rows)
        .into_iter()
        .map(|(table, rows)| (table, Rows::new(table, rows)))
        .collect();
    let parts = counters.dirty();
    let digests = Digests::of(&changed.digests);
    let history = trail::History::of(&changed.history, batch)?;
    let conflicts = trail::Conflicts::of(&changed.conflicts, batch)?;
    let device = batch.device.get();
    let mut statements: Vec<Statement<'_>> = tables
        .iter()
        .map(|(table, rows)| rows.statement(batch, &sql::of(table).upsert))
        .collect();
    statements.extend(parts.statement(batch, &device));
    statements.extend(digests.statement(batch));
    statements.extend(history.statement(batch));
    statements.extend(conflicts.statement(batch));
    if !statements.is_empty() {
        tx.pipeline(&statements).await?;
    }
    Ok(())
}

/// Rows of one table as arrays, one per column.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    ids: Vec<Uuid>,
    users: Vec<Option<Uuid>>,
    devices: Vec<Uuid>,
    origins: Vec<Uuid>,
    hashes: Vec<&'a [u8]>,
    versions: Vec<i64>,
    cursors: Vec<i64>,
    created: Vec<DateTime<Utc>>,
    updated: Vec<DateTime<Utc>>,
    deleted: Vec<Option<DateTime<Utc>>>,
    /// `extra`, then the table's own columns.
    own: Vec<Array<'a>>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(table: &Table, rows: Vec<&'a Held>) -> Self {
        let own = rows.iter().map(|row| row.existing.row.as_ref()).collect();
        Self::with_columns(table, &rows, own)
    }

    /// Makes it of new facts, whose columns are those of their changes.
    pub(super) fn fresh(table: &Table, facts: Vec<(&'a Numbered<'_>, &'a Held)>) -> Self {
        let own = facts.iter();
        let own = own.map(|(change, _)| change.valid.change.row.as_ref());
        let rows: Vec<&Held> = facts.iter().map(|(_, row)| *row).collect();
        Self::with_columns(table, &rows, own.collect())
    }

    fn with_columns(table: &Table, rows: &[&'a Held], own: Vec<Option<&'a Row>>) -> Self {
        let arrays = table.columns.iter().map(|column| Array::of(column, &own));
        Self {
            ids: rows.iter().map(|row| row.id.get()).collect(),
            users: rows.iter().map(|row| row.user).collect(),
            devices: rows.iter().map(|row| row.existing.device.get()).collect(),
            origins: rows.iter().map(|row| row.origin.get()).collect(),
            hashes: rows
                .iter()
                .map(|row| row.existing.hash.0.as_slice())
                .collect(),
            versions: rows
                .iter()
                .map(|row| row.existing.version.to_i64())
                .collect(),
            cursors: rows.iter().map(|row| row.cursor).collect(),
            created: rows.iter().map(|row| row.created_at).collect(),
            updated: rows.iter().map(|row| row.updated_at).collect(),
            deleted: rows
                .iter()
                .map(|row| row.deleted().then_some(row.updated_at))
                .collect(),
            own: std::iter::once(Array::extra(&own)).chain(arrays).collect(),
        }
    }

    /// Returns one of the table's inserts with these rows.
    pub(super) fn statement<'b>(&'b self, batch: &'b Batch<'_>, sql: &'b str) -> Statement<'b> {
        let first = [
            (&batch.tenant as _, Type::UUID),
            (&batch.scope as _, Type::UUID),
        ];
        self.with(first, sql)
    }

    /// Returns the table's insert for several parts of a joined transaction, one for each row.
    pub(super) fn joined<'b>(
        &'b self,
        tenant: &'b Uuid,
        parts: &'b Vec<i32>,
        sql: &'b str,
    ) -> Statement<'b> {
        let first = [(tenant as _, Type::UUID), (parts as _, Type::INT4_ARRAY)];
        self.with(first, sql)
    }

    pub(super) fn with<'b>(&'b self, first: [Param<'b>; 2], sql: &'b str) -> Statement<'b> {
        let mut params: Vec<Param<'_>> = Vec::from(first);
        let common: [Param<'_>; 10] = [
            (&self.ids, Type::UUID_ARRAY),
            (&self.users, Type::UUID_ARRAY),
            (&self.devices, Type::UUID_ARRAY),
            (&self.origins, Type::UUID_ARRAY),
            (&self.hashes, Type::BYTEA_ARRAY),
            (&self.versions, Type::INT8_ARRAY),
            (&self.cursors, Type::INT8_ARRAY),
            (&self.created, Type::TIMESTAMPTZ_ARRAY),
            (&self.updated, Type::TIMESTAMPTZ_ARRAY),
            (&self.deleted, Type::TIMESTAMPTZ_ARRAY),
        ];
        params.extend(common);
        params.extend(self.own.iter().map(Array::param));
        Statement { sql, params }
    }
}

/// Differences of digests as arrays.
#[derive(Debug, Default)]
struct Digests {
    tables: Vec<&'static str>,
    origins: Vec<Uuid>,
    rows: Vec<i64>,
    counts: Vec<i64>,
    xors: Vec<i64>,
}

impl Digests {
    fn of(differences: &HashMap<(&'static str, DeviceId), Digest>) -> Self {
        let mut digests = Self::default();
        for ((table, origin), digest) in differences {
            digests.tables.push(table);
            digests.origins.push(origin.get());
            digests.rows.push(digest.rows);
            digests.counts.push(digest.count);
            digests.xors.push(digest.xor.cast_signed());
        }
        digests
    }

    fn statement<'a>(&'a self, batch: &'a Batch<'_>) -> Option<Statement<'a>> {
        let params: Vec<Param<'_>> = vec![
            (&batch.tenant, Type::UUID),
            (&batch.scope, Type::UUID),
            (&self.tables, Type::TEXT_ARRAY),
            (&self.origins, Type::UUID_ARRAY),
            (&self.rows, Type::INT8_ARRAY),
            (&self.counts, Type::INT8_ARRAY),
            (&self.xors, Type::INT8_ARRAY),
        ];
        (!self.tables.is_empty()).then_some(Statement {
            sql: ADD_DIGESTS,
            params,
        })
    }
}
