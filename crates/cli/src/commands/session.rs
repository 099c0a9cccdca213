//! `coditect session`.

mod export;

use clap::{Args, Subcommand};
use coditect_local_store::{LocalStore, RowFilter, RowView};
use coditect_protocol::catalogue::{Table as Synced, by_cloud_name};
use serde_json::{Value, json};

use super::records::{self, text};
use crate::context::Context;
use crate::exit::Exit;
use crate::names;
use crate::remote;
use crate::table::{Table, grouped, one_line, short_time};

/// Sessions that are looked at for a list, newest last.
const SESSIONS_MAX: u32 = 100_000;

const EXAMPLES: &str = "\
Examples:
  coditect session list --limit 5
  coditect session show 198393f2                 its messages, one line each
  coditect session show 198393f2 --json | jq -r '.messages[].content'";

/// Shows conversations with agents.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Session {
    /// List them, newest first
    List(List),
    /// Show one with its messages
    Show(Show),
    /// Give its transcript back, as it was but for secrets
    Export(export::Export),
}

/// Which sessions to list.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// At most so many
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
    /// Only those of this project, by its path or id
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Only those that went on since, such as 2026-02-03
    #[arg(long, value_name = "TIME", value_parser = records::since)]
    since: Option<String>,
}

/// Which session to show.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its id (the agent's or ours), or the beginning of it
    id: String,
    /// At most so many messages, from the first
    #[arg(long, default_value_t = 200, value_name = "N")]
    limit: usize,
    /// Only messages of this role: user, assistant, system
    #[arg(long)]
    role: Option<String>,
    /// Fetch long texts that are not on this machine yet
    #[arg(long)]
    fetch: bool,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: Session) -> anyhow::Result<Exit> {
    match command {
        Session::List(command) => list(context, &command),
        Session::Show(command) => show(context, &command),
        Session::Export(command) => export::run(context, &command),
    }
}

fn sessions() -> &'static Synced {
    by_cloud_name("context_sessions").unwrap_or_else(|| unreachable!("no table of sessions"))
}

/// When a session was last alive.
fn last_time(session: &RowView) -> String {
    let end = text(&session.row, "end_time");
    if end.is_empty() {
        text(&session.row, "start_time")
    } else {
        end
    }
}

fn list(context: &Context, command: &List) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[sessions().file])?;
    let filter = RowFilter {
        limit: SESSIONS_MAX,
        ..RowFilter::default()
    };
    let mut found = store.list(sessions().cloud, &filter)?;
    found.retain(|session| {
        let of_project = command.project.as_deref().is_none_or(|project| {
            ["project_id", "project_path"]
                .iter()
                .any(|name| text(&session.row, name) == project)
        });
        let since = command.since.as_deref();
        of_project && since.is_none_or(|since| last_time(session).as_str() >= since)
    });
    found.sort_by_key(|session| std::cmp::Reverse(last_time(session)));
    found.truncate(command.limit);
    let documents: Vec<Value> = found.iter().map(records::document).collect();
    context
        .printer
        .either(&json!({"sessions": documents}), |printer| {
            if found.is_empty() {
                printer.note("no sessions yet");
                printer.hint("coditect import claude");
                return Ok(());
            }
            let mut table = Table::new(&["session", "last", "#messages", "project", "title"]);
            for session in &found {
                let path = text(&session.row, "project_path");
                let project = path
                    .rsplit(['/', '\\'])
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                let count = session.row.get("message_count").and_then(Value::as_u64);
                table.row([
                    text(&session.row, "session_id").chars().take(13).collect(),
                    short_time(Some(&last_time(session))),
                    grouped(count.unwrap_or(0)),
                    project,
                    text(&session.row, "title"),
                ]);
            }
            table.print(printer)
        })?;
    Ok(Exit::Ok)
}

fn show(context: &Context, command: &Show) -> anyhow::Result<Exit> {
    let mut store = context.adopted_store(&[sessions().file])?;
    let session = names::row(
        &store,
        sessions(),
        "session",
        &command.id,
        Some("session_id"),
    )?;
    let mut messages = messages(&store, &session, command)?;
    let lacking: Vec<String> = messages
        .iter()
        .filter(|message| LocalStore::lacks_bodies("context_messages", &message.row))
        .filter_map(|message| message.id.clone())
        .collect();
    if !lacking.is_empty() && command.fetch {
        let rows = store.lacking_of("context_messages", &lacking)?;
        if !remote::fetch_bodies(context, &mut store, &rows)? {
            context.printer.note("the server does not answer");
        }
        messages = self::messages(&store, &session, command)?;
    } else if !lacking.is_empty() {
        let count = lacking.len();
        context.printer.note(&format!(
            "of {count} messages only the beginning is here yet"
        ));
        context
            .printer
            .hint(&format!("coditect session show {} --fetch", command.id));
    }
    let documents: Vec<Value> = messages.iter().map(records::document).collect();
    let document = json!({"session": records::document(&session), "messages": documents});
    if context.printer.is_json() {
        context.printer.document(&document)?;
        return Ok(Exit::Ok);
    }
    records::print_entry(context, sessions(), &session)?;
    context.printer.line("")?;
    let mut table = Table::new(&["time", "role", "message"]);
    for message in &messages {
        table.row([
            short_time(message.row.get("timestamp").and_then(Value::as_str)),
            text(&message.row, "role"),
            one_line(&text(&message.row, "content")),
        ]);
    }
    table.print(&context.printer)?;
    Ok(Exit::Ok)
}

fn messages(store: &LocalStore, session: &RowView, command: &Show) -> anyhow::Result<Vec<RowView>> {
    let mut equals = vec![(
        "session_id".to_owned(),
        Value::from(text(&session.row, "session_id")),
    )];
    if let Some(role) = &command.role {
        equals.push(("role".to_owned(), Value::from(role.as_str())));
    }
    let filter = RowFilter {
        equals,
        oldest_first: true,
        limit: u32::MAX,
        ..RowFilter::default()
    };
    let mut messages = store.list("context_messages", &filter)?;
    // Rows may have come in any order; a transcript's own order breaks ties.
    messages.sort_by_key(|message| {
        let sequence = message.row.get("sequence").and_then(Value::as_i64);
        (text(&message.row, "timestamp"), sequence)
    });
    messages.truncate(command.limit);
    Ok(messages)
}
