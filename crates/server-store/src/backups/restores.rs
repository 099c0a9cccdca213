//! Restores as jobs (ADR 0036): who asked for what, the lease of the server that is at work, and
//! what came of it.
//!
//! A job ends in the transaction that changes the scope ([`complete`]), so that it is done once,
//! however often it is begun.

use chrono::{DateTime, Duration, Utc};
use coditect_protocol::{DeviceId, ErrorCode, Scope, UserId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Attempt, Backup, retries};
use crate::StoreError;
use crate::credential::{Caller, TenantId, random_uuid};
use crate::db::{Db, Param, SystemTask, TenantTx};
use crate::identity::Role;
use crate::memberships;
use crate::sync::{RestoreMode, Restored};

/// How long a server may go without a sign of life before its job is another's.
pub const LEASE: Duration = Duration::minutes(1);
/// Most restores in a list; the newest.
pub const LIST_MAX: i64 = 1_000;
/// How long restores that have ended are kept.
pub const KEPT: Duration = Duration::days(90);

const INSERT: &str = "insert into context_restores (tenant_id, scope_id, id, scope_kind, backup_id,
    backup_created_at, backup_records, mode, requested_by, login_device, device_id, created_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
const COLUMNS: &str = "id, backup_id, backup_created_at, backup_records, mode, status,
    requested_by, device_id, created_at, started_at, finished_at, attempts, not_before,
    safety_backup_id, restored, skipped, removed, code, failure";
/// One at a time for a scope: while one is running, even if its server is dead, no other begins.
const CLAIM: &str = "select tenant_id, scope_id, scope_kind, id, backup_id, mode, requested_by,
    login_device, device_id, attempts, failures, safety_backup_id from context_restores as job
    where (status = 'running' and lease_until < $1)
    or (status = 'queued' and coalesce(not_before <= $1, true)
        and not exists (select from context_restores as other
            where other.tenant_id = job.tenant_id and other.scope_id = job.scope_id
            and other.status = 'running'))
    order by created_at, id limit 1 for update of job skip locked";
const ROLE: &str = "select role from memberships where tenant_id = $1 and user_id = $2";
const RUN: &str = "update context_restores set status = 'running', attempts = attempts + 1,
    lease_until = $4, not_before = null, started_at = coalesce(started_at, $5)
    where tenant_id = $1 and scope_id = $2 and id = $3";
const RENEW: &str = "update context_restores set lease_until = $5
    where tenant_id = $1 and scope_id = $2 and id = $3 and status = 'running' and attempts = $4";
const NOTE_SAFETY: &str = "update context_restores set safety_backup_id = $5
    where tenant_id = $1 and scope_id = $2 and id = $3 and status = 'running' and attempts = $4";
const COMPLETE: &str = "update context_restores set status = 'completed', lease_until = null,
    finished_at = $5, restored = $6, skipped = $7, removed = $8, code = null, failure = null,
    fault = null
    where tenant_id = $1 and scope_id = $2 and id = $3 and status = 'running' and attempts = $4";
const FAIL: &str = "update context_restores set status = $5, lease_until = null,
    failures = failures + 1, not_before = $6, finished_at = $7, code = $8, failure = $9, fault = $10
    where tenant_id = $1 and scope_id = $2 and id = $3 and status = 'running' and attempts = $4";
const FORGET: &str = "delete from context_restores
    where status in ('completed', 'failed') and finished_at < $1";

/// A restore, as asked for or as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreJob {
    /// Its id.
    pub id: Uuid,
    /// What is restored.
    pub scope: Scope,
    /// From which backup.
    pub backup: Uuid,
    /// When that one was asked for.
    pub backup_created_at: DateTime<Utc>,
    /// Number of its records.
    pub backup_records: i64,
    /// What to do with rows that are there.
    pub mode: RestoreMode,
    /// `queued`, `running`, `completed` or `failed`.
    pub status: String,
    /// Who asked.
    pub requested_by: UserId,
    /// The device that it counts for.
    pub device: DeviceId,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it was begun first.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was completed, or given up.
    pub finished_at: Option<DateTime<Utc>>,
    /// How often it was begun.
    pub attempts: i32,
    /// When it is tried again.
    pub not_before: Option<DateTime<Utc>>,
    /// The backup that was taken before a replacing one.
    pub safety: Option<Uuid>,
    /// What it did.
    pub done: Option<Restored>,
    /// Code of the last failure.
    pub code: Option<ErrorCode>,
    /// Why it failed last, for who asked.
    pub failure: Option<String>,
}

/// What to restore.
#[derive(Clone, Debug)]
pub struct RestoreWanted<'a> {
    /// The scope; the caller's right to it is checked.
    pub scope: Scope,
    /// A complete backup of it.
    pub backup: &'a Backup,
    /// What to do with rows that are there.
    pub mode: RestoreMode,
    /// The device that it counts for.
    pub device: DeviceId,
    /// The time of this moment.
    pub now: DateTime<Utc>,
}

/// Asks for a restore.
///
/// # Errors
///
/// Those of the database.
pub async fn request(
    tx: &mut TenantTx,
    wanted: &RestoreWanted<'_>,
) -> Result<RestoreJob, StoreError> {
    let (tenant, scope_id, id) = (tx.tenant().get(), wanted.scope.id(), random_uuid()?);
    let records = wanted.backup.record_count.unwrap_or_default();
    let caller = tx.caller();
    let (user, login) = (caller.user_id().get(), caller.device_id().get());
    let device = wanted.device.get();
    let params = [
        (&tenant as _, Type::UUID),
        (&scope_id as _, Type::UUID),
        (&id as _, Type::UUID),
        (&wanted.scope.kind() as _, Type::TEXT),
        (&wanted.backup.id as _, Type::UUID),
        (&wanted.backup.created_at as _, Type::TIMESTAMPTZ),
        (&records as _, Type::INT8),
        (&mode_text(wanted.mode) as _, Type::TEXT),
        (&user as _, Type::UUID),
        (&login as _, Type::UUID),
        (&device as _, Type::UUID),
        (&wanted.now as _, Type::TIMESTAMPTZ),
    ];
    tx.execute(INSERT, &params).await?;
    find(tx, wanted.scope, id).await
}

/// Returns a restore of the scope.
///
/// # Errors
///
/// [`StoreError::NotFound`].
pub async fn find(tx: &mut TenantTx, scope: Scope, id: Uuid) -> Result<RestoreJob, StoreError> {
    let (tenant, scope_id) = (tx.tenant().get(), scope.id());
    let params = [
        (&tenant as _, Type::UUID),
        (&scope_id as _, Type::UUID),
        (&id as _, Type::UUID),
    ];
    let sql = format!(
        "select {COLUMNS} from context_restores
    where tenant_id = $1 and scope_id = $2 and id = $3"
    );
    let row = tx.query_opt(&sql, &params).await?;
    read(&row.ok_or(StoreError::NotFound)?, scope)
}

/// Returns the newest restores of the scope, newest first, at most [`LIST_MAX`].
///
/// # Errors
///
/// Those of the database.
pub async fn list(tx: &mut TenantTx, scope: Scope) -> Result<Vec<RestoreJob>, StoreError> {
    let (tenant, scope_id) = (tx.tenant().get(), scope.id());
    let params = [
        (&tenant as _, Type::UUID),
        (&scope_id as _, Type::UUID),
        (&LIST_MAX as _, Type::INT8),
    ];
    let sql = format!(
        "select {COLUMNS} from context_restores where tenant_id = $1 and scope_id = $2
    order by created_at desc, id desc limit $3"
    );
    let rows = tx.query(&sql, &params).await?;
    rows.iter().map(|row| read(row, scope)).collect()
}

/// A restore that this server has claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedRestore {
    /// In whose name it is done.
    pub caller: Caller,
    /// The device that it counts for.
    pub device: DeviceId,
    /// What is restored.
    pub scope: Scope,
    /// The job's id.
    pub id: Uuid,
    /// From which backup.
    pub backup: Uuid,
    /// What to do with rows that are there.
    pub mode: RestoreMode,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    /// How many of the earlier ones failed.
    pub failures: i32,
    /// The backup that an earlier attempt took before.
    pub safety: Option<Uuid>,
}

impl ClaimedRestore {
    fn held(&self) -> Attempt {
        Attempt {
            tenant: self.caller.tenant().get(),
            scope: self.scope.id(),
            id: self.id,
            number: self.attempt,
        }
    }
}

/// Claims the oldest restore that nobody works on.
///
/// # Errors
///
/// Those of the database.
pub async fn claim(db: &Db, now: DateTime<Utc>) -> Result<Option<ClaimedRestore>, StoreError> {
    let claimed = db
        .system(SystemTask::ClaimJob, |mut tx| async move {
            let Some(row) = tx.query_opt(CLAIM, &[(&now, Type::TIMESTAMPTZ)]).await? else {
                return Ok(None);
            };
            let (tenant, scope, id): (Uuid, Uuid, Uuid) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(3)?);
            let user: Uuid = row.try_get(6)?;
            let person = [(&tenant as _, Type::UUID), (&user as _, Type::UUID)];
            let role = tx.query_opt(ROLE, &person).await?;
            let role = role.map(|row| row.try_get::<_, String>(0)).transpose()?;
            // Who is no member any more has a role that allows little, and is not let in at all.
            let role = role.and_then(|role| Role::parse(&role));
            let lease = now + LEASE;
            let params = [
                (&tenant as _, Type::UUID),
                (&scope as _, Type::UUID),
                (&id as _, Type::UUID),
                (&lease as _, Type::TIMESTAMPTZ),
                (&now as _, Type::TIMESTAMPTZ),
            ];
            tx.execute(RUN, &params).await?;
            Ok::<_, StoreError>(Some(ClaimedRestore {
                caller: Caller::of_job(
                    TenantId::new(tenant),
                    UserId::new(user),
                    DeviceId::new(row.try_get(7)?),
                    role.unwrap_or(Role::Viewer),
                ),
                device: DeviceId::new(row.try_get(8)?),
                scope: memberships::scope_of(row.try_get(2)?, scope)?,
                id,
                backup: row.try_get(4)?,
                mode: mode(row.try_get(5)?)?,
                attempt: row.try_get::<_, i32>(9)? + 1,
                failures: row.try_get(10)?,
                safety: row.try_get(11)?,
            }))
        })
        .await;
    match claimed {
        // Another server has begun another of the scope at the same moment.
        Err(StoreError::Conflict { .. }) => Ok(None),
        claimed => claimed,
    }
}

/// Says that the restore is still worked on; `false` when it is another server's by now, or over.
///
/// # Errors
///
/// Those of the database.
pub async fn renew(db: &Db, job: &ClaimedRestore, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let lease = now + LEASE;
    let values: [Param<'_>; 1] = [(&lease, Type::TIMESTAMPTZ)];
    job.held().change(db, RENEW, &values).await
}

/// Notes the backup that is taken before, in the transaction that asks for it; `false` when the job
/// is another server's by now.
///
/// # Errors
///
/// Those of the database.
pub async fn note_safety(
    tx: &mut TenantTx,
    job: &ClaimedRestore,
    safety: Uuid,
) -> Result<bool, StoreError> {
    let values: [Param<'_>; 1] = [(&safety, Type::UUID)];
    job.held().change_in(tx, NOTE_SAFETY, &values).await
}

/// Records that the restore is done, in the transaction that does it; `false` when the job is
/// another server's by now, and the transaction must be given up.
///
/// # Errors
///
/// Those of the database.
pub async fn complete(
    tx: &mut TenantTx,
    job: &ClaimedRestore,
    done: Restored,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let (restored, skipped) = (signed(done.restored), signed(done.skipped));
    let removed = signed(done.removed);
    let values: [Param<'_>; 4] = [
        (&now, Type::TIMESTAMPTZ),
        (&restored, Type::INT8),
        (&skipped, Type::INT8),
        (&removed, Type::INT8),
    ];
    job.held().change_in(tx, COMPLETE, &values).await
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreFailure {
    /// The code for who asked.
    pub code: ErrorCode,
    /// The text for who asked; no content.
    pub failure: String,
    /// The text for the operator; no content.
    pub fault: String,
    /// Whether another attempt makes sense.
    pub is_passing: bool,
}

/// Records why the attempt failed; a passing failure is tried again after a pause, until there were
/// too many ([`retries`]). `false` when the job is another server's by now, or over.
///
/// # Errors
///
/// Those of the database.
pub async fn fail(
    db: &Db,
    job: &ClaimedRestore,
    why: &RestoreFailure,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let again = retries::not_before(job.failures + 1, now).filter(|_| why.is_passing);
    let (status, finished) = match again {
        Some(_) => ("queued", None),
        None => ("failed", Some(now)),
    };
    let code = why.code.as_str();
    let values: [Param<'_>; 6] = [
        (&status, Type::TEXT),
        (&again, Type::TIMESTAMPTZ),
        (&finished, Type::TIMESTAMPTZ),
        (&code, Type::TEXT),
        (&why.failure, Type::TEXT),
        (&why.fault, Type::TEXT),
    ];
    job.held().change(db, FAIL, &values).await
}

/// Forgets restores that ended [`KEPT`] ago; returns how many.
///
/// # Errors
///
/// Those of the database.
pub async fn forget(db: &Db, now: DateTime<Utc>) -> Result<u64, StoreError> {
    let before = now - KEPT;
    db.system(SystemTask::ClaimJob, |mut tx| async move {
        tx.execute(FORGET, &[(&before, Type::TIMESTAMPTZ)]).await
    })
    .await
}

fn read(row: &Row, scope: Scope) -> Result<RestoreJob, StoreError> {
    let count = |column| -> Result<Option<u64>, StoreError> {
        let count: Option<i64> = row.try_get(column)?;
        Ok(count.map(|count| count.try_into().unwrap_or_default()))
    };
    let counts = (count(14)?, count(15)?, count(16)?);
    let code: Option<&str> = row.try_get(17)?;
    Ok(RestoreJob {
        id: row.try_get(0)?,
        scope,
        backup: row.try_get(1)?,
        backup_created_at: row.try_get(2)?,
        backup_records: row.try_get(3)?,
        mode: mode(row.try_get(4)?)?,
        status: row.try_get(5)?,
        requested_by: UserId::new(row.try_get(6)?),
        device: DeviceId::new(row.try_get(7)?),
        created_at: row.try_get(8)?,
        started_at: row.try_get(9)?,
        finished_at: row.try_get(10)?,
        attempts: row.try_get(11)?,
        not_before: row.try_get(12)?,
        safety: row.try_get(13)?,
        done: match counts {
            (Some(restored), Some(skipped), Some(removed)) => Some(Restored {
                restored,
                skipped,
                removed,
            }),
            _ => None,
        },
        code: code.map(code_of),
        failure: row.try_get(18)?,
    })
}

fn code_of(text: &str) -> ErrorCode {
    let known = ErrorCode::ALL.iter().find(|code| code.as_str() == text);
    known.copied().unwrap_or(ErrorCode::Unknown)
}

const fn mode_text(mode: RestoreMode) -> &'static str {
    match mode {
        RestoreMode::Merge => "merge",
        RestoreMode::Replace => "replace",
    }
}

fn mode(text: &str) -> Result<RestoreMode, StoreError> {
    match text {
        "merge" => Ok(RestoreMode::Merge),
        "replace" => Ok(RestoreMode::Replace),
        _ => Err(StoreError::Corrupt {
            table: "context_restores",
            row: "mode".to_owned(),
        }),
    }
}
