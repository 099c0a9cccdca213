//! `coditect conflict`.

mod resolve;

use clap::{Args, Subcommand};
use coditect_client::conflicts::{self, ServerConflict};
use coditect_local_store::{Conflict as LocalConflict, LocalStore};
use coditect_protocol::Scope;
use coditect_protocol::catalogue::{File, by_cloud_name};
use coditect_protocol::wire::{Op, Row};
use serde_json::{Value, json};
use uuid::Uuid;

use super::records::{self, text};
use crate::clock;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::table::{Table, one_line, short_time};
use crate::{names, remote};

const EXAMPLES: &str = "\
Two devices changed a row without knowing of each other: one version is stored, the other one is
kept. Nothing has to be done; show compares the two. This device keeps those that it met itself;
those of other devices are asked from the server when it answers.

Examples:
  coditect conflict list
  coditect conflict show org:3            by its number, or by the row's id
  coditect conflict settle org:3          you have looked at it
  coditect conflict restore org:3         write what was put aside back, as a new edit
  coditect conflict resolve org:3 --take theirs
  coditect conflict resolve org:3 --take title=mine --take rationale=theirs

mine is the version of this device, theirs the other one; lost is what was put aside, stored what
holds. A field that --take does not name stays as it is stored. All of it works offline; what was
replaced is kept, too, so that it can be taken back the same way.";

/// Shows versions that lost.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Conflict {
    /// List them, oldest first
    List(List),
    /// Show what was put aside, and what is stored
    Show(Show),
    /// Note that you have looked at it; it leaves the list
    Settle(Show),
    /// Write what was put aside back, as a new edit
    Restore(Show),
    /// Choose one version, or one for each field, and settle it
    Resolve(Resolve),
}

/// What shall hold.
#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// FILE:NUMBER as the list says, or the row's id or the beginning of it
    id: String,
    /// mine, theirs, lost, stored; or FIELD=one of them, as often as needed
    #[arg(long, required = true, value_name = "SIDE")]
    take: Vec<String>,
}

/// Which conflicts to list.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Settled ones too
    #[arg(long)]
    all: bool,
}

/// Which conflict to show.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// FILE:NUMBER as the list says, or the row's id or the beginning of it
    id: String,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Conflict) -> anyhow::Result<Exit> {
    match command {
        Conflict::List(command) => list(context, &command),
        Conflict::Show(command) => show(context, &command),
        Conflict::Settle(command) => settle(context, &command),
        Conflict::Restore(command) => resolve::run(context, &command.id, &["lost".to_owned()]),
        Conflict::Resolve(command) => resolve::run(context, &command.id, &command.take),
    }
}

/// A version that lost, kept here or on the server.
struct Lost {
    /// How people name it: `org:3`, or `server:` and the beginning of the row's id.
    number: String,
    /// Where it is kept here.
    local: Option<(File, i64)>,
    /// Where it is kept at the server.
    server: Option<(Scope, Uuid)>,
    table: String,
    scope: String,
    id: String,
    kind: Value,
    op: Op,
    version: Option<String>,
    device: Option<String>,
    kept_version: Option<String>,
    row: Option<Row>,
    created_at: String,
    resolved_at: Option<String>,
}

impl Lost {
    fn of_device(lost: LocalConflict) -> Self {
        Self {
            number: format!("{}:{}", lost.file, lost.n),
            local: Some((lost.file, lost.n)),
            server: None,
            table: lost.table,
            scope: lost.scope,
            id: lost.id,
            kind: json!(lost.kind),
            op: lost.op,
            version: lost.version.map(|version| version.to_string()),
            device: lost.device,
            kept_version: lost.kept_version.map(|version| version.to_string()),
            row: lost.row,
            created_at: lost.created_at,
            resolved_at: lost.resolved_at,
        }
    }

    fn of_server(lost: ServerConflict, at: Scope, scope: String) -> Self {
        let id = lost.row_id.to_string();
        Self {
            number: format!("server:{}", names::short_id(&id)),
            local: None,
            server: Some((at, lost.id)),
            table: lost.table,
            scope,
            id,
            kind: json!(if lost.reason == "edited_fact" {
                "fact"
            } else {
                "concurrent"
            }),
            op: lost.loser_op,
            version: Some(lost.loser_version.to_string()),
            device: Some(lost.loser_device.to_string()),
            kept_version: Some(lost.winner_version.to_string()),
            row: lost.row,
            created_at: lost.detected_at,
            resolved_at: None,
        }
    }

    fn same(&self, other: &Self) -> bool {
        (&self.table, &self.id, &self.version, &self.device)
            == (&other.table, &other.id, &other.version, &other.device)
    }
}

/// Returns what this device and the server keep, settled ones included, oldest first.
fn all(context: &Context, store: &LocalStore) -> anyhow::Result<Vec<Lost>> {
    let mut all = Vec::new();
    for file in File::ALL {
        let local = store.conflicts(file, true)?;
        all.extend(local.into_iter().map(Lost::of_device));
    }
    match of_server(context, store) {
        Ok(found) => {
            for lost in found {
                match all.iter_mut().find(|known| known.same(&lost)) {
                    Some(known) => known.server = lost.server,
                    None => all.push(lost),
                }
            }
        }
        Err(error) => {
            let reason = format!("the server was not asked: {error:#}");
            context.printer.warning(&reason);
        }
    }
    all.sort_by(|a, b| a.created_at.cmp(&b.created_at));
    Ok(all)
}

fn of_server(context: &Context, store: &LocalStore) -> anyhow::Result<Vec<Lost>> {
    if store.owner_of_folder().is_none() || context.is_offline() {
        return Ok(Vec::new());
    }
    let mut transport = remote::transport(context, store)?;
    let mut scopes: Vec<Scope> = store
        .streams()?
        .into_iter()
        .map(|(scope, _)| scope)
        .collect();
    scopes.dedup();
    scopes.retain(|scope| *scope != Scope::Platform);
    let ask = async {
        let mut listed = Vec::new();
        for scope in scopes {
            listed.push((scope, conflicts::list(&mut transport, scope).await?));
        }
        Ok(listed)
    };
    let listed = remote::block_on(ask)?;
    let listed = listed.map_err(|failure| CommandError::from_failure(&failure))?;
    let mut found = Vec::new();
    for (scope, conflicts) in listed {
        let local = store.local_scope(scope)?;
        found.extend(
            conflicts
                .into_iter()
                .map(|lost| Lost::of_server(lost, scope, local.clone())),
        );
    }
    Ok(found)
}

fn list(context: &Context, command: &List) -> anyhow::Result<Exit> {
    let store = context.store()?;
    let mut found = all(context, &store)?;
    found.retain(|lost| command.all || lost.resolved_at.is_none());
    let documents: Vec<Value> = found.iter().map(document).collect();
    context
        .printer
        .either(&json!({"conflicts": documents}), |printer| {
            if found.is_empty() {
                printer.note("no conflicts");
                return Ok(());
            }
            let mut table = Table::new(&["number", "since", "table", "row", "put aside"]);
            for lost in &found {
                table.row([
                    lost.number.clone(),
                    short_time(Some(&lost.created_at)),
                    by_cloud_name(&lost.table).map_or(lost.table.clone(), names::full_name),
                    names::short_id(&lost.id),
                    summary(lost),
                ]);
            }
            table.print(printer)
        })?;
    Ok(Exit::Ok)
}

fn summary(lost: &Lost) -> String {
    let Some(row) = &lost.row else {
        return "a delete".to_owned();
    };
    let names = [
        "title",
        "name",
        "learning",
        "error_pattern",
        "description",
        "content",
    ];
    let first = names
        .iter()
        .map(|name| text(row, name))
        .find(|text| !text.is_empty());
    one_line(&first.unwrap_or_else(|| serde_json::to_string(row).unwrap_or_default()))
}

fn document(lost: &Lost) -> Value {
    json!({
        "conflict": lost.number.clone(),
        "table": lost.table,
        "scope": lost.scope,
        "id": lost.id,
        "kind": lost.kind,
        "op": lost.op,
        "version": lost.version,
        "device_id": lost.device,
        "kept_version": lost.kept_version,
        "created_at": lost.created_at,
        "resolved_at": lost.resolved_at,
        "row": lost.row,
    })
}

/// Returns the conflicts that the text means: one by its number, or all of a row.
fn find(context: &Context, store: &LocalStore, id: &str) -> anyhow::Result<Vec<Lost>> {
    let mut found = all(context, store)?;
    found.retain(|lost| lost.number == id || (id.len() >= 4 && lost.id.starts_with(id)));
    let distinct = |lost: &Lost| (lost.table.clone(), lost.id.clone());
    if let Some(first) = found.first().map(distinct) {
        if found.iter().all(|lost| distinct(lost) == first) {
            return Ok(found);
        }
        let message = format!("'{id}' fits conflicts of several rows");
        let error = CommandError::new(Exit::NotFound, message);
        return Err(error.hint("give more of the id").into());
    }
    let error = CommandError::new(Exit::NotFound, format!("there is no conflict '{id}'"));
    Err(error.hint("coditect conflict list").into())
}

fn show(context: &Context, command: &Show) -> anyhow::Result<Exit> {
    let store = context.store()?;
    let found = find(context, &store, &command.id)?;
    let first = &found[0];
    let stored = store.get(&first.table, &first.id)?;
    let documents: Vec<Value> = found.iter().map(document).collect();
    let stored_document = stored.as_ref().map(records::document);
    let before = before_both(context, &store, first);
    let whole = json!({
        "stored": stored_document, "before": before, "conflicts": documents,
    });
    context.printer.either(&whole, |printer| {
        for lost in &found {
            let who = if lost.device.as_deref() == Some(&store.device().to_string()) {
                "this device".to_owned()
            } else {
                format!("device {}", lost.device.as_deref().unwrap_or("-"))
            };
            let what = if lost.op == Op::Delete {
                "deleted"
            } else {
                "wrote"
            };
            let (number, time) = (lost.number.clone(), short_time(Some(&lost.created_at)));
            printer.line(&format!("{number}  {who} {what} this; put aside {time}"))?;
            let Some(table) = by_cloud_name(&lost.table) else {
                continue;
            };
            for column in table.columns.iter().filter(|column| column.hashed()) {
                let here = stored.as_ref().map(|view| text(&view.row, column.name));
                let here = here.unwrap_or_default();
                let there = lost.row.as_ref().map(|row| text(row, column.name));
                let there = there.unwrap_or_default();
                if here != there {
                    printer.line(&format!("  {}", column.name))?;
                    if let Some(before) = &before {
                        let before = one_line(&text(before, column.name));
                        printer.line(&format!("    before    {before}"))?;
                    }
                    printer.line(&format!("    stored    {}", one_line(&here)))?;
                    printer.line(&format!("    put aside {}", one_line(&there)))?;
                }
            }
        }
        Ok(())
    })?;
    Ok(Exit::Ok)
}

/// Returns what the row said before both versions were made, if the server answers and has kept
/// it: the latest version that was overwritten and is older than both.
fn before_both(context: &Context, store: &LocalStore, lost: &Lost) -> Option<Row> {
    let (scope, _) = lost.server?;
    let number = |text: &Option<String>| text.as_ref()?.parse::<i64>().ok();
    let below = number(&lost.version)?.min(number(&lost.kept_version)?);
    let mut transport = remote::transport(context, store).ok()?;
    let asked = conflicts::history(&mut transport, scope, &lost.table, &lost.id);
    let history = remote::block_on(asked).ok()?.ok()?;
    let older = history
        .versions
        .into_iter()
        .filter(|version| version.reason == "overwritten" && version.version.to_i64() < below);
    older.max_by_key(|version| version.version.to_i64())?.row
}

fn settle(context: &Context, command: &Show) -> anyhow::Result<Exit> {
    let mut store = context.store()?;
    let found = find(context, &store, &command.id)?;
    let settled = settle_all(context, &mut store, &found)?;
    context
        .printer
        .either(&json!({"settled": settled}), |printer| {
            printer.line(&format!("{settled} settled"))
        })?;
    Ok(Exit::Ok)
}

/// Notes here and at the server that conflicts are settled; returns how many were open. A server
/// that does not answer is told another time: it lists them until then.
fn settle_all(context: &Context, store: &mut LocalStore, found: &[Lost]) -> anyhow::Result<u64> {
    let mut settled = 0_u64;
    for lost in found {
        let mut open = false;
        if let Some((file, n)) = lost.local {
            open |= store.settle_conflict(file, n, clock::now_ms())?;
        }
        if let Some((scope, id)) = lost.server {
            let mut transport = remote::transport(context, store)?;
            let told = remote::block_on(conflicts::settle(&mut transport, scope, id))?;
            match told {
                Ok(()) => open = true,
                Err(failure) => {
                    let reason = coditect_client::http::describe(&failure);
                    let text = format!("the server was not told: {reason}");
                    context.printer.warning(&text);
                }
            }
        }
        settled += u64::from(open);
    }
    Ok(settled)
}
