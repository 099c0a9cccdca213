//! `coditect checkpoint`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use coditect_capture::checkpoint::{self, Checkpoint as Read};
use coditect_core::hash;
use coditect_local_store::LocalStore;
use coditect_protocol::catalogue::{File, by_cloud_name};
use serde_json::{Value, json};

use super::{project, records};
use crate::clock;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::table::grouped;

/// Folders that checkpoints are looked for in, below the one that is named.
const DEPTH_MAX: usize = 6;
/// Files that are read.
const FILES_MAX: usize = 100_000;
/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Works on checkpoints.
#[derive(Debug, Subcommand)]
pub(crate) enum Checkpoint {
    /// Commands that all records have
    #[command(flatten)]
    Record(records::Verb<records::kinds::Checkpoint>),
    /// Bring in a folder of checkpoint files, with the tasks that they call done
    Import(Import),
}

/// Which folder to read.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A folder with CHECKPOINTS/*.md, checkpoints/*.md or checkpoint_index.json somewhere below
    path: PathBuf,
    /// Project that they belong to; without it that of the folder's repository, if it is known
    #[arg(long)]
    project: Option<String>,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Checkpoint) -> anyhow::Result<Exit> {
    match command {
        Checkpoint::Record(verb) => records::run(context, verb),
        Checkpoint::Import(command) => import(context, &command),
    }
}

fn import(context: &Context, command: &Import) -> anyhow::Result<Exit> {
    let found = read(&command.path)?;
    if found.is_empty() {
        let message = format!("{} holds no checkpoints", command.path.display());
        let error = CommandError::new(Exit::NotFound, message);
        return Err(error
            .hint("a folder with CHECKPOINTS/*.md or checkpoint_index.json")
            .into());
    }
    let mut store = context.adopted_store(&[File::Sessions, File::Projects])?;
    let project = match &command.project {
        Some(name) => Some(project::named(&store, name)?),
        None => project::of_path(&store, &command.path)?,
    };
    let counts = store_all(&mut store, project.as_deref(), found.values())?;
    let document = json!({
        "checkpoints": {"read": found.len(), "inserted": counts.0},
        "tasks": {"read": counts.2, "inserted": counts.1},
        "project_id": project,
    });
    context.printer.either(&document, |printer| {
        printer.line(&format!(
            "{} checkpoints, {} of them new; {} tasks, {} of them new",
            grouped(found.len() as u64),
            grouped(counts.0),
            grouped(counts.2),
            grouped(counts.1)
        ))
    })?;
    Ok(Exit::Ok)
}

/// Stores checkpoints and their tasks; returns how many of each were new, and the tasks in all.
fn store_all<'a>(
    store: &mut LocalStore,
    project: Option<&str>,
    found: impl Iterator<Item = &'a Read>,
) -> anyhow::Result<(u64, u64, u64)> {
    let Some(table) = by_cloud_name("context_checkpoints") else {
        unreachable!("the catalogue has checkpoints")
    };
    let mut counts = (0, 0, 0);
    for read in found {
        let row = json!({
            "name": read.name, "checkpoint_type": read.kind, "date": read.date,
            "source_file": read.source_file, "message_count": read.message_count,
            "task_count": read.tasks.len(), "summary": read.summary, "git_branch": read.branch,
            "project_id": project,
        });
        // Read again, and on another machine, it is the same row.
        let id = hash::named_id(table, &[project.unwrap_or_default(), &read.name]);
        let own = coditect_protocol::scope::LOCAL_USER;
        let new = store.insert_as(table.cloud, own, id, object(row), clock::now_ms())?;
        counts.0 += u64::from(new);
        let mut rows = Vec::new();
        for (number, task) in (1..).zip(&read.tasks) {
            counts.2 += 1;
            let row = json!({
                "session_id": "", "task_id": format!("{}#{number}", read.name),
                "description": task, "status": "completed", "completed_at": read.date,
                "project_id": project, "source": "checkpoint",
            });
            rows.push(("context_task_tracking", object(row)));
        }
        let done = store.ingest(File::Sessions, rows, None, clock::now_ms())?;
        counts.1 += done.inserted;
    }
    Ok(counts)
}

fn object(row: Value) -> coditect_protocol::wire::Row {
    let Value::Object(mut row) = row else {
        unreachable!("a row is an object")
    };
    row.retain(|_, value| !value.is_null());
    row
}

/// Reads all checkpoints below a folder, by name.
fn read(folder: &Path) -> anyhow::Result<BTreeMap<String, Read>> {
    let (mut pages, mut indexes) = (Vec::new(), Vec::new());
    look(folder, 0, &mut pages, &mut indexes)?;
    pages.sort();
    indexes.sort();
    let text = |path: &Path| -> anyhow::Result<Option<String>> {
        if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
            return Ok(None);
        }
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    };
    let mut found = BTreeMap::new();
    for path in &indexes {
        let Some(text) = text(path)? else { continue };
        let listed = checkpoint::index(&text)
            .with_context(|| format!("{} is no index of checkpoints", path.display()))?;
        found.extend(listed.into_iter().map(|read| (read.name.clone(), read)));
    }
    for path in &pages {
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        let Some(text) = text(path)? else { continue };
        let page = checkpoint::page(stem, &text);
        // The index knows a page by this name.
        let listed = format!("checkpoint-{stem}");
        match found.get_mut(&listed) {
            Some(known) => known.join(page),
            None => {
                found.entry(page.name.clone()).or_insert(page);
            }
        }
    }
    Ok(found)
}

fn look(
    folder: &Path,
    depth: usize,
    pages: &mut Vec<PathBuf>,
    indexes: &mut Vec<PathBuf>,
) -> anyhow::Result<()> {
    let holds = folder
        .file_name()
        .is_some_and(|name| name.eq_ignore_ascii_case("checkpoints"));
    let entries = std::fs::read_dir(folder).map_err(|error| {
        CommandError::new(Exit::NotFound, format!("{}: {error}", folder.display()))
    })?;
    for entry in entries {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() && depth < DEPTH_MAX && entry.file_name() != ".git" {
            look(&path, depth + 1, pages, indexes)?;
        } else if kind.is_file() && entry.file_name() == "checkpoint_index.json" {
            indexes.push(path);
        } else if kind.is_file() && holds && path.extension().is_some_and(|end| end == "md") {
            pages.push(path);
        }
    }
    if pages.len() > FILES_MAX {
        anyhow::bail!("more than {FILES_MAX} checkpoint files");
    }
    Ok(())
}
