//! `coditect activity`.

use clap::{Args, Subcommand};
use coditect_protocol::catalogue::{Table as Synced, by_cloud_name};
use serde_json::{Value, json};

use super::records::{self, text};
use crate::context::Context;
use crate::exit::Exit;
use crate::names;
use crate::table::{Table, short_time};

const HELP: &str = "\
A call of a tool belongs to the task that its description begins with (\"A.9.1: build\",
\"E001-T017: …\": explicit, 0.99), else to the only task of its session that was in progress then
(temporal, 0.70). Where several were, the task is _AMBIGUOUS (0.50). Calls while no task was in
progress are not listed. A call that made a commit is described by it.

Examples:
  coditect activity list --task 7 --session 198393f2-22db-477b-ac77-1825bea883ae
  coditect activity list --track A --json | jq -r '.activities[].tool_description'
  coditect activity show 0f3a

--json: {activities: [{tool_description, task_id, track, project_name, confidence,
association_method, session_id, tool_use_id, id, …}]}.";

/// Shows which task each call of a tool belonged to.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(crate) enum Activity {
    /// List them, newest first
    List(List),
    /// Show one in full
    Show(Show),
}

/// Which to list.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
    /// Only those of this session, by the agent's id
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Only those of this task, as the agent calls it
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// Only those of this track
    #[arg(long, value_name = "TRACK")]
    track: Option<String>,
    /// Only those in folders of this name
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// explicit, temporal or ambiguous
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
}

/// Which to show.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The call's id (the agent's), our id, or the beginning of one
    id: String,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Activity) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[associations().file])?;
    let command = match command {
        Activity::List(command) => command,
        Activity::Show(command) => {
            let also = Some("tool_use_id");
            let found = names::row(&store, associations(), "activity", &command.id, also)?;
            records::print_entry(context, associations(), &found)?;
            return Ok(Exit::Ok);
        }
    };
    let given = [
        ("session_id", command.session.as_deref()),
        ("task_id", command.task.as_deref()),
        ("track", command.track.as_deref()),
        ("project_name", command.project.as_deref()),
        ("association_method", command.method.as_deref()),
    ];
    let filter = records::filter(&given, command.limit);
    let found = store.list(associations().cloud, &filter)?;
    let documents: Vec<Value> = found.iter().map(records::document).collect();
    context
        .printer
        .either(&json!({ "activities": documents }), |printer| {
            if found.is_empty() {
                printer.note("no activities");
                printer.hint("coditect import claude");
                return Ok(());
            }
            let heads = ["id", "made", "project", "track", "task", "how", "what"];
            let mut table = Table::new(&heads);
            for view in &found {
                table.row([
                    names::short_id(view.id.as_deref().unwrap_or("-")),
                    short_time(view.created_at.as_deref()),
                    text(&view.row, "project_name"),
                    text(&view.row, "track"),
                    text(&view.row, "task_id"),
                    text(&view.row, "association_method"),
                    text(&view.row, "tool_description"),
                ]);
            }
            table.print(printer)
        })?;
    Ok(Exit::Ok)
}

fn associations() -> &'static Synced {
    // The catalogue has it; the tests of the commands fail otherwise.
    by_cloud_name("context_activity_associations")
        .unwrap_or_else(|| unreachable!("no table of activities"))
}
