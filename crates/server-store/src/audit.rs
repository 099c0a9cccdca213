//! The audit trail: who did what, when. Ids and counts, never content.

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::credential::{TenantId, random_uuid};
use crate::db::{Statement, SystemTx, TenantTx};

const INSERT: &str = "insert into audit_log
    (tenant_id, id, at, user_id, device_id, action, resource_type, resource_id, detail)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// One entry of the trail.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// When it happened.
    pub at: DateTime<Utc>,
    /// What was done, such as `login` or `push`.
    pub action: &'a str,
    /// Kind of the thing that it was done to, such as `device`.
    pub resource_type: Option<&'a str>,
    /// Id of that thing.
    pub resource_id: Option<String>,
    /// Counts and hashes beside it.
    pub detail: Value,
}

/// Records `entry` as done by the caller of the transaction.
///
/// # Errors
///
/// Those of the database.
pub async fn record(tx: &mut TenantTx, entry: &Entry<'_>) -> Result<(), StoreError> {
    let prepared = Prepared::new(tx, entry)?;
    let Statement { sql, params } = prepared.statement();
    tx.execute(sql, &params).await.map(drop)
}

/// An entry done by the caller of a transaction, to be written together with other statements;
/// owns the parameters.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    tenant: Uuid,
    id: Uuid,
    user: Option<Uuid>,
    device: Option<Uuid>,
    entry: &'a Entry<'a>,
}

impl<'a> Prepared<'a> {
    /// Gives the entry an id.
    pub(crate) fn new(tx: &TenantTx, entry: &'a Entry<'a>) -> Result<Self, StoreError> {
        let caller = tx.caller();
        Ok(Self {
            tenant: tx.tenant().get(),
            id: random_uuid()?,
            user: Some(caller.user_id().get()),
            device: Some(caller.device_id().get()),
            entry,
        })
    }

    /// Returns the statement that writes it.
    pub(crate) fn statement(&self) -> Statement<'_> {
        Statement {
            sql: INSERT,
            params: vec![
                (&self.tenant, Type::UUID),
                (&self.id, Type::UUID),
                (&self.entry.at, Type::TIMESTAMPTZ),
                (&self.user, Type::UUID),
                (&self.device, Type::UUID),
                (&self.entry.action, Type::TEXT),
                (&self.entry.resource_type, Type::TEXT),
                (&self.entry.resource_id, Type::TEXT),
                (&self.entry.detail, Type::JSONB),
            ],
        }
    }
}

/// Records `entry` in the trail of `tenant`, as done by `user` on `device` where they are known.
pub(crate) async fn record_for(
    tx: &mut SystemTx,
    tenant: TenantId,
    user: Option<Uuid>,
    device: Option<Uuid>,
    entry: &Entry<'_>,
) -> Result<(), StoreError> {
    let id = random_uuid()?;
    tx.execute(
        INSERT,
        &[
            (&tenant.get(), Type::UUID),
            (&id, Type::UUID),
            (&entry.at, Type::TIMESTAMPTZ),
            (&user, Type::UUID),
            (&device, Type::UUID),
            (&entry.action, Type::TEXT),
            (&entry.resource_type, Type::TEXT),
            (&entry.resource_id, Type::TEXT),
            (&entry.detail, Type::JSONB),
        ],
    )
    .await
    .map(drop)
}
