//! Members of teams and projects.

use chrono::{DateTime, Utc};
use coditect_protocol::permissions::ScopeRole;
use coditect_protocol::{Scope, UserId};
use serde_json::json;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::db::{Param, TenantTx};
use crate::memberships;
use crate::scopes::note;

const LIST: &str = "select m.user_id, u.email, m.role, m.created_at
    from scope_members m join users u on u.tenant_id = m.tenant_id and u.id = m.user_id
    where m.tenant_id = $1 and u.tenant_id = $1 and m.scope_id = $2 order by u.email";
const TEAMS: &str = "select l.team_id, t.name, l.role, l.created_at
    from project_teams l left join scopes t
    on t.tenant_id = l.tenant_id and t.scope_id = l.team_id and t.tenant_id = $1
    where l.tenant_id = $1 and l.scope_id = $2 order by t.name, l.team_id";
const ROLE: &str = "select role from scope_members
    where tenant_id = $1 and scope_id = $2 and user_id = $3";
/// The owners, held until the transaction ends: of two who leave at once, one sees that the
/// other is gone.
const OWNERS: &str = "select user_id from scope_members
    where tenant_id = $1 and scope_id = $2 and role = 'owner' order by user_id for update";
const PUT: &str = "insert into scope_members (tenant_id, scope_id, user_id, role, created_at)
    values ($1, $2, $3, $4, $5)
    on conflict (tenant_id, user_id, scope_id) do update set role = excluded.role";
const REMOVE: &str = "delete from scope_members
    where tenant_id = $1 and scope_id = $2 and user_id = $3";
const PUT_TEAM: &str = "insert into project_teams (tenant_id, scope_id, team_id, role, created_at)
    values ($1, $2, $3, $4, $5)
    on conflict (tenant_id, scope_id, team_id) do update set role = excluded.role";
const REMOVE_TEAM: &str = "delete from project_teams
    where tenant_id = $1 and scope_id = $2 and team_id = $3";
const IN_ORGANIZATION: &str = "select from memberships
    where tenant_id = $1 and user_id = $2 and active";

/// A member of a team or project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The person.
    pub user_id: UserId,
    /// E-mail address.
    pub email: String,
    /// Role there.
    pub role: ScopeRole,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// A team that is a member of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Team {
    /// The team.
    pub id: Uuid,
    /// Its name; none when the caller may not know of it.
    pub name: Option<String>,
    /// Role of its members in the project.
    pub role: ScopeRole,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Returns the members of a scope, by e-mail address.
///
/// # Errors
///
/// Those of the database.
pub async fn list(tx: &mut TenantTx, scope: Scope) -> Result<Vec<Member>, StoreError> {
    let (tenant, id) = (tx.tenant().get(), scope.id());
    let params: [Param<'_>; 2] = [(&tenant, Type::UUID), (&id, Type::UUID)];
    let rows = tx.query(LIST, &params).await?;
    rows.iter()
        .map(|row| {
            Ok(Member {
                user_id: UserId::new(row.try_get(0)?),
                email: row.try_get(1)?,
                role: memberships::scope_role(row.try_get(2)?)?,
                since: row.try_get(3)?,
            })
        })
        .collect()
}

/// Returns the teams that are members of a project, by name.
///
/// # Errors
///
/// Those of the database.
pub async fn teams(tx: &mut TenantTx, project: Scope) -> Result<Vec<Team>, StoreError> {
    let (tenant, id) = (tx.tenant().get(), project.id());
    let params: [Param<'_>; 2] = [(&tenant, Type::UUID), (&id, Type::UUID)];
    let rows = tx.query(TEAMS, &params).await?;
    rows.iter()
        .map(|row| {
            Ok(Team {
                id: row.try_get(0)?,
                name: row.try_get(1)?,
                role: memberships::scope_role(row.try_get(2)?)?,
                since: row.try_get(3)?,
            })
        })
        .collect()
}

/// Returns the role of a person in a scope, as a member of it.
///
/// # Errors
///
/// Those of the database.
pub async fn role_of(
    tx: &mut TenantTx,
    scope: Scope,
    user: UserId,
) -> Result<Option<ScopeRole>, StoreError> {
    let (tenant, id, user) = (tx.tenant().get(), scope.id(), user.get());
    let row = tx.query_opt(ROLE, &of(&tenant, &id, &user)).await?;
    row.map(|row| memberships::scope_role(row.try_get(0)?))
        .transpose()
}

/// Returns the owners of a scope and holds their rows until the transaction ends.
///
/// # Errors
///
/// Those of the database.
pub async fn lock_owners(tx: &mut TenantTx, scope: Scope) -> Result<Vec<UserId>, StoreError> {
    let (tenant, id) = (tx.tenant().get(), scope.id());
    let params: [Param<'_>; 2] = [(&tenant, Type::UUID), (&id, Type::UUID)];
    let rows = tx.query(OWNERS, &params).await?;
    rows.iter()
        .map(|row| Ok(UserId::new(row.try_get(0)?)))
        .collect()
}

/// Returns whether the person is an active member of the organisation.
///
/// # Errors
///
/// Those of the database.
pub async fn is_in_organization(tx: &mut TenantTx, user: UserId) -> Result<bool, StoreError> {
    let (tenant, user) = (tx.tenant().get(), user.get());
    let params: [Param<'_>; 2] = [(&tenant, Type::UUID), (&user, Type::UUID)];
    Ok(tx.query_opt(IN_ORGANIZATION, &params).await?.is_some())
}

/// Makes a person a member of a scope, or gives a member another role.
///
/// # Errors
///
/// [`StoreError::Conflict`] when the organisation has no such person, [`StoreError::Forbidden`].
pub async fn put(
    tx: &mut TenantTx,
    scope: Scope,
    user: UserId,
    role: ScopeRole,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    put_row(tx, PUT, scope, user.get(), role, now).await?;
    let detail = json!({ "user_id": user, "role": role });
    note(tx, scope, "member_changed", detail, now).await
}

/// Makes a team a member of a project, or gives it another role.
///
/// # Errors
///
/// As [`put`].
pub async fn put_team(
    tx: &mut TenantTx,
    project: Scope,
    team: Uuid,
    role: ScopeRole,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    put_row(tx, PUT_TEAM, project, team, role, now).await?;
    let detail = json!({ "team_id": team, "role": role });
    note(tx, project, "team_changed", detail, now).await
}

/// Removes a member from a scope.
///
/// # Errors
///
/// [`StoreError::NotFound`] when there is none that the caller may remove.
pub async fn remove(
    tx: &mut TenantTx,
    scope: Scope,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (tenant, id, person) = (tx.tenant().get(), scope.id(), user.get());
    if tx.execute(REMOVE, &of(&tenant, &id, &person)).await? == 0 {
        return Err(StoreError::NotFound);
    }
    note(tx, scope, "member_removed", json!({ "user_id": user }), now).await
}

/// Removes a team from a project.
///
/// # Errors
///
/// As [`remove`].
pub async fn remove_team(
    tx: &mut TenantTx,
    project: Scope,
    team: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (tenant, id) = (tx.tenant().get(), project.id());
    if tx.execute(REMOVE_TEAM, &of(&tenant, &id, &team)).await? == 0 {
        return Err(StoreError::NotFound);
    }
    note(tx, project, "team_removed", json!({ "team_id": team }), now).await
}

async fn put_row(
    tx: &mut TenantTx,
    sql: &'static str,
    scope: Scope,
    member: Uuid,
    role: ScopeRole,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (tenant, id, role) = (tx.tenant().get(), scope.id(), role.as_str());
    let mut params = Vec::from(of(&tenant, &id, &member));
    params.push((&role, Type::TEXT));
    params.push((&now, Type::TIMESTAMPTZ));
    tx.execute(sql, &params).await.map(drop)
}

fn of<'a>(tenant: &'a Uuid, scope: &'a Uuid, member: &'a Uuid) -> [Param<'a>; 3] {
    [
        (tenant, Type::UUID),
        (scope, Type::UUID),
        (member, Type::UUID),
    ]
}
