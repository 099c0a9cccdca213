//! Teams, projects, the organisation, and who belongs to them.
//!
//! What the caller may not know of is not found; what the caller knows of and may not do is
//! refused with `SYNC_005`. Nobody gives or takes a role above the own one, and every team,
//! project and organisation keeps an owner.

pub mod account;
pub mod invitations;
pub mod members;
pub mod organization;
pub mod scopes;

use chrono::{DateTime, SecondsFormat, Utc};
use coditect_protocol::permissions::{Permission, ScopeRole};
use coditect_protocol::{ErrorCode, Scope};
use coditect_server_store::scopes::ScopeEntry;
use coditect_server_store::{Authority, TenantTx};

use crate::error::AppError;

/// Longest name of a team or project, in characters.
pub const NAME_CHARS_MAX: usize = 100;

/// Returns a team or project that the caller may know of, and what the caller may do.
async fn visible(tx: &mut TenantTx, scope: Scope) -> Result<(ScopeEntry, Authority), AppError> {
    let authority = Authority::of(tx).await?;
    if !authority.knows(scope) {
        return Err(AppError::NotFound);
    }
    let entry = coditect_server_store::scopes::find(tx, scope).await?;
    Ok((entry, authority))
}

/// Checks that the caller may do it in a scope that the caller knows of.
pub(super) fn require(
    authority: &Authority,
    permission: Permission,
    scope: Scope,
) -> Result<(), AppError> {
    if authority.may(permission, scope) {
        return Ok(());
    }
    let detail = format!("the role does not allow {permission}");
    Err(AppError::refused(ErrorCode::PermissionDenied, detail))
}

/// Returns the highest role that the caller gives and takes in a team or project.
fn rank(authority: &Authority, scope: Scope) -> ScopeRole {
    let manages = authority.standing().role.manages_scopes();
    let held = authority.role_in(scope).unwrap_or(ScopeRole::Viewer);
    if manages { ScopeRole::Owner } else { held }
}

/// Checks that the caller may give or take the role in the scope.
fn require_rank(authority: &Authority, scope: Scope, role: ScopeRole) -> Result<(), AppError> {
    if !authority.is_checked() || role <= rank(authority, scope) {
        return Ok(());
    }
    let detail = "nobody gives or takes a role above the own one";
    Err(AppError::refused(ErrorCode::PermissionDenied, detail))
}

fn last_owner() -> AppError {
    let detail = "somebody has to stay owner: make another one first";
    AppError::refused(ErrorCode::LastOwner, detail)
}

/// Checks a name.
fn name(text: &str) -> Result<String, AppError> {
    let text = text.trim();
    let fits = (1..=NAME_CHARS_MAX).contains(&text.chars().count());
    if fits && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    let detail = format!("a name has 1 to {NAME_CHARS_MAX} characters, none of them control");
    Err(AppError::BadRequest(detail))
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
