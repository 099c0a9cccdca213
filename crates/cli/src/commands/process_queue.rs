//! `coditect process-queue`.

use clap::Args;
use coditect_protocol::catalogue::File;

use super::sync;
use crate::context::Context;
use crate::exit::Exit;
use crate::remote;

const HELP: &str = "\
A refused change waits a while before it is tried again, and after three refusals it is parked.
This sends everything that waits at once; with --retry parked changes too. Fetches nothing.
--json: as `coditect sync`.";

/// Sends what is queued now.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ProcessQueue {
    /// Try parked changes again
    #[arg(long)]
    retry: bool,
}

/// Runs the command.
pub(crate) fn run(context: &mut Context, command: &ProcessQueue) -> anyhow::Result<Exit> {
    sync::leave_offline_mode(context)?;
    let mut store = context.store()?;
    for file in File::ALL {
        store.clear_delays(file)?;
        if command.retry {
            store.retry_parked(file)?;
            store.retry_moves(file)?;
        }
    }
    if context.is_offline() {
        return sync::stay_offline(context, &mut store);
    }
    let run = remote::sync(context, &mut store, remote::Kind::PushOnly)?;
    sync::print(context, &store, &run)
}
