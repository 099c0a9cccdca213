//! The same page for a caller with one scope and for one with 200.

use std::time::Instant;

use anyhow::ensure;

use super::{Plan, pull, push};
use crate::load::people::{Device, Site};
use crate::messages::Pool;
use crate::random::Random;
use crate::report::{Budget, Line, Report};
use crate::statistics::{median, median_ratio};

const SCOPES: usize = 200;
const MESSAGES: usize = 1_000;
const PAGES: usize = 40;

/// Measures the time of a page of 1,000 messages.
pub(crate) async fn run(plan: &Plan, site: &Site, report: &mut Report) -> anyhow::Result<()> {
    site.server.postgres.run("truncate context_messages")?;
    let mut random = Random::new(31);
    let pool = Pool::new(MESSAGES, 3);
    let mut devices = Vec::new();
    for person in site.people.iter().take(2) {
        let mut device = Device::log_in(&site.server, person, &mut random).await?;
        push::fill(&mut device, MESSAGES, &pool, &mut random).await?;
        devices.push(device);
    }
    let (tenant, user) = (site.server.tenant, devices[1].user);
    site.server.postgres.run(&format!(
        "with made as (
            insert into scopes (tenant_id, scope_id, kind, name)
            select '{tenant}', gen_random_uuid(), 'team', 'team ' || n
            from generate_series(1, {SCOPES}) n returning scope_id)
         insert into scope_members (tenant_id, scope_id, user_id, role)
         select '{tenant}', scope_id, '{user}', 'member' from made"
    ))?;
    site.server.postgres.run("analyze")?;
    let requests: Vec<Vec<u8>> = devices
        .iter()
        .map(|device| device.pull_request(&[pull::position(device, "sessions", None)]))
        .collect::<Result<_, _>>()?;
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds.max(3) {
        for (number, times) in [&mut few, &mut many].into_iter().enumerate() {
            let mut each = Vec::new();
            for _ in 0..plan.size(PAGES, 10) {
                let started = Instant::now();
                let bytes = devices[number].pull_bytes(&requests[number]).await?;
                each.push(started.elapsed().as_secs_f64() * 1e3);
                ensure!(bytes.len() > MESSAGES * 400, "a page without its messages");
            }
            times.push(median(&each));
        }
    }
    let what = "page of 1,000, caller with 200 scopes (raw side: with 1)";
    let line = Line::new(what, "ms", median(&many));
    let line = line.beside(median(&few), median_ratio(&many, &few));
    report.add(line.within(Budget::ShareAtMost(1.5)));
    Ok(())
}
