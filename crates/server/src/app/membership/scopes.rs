//! Teams and projects: made, listed, renamed, put into the archive, found by repository.

use coditect_core::repository;
use coditect_protocol::Scope;
use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::membership::{
    NewProject, NewTeam, Project, Repository, ScopeEdit, Team,
};
use coditect_server_store::credential::Caller;
use coditect_server_store::projects::{self, Identity};
use coditect_server_store::scopes::{self, ScopeEntry};
use coditect_server_store::{Authority, TenantTx};
use uuid::Uuid;

use super::{name, require, time, visible};
use crate::error::AppError;
use crate::state::AppState;
use coditect_protocol::ErrorCode;

/// Makes a team that the caller owns.
///
/// # Errors
/// `SYNC_005` unless the organisation role allows it, [`AppError::BadRequest`] for the name.
pub async fn create_team(
    state: &AppState,
    caller: &Caller,
    new: &NewTeam,
) -> Result<Team, AppError> {
    let name = &name(&new.name)?;
    let now = state.clock.now();
    let organization = Scope::Org(caller.tenant().get());
    state
        .db
        .tenant("teams.create", caller, |mut tx| async move {
            let authority = Authority::of(&mut tx).await?;
            require(&authority, Permission::TeamsCreate, organization)?;
            let team = scopes::create(&mut tx, Scope::Team, name, now).await?;
            shown_team(&mut tx, team).await
        })
        .await
}

/// Returns the teams that the caller may know of.
///
/// # Errors
/// Those of the store.
pub async fn list_teams(state: &AppState, caller: &Caller) -> Result<Vec<Team>, AppError> {
    state
        .db
        .tenant_snapshot("teams.list", caller, |mut tx| async move {
            let authority = Authority::of(&mut tx).await?;
            let found = scopes::list(&mut tx, "team").await?;
            let known = found
                .into_iter()
                .filter(|entry| authority.knows(entry.scope));
            Ok(known.map(|entry| team(entry, &authority)).collect())
        })
        .await
}

/// Returns a team.
///
/// # Errors
/// [`AppError::NotFound`] for one that the caller may not know of.
pub async fn show_team(state: &AppState, caller: &Caller, id: Uuid) -> Result<Team, AppError> {
    state
        .db
        .tenant_snapshot("teams.show", caller, |mut tx| async move {
            shown_team(&mut tx, Scope::Team(id)).await
        })
        .await
}

/// Renames a team, or moves it into the archive or out of it.
///
/// # Errors
/// [`AppError::NotFound`], `SYNC_005`, [`AppError::BadRequest`] for the name.
pub async fn edit_team(
    state: &AppState,
    caller: &Caller,
    id: Uuid,
    edit: &ScopeEdit,
) -> Result<Team, AppError> {
    let (scope, now) = (Scope::Team(id), state.clock.now());
    let new_name = &edit.name.as_deref().map(name).transpose()?;
    state
        .db
        .tenant("teams.edit", caller, |mut tx| async move {
            change(&mut tx, scope, new_name.as_deref(), edit.archived, now).await?;
            shown_team(&mut tx, scope).await
        })
        .await
}

/// Makes a project that the caller owns, or returns the one that its repository has already.
/// The second value says whether it is new.
///
/// # Errors
/// `SYNC_005` unless the organisation role allows to make one; `already_taken` when the
/// repository's project may not be shown to the caller; [`AppError::BadRequest`].
pub async fn create_project(
    state: &AppState,
    caller: &Caller,
    new: &NewProject,
) -> Result<(Project, bool), AppError> {
    let name = &name(&new.name)?;
    let identities = &match &new.repository {
        Some(repository) => identities(repository)?,
        None => Vec::new(),
    };
    let now = state.clock.now();
    let organization = Scope::Org(caller.tenant().get());
    state
        .db
        .tenant("projects.create", caller, |mut tx| async move {
            let authority = Authority::of(&mut tx).await?;
            if let Some(found) = find(&mut tx, identities).await?
                && authority.knows(found)
            {
                return Ok((shown_project(&mut tx, found).await?, false));
            }
            require(&authority, Permission::ProjectsCreate, organization)?;
            let project = scopes::create(&mut tx, Scope::Project, name, now).await?;
            link_all(&mut tx, project, identities, now).await?;
            Ok((shown_project(&mut tx, project).await?, true))
        })
        .await
}

/// Returns the projects that the caller may know of; of a repository only when one is named.
///
/// # Errors
/// [`AppError::BadRequest`] for what is no repository.
pub async fn list_projects(
    state: &AppState,
    caller: &Caller,
    of: &Repository,
) -> Result<Vec<Project>, AppError> {
    let wanted = &match of {
        Repository {
            remote: None,
            root_commit: None,
        } => None,
        of => Some(identities(of)?),
    };
    state
        .db
        .tenant_snapshot("projects.list", caller, |mut tx| async move {
            let authority = Authority::of(&mut tx).await?;
            let mut found = scopes::list(&mut tx, "project").await?;
            found.retain(|entry| authority.knows(entry.scope));
            if let Some(wanted) = wanted {
                let only = find(&mut tx, wanted).await?;
                found.retain(|entry| Some(entry.scope) == only);
            }
            let ids: Vec<Scope> = found.iter().map(|entry| entry.scope).collect();
            let known = projects::identities(&mut tx, &ids).await?;
            let show = |entry| project(entry, &authority, &known);
            Ok(found.into_iter().map(show).collect())
        })
        .await
}

/// Returns a project.
///
/// # Errors
/// [`AppError::NotFound`] for one that the caller may not know of.
pub async fn show_project(
    state: &AppState,
    caller: &Caller,
    id: Uuid,
) -> Result<Project, AppError> {
    state
        .db
        .tenant_snapshot("projects.show", caller, |mut tx| async move {
            shown_project(&mut tx, Scope::Project(id)).await
        })
        .await
}

/// Renames a project, or moves it into the archive or out of it.
///
/// # Errors
/// [`AppError::NotFound`], `SYNC_005`, [`AppError::BadRequest`] for the name.
pub async fn edit_project(
    state: &AppState,
    caller: &Caller,
    id: Uuid,
    edit: &ScopeEdit,
) -> Result<Project, AppError> {
    let (scope, now) = (Scope::Project(id), state.clock.now());
    let new_name = &edit.name.as_deref().map(name).transpose()?;
    state
        .db
        .tenant("projects.edit", caller, |mut tx| async move {
            change(&mut tx, scope, new_name.as_deref(), edit.archived, now).await?;
            shown_project(&mut tx, scope).await
        })
        .await
}

/// Has a project recognised by a repository, or not any more.
///
/// # Errors
/// [`AppError::NotFound`], `SYNC_005`, [`AppError::BadRequest`]; `already_taken` when another
/// project of the organisation is recognised by it.
pub async fn link_project(
    state: &AppState,
    caller: &Caller,
    id: Uuid,
    repository: &Repository,
    linked: bool,
) -> Result<Project, AppError> {
    let identities = &identities(repository)?;
    let (scope, now) = (Scope::Project(id), state.clock.now());
    state
        .db
        .tenant("projects.link", caller, |mut tx| async move {
            let (_, authority) = visible(&mut tx, scope).await?;
            require(&authority, Permission::ProjectsUpdate, scope)?;
            if linked {
                link_all(&mut tx, scope, identities, now).await?;
            } else {
                for identity in identities {
                    projects::unlink(&mut tx, scope, identity, now).await?;
                }
            }
            shown_project(&mut tx, scope).await
        })
        .await
}

async fn change(
    tx: &mut TenantTx,
    scope: Scope,
    name: Option<&str>,
    archived: Option<bool>,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), AppError> {
    let (_, authority) = visible(tx, scope).await?;
    let (rename, archive) = match scope {
        Scope::Team(_) => (Permission::TeamsUpdate, Permission::TeamsDelete),
        _ => (Permission::ProjectsUpdate, Permission::ProjectsDelete),
    };
    if archived.is_some() {
        require(&authority, archive, scope)?;
    }
    if name.is_some() || archived.is_none() {
        require(&authority, rename, scope)?;
    }
    Ok(scopes::edit(tx, scope, name, archived, now).await?)
}

async fn link_all(
    tx: &mut TenantTx,
    project: Scope,
    identities: &[Identity],
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), AppError> {
    for identity in identities {
        if !projects::link(tx, project, identity, now).await? {
            let detail = "the repository belongs to another project of the organisation";
            return Err(AppError::refused(ErrorCode::AlreadyTaken, detail));
        }
    }
    Ok(())
}

/// Returns the project of a repository: by its remote, else by its first commit, which forks
/// have in common.
async fn find(tx: &mut TenantTx, identities: &[Identity]) -> Result<Option<Scope>, AppError> {
    for identity in identities {
        if let Some(found) = projects::find(tx, identity).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Returns what a repository is recognised by, the remote first.
fn identities(repository: &Repository) -> Result<Vec<Identity>, AppError> {
    let refuse = |detail: &str| AppError::BadRequest(detail.to_owned());
    let mut found = Vec::new();
    if let Some(address) = &repository.remote {
        let normal = repository::remote(address)
            .ok_or_else(|| refuse("remote is no address of a repository, such as https://…"))?;
        found.push(Identity::Remote(normal));
    }
    if let Some(id) = &repository.root_commit {
        let normal = repository::commit(id)
            .ok_or_else(|| refuse("root_commit is no commit of 40 or 64 digits"))?;
        found.push(Identity::RootCommit(normal));
    }
    if found.is_empty() {
        return Err(refuse("a repository has a remote or a root_commit"));
    }
    Ok(found)
}

async fn shown_team(tx: &mut TenantTx, scope: Scope) -> Result<Team, AppError> {
    let (entry, authority) = visible(tx, scope).await?;
    Ok(team(entry, &authority))
}

async fn shown_project(tx: &mut TenantTx, scope: Scope) -> Result<Project, AppError> {
    let (entry, authority) = visible(tx, scope).await?;
    let known = projects::identities(tx, &[scope]).await?;
    Ok(project(entry, &authority, &known))
}

fn team(entry: ScopeEntry, authority: &Authority) -> Team {
    Team {
        id: entry.scope.id(),
        name: entry.name,
        created_at: time(entry.created_at),
        archived_at: entry.archived_at.map(time),
        role: authority.role_in(entry.scope),
        permissions: authority.permissions(entry.scope),
    }
}

fn project(entry: ScopeEntry, authority: &Authority, known: &[(Scope, Identity)]) -> Project {
    let mut shown = Project {
        id: entry.scope.id(),
        name: entry.name,
        remotes: Vec::new(),
        root_commits: Vec::new(),
        created_at: time(entry.created_at),
        archived_at: entry.archived_at.map(time),
        role: authority.role_in(entry.scope),
        permissions: authority.permissions(entry.scope),
    };
    for (_, identity) in known.iter().filter(|(of, _)| *of == entry.scope) {
        match identity {
            Identity::Remote(text) => shown.remotes.push(text.clone()),
            Identity::RootCommit(text) => shown.root_commits.push(text.clone()),
        }
    }
    shown
}
