//! `coditect embedding import`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;
use coditect_core::hash;
use coditect_local_store::{Ingested, LocalStore, RowFilter};
use coditect_protocol::RowId;
use coditect_protocol::scope::LOCAL_USER;
use coditect_protocol::wire::Row;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{TABLE, embeddings, vector};
use crate::clock;
use crate::commands::project;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::table::grouped;

/// Rows stored in one transaction.
const ROWS_PER_WRITE: usize = 100;
/// Longest line, in bytes.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Longest name of a file or model, in bytes.
const NAME_BYTES_MAX: usize = 4_096;

/// What to bring in.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A file of JSON lines; - reads standard input
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Project, by its id or name; without it that of the current folder
    #[arg(long)]
    project: Option<String>,
    /// Model of lines that name none
    #[arg(long)]
    model: Option<String>,
}

/// One line. `embedding` is what programs that make them call the vector.
#[derive(Debug, Deserialize)]
struct Line {
    file_path: String,
    #[serde(default)]
    chunk_index: u32,
    model: Option<String>,
    #[serde(alias = "embedding_vector", alias = "vector")]
    embedding: Value,
    dimensions: Option<usize>,
    source_hash: Option<String>,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Import) -> anyhow::Result<Exit> {
    let mut store = context.adopted_store(&[embeddings().file])?;
    let project = match &command.project {
        Some(name) => project::named(&store, name)?,
        None => project::here(context, &store)?,
    };
    let done = if command.path == Path::new("-") {
        store_all(&mut store, &project, command, std::io::stdin().lock())?
    } else {
        let file = std::fs::File::open(&command.path).map_err(|error| {
            let message = format!("{}: {error}", command.path.display());
            CommandError::new(Exit::NotFound, message)
        })?;
        store_all(&mut store, &project, command, BufReader::new(file))?
    };
    let document = json!({
        "project_id": project,
        "inserted": done.inserted,
        "updated": done.updated,
        "unchanged": done.unchanged,
    });
    context.printer.either(&document, |printer| {
        printer.line(&format!(
            "{} vectors: {} new, {} changed, {} known",
            grouped(sum(&done)),
            grouped(done.inserted),
            grouped(done.updated),
            grouped(done.unchanged)
        ))
    })?;
    Ok(Exit::Ok)
}

/// Returns how many rows there were.
fn sum(done: &Ingested) -> u64 {
    done.inserted + done.updated + done.unchanged
}

fn store_all(
    store: &mut LocalStore,
    project: &str,
    command: &Import,
    mut input: impl BufRead,
) -> anyhow::Result<Ingested> {
    let (mut rows, mut numbers) = (Vec::new(), BTreeMap::new());
    let mut done = Ingested::default();
    for at in 1_u64.. {
        let mut bytes = Vec::new();
        let read = input
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut bytes)?;
        if read > 0 && !bytes.trim_ascii().is_empty() {
            let model = command.model.as_deref();
            match row(store, project, model, &bytes, &mut numbers) {
                Ok(row) => rows.push(row),
                Err(wrong) => {
                    write(store, &mut rows, &mut done)?;
                    let before = grouped(sum(&done));
                    let message = format!("line {at}: {wrong}; {before} before it are stored");
                    let error = CommandError::new(Exit::Failure, message);
                    return Err(error.hint("coditect help embedding").into());
                }
            }
        }
        if read == 0 || rows.len() == ROWS_PER_WRITE {
            write(store, &mut rows, &mut done)?;
        }
        if read == 0 {
            break;
        }
    }
    Ok(done)
}

fn write(
    store: &mut LocalStore,
    rows: &mut Vec<(RowId, &'static str, Row)>,
    done: &mut Ingested,
) -> anyhow::Result<()> {
    let now_ms = clock::now_ms();
    let given = std::mem::take(rows);
    let part = store.ingest_as(embeddings().file, given.clone(), now_ms)?;
    done.inserted += part.inserted + part.kept_out;
    done.updated += part.updated;
    done.unchanged += part.unchanged;
    // Whoever imports what was deleted wants it back.
    let back = if part.kept_out > 0 { given } else { Vec::new() };
    for (id, table, row) in back {
        if store.get(table, &id.to_string())?.is_none() {
            store.insert_as(table, LOCAL_USER, id, row, now_ms)?;
        }
    }
    Ok(())
}

/// Returns the row of a line, or what is wrong with it.
fn row(
    store: &LocalStore,
    project: &str,
    model: Option<&str>,
    bytes: &[u8],
    numbers: &mut BTreeMap<String, usize>,
) -> Result<(RowId, &'static str, Row), String> {
    let line: Line = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let model = line.model.as_deref().or(model).unwrap_or("");
    for (name, value) in [("file_path", line.file_path.as_str()), ("model", model)] {
        if value.is_empty() || value.len() > NAME_BYTES_MAX {
            let why = if value.is_empty() {
                "missing"
            } else {
                "too long"
            };
            return Err(format!("{name} is {why}"));
        }
    }
    let vector = vector::read(&line.embedding).map_err(|error| format!("embedding: {error}"))?;
    if line.dimensions.is_some_and(|said| said != vector.len()) {
        return Err(format!(
            "dimensions is not {}, the count of numbers",
            vector.len()
        ));
    }
    let expected = match numbers.get(model) {
        Some(known) => *known,
        None => {
            let known = known_numbers(store, model).map_err(|error| error.to_string())?;
            *numbers
                .entry(model.to_owned())
                .or_insert(known.unwrap_or(vector.len()))
        }
    };
    if vector.len() != expected {
        let count = vector.len();
        return Err(format!(
            "embedding has {count} numbers, others of {model} have {expected}"
        ));
    }
    let index = line.chunk_index.to_string();
    let id = hash::named_id(embeddings(), &[project, &line.file_path, &index, model]);
    let mut row = Row::new();
    let mut put = |name: &str, value: Value| row.insert(name.to_owned(), value);
    put("project_id", json!(project));
    put("file_path", json!(line.file_path));
    put("chunk_index", json!(line.chunk_index));
    put("model", json!(model));
    put("dimensions", json!(vector.len()));
    put("embedding_vector", line.embedding);
    if let Some(hash) = line.source_hash {
        put("source_hash", json!(hash));
    }
    Ok((id, TABLE, row))
}

/// Returns how many numbers the stored vectors of a model have.
fn known_numbers(
    store: &LocalStore,
    model: &str,
) -> Result<Option<usize>, coditect_local_store::Error> {
    let filter = RowFilter {
        equals: vec![("model".to_owned(), model.into())],
        limit: 1,
        ..RowFilter::default()
    };
    let found = store.list(TABLE, &filter)?;
    let count = found
        .first()
        .and_then(|view| view.row.get("dimensions")?.as_u64());
    Ok(count.and_then(|count| usize::try_from(count).ok()))
}
