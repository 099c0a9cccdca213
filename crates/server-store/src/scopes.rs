//! Teams and projects as such: their names and whether they are in the archive. What is stored
//! in them is `sync`'s.

use chrono::{DateTime, Utc};
use coditect_protocol::Scope;
use coditect_protocol::permissions::ScopeRole;
use serde_json::json;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::audit::{self, Entry};
use crate::credential::random_uuid;
use crate::db::{Param, TenantTx};
use crate::memberships;

/// Most teams or projects in a list.
pub const LIST_MAX: i64 = 1_000;

const LIST: &str = "select scope_id, kind, name, created_at, archived_at from scopes
    where tenant_id = $1 and kind = $2 order by name, scope_id limit $3";
const FIND: &str = "select scope_id, kind, name, created_at, archived_at from scopes
    where tenant_id = $1 and scope_id = $2 and kind = $3";
const CREATE: &str = "insert into scopes (tenant_id, scope_id, kind, name, created_at)
    values ($1, $2, $3, $4, $5)";
const FIRST_OWNER: &str = "insert into scope_members
    (tenant_id, scope_id, user_id, role, created_at) values ($1, $2, $3, $4, $5)";
const EDIT: &str = "update scopes set name = coalesce($4, name),
    archived_at = case when $5::boolean is null then archived_at
        when $5 then coalesce(archived_at, $6) end
    where tenant_id = $1 and scope_id = $2 and kind = $3";

/// A team or project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeEntry {
    /// Its scope.
    pub scope: Scope,
    /// Name for people.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was put into the archive, if it was.
    pub archived_at: Option<DateTime<Utc>>,
}

/// Returns the teams or projects (`kind`) of the tenant that row security shows, by name, at
/// most [`LIST_MAX`].
///
/// # Errors
///
/// Those of the database.
pub async fn list(tx: &mut TenantTx, kind: &'static str) -> Result<Vec<ScopeEntry>, StoreError> {
    let tenant = tx.tenant().get();
    let params: [Param<'_>; 3] = [
        (&tenant, Type::UUID),
        (&kind, Type::TEXT),
        (&LIST_MAX, Type::INT8),
    ];
    tx.query(LIST, &params).await?.iter().map(entry).collect()
}

/// Returns a team or project.
///
/// # Errors
///
/// [`StoreError::NotFound`] when the tenant has none of that id and kind that row security shows.
pub async fn find(tx: &mut TenantTx, scope: Scope) -> Result<ScopeEntry, StoreError> {
    let (tenant, id, kind) = (tx.tenant().get(), scope.id(), scope.kind());
    let params: [Param<'_>; 3] = [
        (&tenant, Type::UUID),
        (&id, Type::UUID),
        (&kind, Type::TEXT),
    ];
    let row = tx.query_opt(FIND, &params).await?;
    entry(&row.ok_or(StoreError::NotFound)?)
}

/// Makes a team or project (`make` gives the scope of an id) that the caller owns.
///
/// # Errors
///
/// Those of the database.
pub async fn create(
    tx: &mut TenantTx,
    make: fn(Uuid) -> Scope,
    name: &str,
    now: DateTime<Utc>,
) -> Result<Scope, StoreError> {
    let (tenant, user) = (tx.tenant().get(), tx.caller().user_id().get());
    let scope = make(random_uuid()?);
    let (id, kind, owner) = (scope.id(), scope.kind(), ScopeRole::Owner.as_str());
    let params: [Param<'_>; 5] = [
        (&tenant, Type::UUID),
        (&id, Type::UUID),
        (&kind, Type::TEXT),
        (&name, Type::TEXT),
        (&now, Type::TIMESTAMPTZ),
    ];
    tx.execute(CREATE, &params).await?;
    let params: [Param<'_>; 5] = [
        (&tenant, Type::UUID),
        (&id, Type::UUID),
        (&user, Type::UUID),
        (&owner, Type::TEXT),
        (&now, Type::TIMESTAMPTZ),
    ];
    tx.execute(FIRST_OWNER, &params).await?;
    note(tx, scope, "created", json!({}), now).await?;
    Ok(scope)
}

/// Renames a team or project, or moves it into the archive or out of it; what is none stays.
///
/// # Errors
///
/// [`StoreError::NotFound`] when there is none that the caller may change.
pub async fn edit(
    tx: &mut TenantTx,
    scope: Scope,
    name: Option<&str>,
    archived: Option<bool>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (tenant, id, kind) = (tx.tenant().get(), scope.id(), scope.kind());
    let params: [Param<'_>; 6] = [
        (&tenant, Type::UUID),
        (&id, Type::UUID),
        (&kind, Type::TEXT),
        (&name, Type::TEXT),
        (&archived, Type::BOOL),
        (&now, Type::TIMESTAMPTZ),
    ];
    if tx.execute(EDIT, &params).await? == 0 {
        return Err(StoreError::NotFound);
    }
    let detail = json!({ "renamed": name.is_some(), "archived": archived });
    note(tx, scope, "changed", detail, now).await
}

/// Notes in the audit trail what the caller did to a scope.
pub(crate) async fn note(
    tx: &mut TenantTx,
    scope: Scope,
    action: &str,
    detail: serde_json::Value,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let entry = Entry {
        at: now,
        action,
        resource_type: Some(scope.kind()),
        resource_id: Some(scope.id().to_string()),
        detail,
    };
    audit::record(tx, &entry).await
}

fn entry(row: &Row) -> Result<ScopeEntry, StoreError> {
    let name: Option<String> = row.try_get(2)?;
    Ok(ScopeEntry {
        scope: memberships::scope_of(row.try_get(1)?, row.try_get(0)?)?,
        name: name.unwrap_or_default(),
        created_at: row.try_get(3)?,
        archived_at: row.try_get(4)?,
    })
}
