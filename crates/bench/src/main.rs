//! Measures both programs, with PostgreSQL's own tools beside them on the same database.
//!
//! Owns the load, the rigs and the report. Knows the programs by their documented surface only;
//! the local store and the transcript reader it also measures as libraries.

mod benches;
mod clock;
mod load;
mod messages;
mod random;
mod report;
mod rig;
mod statistics;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use benches::{Plan, hook};
use report::Report;

/// Measures CODITECT on this machine: `cargo xtask bench`.
#[derive(Debug, Parser)]
#[command(name = "coditect-bench")]
struct Arguments {
    /// One short round of everything, on less data: shows that it runs, not how fast
    #[arg(long)]
    quick: bool,
    /// Only the benchmarks whose name contains this; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Also write the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Rounds of each measurement, alternating with its raw side [default: 3, quick: 1]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Seconds of each measurement [default: 4, quick: 2]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Measure the programs in this folder instead of building those of this workspace
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Also measure this older server program, alternating, and print the ratios
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    #[command(subcommand)]
    child: Option<Child>,
}

/// What the benchmark starts itself as a process for.
#[derive(Debug, Subcommand)]
enum Child {
    /// Stores one message, as a hook will
    #[command(hide = true)]
    HookInsert {
        /// Folder of the four databases
        folder: PathBuf,
        /// Which message
        number: u64,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(Child::HookInsert { folder, number }) = &arguments.child {
        return hook::insert(folder, *number);
    }
    let plan = Plan {
        quick: arguments.quick,
        rounds: arguments
            .rounds
            .unwrap_or(if arguments.quick { 1 } else { 3 })
            .max(1),
        seconds: arguments
            .seconds
            .unwrap_or(if arguments.quick { 2 } else { 4 })
            .max(1),
        only: arguments.only.clone(),
        programs: rig::programs::find(arguments.programs.as_deref())?,
        against: arguments.against.clone(),
    };
    let mut report = Report::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the load generator")?;
    runtime.block_on(benches::run(&plan, &mut report));
    report.print();
    if let Some(path) = &arguments.json {
        std::fs::write(path, report.json())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    anyhow::ensure!(!report.has_failures(), "not all cases gave a figure");
    Ok(())
}
