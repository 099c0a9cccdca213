//! `coditect embedding nearest`.

use std::collections::BTreeSet;
use std::io::Read as _;

use clap::Args;
use coditect_local_store::{LocalStore, RowFilter, RowView};
use serde_json::{Value, json};

use super::{TABLE, document, embeddings, filter, vector};
use crate::commands::records::text;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::names;
use crate::table::Table;

/// Vectors that are looked at in one go.
const PAGE_ROWS: u32 = 500;
/// Longest vector that is read, in bytes.
const VECTOR_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What to look for.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct Nearest {
    /// What is near this file
    #[arg(long, group = "what", value_name = "PATH")]
    file: Option<String>,
    /// Part of the file
    #[arg(long, default_value_t = 0, value_name = "N", conflicts_with = "vector")]
    chunk: u32,
    /// What is near this vector, a JSON array; - reads it from standard input
    #[arg(long, group = "what", value_name = "JSON", allow_hyphen_values = true)]
    vector: Option<String>,
    /// Model that made the vector, where several are stored
    #[arg(long)]
    model: Option<String>,
    /// Only in this project, by its id or name
    #[arg(long)]
    project: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 10, value_name = "N")]
    limit: usize,
}

/// What everything is compared with.
struct Wanted {
    vector: Vec<f64>,
    model: String,
    /// The row that it is of.
    id: Option<String>,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Nearest) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[embeddings().file])?;
    let wanted = match (&command.file, &command.vector) {
        (Some(file), _) => of_file(&store, command, file)?,
        (None, given) => of_vector(&store, command, given.as_deref().unwrap_or_default())?,
    };
    let found = search(&store, command, &wanted)?;
    let documents = found.iter().map(|(cosine, view)| {
        let mut document = document(view);
        document["cosine"] = json!(cosine);
        document
    });
    let document = json!({"model": wanted.model, "nearest": documents.collect::<Vec<_>>()});
    context.printer.either(&document, |printer| {
        if found.is_empty() {
            printer.note("nothing to compare with");
            return Ok(());
        }
        let mut table = Table::new(&["#cosine", "id", "project", "#chunk", "file"]);
        for (cosine, view) in &found {
            table.row([
                format!("{cosine:.4}"),
                names::short_id(view.id.as_deref().unwrap_or("-")),
                text(&view.row, "project_id"),
                text(&view.row, "chunk_index"),
                text(&view.row, "file_path"),
            ]);
        }
        table.print(printer)
    })?;
    Ok(Exit::Ok)
}

fn of_file(store: &LocalStore, command: &Nearest, file: &str) -> anyhow::Result<Wanted> {
    let (project, model) = (command.project.as_deref(), command.model.as_deref());
    let mut filter = filter(store, project, Some(file), model, 2)?;
    filter
        .equals
        .push(("chunk_index".to_owned(), command.chunk.into()));
    let mut found = store.list(TABLE, &filter)?;
    let view = match found.len() {
        1 => found.remove(0),
        0 => {
            let message = format!("there is no vector of {file}, chunk {}", command.chunk);
            let error = CommandError::new(Exit::NotFound, message);
            return Err(error.hint("coditect embedding list").into());
        }
        _ => {
            let message = format!("{file} has several vectors");
            let error = CommandError::new(Exit::NotFound, message);
            return Err(error.hint("--project, --model").into());
        }
    };
    let stored = view.row.get("embedding_vector").unwrap_or(&Value::Null);
    let vector = vector::read(stored).map_err(|error| {
        CommandError::new(
            Exit::Failure,
            format!("the stored vector of {file}: {error}"),
        )
    })?;
    Ok(Wanted {
        vector,
        model: text(&view.row, "model"),
        id: view.id,
    })
}

fn of_vector(store: &LocalStore, command: &Nearest, given: &str) -> anyhow::Result<Wanted> {
    let mut text = given.to_owned();
    if given == "-" {
        text.clear();
        let stdin = std::io::stdin().lock();
        stdin.take(VECTOR_BYTES_MAX).read_to_string(&mut text)?;
    }
    let wrong = |why: String| CommandError::new(Exit::Usage, format!("the vector: {why}"));
    let value: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let vector = vector::read(&value).map_err(|error| wrong(error.to_string()))?;
    let model = match &command.model {
        Some(model) => model.clone(),
        None => only_model(store, command)?,
    };
    Ok(Wanted {
        vector,
        model,
        id: None,
    })
}

fn only_model(store: &LocalStore, command: &Nearest) -> anyhow::Result<String> {
    let mut models = BTreeSet::new();
    each(store, command, None, |view| {
        models.insert(text(&view.row, "model"));
    })?;
    if models.len() > 1 {
        let names: Vec<String> = models.into_iter().collect();
        let message = format!("vectors of several models are stored: {}", names.join(", "));
        let error = CommandError::new(Exit::Usage, message);
        return Err(error.hint("--model says which").into());
    }
    Ok(models.pop_first().unwrap_or_default())
}

/// Returns what is nearest, nearest first.
fn search(
    store: &LocalStore,
    command: &Nearest,
    wanted: &Wanted,
) -> anyhow::Result<Vec<(f64, RowView)>> {
    let mut found: Vec<(f64, RowView)> = Vec::new();
    let mut other = None;
    each(store, command, Some(&wanted.model), |view| {
        let stored = view.row.get("embedding_vector").unwrap_or(&Value::Null);
        let Ok(vector) = vector::read(stored) else {
            return;
        };
        if vector.len() != wanted.vector.len() {
            other = Some(vector.len());
        } else if wanted.id.is_none() || view.id != wanted.id {
            found.push((vector::cosine(&wanted.vector, &vector), view));
        }
        if found.len() >= command.limit + PAGE_ROWS as usize {
            keep_nearest(&mut found, command.limit);
        }
    })?;
    keep_nearest(&mut found, command.limit);
    if let (true, Some(count)) = (found.is_empty(), other) {
        let given = wanted.vector.len();
        let message = format!(
            "the vector has {given} numbers, those of {} have {count}",
            wanted.model
        );
        return Err(CommandError::new(Exit::Usage, message).into());
    }
    Ok(found)
}

fn keep_nearest(found: &mut Vec<(f64, RowView)>, limit: usize) {
    found.sort_by(|(a, one), (b, other)| b.total_cmp(a).then_with(|| one.id.cmp(&other.id)));
    found.truncate(limit);
}

/// Goes through the vectors of the project and the model.
fn each(
    store: &LocalStore,
    command: &Nearest,
    model: Option<&str>,
    mut look: impl FnMut(RowView),
) -> anyhow::Result<()> {
    let project = command.project.as_deref();
    let mut filter: RowFilter = filter(store, project, None, model, PAGE_ROWS)?;
    loop {
        let page = store.list(TABLE, &filter)?;
        let is_last = page.len() < PAGE_ROWS as usize;
        page.into_iter().for_each(&mut look);
        if is_last {
            return Ok(());
        }
        filter.offset += PAGE_ROWS;
    }
}
