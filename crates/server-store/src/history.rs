//! Retention of what was overwritten: how long an organisation's versions are kept, and which may
//! go (ADR 0037).
//!
//! A version may go when it was replaced longer ago than the organisation keeps versions, and when
//! every device that still asks has said that it holds the one in its place. Versions of a record
//! with an open conflict stay, and so does everything of a scope that is being backed up, restored
//! or erased. What a table holds now never goes here: not its rows, not its tombstones.

mod purge;
mod report;

use chrono::{DateTime, TimeDelta, Utc};
use coditect_protocol::OrganizationId;
use coditect_protocol::catalogue::{Class, TABLES};
use serde::Serialize;
use serde_json::json;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::audit::{self, Entry};
use crate::credential::TenantId;
use crate::db::{Db, SystemTask};
pub use purge::{Purged, Round, claim, claim_now, release, run};
pub use report::{HOLDERS_MAX, Holder, Report, report};

/// Most days that a retention may have.
pub const DAYS_MAX: u32 = 36_500;

/// Where devices stand, for what is to be removed from a stream: `c` is a device's cursor, `d` the
/// device, `k` the cluster. Positions of another life of the database mean nothing.
const POSITION: &str = "case when c.epoch = k.epoch then coalesce(c.acked_n, 0) else 0 end";
/// Whether that device may still push a change of what it holds; `{since}` is the time since when
/// it must have asked or pushed.
const LIVE: &str = "d.tenant_id = c.tenant_id and d.id = c.device_id and d.revoked_at is null
    and c.last_pull_at is not null and c.file <> 'view'
    and greatest(c.last_pull_at, c.last_push_at) > {since}";
/// The heads of a stream's files; `s` is the stream.
const HEADS: &str = "(values ('platform', s.head_platform), ('org', s.head_org),
    ('sessions', s.head_sessions), ('projects', s.head_projects)) as f (file, head)";

const ONE: &str = "select t.tenant_id, r.days, p.history_days, coalesce(p.device_days, 90)
    from tenants t left join plans p on p.name = t.plan
    left join history_retention r on r.tenant_id = t.tenant_id where t.tenant_id = $1";
const SET: &str = "insert into history_retention (tenant_id, days, next_at)
    select tenant_id, $2, $3 from tenants where tenant_id = $1
    on conflict (tenant_id) do update set days = excluded.days, next_at = excluded.next_at";

/// Who decided how long versions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DecidedBy {
    /// The organisation's own setting.
    Organisation,
    /// The server's configuration.
    Server,
    /// The organisation's plan.
    Plan,
}

/// How long an organisation's versions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// Days since a version was replaced; none for good.
    pub days: Option<u32>,
    /// Who says so.
    pub decided_by: DecidedBy,
    /// Days after which a device that does not ask holds nothing back.
    pub device_days: u32,
}

impl Retention {
    /// Puts together what the organisation, the server and the plan say; 0 days are for good.
    fn new(own: Option<i32>, server: Option<u32>, plan: Option<i32>, device_days: i32) -> Self {
        let days = |days: i32| u32::try_from(days).unwrap_or(0);
        let (found, decided_by) = match (own.map(days), server) {
            (Some(own), _) => (own, DecidedBy::Organisation),
            (None, Some(server)) => (server, DecidedBy::Server),
            (None, None) => (plan.map_or(0, days), DecidedBy::Plan),
        };
        Self {
            days: Some(found).filter(|days| *days > 0),
            decided_by,
            device_days: days(device_days),
        }
    }

    /// Reads what [`ONE`] selects, behind the tenant.
    fn read(row: &Row, server: Option<u32>) -> Result<Self, StoreError> {
        Ok(Self::new(
            row.try_get(1)?,
            server,
            row.try_get(2)?,
            row.try_get(3)?,
        ))
    }

    /// Returns the time before which a version must have been replaced; none when all are kept.
    fn cut(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        now.checked_sub_signed(TimeDelta::days(i64::from(self.days?)))
    }

    /// Returns the time since when a device must have asked to hold anything back.
    fn live_since(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let days = TimeDelta::days(i64::from(self.device_days));
        now.checked_sub_signed(days).unwrap_or(DateTime::UNIX_EPOCH)
    }
}

/// Returns how long an organisation's versions are kept, where the server's configuration says
/// `server`: 0 for good, none where the plan decides.
///
/// # Errors
///
/// [`StoreError::NotFound`] for an unknown organisation; those of the database.
pub async fn retention(
    db: &Db,
    tenant: OrganizationId,
    server: Option<u32>,
) -> Result<Retention, StoreError> {
    let tenant = tenant.get();
    db.system(SystemTask::Administer, |mut tx| async move {
        let row = tx.query_opt(ONE, &[(&tenant, Type::UUID)]).await?;
        Retention::read(&row.ok_or(StoreError::NotFound)?, server)
    })
    .await
}

/// Sets how long an organisation's versions are kept: 0 for good, none where the server or the plan
/// decides. The trail says so.
///
/// # Errors
///
/// [`StoreError::NotFound`] for an unknown organisation; those of the database.
pub async fn set_retention(
    db: &Db,
    tenant: OrganizationId,
    days: Option<u32>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let id = tenant.get();
    let own = days.map(|days| days.min(DAYS_MAX).cast_signed());
    db.system(SystemTask::Administer, |mut tx| async move {
        let params = [
            (&id as _, Type::UUID),
            (&own as _, Type::INT4),
            (&now as _, Type::TIMESTAMPTZ),
        ];
        if tx.execute(SET, &params).await? == 0 {
            return Err(StoreError::NotFound);
        }
        let entry = Entry {
            at: now,
            action: "history.retention",
            resource_type: Some("tenant"),
            resource_id: Some(tenant.to_string()),
            detail: json!({ "days": days }),
        };
        audit::record_for(&mut tx, TenantId::new(id), None, None, &entry).await
    })
    .await
}

/// The tables whose versions are kept, each with its file; as parallel lists.
struct Files {
    tables: Vec<&'static str>,
    files: Vec<&'static str>,
}

impl Files {
    fn new() -> Self {
        let of_tenants = TABLES
            .iter()
            .filter(|table| table.class != Class::Catalogue);
        let (tables, files) = of_tenants
            .map(|table| (table.cloud, table.file.as_str()))
            .unzip();
        Self { tables, files }
    }
}

/// Returns the lowest id that an entry of this time or a later one has: ids begin with the time.
fn first_id(at: DateTime<Utc>) -> Uuid {
    let ms = at.timestamp_millis().max(0).cast_unsigned();
    Uuid::from_u128(u128::from(ms) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_organisation_decides_before_the_server_and_that_before_the_plan() {
        let days = |own, server, plan| {
            let it = Retention::new(own, server, plan, 90);
            (it.days, it.decided_by)
        };
        assert_eq!(
            days(Some(30), Some(10), Some(365)),
            (Some(30), DecidedBy::Organisation)
        );
        assert_eq!(
            days(Some(0), Some(10), Some(365)),
            (None, DecidedBy::Organisation)
        );
        assert_eq!(
            days(None, Some(10), Some(365)),
            (Some(10), DecidedBy::Server)
        );
        assert_eq!(days(None, Some(0), Some(365)), (None, DecidedBy::Server));
        assert_eq!(days(None, None, Some(365)), (Some(365), DecidedBy::Plan));
        assert_eq!(days(None, None, None), (None, DecidedBy::Plan));
    }

    #[test]
    fn what_is_kept_for_good_has_no_cut() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let of = |days| Retention::new(None, Some(days), None, 90).cut(now);
        assert_eq!(of(0), None);
        assert_eq!(of(1), Some(now - TimeDelta::days(1)));
    }

    #[test]
    fn ids_of_later_entries_are_higher() {
        use coditect_core::hash::random_id;
        let at = DateTime::from_timestamp_millis(1_800_000_000_000).unwrap();
        let ms = at.timestamp_millis().cast_unsigned();
        assert!(random_id(ms, [0; 10]) > first_id(at));
        assert!(random_id(ms - 1, [255; 10]) < first_id(at));
    }
}
