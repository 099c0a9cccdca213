//! `coditect pull`.

use clap::Args;
use coditect_client::pull_table::PullTableError;
use coditect_protocol::catalogue::Direction;
use serde_json::json;

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::table::grouped;
use crate::{names, remote};

const HELP: &str = "\
Some tables (token numbers, tool calls, …) stay on the device that wrote them and on the server.
This fetches what your other devices sent. Ordinary tables come with `coditect sync`.

Examples:
  coditect pull --table token_economics
  coditect pull --table context_tool_analytics --json

--json: {table, received, stored}.";

/// Fetches a table that only goes up.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Pull {
    /// Its name: the local one, FILE:TABLE, or the server's
    #[arg(long, value_name = "TABLE")]
    table: String,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Pull) -> anyhow::Result<Exit> {
    let table = names::table(&command.table)?;
    if table.direction != Direction::Up {
        let message = format!("{} is part of every sync", names::full_name(table));
        return Err(CommandError::new(Exit::Usage, message)
            .hint("coditect sync")
            .into());
    }
    let mut store = context.store()?;
    if context.is_offline() {
        return Err(CommandError::new(Exit::Offline, "offline mode is on").into());
    }
    let mut transport = remote::transport(context, &store)?;
    let _lease = store.lease()?;
    let fetch = coditect_client::pull_table(&mut store, &mut transport, table, |_| {});
    let fetched = remote::block_on(fetch)?.map_err(|error| match error {
        PullTableError::Request(failure) => CommandError::from_failure(&failure).into(),
        PullTableError::Store(error) => anyhow::Error::from(error),
    })?;
    let document = json!({
        "table": table.cloud,
        "received": fetched.received,
        "stored": fetched.stored,
    });
    context.printer.either(&document, |printer| {
        let (stored, received) = (grouped(fetched.stored), grouped(fetched.received));
        printer.line(&format!(
            "{stored} rows of other devices stored, {received} received"
        ))
    })?;
    Ok(Exit::Ok)
}
