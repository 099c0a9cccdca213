//! `coditect project`.

mod rule;
mod scan;
mod shared;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use coditect_local_store::{LocalStore, RowFilter, RowView};
use coditect_protocol::catalogue::{File, by_cloud_name};
use serde_json::{Value, json};

use super::records::{self, Delete, Described as _, List, Show, kinds, text};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::repository::{self, Repository};
use crate::table::{Table, grouped, one_line, short_time};

pub(crate) const EXAMPLES: &str = "\
A project is known by its repository: the address of its remote, or its first commit. It is the
same project in every clone, on every machine, wherever the folder is. `list` and the other
commands take its id, its name, or a part of either.

Examples:
  coditect project scan                        the repository of the current folder
  coditect project scan ~/work/app --no-files  without hashing its files
  coditect project list
  coditect project files app --limit 10
  coditect exclude add 'vendor/' --project app";

/// Files and rows that are read for a summary.
const ROWS_MAX: u32 = 1_000_000;

/// Works on projects.
#[derive(Debug, Subcommand)]
pub(crate) enum Project {
    /// Look at a folder: note the project, its parts, and what its files hold
    Scan(Scan),
    /// List them, newest first
    List(List),
    /// Show one with what is known about it
    Show(Show),
    /// List the files of one as this machine has them
    Files(Files),
    /// List its parts: submodules, packages
    Parts(Parts),
    /// List the register of projects
    Register(List),
    /// Forget one, here and on every device; the folder stays
    Delete(Delete),
    /// Where new decisions and learnings of a project go by themselves
    #[command(subcommand)]
    Rule(rule::Rules),
    #[command(flatten)]
    Shared(shared::Shared),
}

/// What to look at.
#[derive(Debug, Args)]
pub(crate) struct Scan {
    /// Folder; the current one if none is given
    path: Option<PathBuf>,
    /// Name of the project, if its repository's is not right
    #[arg(long)]
    name: Option<String>,
    /// Do not hash files
    #[arg(long)]
    no_files: bool,
}

/// Whose files to list.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// The project; that of the current folder if none is given
    project: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
}

/// Whose parts to list.
#[derive(Debug, Args)]
pub(crate) struct Parts {
    /// The project; that of the current folder if none is given
    project: Option<String>,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Project) -> anyhow::Result<Exit> {
    match command {
        Project::Scan(command) => scan::run(context, &command),
        Project::List(command) => records::commands::list(context, kinds::Project::KIND, &command),
        Project::Register(command) => {
            records::commands::list(context, kinds::Register::KIND, &command)
        }
        Project::Show(command) => show(context, &command),
        Project::Files(command) => files(context, &command),
        Project::Parts(command) => parts(context, &command),
        Project::Rule(command) => rule::run(context, &command),
        Project::Shared(command) => shared::run(context, command),
        Project::Delete(mut command) => {
            let store = context.adopted_store(&[File::Projects])?;
            command.id = row(&store, &command.id)?.id.unwrap_or_default();
            drop(store);
            records::commands::delete(context, kinds::Project::KIND, &command)
        }
    }
}

/// Returns the project id that a person means by an id, a name, or the beginning of either. What
/// fits no project is taken as it is: rows may be of projects that were never scanned.
pub(super) fn named(store: &LocalStore, name: &str) -> anyhow::Result<String> {
    let found = candidates(store, name)?;
    match found.as_slice() {
        [] => Ok(name.to_owned()),
        [one] => Ok(text(&one.row, "project_id")),
        several => Err(ambiguous(name, several).into()),
    }
}

fn ambiguous(name: &str, several: &[RowView]) -> CommandError {
    let ids: Vec<String> = several
        .iter()
        .map(|view| text(&view.row, "project_id"))
        .collect();
    let message = format!("'{name}' fits several projects: {}", ids.join(", "));
    CommandError::new(Exit::NotFound, message).hint("give more of the id")
}

/// Returns the projects whose id or name is the text, else those that contain it.
fn candidates(store: &LocalStore, name: &str) -> anyhow::Result<Vec<RowView>> {
    let filter = RowFilter {
        limit: ROWS_MAX,
        ..RowFilter::default()
    };
    let mut all = store.list("projects_projects", &filter)?;
    // The same project may be in several scopes; the own one is listed first.
    all.sort_by_key(|view| view.scope != "user");
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|view| seen.insert(text(&view.row, "project_id")));
    let names = |view: &RowView| {
        let id = view.id.clone().unwrap_or_default();
        [text(&view.row, "project_id"), text(&view.row, "name"), id]
    };
    let exact = |view: &&RowView| names(view).iter().any(|known| known == name);
    let found: Vec<RowView> = all.iter().filter(exact).cloned().collect();
    if !found.is_empty() || name.chars().count() < 2 {
        return Ok(found);
    }
    let low = name.to_lowercase();
    all.retain(|view| {
        let [project, title, id] = names(view);
        let contains = |known: String| known.to_lowercase().contains(&low);
        contains(project) || contains(title) || id.starts_with(name)
    });
    Ok(all)
}

fn row(store: &LocalStore, name: &str) -> anyhow::Result<RowView> {
    let mut found = candidates(store, name)?;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let error = CommandError::new(Exit::NotFound, format!("there is no project '{name}'"));
            Err(error.hint("coditect project list").into())
        }
        _ => Err(ambiguous(name, &found).into()),
    }
}

/// Returns the project id of the current folder.
pub(super) fn here(context: &Context, store: &LocalStore) -> anyhow::Result<String> {
    let folder = context.folder()?;
    if let Some(id) = of_path(store, &folder)? {
        return Ok(id);
    }
    let message = format!("{} is in no project that is known here", folder.display());
    let error = CommandError::new(Exit::NotFound, message);
    Err(error
        .hint("coditect project scan; or name one with --project")
        .into())
}

/// Returns the project of a folder if it is known; none else.
pub(super) fn of_path(store: &LocalStore, folder: &Path) -> anyhow::Result<Option<String>> {
    let Ok(folder) = std::fs::canonicalize(folder) else {
        return Ok(None);
    };
    let id = identity(&folder, repository::of(&folder)?.as_ref(), store);
    let known = candidates(store, &id)?;
    let is_known = known.iter().any(|view| text(&view.row, "project_id") == id);
    Ok(is_known.then_some(id))
}

/// Returns what a folder's project is known by. The remote comes first: a fork has the same first
/// commit. A folder without a repository is a project of this device only.
fn identity(folder: &Path, repository: Option<&Repository>, store: &LocalStore) -> String {
    match repository {
        Some(Repository {
            remote: Some(remote),
            ..
        }) => remote.clone(),
        Some(Repository {
            root_commit: Some(commit),
            ..
        }) => format!("git:{commit}"),
        Some(repository) => of_folder(&repository.root, store),
        None => of_folder(folder, store),
    }
}

fn of_folder(folder: &Path, store: &LocalStore) -> String {
    format!("folder:{}:{}", store.device(), folder.display())
}

fn chosen(context: &Context, store: &LocalStore, name: Option<&str>) -> anyhow::Result<RowView> {
    match name {
        Some(name) => row(store, name),
        None => row(store, &here(context, store)?),
    }
}

fn of_project(store: &LocalStore, table: &str, project: &str) -> anyhow::Result<Vec<RowView>> {
    let filter = RowFilter {
        equals: vec![("project_id".to_owned(), project.into())],
        limit: ROWS_MAX,
        ..RowFilter::default()
    };
    Ok(store.list(table, &filter)?)
}

fn show(context: &Context, command: &Show) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[File::Projects, File::Org, File::Sessions])?;
    let project = row(&store, &command.id)?;
    let id = text(&project.row, "project_id");
    let mut counts = serde_json::Map::new();
    for name in [
        "projects_sub_projects",
        "projects_content_hashes",
        "projects_exclude_patterns",
        "projects_embeddings",
        "projects_sprints",
        "org_project_tracks",
        "org_decisions",
        "context_checkpoints",
        "context_sessions",
    ] {
        let count = of_project(&store, name, &id)?.len();
        let local = by_cloud_name(name).map_or(name, |table| table.local);
        counts.insert(local.to_owned(), json!(count));
    }
    if context.printer.is_json() {
        let document = json!({"project": records::document(&project), "counts": counts});
        context.printer.document(&document)?;
        return Ok(Exit::Ok);
    }
    if let Some(table) = by_cloud_name("projects_projects") {
        records::print_entry(context, table, &project)?;
    }
    for (name, count) in &counts {
        let count = grouped(count.as_u64().unwrap_or(0));
        context.printer.line(&format!("{name:<16} {count}"))?;
    }
    Ok(Exit::Ok)
}

fn files(context: &Context, command: &Files) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[File::Projects])?;
    let project = chosen(context, &store, command.project.as_deref())?;
    let id = text(&project.row, "project_id");
    let mut found = of_project(&store, "projects_content_hashes", &id)?;
    found.sort_by_key(|view| text(&view.row, "file_path"));
    found.truncate(command.limit as usize);
    print_list(
        context,
        "files",
        &found,
        &["file_path", "size_bytes", "modified_at", "file_hash"],
    )
}

fn parts(context: &Context, command: &Parts) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[File::Projects])?;
    let project = chosen(context, &store, command.project.as_deref())?;
    let id = text(&project.row, "project_id");
    let mut found = of_project(&store, "projects_sub_projects", &id)?;
    found.sort_by_key(|view| text(&view.row, "path"));
    print_list(context, "sub_projects", &found, &["kind", "path", "name"])
}

fn print_list(
    context: &Context,
    key: &str,
    found: &[RowView],
    columns: &[&'static str],
) -> anyhow::Result<Exit> {
    let documents: Vec<Value> = found.iter().map(records::document).collect();
    context
        .printer
        .either(&json!({ key: documents }), |printer| {
            if found.is_empty() {
                printer.note(&format!("no {key} are known"));
                return Ok(());
            }
            let mut table = Table::new(columns);
            for view in found {
                let cell = |name: &&str| match *name {
                    "modified_at" => short_time(Some(&text(&view.row, name))),
                    name => one_line(&text(&view.row, name)),
                };
                table.row(columns.iter().map(cell));
            }
            table.print(printer)
        })?;
    Ok(Exit::Ok)
}
