//! The benchmarks, one file each.

pub(crate) mod hook;
mod idle;
mod import;
mod pull;
mod push;
mod raw;
mod rigs;
mod scopes;
mod search;
mod start;

use std::path::PathBuf;
use std::time::Duration;

use crate::load::people::Site;
use crate::report::Report;
use crate::rig::machine;
use crate::rig::programs::Programs;

/// People on the server: as many as there are connections at most.
pub(crate) const PEOPLE: usize = 100;

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) only: Vec<String>,
    pub(crate) programs: Programs,
    pub(crate) against: Option<PathBuf>,
}

impl Plan {
    fn wants(&self, name: &str) -> bool {
        let named = |part: &String| name.contains(part.as_str()) || part.starts_with(name);
        self.only.is_empty() || self.only.iter().any(named)
    }

    /// Returns the length of a window.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Returns the first number, of a quick run the second.
    pub(crate) fn size(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

/// Runs what the plan wants. A case that fails is reported, and the others go on.
pub(crate) async fn run(plan: &Plan, report: &mut Report) {
    machine::describe(report);
    if plan.quick {
        report.fact("quick", "one short round on less data; not for comparing");
    }
    let on_server = ["push", "pull", "idle", "scopes"];
    if on_server.iter().any(|name| plan.wants(name)) {
        let outcome = on_site(plan, report).await;
        report.settle("the server's cases", outcome);
    }
    if plan.wants("import") {
        report.begin("import");
        let outcome = import::run(plan, report);
        report.settle("import", outcome);
    }
    if plan.wants("search") || plan.wants("hook") {
        let outcome = on_store(plan, report);
        report.settle("the local store's cases", outcome);
    }
    if plan.wants("start") {
        report.begin("start");
        let outcome = start::run(plan, report);
        report.settle("start", outcome);
    }
    for rig in rigs::ALL {
        if plan.wants(rig.name) {
            report.begin(rig.name);
            let outcome = rig.run(plan, report);
            report.settle(rig.name, outcome);
        }
    }
}

async fn on_site(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let site = Site::start(&plan.programs.server, PEOPLE)?;
    machine::describe_database(report, &site.server.postgres, crate::messages::TABLE)?;
    if plan.wants("push") {
        report.begin("push: ours and pgbench in turn");
        let outcome = push::run(plan, &site, report).await;
        report.settle("push", outcome);
    }
    if plan.wants("pull") {
        report.begin("pull");
        let outcome = pull::run(plan, &site, report).await;
        report.settle("pull", outcome);
    }
    if plan.wants("idle") {
        report.begin("idle pull");
        let outcome = idle::run(plan, &site, report).await;
        report.settle("idle pull", outcome);
    }
    if plan.wants("scopes") {
        report.begin("scopes");
        let outcome = scopes::run(plan, &site, report).await;
        report.settle("scopes", outcome);
    }
    Ok(())
}

fn on_store(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut filled = search::Filled::new(home.path())?;
    if plan.wants("search") {
        report.begin("local search");
        let outcome = search::run(plan, &mut filled, report);
        report.settle("local search", outcome);
    }
    if plan.wants("hook") {
        report.begin("hook");
        let outcome = hook::run(plan, filled, report);
        report.settle("hook", outcome);
    }
    Ok(())
}
