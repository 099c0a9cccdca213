//! Plans: what an organisation may use, what it uses, and the rate that its people share over
//! all servers.

use coditect_protocol::OrganizationId;
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::StoreError;
use crate::credential::Caller;
use crate::db::{Db, SystemTask};

/// An organisation whose plan was removed has no limits: it must not stop working for that.
const OF_TENANT: &str = "select t.plan, p.requests_per_minute, p.storage_bytes, p.rows
    from tenants t left join plans p on p.name = t.plan where t.tenant_id = $1";
const ALL: &str = "select name, requests_per_minute, storage_bytes, rows from plans order by name";
const CHANGE: &str = "update tenants set plan = $2
    where tenant_id = $1 and exists (select from plans where name = $2)";
/// The sum over all scopes, which row security would hide from a member.
const USAGE: &str = "select coalesce(sum(byte_count), 0)::bigint,
    coalesce(sum(row_count), 0)::bigint from streams where tenant_id = $1";
/// Takes up to `$4` requests of minute `$3`, of which there are `$5`. A clock that is behind
/// takes from the minute that others have begun.
const TAKE: &str = "insert into request_rates as r (tenant_id, user_id, minute, used, granted)
    values ($1, $2, $3, least($4, $5), least($4, $5))
    on conflict (tenant_id, user_id) do update set
    minute = greatest(r.minute, $3),
    granted = greatest(0, least($4, $5 - case when r.minute >= $3 then r.used else 0 end)),
    used = case when r.minute >= $3 then r.used else 0 end
        + greatest(0, least($4, $5 - case when r.minute >= $3 then r.used else 0 end))
    returning granted, used, minute";

/// What an organisation may use; a limit that is `None` is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Requests of one person in a minute.
    pub requests_per_minute: Option<i64>,
    /// Bytes of all rows.
    pub storage_bytes: Option<i64>,
    /// Rows.
    pub rows: Option<i64>,
}

/// What an organisation uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Bytes of all rows.
    pub bytes: i64,
    /// Rows that are no tombstones.
    pub rows: i64,
}

/// Some requests of a minute, taken for one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How many; 0 when the minute's are used up.
    pub granted: i64,
    /// How many are taken of the minute by all servers, these included.
    pub used: i64,
    /// The minute, counted from 1970.
    pub minute: i64,
}

/// Returns the plan of the caller's organisation.
///
/// # Errors
///
/// Those of the database.
pub async fn of_tenant(db: &Db, caller: &Caller) -> Result<Plan, StoreError> {
    let tenant = caller.tenant().get();
    db.system(SystemTask::Limit, |mut tx| async move {
        let row = tx.query_opt(OF_TENANT, &[(&tenant, Type::UUID)]).await?;
        read(&row.ok_or(StoreError::NotFound)?)
    })
    .await
}

/// Returns all plans.
///
/// # Errors
///
/// Those of the database.
pub async fn list(db: &Db) -> Result<Vec<Plan>, StoreError> {
    db.system(SystemTask::Administer, |mut tx| async move {
        tx.query(ALL, &[]).await?.iter().map(read).collect()
    })
    .await
}

/// Gives an organisation another plan.
///
/// # Errors
///
/// [`StoreError::NotFound`] for an organisation or a plan that does not exist.
pub async fn change(db: &Db, tenant: OrganizationId, plan: &str) -> Result<(), StoreError> {
    let tenant = tenant.get();
    db.system(SystemTask::Administer, |mut tx| async move {
        let params = [(&tenant as _, Type::UUID), (&plan as _, Type::TEXT)];
        match tx.execute(CHANGE, &params).await? {
            0 => Err(StoreError::NotFound),
            _ => Ok(()),
        }
    })
    .await
}

/// Returns what the caller's organisation uses.
///
/// # Errors
///
/// Those of the database.
pub async fn usage(db: &Db, caller: &Caller) -> Result<Usage, StoreError> {
    let tenant = caller.tenant().get();
    db.system(SystemTask::Limit, |mut tx| async move {
        let row = tx.query_opt(USAGE, &[(&tenant, Type::UUID)]).await?;
        let row = row.ok_or(StoreError::NotFound)?;
        Ok::<_, StoreError>(Usage {
            bytes: row.try_get(0)?,
            rows: row.try_get(1)?,
        })
    })
    .await
}

/// Takes up to `wanted` of the `limit` requests that the caller has in the minute.
///
/// # Errors
///
/// Those of the database.
pub async fn take(
    db: &Db,
    caller: &Caller,
    minute: i64,
    wanted: i64,
    limit: i64,
) -> Result<Lease, StoreError> {
    let (tenant, user) = (caller.tenant().get(), caller.user_id().get());
    db.system(SystemTask::Limit, |mut tx| async move {
        let params = [
            (&tenant as _, Type::UUID),
            (&user as _, Type::UUID),
            (&minute as _, Type::INT8),
            (&wanted as _, Type::INT8),
            (&limit as _, Type::INT8),
        ];
        let row = tx.query_opt(TAKE, &params).await?;
        let row = row.ok_or(StoreError::NotFound)?;
        Ok::<_, StoreError>(Lease {
            granted: row.try_get(0)?,
            used: row.try_get(1)?,
            minute: row.try_get(2)?,
        })
    })
    .await
}

fn read(row: &Row) -> Result<Plan, StoreError> {
    Ok(Plan {
        name: row.try_get(0)?,
        requests_per_minute: row.try_get(1)?,
        storage_bytes: row.try_get(2)?,
        rows: row.try_get(3)?,
    })
}
