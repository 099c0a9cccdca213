//! Backups of scopes: requests, the jobs that carry them out, and what is known of each archive.

pub mod jobs;
pub mod restores;
pub mod retention;
pub mod retries;
pub mod schedule;
pub mod trials;

use chrono::{DateTime, Duration, Utc};
use coditect_core::digest::Digest;
use coditect_protocol::{Epoch, OrganizationId, Scope};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::audit;
use crate::credential::random_uuid;
use crate::db::{Db, Param, SystemTask, TenantTx};
use crate::memberships;

/// How long a server may go without a sign of life before its job is another's.
const LEASE: Duration = Duration::minutes(2);
/// Most backups in a list; the newest.
pub const LIST_MAX: i64 = 1_000;

const INSERT: &str = "insert into context_backups (tenant_id, scope_id, id, scope_kind,
    backup_type, on_demand, path, base_id, from_n, epoch, requested_by, created_at, expires_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
const COLUMNS: &str = "id, scope_kind, backup_type, on_demand, path, base_id, status, failure,
    epoch, from_n, to_n, size_bytes, record_count, checksum, created_at, completed_at, expires_at,
    tried_at, trial_failure, content_digest";
const NEWEST: &str = "select id, epoch, to_n from context_backups
    where tenant_id = $1 and scope_id = $2 and status = 'completed'
    order by completed_at desc, id desc limit 1";
const CURRENT_EPOCH: &str = "select epoch from cluster";
/// One job at a time for a scope: of two servers the second skips the row that the first locks.
const CLAIM: &str = "select tenant_id, scope_id, scope_kind, id, path, base_id, from_n, epoch,
    attempts, failures from context_backups as job
    where ((status = 'pending' and coalesce(not_before <= $1, true))
    or (status = 'running' and lease_until < $1))
    and not exists (select from context_backups as other
        where other.tenant_id = job.tenant_id and other.scope_id = job.scope_id
        and other.id <> job.id and other.status = 'running' and other.lease_until >= $1)
    order by created_at, id limit 1 for update skip locked";
const RUN: &str = "update context_backups set status = 'running', attempts = attempts + 1,
    not_before = null, lease_until = $4 where tenant_id = $1 and scope_id = $2 and id = $3";
const RENEW: &str = "update context_backups set lease_until = $5
    where tenant_id = $1 and scope_id = $2 and id = $3 and status = 'running' and attempts = $4";
const COMPLETE: &str = "update context_backups set status = 'completed', lease_until = null,
    failure = null, path = $5, to_n = $6, size_bytes = $7, record_count = $8, checksum = $9,
    completed_at = $10, key_id = $11, content_digest = $12
    where tenant_id = $1 and scope_id = $2 and id = $3 and status = 'running' and attempts = $4";
const FAIL: &str = "update context_backups set status = $5, lease_until = null, failure = $6,
    failures = failures + 1, not_before = $7
    where tenant_id = $1 and scope_id = $2 and id = $3 and status = 'running' and attempts = $4";

/// A backup, as asked for or as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its id.
    pub id: Uuid,
    /// What it is a backup of.
    pub scope: Scope,
    /// `full` or `incremental`.
    pub kind: String,
    /// Whether somebody asked for it, which keeps it for good.
    pub on_demand: bool,
    /// Path of the archive below the storage's root.
    pub path: String,
    /// The backup that an incremental one goes on from.
    pub base: Option<Uuid>,
    /// `pending`, `running`, `completed`, `failed`, or `expiring` while it is removed.
    pub status: String,
    /// Why it failed, for the operator; no content.
    pub failure: Option<String>,
    /// The database's life in which it was taken.
    pub epoch: Option<Epoch>,
    /// Position behind which it begins.
    pub from: i64,
    /// Position that it reaches.
    pub to: Option<i64>,
    /// Packed size in bytes.
    pub size_bytes: Option<i64>,
    /// Number of records.
    pub record_count: Option<i64>,
    /// `sha256:` and 64 hexadecimal digits, over the packed bytes.
    pub checksum: Option<String>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it was complete and read back.
    pub completed_at: Option<DateTime<Utc>>,
    /// When it may be removed.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last restored on trial.
    pub tried_at: Option<DateTime<Utc>>,
    /// What was wrong then.
    pub trial_failure: Option<String>,
    /// What a restore of it must come to; backups of before trials have none.
    pub digest: Option<Digest>,
}

/// What to back up.
#[derive(Clone, Debug)]
pub struct Request {
    /// The scope; the caller's right to it is checked.
    pub scope: Scope,
    /// Whether only what changed since the newest backup is wanted; without one in this life of
    /// the database it becomes a full one.
    pub incremental: bool,
    /// The time of this moment.
    pub now: DateTime<Utc>,
}

/// Asks for a backup.
///
/// # Errors
///
/// Those of the database.
pub async fn request(tx: &mut TenantTx, wanted: &Request) -> Result<Backup, StoreError> {
    let (tenant, scope_id) = (tx.tenant().get(), wanted.scope.id());
    let id = random_uuid()?;
    let time = wanted.now.format("%Y-%m-%dT%H-%M-%SZ");
    let folder = folder(tx.tenant().organization(), wanted.scope);
    let path = format!("{folder}/on-demand/{time}-{id}{ENDING}");
    let stream = [(&tenant as _, Type::UUID), (&scope_id as _, Type::UUID)];
    let epoch: String = match tx.query_opt(CURRENT_EPOCH, &[]).await? {
        Some(row) => row.try_get(0)?,
        None => return Err(StoreError::NotFound),
    };
    let newest = match tx.query_opt(NEWEST, &stream).await? {
        Some(row) if wanted.incremental && row.try_get::<_, &str>(1)? == epoch => {
            Some((row.try_get::<_, Uuid>(0)?, row.try_get::<_, i64>(2)?))
        }
        _ => None,
    };
    let kind = if newest.is_some() {
        "incremental"
    } else {
        "full"
    };
    let (base, from) = (newest.map(|(id, _)| id), newest.map_or(0, |(_, to)| to));
    let by = tx.caller().user_id().get();
    let expires: Option<DateTime<Utc>> = None;
    let params = [
        (&tenant as _, Type::UUID),
        (&scope_id as _, Type::UUID),
        (&id as _, Type::UUID),
        (&wanted.scope.kind() as _, Type::TEXT),
        (&kind as _, Type::TEXT),
        (&true as _, Type::BOOL),
        (&path as _, Type::TEXT),
        (&base as _, Type::UUID),
        (&from as _, Type::INT8),
        (&epoch as _, Type::TEXT),
        (&by as _, Type::UUID),
        (&wanted.now as _, Type::TIMESTAMPTZ),
        (&expires as _, Type::TIMESTAMPTZ),
    ];
    tx.execute(INSERT, &params).await?;
    let entry = audit::Entry {
        at: wanted.now,
        action: "backup.request",
        resource_type: Some("backup"),
        resource_id: Some(id.to_string()),
        detail: serde_json::json!({ "scope": wanted.scope, "type": kind }),
    };
    audit::record(tx, &entry).await?;
    find(tx, wanted.scope, id).await
}

/// Returns a backup of the scope.
///
/// # Errors
///
/// [`StoreError::NotFound`].
pub async fn find(tx: &mut TenantTx, scope: Scope, id: Uuid) -> Result<Backup, StoreError> {
    let (tenant, scope_id) = (tx.tenant().get(), scope.id());
    let params = [
        (&tenant as _, Type::UUID),
        (&scope_id as _, Type::UUID),
        (&id as _, Type::UUID),
    ];
    let row = tx.query_opt(&find_sql(), &params).await?;
    read(&row.ok_or(StoreError::NotFound)?, scope)
}

fn find_sql() -> String {
    format!(
        "select {COLUMNS} from context_backups
    where tenant_id = $1 and scope_id = $2 and id = $3"
    )
}

/// Returns the newest backups of the scope, newest first, at most [`LIST_MAX`].
///
/// # Errors
///
/// Those of the database.
pub async fn list(tx: &mut TenantTx, scope: Scope) -> Result<Vec<Backup>, StoreError> {
    let (tenant, scope_id) = (tx.tenant().get(), scope.id());
    let params = [
        (&tenant as _, Type::UUID),
        (&scope_id as _, Type::UUID),
        (&LIST_MAX as _, Type::INT8),
    ];
    let sql = format!(
        "select {COLUMNS} from context_backups where tenant_id = $1 and scope_id = $2
    order by created_at desc, id desc limit $3"
    );
    let rows = tx.query(&sql, &params).await?;
    rows.iter().map(|row| read(row, scope)).collect()
}

/// A job that this server has claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The organisation, from the job's row.
    pub tenant: OrganizationId,
    /// What to back up.
    pub scope: Scope,
    /// The backup's id.
    pub id: Uuid,
    /// Path of the archive below the storage's root.
    pub path: String,
    /// The backup that an incremental one goes on from; a full one has none.
    pub base: Option<Uuid>,
    /// Position behind which it begins.
    pub from: i64,
    /// The database's life when it was asked for.
    pub epoch: Epoch,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    /// How many of the earlier ones failed; the others were cut off.
    pub failures: i32,
}

impl Job {
    fn held(&self) -> Attempt {
        Attempt {
            tenant: self.tenant.get(),
            scope: self.scope.id(),
            id: self.id,
            number: self.attempt,
        }
    }

    /// Returns the path to write to: each attempt has its own.
    #[must_use]
    pub fn archive_path(&self) -> String {
        match self.path.strip_suffix(ENDING) {
            Some(stem) if self.attempt > 1 => format!("{stem}.{}{ENDING}", self.attempt),
            _ => self.path.clone(),
        }
    }
}

/// Returns the scope's folder below the storage's root, as the seeds print it.
fn folder(tenant: OrganizationId, scope: Scope) -> String {
    match scope {
        Scope::User(id) => format!("tenants/{tenant}/users/{id}"),
        Scope::Team(id) => format!("tenants/{tenant}/teams/{id}"),
        Scope::Project(id) => format!("tenants/{tenant}/projects/{id}"),
        Scope::Org(_) | Scope::Platform => format!("tenants/{tenant}/organization"),
    }
}

/// How the names of archives end.
pub const ENDING: &str = ".jsonl.gz";

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Path of the archive below the storage's root.
    pub path: String,
    /// Position that the archive reaches.
    pub to: i64,
    /// Packed size in bytes.
    pub size_bytes: i64,
    /// Number of records.
    pub record_count: i64,
    /// `sha256:` and 64 hexadecimal digits.
    pub checksum: String,
    /// Name of the key that it is encrypted with.
    pub key_id: Option<String>,
    /// What a restore of it, and of what it goes on from, must come to.
    pub digest: Digest,
}

/// Claims the oldest job that nobody works on.
///
/// # Errors
///
/// Those of the database.
pub async fn claim(db: &Db, now: DateTime<Utc>) -> Result<Option<Job>, StoreError> {
    db.system(SystemTask::ClaimJob, |mut tx| async move {
        let Some(row) = tx.query_opt(CLAIM, &[(&now, Type::TIMESTAMPTZ)]).await? else {
            return Ok(None);
        };
        let (tenant, scope, id): (Uuid, Uuid, Uuid) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(3)?);
        let lease = now + LEASE;
        let params = [
            (&tenant as _, Type::UUID),
            (&scope as _, Type::UUID),
            (&id as _, Type::UUID),
            (&lease as _, Type::TIMESTAMPTZ),
        ];
        tx.execute(RUN, &params).await?;
        Ok::<_, StoreError>(Some(Job {
            tenant: OrganizationId::new(tenant),
            scope: memberships::scope_of(row.try_get(2)?, scope)?,
            id,
            path: row.try_get(4)?,
            base: row.try_get(5)?,
            from: row.try_get(6)?,
            epoch: epoch(row.try_get(7)?)?.ok_or_else(|| corrupt("epoch"))?,
            attempt: row.try_get::<_, i32>(8)? + 1,
            failures: row.try_get(9)?,
        }))
    })
    .await
}

/// Says that the job is still worked on; `false` when it is another server's by now.
///
/// # Errors
///
/// Those of the database.
pub async fn renew(db: &Db, job: &Job, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let lease = now + LEASE;
    let values: [Param<'_>; 1] = [(&lease, Type::TIMESTAMPTZ)];
    job.held().change(db, RENEW, &values).await
}

/// Records that the archive is complete; `false` when the job is another server's by now.
///
/// # Errors
///
/// Those of the database.
pub async fn complete(
    db: &Db,
    job: &Job,
    done: &Completed,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let digest = digest_text(&done.digest);
    let params: [Param<'_>; 8] = [
        (&done.path, Type::TEXT),
        (&done.to, Type::INT8),
        (&done.size_bytes, Type::INT8),
        (&done.record_count, Type::INT8),
        (&done.checksum, Type::TEXT),
        (&now, Type::TIMESTAMPTZ),
        (&done.key_id, Type::TEXT),
        (&digest, Type::TEXT),
    ];
    job.held().change(db, COMPLETE, &params).await
}

/// Records why the attempt failed; the job is tried again after a pause, until it failed too often
/// ([`retries`]).
///
/// # Errors
///
/// Those of the database.
pub async fn fail(
    db: &Db,
    job: &Job,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let again = retries::not_before(job.failures + 1, now);
    let status = if again.is_some() { "pending" } else { "failed" };
    let values: [Param<'_>; 3] = [
        (&status, Type::TEXT),
        (&reason, Type::TEXT),
        (&again, Type::TIMESTAMPTZ),
    ];
    job.held().change(db, FAIL, &values).await
}

/// An attempt at a job: its key, and the number by which two servers differ that both think it
/// theirs.
#[derive(Clone, Copy)]
struct Attempt {
    tenant: Uuid,
    scope: Uuid,
    id: Uuid,
    number: i32,
}

impl Attempt {
    fn params<'a>(&'a self, values: &[Param<'a>]) -> Vec<Param<'a>> {
        let mut params: Vec<Param<'a>> = vec![
            (&self.tenant, Type::UUID),
            (&self.scope, Type::UUID),
            (&self.id, Type::UUID),
            (&self.number, Type::INT4),
        ];
        params.extend(values.iter().cloned());
        params
    }

    /// Changes the job; `false` when it is another server's by now, or over.
    async fn change(
        self,
        db: &Db,
        sql: &'static str,
        values: &[Param<'_>],
    ) -> Result<bool, StoreError> {
        let params = &self.params(values);
        db.system(SystemTask::ClaimJob, |mut tx| async move {
            Ok::<_, StoreError>(tx.execute(sql, params).await? == 1)
        })
        .await
    }

    /// As [`Attempt::change`], in a transaction that does more.
    async fn change_in(
        self,
        tx: &mut TenantTx,
        sql: &'static str,
        values: &[Param<'_>],
    ) -> Result<bool, StoreError> {
        Ok(tx.execute(sql, &self.params(values)).await? == 1)
    }
}

fn read(row: &Row, scope: Scope) -> Result<Backup, StoreError> {
    Ok(Backup {
        id: row.try_get(0)?,
        scope,
        kind: row.try_get(2)?,
        on_demand: row.try_get(3)?,
        path: row.try_get(4)?,
        base: row.try_get(5)?,
        status: row.try_get(6)?,
        failure: row.try_get(7)?,
        epoch: epoch(row.try_get(8)?)?,
        from: row.try_get(9)?,
        to: row.try_get(10)?,
        size_bytes: row.try_get(11)?,
        record_count: row.try_get(12)?,
        checksum: row.try_get(13)?,
        created_at: row.try_get(14)?,
        completed_at: row.try_get(15)?,
        expires_at: row.try_get(16)?,
        tried_at: row.try_get(17)?,
        trial_failure: row.try_get(18)?,
        digest: row
            .try_get::<_, Option<&str>>(19)?
            .map(digest)
            .transpose()?,
    })
}

fn epoch(text: Option<&str>) -> Result<Option<Epoch>, StoreError> {
    text.map(|text| text.parse().map_err(|_| corrupt("epoch")))
        .transpose()
}

/// Returns the digest as it is stored: rows, rows and tombstones, XOR in hexadecimal digits.
fn digest_text(digest: &Digest) -> String {
    format!("{}:{}:{}", digest.rows, digest.count, digest.text())
}

fn digest(text: &str) -> Result<Digest, StoreError> {
    let mut parts = text.splitn(3, ':');
    let mut next = || parts.next().ok_or_else(|| corrupt("content_digest"));
    let (rows, count, xor) = (next()?, next()?, next()?);
    let wrong = |_| corrupt("content_digest");
    Ok(Digest {
        rows: rows.parse().map_err(wrong)?,
        count: count.parse().map_err(wrong)?,
        xor: u64::from_str_radix(xor, 16).map_err(wrong)?,
    })
}

fn corrupt(column: &str) -> StoreError {
    StoreError::Corrupt {
        table: "context_backups",
        row: column.to_owned(),
    }
}
