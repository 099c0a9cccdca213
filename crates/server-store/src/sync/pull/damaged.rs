//! Rows that the scrub found damaged, named to devices that may hold the right bytes (ADR 0019).
//!
//! Reached only where a stream has such rows, which its digests say.

use std::collections::BTreeMap;

use coditect_core::hash;
use coditect_protocol::RowId;
use coditect_protocol::catalogue::{Direction, File, by_cloud_name};
use coditect_protocol::wire::descent::NamedRows;
use coditect_protocol::wire::pull::Page;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::db::{Statement, TenantTx};
use crate::sync::held::Held;
use crate::sync::{SyncError, sql};

/// Most rows that one reply names.
const NAMED_MAX: i64 = 200;
const OPEN: &str = "select scope_id, table_name, row_id, origin_device from scrub_findings
    where tenant_id = $1 and scope_id = any ($2) and kind = 'hash' and mended_at is null
    order by found_at, id limit $3";

/// Adds the names to the pages that reach the head. A row that was sent meanwhile is not named.
pub(super) async fn add(
    tx: &mut TenantTx,
    device: Uuid,
    scopes: &[Uuid],
    pages: &mut [Page],
) -> Result<(), SyncError> {
    let (tenant, scopes) = (tx.tenant().get(), scopes.to_vec());
    let open = Statement {
        sql: OPEN,
        params: vec![
            (&tenant, Type::UUID),
            (&scopes, Type::UUID_ARRAY),
            (&NAMED_MAX, Type::INT8),
        ],
    };
    let mut found: BTreeMap<(Uuid, File, &'static str), Vec<Uuid>> = BTreeMap::new();
    for row in tx.pipeline(&[open]).await?.remove(0) {
        let Some(table) = by_cloud_name(row.try_get(1)?) else {
            continue;
        };
        // Rows that only go up are on one device.
        let origin: Option<Uuid> = row.try_get(3)?;
        if table.direction != Direction::Up || origin == Some(device) {
            let key = (row.try_get(0)?, table.file, table.cloud);
            found
                .entry(key)
                .or_default()
                .extend(row.try_get::<_, Option<Uuid>>(2)?);
        }
    }
    for ((scope, file, name), ids) in found {
        let of_stream =
            |page: &&mut Page| page.at_head && (page.scope.id(), page.file) == (scope, file);
        let Some(page) = pages.iter_mut().find(of_stream) else {
            continue;
        };
        let ids = still_damaged(tx, scope, name, &ids).await?;
        if !ids.is_empty() {
            let table = name.to_owned();
            let descent = page.descent.get_or_insert_default();
            descent.damaged.push(NamedRows { table, ids });
        }
    }
    Ok(())
}

async fn still_damaged(
    tx: &mut TenantTx,
    scope: Uuid,
    name: &'static str,
    ids: &Vec<Uuid>,
) -> Result<Vec<RowId>, SyncError> {
    let Some(table) = by_cloud_name(name) else {
        return Ok(Vec::new());
    };
    let tenant = tx.tenant().get();
    let fetch = Statement {
        sql: &sql::of(table).fetch,
        params: vec![
            (&tenant, Type::UUID),
            (&scope, Type::UUID),
            (ids, Type::UUID_ARRAY),
        ],
    };
    let mut damaged = Vec::new();
    for row in tx.pipeline(&[fetch]).await?.remove(0) {
        let wrong = match Held::read(table, &row) {
            Ok(held) => {
                let content = held.existing.row.as_ref();
                content.is_some_and(|row| hash::content(table, row) != held.existing.hash)
            }
            Err(StoreError::Corrupt { .. }) => true,
            Err(error) => return Err(error.into()),
        };
        if wrong {
            damaged.push(RowId::new(row.try_get(0)?));
        }
    }
    damaged.sort_unstable();
    Ok(damaged)
}
