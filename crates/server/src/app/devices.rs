//! Devices: who sees which, and who may lock one out.

use chrono::{DateTime, SecondsFormat, Utc};
use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::devices::Device;
use coditect_protocol::{DeviceId, Scope, UserId};
use coditect_server_store::credential::Caller;
use coditect_server_store::{Authority, StoreError, devices};

use crate::error::AppError;
use crate::state::AppState;

/// Returns the caller's own devices, oldest first; for owners and admins all of the
/// organisation.
///
/// # Errors
/// Those of the store.
pub async fn list(state: &AppState, caller: &Caller) -> Result<Vec<Device>, AppError> {
    let organization = Scope::Org(caller.tenant().get());
    let (found, all) = state
        .db
        .tenant_snapshot("devices.list", caller, |mut tx| async move {
            let found = devices::list(&mut tx).await?;
            let authority = Authority::of(&mut tx).await?;
            let all = authority.may(Permission::DevicesRead, organization);
            Ok::<_, StoreError>((found, all))
        })
        .await?;
    let visible = found
        .into_iter()
        .filter(|device| all || device.user_id == caller.user_id().get());
    Ok(visible.map(|device| wire(device, caller)).collect())
}

/// Locks a device out: the caller's own, or as owner or admin any of the organisation.
///
/// # Errors
/// [`AppError::NotFound`] for a device that the caller may not know of.
pub async fn revoke(state: &AppState, caller: &Caller, id: DeviceId) -> Result<(), AppError> {
    let organization = Scope::Org(caller.tenant().get());
    let (device, all) = state
        .db
        .tenant_snapshot("devices.revoke", caller, |mut tx| async move {
            let device = devices::find(&mut tx, id.get()).await?;
            let authority = Authority::of(&mut tx).await?;
            let all = authority.may(Permission::DevicesRevoke, organization);
            Ok::<_, StoreError>((device, all))
        })
        .await?;
    if !all && device.user_id != caller.user_id().get() {
        return Err(AppError::NotFound);
    }
    devices::revoke(&state.db, caller, id, state.clock.now()).await?;
    state.hints.members_changed(caller.tenant());
    Ok(())
}

fn wire(device: devices::Device, caller: &Caller) -> Device {
    let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
    Device {
        id: device.id,
        user_id: UserId::new(device.user_id),
        name: device.name,
        created_at: text(device.created_at),
        last_seen_at: text(device.last_seen_at),
        revoked_at: device.revoked_at.map(text),
        current: device.id == caller.device_id(),
    }
}
