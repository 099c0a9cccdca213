//! `coditect timeline`.

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use coditect_local_store::{LocalStore, Moment, RowFilter, TimelineQuery};
use coditect_protocol::catalogue::by_cloud_name;
use serde_json::{Value, json};

use super::recall::{self, Filters};
use super::records;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::names;
use crate::table::{Table, one_line, short_time};

const HELP: &str = "\
Sessions, decisions, learnings, errors with their fixes, checkpoints and commits, oldest first, the
newest of them last. Around a time or an id it shows what was before and after: give any id that
another command printed, or a session's own.

Examples:
  coditect timeline                              the last 20 moments
  coditect timeline 2026-02-03 --project app     around a day
  coditect timeline 0198ab12                     around a decision, a message, a commit
  coditect timeline --kind commit --kind decision --since 2026-02-01 --until 2026-02-28
  coditect timeline --kind message --session 198393f2 --limit 50

--json: {around, moments [{kind, table, id, scope, time, source, agent, author, user_id, project,
branch, session_id, text, row}]}.";

/// Shows what happened.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Timeline {
    /// A time or an id to look around
    #[arg(value_name = "TIME|ID")]
    around: Option<String>,
    /// Only this kind; may be given several times
    #[arg(long, value_enum)]
    kind: Vec<MomentKind>,
    #[command(flatten)]
    filters: Filters,
    /// At most so many
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: u32,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MomentKind {
    /// A conversation with an agent, at its end
    Session,
    /// A decision was written down
    Decision,
    /// Something was learned
    Learning,
    /// An error was fixed
    Error,
    /// A moment of a project was named
    Checkpoint,
    /// An agent made a commit
    Commit,
    /// A task was begun or done; only when asked for
    Task,
    /// Something was said; only when asked for
    Message,
}

impl MomentKind {
    const USUAL: [Self; 6] = [
        Self::Session,
        Self::Decision,
        Self::Learning,
        Self::Error,
        Self::Checkpoint,
        Self::Commit,
    ];

    const fn table(self) -> &'static str {
        match self {
            Self::Session => "context_sessions",
            Self::Decision => "org_decisions",
            Self::Learning => "org_skill_learnings",
            Self::Error => "org_error_solutions",
            Self::Checkpoint => "context_checkpoints",
            Self::Commit => "org_kg_nodes",
            Self::Task => "context_task_tracking",
            Self::Message => "context_messages",
        }
    }
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Timeline) -> anyhow::Result<Exit> {
    let store = context.store()?;
    let around = command.around.as_deref();
    let around = around.map(|given| time_of(&store, given)).transpose()?;
    let kinds: &[MomentKind] = match command.kind.as_slice() {
        [] => &MomentKind::USUAL,
        kinds => kinds,
    };
    let query = TimelineQuery {
        tables: kinds.iter().map(|kind| kind.table().to_owned()).collect(),
        which: command.filters.which(&store, None)?,
        around,
        limit: command.limit,
    };
    let mut moments = store.timeline(&query)?;
    moments.reverse();
    let documents: Vec<Value> = moments.iter().map(|it| document(&store, it)).collect();
    let document = json!({"around": query.around, "moments": documents});
    context.printer.either(&document, |printer| {
        if moments.is_empty() {
            printer.note("nothing happened then, as far as is known here");
            return Ok(());
        }
        let mut table = Table::new(&[
            "time", "kind", "id", "by", "project", "branch", "source", "what",
        ]);
        for moment in &moments {
            table.row([
                short_time(moment.origin.time.as_deref()),
                recall::kind(moment.table).to_owned(),
                names::short_id(moment.view.id.as_deref().unwrap_or("-")),
                recall::author_label(&store, &moment.origin),
                recall::short_project(&moment.origin),
                moment
                    .origin
                    .branch
                    .clone()
                    .unwrap_or_else(|| "-".to_owned()),
                recall::source_label(&moment.origin),
                one_line(&recall::headline(moment.table, &moment.view.row)),
            ]);
        }
        table.print(printer)
    })?;
    Ok(Exit::Ok)
}

fn document(store: &LocalStore, moment: &Moment) -> Value {
    let origin = &moment.origin;
    json!({
        "kind": recall::kind(moment.table),
        "table": moment.table,
        "id": moment.view.id,
        "scope": moment.view.scope,
        "time": origin.time,
        "source": recall::source_label(origin),
        "agent": origin.agent,
        "author": recall::author_label(store, origin),
        "user_id": origin.user_id,
        "project": origin.project,
        "branch": origin.branch,
        "session_id": origin.session_id,
        "text": recall::headline(moment.table, &moment.view.row),
        "row": moment.view.row,
    })
}

/// Returns the time that a time or an id stands for.
fn time_of(store: &LocalStore, given: &str) -> anyhow::Result<String> {
    if let Ok(time) = records::since(given)
        && !time.is_empty()
    {
        return Ok(time);
    }
    let nobody = || {
        let error = CommandError::new(Exit::NotFound, format!("'{given}' is no time and no id"));
        error.hint("write 2026-02-03, or an id that another command printed")
    };
    if let Some(session) = store.session_named(given)? {
        let equals = vec![("session_id".to_owned(), session.into())];
        let filter = RowFilter {
            equals,
            limit: 1,
            ..RowFilter::default()
        };
        return found(store, "context_sessions", &filter)?.ok_or_else(|| nobody().into());
    }
    let all = MomentKind::USUAL
        .into_iter()
        .chain([MomentKind::Task, MomentKind::Message]);
    for kind in all {
        let filter = RowFilter {
            id_prefix: Some(given.to_owned()),
            limit: 1,
            ..RowFilter::default()
        };
        if let Some(time) = found(store, kind.table(), &filter)? {
            return Ok(time);
        }
    }
    Err(nobody().into())
}

fn found(store: &LocalStore, table: &str, filter: &RowFilter) -> anyhow::Result<Option<String>> {
    let Some(view) = store.list(table, filter)?.into_iter().next() else {
        return Ok(None);
    };
    let table = by_cloud_name(table).context("there is no such table")?;
    Ok(store.moment(table, view)?.origin.time)
}
