//! Digests of the pages that reach the head: over all origins, for `up` tables over the rows of
//! the asking device (PROTOCOL 20).

use std::collections::HashMap;

use coditect_core::digest::Digest;
use coditect_protocol::Scope;
use coditect_protocol::catalogue::{Class, Direction, TABLES, Table, by_cloud_name};
use coditect_protocol::wire::pull::{Page, PullRequest, TableDigest};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::db::{Statement, TenantTx};
use crate::sync::SyncError;

const STREAMS: &str = "select scope_id, table_name, rows, count, xor, damaged from stream_digests
    where tenant_id = $1 and scope_id = any ($2)
    and (origin_device = $3 or table_name = any ($4))";
const PLATFORM: &str = "select table_name, rows, count, xor from platform_digests";

type ByTable = HashMap<(Uuid, &'static str), Digest>;

/// What is asked about the digests of all positions; owns the parameters.
#[derive(Debug)]
pub(super) struct Asked {
    tenant: Uuid,
    device: Uuid,
    scopes: Vec<Uuid>,
    everywhere: Vec<&'static str>,
    platform: bool,
}

impl Asked {
    pub(super) fn new(tenant: Uuid, request: &PullRequest) -> Self {
        let scopes = request.positions.iter().map(|position| position.scope);
        let tables = TABLES.iter();
        let everywhere = tables.filter(|table| table.direction != Direction::Up);
        Self {
            tenant,
            device: request.device.get(),
            platform: scopes.clone().any(|scope| scope == Scope::Platform),
            scopes: scopes.map(Scope::id).collect(),
            everywhere: everywhere.map(|table| table.cloud).collect(),
        }
    }

    /// Returns the statements: one, and with the platform's catalogue another.
    pub(super) fn statements(&self) -> Vec<Statement<'_>> {
        let streams = Statement {
            sql: STREAMS,
            params: vec![
                (&self.tenant, Type::UUID),
                (&self.scopes, Type::UUID_ARRAY),
                (&self.device, Type::UUID),
                (&self.everywhere, Type::TEXT_ARRAY),
            ],
        };
        let platform = self.platform.then_some(Statement {
            sql: PLATFORM,
            params: vec![],
        });
        std::iter::once(streams).chain(platform).collect()
    }
}

/// Adds the digests to the pages that reach the head; `answers` are those to
/// [`Asked::statements`], of the same snapshot.
pub(super) async fn add(
    tx: &mut TenantTx,
    request: &PullRequest,
    answers: &[Vec<Row>],
    pages: &mut [Page],
) -> Result<(), SyncError> {
    let device = request.device.get();
    let of_streams = answers.first().map_or(&[][..], Vec::as_slice);
    let of_platform = answers.get(1).map_or(&[][..], Vec::as_slice);
    let mut digests = ByTable::new();
    let mut damaged: Vec<Uuid> = Vec::new();
    for row in of_streams {
        let digest = Digest {
            rows: row.try_get(2)?,
            count: row.try_get(3)?,
            xor: xor(row, 4)?,
        };
        join(&mut digests, row.try_get(0)?, row.try_get(1)?, digest);
        if row.try_get::<_, i64>(5)? > 0 {
            damaged.push(row.try_get(0)?);
        }
    }
    for row in of_platform {
        let digest = Digest {
            rows: row.try_get(1)?,
            count: row.try_get(2)?,
            xor: xor(row, 3)?,
        };
        join(&mut digests, Scope::Platform.id(), row.try_get(0)?, digest);
    }
    for page in pages.iter_mut().filter(|page| page.at_head) {
        page.digests = Some(of_page(page, &digests));
    }
    let at_head = |scope: &Uuid| {
        let mut pages = pages.iter().filter(|page| page.at_head);
        pages.any(|page| page.scope.id() == *scope)
    };
    damaged.retain(at_head);
    if !damaged.is_empty() {
        super::damaged::add(tx, device, &damaged, pages).await?;
    }
    Ok(())
}

fn xor(row: &Row, position: usize) -> Result<u64, SyncError> {
    Ok(row.try_get::<_, i64>(position)?.cast_unsigned())
}

fn join(digests: &mut ByTable, scope: Uuid, table: &str, digest: Digest) {
    if let Some(table) = by_cloud_name(table) {
        digests
            .entry((scope, table.cloud))
            .or_default()
            .join(digest);
    }
}

/// Returns the digests of the page's file; those of empty tables are left out.
fn of_page(page: &Page, digests: &ByTable) -> Vec<TableDigest> {
    let in_scope =
        |table: &&Table| (table.class == Class::Catalogue) == (page.scope == Scope::Platform);
    page.file
        .tables()
        .filter(in_scope)
        .filter_map(|table| Some((table, digests.get(&(page.scope.id(), table.cloud))?)))
        .filter(|(_, digest)| **digest != Digest::default())
        .map(|(table, digest)| TableDigest {
            table: table.cloud.to_owned(),
            rows: digest.rows,
            count: digest.count,
            digest: digest.text(),
        })
        .collect()
}
