//! `coditect usage`.

use clap::{Args, Subcommand, ValueEnum};
use coditect_daemon::usage;
use coditect_local_store::{LocalStore, RowFilter, RowView};
use coditect_protocol::catalogue::{File, Table as Synced, by_cloud_name};
use serde_json::{Value, json};

use super::records::{self, text};
use crate::clock;
use crate::context::Context;
use crate::exit::Exit;
use crate::names;
use crate::table::{Table, grouped, short_time};

/// Components that are looked through.
const ROWS_MAX: u32 = 100_000;

const HELP: &str = "\
Counted from the calls in imported transcripts, each once, however often they are imported: agents
(Task), skills, commands that agents ran, tools of MCP servers. What a person typed is not counted.
Each device counts what it did; `coditect pull --table component_usage_stats` fetches the counts of
your other devices.

Examples:
  coditect usage list                        what this account used most
  coditect usage list --kind skill --json | jq -r '.usage[].component_id'
  coditect usage show agent:Explore

--json: {usage: [{component_id, invocation_count, success_count, error_count, total_duration_ms,
last_used_at, id, device_id, …}]}, most used first.";

/// Shows how often components were used.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(crate) enum Usage {
    /// List them, most used first
    List(List),
    /// Show one in full
    Show(Show),
}

/// A kind of component.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Agent,
    Skill,
    Command,
    Mcp,
}

/// Which to list.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// Only those of one kind
    #[arg(long)]
    kind: Option<Kind>,
    /// Only those that were used since, such as 2026-02-03
    #[arg(long, value_name = "TIME", value_parser = records::since)]
    since: Option<String>,
    /// Only what this device did
    #[arg(long)]
    own: bool,
}

/// Which to show.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// What it is called, such as agent:Explore, or the beginning of its id
    component: String,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Usage) -> anyhow::Result<Exit> {
    let mut store = context.adopted_store(&[File::Platform, File::Sessions])?;
    usage::count(&mut store, clock::now_ms())?;
    match command {
        Usage::List(command) => list(context, &store, command),
        Usage::Show(command) => {
            let also = Some("component_id");
            let found = names::row(&store, stats(), "component", &command.component, also)?;
            records::print_entry(context, stats(), &found)?;
            Ok(Exit::Ok)
        }
    }
}

fn stats() -> &'static Synced {
    // The catalogue has it; the tests of the commands fail otherwise.
    by_cloud_name("platform_usage_stats").unwrap_or_else(|| unreachable!("no table of usage"))
}

fn calls(view: &RowView) -> u64 {
    let count = view.row.get("invocation_count").and_then(Value::as_u64);
    count.unwrap_or(0)
}

fn list(context: &Context, store: &LocalStore, command: &List) -> anyhow::Result<Exit> {
    let filter = RowFilter {
        limit: ROWS_MAX,
        ..RowFilter::default()
    };
    let mut found = store.list(stats().cloud, &filter)?;
    let device = store.device().to_string();
    let kind = command.kind.map(|kind| match kind {
        Kind::Agent => "agent:",
        Kind::Skill => "skill:",
        Kind::Command => "command:",
        Kind::Mcp => "mcp:",
    });
    let is_own = |view: &RowView| view.device_id.as_ref().is_none_or(|by| *by == device);
    found.retain(|view| {
        let is_kind = kind.is_none_or(|kind| text(&view.row, "component_id").starts_with(kind));
        let last = text(&view.row, "last_used_at");
        let is_since = command.since.as_ref().is_none_or(|since| last >= *since);
        calls(view) > 0 && is_kind && is_since && (!command.own || is_own(view))
    });
    found.sort_by_key(|view| {
        let last = text(&view.row, "last_used_at");
        (
            std::cmp::Reverse((calls(view), last)),
            text(&view.row, "component_id"),
        )
    });
    found.truncate(command.limit);
    let documents: Vec<Value> = found.iter().map(records::document).collect();
    context
        .printer
        .either(&json!({ "usage": documents }), |printer| {
            if found.is_empty() {
                printer.note("no component was used yet");
                printer.hint("coditect import claude");
                return Ok(());
            }
            let heads = ["#calls", "#failed", "#ms each", "last", "by", "component"];
            let mut table = Table::new(&heads);
            for view in &found {
                let number = |name: &str| view.row.get(name).and_then(Value::as_u64).unwrap_or(0);
                let by = match (is_own(view), &view.device_id) {
                    (false, Some(device)) => names::short_id(device),
                    _ => "this device".to_owned(),
                };
                table.row([
                    grouped(calls(view)),
                    grouped(number("error_count")),
                    grouped(number("total_duration_ms") / calls(view).max(1)),
                    short_time(Some(&text(&view.row, "last_used_at"))),
                    by,
                    text(&view.row, "component_id"),
                ]);
            }
            table.print(printer)
        })?;
    Ok(Exit::Ok)
}
