//! The caller's organisation and its members.

use std::collections::BTreeMap;

use coditect_protocol::permissions::{OrganizationRole, Permission};
use coditect_protocol::wire::membership::{
    Organization, OrganizationMember, OrganizationMemberEdit,
};
use coditect_protocol::{ErrorCode, Scope, UserId};
use coditect_server_store::Authority;
use coditect_server_store::credential::Caller;
use coditect_server_store::organization::{self, Member};
use serde_json::Value;

use super::{last_owner, require, time};
use crate::error::AppError;
use crate::state::AppState;

/// Returns the organisation, with what the caller may do in it.
///
/// # Errors
/// Those of the store.
pub async fn show(state: &AppState, caller: &Caller) -> Result<Organization, AppError> {
    state
        .db
        .tenant_snapshot("organization.show", caller, |mut tx| async move {
            let authority = Authority::of(&mut tx).await?;
            Ok(Organization {
                id: caller.tenant().organization(),
                name: organization::name(&mut tx).await?,
                role: authority.standing().role,
                permissions: authority.permissions(Scope::Org(caller.tenant().get())),
            })
        })
        .await
}

/// Returns the members; for those who manage also the removed ones, and what was granted.
///
/// # Errors
/// `SYNC_005`, those of the store.
pub async fn members(
    state: &AppState,
    caller: &Caller,
) -> Result<Vec<OrganizationMember>, AppError> {
    let scope = Scope::Org(caller.tenant().get());
    state
        .db
        .tenant_snapshot("organization.members", caller, |mut tx| async move {
            let authority = Authority::of(&mut tx).await?;
            require(&authority, Permission::MembersRead, scope)?;
            let manages = authority.may(Permission::MembersUpdate, scope);
            let found = organization::members(&mut tx).await?;
            let seen = found.into_iter().filter(|member| manages || member.active);
            Ok(seen.map(|member| wire(member, manages)).collect())
        })
        .await
}

/// Gives a member another role, or other grants.
///
/// # Errors
/// [`AppError::NotFound`], `SYNC_005` (only owners make and change owners), `last_owner`,
/// [`AppError::BadRequest`] for what cannot be granted.
pub async fn edit(
    state: &AppState,
    caller: &Caller,
    user: UserId,
    edit: &OrganizationMemberEdit,
) -> Result<(), AppError> {
    let (scope, now) = (Scope::Org(caller.tenant().get()), state.clock.now());
    let grants = &edit.permissions.as_ref().map(grants).transpose()?;
    let changed: Result<(), AppError> = state
        .db
        .tenant("organization.edit", caller, |mut tx| async move {
            let authority = Authority::of(&mut tx).await?;
            require(&authority, Permission::MembersUpdate, scope)?;
            let owners = organization::lock_owners(&mut tx).await?;
            let member = organization::find(&mut tx, user).await?;
            require_owner(&authority, member.role)?;
            if let Some(role) = edit.role {
                require_owner(&authority, role)?;
                if role != OrganizationRole::Owner && owners == [user] {
                    return Err(last_owner());
                }
            }
            let grants = grants.as_ref();
            Ok(organization::set(&mut tx, user, edit.role, grants, now).await?)
        })
        .await;
    changed?;
    state.hints.members_changed(caller.tenant());
    Ok(())
}

/// Removes a member from the organisation and from all its teams and projects.
///
/// # Errors
/// [`AppError::NotFound`], `SYNC_005` (only owners remove owners), `last_owner` of the
/// organisation, a team or a project.
pub async fn remove(state: &AppState, caller: &Caller, user: UserId) -> Result<(), AppError> {
    let (scope, now) = (Scope::Org(caller.tenant().get()), state.clock.now());
    let changed: Result<(), AppError> = state
        .db
        .tenant("organization.remove", caller, |mut tx| async move {
            let authority = Authority::of(&mut tx).await?;
            require(&authority, Permission::MembersRemove, scope)?;
            let owners = organization::lock_owners(&mut tx).await?;
            let member = organization::find(&mut tx, user).await?;
            require_owner(&authority, member.role)?;
            if owners == [user] || organization::owns_alone(&mut tx, user).await? {
                return Err(last_owner());
            }
            Ok(organization::remove(&mut tx, user, now).await?)
        })
        .await;
    changed?;
    state.hints.members_changed(caller.tenant());
    Ok(())
}

/// Checks that the caller may give and take the role: that of owners is the owners' own.
pub(super) fn require_owner(authority: &Authority, role: OrganizationRole) -> Result<(), AppError> {
    let owner = OrganizationRole::Owner;
    if !authority.is_checked() || role != owner || authority.standing().role == owner {
        return Ok(());
    }
    let detail = "only an owner gives and takes the role of an owner";
    Err(AppError::refused(ErrorCode::PermissionDenied, detail))
}

/// Checks what is to be granted and denied.
fn grants(given: &BTreeMap<String, bool>) -> Result<Value, AppError> {
    for name in given.keys() {
        let known = Permission::parse(name).filter(|permission| permission.rule().grantable);
        if known.is_none() {
            let detail = format!("'{name}' is no permission that single members are given");
            return Err(AppError::BadRequest(detail));
        }
    }
    serde_json::to_value(given).map_err(|error| AppError::BadRequest(error.to_string()))
}

fn wire(member: Member, manages: bool) -> OrganizationMember {
    let grants = member.permissions.as_object().cloned().unwrap_or_default();
    let grants = grants
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_bool()?)));
    OrganizationMember {
        user_id: member.user_id,
        email: member.email,
        role: member.role,
        permissions: grants.filter(|_| manages).collect(),
        active: member.active,
        since: time(member.since),
    }
}
