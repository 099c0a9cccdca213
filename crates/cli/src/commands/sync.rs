//! `coditect sync`.

use clap::Args;
use coditect_core::sync::Report;
use coditect_local_store::LocalStore;
use coditect_protocol::catalogue::File;
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::remote::{self, Kind, Run};
use crate::table::grouped;

const HELP: &str = "\
Pulls what others changed, pushes what is queued, pulls again, and compares both sides. A row that
met a concurrent change, or that the server refused, does not stop the others: see
`coditect conflict list` and `coditect queue list --parked`.

--json: pushed, pulled, moved (to another scope), duplicates, conflicts, rejected (in this run),
parked (now), bytes_sent and bytes_received (bodies as they crossed the wire), duration_ms,
converged (null when not known), offline_mode, reconciled, repairs (scope, table, fetched, queued,
removed, skipped, damaged: rows that differed although nothing was new), rounds, rounds_behind
(pulls meanwhile that only brought what others wrote) and repair_bytes (what finding them took),
error.";

/// Exchanges changes with the server.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Sync {
    /// Send what is queued, fetch nothing
    #[arg(long)]
    push_only: bool,
}

/// Runs the command.
pub(crate) fn run(context: &mut Context, sync: &Sync) -> anyhow::Result<Exit> {
    leave_offline_mode(context)?;
    let mut store = context.store()?;
    if context.is_offline() {
        return stay_offline(context, &mut store);
    }
    let kind = if sync.push_only {
        Kind::PushOnly
    } else {
        Kind::Whole
    };
    let run = remote::sync(context, &mut store, kind)?;
    super::backup::daily(context);
    print(context, &store, &run)
}

/// `CODITECT_OFFLINE=false` is how one leaves the offline mode that the configuration holds.
pub(super) fn leave_offline_mode(context: &mut Context) -> anyhow::Result<()> {
    if context.environment.offline == Some(false) && context.cloud.offline {
        context.cloud.offline = false;
        context.store_config()?;
        context.printer.note("offline mode is off again");
    }
    Ok(())
}

/// Offline mode: changes are queued, nothing is sent.
pub(super) fn stay_offline(context: &Context, store: &mut LocalStore) -> anyhow::Result<Exit> {
    for file in File::ALL {
        context.adopt(store, file)?;
    }
    let report = Report {
        offline: true,
        offline_reason: Some("offline mode is on".to_owned()),
        ..Report::default()
    };
    let run = Run {
        report,
        traffic: coditect_client::Traffic::default(),
        duration_ms: 0,
    };
    print(context, store, &run)
}

/// Prints a run and returns how it ends the program.
pub(super) fn print(context: &Context, store: &LocalStore, run: &Run) -> anyhow::Result<Exit> {
    let report = &run.report;
    let (queued, parked) = queue(store)?;
    let exit = remote::exit_of(report);
    let error = error_of(report);
    if context.printer.is_json() {
        context
            .printer
            .document(&document(run, parked, error.as_ref()))?;
    } else {
        print_lines(context, run, queued, parked)?;
    }
    if let Some(error) = error {
        context.printer.error(&error.into());
    }
    Ok(exit)
}

/// Returns how many changes wait and how many are parked, over all files.
pub(super) fn queue(store: &LocalStore) -> anyhow::Result<(u64, u64)> {
    let mut sum = (0, 0);
    for file in File::ALL {
        let state = store.queue_state(file)?;
        sum = (sum.0 + state.queued, sum.1 + state.parked);
        let moves = store.queued_moves(file, u32::MAX)?;
        let parked = moves.iter().filter(|one| one.state == "parked").count() as u64;
        sum = (sum.0 + moves.len() as u64 - parked, sum.1 + parked);
    }
    Ok(sum)
}

pub(super) fn error_of(report: &Report) -> Option<CommandError> {
    if let Some(problem) = &report.problem {
        return Some(CommandError::from_problem(problem));
    }
    report.offline.then(|| {
        let reason = report
            .offline_reason
            .as_deref()
            .unwrap_or("the server does not answer");
        let error = CommandError::new(Exit::Offline, reason);
        if reason == "offline mode is on" {
            error.hint("CODITECT_OFFLINE=false coditect sync")
        } else {
            error.hint("changes stay queued; run it again when the server answers")
        }
    })
}

fn document(run: &Run, parked: u64, error: Option<&CommandError>) -> Value {
    let report = &run.report;
    json!({
        "pushed": report.pushed,
        "pulled": report.pulled,
        "moved": report.moved,
        "duplicates": report.duplicates,
        "conflicts": report.conflicts,
        "rejected": report.rejected,
        "parked": parked,
        "bytes_sent": run.traffic.sent,
        "bytes_received": run.traffic.received,
        "duration_ms": run.duration_ms,
        "converged": report.converged,
        "offline_mode": report.offline,
        "reconciled": report.reconciled,
        "repairs": super::verify::repairs(report),
        "rounds": report.rounds,
        "rounds_behind": report.rounds_behind,
        "repair_bytes": report.repair_bytes,
        "error": error.map(|error| error.message.clone()),
    })
}

fn print_lines(context: &Context, run: &Run, queued: u64, parked: u64) -> anyhow::Result<()> {
    let (report, printer) = (&run.report, &context.printer);
    let mut parts = vec![
        format!("pushed {}", grouped(report.pushed)),
        format!("pulled {}", grouped(report.pulled)),
    ];
    for (count, word) in [
        (report.moved, "moved to another scope"),
        (report.duplicates, "known already"),
        (report.conflicts, "conflicts"),
        (report.rejected, "refused"),
    ] {
        if count > 0 {
            parts.push(format!("{} {word}", grouped(count)));
        }
    }
    let seconds = run.duration_ms as f64 / 1_000.0;
    let bytes = run.traffic.sent + run.traffic.received;
    let state = match report.converged {
        Some(true) => "both sides are equal",
        Some(false) => "both sides differ",
        None => "not compared",
    };
    printer.line(&format!(
        "{}; {state} ({} bytes, {seconds:.1} s)",
        parts.join(", "),
        grouped(bytes)
    ))?;
    super::verify::print_repairs(context, report)?;
    if queued > 0 {
        printer.note(&format!("{} changes wait", grouped(queued)));
    }
    if parked > 0 {
        printer.warning(&format!("{} changes are parked", grouped(parked)));
        printer.hint("coditect queue list --parked");
    }
    if report.conflicts > 0 {
        printer.hint("coditect conflict list");
    }
    if report.converged == Some(false) {
        printer.hint("coditect verify --full --repair");
    }
    Ok(())
}
