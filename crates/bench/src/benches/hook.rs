//! What a hook will do at least: a process that opens the store, writes one message and ends.
//! The hook itself comes with the capture work; `/bin/true` shows what starting a process costs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use coditect_protocol::catalogue::File;

use super::Plan;
use super::search::{Filled, open};
use crate::clock;
use crate::messages::{Pool, TABLE};
use crate::random::Random;
use crate::report::{Budget, Line, Report};
use crate::rig::cpu::status_megabytes;
use crate::statistics::percentile;

/// Stores one message; the work of the child process.
pub(crate) fn insert(folder: &Path, number: u64) -> anyhow::Result<()> {
    let mut store = open(folder)?;
    let mut random = Random::new(number);
    let row = Pool::new(1, number).message(0, &mut random);
    let rows = vec![(TABLE, row)];
    let done = store.ingest(File::Sessions, rows, None, clock::now_ms())?;
    ensure!(done.inserted == 1, "the message was not stored");
    let peak = status_megabytes(std::process::id(), "VmHWM:").unwrap_or(0.0);
    print_peak(peak);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn print_peak(megabytes: f64) {
    println!("{megabytes}");
}

/// Measures the process from start to exit.
pub(crate) fn run(plan: &Plan, mut filled: Filled, report: &mut Report) -> anyhow::Result<()> {
    filled.grow(plan.size(1_000_000, 50_000))?;
    let (folder, messages) = filled.close();
    let (mut times, mut trues, mut peak) = (Vec::new(), Vec::new(), 0.0_f64);
    for number in 0..plan.size(300, 40) {
        let started = Instant::now();
        let ran = Command::new(&plan.programs.bench)
            .arg("hook-insert")
            .arg(&folder)
            .arg((1_000_000 + number).to_string())
            .output()
            .context("starting this program")?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        let text = String::from_utf8_lossy(&ran.stdout);
        ensure!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        peak = peak.max(text.trim().parse().unwrap_or(0.0));
        let started = Instant::now();
        Command::new("/bin/true").stdin(Stdio::null()).output()?;
        trues.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let what = format!("hook-like insert, {messages} messages stored (raw side: /bin/true)");
    for (name, share, most) in [("p50", 0.5, 5.0), ("p99", 0.99, 15.0)] {
        let (ours, raw) = (percentile(&times, share), percentile(&trues, share));
        let line = Line::new(format!("{what}, {name}"), "ms", ours);
        report.add(
            line.beside(raw, ours / raw.max(0.001))
                .within(Budget::AtMost(most)),
        );
    }
    let line = Line::new("hook-like insert, most memory", "MB", peak);
    report.add(line.within(Budget::AtMost(15.0)));
    Ok(())
}
