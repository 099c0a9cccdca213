//! `coditect search`.

use clap::{Args, ValueEnum};
use coditect_local_store::{Hit, LocalStore, SearchQuery};
use coditect_protocol::catalogue::by_cloud_name;
use serde_json::{Value, json};

use super::recall::{self, Filters};
use super::records::text;
use crate::clock;
use crate::context::Context;
use crate::exit::Exit;
use crate::names;
use crate::table::{Table, one_line, short_time};

const HELP: &str = "\
All words must occur; \"two words\" in quotes is a phrase, a final * a prefix. Looks only at this
machine; needs no server and no model. Best hits first; each says when it was, who wrote it, in
which project and on which branch, and what told it: an agent's session, or somebody who wrote it
down. `coditect session show`, `coditect decision show` and so on give the whole of it;
`coditect timeline ID` what was around it. Of a word that more than 5,000 messages have, the newest
5,000 are ranked, unless a filter is given.

Examples:
  coditect search \"connection refused\"
  coditect search migrat* --kind decision --limit 5
  coditect search flaky --project app --role user --since 2026-02-01 --until 2026-02-28
  coditect search deadlock --agent codex --author me --json

--json: {query, hits [{kind, table, id, scope, snippet, rank, time, source, agent, author, user_id,
project, project_id, branch, git_branch, session_id, role, row}]}.";

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
    /// Only messages of this role: user, assistant, system
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    filters: Filters,
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
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Search) -> anyhow::Result<Exit> {
    let mut store = context.store()?;
    let tables = command.kind.iter().map(|kind| kind.table().to_owned());
    let query = SearchQuery {
        text: command.words.join(" "),
        tables: tables.collect(),
        which: command.filters.which(&store, command.role.as_deref())?,
        limit: command.limit,
    };
    let hits = store.search(&query, clock::now_ms())?;
    let documents: Vec<Value> = hits.iter().map(|hit| document(&store, hit)).collect();
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
        let heads = [
            "kind", "time", "id", "by", "project", "branch", "source", "found",
        ];
        let mut table = Table::new(&heads);
        for hit in &hits {
            table.row([
                recall::kind(hit.table).to_owned(),
                short_time(hit.origin.time.as_deref()),
                names::short_id(&hit.id),
                recall::author_label(&store, &hit.origin),
                recall::short_project(&hit.origin),
                hit.origin.branch.clone().unwrap_or_else(|| "-".to_owned()),
                recall::source_label(&hit.origin),
                one_line(&hit.snippet),
            ]);
        }
        table.print(printer)
    })?;
    Ok(Exit::Ok)
}

fn document(store: &LocalStore, hit: &Hit) -> Value {
    let column = |name: &str| {
        let known = by_cloud_name(hit.table).is_some_and(|table| table.column(name).is_some());
        known
            .then(|| text(&hit.row, name))
            .filter(|value| !value.is_empty())
    };
    let origin = &hit.origin;
    json!({
        "kind": recall::kind(hit.table),
        "table": hit.table,
        "id": hit.id,
        "scope": hit.scope,
        "snippet": hit.snippet,
        "rank": hit.rank,
        "time": origin.time,
        "source": recall::source_label(origin),
        "agent": origin.agent,
        "author": recall::author_label(store, origin),
        "user_id": hit.user_id,
        "project": origin.project,
        "project_id": column("project_id"),
        "branch": origin.branch,
        "git_branch": column("git_branch"),
        "session_id": origin.session_id,
        "role": column("role"),
        "row": hit.row,
    })
}
