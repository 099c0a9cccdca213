//! Removal of bodies that no row names any more: marked first, removed when the longest kept
//! backup of the time of the mark is gone, and only if still nothing names them: no row, no version
//! and no conflict.

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::db::{Db, SystemTask};
use crate::sync::guards::Guard;

const TENANTS: &str = "select tenant_id from tenants order by tenant_id";
const USED_AGAIN: &str = "update bodies b set unused_since = null
    where b.tenant_id = $1 and b.unused_since is not null and exists (
        select from body_links l where l.tenant_id = $1 and l.scope_id = b.scope_id
        and l.hash = b.hash)";
const MARK: &str = "update bodies b set unused_since = $2
    where b.tenant_id = $1 and b.unused_since is null and not exists (
        select from body_links l where l.tenant_id = $1 and l.scope_id = b.scope_id
        and l.hash = b.hash)";
/// A kept version or a conflict of a message names bodies as well; there are few of them, and only
/// what is due to go is compared with them.
const REMOVE: &str = "delete from bodies b
    where b.tenant_id = $1 and b.unused_since < $2 and not exists (
        select from body_links l where l.tenant_id = $1 and l.scope_id = b.scope_id
        and l.hash = b.hash)
    and not exists (select from record_history h where h.tenant_id = $1
        and h.scope_id = b.scope_id and h.table_name = 'context_messages'
        and strpos(h.row ->> 'bodies', encode(b.hash, 'hex')) > 0)
    and not exists (select from sync_conflicts c where c.tenant_id = $1
        and c.scope_id = b.scope_id and c.table_name = 'context_messages'
        and strpos(c.row ->> 'bodies', encode(b.hash, 'hex')) > 0)
    returning b.scope_id, b.byte_count";
const FREE: &str = "update streams set byte_count = greatest(0, byte_count - $3)
    where tenant_id = $1 and scope_id = $2";

/// How long a body is kept after the last row that named it is gone: longer than the longest
/// retention of a backup, a year.
pub const KEPT: TimeDelta = TimeDelta::days(366);

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Bodies that nothing names any more since this time.
    pub marked: u64,
    /// Bodies that a row names again.
    pub used_again: u64,
    /// Bodies that were removed.
    pub removed: u64,
}

/// Returns all tenants, whose bodies are collected one after the other.
///
/// # Errors
///
/// Those of the database.
pub async fn tenants(db: &Db) -> Result<Vec<Uuid>, StoreError> {
    db.system(SystemTask::Collect, |mut tx| async move {
        let rows = tx.query(TENANTS, &[]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    })
    .await
}

/// Marks a tenant's unused bodies, and removes those that were marked longer than `kept` ago:
/// the time for which a backup may be kept, so that whoever goes back to it finds them.
///
/// # Errors
///
/// Those of the database.
pub async fn collect(
    db: &Db,
    tenant: Uuid,
    now: DateTime<Utc>,
    kept: TimeDelta,
) -> Result<Collected, StoreError> {
    let before = now.checked_sub_signed(kept).unwrap_or(DateTime::UNIX_EPOCH);
    db.system(SystemTask::Collect, |mut tx| async move {
        let one = [(&tenant as _, Type::UUID)];
        let looked_at = Guard::BodyLookedAt;
        let used_again = tx.execute(looked_at.sql(USED_AGAIN), &one).await?;
        let at = |time| [(&tenant as _, Type::UUID), (time as _, Type::TIMESTAMPTZ)];
        let removed = tx.query(looked_at.sql(REMOVE), &at(&before)).await?;
        let marked = tx.execute(MARK, &at(&now)).await?;
        let mut freed = std::collections::BTreeMap::<Uuid, i64>::new();
        for row in &removed {
            *freed.entry(row.try_get(0)?).or_default() += row.try_get::<_, i64>(1)?;
        }
        for (scope, bytes) in &freed {
            let params = [
                (&tenant as _, Type::UUID),
                (scope as _, Type::UUID),
                (bytes as _, Type::INT8),
            ];
            tx.execute(FREE, &params).await?;
        }
        Ok::<_, StoreError>(Collected {
            marked,
            used_again,
            removed: removed.len() as u64,
        })
    })
    .await
}
