//! All rows of a tenant in one canonical form, to compare replicas with.

use coditect_protocol::catalogue::{Class, TABLES, Table};
use coditect_protocol::wire::{Op, Row, Stored};
use coditect_protocol::{DeviceId, OrganizationId, RowId, Scope, Version};
use serde::Serialize;
use std::collections::HashMap;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::held::Held;
use super::sql::{self, EXTRA_POSITION};
use crate::StoreError;
use crate::db::{Db, SystemTask};

const KINDS: &str = "select scope_id, kind from scopes where tenant_id = $1";
/// Rows that one transaction reads.
const ROWS_AT_ONCE: i64 = 500;

/// A row, or a tombstone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DumpLine {
    /// Cloud name of the table.
    pub table: String,
    /// Scope as on the wire.
    pub scope: Scope,
    /// Row id.
    pub id: RowId,
    /// Its version.
    pub version: Version,
    /// Device that wrote this version; nil in the platform's catalogue.
    pub device: DeviceId,
    /// Device of the first accepted push; nil in the platform's catalogue.
    pub origin: DeviceId,
    /// Content hash.
    pub hash: String,
    /// Whether it is a tombstone.
    pub deleted: bool,
    /// Its columns; null for a tombstone.
    pub row: Option<Row>,
}

/// Hands every row of the tenant and of the platform's catalogue to `line`, by table, scope and
/// id. Reads in short transactions: the dump is of one moment only while nobody pushes.
///
/// # Errors
///
/// Those of the database; what `line` returns ends the dump.
pub async fn dump<E: From<StoreError>>(
    db: &Db,
    tenant: OrganizationId,
    mut line: impl FnMut(DumpLine) -> Result<(), E>,
) -> Result<(), E> {
    let kinds = kinds(db, tenant).await?;
    for table in TABLES {
        let mut behind = (Uuid::nil(), Uuid::nil());
        loop {
            let rows = read(db, table, tenant, behind).await?;
            let is_last = rows.len() < ROWS_AT_ONCE as usize;
            for (scope_id, stored) in rows {
                behind = (scope_id, stored.id.get());
                line(to_line(stored, scope(table, tenant, scope_id, &kinds)))?;
            }
            if is_last {
                break;
            }
        }
    }
    Ok(())
}

/// Returns the kinds of the teams and projects.
async fn kinds(db: &Db, tenant: OrganizationId) -> Result<HashMap<Uuid, Scope>, StoreError> {
    let tenant = tenant.get();
    db.system(SystemTask::Dump, |mut tx| async move {
        let mut kinds = HashMap::new();
        for row in tx.query(KINDS, &[(&tenant, Type::UUID)]).await? {
            let (id, kind): (Uuid, &str) = (row.try_get(0)?, row.try_get(1)?);
            let scope = match kind {
                "team" => Scope::Team(id),
                "project" => Scope::Project(id),
                _ => continue,
            };
            kinds.insert(id, scope);
        }
        Ok::<_, StoreError>(kinds)
    })
    .await
}

async fn read(
    db: &Db,
    table: &'static Table,
    tenant: OrganizationId,
    behind: (Uuid, Uuid),
) -> Result<Vec<(Uuid, Stored)>, StoreError> {
    let (tenant, (scope, id)) = (tenant.get(), behind);
    let of_platform = table.class == Class::Catalogue;
    db.system(SystemTask::Dump, |mut tx| async move {
        let statement = &sql::of(table).dump;
        let params = [
            (&tenant as _, Type::UUID),
            (&scope as _, Type::UUID),
            (&id as _, Type::UUID),
            (&ROWS_AT_ONCE as _, Type::INT8),
        ];
        let params = if of_platform {
            &params[2..]
        } else {
            &params[..]
        };
        let mut rows = Vec::new();
        for row in tx.query(statement, params).await? {
            let scope = match of_platform {
                true => Uuid::nil(),
                false => row.try_get(EXTRA_POSITION + 1 + table.columns.len())?,
            };
            rows.push((scope, Held::read(table, &row)?.into_stored(table)));
        }
        Ok::<_, StoreError>(rows)
    })
    .await
}

fn scope(table: &Table, tenant: OrganizationId, id: Uuid, kinds: &HashMap<Uuid, Scope>) -> Scope {
    if table.class == Class::Catalogue {
        Scope::Platform
    } else if id == tenant.get() {
        Scope::Org(id)
    } else {
        kinds.get(&id).copied().unwrap_or(Scope::User(id))
    }
}

fn to_line(stored: Stored, scope: Scope) -> DumpLine {
    DumpLine {
        table: stored.table,
        scope,
        id: stored.id,
        version: stored.version,
        device: stored.device,
        origin: stored.origin,
        hash: stored.hash,
        deleted: stored.op == Op::Delete,
        row: stored.row,
    }
}
