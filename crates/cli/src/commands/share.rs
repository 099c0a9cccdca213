//! `coditect share` and `coditect unshare`.

use std::collections::BTreeMap;

use clap::Args;
use coditect_local_store::{LocalStore, RowFilter, RowView, Sharing, is_movable};
use coditect_protocol::catalogue::{File, TABLES, Table as Synced, by_cloud_name};
use serde_json::{Value, json};

use super::records::text;
use crate::clock;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::names::{self, ScopeName};
use crate::table::grouped;

/// Rows of a session that are read at once.
const PAGE_ROWS: u32 = 500;
/// Rows that are asked for in one transaction, so that a hook does not wait.
const CHUNK_ROWS: usize = 500;
/// What people call the rows of a table.
const NOUNS: [(&str, &str); 12] = [
    ("decision", "org_decisions"),
    ("learning", "org_skill_learnings"),
    ("error", "org_error_solutions"),
    ("node", "org_kg_nodes"),
    ("edge", "org_kg_edges"),
    ("track", "org_project_tracks"),
    ("task", "context_task_tracking"),
    ("message", "context_messages"),
    ("checkpoint", "context_checkpoints"),
    ("project", "projects_projects"),
    ("sprint", "projects_sprints"),
    ("exclude", "projects_exclude_patterns"),
];

const HELP: &str = "\
Rows are private until they are shared. A row that the server has moves there with the next sync;
until then it stays where it is. Its author stays its author. `session ID` stands for a session with
all that belongs to it: messages, tasks, checkpoints. The same line again goes on where it stopped.

Only authors share their rows; admins of a team or project may move what others shared there on to
another shared scope. A move that the server refuses is in `coditect queue list`, with its reason.

Examples:
  coditect share decision:0198c1f2 --to project:app
  coditect share session 198393f2 --to team:core
  coditect share 0198c1f2 0198c1f4 --to org --dry-run
  coditect unshare decision:0198c1f2

--json: to, dry_run, and rows: table, id, from, status (queued, done, there, taken_back, in_flight,
occupied; would_move with --dry-run).";

/// Moves rows to a scope where others see them.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Share {
    /// Rows: decision:ID, any other table:ID, or ID alone; `session ID` for a whole session
    #[arg(required = true, value_name = "ROW")]
    rows: Vec<String>,
    /// Who shall see them: project:NAME, team:NAME or org
    #[arg(long, value_name = "SCOPE")]
    to: ScopeName,
    /// Say what would be shared, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Takes rows back to where only their author sees them.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Unshare {
    /// Rows, as for share
    #[arg(required = true, value_name = "ROW")]
    rows: Vec<String>,
    /// Say what would be taken back, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs `share`.
pub(crate) fn share(context: &Context, command: &Share) -> anyhow::Result<Exit> {
    carry_out(context, &command.rows, &command.to, command.dry_run)
}

/// Runs `unshare`.
pub(crate) fn unshare(context: &Context, command: &Unshare) -> anyhow::Result<Exit> {
    carry_out(context, &command.rows, &ScopeName::User, command.dry_run)
}

/// A row that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Meant {
    table: &'static Synced,
    scope: String,
    id: String,
}

impl Meant {
    fn of(table: &'static Synced, view: &RowView) -> Option<Self> {
        Some(Self {
            table,
            scope: view.scope.clone(),
            id: view.id.clone()?,
        })
    }

    fn document(&self, status: &str) -> Value {
        let name = names::full_name(self.table);
        json!({ "table": name, "id": self.id, "from": self.scope, "status": status })
    }
}

fn carry_out(
    context: &Context,
    wanted: &[String],
    to: &ScopeName,
    dry_run: bool,
) -> anyhow::Result<Exit> {
    let mut store = context.adopted_store(&[File::Org, File::Sessions, File::Projects])?;
    let to = to.local(&store)?;
    let mut rows = Vec::new();
    let mut wanted = wanted.iter();
    while let Some(text) = wanted.next() {
        let session = match text.strip_prefix("session:") {
            Some(id) => Some(id),
            None if text == "session" => wanted.next().map(String::as_str),
            None => None,
        };
        match session {
            Some(id) => rows.extend(whole_session(&store, id)?),
            None => rows.push(one(&store, text)?),
        }
    }
    let documents = if dry_run {
        let there = |row: &Meant| row.scope == to;
        let status = |row: &Meant| if there(row) { "there" } else { "would_move" };
        rows.iter().map(|row| row.document(status(row))).collect()
    } else {
        ask(context, &mut store, &rows, &to)?
    };
    print(context, &store, &documents, &to, dry_run)
}

/// Asks for the moves, some hundred rows in each transaction.
fn ask(
    context: &Context,
    store: &mut LocalStore,
    rows: &[Meant],
    to: &str,
) -> anyhow::Result<Vec<Value>> {
    let mut documents = Vec::with_capacity(rows.len());
    for file in File::ALL {
        let of_file: Vec<&Meant> = rows.iter().filter(|row| row.table.file == file).collect();
        for chunk in of_file.chunks(CHUNK_ROWS) {
            let asked: Vec<_> = chunk
                .iter()
                .map(|row| (row.table.cloud, row.scope.clone(), row.id.clone()))
                .collect();
            let done = store.share(file, &asked, to, clock::now_ms())?;
            let pairs = chunk.iter().zip(done);
            documents.extend(pairs.map(|(row, sharing)| row.document(word(sharing))));
        }
    }
    tracing::info!(target: "coditect::share", rows = rows.len(), to, "asked for moves");
    let _ = context;
    Ok(documents)
}

const fn word(sharing: Sharing) -> &'static str {
    match sharing {
        Sharing::Queued => "queued",
        Sharing::Done => "done",
        Sharing::There => "there",
        Sharing::TakenBack => "taken_back",
        Sharing::InFlight => "in_flight",
        Sharing::Occupied => "occupied",
    }
}

fn print(
    context: &Context,
    store: &LocalStore,
    documents: &[Value],
    to: &str,
    dry_run: bool,
) -> anyhow::Result<Exit> {
    let label = names::scope_label(store, to);
    let document = json!({ "to": to, "dry_run": dry_run, "rows": documents });
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for document in documents {
        let status = document["status"].as_str().unwrap_or_default();
        *counts.entry(status).or_default() += 1;
    }
    context.printer.either(&document, |printer| {
        for document in documents.iter().take(20) {
            let field = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
            let id = names::short_id(&field("id"));
            printer.line(&format!("{}:{id}  {}", field("table"), field("status")))?;
        }
        if documents.len() > 20 {
            printer.line(&format!(
                "and {} more",
                grouped(documents.len() as u64 - 20)
            ))?;
        }
        Ok(())
    })?;
    if context.printer.is_json() {
        return Ok(Exit::Ok);
    }
    for (status, count) in counts {
        let count = grouped(count);
        let note = match status {
            "queued" => format!("{count} will be in {label} after the next sync: coditect sync"),
            "done" => format!("{count} are in {label}; nobody had them before"),
            "there" => format!("{count} are in {label} already"),
            "taken_back" => format!("{count} stay where they are"),
            "in_flight" => format!("{count} are on their way: coditect sync, then again"),
            "occupied" => format!("{count} have a row of the same identity in {label}"),
            _ => format!("{count} would move to {label}"),
        };
        context.printer.note(&note);
    }
    Ok(Exit::Ok)
}

/// Returns the row that `table:id` or an id means.
fn one(store: &LocalStore, wanted: &str) -> anyhow::Result<Meant> {
    let tables: Vec<&'static Synced> = match wanted.rsplit_once(':') {
        Some((name, _)) => vec![table(name)?],
        None => TABLES.iter().copied().filter(|it| is_movable(it)).collect(),
    };
    let id = wanted.rsplit_once(':').map_or(wanted, |(_, id)| id);
    if let [table] = tables.as_slice() {
        let view = names::row(store, table, table.local, id, known_by(table))?;
        return Meant::of(table, &view).ok_or_else(|| unknown(wanted).into());
    }
    let mut found = Vec::new();
    for table in tables {
        let filter = RowFilter {
            id_prefix: Some(id.to_owned()).filter(|id| id.len() >= 4),
            limit: 2,
            ..RowFilter::default()
        };
        if filter.id_prefix.is_some() {
            let rows = store.list(table.cloud, &filter)?;
            found.extend(rows.iter().filter_map(|view| Meant::of(table, view)));
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(unknown(wanted).into()),
        _ => {
            let names: Vec<String> = found
                .iter()
                .map(|row| format!("{}:{}", names::full_name(row.table), row.id))
                .collect();
            let message = format!("'{wanted}' fits several: {}", names.join(", "));
            Err(CommandError::new(Exit::NotFound, message).into())
        }
    }
}

fn unknown(wanted: &str) -> CommandError {
    CommandError::new(Exit::NotFound, format!("there is no row '{wanted}'"))
        .hint("coditect share --help")
}

/// Column by which people know the rows of a table besides the id.
fn known_by(table: &Synced) -> Option<&'static str> {
    (table.cloud == "context_sessions").then_some("session_id")
}

fn table(name: &str) -> anyhow::Result<&'static Synced> {
    let noun = NOUNS.iter().find(|(noun, _)| *noun == name);
    let table = match noun.and_then(|(_, cloud)| by_cloud_name(cloud)) {
        Some(table) => table,
        None => names::table(name)?,
    };
    if !is_movable(table) {
        let message = format!("rows of {} are not shared", names::full_name(table));
        return Err(CommandError::new(Exit::Usage, message).into());
    }
    Ok(table)
}

/// Returns a session's row with all rows that belong to it, the session's own first.
fn whole_session(store: &LocalStore, id: &str) -> anyhow::Result<Vec<Meant>> {
    let sessions = by_cloud_name("context_sessions").ok_or_else(|| unknown(id))?;
    let session = names::row(store, sessions, "session", id, Some("session_id"))?;
    let name = text(&session.row, "session_id");
    let mut rows = vec![Meant::of(sessions, &session).ok_or_else(|| unknown(id))?];
    let parts = File::Sessions.tables().filter(|table| {
        let belongs = table.column("session_id").is_some();
        belongs && is_movable(table) && table.cloud != sessions.cloud
    });
    for table in parts {
        let mut offset = 0;
        loop {
            let filter = RowFilter {
                equals: vec![("session_id".to_owned(), Value::from(name.as_str()))],
                oldest_first: true,
                limit: PAGE_ROWS,
                offset,
                ..RowFilter::default()
            };
            let page = store.list(table.cloud, &filter)?;
            offset += PAGE_ROWS;
            // What a colleague shared of the same session stays the colleague's.
            let own = store.owner_of_folder().map(|owner| owner.user.to_string());
            let mine = |view: &&RowView| view.user_id.is_none() || view.user_id == own;
            rows.extend(
                page.iter()
                    .filter(mine)
                    .filter_map(|view| Meant::of(table, view)),
            );
            if page.len() < PAGE_ROWS as usize {
                break;
            }
        }
    }
    Ok(rows)
}
