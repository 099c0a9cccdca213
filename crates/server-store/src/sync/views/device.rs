//! The device of a person who uses the views without naming one: a browser, a script.

use chrono::{DateTime, Utc};
use coditect_protocol::DeviceId;
use serde_json::json;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::audit::{self, Entry};
use crate::credential::Caller;
use crate::db::{Db, SystemTask};
use crate::sync::TokenKey;

const REVOKED: &str = "select from devices
    where tenant_id = $1 and id = $2 and revoked_at is not null";
const REGISTER: &str = "insert into devices
    (tenant_id, id, user_id, name, created_at, last_seen_at)
    values ($1, $2, $3, 'web', $4, $4) on conflict do nothing returning id";

impl TokenKey {
    /// Returns the id of the caller's web device: the same for every request of the person, and
    /// one that nobody can work out beforehand and register in the person's place.
    #[must_use]
    pub fn web_device(&self, caller: &Caller) -> DeviceId {
        let (tenant, user) = (caller.tenant().get(), caller.user_id().get());
        let mut text = b"coditect web device 1".to_vec();
        text.extend_from_slice(tenant.as_bytes());
        text.extend_from_slice(user.as_bytes());
        let tag = self.tag(&text);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&tag[..16]);
        DeviceId::new(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// Registers the caller's web device, unless it is there already. One that was locked out stays
/// locked out.
///
/// # Errors
///
/// [`StoreError::NotFound`] when the device that the caller logged in on is revoked; those of
/// the database.
pub async fn register(
    db: &Db,
    caller: &Caller,
    device: DeviceId,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let tenant = caller.tenant();
    let (user, logged_in): (Uuid, Uuid) = (caller.user_id().get(), caller.device_id().get());
    db.system(SystemTask::Authenticate, |mut tx| async move {
        let (tenant_id, id) = (tenant.get(), device.get());
        let params = [(&tenant_id as _, Type::UUID), (&logged_in as _, Type::UUID)];
        if tx.query_opt(REVOKED, &params).await?.is_some() {
            return Err(StoreError::NotFound);
        }
        let params = [
            (&tenant_id as _, Type::UUID),
            (&id as _, Type::UUID),
            (&user as _, Type::UUID),
            (&now as _, Type::TIMESTAMPTZ),
        ];
        if tx.query_opt(REGISTER, &params).await?.is_some() {
            let entry = Entry {
                at: now,
                action: "device_added",
                resource_type: Some("device"),
                resource_id: Some(device.to_string()),
                detail: json!({ "kind": "web" }),
            };
            audit::record_for(&mut tx, tenant, Some(user), Some(logged_in), &entry).await?;
        }
        Ok(())
    })
    .await
}
