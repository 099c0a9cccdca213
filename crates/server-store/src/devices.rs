//! Devices: registered at login, looked up by every push, revoked by an administrator.

use chrono::{DateTime, Utc};
use coditect_protocol::DeviceId;
use coditect_protocol::wire::auth::DeviceInfo;
use serde_json::json;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::audit::{self, Entry};
use crate::credential::{Caller, TenantId, random_uuid};
use crate::db::{Db, Param, SystemTask, SystemTx, TenantTx};

/// A registered device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// The person who logged in on it.
    pub user_id: Uuid,
    /// Name for people.
    pub name: Option<String>,
    /// When it logged in first.
    pub created_at: DateTime<Utc>,
    /// When it was heard of last.
    pub last_seen_at: DateTime<Utc>,
    /// When it was locked out, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
}

const SELECT: &str = "select id, user_id, name, created_at, last_seen_at, revoked_at
    from devices where tenant_id = $1 order by created_at, id";
const FIND: &str = "select id, user_id, name, created_at, last_seen_at, revoked_at
    from devices where tenant_id = $1 and id = $2";
const REVOKE: &str = "update devices set revoked_at = $3
    where tenant_id = $1 and id = $2 and revoked_at is null";
const END_LOGINS: &str = "update refresh_tokens set revoked_at = $3
    where tenant_id = $1 and device_id = $2 and revoked_at is null";
const SEEN: &str = "update devices set last_seen_at = $3 where tenant_id = $1 and id = $2";
const HOLDERS: &str = "select tenant_id, user_id, revoked_at from devices where id = $1";
const REGISTER: &str = "insert into devices
    (tenant_id, id, user_id, name, hardware_id, created_at, last_seen_at)
    values ($1, $2, $3, $4, $5, $6, $6) on conflict do nothing returning id";
const SEEN_AT_LOGIN: &str = "update devices set last_seen_at = $3,
    name = coalesce($4, name), hardware_id = coalesce($5, hardware_id)
    where tenant_id = $1 and id = $2";

/// Returns the device `id` of the transaction's tenant.
///
/// # Errors
///
/// [`StoreError::NotFound`] when the tenant has no such device.
pub async fn find(tx: &mut TenantTx, id: Uuid) -> Result<Device, StoreError> {
    let tenant = tx.tenant().get();
    let row = tx
        .query_opt(FIND, &[(&tenant, Type::UUID), (&id, Type::UUID)])
        .await?;
    device(&row.ok_or(StoreError::NotFound)?)
}

/// Returns the caller's own device, for work that a revoked device may not do any more.
///
/// # Errors
///
/// [`StoreError::NotFound`] when it is unknown, revoked or another person's.
pub async fn find_active_own(tx: &mut TenantTx) -> Result<Device, StoreError> {
    let (id, user) = (tx.caller().device_id().get(), tx.caller().user_id().get());
    let device = find(tx, id).await?;
    if device.revoked_at.is_some() || device.user_id != user {
        return Err(StoreError::NotFound);
    }
    Ok(device)
}

/// Returns all devices of the transaction's tenant, oldest first.
///
/// # Errors
///
/// Those of the database.
pub async fn list(tx: &mut TenantTx) -> Result<Vec<Device>, StoreError> {
    let tenant = tx.tenant().get();
    let rows = tx.query(SELECT, &[(&tenant, Type::UUID)]).await?;
    rows.iter().map(device).collect()
}

/// Registers a new device for the caller and returns its id: a file that was fenced goes on as
/// that device. It takes over the name of the device that logged in.
///
/// # Errors
///
/// [`StoreError::NotFound`] when the device that logged in is revoked; those of the database.
pub async fn register_replacement(
    db: &Db,
    caller: &Caller,
    now: DateTime<Utc>,
) -> Result<DeviceId, StoreError> {
    let (tenant, user, fenced) = (
        caller.tenant(),
        caller.user_id().get(),
        caller.device_id().get(),
    );
    db.system(SystemTask::Authenticate, |mut tx| async move {
        let tenant_id = tenant.get();
        let params: [Param<'_>; 2] = [(&tenant_id, Type::UUID), (&fenced, Type::UUID)];
        let mut info = DeviceInfo::default();
        if let Some(row) = tx.query_opt(FIND, &params).await? {
            let fenced = device(&row)?;
            if fenced.revoked_at.is_some() {
                return Err(StoreError::NotFound);
            }
            info.name = fenced.name;
        }
        match register(&mut tx, tenant, user, &info, now).await? {
            Registration::Registered(id) => Ok(id),
            Registration::Revoked => Err(StoreError::NotFound),
        }
    })
    .await
}

/// Locks a device of the caller's tenant out: its logins end, and no transaction is opened for
/// it any more, from this moment on. One that is locked out already stays so.
///
/// Whether the caller may do this is decided before.
///
/// # Errors
///
/// Those of the database.
pub async fn revoke(
    db: &Db,
    caller: &Caller,
    id: DeviceId,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let actor = Some((caller.user_id().get(), caller.device_id().get()));
    db.system(SystemTask::RevokeDevice, |mut tx| async move {
        lock_out(&mut tx, caller.tenant(), actor, id, now).await
    })
    .await
    .map(drop)
}

/// Locks a device out and notes who did so; returns whether it was not locked out before.
pub(crate) async fn lock_out(
    tx: &mut SystemTx,
    tenant: TenantId,
    actor: Option<(Uuid, Uuid)>,
    id: DeviceId,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let (tenant_id, device) = (tenant.get(), id.get());
    let params: [Param<'_>; 3] = [
        (&tenant_id, Type::UUID),
        (&device, Type::UUID),
        (&now, Type::TIMESTAMPTZ),
    ];
    if tx.execute(REVOKE, &params).await? == 0 {
        return Ok(false);
    }
    let logins = tx.execute(END_LOGINS, &params).await?;
    let entry = Entry {
        at: now,
        action: "revoked",
        resource_type: Some("device"),
        resource_id: Some(id.to_string()),
        detail: json!({ "refresh_tokens": logins }),
    };
    let (user, by) = actor.unzip();
    audit::record_for(tx, tenant, user, by, &entry).await?;
    Ok(true)
}

/// What became of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registration {
    /// The device has this id, the proposed one or a new one.
    Registered(DeviceId),
    /// The device is locked out.
    Revoked,
}

/// Registers the device of `user`. The proposed id is taken unless somebody else holds it.
pub(crate) async fn register(
    tx: &mut SystemTx,
    tenant: TenantId,
    user: Uuid,
    info: &DeviceInfo,
    now: DateTime<Utc>,
) -> Result<Registration, StoreError> {
    let mut id = match info.id {
        Some(id) => id.get(),
        None => random_uuid()?,
    };
    let holders = tx.query(HOLDERS, &[(&id, Type::UUID)]).await?;
    let mut own = false;
    let mut foreign = false;
    for row in &holders {
        let holder: (Uuid, Uuid) = (row.try_get(0)?, row.try_get(1)?);
        let revoked: Option<DateTime<Utc>> = row.try_get(2)?;
        if holder != (tenant.get(), user) {
            foreign = true;
        } else if revoked.is_some() {
            return Ok(Registration::Revoked);
        } else {
            own = true;
        }
    }
    if own {
        write(tx, SEEN_AT_LOGIN, tenant, id, now, info).await?;
        return Ok(Registration::Registered(DeviceId::new(id)));
    }
    if foreign || !insert(tx, tenant, id, user, now, info).await? {
        id = random_uuid()?;
        insert(tx, tenant, id, user, now, info).await?;
    }
    Ok(Registration::Registered(DeviceId::new(id)))
}

/// Notes that the device was heard of at `now`.
pub(crate) async fn heard_of(
    tx: &mut SystemTx,
    tenant: TenantId,
    id: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let tenant = tenant.get();
    let params: [Param<'_>; 3] = [
        (&tenant, Type::UUID),
        (&id, Type::UUID),
        (&now, Type::TIMESTAMPTZ),
    ];
    tx.execute(SEEN, &params).await.map(drop)
}

async fn insert(
    tx: &mut SystemTx,
    tenant: TenantId,
    id: Uuid,
    user: Uuid,
    now: DateTime<Utc>,
    info: &DeviceInfo,
) -> Result<bool, StoreError> {
    let row = tx
        .query_opt(
            REGISTER,
            &[
                (&tenant.get(), Type::UUID),
                (&id, Type::UUID),
                (&user, Type::UUID),
                (&info.name, Type::TEXT),
                (&info.hardware_id, Type::TEXT),
                (&now, Type::TIMESTAMPTZ),
            ],
        )
        .await?;
    Ok(row.is_some())
}

async fn write(
    tx: &mut SystemTx,
    sql: &str,
    tenant: TenantId,
    id: Uuid,
    now: DateTime<Utc>,
    info: &DeviceInfo,
) -> Result<(), StoreError> {
    tx.execute(
        sql,
        &[
            (&tenant.get(), Type::UUID),
            (&id, Type::UUID),
            (&now, Type::TIMESTAMPTZ),
            (&info.name, Type::TEXT),
            (&info.hardware_id, Type::TEXT),
        ],
    )
    .await
    .map(drop)
}

fn device(row: &Row) -> Result<Device, StoreError> {
    Ok(Device {
        id: DeviceId::new(row.try_get(0)?),
        user_id: row.try_get(1)?,
        name: row.try_get(2)?,
        created_at: row.try_get(3)?,
        last_seen_at: row.try_get(4)?,
        revoked_at: row.try_get(5)?,
    })
}
