//! `coditect search`.

use clap::{Args, ValueEnum};
use coditect_local_store::{Hit, LocalStore, SearchQuery};
use coditect_protocol::catalogue::by_cloud_name;
use serde_json::{Value, json};

use super::records::{self, text};
use crate::clock;
use crate::context::Context;
use crate::exit::Exit;
use crate::names;
use crate::table::{Table, one_line, short_time};

/// Hits that are fetched for each one shown when they are filtered by time afterwards.
const SINCE_FACTOR: u32 = 20;

const HELP: &str = "\
All words must occur; \"two words\" in quotes is a phrase, a final * a prefix. Looks only at this
machine; needs no server and no model. Best hits first.

Examples:
  coditect search \"connection refused\"
  coditect search migrat* --kind decision --limit 5
  coditect search flaky --role user --since 2026-02-01 --json

--json: {query, hits [{kind, table, id, scope, snippet, rank, time, session_id, project_id, role,
git_branch, user_id, row}]}.";

/// Searches messages, decisions, learnings, errors and tasks.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Search {
    /// What to look for
    #[arg(required = true, value_name = "QUERY")]
    words: Vec<String>,
    /// Only this kind; may be given several times
    #[arg(long, value_enum)]
    kind: Vec<SearchKind>,
    /// Only this project
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Only this session
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Only messages of this role: user, assistant, system
    #[arg(long)]
    role: Option<String>,
    /// Only what was said or made since, such as 2026-02-03
    #[arg(long, value_name = "TIME", value_parser = records::since)]
    since: Option<String>,
    /// At most so many hits
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: u32,
}

/// What can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SearchKind {
    /// What was said in a session
    Message,
    /// Decisions and their reasons
    Decision,
    /// What was learned
    Learning,
    /// Errors and what fixed them
    Error,
    /// Tasks of agents and people
    Task,
}

impl SearchKind {
    const fn table(self) -> &'static str {
        match self {
            Self::Message => "context_messages",
            Self::Decision => "org_decisions",
            Self::Learning => "org_skill_learnings",
            Self::Error => "org_error_solutions",
            Self::Task => "context_task_tracking",
        }
    }

    fn of(table: &str) -> &'static str {
        match table {
            "context_messages" => "message",
            "org_decisions" => "decision",
            "org_skill_learnings" => "learning",
            "org_error_solutions" => "error",
            "context_task_tracking" => "task",
            _ => "row",
        }
    }
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Search) -> anyhow::Result<Exit> {
    let mut store = context.store()?;
    let factor = if command.since.is_some() {
        SINCE_FACTOR
    } else {
        1
    };
    let query = SearchQuery {
        text: command.words.join(" "),
        tables: command
            .kind
            .iter()
            .map(|kind| kind.table().to_owned())
            .collect(),
        session_id: command.session.clone(),
        project_id: command.project.clone(),
        role: command.role.clone(),
        limit: command.limit.saturating_mul(factor),
    };
    let mut hits = store.search(&query, clock::now_ms())?;
    if let Some(since) = &command.since {
        hits.retain(|hit| time_of(hit).is_some_and(|time| time >= *since));
        hits.truncate(command.limit as usize);
    }
    let documents: Vec<Value> = hits.iter().map(document).collect();
    let document = json!({"query": query.text, "hits": documents});
    context.printer.either(&document, |printer| {
        if hits.is_empty() {
            printer.note("nothing found");
            return Ok(());
        }
        let parts = hits
            .iter()
            .filter(|hit| LocalStore::lacks_bodies(hit.table, &hit.row))
            .count();
        if parts > 0 {
            printer.note(&format!("of {parts} hits only the beginning is here yet"));
        }
        let mut table = Table::new(&["kind", "time", "id", "found"]);
        for hit in &hits {
            table.row([
                SearchKind::of(hit.table).to_owned(),
                short_time(time_of(hit).as_deref()),
                names::short_id(&hit.id),
                one_line(&hit.snippet),
            ]);
        }
        table.print(printer)
    })?;
    Ok(Exit::Ok)
}

/// Returns when it was said, or made.
fn time_of(hit: &Hit) -> Option<String> {
    let said = hit.row.get("timestamp").and_then(Value::as_str);
    said.map(str::to_owned).or_else(|| hit.created_at.clone())
}

fn document(hit: &Hit) -> Value {
    let column = |name: &str| {
        let known = by_cloud_name(hit.table).is_some_and(|table| table.column(name).is_some());
        known
            .then(|| text(&hit.row, name))
            .filter(|value| !value.is_empty())
    };
    json!({
        "kind": SearchKind::of(hit.table),
        "table": hit.table,
        "id": hit.id,
        "scope": hit.scope,
        "snippet": hit.snippet,
        "rank": hit.rank,
        "time": time_of(hit),
        "session_id": column("session_id"),
        "project_id": column("project_id"),
        "role": column("role"),
        "git_branch": column("git_branch"),
        "user_id": hit.user_id,
        "row": hit.row,
    })
}
