//! `coditect dump`: hidden, for comparing replicas row by row.

use clap::Args;
use coditect_protocol::catalogue::File;
use serde_json::{Value, json};

use super::status;
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
    printer.line(&json!({"this_device": store.device()}).to_string())?;
    for file in File::ALL {
        status::adopt(&mut store, file)?;
        for row in store.canonical_dump(file)? {
            let mut line = json!({
                "table": row.table,
                "scope": row.scope,
                "id": row.id,
                "version": row.version.to_string(),
                "device": row.device,
                "origin": row.origin,
                "hash": row.hash,
                "deleted": row.deleted,
            });
            if let (Some(columns), Value::Object(line)) = (row.row, &mut line) {
                line.insert("row".to_owned(), Value::Object(columns));
            }
            printer.line(&line.to_string())?;
        }
    }
    Ok(Exit::Ok)
}
