//! What was moved before: for a move that comes twice, and for an edit that comes late.

use std::collections::{HashMap, HashSet};

use coditect_protocol::catalogue::by_cloud_name;
use coditect_protocol::wire::moves::MoveRequest;
use coditect_protocol::{RowId, Scope};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::super::Batch;
use super::super::apply::Key;
use crate::StoreError;
use crate::db::{Statement, TenantTx};
use crate::memberships;
use crate::sync::SyncError;
use crate::sync::guards::Guard;
use crate::sync::held::Held;

const MOVES: &str = "select table_name, row_id, to_scope, batch_id from row_moves
    where tenant_id = $1 and scope_id = $2 and table_name = any ($3) and row_id = any ($4)
    order by version";
/// The scope is named to those only who may read it.
const GONE: &str = "select m.table_name, m.row_id, m.version,
    case when m.to_scope = any (nullif(current_setting('app.scopes', true), '')::uuid[])
        then m.to_scope end, s.kind
    from row_moves m left join scopes s on s.tenant_id = m.tenant_id and s.scope_id = m.to_scope
    where m.tenant_id = $1 and m.scope_id = $2 and m.table_name = any ($3)
    and m.row_id = any ($4)";
const RECORD: &str = "insert into row_moves (tenant_id, scope_id, table_name, row_id, version,
    to_scope, batch_id, device_id, user_id, moved_at)
    select $1, $2, table_name, row_id, version, $6, $7, $8, $9, $10
    from unnest($3::text[], $4::uuid[], $5::bigint[]) as given (table_name, row_id, version)";

/// Earlier moves out of a scope.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    last: HashMap<Key, Uuid>,
    batches: HashSet<(Key, Uuid)>,
}

impl Earlier {
    /// Reads the moves of the rows that a request names.
    pub(super) async fn read(
        tx: &mut TenantTx,
        batch: &Batch<'_>,
        request: &MoveRequest,
    ) -> Result<Self, SyncError> {
        let keys = request.moves.iter().filter_map(|wanted| {
            let table = by_cloud_name(&wanted.table)?;
            Some((table.cloud, wanted.id))
        });
        let wanted = Wanted::of(keys);
        let mut earlier = Self::default();
        let answers = tx.pipeline(&[wanted.statement(MOVES, batch)]).await?;
        for row in answers.iter().flatten() {
            let Some(key) = key(row.try_get(0)?, row.try_get(1)?) else {
                continue;
            };
            earlier.last.insert(key, row.try_get(2)?);
            earlier.batches.insert((key, row.try_get(3)?));
        }
        Ok(earlier)
    }

    /// Returns where the row went the last time that it left the scope.
    pub(super) fn of(&self, key: Key) -> Option<Uuid> {
        self.last.get(&key).copied()
    }

    /// Returns whether the batch has moved the row.
    pub(super) fn of_batch(&self, key: Key, batch: Uuid) -> bool {
        self.batches.contains(&(key, batch))
    }
}

/// Returns those of the tombstones that stand for a move, with the scope that the row went to;
/// none where that is not for the caller to know.
pub(in crate::sync::push) async fn gone(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    tombstones: &[(Key, &Held)],
) -> Result<HashMap<Key, Option<Scope>>, SyncError> {
    let mut found = HashMap::new();
    if tombstones.is_empty() || !Guard::MovedAway.is_on() {
        return Ok(found);
    }
    let wanted = Wanted::of(tombstones.iter().map(|(key, _)| *key));
    let versions: HashMap<Key, i64> = tombstones
        .iter()
        .map(|(key, held)| (*key, held.existing.version.to_i64()))
        .collect();
    let gone = Guard::MoveHidden.sql(GONE);
    let answers = tx.pipeline(&[wanted.statement(gone, batch)]).await?;
    for row in answers.iter().flatten() {
        let Some(key) = key(row.try_get(0)?, row.try_get(1)?) else {
            continue;
        };
        // An older move is over: the row came back since, and was deleted.
        if versions.get(&key) != Some(&row.try_get(2)?) {
            continue;
        }
        let scope: Option<Uuid> = row.try_get(3)?;
        let scope = scope.map(|id| scope_of(batch, id, row.try_get(4).ok().flatten()));
        found.insert(key, scope.transpose()?.flatten());
    }
    Ok(found)
}

fn scope_of(batch: &Batch<'_>, id: Uuid, kind: Option<&str>) -> Result<Option<Scope>, StoreError> {
    match kind {
        _ if id == batch.user => Ok(Some(Scope::User(id))),
        _ if id == batch.tenant => Ok(Some(Scope::Org(id))),
        Some(kind) => memberships::scope_of(kind, id).map(Some),
        None => Ok(None),
    }
}

/// Notes that rows, by now tombstones of the scope, went to another one.
pub(super) async fn record(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    to: Uuid,
    rows: &HashMap<Key, Held>,
) -> Result<(), SyncError> {
    let wanted = Wanted::of(rows.keys().copied());
    let versions: Vec<i64> = rows
        .values()
        .map(|held| held.existing.version.to_i64())
        .collect();
    let device = batch.device.get();
    let mut statement = wanted.statement(RECORD, batch);
    statement.params.extend([
        (&versions as _, Type::INT8_ARRAY),
        (&to as _, Type::UUID),
        (&batch.id as _, Type::UUID),
        (&device as _, Type::UUID),
        (&batch.user as _, Type::UUID),
        (&batch.now as _, Type::TIMESTAMPTZ),
    ]);
    tx.pipeline(&[statement]).await?;
    Ok(())
}

/// Keys as arrays; owns the parameters.
struct Wanted {
    tables: Vec<&'static str>,
    rows: Vec<Uuid>,
}

impl Wanted {
    fn of(keys: impl Iterator<Item = Key>) -> Self {
        let (tables, rows) = keys.map(|(table, id)| (table, id.get())).unzip();
        Self { tables, rows }
    }

    fn statement<'a>(&'a self, sql: &'static str, batch: &'a Batch<'_>) -> Statement<'a> {
        Statement {
            sql,
            params: vec![
                (&batch.tenant, Type::UUID),
                (&batch.scope, Type::UUID),
                (&self.tables, Type::TEXT_ARRAY),
                (&self.rows, Type::UUID_ARRAY),
            ],
        }
    }
}

fn key(table: &str, row: Uuid) -> Option<Key> {
    Some((by_cloud_name(table)?.cloud, RowId::new(row)))
}
