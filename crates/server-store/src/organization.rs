//! The caller's organisation and its members, as the caller works on them.

use chrono::{DateTime, Utc};
use coditect_protocol::{Scope, UserId};
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::StoreError;
use crate::db::{Param, TenantTx};
use crate::identity::Role;
use crate::memberships;
use crate::scopes::note;

const NAME: &str = "select name from tenants where tenant_id = $1";
const MEMBERS: &str = "select m.user_id, u.email, m.role, m.permissions, m.active, m.created_at
    from memberships m join users u on u.tenant_id = m.tenant_id and u.id = m.user_id
    where m.tenant_id = $1 and u.tenant_id = $1 order by u.email";
const MEMBER: &str = "select m.user_id, u.email, m.role, m.permissions, m.active, m.created_at
    from memberships m join users u on u.tenant_id = m.tenant_id and u.id = m.user_id
    where m.tenant_id = $1 and u.tenant_id = $1 and m.user_id = $2";
const OWNERS: &str = "select user_id from memberships
    where tenant_id = $1 and role = 'owner' and active order by user_id for update";
const SET: &str = "update memberships set role = coalesce($3, role),
    permissions = coalesce($4, permissions) where tenant_id = $1 and user_id = $2 and active";
const DEACTIVATE: &str = "update memberships set active = false
    where tenant_id = $1 and user_id = $2 and active";
const LEAVE_SCOPES: &str = "delete from scope_members where tenant_id = $1 and user_id = $2";
/// Teams and projects of which the person is the only owner.
const ALONE: &str = "select from scope_members m where m.tenant_id = $1 and m.user_id = $2
    and m.role = 'owner' and not exists (select from scope_members o where o.tenant_id = $1
    and o.scope_id = m.scope_id and o.role = 'owner' and o.user_id <> $2) limit 1";

/// A member of the organisation.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The person.
    pub user_id: UserId,
    /// E-mail address.
    pub email: String,
    /// Role.
    pub role: Role,
    /// What was granted or denied besides.
    pub permissions: Value,
    /// Whether the person may log in.
    pub active: bool,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Returns the organisation's name.
///
/// # Errors
///
/// Those of the database.
pub async fn name(tx: &mut TenantTx) -> Result<String, StoreError> {
    let tenant = tx.tenant().get();
    let row = tx.query_opt(NAME, &[(&tenant, Type::UUID)]).await?;
    Ok(row.ok_or(StoreError::NotFound)?.try_get(0)?)
}

/// Returns all members, those who were removed too, by e-mail address.
///
/// # Errors
///
/// Those of the database.
pub async fn members(tx: &mut TenantTx) -> Result<Vec<Member>, StoreError> {
    let tenant = tx.tenant().get();
    let rows = tx.query(MEMBERS, &[(&tenant, Type::UUID)]).await?;
    rows.iter().map(member).collect()
}

/// Returns a member.
///
/// # Errors
///
/// [`StoreError::NotFound`] when the organisation has no such person.
pub async fn find(tx: &mut TenantTx, user: UserId) -> Result<Member, StoreError> {
    let (tenant, id) = (tx.tenant().get(), user.get());
    let params: [Param<'_>; 2] = [(&tenant, Type::UUID), (&id, Type::UUID)];
    let row = tx.query_opt(MEMBER, &params).await?;
    member(&row.ok_or(StoreError::NotFound)?)
}

/// Returns the active owners and holds their rows until the transaction ends.
///
/// # Errors
///
/// Those of the database.
pub async fn lock_owners(tx: &mut TenantTx) -> Result<Vec<UserId>, StoreError> {
    let tenant = tx.tenant().get();
    let rows = tx.query(OWNERS, &[(&tenant, Type::UUID)]).await?;
    rows.iter()
        .map(|row| Ok(UserId::new(row.try_get(0)?)))
        .collect()
}

/// Returns whether a team or project would have no owner without the person.
///
/// # Errors
///
/// Those of the database.
pub async fn owns_alone(tx: &mut TenantTx, user: UserId) -> Result<bool, StoreError> {
    let (tenant, id) = (tx.tenant().get(), user.get());
    let params: [Param<'_>; 2] = [(&tenant, Type::UUID), (&id, Type::UUID)];
    Ok(tx.query_opt(ALONE, &params).await?.is_some())
}

/// Gives an active member another role, or other grants; what is none stays.
///
/// # Errors
///
/// [`StoreError::NotFound`] when there is none that the caller may change.
pub async fn set(
    tx: &mut TenantTx,
    user: UserId,
    role: Option<Role>,
    permissions: Option<&Value>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (tenant, id) = (tx.tenant().get(), user.get());
    let role_text = role.map(Role::as_str);
    let params: [Param<'_>; 4] = [
        (&tenant, Type::UUID),
        (&id, Type::UUID),
        (&role_text, Type::TEXT),
        (&permissions, Type::JSONB),
    ];
    if tx.execute(SET, &params).await? == 0 {
        return Err(StoreError::NotFound);
    }
    let detail = json!({ "user_id": user, "role": role, "permissions": permissions });
    let organization = Scope::Org(tenant);
    note(tx, organization, "member_changed", detail, now).await
}

/// Removes a member from the organisation, and from all its teams and projects: no transaction
/// is opened for the person any more. What the person wrote stays.
///
/// # Errors
///
/// [`StoreError::NotFound`] when there is none that the caller may remove.
pub async fn remove(tx: &mut TenantTx, user: UserId, now: DateTime<Utc>) -> Result<(), StoreError> {
    let (tenant, id) = (tx.tenant().get(), user.get());
    let params: [Param<'_>; 2] = [(&tenant, Type::UUID), (&id, Type::UUID)];
    if tx.execute(DEACTIVATE, &params).await? == 0 {
        return Err(StoreError::NotFound);
    }
    let left = tx.execute(LEAVE_SCOPES, &params).await?;
    let detail = json!({ "user_id": user, "scopes": left });
    note(tx, Scope::Org(tenant), "member_removed", detail, now).await
}

fn member(row: &Row) -> Result<Member, StoreError> {
    Ok(Member {
        user_id: UserId::new(row.try_get(0)?),
        email: row.try_get(1)?,
        role: memberships::organization_role(row.try_get(2)?)?,
        permissions: row.try_get(3)?,
        active: row.try_get(4)?,
        since: row.try_get(5)?,
    })
}
