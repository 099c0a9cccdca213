//! `coditect dump`: hidden, for comparing replicas row by row.

use clap::Args;
use coditect_protocol::catalogue::{Direction, File, by_cloud_name};
use serde_json::json;

use crate::context::Context;
use crate::exit::{CommandError, Exit};

/// Prints all rows.
#[derive(Debug, Args)]
pub(crate) struct Dump {
    /// One JSON object per line: this device first, then every row in canonical form
    #[arg(long, required = true)]
    canonical: bool,
}

/// Runs the command.
pub(crate) fn run(context: &Context) -> anyhow::Result<Exit> {
    let mut store = context.store()?;
    if store.owner_of_folder().is_none() {
        return Err(CommandError::not_logged_in().into());
    }
    let printer = &context.printer;
    let device = store.device().to_string();
    printer.line(&json!({"this_device": device}).to_string())?;
    for file in File::ALL {
        context.adopt(&mut store, file)?;
        for row in store.canonical_dump(file)? {
            // A row of an `up` table counts on the device that was first to push it (PROTOCOL
            // 19); a copy of it here is outside of what replicas are compared by.
            let up =
                by_cloud_name(&row.table).is_some_and(|table| table.direction == Direction::Up);
            if up && !row.origin.is_empty() && row.origin != device {
                continue;
            }
            let line = json!({
                "table": row.table,
                "scope": row.scope,
                "id": row.id,
                "version": row.version.to_string(),
                "device": row.device,
                "origin": row.origin,
                "hash": row.hash,
                "deleted": row.deleted,
                "row": row.row,
            });
            printer.line(&line.to_string())?;
        }
    }
    Ok(Exit::Ok)
}
