//! `coditect scrub`.

use clap::Args;
use coditect_daemon::scrub::{self, Scrubbed};
use serde_json::{Map, Value, json};

use crate::clock;
use crate::context::Context;
use crate::exit::Exit;
use crate::table::{Table, grouped};

const HELP: &str = "\
Secrets are replaced before anything is stored; this looks again at what is stored, with the rules
of today and your own (docs/PRIVACY.md). Rows change as edits do, so the server and your other
devices lose the secret with the next sync. A secret that was stored has been seen: change it, too.

Examples:
  coditect scrub --dry-run
  coditect scrub && coditect sync

--json: dry_run, rows {table: count}, kinds {kind: count}, archive {kind: count}, logs, keys
[{table, id}] (rows named by something that looks like a secret, which stay), sending [file].";

/// Takes secrets out of what is stored.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Scrub {
    /// Only say what would be replaced
    #[arg(long, visible_alias = "report")]
    dry_run: bool,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Scrub) -> anyhow::Result<Exit> {
    let mut store = context.store()?;
    for file in coditect_protocol::catalogue::File::ALL {
        context.adopt(&mut store, file)?;
    }
    let data = context.paths.data_dir();
    let scrubbed = scrub::run(&mut store, &data, clock::now_ms(), command.dry_run)?;
    let document = document(&scrubbed, command.dry_run);
    context.printer.either(&document, |printer| {
        if scrubbed.is_clean() {
            return printer.line("nothing that is stored looks like a secret");
        }
        let mut table = Table::new(&["where", "kind", "#secrets"]);
        for (kind, count) in scrubbed.kinds.iter() {
            table.row(["databases".to_owned(), kind.to_owned(), grouped(count)]);
        }
        for (kind, count) in &scrubbed.archive {
            table.row(["archive".to_owned(), kind.clone(), grouped(*count)]);
        }
        if scrubbed.logs > 0 {
            table.row(["logs".to_owned(), "any".to_owned(), grouped(scrubbed.logs)]);
        }
        table.print(printer)
    })?;
    for file in &scrubbed.sending {
        let text = format!("a batch of {file} is on its way, with what it held");
        context.printer.warning(&text);
        context.printer.hint("coditect sync, then scrub again");
    }
    for (table, id) in &scrubbed.keys {
        let text = format!("{table} {id} is named by something that looks like a secret; it stays");
        context.printer.warning(&text);
    }
    if !command.dry_run && !scrubbed.is_clean() {
        let before = super::backup::own(context).list()?.len();
        if before > 0 {
            let text = format!("{before} backups of before still hold what was replaced");
            context.printer.warning(&text);
            context
                .printer
                .hint("coditect backup list; coditect backup remove ID");
        }
        context
            .printer
            .hint("coditect sync; and change what was replaced where it is in use");
    }
    Ok(Exit::Ok)
}

fn document(scrubbed: &Scrubbed, dry_run: bool) -> Value {
    let kinds: Map<String, Value> = scrubbed
        .kinds
        .iter()
        .map(|(kind, count)| (kind.to_owned(), json!(count)))
        .collect();
    let keys = scrubbed.keys.iter();
    let keys = keys.map(|(table, id)| json!({"table": table, "id": id}));
    let sending = scrubbed.sending.iter().map(ToString::to_string);
    json!({
        "dry_run": dry_run,
        "rows": scrubbed.rows,
        "kinds": kinds,
        "archive": scrubbed.archive,
        "logs": scrubbed.logs,
        "keys": keys.collect::<Vec<_>>(),
        "sending": sending.collect::<Vec<_>>(),
    })
}
