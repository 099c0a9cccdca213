//! `coditect session export`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use coditect_daemon::archive::{Archive, Restored};
use coditect_daemon::importer::sources_of_session;
use serde_json::{Value, json};

use super::{records::text, sessions};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::names;
use crate::table::grouped;

const HELP: &str = "\
Byte for byte what the agent wrote, also when its own file is long gone; [REDACTED:kind] stands
where a secret was. A session of several files (subagents, resumed copies) gives the one that is
named after it; --file chooses another.

Examples:
  coditect session export 198393f2 --out session.jsonl
  coditect session export 198393f2 --out session.jsonl --json | jq .redactions

--json (needs --out): file, files [path], bytes, redactions [{offset, bytes, kind}].";

/// Which transcript to give back.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Export {
    /// The session's id (the agent's or ours), or the beginning of it
    id: String,
    /// Write it to this file instead of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// One of the session's files, by the end of its path
    #[arg(long, value_name = "NAME")]
    file: Option<String>,
}

/// Runs the command.
pub(super) fn run(context: &Context, command: &Export) -> anyhow::Result<Exit> {
    let printer = &context.printer;
    if printer.is_json() && command.out.is_none() {
        let error = CommandError::new(Exit::Usage, "--json needs a file for the transcript");
        return Err(error.hint("--out FILE").into());
    }
    let store = context.adopted_store(&[sessions().file])?;
    let session = names::row(
        &store,
        sessions(),
        "session",
        &command.id,
        Some("session_id"),
    )?;
    let session_id = text(&session.row, "session_id");
    let files = sources_of_session(&store, &session_id)?;
    let archive = Archive::new(&context.paths.data_dir());
    let source = choose(&files, &session_id, command.file.as_deref());
    let restored = match source {
        Some(source) => archive.restore(source)?,
        None => None,
    };
    let (Some(source), Some(restored)) = (source, restored) else {
        let message = format!("the transcript of {session_id} is not in the archive");
        let error = CommandError::new(Exit::NotFound, message);
        return Err(error
            .hint("coditect import claude, on the machine where the session was")
            .into());
    };
    write(context, command, source, &files, &restored)?;
    Ok(Exit::Ok)
}

fn choose<'a>(files: &'a [String], session_id: &str, wanted: Option<&str>) -> Option<&'a String> {
    match wanted {
        Some(end) => files.iter().find(|file| file.ends_with(end)),
        None => {
            let is_own = |file: &&String| {
                let stem = file.rsplit(['/', '\\']).next().unwrap_or_default();
                stem.contains(session_id)
            };
            files.iter().find(is_own).or_else(|| files.first())
        }
    }
}

fn write(
    context: &Context,
    command: &Export,
    source: &str,
    files: &[String],
    restored: &Restored,
) -> anyhow::Result<()> {
    let printer = &context.printer;
    let Some(out) = &command.out else {
        let mut stdout = std::io::stdout().lock();
        return stdout
            .write_all(&restored.content)
            .and_then(|()| stdout.flush())
            .context("cannot print the transcript");
    };
    std::fs::write(out, &restored.content)
        .with_context(|| format!("cannot write {}", out.display()))?;
    let redactions = restored.redactions.iter();
    let document: Value = json!({
        "file": source,
        "files": files,
        "bytes": restored.content.len(),
        "redactions": redactions.collect::<Vec<_>>(),
    });
    printer.either(&document, |printer| {
        printer.line(&format!(
            "{} bytes of {source}, {} secrets replaced",
            grouped(restored.content.len() as u64),
            grouped(restored.redactions.len() as u64)
        ))
    })
}
