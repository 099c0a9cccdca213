//! What an operator sees of the jobs: those under way, and what was given up.

use chrono::{DateTime, Utc};
use coditect_protocol::OrganizationId;
use serde::Serialize;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::db::{Db, SystemTask};

/// Most jobs in a list.
pub const LIST_MAX: i64 = 1_000;

const OPEN: &str = "select 'backup', tenant_id, scope_kind, scope_id, id, status, attempts,
    created_at, failure, not_before, null::uuid from context_backups
    where status in ('pending', 'running', 'failed', 'expiring')
    and ($1::uuid is null or tenant_id = $1)
    union all
    select 'trial', tenant_id, scope_kind, scope_id, id,
    case when trial_until > $2 then 'running' else 'failed' end, 1,
    coalesce(tried_at, created_at), trial_failure, null, null from context_backups
    where status = 'completed' and (trial_until > $2 or trial_failure is not null)
    and ($1::uuid is null or tenant_id = $1)
    union all
    select 'restore', tenant_id, scope_kind, scope_id, backup_id, status, attempts,
    created_at, coalesce(fault, failure), not_before, id from context_restores
    where status in ('queued', 'running', 'failed')
    and ($1::uuid is null or tenant_id = $1)
    order by 8 desc, 5 limit $3";

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenJob {
    /// `backup`, `trial` of one, or `restore` from one.
    pub kind: String,
    /// `pending` (of a restore `queued`), `running`, `failed`, or `expiring` while an archive is
    /// removed.
    pub status: String,
    /// When it was asked for; of a trial that failed, when it was made.
    pub since: DateTime<Utc>,
    /// The organisation.
    pub tenant_id: OrganizationId,
    /// Kind of the scope.
    pub scope_type: String,
    /// Id of the scope.
    pub scope_id: Uuid,
    /// Id of the backup.
    pub backup_id: Uuid,
    /// How often it was begun.
    pub attempts: i32,
    /// Why it failed last.
    pub failure: Option<String>,
    /// When it is tried again, after a failure.
    pub not_before: Option<DateTime<Utc>>,
    /// Id of the restore.
    pub restore_id: Option<Uuid>,
}

/// Returns what is under way or was given up, newest first, at most [`LIST_MAX`].
///
/// # Errors
///
/// Those of the database.
pub async fn open(
    db: &Db,
    tenant: Option<OrganizationId>,
    now: DateTime<Utc>,
) -> Result<Vec<OpenJob>, StoreError> {
    let tenant = tenant.map(OrganizationId::get);
    db.system(SystemTask::ClaimJob, |mut tx| async move {
        let params = [
            (&tenant as _, Type::UUID),
            (&now as _, Type::TIMESTAMPTZ),
            (&LIST_MAX as _, Type::INT8),
        ];
        let rows = tx.query(OPEN, &params).await?;
        rows.iter()
            .map(|row| {
                Ok::<_, StoreError>(OpenJob {
                    kind: row.try_get(0)?,
                    tenant_id: OrganizationId::new(row.try_get(1)?),
                    scope_type: row.try_get(2)?,
                    scope_id: row.try_get(3)?,
                    backup_id: row.try_get(4)?,
                    status: row.try_get(5)?,
                    attempts: row.try_get(6)?,
                    since: row.try_get(7)?,
                    failure: row.try_get(8)?,
                    not_before: row.try_get(9)?,
                    restore_id: row.try_get(10)?,
                })
            })
            .collect()
    })
    .await
}
