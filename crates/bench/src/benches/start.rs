//! `coditect-server up`: from nothing to ready, once more on the same folder, and its memory.

use std::time::Duration;

use super::Plan;
use crate::report::{Budget, Line, Report};
use crate::rig::cpu::{family_megabytes, status_megabytes};
use crate::rig::postgres::Postgres;
use crate::rig::server::{Running, new_folder};
use crate::statistics::median;

/// Time after which a server that does nothing is idle.
const IDLE: Duration = Duration::from_secs(2);

/// Measures starts and the memory of an idle server.
pub(crate) fn run(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    let (mut server_mb, mut postgres_mb) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds.max(3) {
        let folder = new_folder()?;
        let data = folder.path().join("data");
        let (running, took) = Running::start(&plan.programs.server, &data)?;
        cold.push(took.as_secs_f64());
        std::thread::sleep(IDLE);
        server_mb.extend(status_megabytes(running.pid(), "VmRSS:"));
        postgres_mb.push(family_megabytes(Postgres::find(&data)?.pid));
        drop(running);
        for _ in 0..3 {
            let (running, took) = Running::start(&plan.programs.server, &data)?;
            warm.push(took.as_secs_f64());
            drop(running);
        }
    }
    let line = Line::new(
        "coditect-server up, from nothing to ready",
        "s",
        median(&cold),
    );
    report.add(line.within(Budget::AtMost(2.0)));
    let line = Line::new("coditect-server up, warm", "s", median(&warm));
    report.add(line.within(Budget::AtMost(0.5)));
    let what = "resident memory of the idle server (the budget is for 1,000 WebSocket clients)";
    let line = Line::new(what, "MB", median(&server_mb));
    report.add(line.within(Budget::AtMost(64.0)));
    let what = "memory of its PostgreSQL, shared pages by their part";
    report.add(Line::new(what, "MB", median(&postgres_mb)));
    Ok(())
}
