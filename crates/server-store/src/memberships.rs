//! Who belongs where and with which role: what decisions about permissions are made from.

use coditect_protocol::Scope;
use coditect_protocol::permissions::{Grants, ScopeRole, Standing};
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::StoreError;
use crate::identity::Role;

/// Teams and projects of a person (`$2`), one row for each way in. A team in the archive lets its
/// members read its projects, no more.
pub(crate) const OF_PERSON: &str = "select scope_id, kind, role, archived from member_of($1, $2)";

/// A team or project that a person belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Belonging {
    /// The team's or project's scope.
    pub(crate) scope: Scope,
    /// The role there.
    pub(crate) role: ScopeRole,
    /// Whether it is in the archive.
    pub(crate) archived: bool,
}

impl Belonging {
    /// Reads a row of [`OF_PERSON`].
    pub(crate) fn read(row: &Row) -> Result<Self, StoreError> {
        let (id, kind): (Uuid, &str) = (row.try_get(0)?, row.try_get(1)?);
        let scope = scope_of(kind, id)?;
        Ok(Self {
            scope,
            role: scope_role(row.try_get(2)?)?,
            archived: row.try_get(3)?,
        })
    }
}

/// Returns each team and project once, with the highest role.
pub(crate) fn highest(all: Vec<Belonging>) -> Vec<Belonging> {
    let mut found: Vec<Belonging> = Vec::with_capacity(all.len());
    for one in all {
        match found.iter_mut().find(|known| known.scope == one.scope) {
            Some(known) => known.role = known.role.max(one.role),
            None => found.push(one),
        }
    }
    found
}

/// Returns the scope of a row of table `scopes`.
pub(crate) fn scope_of(kind: &str, id: Uuid) -> Result<Scope, StoreError> {
    match kind {
        "user" => Ok(Scope::User(id)),
        "team" => Ok(Scope::Team(id)),
        "project" => Ok(Scope::Project(id)),
        "org" => Ok(Scope::Org(id)),
        _ => Err(corrupt("scopes", "kind")),
    }
}

/// Reads a role in a team or project.
pub(crate) fn scope_role(name: &str) -> Result<ScopeRole, StoreError> {
    ScopeRole::parse(name).ok_or_else(|| corrupt("scope_members", "role"))
}

/// Reads a role in the organisation.
pub(crate) fn organization_role(name: &str) -> Result<Role, StoreError> {
    Role::parse(name).ok_or_else(|| corrupt("memberships", "role"))
}

/// Reads a person's standing in the organisation.
pub(crate) fn standing(role: &str, permissions: &Value) -> Result<Standing, StoreError> {
    Ok(Standing {
        role: organization_role(role)?,
        grants: Grants::read(permissions),
    })
}

fn corrupt(table: &'static str, column: &str) -> StoreError {
    StoreError::Corrupt {
        table,
        row: column.to_owned(),
    }
}
