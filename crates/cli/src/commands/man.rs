//! `coditect man`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use serde_json::json;

use crate::arguments::Arguments;
use crate::context::Context;
use crate::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  coditect man ~/.local/share/man/man1 && man coditect-sync";

/// Writes the manual pages, one for each command.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Man {
    /// Folder to write them to; made if it is missing
    folder: PathBuf,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Man) -> anyhow::Result<Exit> {
    let folder = &command.folder;
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    clap_mangen::generate_to(Arguments::command(), folder)
        .with_context(|| format!("writing manual pages to {}", folder.display()))?;
    let place = folder.display().to_string();
    context
        .printer
        .either(&json!({"folder": place}), |printer| printer.line(&place))?;
    Ok(Exit::Ok)
}
