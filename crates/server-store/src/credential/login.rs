//! Logins: a licence key, a password or a refresh token becomes a pair of tokens.
//!
//! A refresh token is good for one use. Presenting it again within a minute is taken for a lost
//! reply; later it is taken for a stolen token, and the whole login ends.

use chrono::{DateTime, TimeDelta, Utc};
use coditect_protocol::wire::auth::DeviceInfo;
use coditect_protocol::{DeviceId, OrganizationId, UserId};
use serde_json::json;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::password::verify_password;
use super::{
    ACCESS_TOKEN_SECONDS, Caller, KeyKind, OpaqueKey, SecretError, Secrets, TenantId, random_uuid,
};
use crate::StoreError;
use crate::audit::{self, Entry};
use crate::db::{Db, Param, Retryable, SystemTask, SystemTx};
use crate::devices::{self, Registration};
use crate::erasure::{self, Erased};
use crate::identity::Role;

/// How long a refresh token is valid, in days.
pub const REFRESH_TOKEN_DAYS: i64 = 7;
/// How long a used refresh token may be presented again because the reply was lost.
const LOST_REPLY: TimeDelta = TimeDelta::seconds(60);

/// What a login gives.
#[derive(Debug, Clone)]
pub struct TokenPair {
    /// Who logged in.
    pub caller: Caller,
    /// JWT to send as bearer.
    pub access_token: String,
    /// Seconds until the access token ends.
    pub expires_in: u64,
    /// Text for the next pair.
    pub refresh_token: String,
}

/// An organisation that a person may log in to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantChoice {
    /// Its id.
    pub tenant_id: OrganizationId,
    /// Its name.
    pub name: String,
}

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The credential is unknown, wrong, expired or revoked, or the member is not active.
    #[error("the credential is not accepted")]
    Denied,
    /// The person belongs to several organisations and named none.
    #[error("the person belongs to several organisations")]
    Ambiguous(Vec<TenantChoice>),
    /// The device was locked out by an administrator.
    #[error("the device is revoked")]
    DeviceRevoked,
    /// The account was erased.
    #[error("the account was erased")]
    Erased(Erased),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<SecretError> for LoginError {
    fn from(error: SecretError) -> Self {
        Self::Store(error.into())
    }
}

impl From<tokio_postgres::Error> for LoginError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Retryable for LoginError {
    fn is_retry(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retry())
    }
}

/// The active member that a credential belongs to.
#[derive(Debug, Clone, Copy)]
struct Member {
    tenant: TenantId,
    user: Uuid,
    role: Role,
}

const LICENSE: &str = "select l.user_id, l.secret_hash, l.expires_at, l.revoked_at, m.role
    from licenses l
    join memberships m on m.tenant_id = l.tenant_id and m.user_id = l.user_id and m.active
    join tenants t on t.tenant_id = l.tenant_id and t.suspended_at is null
    where l.tenant_id = $1 and l.id = $2";

/// Logs in with a licence key and registers the device.
///
/// # Errors
///
/// [`LoginError::Denied`], [`LoginError::DeviceRevoked`] or [`LoginError::Store`].
pub async fn login_with_license(
    db: &Db,
    secrets: &Secrets,
    license_key: &str,
    device: &DeviceInfo,
    now: DateTime<Utc>,
) -> Result<TokenPair, LoginError> {
    let key = &OpaqueKey::parse(KeyKind::License, license_key).ok_or(LoginError::Denied)?;
    db.system(SystemTask::Authenticate, |mut tx| async move {
        use_license(&mut tx, secrets, key, device, now).await
    })
    .await?
}

async fn use_license(
    tx: &mut SystemTx,
    secrets: &Secrets,
    key: &OpaqueKey,
    device: &DeviceInfo,
    now: DateTime<Utc>,
) -> Result<Result<TokenPair, LoginError>, LoginError> {
    let params: [Param<'_>; 2] = [(&key.tenant, Type::UUID), (&key.id, Type::UUID)];
    let Some(row) = tx.query_opt(LICENSE, &params).await? else {
        return Ok(Err(LoginError::Denied));
    };
    let hash: Vec<u8> = row.try_get(1)?;
    if !key.has_hash(&hash) {
        return Ok(Err(LoginError::Denied));
    }
    let user: Uuid = row.try_get(0)?;
    let tenant = TenantId::new(key.tenant);
    let expires: Option<DateTime<Utc>> = row.try_get(2)?;
    let revoked: Option<DateTime<Utc>> = row.try_get(3)?;
    let over = revoked.is_some() || expires.is_some_and(|expires| expires <= now);
    if over {
        deny(tx, tenant, Some(user), "license", now).await?;
        return Ok(Err(LoginError::Denied));
    }
    let role = role_of(row.try_get(4)?)?;
    let member = Member { tenant, user, role };
    open_login(tx, secrets, member, device, "license", now).await
}

const PASSWORD: &str = "select l.password_hash, m.tenant_id, m.user_id, m.role, t.name
    from logins l
    left join tenant_logins tl on tl.email = l.email
    left join memberships m on m.tenant_id = tl.tenant_id and m.user_id = tl.user_id and m.active
    left join tenants t on t.tenant_id = m.tenant_id and t.suspended_at is null
    where l.email = $1 order by t.name, t.tenant_id";

/// Logs in with e-mail and password, into `tenant` when it is named, and registers the device.
///
/// # Errors
///
/// As [`login_with_license`], and [`LoginError::Ambiguous`] when the person belongs to several
/// organisations and named none; only the right password gets that far.
pub async fn login_with_password(
    db: &Db,
    secrets: &Secrets,
    credentials: (&str, &str),
    tenant: Option<OrganizationId>,
    device: &DeviceInfo,
    now: DateTime<Utc>,
) -> Result<TokenPair, LoginError> {
    let (email, password) = (&normal_email(credentials.0), credentials.1.to_owned());
    let (hash, members) = db
        .system(SystemTask::Authenticate, |mut tx| async move {
            members_of(&mut tx, email).await
        })
        .await?;
    let right = verify_password(password, hash).await?;
    let members = &members;
    let chosen: Vec<&(Member, String)> = members
        .iter()
        .filter(|(member, _)| tenant.is_none_or(|wanted| member.tenant.get() == wanted.get()))
        .collect();
    if !right {
        db.system(SystemTask::Authenticate, |mut tx| async move {
            for (member, _) in members {
                deny(&mut tx, member.tenant, Some(member.user), "password", now).await?;
            }
            Ok::<_, StoreError>(())
        })
        .await?;
        return Err(LoginError::Denied);
    }
    let member = match chosen.as_slice() {
        [] => return Err(LoginError::Denied),
        [(member, _)] => *member,
        several => {
            let choice = |(member, name): &&(Member, String)| TenantChoice {
                tenant_id: member.tenant.organization(),
                name: name.clone(),
            };
            return Err(LoginError::Ambiguous(several.iter().map(choice).collect()));
        }
    };
    db.system(SystemTask::Authenticate, |mut tx| async move {
        open_login(&mut tx, secrets, member, device, "password", now).await
    })
    .await?
}

/// Returns the password's hash and the active memberships behind an e-mail address.
async fn members_of(
    tx: &mut SystemTx,
    email: &str,
) -> Result<(Option<String>, Vec<(Member, String)>), StoreError> {
    // PostgreSQL's text cannot hold one, so that no account has such an address.
    if email.contains('\0') {
        return Ok((None, Vec::new()));
    }
    let rows = tx.query(PASSWORD, &[(&email, Type::TEXT)]).await?;
    let Some(first) = rows.first() else {
        return Ok((None, Vec::new()));
    };
    let hash: String = first.try_get(0)?;
    let mut members = Vec::new();
    for row in &rows {
        let name: Option<String> = row.try_get(4)?;
        let Some(name) = name else { continue };
        let tenant = TenantId::new(row.try_get(1)?);
        let member = Member {
            tenant,
            user: row.try_get(2)?,
            role: role_of(row.try_get(3)?)?,
        };
        members.push((member, name));
    }
    Ok((Some(hash), members))
}

const REFRESH: &str = "select r.family, r.user_id, r.device_id, r.secret_hash, r.expires_at,
    r.used_at, r.revoked_at, m.role, d.revoked_at
    from refresh_tokens r
    join devices d on d.tenant_id = r.tenant_id and d.id = r.device_id
    join memberships m on m.tenant_id = r.tenant_id and m.user_id = r.user_id and m.active
    join tenants t on t.tenant_id = r.tenant_id and t.suspended_at is null
    where r.tenant_id = $1 and r.id = $2";
const LOCK_TOKEN: &str =
    "select id from refresh_tokens where tenant_id = $1 and id = $2 for update";
const USE: &str = "update refresh_tokens set used_at = coalesce(used_at, $3)
    where tenant_id = $1 and id = $2";
const REVOKE_FAMILY: &str = "update refresh_tokens set revoked_at = coalesce(revoked_at, $3)
    where tenant_id = $1 and family = $2";

/// Gives a new pair for a refresh token, which is used up by that.
///
/// # Errors
///
/// As [`login_with_license`], and [`LoginError::Erased`] for a token of an erased account.
pub async fn refresh(
    db: &Db,
    secrets: &Secrets,
    refresh_token: &str,
    now: DateTime<Utc>,
) -> Result<TokenPair, LoginError> {
    let key = &OpaqueKey::parse(KeyKind::Refresh, refresh_token).ok_or(LoginError::Denied)?;
    db.system(SystemTask::Authenticate, |mut tx| async move {
        use_refresh_token(&mut tx, secrets, key, now).await
    })
    .await?
}

async fn use_refresh_token(
    tx: &mut SystemTx,
    secrets: &Secrets,
    key: &OpaqueKey,
    now: DateTime<Utc>,
) -> Result<Result<TokenPair, LoginError>, LoginError> {
    let params: [Param<'_>; 2] = [(&key.tenant, Type::UUID), (&key.id, Type::UUID)];
    tx.query(LOCK_TOKEN, &params).await?;
    let Some(row) = tx.query_opt(REFRESH, &params).await? else {
        let erased = erasure::erased_login(tx, key).await?;
        return Ok(Err(erased.map_or(LoginError::Denied, LoginError::Erased)));
    };
    let hash: Vec<u8> = row.try_get(3)?;
    let expires: DateTime<Utc> = row.try_get(4)?;
    let used: Option<DateTime<Utc>> = row.try_get(5)?;
    let revoked: Option<DateTime<Utc>> = row.try_get(6)?;
    if !key.has_hash(&hash) {
        return Ok(Err(LoginError::Denied));
    }
    // Before the rest: the holder of a genuine token is told why it ended.
    let device_revoked: Option<DateTime<Utc>> = row.try_get(8)?;
    if device_revoked.is_some() {
        return Ok(Err(LoginError::DeviceRevoked));
    }
    if revoked.is_some() || expires <= now {
        return Ok(Err(LoginError::Denied));
    }
    let family: Uuid = row.try_get(0)?;
    let (user, device): (Uuid, Uuid) = (row.try_get(1)?, row.try_get(2)?);
    let tenant = TenantId::new(key.tenant);
    if used.is_some_and(|used| now - used > LOST_REPLY) {
        revoke_family(tx, tenant, family, now).await?;
        deny(tx, tenant, Some(user), "refresh token used twice", now).await?;
        return Ok(Err(LoginError::Denied));
    }
    tx.execute(
        USE,
        &[
            params[0].clone(),
            params[1].clone(),
            (&now, Type::TIMESTAMPTZ),
        ],
    )
    .await?;
    devices::heard_of(tx, tenant, device, now).await?;
    let member = Member {
        tenant,
        user,
        role: role_of(row.try_get(7)?)?,
    };
    Ok(Ok(token_pair(
        tx,
        secrets,
        member,
        DeviceId::new(device),
        family,
        now,
    )
    .await?))
}

const FAMILY: &str = "select family, secret_hash from refresh_tokens
    where tenant_id = $1 and id = $2";

/// Ends the login that `refresh_token` belongs to. An unknown token is no error.
///
/// # Errors
///
/// Those of the database.
pub async fn log_out(db: &Db, refresh_token: &str, now: DateTime<Utc>) -> Result<(), StoreError> {
    let Some(key) = OpaqueKey::parse(KeyKind::Refresh, refresh_token) else {
        return Ok(());
    };
    let key = &key;
    db.system(SystemTask::Authenticate, |mut tx| async move {
        let params: [Param<'_>; 2] = [(&key.tenant, Type::UUID), (&key.id, Type::UUID)];
        let Some(row) = tx.query_opt(FAMILY, &params).await? else {
            return Ok(());
        };
        let hash: Vec<u8> = row.try_get(1)?;
        if key.has_hash(&hash) {
            revoke_family(&mut tx, TenantId::new(key.tenant), row.try_get(0)?, now).await?;
        }
        Ok(())
    })
    .await
}

/// Registers the device of a member and gives the first pair of a login.
async fn open_login(
    tx: &mut SystemTx,
    secrets: &Secrets,
    member: Member,
    device: &DeviceInfo,
    method: &str,
    now: DateTime<Utc>,
) -> Result<Result<TokenPair, LoginError>, LoginError> {
    let (tenant, user) = (member.tenant, member.user);
    let device = match devices::register(tx, tenant, user, device, now).await? {
        Registration::Registered(device) => device,
        Registration::Revoked => {
            deny(tx, tenant, Some(user), "device revoked", now).await?;
            return Ok(Err(LoginError::DeviceRevoked));
        }
    };
    let entry = Entry {
        at: now,
        action: "login",
        resource_type: Some("device"),
        resource_id: Some(device.to_string()),
        detail: json!({ "method": method }),
    };
    audit::record_for(tx, tenant, Some(user), Some(device.get()), &entry).await?;
    let family = random_uuid()?;
    Ok(Ok(
        token_pair(tx, secrets, member, device, family, now).await?
    ))
}

const INSERT_TOKEN: &str = "insert into refresh_tokens
    (tenant_id, id, family, user_id, device_id, secret_hash, issued_at, expires_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8)";

async fn token_pair(
    tx: &mut SystemTx,
    secrets: &Secrets,
    member: Member,
    device_id: DeviceId,
    family: Uuid,
    now: DateTime<Utc>,
) -> Result<TokenPair, LoginError> {
    let key = OpaqueKey::generate(member.tenant.get())?;
    let expires = now + TimeDelta::days(REFRESH_TOKEN_DAYS);
    tx.execute(
        INSERT_TOKEN,
        &[
            (&key.tenant, Type::UUID),
            (&key.id, Type::UUID),
            (&family, Type::UUID),
            (&member.user, Type::UUID),
            (&device_id.get(), Type::UUID),
            (&key.secret_hash(), Type::BYTEA),
            (&now, Type::TIMESTAMPTZ),
            (&expires, Type::TIMESTAMPTZ),
        ],
    )
    .await?;
    let user_id = UserId::new(member.user);
    let caller = Caller {
        tenant: member.tenant,
        user_id,
        device_id,
        role: member.role,
        checked: true,
    };
    Ok(TokenPair {
        access_token: secrets.issue(&caller, now)?,
        expires_in: ACCESS_TOKEN_SECONDS,
        refresh_token: key.text(KeyKind::Refresh),
        caller,
    })
}

async fn revoke_family(
    tx: &mut SystemTx,
    tenant: TenantId,
    family: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let tenant = tenant.get();
    let params: [Param<'_>; 3] = [
        (&tenant, Type::UUID),
        (&family, Type::UUID),
        (&now, Type::TIMESTAMPTZ),
    ];
    tx.execute(REVOKE_FAMILY, &params).await.map(drop)
}

/// Notes a denied login in the tenant's audit trail.
async fn deny(
    tx: &mut SystemTx,
    tenant: TenantId,
    user: Option<Uuid>,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let entry = Entry {
        at: now,
        action: "login_denied",
        resource_type: None,
        resource_id: None,
        detail: json!({ "reason": reason }),
    };
    audit::record_for(tx, tenant, user, None, &entry).await
}

/// Returns the form of an e-mail address that logins are compared in.
#[must_use]
pub fn normal_email(email: &str) -> String {
    email.trim().to_lowercase()
}

fn role_of(name: Option<&str>) -> Result<Role, StoreError> {
    name.and_then(Role::parse)
        .ok_or_else(|| StoreError::Corrupt {
            table: "memberships",
            row: "role".to_owned(),
        })
}
