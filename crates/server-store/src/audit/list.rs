//! Reading the trail: filters and pages, the latest entry first. Row security asks for the
//! permission.

use chrono::{DateTime, Utc};
use coditect_core::canonical;
use coditect_protocol::wire::audit::{AuditEntry, AuditPage};
use coditect_protocol::{DeviceId, UserId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::db::TenantTx;

/// Most entries of a page.
pub const PAGE_ENTRIES_MAX: u32 = 1_000;

const SELECT: &str = "select id, at, user_id, device_id, action, resource_type, resource_id,
    detail, block from audit_log where tenant_id = $1
    and ($2::uuid is null or user_id = $2) and ($3::uuid is null or device_id = $3)
    and ($4::text is null or action = $4 or starts_with(action, $4 || '.'))
    and ($5::text is null or resource_type = $5) and ($6::text is null or resource_id = $6)
    and ($7::timestamptz is null or at >= $7) and ($8::timestamptz is null or at < $8)
    and ($9::timestamptz is null or (at, id) < ($9, $10))
    order by at desc, id desc limit $11";

/// Which entries; what is none does not matter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Who did it.
    pub user: Option<UserId>,
    /// On which device.
    pub device: Option<DeviceId>,
    /// What was done; `project` also stands for `project.create` and its like.
    pub action: Option<String>,
    /// Kind of the thing.
    pub resource_type: Option<String>,
    /// Id of the thing.
    pub resource_id: Option<String>,
    /// From this moment on.
    pub since: Option<DateTime<Utc>>,
    /// Before this moment.
    pub until: Option<DateTime<Utc>>,
    /// Entries behind that of this name, as [`AuditPage::next`] says it.
    pub before: Option<String>,
}

/// Returns a page of the caller's organisation.
///
/// # Errors
///
/// [`StoreError::NotFound`] when `before` is not the name of a place; those of the database.
pub async fn list(tx: &mut TenantTx, filter: &Filter, limit: u32) -> Result<AuditPage, StoreError> {
    let tenant = tx.tenant().get();
    let place = filter.before.as_deref().map(place).transpose()?;
    let (at, id) = (place.map(|it| it.0), place.map(|it| it.1));
    let (user, device) = (
        filter.user.map(UserId::get),
        filter.device.map(DeviceId::get),
    );
    let limit = i64::from(limit.clamp(1, PAGE_ENTRIES_MAX));
    let asked = limit + 1;
    let params = [
        (&tenant as _, Type::UUID),
        (&user as _, Type::UUID),
        (&device as _, Type::UUID),
        (&filter.action as _, Type::TEXT),
        (&filter.resource_type as _, Type::TEXT),
        (&filter.resource_id as _, Type::TEXT),
        (&filter.since as _, Type::TIMESTAMPTZ),
        (&filter.until as _, Type::TIMESTAMPTZ),
        (&at as _, Type::TIMESTAMPTZ),
        (&id as _, Type::UUID),
        (&asked as _, Type::INT8),
    ];
    let mut rows = tx.query(SELECT, &params).await?;
    let more = rows.len() as i64 > limit;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(name).transpose()?;
    let entries = rows.iter().map(entry).collect::<Result<_, _>>()?;
    Ok(AuditPage { entries, next })
}

fn entry(row: &Row) -> Result<AuditEntry, StoreError> {
    let at: DateTime<Utc> = row.try_get(1)?;
    let user: Option<Uuid> = row.try_get(2)?;
    let device: Option<Uuid> = row.try_get(3)?;
    Ok(AuditEntry {
        id: row.try_get(0)?,
        at: canonical::time_from_ms(at.timestamp_millis()),
        user_id: user.map(UserId::new),
        device_id: device.map(DeviceId::new),
        action: row.try_get(4)?,
        resource_type: row.try_get(5)?,
        resource_id: row.try_get(6)?,
        detail: row.try_get(7)?,
        block: row.try_get(8)?,
    })
}

/// Returns the name of the place behind a row.
fn name(row: &Row) -> Result<String, StoreError> {
    let (id, at): (Uuid, DateTime<Utc>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(format!("{}-{}", at.timestamp_micros(), id.simple()))
}

fn place(name: &str) -> Result<(DateTime<Utc>, Uuid), StoreError> {
    let read = || {
        let (micros, id) = name.split_once('-')?;
        let at = DateTime::from_timestamp_micros(micros.parse().ok()?)?;
        Some((at, id.parse().ok()?))
    };
    read().ok_or(StoreError::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_names() {
        let (at, id) = place("1800000000000001-5d2f1f2c7d0e4d2b9b7e1d1f8a0c0001").unwrap();
        assert_eq!(at.timestamp_micros(), 1_800_000_000_000_001);
        assert!(id.to_string().starts_with("5d2f1f2c-7d0e"));
        for wrong in ["", "1", "-1", "x-y", "1-2", "99999999999999999999-0"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
