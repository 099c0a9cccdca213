//! Retention: which backups have had their time, and their removal.
//!
//! An archive goes when its time is over, unless it is the scope's last full one or another that
//! is kept goes on from it. Removal is in three steps, each of which may be the last before a
//! crash: marked, so that no restore begins with it; the archive; the row.

use chrono::{DateTime, Duration, Utc};
use coditect_protocol::OrganizationId;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::ENDING;
use crate::StoreError;
use crate::db::{Db, SystemTask};

/// How long it stays on the list that a backup failed.
const FAILED: Duration = Duration::days(7);
/// Backups that are marked in one transaction.
const AT_ONCE: i64 = 500;

/// The innermost of what has had its time: one that nothing goes on from.
const MARK: &str = "update context_backups set status = 'expiring'
    where (tenant_id, scope_id, id) in (select b.tenant_id, b.scope_id, b.id
        from context_backups b
        where b.expires_at < $1 and b.status = 'completed'
        and not exists (select from context_backups o
            where o.tenant_id = b.tenant_id and o.scope_id = b.scope_id
            and o.base_id = b.id and o.status in ('pending', 'running', 'completed'))
        and (b.backup_type <> 'full' or exists (select from context_backups o
            where o.tenant_id = b.tenant_id and o.scope_id = b.scope_id
            and o.backup_type = 'full' and o.status = 'completed'
            and (o.completed_at, o.id) > (b.completed_at, b.id)))
        order by b.tenant_id, b.expires_at limit $2 for update skip locked)";
const MARKED: &str = "select tenant_id, scope_id, id, path from context_backups
    where status = 'expiring' order by tenant_id, scope_id, id limit $1";
const FORGET: &str = "delete from context_backups
    where tenant_id = $1 and scope_id = $2 and id = $3 and status = 'expiring'";
const FORGET_FAILED: &str = "delete from context_backups
    where status = 'failed' and created_at < $1";

/// Of paths `$2` of a tenant, with what each would be without the number of its attempt (`$3`),
/// those that no backup names, and that no job under way may be about to name.
const UNNAMED: &str = "select given.path from unnest($2::text[], $3::text[]) as given (path, first)
    where not exists (select from context_backups b
        where b.tenant_id = $1 and b.path = given.path and b.status <> 'failed')
    and not exists (select from context_backups b
        where b.tenant_id = $1 and b.path = given.first and b.status in ('pending', 'running'))";

/// A backup whose archive is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The organisation.
    pub tenant: OrganizationId,
    /// Id of the scope.
    pub scope: Uuid,
    /// The backup's id.
    pub id: Uuid,
    /// Path of the archive below the storage's root.
    pub path: String,
}

/// Marks what has had its time, and returns some of what is marked; empty when nothing is left.
///
/// # Errors
///
/// Those of the database.
pub async fn expired(db: &Db, now: DateTime<Utc>) -> Result<Vec<Expired>, StoreError> {
    db.system(SystemTask::ClaimJob, |mut tx| async move {
        let forgotten = now - FAILED;
        tx.execute(FORGET_FAILED, &[(&forgotten, Type::TIMESTAMPTZ)])
            .await?;
        let marked = [(&now as _, Type::TIMESTAMPTZ), (&AT_ONCE as _, Type::INT8)];
        tx.execute(MARK, &marked).await?;
        let rows = tx.query(MARKED, &[(&AT_ONCE, Type::INT8)]).await?;
        rows.iter()
            .map(|row| {
                Ok::<_, StoreError>(Expired {
                    tenant: OrganizationId::new(row.try_get(0)?),
                    scope: row.try_get(1)?,
                    id: row.try_get(2)?,
                    path: row.try_get(3)?,
                })
            })
            .collect()
    })
    .await
}

/// Forgets a backup whose archive is removed.
///
/// # Errors
///
/// Those of the database.
pub async fn forget(db: &Db, expired: &Expired) -> Result<(), StoreError> {
    let tenant = expired.tenant.get();
    let params = &[
        (&tenant as _, Type::UUID),
        (&expired.scope as _, Type::UUID),
        (&expired.id as _, Type::UUID),
    ];
    db.system(SystemTask::ClaimJob, |mut tx| async move {
        tx.execute(FORGET, params).await.map(drop)
    })
    .await
}

/// Returns those of a tenant's archives that no backup names: what an attempt left that crashed.
///
/// # Errors
///
/// Those of the database.
pub async fn unnamed(
    db: &Db,
    tenant: OrganizationId,
    paths: &[String],
) -> Result<Vec<String>, StoreError> {
    let tenant = tenant.get();
    let first: Vec<String> = paths.iter().map(|path| first_attempt(path)).collect();
    let params = &[
        (&tenant as _, Type::UUID),
        (&paths as _, Type::TEXT_ARRAY),
        (&first as _, Type::TEXT_ARRAY),
    ];
    db.system(SystemTask::ClaimJob, |mut tx| async move {
        let rows = tx.query(UNNAMED, params).await?;
        let paths = rows.iter().map(|row| Ok(row.try_get(0)?));
        paths.collect::<Result<_, StoreError>>()
    })
    .await
}

/// Returns the path that the first attempt wrote to; see [`super::Job::archive_path`].
fn first_attempt(path: &str) -> String {
    let stem = path.strip_suffix(ENDING);
    let numbered = stem.and_then(|stem| stem.rsplit_once('.'));
    match numbered {
        Some((stem, number)) if number.parse::<u32>().is_ok() => format!("{stem}{ENDING}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_leads_back_to_the_first_one() {
        for (path, first) in [
            ("full/2026-01-01.jsonl.gz", "full/2026-01-01.jsonl.gz"),
            ("full/2026-01-01.3.jsonl.gz", "full/2026-01-01.jsonl.gz"),
            ("full/2026-01-01-2.2.jsonl.gz", "full/2026-01-01-2.jsonl.gz"),
            ("audit/head.json", "audit/head.json"),
        ] {
            assert_eq!(first_attempt(path), first);
        }
    }
}
