//! `coditect device`.

use clap::{Args, Subcommand};
use coditect_client::devices;
use coditect_protocol::wire::devices::Device as Listed;
use serde_json::json;

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::table::{Table, short_time};
use crate::{names, prompt, remote};

const EXAMPLES: &str = "\
A device is a data folder that is logged in: a profile on a machine. Owners and admins see all
devices of the organisation.

Examples:
  coditect device list
  coditect device revoke 0198c1d2          a lost laptop: it gets nothing more, from now on
  coditect device revoke old-laptop --yes  by name, if only one has it";

/// Shows the account's devices and locks them out.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Device {
    /// List them, oldest first
    List(List),
    /// Lock one out: its logins end and it neither sends nor receives any more
    Revoke(Revoke),
}

/// Which devices to list.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Those that were locked out too
    #[arg(long)]
    all: bool,
}

/// Which device to lock out.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Its id or the beginning of it, or its name
    device: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Device) -> anyhow::Result<Exit> {
    match command {
        Device::List(command) => list(context, &command),
        Device::Revoke(command) => revoke(context, &command),
    }
}

fn list(context: &Context, command: &List) -> anyhow::Result<Exit> {
    let store = context.store()?;
    let mut transport = remote::transport(context, &store)?;
    let mut found = remote::block_on(devices::list(&mut transport))?
        .map_err(|failure| CommandError::from_failure(&failure))?;
    found.retain(|device| command.all || device.revoked_at.is_none());
    context
        .printer
        .either(&json!({"devices": found}), |printer| {
            let heads = ["device", "since", "last seen", "state", "person", "name"];
            let mut table = Table::new(&heads);
            for device in &found {
                table.row([
                    names::short_id(&device.id.to_string()),
                    short_time(Some(&device.created_at)),
                    short_time(Some(&device.last_seen_at)),
                    state(device).to_owned(),
                    names::short_id(&device.user_id.to_string()),
                    device.name.clone().unwrap_or_default(),
                ]);
            }
            table.print(printer)
        })?;
    Ok(Exit::Ok)
}

fn state(device: &Listed) -> &'static str {
    match (&device.revoked_at, device.current) {
        (Some(_), _) => "revoked",
        (None, true) => "this one",
        (None, false) => "active",
    }
}

fn revoke(context: &Context, command: &Revoke) -> anyhow::Result<Exit> {
    let store = context.store()?;
    let mut transport = remote::transport(context, &store)?;
    let found = remote::block_on(devices::list(&mut transport))?
        .map_err(|failure| CommandError::from_failure(&failure))?;
    let device = one(&found, &command.device)?;
    if !command.yes {
        let name = device.name.as_deref().unwrap_or("without a name");
        let this = if device.current { ", this one" } else { "" };
        let question = format!("lock out the device {} ({name}{this})?", device.id);
        if !prompt::confirm(&question)? {
            return Err(CommandError::new(Exit::Refused, "no device was locked out").into());
        }
    }
    remote::block_on(devices::revoke(&mut transport, device.id))?
        .map_err(|failure| CommandError::from_failure(&failure))?;
    let document = json!({"revoked": device.id});
    context.printer.either(&document, |printer| {
        printer.line(&format!("{} is locked out", device.id))
    })?;
    Ok(Exit::Ok)
}

/// Returns the device that is named by its id, the beginning of it, or its name.
fn one<'a>(devices: &'a [Listed], wanted: &str) -> Result<&'a Listed, CommandError> {
    let wanted_id = wanted.to_ascii_lowercase();
    let by_id =
        |device: &&Listed| !wanted_id.is_empty() && device.id.to_string().starts_with(&wanted_id);
    let by_name = |device: &&Listed| device.name.as_deref() == Some(wanted);
    let mut matches: Vec<&Listed> = devices.iter().filter(by_id).collect();
    if matches.is_empty() {
        let active = |device: &&Listed| device.revoked_at.is_none() && by_name(device);
        matches = devices.iter().filter(active).collect();
    }
    match matches.as_slice() {
        [device] => Ok(device),
        [] => {
            let error = CommandError::new(Exit::NotFound, format!("there is no device '{wanted}'"));
            Err(error.hint("coditect device list"))
        }
        several => {
            let text = format!("'{wanted}' fits {} devices", several.len());
            Err(CommandError::new(Exit::NotFound, text).hint("coditect device list"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::{DeviceId, UserId};

    fn device(id: &str, name: &str, revoked: bool) -> Listed {
        let at = "2026-01-01T00:00:00.000000Z".to_owned();
        Listed {
            id: id.parse::<DeviceId>().unwrap(),
            user_id: "9e50543f-11ca-498c-8ebe-98fd81c53404"
                .parse::<UserId>()
                .unwrap(),
            name: Some(name.to_owned()),
            created_at: at.clone(),
            last_seen_at: at.clone(),
            revoked_at: revoked.then_some(at),
            current: false,
        }
    }

    #[test]
    fn device_is_found_by_id_its_beginning_or_its_name() {
        let devices = [
            device("01980000-0000-7000-8000-000000000001", "laptop", false),
            device("01990000-0000-7000-8000-000000000002", "desk", false),
            device("01990000-0000-7000-8000-000000000003", "desk", true),
        ];
        let found = |wanted: &str| one(&devices, wanted).ok().map(|device| device.id);
        assert_eq!(found("0198"), Some(devices[0].id));
        assert_eq!(
            found("01990000-0000-7000-8000-000000000002"),
            Some(devices[1].id)
        );
        assert_eq!(found("laptop"), Some(devices[0].id));
        assert_eq!(
            found("desk"),
            Some(devices[1].id),
            "the other one is out already"
        );
        assert_eq!(
            (found("0199"), found(""), found("phone")),
            (None, None, None)
        );
    }
}
