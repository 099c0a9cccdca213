//! Push: batches of several sizes over several connections, with the same INSERT by pgbench and
//! COPY beside it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use uuid::Uuid;

use super::{PEOPLE, Plan, raw};
use crate::clock;
use crate::load::people::{Device, Site};
use crate::load::window::{self, Measured, Shared};
use crate::messages::{self, Pool, REPEATED_EVERY};
use crate::random::Random;
use crate::report::{Budget, Line, Report};
use crate::rig::server::Server;
use crate::statistics::{median, median_ratio, percentile};

const CONNECTIONS_MAX: usize = PEOPLE;
const POOL_MESSAGES: usize = 5_000;
/// Connections of pgbench: the embedded PostgreSQL allows 97 besides superusers, and the server's
/// pools and jobs hold 41.
const RAW_CONNECTIONS_MAX: usize = 50;

/// One way to push.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Case {
    batch: usize,
    connections: usize,
    /// Whether all connections push to one stream, as one person's devices.
    shared: bool,
}

impl Case {
    fn name(self) -> String {
        let stream = if self.shared { ", one stream" } else { "" };
        format!("push {} x {}{stream}", self.batch, self.connections)
    }

    /// Returns the rows a second beyond which the first window runs out of prepared work.
    const fn rate_at_most(self) -> f64 {
        match (self.batch, self.connections) {
            (1, 1) => 2_000.0,
            (1, _) => 8_000.0,
            (_, 1) => 15_000.0,
            _ => 30_000.0,
        }
    }

    fn raw_connections(self) -> usize {
        self.connections.min(RAW_CONNECTIONS_MAX)
    }

    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for batch in [1, 100, 500] {
            for connections in [1, 16, CONNECTIONS_MAX] {
                cases.push(Self {
                    batch,
                    connections,
                    shared: false,
                });
            }
        }
        cases.insert(
            3,
            Self {
                batch: 1,
                connections: CONNECTIONS_MAX,
                shared: true,
            },
        );
        cases
    }
}

/// Measures all cases.
pub(crate) async fn run(plan: &Plan, site: &Site, report: &mut Report) -> anyhow::Result<()> {
    let pool = Pool::new(POOL_MESSAGES, 1);
    let other = plan.against.as_deref();
    let other = other
        .map(|program| Site::start(program, PEOPLE))
        .transpose()?;
    let sites: Vec<&Site> = std::iter::once(site).chain(&other).collect();
    // `--only "push 100 x 16"` picks cases.
    let picks: Vec<&String> = plan
        .only
        .iter()
        .filter(|part| part.starts_with("push "))
        .collect();
    for (number, case) in Case::all().into_iter().enumerate() {
        if picks.is_empty() || picks.iter().any(|pick| case.name() == **pick) {
            report.begin(&case.name());
            let outcome = measure(plan, &sites, case, &pool, number as u64, report).await;
            report.settle(&case.name(), outcome);
        }
    }
    report.begin("COPY");
    copy(plan, &site.server, report)
}

async fn measure(
    plan: &Plan,
    sites: &[&Site],
    case: Case,
    pool: &Pool,
    seed: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let scripts = raw::Scripts::write(&sites[0].server, case.batch, pool, sites[0].people[0].user)?;
    report.fact("SQL, ours", raw::our_text());
    report.fact("SQL, raw side", scripts.text.clone());
    report.fact("raw context", scripts.context());
    let most =
        format!("{RAW_CONNECTIONS_MAX}, also beside our 100: the server's pools hold 41 of 97");
    report.fact("raw connections at most", most);
    for site in sites {
        site.server.postgres.run("truncate context_messages")?;
    }
    let mut expected = vec![case.rate_at_most(); sites.len()];
    let mut devices = Vec::new();
    for site in sites {
        devices.push(log_in(site, case, seed).await?);
    }
    let mut ours: Vec<Vec<Measured>> = sites.iter().map(|_| Vec::new()).collect();
    let mut raws = Vec::new();
    for round in 0..plan.rounds {
        // Who goes first changes, so that a drift of the machine hits all alike.
        let raw_first = round % 2 == 1;
        if raw_first {
            raws.push(scripts.run(&sites[0].server, case.raw_connections(), plan.seconds)?);
        }
        for (number, site) in sites.iter().enumerate() {
            let seed = seed * 1_000 + round as u64 * 10 + number as u64;
            let seconds = plan.seconds as f64 + window::WARM.as_secs_f64() + 0.5;
            let rows = (expected[number] * seconds) as usize;
            let own = std::mem::take(&mut devices[number]);
            let mut workers = workers(own, case, pool, rows, seed);
            for worker in &mut workers {
                worker.device.reconnect(&site.server).await?;
            }
            site.server.postgres.run("checkpoint")?;
            let (workers, measured) =
                window::run(&site.server, workers, plan.window(), push_all).await?;
            devices[number] = workers.into_iter().map(|worker| worker.device).collect();
            expected[number] = measured.rate() * 1.6 + 500.0;
            ours[number].push(measured);
        }
        if !raw_first {
            raws.push(scripts.run(&sites[0].server, case.raw_connections(), plan.seconds)?);
        }
    }
    lines(case, &ours, &raws, report);
    Ok(())
}

fn lines(case: Case, ours: &[Vec<Measured>], raws: &[raw::Rows], report: &mut Report) {
    let of = |side: &[Measured], value: fn(&Measured) -> f64| -> Vec<f64> {
        side.iter().map(value).collect()
    };
    let raw = |value: fn(&raw::Rows) -> f64| -> Vec<f64> { raws.iter().map(value).collect() };
    let name = case.name();
    let in_budget = case.connections == 16 && case.batch > 1;
    let share = |line: Line| {
        if in_budget {
            line.within(Budget::Share(0.8))
        } else {
            line
        }
    };
    let (rate, raw_rate) = (of(&ours[0], Measured::rate), raw(|raw| raw.rate));
    let mut line = Line::new(format!("{name}, messages"), "/s", median(&rate))
        .beside(median(&raw_rate), median_ratio(&rate, &raw_rate));
    line = share(line);
    if case.batch == 1 && case.connections == CONNECTIONS_MAX {
        line = line.within(Budget::AtLeast(8_000.0));
    }
    report.add(line);
    let (cpu, raw_cpu) = (
        of(&ours[0], Measured::per_cpu_second),
        raw(|raw| raw.per_cpu_second),
    );
    let line = Line::new(
        format!("{name}, messages per CPU second"),
        "/s",
        median(&cpu),
    );
    report.add(share(
        line.beside(median(&raw_cpu), median_ratio(&cpu, &raw_cpu)),
    ));
    let database = of(&ours[0], |it| it.done / it.cpu.postgres.max(0.01));
    let line = Line::new(
        format!("{name}, of the database alone"),
        "/s",
        median(&database),
    );
    report.add(line.beside(median(&raw_cpu), median_ratio(&database, &raw_cpu)));
    let mut late = Line::new(format!("{name}, p99"), "ms", p99(&ours[0]));
    if case.batch == 1 && case.connections == CONNECTIONS_MAX {
        late = late.within(Budget::AtMost(100.0));
    }
    report.add(late);
    if let Some(other) = ours.get(1) {
        let (other_rate, other_cpu) = (
            of(other, Measured::rate),
            of(other, Measured::per_cpu_second),
        );
        let line = Line::new(
            format!("{name}, messages, beside the older server"),
            "/s",
            median(&rate),
        );
        report.add(line.beside(median(&other_rate), median_ratio(&rate, &other_rate)));
        let line = Line::new(
            format!("{name}, messages per CPU second, beside the older server"),
            "/s",
            median(&cpu),
        );
        report.add(line.beside(median(&other_cpu), median_ratio(&cpu, &other_cpu)));
    }
}

fn p99(rounds: &[Measured]) -> f64 {
    let each: Vec<f64> = rounds
        .iter()
        .map(|round| percentile(&round.latencies_ms, 0.99))
        .collect();
    median(&each)
}

/// A device with all that it will push, so that nothing is made while the clock runs.
struct Worker {
    device: Device,
    batches: Vec<(Vec<u8>, usize)>,
    random: Random,
}

/// Logs a device in for every connection.
async fn log_in(site: &Site, case: Case, seed: u64) -> anyhow::Result<Vec<Device>> {
    let mut random = Random::new(1_000_000 + seed);
    let mut devices = Vec::new();
    for number in 0..case.connections {
        let person = &site.people[if case.shared { 0 } else { number }];
        devices.push(Device::log_in(&site.server, person, &mut random).await?);
    }
    Ok(devices)
}

fn workers(devices: Vec<Device>, case: Case, pool: &Pool, rows: usize, seed: u64) -> Vec<Worker> {
    let batches = (rows / case.batch / case.connections).max(4);
    let now_ms = clock::now_ms();
    let mut seeds = Random::new(seed);
    let make = |device| {
        let mut random = Random::new(seeds.next());
        Worker {
            batches: batches_of(case.batch, batches, pool, now_ms, &mut random),
            device,
            random,
        }
    };
    devices.into_iter().map(make).collect()
}

/// Returns batches as JSON; every tenth message is one that was pushed before.
fn batches_of(
    size: usize,
    number: usize,
    pool: &Pool,
    now_ms: i64,
    random: &mut Random,
) -> Vec<(Vec<u8>, usize)> {
    let mut sent: Vec<Vec<u8>> = Vec::new();
    let start = random.below(POOL_MESSAGES);
    let mut made = start;
    let mut batches = Vec::with_capacity(number);
    for _ in 0..number {
        let before = sent.len();
        let mut text = Vec::new();
        for position in 0..size {
            made += 1;
            if position > 0 {
                text.push(b',');
            }
            if made.is_multiple_of(REPEATED_EVERY) && before > 0 {
                text.extend_from_slice(&sent[random.below(before)]);
                continue;
            }
            let change = messages::change(pool.message(made, random), now_ms);
            // Values of JSON always serialise.
            let change = serde_json::to_vec(&change).unwrap_or_default();
            text.extend_from_slice(&change);
            sent.push(change);
        }
        // Only what was sent lately is repeated, so that memory stays bounded.
        if sent.len() > 2 * size.max(50) {
            sent.drain(..sent.len() - size.max(50));
        }
        batches.push((text, size));
    }
    batches.reverse();
    batches
}

async fn push_all(mut worker: Worker, shared: Arc<Shared>) -> anyhow::Result<(Worker, Vec<f64>)> {
    let mut latencies_ms = Vec::new();
    while !shared.stopped() {
        let Some((changes, size)) = worker.batches.pop() else {
            shared.exhaust();
            break;
        };
        let (started, measured) = (Instant::now(), shared.measuring());
        let batch = worker.random.uuid();
        let stored = worker.device.push(&changes, batch).await?;
        ensure!(stored == size, "{stored} of {size} changes were stored");
        shared.add(size);
        if measured {
            latencies_ms.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok((worker, latencies_ms))
}

/// COPY into an equal table without row security: the upper bound of loading, for orientation.
fn copy(plan: &Plan, server: &Server, report: &mut Report) -> anyhow::Result<()> {
    let postgres = &server.postgres;
    let rows = plan.size(50_000, 10_000);
    let file = server.folder().join("rows.copy");
    let file = file.display();
    postgres.run(&format!(
        "create table bench_copy (like context_messages including all);
         create table bench_rows as select * from context_messages limit {rows}"
    ))?;
    // COPY takes no values for generated columns.
    let columns = postgres.value(
        "select string_agg(quote_ident(column_name), ', ' order by ordinal_position)
         from information_schema.columns
         where table_name = 'bench_copy' and is_generated = 'NEVER'",
    )?;
    postgres.run(&format!("\\copy bench_rows ({columns}) to '{file}'"))?;
    let rows: f64 = postgres.value("select count(*) from bench_rows")?.parse()?;
    let (mut rates, mut per_cpu) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        postgres.run("truncate bench_copy; checkpoint")?;
        let (started, cpu) = (
            Instant::now(),
            crate::rig::cpu::family_seconds(postgres.pid)?,
        );
        postgres.run(&format!("\\copy bench_copy ({columns}) from '{file}'"))?;
        let cpu = crate::rig::cpu::family_seconds(postgres.pid)? - cpu;
        rates.push(rows / started.elapsed().as_secs_f64());
        per_cpu.push(rows / cpu.max(0.01));
    }
    postgres.run("drop table bench_copy, bench_rows")?;
    let what = "COPY, 1 connection, equal table and indexes, no row security";
    report.add(Line::new(format!("{what}, messages"), "/s", median(&rates)));
    report.add(Line::new(
        format!("{what}, per CPU second"),
        "/s",
        median(&per_cpu),
    ));
    Ok(())
}

/// Pushes so many messages to the device's own stream.
pub(crate) async fn fill(
    device: &mut Device,
    messages: usize,
    pool: &Pool,
    random: &mut Random,
) -> anyhow::Result<()> {
    let mut left = messages;
    while left > 0 {
        let size = left.min(500);
        let now_ms = clock::now_ms();
        let mut text = Vec::new();
        for position in 0..size {
            if position > 0 {
                text.push(b',');
            }
            let change = messages::change(pool.message(left - position, random), now_ms);
            serde_json::to_writer(&mut text, &change)?;
        }
        let batch: Uuid = random.uuid();
        let stored = device.push(&text, batch).await?;
        ensure!(stored == size, "{stored} of {size} changes were stored");
        left -= size;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tenth_message_is_a_repeated_one() {
        let pool = Pool::new(50, 1);
        let batches = batches_of(100, 20, &pool, 5, &mut Random::new(4));
        let mut ids = std::collections::HashSet::new();
        let mut repeated = 0;
        for (text, size) in batches.iter().rev() {
            let text = format!("[{}]", std::str::from_utf8(text).unwrap());
            let changes: Vec<coditect_protocol::wire::push::Change> =
                serde_json::from_str(&text).unwrap();
            assert_eq!(changes.len(), *size);
            repeated += changes
                .iter()
                .filter(|change| !ids.insert(change.id))
                .count();
        }
        assert_eq!(repeated, 190, "ten of every batch but the first");
    }

    #[test]
    fn cases_are_those_of_the_budgets() {
        let cases = Case::all();
        assert_eq!(cases.len(), 10);
        assert_eq!(cases.iter().filter(|case| case.shared).count(), 1);
        assert!(cases.iter().any(|case| case.name() == "push 500 x 16"));
    }
}
