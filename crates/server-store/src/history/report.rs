//! What an operator is told: how many versions there are, how many would go, and what holds the
//! others.

use chrono::{DateTime, Utc};
use coditect_protocol::{DeviceId, OrganizationId, UserId};
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Files, HEADS, LIVE, ONE, POSITION, Retention};
use crate::StoreError;
use crate::db::{Db, Isolation, Param, SystemTask};

/// Most devices that are named.
pub const HOLDERS_MAX: i64 = 100;

const ROUND: &str = "select next_at, last_finished_at, last_versions, last_conflicts
    from history_retention where tenant_id = $1";
const CONFLICTS: &str = "select count(*), count(*) filter (where resolved_at is null),
    count(*) filter (where resolved_at < $2) from sync_conflicts where tenant_id = $1";

/// What is kept of an organisation's history, and what may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The organisation.
    pub tenant_id: OrganizationId,
    /// How long versions are kept.
    #[serde(flatten)]
    pub retention: Retention,
    /// All versions that were replaced.
    pub versions: i64,
    /// Those that are older than the retention.
    pub aged: i64,
    /// Those that would go now.
    pub removable: i64,
    /// Older ones that stay because a device has not said that it holds what is in their place.
    pub held_by_devices: i64,
    /// Older ones that stay because their record has an open conflict.
    pub held_by_conflicts: i64,
    /// All conflicts that are kept.
    pub conflicts: i64,
    /// Those that nobody settled.
    pub conflicts_open: i64,
    /// Settled ones that would go now.
    pub conflicts_removable: i64,
    /// Devices that hold older versions back, the farthest behind first; at most [`HOLDERS_MAX`].
    pub holders: Vec<Holder>,
    /// When the next round is due; none before the first.
    pub next_at: Option<DateTime<Utc>>,
    /// When the last one ended.
    pub last_finished_at: Option<DateTime<Utc>>,
    /// Versions that it removed.
    pub last_versions: Option<i64>,
    /// Conflicts that it removed.
    pub last_conflicts: Option<i64>,
}

/// A device that holds versions of a stream back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The device.
    pub device_id: DeviceId,
    /// Whose it is.
    pub user_id: UserId,
    /// The stream.
    pub scope_id: Uuid,
    /// File of the stream.
    pub file: String,
    /// Up to where the device has said that it holds everything.
    pub position: i64,
    /// Where the file ends.
    pub head: i64,
    /// When it asked or pushed last; it holds nothing back any more when that is longer ago than
    /// [`Retention::device_days`].
    pub last_heard_at: DateTime<Utc>,
}

/// Where every stream's files end, and the lowest position of a device that still asks: `$2` is
/// the time since when.
fn floors() -> String {
    let live = LIVE.replace("{since}", "$2");
    format!(
        "live as (select c.device_id, d.user_id, c.scope_id, c.file, {POSITION} as position,
            greatest(c.last_pull_at, c.last_push_at) as heard
            from device_cursors c join devices d on {live} cross join cluster k
            where c.tenant_id = $1 and d.tenant_id = $1),
        floors as (select s.scope_id, f.file, f.head, coalesce(min(live.position), f.head) as floor
            from streams s cross join lateral {HEADS}
            left join live on live.scope_id = s.scope_id and live.file = f.file
            where s.tenant_id = $1 group by s.scope_id, f.file, f.head),
        versions as (select h.scope_id, h.table_name, h.row_id, floors.file,
            coalesce(h.cursor, floors.head) as cursor, floors.floor, h.recorded_at < $3 as is_aged
            from record_history h
            left join unnest($4::text[], $5::text[]) as given (table_name, file)
                on given.table_name = h.table_name
            left join floors on floors.scope_id = h.scope_id and floors.file = given.file
            where h.tenant_id = $1)"
    )
}

/// Counts versions, by what becomes of them.
fn counts() -> String {
    let floors = floors();
    format!(
        "with {floors}, judged as (select is_aged, coalesce(cursor <= floor, false) as is_free,
            exists (select from sync_conflicts c where c.tenant_id = $1
                and c.scope_id = v.scope_id and c.table_name = v.table_name
                and c.row_id = v.row_id and c.resolved_at is null) as is_open
            from versions v)
        select count(*), count(*) filter (where is_aged),
            count(*) filter (where is_aged and is_free and not is_open),
            count(*) filter (where is_aged and not is_free and not is_open),
            count(*) filter (where is_aged and is_open) from judged"
    )
}

/// Finds the devices that hold old versions back.
fn holders() -> String {
    let floors = floors();
    format!(
        "with {floors} select live.device_id, live.user_id, live.scope_id, live.file,
            live.position, floors.head, live.heard
            from live join floors on floors.scope_id = live.scope_id and floors.file = live.file
            where exists (select from versions v where v.scope_id = live.scope_id
                and v.file = live.file and v.is_aged and v.cursor > live.position)
            order by live.heard, live.device_id, live.scope_id, live.file limit {HOLDERS_MAX}"
    )
}

/// Reads the report of an organisation, as of one moment. Nothing is removed. It reads every
/// version: an operator's tool.
///
/// # Errors
///
/// [`StoreError::NotFound`] for an unknown organisation; those of the database.
pub async fn report(
    db: &Db,
    tenant_id: OrganizationId,
    server: Option<u32>,
    now: DateTime<Utc>,
) -> Result<Report, StoreError> {
    let (counts, holders) = (&counts(), &holders());
    let tenant = tenant_id.get();
    let tasks = |mut tx: crate::db::SystemTx| async move {
        let row = tx.query_opt(ONE, &[(&tenant, Type::UUID)]).await?;
        let retention = Retention::read(&row.ok_or(StoreError::NotFound)?, server)?;
        // Of what is kept for good nothing is too old.
        let cut = retention.cut(now).unwrap_or(DateTime::UNIX_EPOCH);
        let (since, files) = (retention.live_since(now), Files::new());
        let params: [Param<'_>; 5] = [
            (&tenant, Type::UUID),
            (&since, Type::TIMESTAMPTZ),
            (&cut, Type::TIMESTAMPTZ),
            (&files.tables, Type::TEXT_ARRAY),
            (&files.files, Type::TEXT_ARRAY),
        ];
        let versions = tx.query_opt(counts, &params).await?;
        let versions = versions.ok_or(StoreError::NotFound)?;
        let devices = tx.query(holders, &params).await?;
        let [tenant, _, cut, ..] = params;
        let conflicts = tx.query_opt(CONFLICTS, &[tenant.clone(), cut]).await?;
        let conflicts = conflicts.ok_or(StoreError::NotFound)?;
        let round = tx.query_opt(ROUND, &[tenant]).await?;
        let mut report = Report {
            tenant_id,
            retention,
            versions: versions.try_get(0)?,
            aged: versions.try_get(1)?,
            removable: versions.try_get(2)?,
            held_by_devices: versions.try_get(3)?,
            held_by_conflicts: versions.try_get(4)?,
            conflicts: conflicts.try_get(0)?,
            conflicts_open: conflicts.try_get(1)?,
            conflicts_removable: conflicts.try_get(2)?,
            holders: devices.iter().map(holder).collect::<Result<_, _>>()?,
            next_at: None,
            last_finished_at: None,
            last_versions: None,
            last_conflicts: None,
        };
        if let Some(row) = round {
            report.next_at = row.try_get(0)?;
            report.last_finished_at = row.try_get(1)?;
            report.last_versions = row.try_get(2)?;
            report.last_conflicts = row.try_get(3)?;
        }
        Ok(report)
    };
    db.system_in(Isolation::Snapshot, SystemTask::Administer, tasks)
        .await
}

fn holder(row: &Row) -> Result<Holder, StoreError> {
    Ok(Holder {
        device_id: DeviceId::new(row.try_get(0)?),
        user_id: UserId::new(row.try_get(1)?),
        scope_id: row.try_get(2)?,
        file: row.try_get(3)?,
        position: row.try_get(4)?,
        head: row.try_get(5)?,
        last_heard_at: row.try_get(6)?,
    })
}
