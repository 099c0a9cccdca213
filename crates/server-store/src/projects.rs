//! What projects are recognised by: their repositories.

use chrono::{DateTime, Utc};
use coditect_protocol::Scope;
use serde_json::json;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::db::{Param, TenantTx};
use crate::scopes::note;

const OF: &str = "select scope_id, kind, identity from project_repositories
    where tenant_id = $1 and scope_id = any ($2) order by kind, identity";
const FIND: &str = "select scope_id from project_repositories
    where tenant_id = $1 and kind = $2 and identity = $3";
const LINK: &str = "insert into project_repositories
    (tenant_id, kind, identity, scope_id, created_at) values ($1, $2, $3, $4, $5)
    on conflict (tenant_id, kind, identity) do nothing returning scope_id";
const UNLINK: &str = "delete from project_repositories
    where tenant_id = $1 and scope_id = $2 and kind = $3 and identity = $4";

/// One thing that a repository is recognised by, in the form that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A remote's address (`coditect_core::repository::remote`).
    Remote(String),
    /// The first commit of its history.
    RootCommit(String),
}

impl Identity {
    const fn parts(&self) -> (&'static str, &String) {
        match self {
            Self::Remote(text) => ("remote", text),
            Self::RootCommit(text) => ("root_commit", text),
        }
    }
}

/// Returns what the given projects are recognised by.
///
/// # Errors
///
/// Those of the database.
pub async fn identities(
    tx: &mut TenantTx,
    projects: &[Scope],
) -> Result<Vec<(Scope, Identity)>, StoreError> {
    let tenant = tx.tenant().get();
    let ids: Vec<Uuid> = projects.iter().map(|project| project.id()).collect();
    let params: [Param<'_>; 2] = [(&tenant, Type::UUID), (&ids, Type::UUID_ARRAY)];
    let rows = tx.query(OF, &params).await?;
    rows.iter()
        .map(|row| {
            let (kind, text): (&str, String) = (row.try_get(1)?, row.try_get(2)?);
            let identity = match kind {
                "remote" => Identity::Remote(text),
                _ => Identity::RootCommit(text),
            };
            Ok((Scope::Project(row.try_get(0)?), identity))
        })
        .collect()
}

/// Returns the project that is recognised by it, if row security shows one.
///
/// # Errors
///
/// Those of the database.
pub async fn find(tx: &mut TenantTx, identity: &Identity) -> Result<Option<Scope>, StoreError> {
    let (tenant, (kind, text)) = (tx.tenant().get(), identity.parts());
    let params: [Param<'_>; 3] = [
        (&tenant, Type::UUID),
        (&kind, Type::TEXT),
        (text, Type::TEXT),
    ];
    let row = tx.query_opt(FIND, &params).await?;
    row.map(|row| Ok(Scope::Project(row.try_get(0)?)))
        .transpose()
}

/// Has a project recognised by it. One that is linked to it already stays so; returns false
/// when another project of the organisation is.
///
/// # Errors
///
/// [`StoreError::Forbidden`], those of the database.
pub async fn link(
    tx: &mut TenantTx,
    project: Scope,
    identity: &Identity,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let (tenant, id, (kind, text)) = (tx.tenant().get(), project.id(), identity.parts());
    let params: [Param<'_>; 5] = [
        (&tenant, Type::UUID),
        (&kind, Type::TEXT),
        (text, Type::TEXT),
        (&id, Type::UUID),
        (&now, Type::TIMESTAMPTZ),
    ];
    if tx.query_opt(LINK, &params).await?.is_none() {
        return Ok(find(tx, identity).await? == Some(project));
    }
    note(
        tx,
        project,
        "repository_linked",
        json!({ "kind": kind }),
        now,
    )
    .await?;
    Ok(true)
}

/// Has a project not recognised by it any more.
///
/// # Errors
///
/// [`StoreError::NotFound`] when it was not, or the caller may not change it.
pub async fn unlink(
    tx: &mut TenantTx,
    project: Scope,
    identity: &Identity,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (tenant, id, (kind, text)) = (tx.tenant().get(), project.id(), identity.parts());
    let params: [Param<'_>; 4] = [
        (&tenant, Type::UUID),
        (&id, Type::UUID),
        (&kind, Type::TEXT),
        (text, Type::TEXT),
    ];
    if tx.execute(UNLINK, &params).await? == 0 {
        return Err(StoreError::NotFound);
    }
    let detail = json!({ "kind": kind });
    note(tx, project, "repository_unlinked", detail, now).await
}
