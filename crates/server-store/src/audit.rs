//! The audit trail: who did what, when. Ids and counts, never content.

pub mod chain;
pub mod head;
mod list;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::credential::{Caller, TenantId, random_uuid};
use crate::db::{Statement, SystemTx, TenantTx};
pub use list::{Filter, PAGE_ENTRIES_MAX, list};

const INSERT: &str = "insert into audit_log
    (tenant_id, id, at, user_id, device_id, action, resource_type, resource_id, detail)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// The same for parts of a joined transaction, each in its caller's name.
const INSERT_JOINED: &str = "insert into audit_log
    (tenant_id, id, at, user_id, device_id, action, resource_type, resource_id, detail)
    select $1, id, at, case when act_as(part) is not null then user_id end, device_id, action,
    resource_type, resource_id, detail
    from unnest($2::integer[], $3::uuid[], $4::timestamptz[], $5::uuid[], $6::uuid[], $7::text[],
    $8::text[], $9::text[], $10::jsonb[])
    as given (part, id, at, user_id, device_id, action, resource_type, resource_id, detail)";

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

/// Records `entry` as done by the operator, in a transaction that acts for somebody: in their name,
/// as row security has it, and without a device.
///
/// # Errors
///
/// Those of the database.
pub(crate) async fn record_by_operator(
    tx: &mut TenantTx,
    entry: &Entry<'_>,
) -> Result<(), StoreError> {
    let prepared = Prepared {
        device: None,
        ..Prepared::new(tx, entry)?
    };
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

/// Entries of several callers of a joined transaction, as arrays.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    parts: Vec<i32>,
    ids: Vec<Uuid>,
    at: Vec<DateTime<Utc>>,
    users: Vec<Uuid>,
    devices: Vec<Uuid>,
    actions: Vec<String>,
    resource_types: Vec<Option<String>>,
    resource_ids: Vec<Option<String>>,
    details: Vec<Value>,
}

impl Joined {
    /// Adds the entry of a part, which counts from 1, as done by its caller.
    pub(crate) fn push(
        &mut self,
        part: i32,
        caller: &Caller,
        entry: Entry<'_>,
    ) -> Result<(), StoreError> {
        self.parts.push(part);
        self.ids.push(random_uuid()?);
        self.at.push(entry.at);
        self.users.push(caller.user_id().get());
        self.devices.push(caller.device_id().get());
        self.actions.push(entry.action.to_owned());
        self.resource_types
            .push(entry.resource_type.map(str::to_owned));
        self.resource_ids.push(entry.resource_id);
        self.details.push(entry.detail);
        Ok(())
    }

    /// Returns the statement that writes them.
    pub(crate) fn statement<'a>(&'a self, tenant: &'a Uuid) -> Statement<'a> {
        Statement {
            sql: INSERT_JOINED,
            params: vec![
                (tenant, Type::UUID),
                (&self.parts, Type::INT4_ARRAY),
                (&self.ids, Type::UUID_ARRAY),
                (&self.at, Type::TIMESTAMPTZ_ARRAY),
                (&self.users, Type::UUID_ARRAY),
                (&self.devices, Type::UUID_ARRAY),
                (&self.actions, Type::TEXT_ARRAY),
                (&self.resource_types, Type::TEXT_ARRAY),
                (&self.resource_ids, Type::TEXT_ARRAY),
                (&self.details, Type::JSONB_ARRAY),
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
