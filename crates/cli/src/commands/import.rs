//! `coditect import`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use coditect_capture::{Format, Root};
use coditect_daemon::importer::{ImportError, Importer, Progress, Summary};
use coditect_local_store::Ingested;
use coditect_protocol::catalogue::by_cloud_name;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::clock;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::table::{Table, grouped};

/// Damaged lines that are named one by one.
const DAMAGED_SHOWN: usize = 20;

const HELP: &str = "\
Reads what is new since the last import: sessions, messages, tokens, tool calls, tasks. Secrets are
replaced before anything is stored. Lines that are damaged are named; whole records in them count.
Run it again whenever you like: what is known changes nothing.

What was read is kept in the archive, without its secrets, whatever becomes of the file.

Examples:
  coditect import claude
  coditect import codex
  coditect import claude --from /backup/.claude --json | jq .damaged

--json: files, files_read, bytes, records, rows {sessions, messages, task_tracking, task_messages,
tool_analytics, token_economics, activity_associations: {inserted, updated, unchanged, kept_out}},
other_records, damaged [{file, line, reason}], unreadable, left_out (transcripts of projects that
opted out), redacted {kind: count}.";

const TEXT_HELP: &str = "\
Its kind is told by its marks: circles or bullets of a compact export, headings or rules of a
standard one, headings of a page (.md); else it is one message.

Examples:
  coditect import text 2026-02-03-talk.txt";

/// Brings in what other programs have recorded.
#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// Transcripts of Claude Code
    #[command(after_help = HELP)]
    Claude(Folder),
    /// Transcripts of Codex CLI
    #[command(after_help = HELP)]
    Codex(Folder),
    /// Transcripts of Gemini CLI
    #[command(after_help = HELP)]
    Gemini(Folder),
    /// Conversations that were exported as text
    #[command(after_help = TEXT_HELP)]
    Text(Text),
}

/// Where an agent keeps its transcripts.
#[derive(Debug, Args)]
pub(crate) struct Folder {
    /// The agent's folder (default: CLAUDE_CONFIG_DIR or ~/.claude, CODEX_HOME or ~/.codex,
    /// .gemini in GEMINI_CLI_HOME or ~)
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
}

/// Texts to import.
#[derive(Debug, Args)]
pub(crate) struct Text {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Import) -> anyhow::Result<Exit> {
    let environment = &context.environment;
    match command {
        Import::Claude(from) => agent(context, Format::Claude, from, &environment.claude_dir),
        Import::Codex(from) => agent(context, Format::Codex, from, &environment.codex_dir),
        Import::Gemini(from) => agent(context, Format::Gemini, from, &environment.gemini_dir),
        Import::Text(text) => {
            for file in &text.files {
                if !file.is_file() {
                    let message = format!("{} is no file", file.display());
                    return Err(CommandError::new(Exit::NotFound, message).into());
                }
                import(context, Format::Text, file)?;
            }
            Ok(Exit::Ok)
        }
    }
}

fn agent(
    context: &Context,
    format: Format,
    given: &Folder,
    usual: &Option<PathBuf>,
) -> anyhow::Result<Exit> {
    let folder = given.from.as_ref().or(usual.as_ref());
    let folder = folder.ok_or_else(|| {
        CommandError::new(Exit::Usage, "nothing says where the transcripts are").hint("--from DIR")
    })?;
    let root = Root::new(format, folder);
    if !root
        .transcript_folders()
        .iter()
        .any(|inside| inside.is_dir())
    {
        let inside = format.folders().join("/ or ");
        let message = format!("{} has no folder {inside}/", folder.display());
        let error = CommandError::new(Exit::NotFound, message);
        return Err(error
            .hint("--from names the agent's folder, such as ~/.claude")
            .into());
    }
    import(context, format, folder)?;
    Ok(Exit::Ok)
}

fn import(context: &Context, format: Format, folder: &Path) -> anyhow::Result<()> {
    let mut store = context.store()?;
    let bar = Bar::new(context);
    let ignored = context.config.hooks()?.ignore;
    let importer = Importer::new(&mut store, clock::now_ms())?.leaving_out(ignored);
    let summary = importer
        .run_format(format, folder, |progress| bar.show(progress))
        .map_err(|error| match error {
            // So that its exit code is found.
            ImportError::Store(error) => anyhow::Error::from(error),
            error => error.into(),
        })
        .with_context(|| format!("importing {}", folder.display()))?;
    bar.clear();
    context.printer.either(&document(&summary), |printer| {
        let mut table = Table::new(&["table", "#new", "#changed", "#known", "#kept out"]);
        for (name, done) in &summary.tables {
            table.row([
                local_name(name).to_owned(),
                grouped(done.inserted),
                grouped(done.updated),
                grouped(done.unchanged),
                grouped(done.kept_out),
            ]);
        }
        printer.line(&format!(
            "{} transcripts, {} with news, {} bytes, {} records",
            grouped(summary.files),
            grouped(summary.files_read),
            grouped(summary.bytes),
            grouped(summary.records)
        ))?;
        if table.is_empty() {
            return Ok(());
        }
        table.print(printer)
    })?;
    remark(context, &summary);
    Ok(())
}

/// Says on standard error what a person should know.
fn remark(context: &Context, summary: &Summary) {
    let printer = &context.printer;
    if !summary.redacted.is_empty() && !printer.is_json() {
        let kinds = summary.redacted.iter();
        let kinds: Vec<_> = kinds
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        printer.note(&format!("secrets replaced: {}", kinds.join(", ")));
    }
    if summary.left_out > 0 && !printer.is_json() {
        let count = summary.left_out;
        printer.note(&format!(
            "{count} transcripts belong to projects that opted out"
        ));
    }
    for line in summary.damaged.iter().take(DAMAGED_SHOWN) {
        printer.warning(&format!(
            "{}:{} is damaged ({}); {} whole records in it were imported",
            line.file, line.line, line.reason, line.objects
        ));
    }
    if summary.damaged.len() > DAMAGED_SHOWN {
        let more = summary.damaged.len() - DAMAGED_SHOWN;
        printer.warning(&format!("{more} more lines are damaged"));
    }
    for reason in &summary.unreadable {
        printer.warning(reason);
    }
}

fn document(summary: &Summary) -> Value {
    let count = |done: &Ingested| {
        json!({
            "inserted": done.inserted,
            "updated": done.updated,
            "unchanged": done.unchanged,
            "kept_out": done.kept_out,
        })
    };
    // Every table appears, so that a script finds its key also when nothing was there.
    let mut rows = Map::new();
    for name in [
        "context_sessions",
        "context_messages",
        "context_task_tracking",
        "context_task_messages",
        "context_tool_analytics",
        "context_token_economics",
        "context_activity_associations",
    ] {
        let done = summary.tables.get(name).copied().unwrap_or_default();
        rows.insert(local_name(name).to_owned(), count(&done));
    }
    let damaged = summary.damaged.iter().map(|line| {
        json!({
            "file": line.file,
            "line": line.line,
            "byte_offset": line.byte_offset,
            "records": line.objects,
            "reason": line.reason,
        })
    });
    let redacted: Map<String, Value> = summary
        .redacted
        .iter()
        .map(|(kind, count)| (kind.to_owned(), json!(count)))
        .collect();
    json!({
        "files": summary.files,
        "files_read": summary.files_read,
        "bytes": summary.bytes,
        "records": summary.records,
        "rows": rows,
        "other_records": summary.other_records,
        "damaged": damaged.collect::<Vec<_>>(),
        "unreadable": summary.unreadable,
        "left_out": summary.left_out,
        "redacted": redacted,
    })
}

fn local_name(cloud: &str) -> &str {
    by_cloud_name(cloud).map_or(cloud, |table| table.local)
}

/// Rows, bytes, rate and time left, on a terminal.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn new(context: &Context) -> Self {
        if !context.printer.is_interactive() || context.printer.is_json() {
            return Self(None);
        }
        let bar = ProgressBar::new(0);
        let template = "{bar:24} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    fn show(&self, progress: Progress) {
        let Some(bar) = &self.0 else { return };
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes);
        bar.set_message(format!("{} rows", grouped(progress.rows)));
    }

    fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
