//! Members of teams and projects, and teams as members of projects.

use coditect_protocol::permissions::{Permission, ScopeRole};
use coditect_protocol::wire::membership::{ScopeMember, ScopeMemberList, TeamMember};
use coditect_protocol::{Scope, UserId};
use coditect_server_store::TenantTx;
use coditect_server_store::credential::Caller;
use coditect_server_store::members::{self, Member};
use uuid::Uuid;

use super::{last_owner, require, require_rank, time, visible};
use crate::error::AppError;
use crate::state::AppState;

/// Returns the members of a team or project.
///
/// # Errors
/// [`AppError::NotFound`] for a scope that the caller may not know of, `SYNC_005`.
pub async fn list(
    state: &AppState,
    caller: &Caller,
    scope: Scope,
) -> Result<ScopeMemberList, AppError> {
    state
        .db
        .tenant_snapshot("members.list", caller, |mut tx| async move {
            let (_, authority) = visible(&mut tx, scope).await?;
            require(&authority, Permission::MembersRead, scope)?;
            let people = members::list(&mut tx, scope).await?;
            let teams = match scope {
                Scope::Project(_) => members::teams(&mut tx, scope).await?,
                _ => Vec::new(),
            };
            Ok(ScopeMemberList {
                members: people.into_iter().map(member).collect(),
                teams: teams.into_iter().map(team).collect(),
            })
        })
        .await
}

/// Gives a member another role; of a project, makes a member of the organisation one.
///
/// # Errors
/// [`AppError::NotFound`], `SYNC_005`, `last_owner`; [`AppError::BadRequest`] for a role that
/// teams do not have.
pub async fn put(
    state: &AppState,
    caller: &Caller,
    scope: Scope,
    user: UserId,
    role: ScopeRole,
) -> Result<(), AppError> {
    check_role(scope, role)?;
    let now = state.clock.now();
    let changed: Result<(), AppError> = state
        .db
        .tenant("members.put", caller, |mut tx| async move {
            let (_, authority) = visible(&mut tx, scope).await?;
            let owners = members::lock_owners(&mut tx, scope).await?;
            let held = members::role_of(&mut tx, scope, user).await?;
            let needed = match held {
                Some(_) => Permission::MembersUpdate,
                None => Permission::MembersInvite,
            };
            require(&authority, needed, scope)?;
            match held {
                Some(held) => require_rank(&authority, scope, held)?,
                // Into a team one is invited.
                None if matches!(scope, Scope::Team(_)) => return Err(AppError::NotFound),
                None if !members::is_in_organization(&mut tx, user).await? => {
                    return Err(AppError::NotFound);
                }
                None => {}
            }
            require_rank(&authority, scope, role)?;
            if role != ScopeRole::Owner && owners == [user] {
                return Err(last_owner());
            }
            Ok(members::put(&mut tx, scope, user, role, now).await?)
        })
        .await;
    changed?;
    state.hints.members_changed(caller.tenant());
    Ok(())
}

/// Removes a member. Everybody may leave.
///
/// # Errors
/// [`AppError::NotFound`], `SYNC_005`, `last_owner`.
pub async fn remove(
    state: &AppState,
    caller: &Caller,
    scope: Scope,
    user: UserId,
) -> Result<(), AppError> {
    let now = state.clock.now();
    let changed: Result<(), AppError> = state
        .db
        .tenant("members.remove", caller, |mut tx| async move {
            let (_, authority) = visible(&mut tx, scope).await?;
            let owners = members::lock_owners(&mut tx, scope).await?;
            let held = members::role_of(&mut tx, scope, user).await?;
            if user != caller.user_id() {
                require(&authority, Permission::MembersRemove, scope)?;
                require_rank(&authority, scope, held.unwrap_or(ScopeRole::Viewer))?;
            }
            if owners == [user] || held == Some(ScopeRole::Owner) && owners.is_empty() {
                return Err(last_owner());
            }
            Ok(members::remove(&mut tx, scope, user, now).await?)
        })
        .await;
    changed?;
    state.hints.members_changed(caller.tenant());
    Ok(())
}

/// Makes a team a member of a project, or gives it another role there; with no role, removes it.
///
/// # Errors
/// [`AppError::NotFound`] for a project or team that the caller may not know of, `SYNC_005`.
pub async fn set_team(
    state: &AppState,
    caller: &Caller,
    project: Uuid,
    team: Uuid,
    role: Option<ScopeRole>,
) -> Result<(), AppError> {
    let (project, now) = (Scope::Project(project), state.clock.now());
    let changed: Result<(), AppError> = state
        .db
        .tenant("projects.teams", caller, |mut tx| async move {
            let (_, authority) = visible(&mut tx, project).await?;
            let held = role_of_team(&mut tx, project, team).await?;
            let needed = match (held, role) {
                (_, None) => Permission::MembersRemove,
                (Some(_), _) => Permission::MembersUpdate,
                (None, _) => Permission::MembersInvite,
            };
            require(&authority, needed, project)?;
            require_rank(&authority, project, held.unwrap_or(ScopeRole::Viewer))?;
            let Some(role) = role else {
                return Ok(members::remove_team(&mut tx, project, team, now).await?);
            };
            require_rank(&authority, project, role)?;
            visible(&mut tx, Scope::Team(team)).await?;
            Ok(members::put_team(&mut tx, project, team, role, now).await?)
        })
        .await;
    changed?;
    state.hints.members_changed(caller.tenant());
    Ok(())
}

async fn role_of_team(
    tx: &mut TenantTx,
    project: Scope,
    team: Uuid,
) -> Result<Option<ScopeRole>, AppError> {
    let teams = members::teams(tx, project).await?;
    let found = teams.iter().find(|known| known.id == team);
    Ok(found.map(|known| known.role))
}

fn check_role(scope: Scope, role: ScopeRole) -> Result<(), AppError> {
    if matches!(scope, Scope::Team(_)) && role == ScopeRole::Viewer {
        let detail = "roles of a team are member, admin and owner";
        return Err(AppError::BadRequest(detail.to_owned()));
    }
    Ok(())
}

fn member(member: Member) -> ScopeMember {
    ScopeMember {
        user_id: member.user_id,
        email: member.email,
        role: member.role,
        since: time(member.since),
    }
}

fn team(team: members::Team) -> TeamMember {
    TeamMember {
        team_id: team.id,
        name: team.name.unwrap_or_default(),
        role: team.role,
        since: time(team.since),
    }
}
