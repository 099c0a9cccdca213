//! Invitations into the organisation or a team: a secret that the invited person presents, of
//! which only the hash is kept.

use chrono::{DateTime, TimeDelta, Utc};
use coditect_protocol::permissions::ScopeRole;
use coditect_protocol::{OrganizationId, Scope, UserId};
use serde_json::json;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::admin;
use crate::audit::{self, Entry};
use crate::credential::{KeyKind, OpaqueKey, TenantId, hash_password, normal_email};
use crate::db::{Db, Param, Retryable, SystemTask, SystemTx, TenantTx};
use crate::identity::Role;
use crate::memberships;
use crate::scopes::note;

/// How long an invitation can be accepted, in days.
pub const INVITATION_DAYS: i64 = 7;
/// Most invitations in a list.
const LIST_MAX: i64 = 1_000;

const CREATE: &str = "insert into invitations
    (tenant_id, id, scope_id, email, role, secret_hash, invited_by, created_at, expires_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const LIST: &str = "select id, email, role, invited_by, created_at, expires_at, accepted_at,
    revoked_at from invitations where tenant_id = $1 and scope_id = $2
    order by created_at desc, id limit $3";
const REVOKE: &str = "update invitations set revoked_at = $4
    where tenant_id = $1 and scope_id = $2 and id = $3
    and accepted_at is null and revoked_at is null";
const HELD: &str = "select i.scope_id, s.kind, i.email, i.role, i.secret_hash, i.expires_at,
    i.revoked_at, i.accepted_by, s.archived_at is not null
    from invitations i
    join scopes s on s.tenant_id = i.tenant_id and s.scope_id = i.scope_id
    join tenants t on t.tenant_id = i.tenant_id and t.suspended_at is null
    where i.tenant_id = $1 and i.id = $2 and s.tenant_id = $1 and t.tenant_id = $1";
const LOCK: &str = "select from invitations where tenant_id = $1 and id = $2 for update";
const HAS_LOGIN: &str = "select from logins where email = $1";
const PERSON: &str = "select u.id, m.role, m.active from users u
    join memberships m on m.tenant_id = u.tenant_id and m.user_id = u.id
    where u.tenant_id = $1 and m.tenant_id = $1 and u.email = $2";
const REACTIVATE: &str = "update memberships set active = true, role = $3, permissions = '{}'
    where tenant_id = $1 and user_id = $2";
const JOIN: &str = "insert into scope_members (tenant_id, scope_id, user_id, role, created_at)
    values ($1, $2, $3, $4, $5) on conflict do nothing";
const MEMBER: &str = "select role from scope_members
    where tenant_id = $1 and scope_id = $2 and user_id = $3";
const ACCEPT: &str = "update invitations set accepted_at = $3, accepted_by = $4
    where tenant_id = $1 and id = $2";

/// An invitation, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its id.
    pub id: Uuid,
    /// Where to.
    pub scope: Scope,
    /// Whom.
    pub email: String,
    /// As what.
    pub role: String,
    /// Who invited.
    pub invited_by: UserId,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Until when it can be accepted.
    pub expires_at: DateTime<Utc>,
    /// When it was accepted, if it was.
    pub accepted_at: Option<DateTime<Utc>>,
    /// When it was taken back, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// What an accepted invitation gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The organisation.
    pub tenant_id: OrganizationId,
    /// The person.
    pub user_id: UserId,
    /// E-mail address to log in with.
    pub email: String,
    /// Where the person belongs now.
    pub scope: Scope,
    /// The role there.
    pub role: String,
}

/// Why an invitation was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The secret is none, or its invitation is over: expired, taken back, or accepted by
    /// somebody who was removed since.
    #[error("there is no such open invitation")]
    Unknown,
    /// The person has no password yet and gave none.
    #[error("the person has no password yet")]
    PasswordNeeded,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Retryable for AcceptError {
    fn is_retry(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retry())
    }
}

impl From<tokio_postgres::Error> for AcceptError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Invites a person and returns the invitation and its secret, which is not stored.
///
/// # Errors
///
/// [`StoreError::Forbidden`], those of the database.
pub async fn create(
    tx: &mut TenantTx,
    scope: Scope,
    email: &str,
    role: &str,
    now: DateTime<Utc>,
) -> Result<(Invitation, String), StoreError> {
    let key = OpaqueKey::generate(tx.tenant().get())?;
    let invitation = Invitation {
        id: key.id,
        scope,
        email: normal_email(email),
        role: role.to_owned(),
        invited_by: tx.caller().user_id(),
        created_at: now,
        expires_at: now + TimeDelta::days(INVITATION_DAYS),
        accepted_at: None,
        revoked_at: None,
    };
    let (scope_id, hash, by) = (scope.id(), key.secret_hash(), invitation.invited_by.get());
    let params: [Param<'_>; 9] = [
        (&key.tenant, Type::UUID),
        (&key.id, Type::UUID),
        (&scope_id, Type::UUID),
        (&invitation.email, Type::TEXT),
        (&role, Type::TEXT),
        (&hash, Type::BYTEA),
        (&by, Type::UUID),
        (&now, Type::TIMESTAMPTZ),
        (&invitation.expires_at, Type::TIMESTAMPTZ),
    ];
    tx.execute(CREATE, &params).await?;
    let detail = json!({ "invitation": key.id, "role": role });
    note(tx, scope, "invited", detail, now).await?;
    Ok((invitation, key.text(KeyKind::Invitation)))
}

/// Returns the invitations into a scope, the latest first, at most 1,000.
///
/// # Errors
///
/// Those of the database.
pub async fn list(tx: &mut TenantTx, scope: Scope) -> Result<Vec<Invitation>, StoreError> {
    let (tenant, id) = (tx.tenant().get(), scope.id());
    let params: [Param<'_>; 3] = [
        (&tenant, Type::UUID),
        (&id, Type::UUID),
        (&LIST_MAX, Type::INT8),
    ];
    let rows = tx.query(LIST, &params).await?;
    rows.iter()
        .map(|row| {
            Ok(Invitation {
                id: row.try_get(0)?,
                scope,
                email: row.try_get(1)?,
                role: row.try_get(2)?,
                invited_by: UserId::new(row.try_get(3)?),
                created_at: row.try_get(4)?,
                expires_at: row.try_get(5)?,
                accepted_at: row.try_get(6)?,
                revoked_at: row.try_get(7)?,
            })
        })
        .collect()
}

/// Takes an invitation back.
///
/// # Errors
///
/// [`StoreError::NotFound`] when there is none that is open.
pub async fn revoke(
    tx: &mut TenantTx,
    scope: Scope,
    id: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (tenant, scope_id) = (tx.tenant().get(), scope.id());
    let params: [Param<'_>; 4] = [
        (&tenant, Type::UUID),
        (&scope_id, Type::UUID),
        (&id, Type::UUID),
        (&now, Type::TIMESTAMPTZ),
    ];
    if tx.execute(REVOKE, &params).await? == 0 {
        return Err(StoreError::NotFound);
    }
    let detail = json!({ "invitation": id });
    note(tx, scope, "invitation_revoked", detail, now).await
}

/// Accepts an invitation for the person whose e-mail address it names: a member of the
/// organisation joins the team; a stranger joins the organisation, too, as a member, with
/// `password` unless the address has one. Accepting again changes nothing.
///
/// # Errors
///
/// [`AcceptError`].
pub async fn accept(
    db: &Db,
    secret: &str,
    password: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Accepted, AcceptError> {
    let key = &OpaqueKey::parse(KeyKind::Invitation, secret).ok_or(AcceptError::Unknown)?;
    // A hash takes time and memory on purpose: only for who holds the secret.
    let has_login = db
        .system(SystemTask::AcceptInvitation, |mut tx| async move {
            let held = Held::read(&mut tx, key, now).await?;
            let row = tx
                .query_opt(HAS_LOGIN, &[(&held.email, Type::TEXT)])
                .await?;
            Ok::<_, AcceptError>(row.is_some())
        })
        .await?;
    let hash = &match (has_login, password) {
        (true, _) => String::new(),
        (false, Some(password)) => hash_password(password.to_owned())
            .await
            .map_err(StoreError::from)?,
        (false, None) => return Err(AcceptError::PasswordNeeded),
    };
    db.system(SystemTask::AcceptInvitation, |mut tx| async move {
        let params: [Param<'_>; 2] = [(&key.tenant, Type::UUID), (&key.id, Type::UUID)];
        tx.query(LOCK, &params).await?;
        let held = Held::read(&mut tx, key, now).await?;
        held.accept(&mut tx, hash, now).await
    })
    .await
}

/// An invitation whose secret was presented.
#[derive(Debug)]
struct Held {
    tenant: TenantId,
    id: Uuid,
    scope: Scope,
    email: String,
    role: String,
    accepted_by: Option<Uuid>,
}

impl Held {
    async fn read(
        tx: &mut SystemTx,
        key: &OpaqueKey,
        now: DateTime<Utc>,
    ) -> Result<Self, AcceptError> {
        let params: [Param<'_>; 2] = [(&key.tenant, Type::UUID), (&key.id, Type::UUID)];
        let row = tx.query_opt(HELD, &params).await?;
        let row = row.ok_or(AcceptError::Unknown)?;
        let hash: Vec<u8> = row.try_get(4)?;
        let expires: DateTime<Utc> = row.try_get(5)?;
        let revoked: Option<DateTime<Utc>> = row.try_get(6)?;
        let (accepted_by, archived): (Option<Uuid>, bool) = (row.try_get(7)?, row.try_get(8)?);
        let over = revoked.is_some() || expires <= now || archived;
        if !key.has_hash(&hash) || over && accepted_by.is_none() {
            return Err(AcceptError::Unknown);
        }
        Ok(Self {
            tenant: TenantId::new(key.tenant),
            id: key.id,
            scope: memberships::scope_of(row.try_get(1)?, row.try_get(0)?)?,
            email: row.try_get(2)?,
            role: row.try_get(3)?,
            accepted_by,
        })
    }

    async fn accept(
        &self,
        tx: &mut SystemTx,
        password_hash: &str,
        now: DateTime<Utc>,
    ) -> Result<Accepted, AcceptError> {
        let tenant = self.tenant.get();
        let params: [Param<'_>; 2] = [(&tenant, Type::UUID), (&self.email, Type::TEXT)];
        let known = tx.query_opt(PERSON, &params).await?;
        let known: Option<Known> = known.as_ref().map(Known::read).transpose()?;
        if self.accepted_by.is_some() {
            return self.again(tx, known).await;
        }
        let user = match known {
            Some(known) if known.active => known.user,
            // Back again, with what the new invitation says.
            Some(known) => {
                let role = self.organization_role();
                let params: [Param<'_>; 3] = [
                    (&tenant, Type::UUID),
                    (&known.user, Type::UUID),
                    (&role, Type::TEXT),
                ];
                tx.execute(REACTIVATE, &params).await?;
                known.user
            }
            None => {
                let role = memberships::organization_role(self.organization_role())?;
                let (user, _) =
                    admin::insert_user(tx, self.tenant, &self.email, role, password_hash, now)
                        .await?;
                user.get()
            }
        };
        if let Scope::Team(team) = self.scope {
            let params: [Param<'_>; 5] = [
                (&tenant, Type::UUID),
                (&team, Type::UUID),
                (&user, Type::UUID),
                (&self.role, Type::TEXT),
                (&now, Type::TIMESTAMPTZ),
            ];
            tx.execute(JOIN, &params).await?;
        }
        let params: [Param<'_>; 4] = [
            (&tenant, Type::UUID),
            (&self.id, Type::UUID),
            (&now, Type::TIMESTAMPTZ),
            (&user, Type::UUID),
        ];
        tx.execute(ACCEPT, &params).await?;
        let entry = Entry {
            at: now,
            action: "invitation_accepted",
            resource_type: Some(self.scope.kind()),
            resource_id: Some(self.scope.id().to_string()),
            detail: json!({ "invitation": self.id, "role": self.role }),
        };
        audit::record_for(tx, self.tenant, Some(user), None, &entry).await?;
        self.outcome(tx, user).await
    }

    /// Returns the role in the organisation that a stranger gets.
    fn organization_role(&self) -> &str {
        match self.scope {
            Scope::Org(_) => &self.role,
            _ => Role::Member.as_str(),
        }
    }

    /// Answers the same secret again. Who was removed since does not come back by it.
    async fn again(
        &self,
        tx: &mut SystemTx,
        known: Option<Known>,
    ) -> Result<Accepted, AcceptError> {
        let same = known.filter(|known| known.active && Some(known.user) == self.accepted_by);
        let known = same.ok_or(AcceptError::Unknown)?;
        self.outcome(tx, known.user).await
    }

    /// Returns where the person belongs, with the role that is held there.
    async fn outcome(&self, tx: &mut SystemTx, user: Uuid) -> Result<Accepted, AcceptError> {
        let (tenant, scope) = (self.tenant.get(), self.scope.id());
        let role = match self.scope {
            Scope::Team(_) => {
                let params: [Param<'_>; 3] = [
                    (&tenant, Type::UUID),
                    (&scope, Type::UUID),
                    (&user, Type::UUID),
                ];
                let row = tx.query_opt(MEMBER, &params).await?;
                let row = row.ok_or(AcceptError::Unknown)?;
                memberships::scope_role(row.try_get(0)?)?;
                row.try_get(0)?
            }
            _ => {
                let params: [Param<'_>; 2] = [(&tenant, Type::UUID), (&self.email, Type::TEXT)];
                let row = tx.query_opt(PERSON, &params).await?;
                row.ok_or(AcceptError::Unknown)?.try_get(1)?
            }
        };
        Ok(Accepted {
            tenant_id: self.tenant.organization(),
            user_id: UserId::new(user),
            email: self.email.clone(),
            scope: self.scope,
            role,
        })
    }
}

/// A person of the organisation.
#[derive(Clone, Copy, Debug)]
struct Known {
    user: Uuid,
    active: bool,
}

impl Known {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            user: row.try_get(0)?,
            active: row.try_get(2)?,
        })
    }
}

/// Returns whether `role` can be given by an invitation into the scope.
#[must_use]
pub fn is_role_of(scope: Scope, role: &str) -> bool {
    match scope {
        Scope::Org(_) => Role::parse(role).is_some(),
        Scope::Team(_) => ScopeRole::parse(role).is_some_and(|role| role > ScopeRole::Viewer),
        _ => false,
    }
}
