//! `coditect task`.

use clap::{Args, Subcommand};
use coditect_local_store::RowView;
use coditect_protocol::catalogue::{Table as Synced, by_cloud_name};
use serde_json::{Value, json};

use super::records::{self, text};
use crate::context::Context;
use crate::exit::Exit;
use crate::names;
use crate::table::{Table, short_time};

const EXAMPLES: &str = "\
Examples:
  coditect task list --status in_progress
  coditect task list --session 198393f2-22db-477b-ac77-1825bea883ae --json";

/// Shows tasks of agents and people.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Task {
    /// List them, newest first
    List(List),
    /// Show one in full
    Show(Show),
}

/// Which tasks to list.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
    /// pending, in_progress, completed, …
    #[arg(long)]
    status: Option<String>,
    /// Only those of this session
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Only those of this project
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
}

/// Which task to show.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its id, or the beginning of it
    id: String,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Task) -> anyhow::Result<Exit> {
    match command {
        Task::List(command) => list(context, &command),
        Task::Show(command) => show(context, &command),
    }
}

fn tasks() -> &'static Synced {
    // The catalogue has it; the tests of this file fail otherwise.
    by_cloud_name("context_task_tracking").unwrap_or_else(|| unreachable!("no table of tasks"))
}

fn list(context: &Context, command: &List) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[tasks().file])?;
    let given = [
        ("status", command.status.as_deref()),
        ("session_id", command.session.as_deref()),
        ("project_id", command.project.as_deref()),
    ];
    let filter = records::filter(&given, command.limit);
    let found = store.list(tasks().cloud, &filter)?;
    let documents: Vec<Value> = found.iter().map(records::document).collect();
    context
        .printer
        .either(&json!({"tasks": documents}), |printer| {
            if found.is_empty() {
                printer.note("no tasks");
                return Ok(());
            }
            let mut table = Table::new(&["id", "changed", "status", "session", "description"]);
            for task in &found {
                table.row(cells(task));
            }
            table.print(printer)
        })?;
    Ok(Exit::Ok)
}

fn cells(task: &RowView) -> [String; 5] {
    [
        names::short_id(task.id.as_deref().unwrap_or("-")),
        short_time(task.updated_at.as_deref()),
        text(&task.row, "status"),
        text(&task.row, "session_id").chars().take(8).collect(),
        text(&task.row, "description"),
    ]
}

fn show(context: &Context, command: &Show) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[tasks().file])?;
    let task = names::row(&store, tasks(), "task", &command.id, Some("task_id"))?;
    records::print_entry(context, tasks(), &task)?;
    Ok(Exit::Ok)
}
