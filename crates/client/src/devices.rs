//! The account's devices, as the server knows them.

use coditect_core::sync::Failure;
use coditect_protocol::DeviceId;
use coditect_protocol::wire::devices::{Device, DeviceList};

use crate::transport::{HttpTransport, Transport as _};

const PATH: &str = "/api/v1/devices/";

/// Returns the devices that the account may see, oldest first.
///
/// # Errors
/// [`Failure`] when the server does not answer or refuses.
pub async fn list(transport: &mut HttpTransport) -> Result<Vec<Device>, Failure> {
    let first = transport.get::<DeviceList>(PATH).await;
    let reply = match first {
        Err(Failure::Unauthenticated(problem)) => {
            if !transport.authenticate().await {
                return Err(Failure::Unauthenticated(problem));
            }
            transport.get::<DeviceList>(PATH).await?
        }
        other => other?,
    };
    Ok(reply.devices)
}

/// Locks a device out, at once.
///
/// # Errors
/// [`Failure`] when the server does not answer, refuses, or knows no such device.
pub async fn revoke(transport: &mut HttpTransport, device: DeviceId) -> Result<(), Failure> {
    let path = format!("{PATH}{device}/");
    match transport.delete(&path).await {
        Err(Failure::Unauthenticated(problem)) => {
            if !transport.authenticate().await {
                return Err(Failure::Unauthenticated(problem));
            }
            transport.delete(&path).await
        }
        other => other,
    }
}
