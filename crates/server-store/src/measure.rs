//! What the database says about the service as a whole: for its operator's metrics, across
//! tenants, and without anybody's content.

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::types::Type;

use crate::StoreError;
use crate::db::{Db, SystemTask};

/// How long backups count in the rate of those that succeed.
pub const BACKUPS_OF: TimeDelta = TimeDelta::days(1);
/// A device that was given something, or told that there is nothing, within this time is active.
pub const ACTIVE_WITHIN: TimeDelta = TimeDelta::minutes(5);

// A device is behind by what lies between its position and the last change of the file. Numbers
// count the changes of all files of a stream, so that this is an upper bound.
const MEASURE: &str = "select
    (select count(*) from context_backups where status = 'completed' and completed_at > $1),
    (select count(*) from context_backups where status = 'failed' and created_at > $1),
    (select count(distinct device_id) from device_cursors where last_pull_at > $2),
    (select coalesce(max(case file when 'platform' then head_platform when 'org' then head_org
        when 'sessions' then head_sessions when 'projects' then head_projects end
        - device_cursors.n), 0)
        from device_cursors join streams using (tenant_id, scope_id) where last_pull_at > $2),
    (select count(*) from context_backups where status = 'completed'
        and trial_failure is not null),
    (select extract(epoch from $3 - max(tried_at))::double precision from context_backups
        where trial_failure is null)";

/// The figures of one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Backups that were completed within [`BACKUPS_OF`].
    pub backups_completed: i64,
    /// Backups asked for within that time that were given up.
    pub backups_failed: i64,
    /// Devices that are active, see [`ACTIVE_WITHIN`].
    pub active_devices: i64,
    /// How many changes the active device that is farthest behind has not been given.
    pub cursor_drift: i64,
    /// Backups whose last restore on trial did not come to what was recorded.
    pub trials_failed: i64,
    /// Seconds since a restore on trial last did; none before the first.
    pub trial_age_seconds: Option<f64>,
}

/// Reads the figures.
///
/// # Errors
///
/// Those of the database.
pub async fn measure(db: &Db, now: DateTime<Utc>) -> Result<Measured, StoreError> {
    let (backups_since, active_since) = (now - BACKUPS_OF, now - ACTIVE_WITHIN);
    db.system(SystemTask::Measure, |mut tx| async move {
        let params = [
            (&backups_since as _, Type::TIMESTAMPTZ),
            (&active_since as _, Type::TIMESTAMPTZ),
            (&now as _, Type::TIMESTAMPTZ),
        ];
        let rows = tx.query(MEASURE, &params).await?;
        let row = rows.first().ok_or(StoreError::NotFound)?;
        Ok(Measured {
            backups_completed: row.try_get(0)?,
            backups_failed: row.try_get(1)?,
            active_devices: row.try_get(2)?,
            // A device may be ahead of a file's last change by changes of other files.
            cursor_drift: row.try_get::<_, i64>(3)?.max(0),
            trials_failed: row.try_get(4)?,
            trial_age_seconds: row.try_get(5)?,
        })
    })
    .await
}

const ARCHIVER_FAILS: &str = "select coalesce(last_failed_time
    > coalesce(last_archived_time, '-infinity'), false) from pg_stat_archiver";

/// Returns whether PostgreSQL failed the last time that it handed over a piece of its write-ahead
/// log for an archive.
///
/// # Errors
///
/// Those of the database.
pub async fn archiver_fails(db: &Db) -> Result<bool, StoreError> {
    db.system(SystemTask::Measure, |mut tx| async move {
        let row = tx.query_opt(ARCHIVER_FAILS, &[]).await?;
        Ok(row.ok_or(StoreError::NotFound)?.try_get(0)?)
    })
    .await
}
