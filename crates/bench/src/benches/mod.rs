//! The benchmarks, one file each.

pub(crate) mod hook;
mod idle;
mod import;
mod pull;
mod push;
mod raw;
mod scopes;
mod search;
mod start;

use std::path::PathBuf;
use std::time::Duration;

use crate::load::people::Site;
use crate::report::{Report, note};
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

/// Runs what the plan wants.
pub(crate) async fn run(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    machine::describe(report);
    if plan.quick {
        report.fact("quick", "one short round on less data; not for comparing");
    }
    let on_server = ["push", "pull", "idle", "scopes"];
    if on_server.iter().any(|name| plan.wants(name)) {
        let site = Site::start(&plan.programs.server, PEOPLE)?;
        machine::describe_database(report, &site.server.postgres, crate::messages::TABLE)?;
        if plan.wants("push") {
            note("push: ours and pgbench in turn");
            push::run(plan, &site, report).await?;
        }
        if plan.wants("pull") {
            note("pull");
            pull::run(plan, &site, report).await?;
        }
        if plan.wants("idle") {
            note("idle pull");
            idle::run(plan, &site, report).await?;
        }
        if plan.wants("scopes") {
            note("scopes");
            scopes::run(plan, &site, report).await?;
        }
    }
    if plan.wants("import") {
        note("import");
        import::run(plan, report)?;
    }
    if plan.wants("search") || plan.wants("hook") {
        let folder = tempfile::tempdir()?;
        let mut filled = search::Filled::new(folder.path())?;
        if plan.wants("search") {
            note("local search");
            search::run(plan, &mut filled, report)?;
        }
        if plan.wants("hook") {
            note("hook-like insert");
            hook::run(plan, filled, report)?;
        }
    }
    if plan.wants("start") {
        note("start");
        start::run(plan, report)?;
    }
    Ok(())
}
