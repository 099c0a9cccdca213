//! `coditect queue`.

use clap::{Args, Subcommand};
use coditect_protocol::catalogue::{File, by_cloud_name};
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;
use crate::names;
use crate::table::{Table, short_time};

const EXAMPLES: &str = "\
Examples:
  coditect queue list --parked        what the server refused, and why
  coditect process-queue --retry      try it again";

/// Shows changes that wait to be sent.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Queue {
    /// List them, oldest first
    List(List),
}

/// Which changes to list.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those that were refused too often
    #[arg(long)]
    parked: bool,
    /// At most so many of each file
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Queue) -> anyhow::Result<Exit> {
    let Queue::List(command) = command;
    let mut store = context.store()?;
    let (mut entries, mut moves) = (Vec::new(), Vec::new());
    for file in File::ALL {
        context.adopt(&mut store, file)?;
        entries.extend(store.queue_entries(file, command.parked, command.limit)?);
        moves.extend(store.queued_moves(file, command.limit)?);
    }
    moves.retain(|one| !command.parked || one.state == "parked");
    context
        .printer
        .either(&json!({"queue": entries, "moves": moves}), |printer| {
            if entries.is_empty() && moves.is_empty() {
                printer.note("nothing waits");
                return Ok(());
            }
            let heads = ["since", "table", "row", "state", "#refused", "reason"];
            let mut table = Table::new(&heads);
            for entry in &entries {
                table.row([
                    short_time(entry.created_at.as_deref()),
                    by_cloud_name(&entry.table).map_or(entry.table.clone(), names::full_name),
                    names::short_id(entry.id.as_deref().unwrap_or("-")),
                    entry.state.clone(),
                    entry.attempts.to_string(),
                    match (&entry.code, &entry.reason) {
                        (Some(code), Some(reason)) => format!("{reason} ({code})"),
                        (Some(text), None) | (None, Some(text)) => text.clone(),
                        (None, None) => String::new(),
                    },
                ]);
            }
            for one in &moves {
                let to = names::scope_label(&store, &one.to);
                let because = match (&one.reason, &one.code) {
                    (Some(reason), Some(code)) => format!(": {reason} ({code})"),
                    _ => String::new(),
                };
                table.row([
                    short_time(Some(&one.created_at)),
                    by_cloud_name(&one.table).map_or(one.table.clone(), names::full_name),
                    names::short_id(&one.id),
                    one.state.clone(),
                    "-".to_owned(),
                    format!("move to {to}{because}"),
                ]);
            }
            table.print(printer)
        })?;
    Ok(Exit::Ok)
}
