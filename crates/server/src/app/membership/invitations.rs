//! Invitations into the organisation or a team.

use coditect_protocol::Scope;
use coditect_protocol::permissions::{OrganizationRole, Permission, ScopeRole};
use coditect_protocol::wire::membership::{AcceptInvitation, Accepted, Invitation, NewInvitation};
use coditect_server_store::credential::{Caller, normal_email};
use coditect_server_store::invitations::{self, AcceptError};
use coditect_server_store::{Authority, TenantTx, organization};
use uuid::Uuid;

use super::organization::require_owner;
use super::{require, require_rank, time, visible};
use crate::error::AppError;
use crate::state::AppState;

/// Longest e-mail address, in bytes.
const EMAIL_BYTES_MAX: usize = 254;
/// A password's length, in bytes.
const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 12..=1_024;

/// Invites a person into the caller's organisation, or a team of it. Somebody who is not in the
/// organisation is invited into both, which takes the permission for both.
///
/// # Errors
/// [`AppError::NotFound`] for a team that the caller may not know of, `SYNC_005`,
/// [`AppError::BadRequest`] for an address or role that is none.
pub async fn create(
    state: &AppState,
    caller: &Caller,
    scope: Scope,
    new: &NewInvitation,
) -> Result<Invitation, AppError> {
    let email = &email(&new.email)?;
    let role = new.role.as_str();
    if !invitations::is_role_of(scope, role) {
        let detail = "role is none that is given there";
        return Err(AppError::BadRequest(detail.to_owned()));
    }
    let now = state.clock.now();
    let (invitation, secret) = state
        .db
        .tenant("invitations.create", caller, |mut tx| async move {
            let authority = manager(&mut tx, scope).await?;
            match (scope, ScopeRole::parse(role), OrganizationRole::parse(role)) {
                (Scope::Org(_), _, Some(role)) => require_owner(&authority, role)?,
                (_, Some(role), _) => require_rank(&authority, scope, role)?,
                _ => {}
            }
            let members = organization::members(&mut tx).await?;
            let known = members.iter().any(|one| one.active && one.email == *email);
            if !known {
                let organization = Scope::Org(caller.tenant().get());
                require(&authority, Permission::MembersInvite, organization)?;
            }
            Ok::<_, AppError>(invitations::create(&mut tx, scope, email, role, now).await?)
        })
        .await?;
    Ok(Invitation {
        secret: Some(secret),
        ..wire(invitation)
    })
}

/// Returns the invitations into the organisation, or a team of it.
///
/// # Errors
/// [`AppError::NotFound`], `SYNC_005`.
pub async fn list(
    state: &AppState,
    caller: &Caller,
    scope: Scope,
) -> Result<Vec<Invitation>, AppError> {
    let found = state
        .db
        .tenant_snapshot("invitations.list", caller, |mut tx| async move {
            manager(&mut tx, scope).await?;
            Ok::<_, AppError>(invitations::list(&mut tx, scope).await?)
        })
        .await?;
    Ok(found.into_iter().map(wire).collect())
}

/// Takes an invitation back.
///
/// # Errors
/// [`AppError::NotFound`] unless it is open, `SYNC_005`.
pub async fn revoke(
    state: &AppState,
    caller: &Caller,
    scope: Scope,
    id: Uuid,
) -> Result<(), AppError> {
    let now = state.clock.now();
    state
        .db
        .tenant("invitations.revoke", caller, |mut tx| async move {
            manager(&mut tx, scope).await?;
            Ok(invitations::revoke(&mut tx, scope, id, now).await?)
        })
        .await
}

/// Accepts an invitation: the secret is the credential. Accepting again changes nothing.
///
/// # Errors
/// [`AppError::NotFound`] for a secret that is none, or whose invitation is over;
/// [`AppError::BadRequest`] when a password is needed, or too short.
pub async fn accept(state: &AppState, accept: &AcceptInvitation) -> Result<Accepted, AppError> {
    let password = accept.password.as_deref();
    if password.is_some_and(|text| !PASSWORD_BYTES.contains(&text.len())) {
        let detail = "a password has at least 12 characters, and at most 1,024 bytes";
        return Err(AppError::BadRequest(detail.to_owned()));
    }
    let now = state.clock.now();
    match invitations::accept(&state.db, &accept.secret, password, now).await {
        Ok(accepted) => Ok(Accepted {
            tenant_id: accepted.tenant_id,
            user_id: accepted.user_id,
            email: accepted.email,
            scope: accepted.scope,
            role: accepted.role,
        }),
        Err(AcceptError::Unknown) => Err(AppError::NotFound),
        Err(AcceptError::PasswordNeeded) => {
            let detail = "the person is new here: send a password of at least 12 characters";
            Err(AppError::BadRequest(detail.to_owned()))
        }
        Err(AcceptError::Store(error)) => Err(error.into()),
    }
}

/// Returns what the caller may do, if that is to invite there.
async fn manager(tx: &mut TenantTx, scope: Scope) -> Result<Authority, AppError> {
    let authority = match scope {
        Scope::Org(_) => Authority::of(tx).await?,
        _ => visible(tx, scope).await?.1,
    };
    require(&authority, Permission::MembersInvite, scope)?;
    Ok(authority)
}

fn email(text: &str) -> Result<String, AppError> {
    let text = normal_email(text);
    let plain = !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let parts = text.split_once('@');
    let named = parts.is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    if plain && named && text.len() <= EMAIL_BYTES_MAX {
        return Ok(text);
    }
    Err(AppError::BadRequest(
        "email is no e-mail address".to_owned(),
    ))
}

fn wire(invitation: invitations::Invitation) -> Invitation {
    Invitation {
        id: invitation.id,
        scope: invitation.scope,
        email: invitation.email,
        role: invitation.role,
        invited_by: invitation.invited_by,
        created_at: time(invitation.created_at),
        expires_at: time(invitation.expires_at),
        accepted_at: invitation.accepted_at.map(time),
        revoked_at: invitation.revoked_at.map(time),
        secret: None,
    }
}
