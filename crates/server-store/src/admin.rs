//! What the operator does from the command line: tenants, people, licences, the first start.
//!
//! Runs as system task, so tenants are named by plain ids here; no request reaches these
//! functions.

mod people;

use chrono::{DateTime, Utc};
use coditect_protocol::{DeviceId, OrganizationId, UserId};
use serde::Serialize;
use serde_json::json;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::audit::{self, Entry};
use crate::credential::{
    KeyKind, OpaqueKey, TenantId, generate_password, hash_password, normal_email, random_uuid,
};
use crate::db::{Db, SystemTask, SystemTx};
use crate::devices;
use crate::embedded::Recovered;
use crate::identity::Role;
pub use people::{Device, NewPassword, list_devices, reset_password, set_active};

/// A tenant as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tenant {
    /// Its id.
    pub tenant_id: OrganizationId,
    /// Its name; not unique.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A member as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The person's id in this tenant.
    pub user_id: UserId,
    /// E-mail address, lowercase.
    pub email: String,
    /// Role in the organisation.
    pub role: String,
    /// Whether the person may log in.
    pub active: bool,
}

/// A licence as the operator sees it, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct License {
    /// Its id.
    pub license_id: Uuid,
    /// Whose it is.
    pub user_id: UserId,
    /// When it was issued.
    pub created_at: DateTime<Utc>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A person who was just added.
#[derive(Debug, Clone, Serialize)]
pub struct CreatedUser {
    /// The person's id in this tenant.
    pub user_id: UserId,
    /// The generated password; `None` when the e-mail address already has one, which stays.
    pub password: Option<String>,
}

/// What the first start makes.
#[derive(Debug, Clone, Serialize)]
pub struct Bootstrap {
    /// The tenant `default`.
    pub tenant_id: OrganizationId,
    /// Its owner.
    pub user_id: UserId,
    /// The owner's e-mail address.
    pub email: String,
    /// The owner's password.
    pub password: String,
    /// The owner's licence key.
    pub license_key: String,
}

/// The entry of the trail about a recovered database that is served.
const RECOVERED: &str = "database.recovered";
const RECOVERY_NOTED: &str = "select exists (select from audit_log
    where tenant_id = $1 and action = 'database.recovered' and resource_id = $2)";
const INSERT_TENANT: &str = "insert into tenants (tenant_id, name, created_at) values ($1, $2, $3)";
const INSERT_SCOPE: &str = "insert into scopes (tenant_id, scope_id, kind, name, created_at)
    values ($1, $2, $3, $4, $5)";
const INSERT_STREAM: &str = "insert into streams (tenant_id, scope_id) values ($1, $2)";
const TENANTS: &str = "select tenant_id, name, created_at from tenants order by created_at, name";
const INSERT_LOGIN: &str = "insert into logins (email, password_hash, created_at, changed_at)
    values ($1, $2, $3, $3) on conflict do nothing returning email";
const INSERT_TENANT_LOGIN: &str = "insert into tenant_logins (email, tenant_id, user_id)
    values ($1, $2, $3)";
const INSERT_USER: &str = "insert into users (tenant_id, id, email, created_at)
    values ($1, $2, $3, $4)";
const INSERT_MEMBER: &str = "insert into memberships (tenant_id, user_id, role, created_at)
    values ($1, $2, $3, $4)";
const MEMBERS: &str = "select u.id, u.email, m.role, m.active from users u
    join memberships m on m.tenant_id = u.tenant_id and m.user_id = u.id
    where u.tenant_id = $1 order by u.email";
const SET_MEMBER: &str = "update memberships set role = $3, active = $4
    where tenant_id = $1 and user_id = $2";
const INSERT_LICENSE: &str = "insert into licenses
    (tenant_id, id, user_id, secret_hash, created_at) values ($1, $2, $3, $4, $5)";
const LICENSES: &str = "select id, user_id, created_at, revoked_at from licenses
    where tenant_id = $1 order by created_at";
const REVOKE_LICENSE: &str = "update licenses set revoked_at = $3
    where tenant_id = $1 and id = $2 and revoked_at is null";
const ANY_TENANT: &str = "select exists (select from tenants)";

/// Makes a tenant called `name`.
///
/// # Errors
///
/// Those of the database.
pub async fn create_tenant(
    db: &Db,
    name: &str,
    now: DateTime<Utc>,
) -> Result<OrganizationId, StoreError> {
    db.system(SystemTask::Administer, |mut tx| async move {
        insert_tenant(&mut tx, name, now).await
    })
    .await
}

/// Returns all tenants, oldest first.
///
/// # Errors
///
/// Those of the database.
pub async fn list_tenants(db: &Db) -> Result<Vec<Tenant>, StoreError> {
    db.system(SystemTask::Administer, |mut tx| async move {
        let rows = tx.query(TENANTS, &[]).await?;
        rows.iter()
            .map(|row| {
                let tenant_id = OrganizationId::new(row.try_get(0)?);
                Ok(Tenant {
                    tenant_id,
                    name: row.try_get(1)?,
                    created_at: row.try_get(2)?,
                })
            })
            .collect()
    })
    .await
}

/// Returns the tenant with the id or the unique name `wanted`.
///
/// # Errors
///
/// [`StoreError::NotFound`] when there is none, or several of that name.
pub async fn find_tenant(db: &Db, wanted: &str) -> Result<OrganizationId, StoreError> {
    let tenants = list_tenants(db).await?;
    let by_id = tenants
        .iter()
        .find(|tenant| tenant.tenant_id.to_string() == wanted);
    let mut by_name = tenants.iter().filter(|tenant| tenant.name == wanted);
    match (by_id, by_name.next(), by_name.next()) {
        (Some(tenant), _, _) | (None, Some(tenant), None) => Ok(tenant.tenant_id),
        _ => Err(StoreError::NotFound),
    }
}

/// Returns the member of `tenant` with the id or the e-mail address `wanted`.
///
/// # Errors
///
/// [`StoreError::NotFound`] when there is none.
pub async fn find_user(
    db: &Db,
    tenant: OrganizationId,
    wanted: &str,
) -> Result<UserId, StoreError> {
    let email = normal_email(wanted);
    let members = list_users(db, tenant).await?;
    let found = members
        .iter()
        .find(|member| member.user_id.to_string() == wanted || member.email == email);
    found
        .map(|member| member.user_id)
        .ok_or(StoreError::NotFound)
}

/// Adds a person to `tenant`, with a generated password unless the e-mail address has one.
///
/// # Errors
///
/// [`StoreError::Conflict`] when the person is a member already.
pub async fn create_user(
    db: &Db,
    tenant: OrganizationId,
    email: &str,
    role: Role,
    now: DateTime<Utc>,
) -> Result<CreatedUser, StoreError> {
    let password = generate_password()?;
    let hash = &hash_password(password.clone()).await?;
    let (user, new) = db
        .system(SystemTask::Administer, |mut tx| async move {
            insert_user(&mut tx, TenantId::new(tenant.get()), email, role, hash, now).await
        })
        .await?;
    Ok(CreatedUser {
        user_id: user,
        password: new.then_some(password),
    })
}

/// Returns the members of `tenant` by e-mail address.
///
/// # Errors
///
/// Those of the database.
pub async fn list_users(db: &Db, tenant: OrganizationId) -> Result<Vec<Member>, StoreError> {
    db.system(SystemTask::Administer, |mut tx| async move {
        let rows = tx.query(MEMBERS, &[(&tenant.get(), Type::UUID)]).await?;
        rows.iter()
            .map(|row| {
                let user_id = UserId::new(row.try_get(0)?);
                let (email, role) = (row.try_get(1)?, row.try_get(2)?);
                Ok(Member {
                    user_id,
                    email,
                    role,
                    active: row.try_get(3)?,
                })
            })
            .collect()
    })
    .await
}

/// Changes a member's role, or locks the member out.
///
/// # Errors
///
/// [`StoreError::NotFound`] when the person is no member.
pub async fn set_member(
    db: &Db,
    tenant: OrganizationId,
    user: UserId,
    role: Role,
    active: bool,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    db.system(SystemTask::Administer, |mut tx| async move {
        let changed = tx
            .execute(
                SET_MEMBER,
                &[
                    (&tenant.get(), Type::UUID),
                    (&user.get(), Type::UUID),
                    (&role.as_str(), Type::TEXT),
                    (&active, Type::BOOL),
                ],
            )
            .await?;
        if changed == 0 {
            return Err(StoreError::NotFound);
        }
        let detail = json!({ "role": role, "active": active });
        note(
            &mut tx,
            TenantId::new(tenant.get()),
            "member_changed",
            ("user", user.get()),
            detail,
            now,
        )
        .await
    })
    .await
}

/// Issues a licence to a member and returns its key, which is not stored.
///
/// # Errors
///
/// [`StoreError::Conflict`] when the person does not belong to `tenant`.
pub async fn issue_license(
    db: &Db,
    tenant: OrganizationId,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<String, StoreError> {
    db.system(SystemTask::Administer, |mut tx| async move {
        insert_license(&mut tx, TenantId::new(tenant.get()), user, now).await
    })
    .await
}

/// Returns the licences of `tenant`, oldest first.
///
/// # Errors
///
/// Those of the database.
pub async fn list_licenses(db: &Db, tenant: OrganizationId) -> Result<Vec<License>, StoreError> {
    db.system(SystemTask::Administer, |mut tx| async move {
        let rows = tx.query(LICENSES, &[(&tenant.get(), Type::UUID)]).await?;
        rows.iter()
            .map(|row| {
                let (license_id, user_id) = (row.try_get(0)?, UserId::new(row.try_get(1)?));
                let (created_at, revoked_at) = (row.try_get(2)?, row.try_get(3)?);
                Ok(License {
                    license_id,
                    user_id,
                    created_at,
                    revoked_at,
                })
            })
            .collect()
    })
    .await
}

/// Revokes a licence: its key opens no new login. Logins that it opened go on; revoking their
/// devices ends them.
///
/// # Errors
///
/// [`StoreError::NotFound`] when there is no such valid licence.
pub async fn revoke_license(
    db: &Db,
    tenant: OrganizationId,
    license: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    revoke(db, tenant, REVOKE_LICENSE, "license", license, now).await
}

/// Locks a device out: it gets neither tokens nor data any more.
///
/// # Errors
///
/// [`StoreError::NotFound`] when there is no such device that is not locked out yet.
pub async fn revoke_device(
    db: &Db,
    tenant: OrganizationId,
    device: DeviceId,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    db.system(SystemTask::Administer, |mut tx| async move {
        let tenant = TenantId::new(tenant.get());
        if devices::lock_out(&mut tx, tenant, None, device, now).await? {
            Ok(())
        } else {
            Err(StoreError::NotFound)
        }
    })
    .await
}

/// Notes in every tenant's trail that the key that signs access tokens was replaced.
///
/// # Errors
///
/// Those of the database.
pub async fn note_key_rotation(
    db: &Db,
    key_id: &str,
    at_once: bool,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let tenants = &list_tenants(db).await?;
    db.system(SystemTask::Administer, |mut tx| async move {
        for tenant in tenants {
            let entry = Entry {
                at: now,
                action: "key_rotated",
                resource_type: Some("signing_key"),
                resource_id: Some(key_id.to_owned()),
                detail: json!({ "at_once": at_once }),
            };
            let tenant = TenantId::new(tenant.tenant_id.get());
            audit::record_for(&mut tx, tenant, None, None, &entry).await?;
        }
        Ok(())
    })
    .await
}

/// Notes in every tenant's trail that the database was recovered from an archive and is served from
/// now on; once, however often it is called.
///
/// # Errors
///
/// Those of the database.
pub async fn note_recovery(
    db: &Db,
    recovered: &Recovered,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let tenants = &list_tenants(db).await?;
    let id = &recovered.id.to_string();
    let detail = &serde_json::to_value(recovered).map_err(|_| StoreError::Aborted)?;
    db.system(SystemTask::Administer, |mut tx| async move {
        for tenant in tenants {
            let tenant = TenantId::new(tenant.tenant_id.get());
            let params = [(&tenant.get() as _, Type::UUID), (id as _, Type::TEXT)];
            let known = tx.query_opt(RECOVERY_NOTED, &params).await?;
            if known.ok_or(StoreError::NotFound)?.try_get(0)? {
                continue;
            }
            let entry = Entry {
                at: now,
                action: RECOVERED,
                resource_type: Some("database"),
                resource_id: Some(id.clone()),
                detail: detail.clone(),
            };
            audit::record_for(&mut tx, tenant, None, None, &entry).await?;
        }
        Ok(())
    })
    .await
}

/// Makes the tenant `default` with an owner and a licence, unless there is a tenant already.
///
/// # Errors
///
/// Those of the database.
pub async fn bootstrap(db: &Db, now: DateTime<Utc>) -> Result<Option<Bootstrap>, StoreError> {
    const EMAIL: &str = "owner@localhost";
    let password = generate_password()?;
    let hash = &hash_password(password.clone()).await?;
    let password = &password;
    db.system(SystemTask::Administer, |mut tx| async move {
        let exists = tx
            .query_opt(ANY_TENANT, &[])
            .await?
            .ok_or(StoreError::NotFound)?;
        if exists.try_get(0)? {
            return Ok(None);
        }
        let tenant_id = insert_tenant(&mut tx, "default", now).await?;
        let tenant = TenantId::new(tenant_id.get());
        let (user_id, _) = insert_user(&mut tx, tenant, EMAIL, Role::Owner, hash, now).await?;
        let license_key = insert_license(&mut tx, tenant, user_id, now).await?;
        let (email, password) = (EMAIL.to_owned(), password.clone());
        Ok(Some(Bootstrap {
            tenant_id,
            user_id,
            email,
            password,
            license_key,
        }))
    })
    .await
}

async fn insert_tenant(
    tx: &mut SystemTx,
    name: &str,
    now: DateTime<Utc>,
) -> Result<OrganizationId, StoreError> {
    let id = random_uuid()?;
    let params = [
        (
            &id as &(dyn tokio_postgres::types::ToSql + Sync),
            Type::UUID,
        ),
        (&name, Type::TEXT),
        (&now, Type::TIMESTAMPTZ),
    ];
    tx.execute(INSERT_TENANT, &params).await?;
    let tenant = TenantId::new(id);
    insert_scope(tx, tenant, id, ("org", Some(name)), now).await?;
    note(tx, tenant, "tenant_created", ("tenant", id), json!({}), now).await?;
    Ok(OrganizationId::new(id))
}

/// Makes a scope of the given kind and name, and its stream.
async fn insert_scope(
    tx: &mut SystemTx,
    tenant: TenantId,
    scope: Uuid,
    (kind, name): (&str, Option<&str>),
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let tenant = tenant.get();
    tx.execute(
        INSERT_SCOPE,
        &[
            (&tenant, Type::UUID),
            (&scope, Type::UUID),
            (&kind, Type::TEXT),
            (&name, Type::TEXT),
            (&now, Type::TIMESTAMPTZ),
        ],
    )
    .await?;
    tx.execute(
        INSERT_STREAM,
        &[(&tenant, Type::UUID), (&scope, Type::UUID)],
    )
    .await
    .map(drop)
}

/// Returns the new user's id and whether the password was taken.
pub(crate) async fn insert_user(
    tx: &mut SystemTx,
    tenant: TenantId,
    email: &str,
    role: Role,
    password_hash: &str,
    now: DateTime<Utc>,
) -> Result<(UserId, bool), StoreError> {
    let (email, id, tenant_id) = (normal_email(email), random_uuid()?, tenant.get());
    let login = tx
        .query_opt(
            INSERT_LOGIN,
            &[
                (&email, Type::TEXT),
                (&password_hash, Type::TEXT),
                (&now, Type::TIMESTAMPTZ),
            ],
        )
        .await?;
    tx.execute(
        INSERT_USER,
        &[
            (&tenant_id, Type::UUID),
            (&id, Type::UUID),
            (&email, Type::TEXT),
            (&now, Type::TIMESTAMPTZ),
        ],
    )
    .await?;
    tx.execute(
        INSERT_TENANT_LOGIN,
        &[
            (&email, Type::TEXT),
            (&tenant_id, Type::UUID),
            (&id, Type::UUID),
        ],
    )
    .await?;
    tx.execute(
        INSERT_MEMBER,
        &[
            (&tenant_id, Type::UUID),
            (&id, Type::UUID),
            (&role.as_str(), Type::TEXT),
            (&now, Type::TIMESTAMPTZ),
        ],
    )
    .await?;
    insert_scope(tx, tenant, id, ("user", None), now).await?;
    note(
        tx,
        tenant,
        "user_created",
        ("user", id),
        json!({ "role": role }),
        now,
    )
    .await?;
    Ok((UserId::new(id), login.is_some()))
}

async fn insert_license(
    tx: &mut SystemTx,
    tenant: TenantId,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<String, StoreError> {
    let key = OpaqueKey::generate(tenant.get())?;
    tx.execute(
        INSERT_LICENSE,
        &[
            (&key.tenant, Type::UUID),
            (&key.id, Type::UUID),
            (&user.get(), Type::UUID),
            (&key.secret_hash(), Type::BYTEA),
            (&now, Type::TIMESTAMPTZ),
        ],
    )
    .await?;
    let detail = json!({ "user_id": user });
    note(
        tx,
        tenant,
        "license_issued",
        ("license", key.id),
        detail,
        now,
    )
    .await?;
    Ok(key.text(KeyKind::License))
}

async fn revoke(
    db: &Db,
    tenant: OrganizationId,
    statement: &'static str,
    kind: &'static str,
    id: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    db.system(SystemTask::Administer, |mut tx| async move {
        let tenant_id = tenant.get();
        let params = [
            (
                &tenant_id as &(dyn tokio_postgres::types::ToSql + Sync),
                Type::UUID,
            ),
            (&id, Type::UUID),
            (&now, Type::TIMESTAMPTZ),
        ];
        if tx.execute(statement, &params).await? == 0 {
            return Err(StoreError::NotFound);
        }
        note(
            &mut tx,
            TenantId::new(tenant_id),
            "revoked",
            (kind, id),
            json!({}),
            now,
        )
        .await
    })
    .await
}

/// Notes an act of the operator in the tenant's audit trail.
async fn note(
    tx: &mut SystemTx,
    tenant: TenantId,
    action: &str,
    (kind, id): (&str, Uuid),
    detail: serde_json::Value,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let resource_id = Some(id.to_string());
    let entry = Entry {
        at: now,
        action,
        resource_type: Some(kind),
        resource_id,
        detail,
    };
    audit::record_for(tx, tenant, None, None, &entry).await
}
