//! What the operator does to people and devices that exist: locks out, lets in again, gives
//! another password.

use chrono::{DateTime, Utc};
use coditect_protocol::{DeviceId, OrganizationId, UserId};
use serde::Serialize;
use serde_json::json;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::note;
use crate::StoreError;
use crate::credential::{TenantId, generate_password, hash_password};
use crate::db::{Db, Param, SystemTask, SystemTx};

/// A device as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its id.
    pub device_id: DeviceId,
    /// The person who logged in on it.
    pub user_id: UserId,
    /// Name for people.
    pub name: Option<String>,
    /// When it logged in first.
    pub created_at: DateTime<Utc>,
    /// When it last logged in or renewed its tokens.
    pub last_seen_at: DateTime<Utc>,
    /// When it was locked out, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// What a reset gives.
#[derive(Debug, Clone, Serialize)]
pub struct NewPassword {
    /// The e-mail address that logs in with it.
    pub email: String,
    /// The generated password, which is not stored.
    pub password: String,
}

const SET_ACTIVE: &str = "update memberships set active = $3
    where tenant_id = $1 and user_id = $2";
const END_LOGINS: &str = "update refresh_tokens set revoked_at = $3
    where tenant_id = $1 and user_id = $2 and revoked_at is null";
const EMAIL: &str = "select email from users where tenant_id = $1 and id = $2";
const SET_PASSWORD: &str = "update logins set password_hash = $2, changed_at = $3
    where email = $1";
const MEMBERSHIPS: &str = "select tenant_id, user_id from tenant_logins
    where email = $1 order by tenant_id";
const DEVICES: &str = "select id, user_id, name, created_at, last_seen_at, revoked_at
    from devices where tenant_id = $1 order by created_at, id";

/// Locks a member out of the tenant and ends the logins there, or lets the member in again.
/// The role stays.
///
/// # Errors
///
/// [`StoreError::NotFound`] when the person is no member.
pub async fn set_active(
    db: &Db,
    tenant: OrganizationId,
    user: UserId,
    active: bool,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    db.system(SystemTask::Administer, |mut tx| async move {
        let (tenant_id, user_id) = (tenant.get(), user.get());
        let params: [Param<'_>; 3] = [
            (&tenant_id, Type::UUID),
            (&user_id, Type::UUID),
            (&active, Type::BOOL),
        ];
        if tx.execute(SET_ACTIVE, &params).await? == 0 {
            return Err(StoreError::NotFound);
        }
        let mut ended = 0;
        if !active {
            ended = end_logins(&mut tx, tenant_id, user_id, now).await?;
        }
        let detail = json!({ "active": active, "refresh_tokens": ended });
        let tenant = TenantId::new(tenant_id);
        note(
            &mut tx,
            tenant,
            "member_changed",
            ("user", user_id),
            detail,
            now,
        )
        .await
    })
    .await
}

/// Gives a person another generated password and ends all logins. The password belongs to the
/// e-mail address: it changes in every tenant of the person, and each tenant's trail says so.
///
/// # Errors
///
/// [`StoreError::NotFound`] when the person is no member of `tenant`.
pub async fn reset_password(
    db: &Db,
    tenant: OrganizationId,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<NewPassword, StoreError> {
    let password = generate_password()?;
    let hash = &hash_password(password.clone()).await?;
    let email = db
        .system(SystemTask::Administer, |mut tx| async move {
            let params: [Param<'_>; 2] = [(&tenant.get(), Type::UUID), (&user.get(), Type::UUID)];
            let row = tx.query_opt(EMAIL, &params).await?;
            let email: String = row.ok_or(StoreError::NotFound)?.try_get(0)?;
            let params: [Param<'_>; 3] = [
                (&email, Type::TEXT),
                (hash, Type::TEXT),
                (&now, Type::TIMESTAMPTZ),
            ];
            tx.execute(SET_PASSWORD, &params).await?;
            for row in tx.query(MEMBERSHIPS, &[(&email, Type::TEXT)]).await? {
                let (tenant, user): (Uuid, Uuid) = (row.try_get(0)?, row.try_get(1)?);
                let ended = end_logins(&mut tx, tenant, user, now).await?;
                let detail = json!({ "refresh_tokens": ended });
                let tenant = TenantId::new(tenant);
                note(
                    &mut tx,
                    tenant,
                    "password_reset",
                    ("user", user),
                    detail,
                    now,
                )
                .await?;
            }
            Ok::<_, StoreError>(email)
        })
        .await?;
    Ok(NewPassword { email, password })
}

/// Returns the devices of `tenant`, oldest first.
///
/// # Errors
///
/// Those of the database.
pub async fn list_devices(db: &Db, tenant: OrganizationId) -> Result<Vec<Device>, StoreError> {
    db.system(SystemTask::Administer, |mut tx| async move {
        let rows = tx.query(DEVICES, &[(&tenant.get(), Type::UUID)]).await?;
        rows.iter()
            .map(|row| {
                Ok(Device {
                    device_id: DeviceId::new(row.try_get(0)?),
                    user_id: UserId::new(row.try_get(1)?),
                    name: row.try_get(2)?,
                    created_at: row.try_get(3)?,
                    last_seen_at: row.try_get(4)?,
                    revoked_at: row.try_get(5)?,
                })
            })
            .collect()
    })
    .await
}

async fn end_logins(
    tx: &mut SystemTx,
    tenant: Uuid,
    user: Uuid,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let params: [Param<'_>; 3] = [
        (&tenant, Type::UUID),
        (&user, Type::UUID),
        (&now, Type::TIMESTAMPTZ),
    ];
    tx.execute(END_LOGINS, &params).await
}
