//! `coditect verify`.

use clap::Args;
use coditect_client::{Compared, TableSums};
use coditect_core::sync::{Comparison, Report, TableRepair};
use coditect_local_store::{LocalStore, Wrong};
use coditect_protocol::Scope;
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::descent::NamedRows;
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::remote::{self, Kind, Run};
use crate::table::grouped;

const HELP: &str = "\
Reads what is new, pushes nothing, and compares the digests of every table with the server's.

--full: also reads every acknowledged row of this machine and names those whose bytes are not the
ones that their hash was made from, or that are gone. Rows that changed and are not sent yet are
left out. Then both sides sum up their rows at this moment, instead of saying what they keep of
them, and the server names rows that it found damaged on its side.
--repair: then finds the rows that differ by comparing ranges, takes what is missing or damaged
here from the server, sends what the server lacks, and compares once more.

Exit code 7 when something is wrong and was not mended.

--json: equal (null when not known), tables (scope, table, rows and digest on both sides, equal),
checked, wrong (file, table, scope, id, damage), rows (scope, table, count and digest on both sides,
equal, kept_right; null without --full), damaged_there (scope, table, ids; null without --full),
repairs (scope, table, fetched, queued, removed, skipped, damaged), rounds, rounds_behind,
repair_bytes, unfinished, offline_mode, error.";

/// Compares this machine with the server, and mends what differs.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Verify {
    /// Read every row as well
    #[arg(long)]
    full: bool,
    /// Mend what is wrong
    #[arg(long)]
    repair: bool,
}

/// What reading every row found.
#[derive(Debug, Default)]
struct Read {
    checked: u64,
    wrong: Vec<(File, Wrong)>,
}

/// Runs the command.
pub(crate) fn run(context: &mut Context, verify: &Verify) -> anyhow::Result<Exit> {
    super::sync::leave_offline_mode(context)?;
    let mut store = context.store()?;
    if context.is_offline() {
        return super::sync::stay_offline(context, &mut store);
    }
    let before = if verify.full {
        read_all(&mut store)?
    } else {
        Read::default()
    };
    let kind = if verify.repair {
        store.forget_pause()?;
        Kind::Whole
    } else {
        Kind::VerifyOnly
    };
    let run = remote::sync(context, &mut store, kind)?;
    // What was mended is not wrong any more.
    let wrong = if verify.repair {
        look_again(&mut store, &before)?
    } else {
        before.wrong.clone()
    };
    let after = Read {
        checked: before.checked,
        wrong,
    };
    let answered = run.report.problem.is_none() && !run.report.offline;
    let compared = if verify.full && answered {
        Some(remote::compare_rows(context, &mut store)?)
    } else {
        None
    };
    let seen = Seen {
        before,
        after,
        compared,
    };
    print(context, &run, &seen)
}

/// All that was looked at beside the run itself.
#[derive(Debug)]
struct Seen {
    before: Read,
    after: Read,
    /// Sums of all rows on both sides.
    compared: Option<Compared>,
}

impl Seen {
    fn well(&self) -> bool {
        let right = |it: &TableSums| it.equal() && it.kept_right;
        let compared = self.compared.as_ref().is_none_or(|it| {
            it.tables.iter().all(right) && it.damaged.is_empty() && it.moving.is_empty()
        });
        compared && self.after.wrong.is_empty()
    }
}

fn read_all(store: &mut LocalStore) -> anyhow::Result<Read> {
    let _lease = store.lease()?;
    let mut read = Read::default();
    for file in File::ALL {
        let checked = store.check_rows(file)?;
        read.checked += checked.rows;
        read.wrong
            .extend(checked.wrong.into_iter().map(|wrong| (file, wrong)));
    }
    Ok(read)
}

/// Returns the rows that are still wrong.
fn look_again(store: &mut LocalStore, read: &Read) -> anyhow::Result<Vec<(File, Wrong)>> {
    let _lease = store.lease()?;
    let mut still = Vec::new();
    for file in File::ALL {
        let of_file = read.wrong.iter().filter(|(of, _)| *of == file);
        let wrong: Vec<_> = of_file.map(|(_, wrong)| wrong.clone()).collect();
        let wrong = store.check_again(file, &wrong)?;
        still.extend(wrong.into_iter().map(|wrong| (file, wrong)));
    }
    Ok(still)
}

fn print(context: &Context, run: &Run, seen: &Seen) -> anyhow::Result<Exit> {
    let report = &run.report;
    let error = super::sync::error_of(report);
    let well = report.converged == Some(true) && seen.well();
    let exit = match remote::exit_of(report) {
        Exit::Ok if !well => Exit::Unhealthy,
        exit => exit,
    };
    if context.printer.is_json() {
        let document = document(report, seen, error.as_ref());
        context.printer.document(&document)?;
    } else {
        print_lines(context, report, seen, well)?;
    }
    if let Some(error) = error {
        context.printer.error(&error.into());
    }
    Ok(exit)
}

fn document(report: &Report, seen: &Seen, error: Option<&CommandError>) -> Value {
    let read = &seen.before;
    let tables = report.comparisons.iter().flat_map(Comparison::streams);
    let tables = tables.map(|stream| {
        json!({
            "scope": stream.scope.to_string(),
            "table": stream.local.table,
            "rows": {"local": stream.local.rows, "server": stream.server.rows},
            "digest": {"local": stream.local.digest, "server": stream.server.digest},
            "equal": stream.local == stream.server,
        })
    });
    let wrong = read.wrong.iter().map(|(file, wrong)| {
        json!({
            "file": file.as_str(),
            "table": wrong.table,
            "scope": wrong.scope,
            "id": wrong.id,
            "damage": wrong.damage,
        })
    });
    json!({
        "equal": report.converged,
        "tables": tables.collect::<Vec<_>>(),
        "checked": read.checked,
        "wrong": wrong.collect::<Vec<_>>(),
        "rows": seen.compared.as_ref().map(rows),
        "damaged_there": seen.compared.as_ref().map(damaged),
        "repairs": repairs(report),
        "rounds": report.rounds,
        "rounds_behind": report.rounds_behind,
        "repair_bytes": report.repair_bytes,
        "unfinished": report.unfinished,
        "offline_mode": report.offline,
        "error": error.map(|error| error.message.clone()),
    })
}

fn rows(compared: &Compared) -> Vec<Value> {
    let entry = |sums: &TableSums| {
        json!({
            "scope": sums.scope.to_string(),
            "table": sums.table,
            "count": {"local": sums.local.0, "server": sums.server.0},
            "digest": {
                "local": format!("{:016x}", sums.local.1),
                "server": format!("{:016x}", sums.server.1),
            },
            "equal": sums.equal(),
            "kept_right": sums.kept_right,
        })
    };
    compared.tables.iter().map(entry).collect()
}

fn damaged(compared: &Compared) -> Vec<Value> {
    let entry = |(scope, named): &(Scope, NamedRows)| {
        json!({
            "scope": scope.to_string(),
            "table": named.table,
            "ids": named.ids,
        })
    };
    compared.damaged.iter().map(entry).collect()
}

/// Returns what a run repaired, one entry for each stream and table.
pub(super) fn repairs(report: &Report) -> Vec<Value> {
    let entry = |repair: &TableRepair| {
        json!({
            "scope": repair.scope.to_string(),
            "table": repair.table,
            "fetched": repair.fetched,
            "queued": repair.queued,
            "removed": repair.removed,
            "skipped": repair.skipped,
            "damaged": repair.damaged,
        })
    };
    report.repairs.iter().map(entry).collect()
}

fn print_lines(context: &Context, report: &Report, seen: &Seen, well: bool) -> anyhow::Result<()> {
    let (printer, read) = (&context.printer, &seen.before);
    let streams = report.comparisons.iter().flat_map(Comparison::streams);
    let (mut tables, mut rows) = (0_u64, 0_u64);
    for stream in streams {
        tables += 1;
        rows += u64::try_from(stream.server.rows).unwrap_or(0);
        if stream.local != stream.server {
            printer.line(&format!(
                "{} {}: {} rows here, {} on the server, digests {} and {}",
                stream.scope,
                stream.local.table,
                stream.local.rows,
                stream.server.rows,
                stream.local.digest,
                stream.server.digest
            ))?;
        }
    }
    for (file, wrong) in &read.wrong {
        let damage = match wrong.damage {
            coditect_local_store::Damage::Content => "its bytes are not those of its hash",
            coditect_local_store::Damage::Missing => "it is gone and nobody deleted it",
            coditect_local_store::Damage::Base => "what is remembered of it is damaged",
        };
        printer.line(&format!("{file}: {} {}: {damage}", wrong.table, wrong.id))?;
    }
    print_repairs(context, report)?;
    if let Some(compared) = &seen.compared {
        print_compared(context, compared)?;
    }
    let state = match report.converged {
        Some(true) => "both sides are equal",
        Some(false) => "both sides differ",
        None => "not compared",
    };
    let checked = if read.checked > 0 {
        format!(", {} rows read", grouped(read.checked))
    } else {
        String::new()
    };
    printer.line(&format!(
        "{state}: {} tables, {} rows{checked}",
        grouped(tables),
        grouped(rows)
    ))?;
    if !well && report.repairs.is_empty() && report.converged.is_some() {
        printer.hint("coditect verify --full --repair");
    }
    Ok(())
}

/// Says where the rows themselves differ, or are not what either side keeps of them.
fn print_compared(context: &Context, compared: &Compared) -> anyhow::Result<()> {
    let printer = &context.printer;
    for sums in &compared.tables {
        let (scope, table) = (sums.scope, &sums.table);
        if !sums.equal() {
            printer.line(&format!(
                "{scope} {table}: by the rows themselves {} here, {} on the server, \
                 digests {:016x} and {:016x}",
                sums.local.0, sums.server.0, sums.local.1, sums.server.1
            ))?;
        }
        if !sums.kept_right {
            printer.line(&format!(
                "{scope} {table}: the server's sums are not those of its rows; it corrects them \
                 when it reads its rows, once a day, and the next sync mends the rows"
            ))?;
        }
    }
    for (scope, named) in &compared.damaged {
        for id in &named.ids {
            printer.line(&format!(
                "{scope}: {} {id}: on the server its bytes are not those of its hash",
                named.table
            ))?;
        }
    }
    for (scope, file) in &compared.moving {
        printer.note(&format!(
            "{scope} {file}: others write all the time; run it again when they rest"
        ));
    }
    Ok(())
}

/// Says what a run repaired.
pub(super) fn print_repairs(context: &Context, report: &Report) -> anyhow::Result<()> {
    for repair in &report.repairs {
        let parts = [
            (repair.fetched, "taken from the server"),
            (repair.queued, "sent again"),
            (repair.removed, "dropped"),
            (
                repair.skipped,
                "left alone, because they have changes of their own",
            ),
            (repair.damaged, "damaged on both sides"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<_> = parts
            .map(|(count, what)| format!("{} {what}", grouped(*count)))
            .collect();
        context.printer.line(&format!(
            "repaired {} of {}: {}",
            repair.table,
            repair.scope,
            parts.join(", ")
        ))?;
    }
    if report.unfinished {
        context
            .printer
            .note("the repair is not finished; the next sync goes on");
    }
    Ok(())
}
