//! Trial restores: which backup is tried next, and what came of it.
//!
//! One at a time over all servers: whoever takes one notes until when it has it. A backup that
//! was tried counts as such when its result is noted, not when it was begun.

use chrono::{DateTime, Duration, Utc};
use coditect_protocol::{OrganizationId, Scope};
use serde_json::json;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Backup, COLUMNS, find_sql, read};
use crate::StoreError;
use crate::audit::{self, Entry};
use crate::credential::TenantId;
use crate::db::{Db, SystemTask, SystemTx};
use crate::memberships;

/// How long a backup that was tried is not taken again by itself.
pub const AGAIN_AFTER: Duration = Duration::days(7);
/// How long a server may take for a trial before another one is begun.
const HELD: Duration = Duration::hours(1);
/// Longest chain of incremental backups that is followed.
const CHAIN_MAX: usize = 1_000;

const LOCK: &str = "select pg_advisory_xact_lock(7310884)";
const DUE: &str = "select not exists (select from context_backups where trial_until > $1)
    and coalesce((select max(tried_at) from context_backups) <= $2, true)";
const HOLD: &str = "update context_backups set trial_until = $4
    where tenant_id = $1 and scope_id = $2 and id = $3";
const NOTE: &str = "update context_backups set trial_until = null, tried_at = $4,
    trial_failure = $5 where tenant_id = $1 and scope_id = $2 and id = $3";
const RELEASE: &str = "update context_backups set trial_until = null
    where tenant_id = $1 and scope_id = $2 and id = $3";

/// A backup that is to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The organisation.
    pub tenant: OrganizationId,
    /// What it is a backup of.
    pub scope: Scope,
    /// The backup.
    pub id: Uuid,
    /// It and those that it goes on from, the full one first; empty when one of them is missing
    /// or not complete.
    pub chain: Vec<Backup>,
}

/// Takes a random good backup that was not tried lately, if it is time for one.
///
/// # Errors
///
/// Those of the database.
pub async fn claim_due(
    db: &Db,
    every: Duration,
    now: DateTime<Utc>,
) -> Result<Option<Trial>, StoreError> {
    db.system(SystemTask::TryBackup, |mut tx| async move {
        tx.query(LOCK, &[]).await?;
        let (since, lately) = (now - every, now - AGAIN_AFTER);
        let params = [
            (&now as _, Type::TIMESTAMPTZ),
            (&since as _, Type::TIMESTAMPTZ),
        ];
        let due = tx.query_opt(DUE, &params).await?;
        if !due.map_or(Ok(false), |row| row.try_get(0))? {
            return Ok(None);
        }
        let sql = format!(
            "select {COLUMNS}, tenant_id, scope_id from context_backups
    where status = 'completed' and content_digest is not null
    and (tried_at is null or tried_at <= $1) order by random() limit 1"
        );
        let lately = [(&lately as _, Type::TIMESTAMPTZ)];
        match tx.query_opt(&sql, &lately).await? {
            Some(row) => hold(&mut tx, &row, now).await.map(Some),
            None => Ok(None),
        }
    })
    .await
}

/// Takes one backup, whenever it was tried last.
///
/// # Errors
///
/// [`StoreError::NotFound`] when there is no complete backup of that id with a digest.
pub async fn claim(db: &Db, id: Uuid, now: DateTime<Utc>) -> Result<Trial, StoreError> {
    db.system(SystemTask::TryBackup, |mut tx| async move {
        let sql = format!(
            "select {COLUMNS}, tenant_id, scope_id from context_backups
    where id = $1 and status = 'completed' and content_digest is not null"
        );
        let row = tx.query_opt(&sql, &[(&id, Type::UUID)]).await?;
        hold(&mut tx, &row.ok_or(StoreError::NotFound)?, now).await
    })
    .await
}

async fn hold(tx: &mut SystemTx, row: &Row, now: DateTime<Utc>) -> Result<Trial, StoreError> {
    let (tenant, scope_id): (Uuid, Uuid) = (row.try_get(20)?, row.try_get(21)?);
    let scope = memberships::scope_of(row.try_get(1)?, scope_id)?;
    let backup = read(row, scope)?;
    let until = now + HELD;
    let params = [
        (&tenant as _, Type::UUID),
        (&scope_id as _, Type::UUID),
        (&backup.id as _, Type::UUID),
        (&until as _, Type::TIMESTAMPTZ),
    ];
    tx.execute(HOLD, &params).await?;
    let (id, mut next) = (backup.id, backup.base);
    let mut chain = vec![backup];
    while let Some(base) = next {
        let params = [
            (&tenant as _, Type::UUID),
            (&scope_id as _, Type::UUID),
            (&base as _, Type::UUID),
        ];
        let found = tx.query_opt(&find_sql(), &params).await?;
        let found = found.map(|row| read(&row, scope)).transpose()?;
        match found.filter(|it| it.status == "completed" && chain.len() < CHAIN_MAX) {
            Some(found) => {
                next = found.base;
                chain.push(found);
            }
            None => {
                chain.clear();
                break;
            }
        }
    }
    chain.reverse();
    Ok(Trial {
        tenant: OrganizationId::new(tenant),
        scope,
        id,
        chain,
    })
}

/// Notes what a trial came to, with an entry in the tenant's audit trail. `failure` says what is
/// wrong with the backup, without content.
///
/// # Errors
///
/// Those of the database.
pub async fn note(
    db: &Db,
    trial: &Trial,
    failure: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (tenant, scope) = (trial.tenant.get(), trial.scope.id());
    db.system(SystemTask::TryBackup, |mut tx| async move {
        let params = [
            (&tenant as _, Type::UUID),
            (&scope as _, Type::UUID),
            (&trial.id as _, Type::UUID),
            (&now as _, Type::TIMESTAMPTZ),
            (&failure as _, Type::TEXT),
        ];
        tx.execute(NOTE, &params).await?;
        let entry = Entry {
            at: now,
            action: "backup.trial",
            resource_type: Some("backup"),
            resource_id: Some(trial.id.to_string()),
            detail: json!({
                "scope": trial.scope,
                "archives": trial.chain.len(),
                "passed": failure.is_none(),
                "failure": failure,
            }),
        };
        audit::record_for(&mut tx, TenantId::new(tenant), None, None, &entry).await
    })
    .await
}

/// Gives a trial up that came to nothing: the next one may be begun.
///
/// # Errors
///
/// Those of the database.
pub async fn release(db: &Db, trial: &Trial) -> Result<(), StoreError> {
    let (tenant, scope) = (trial.tenant.get(), trial.scope.id());
    let params = &[
        (&tenant as _, Type::UUID),
        (&scope as _, Type::UUID),
        (&trial.id as _, Type::UUID),
    ];
    db.system(SystemTask::TryBackup, |mut tx| async move {
        tx.execute(RELEASE, params).await.map(drop)
    })
    .await
}
