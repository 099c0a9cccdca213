//! `coditect embedding`.

mod import;
mod nearest;
mod vector;

use clap::{Args, Subcommand};
use coditect_local_store::{LocalStore, RowFilter, RowView};
use coditect_protocol::catalogue::{Table as Synced, by_cloud_name};
use serde_json::{Value, json};

use super::records::{self, text};
use super::{project, records::commands};
use crate::context::Context;
use crate::exit::Exit;
use crate::names;
use crate::table::Table;

const TABLE: &str = "projects_embeddings";

const HELP: &str = "\
A program of yours makes the vectors; coditect keeps them with the project, on every device, and
finds what is near. A line of an import is a JSON object:

  {\"file_path\": \"src/main.rs\", \"chunk_index\": 0, \"model\": \"text-embedding-3-small\",
   \"embedding\": [0.012, -0.034, …], \"source_hash\": \"sha256 of what was embedded\"}

chunk_index (0) and source_hash may be left out, model where --model gives it. A file's chunk has
one vector per model: importing it again changes that. Numbers must be finite, not all zero, and as
many as the model's other vectors have.

Examples:
  embed src | coditect embedding import - --project app --model nomic-embed-text
  coditect embedding list --project app
  coditect embedding nearest --file src/main.rs --project app
  embed-one 'where are tokens checked' | coditect embedding nearest --vector - --limit 5";

/// How the commands that all records have know this table.
const KIND: records::Kind = records::Kind {
    noun: "embedding",
    plural: "embeddings",
    table: TABLE,
    title: "file_path",
    list: &["file_path"],
    fields: &[],
    known_by: &[],
    count: None,
};

/// Works on the vectors of a project's files.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(crate) enum Embedding {
    /// Bring in vectors: a JSON object a line
    Import(import::Import),
    /// List them, without their numbers
    List(List),
    /// Show one in full
    Show(records::Show),
    /// Find the vectors that point the same way
    Nearest(nearest::Nearest),
    /// Delete one
    Delete(records::Delete),
}

/// Which to list.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
    /// Only those of this project, by its id or name
    #[arg(long)]
    project: Option<String>,
    /// Only those of this file, as it was imported
    #[arg(long, value_name = "PATH")]
    file: Option<String>,
    /// Only those of this model
    #[arg(long)]
    model: Option<String>,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Embedding) -> anyhow::Result<Exit> {
    match command {
        Embedding::Import(command) => import::run(context, &command),
        Embedding::List(command) => list(context, &command),
        Embedding::Show(command) => commands::show(context, &KIND, &command),
        Embedding::Nearest(command) => nearest::run(context, &command),
        Embedding::Delete(command) => commands::delete(context, &KIND, &command),
    }
}

fn embeddings() -> &'static Synced {
    // The catalogue has it; the tests of the commands fail otherwise.
    by_cloud_name(TABLE).unwrap_or_else(|| unreachable!("no table of embeddings"))
}

/// Returns a filter for what was given, with the project by its id.
fn filter(
    store: &LocalStore,
    project: Option<&str>,
    file: Option<&str>,
    model: Option<&str>,
    limit: u32,
) -> anyhow::Result<RowFilter> {
    let project = project
        .map(|name| project::named(store, name))
        .transpose()?;
    let given = [
        ("project_id", project.as_deref()),
        ("file_path", file),
        ("model", model),
    ];
    Ok(records::filter(&given, limit))
}

/// Returns a row as JSON without its numbers.
fn document(view: &RowView) -> Value {
    let mut document = records::document(view);
    if let Some(object) = document.as_object_mut() {
        object.remove("embedding_vector");
    }
    document
}

fn list(context: &Context, command: &List) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[embeddings().file])?;
    let filter = filter(
        &store,
        command.project.as_deref(),
        command.file.as_deref(),
        command.model.as_deref(),
        command.limit,
    )?;
    let found = store.list(TABLE, &filter)?;
    let documents: Vec<Value> = found.iter().map(document).collect();
    context
        .printer
        .either(&json!({ "embeddings": documents }), |printer| {
            if found.is_empty() {
                printer.note("no embeddings");
                printer.hint("coditect embedding import FILE");
                return Ok(());
            }
            let heads = ["id", "project", "model", "#numbers", "#chunk", "file"];
            let mut table = Table::new(&heads);
            for view in &found {
                table.row([
                    names::short_id(view.id.as_deref().unwrap_or("-")),
                    text(&view.row, "project_id"),
                    text(&view.row, "model"),
                    text(&view.row, "dimensions"),
                    text(&view.row, "chunk_index"),
                    text(&view.row, "file_path"),
                ]);
            }
            table.print(printer)
        })?;
    Ok(Exit::Ok)
}
