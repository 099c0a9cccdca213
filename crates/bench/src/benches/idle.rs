//! Pulls with nothing new: 100 clients, ten requests a second each, at fixed times.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Plan, pull};
use crate::load::people::{Device, Site};
use crate::load::window::{self, Measured, Shared};
use crate::random::Random;
use crate::report::{Budget, Line, Report};
use crate::statistics::{median, percentile};

const CLIENTS: usize = 100;
const EACH: Duration = Duration::from_millis(100);

/// Measures latency and cost.
pub(crate) async fn run(plan: &Plan, site: &Site, report: &mut Report) -> anyhow::Result<()> {
    site.server.postgres.run("truncate context_messages")?;
    let mut random = Random::new(21);
    let mut workers = Vec::new();
    for (number, person) in site.people.iter().take(CLIENTS).enumerate() {
        let mut device = Device::log_in(&site.server, person, &mut random).await?;
        let pool = crate::messages::Pool::new(10, number as u64);
        super::push::fill(&mut device, 10, &pool, &mut random).await?;
        let offset = EACH * number as u32 / CLIENTS as u32;
        workers.push(Worker::new(device, offset).await?);
    }
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        let (back, measured) = window::run(&site.server, workers, plan.window(), ask).await?;
        workers = back;
        rounds.push(measured);
    }
    let at = |share: f64| {
        let each: Vec<f64> = rounds
            .iter()
            .map(|round| percentile(&round.latencies_ms, share))
            .collect();
        median(&each)
    };
    let rates: Vec<f64> = rounds.iter().map(Measured::rate).collect();
    let per_cpu: Vec<f64> = rounds.iter().map(Measured::per_cpu_second).collect();
    report.add(Line::new(
        "pull with nothing new, requests",
        "/s",
        median(&rates),
    ));
    report.add(Line::new("pull with nothing new, p50", "ms", at(0.5)));
    let late = Line::new("pull with nothing new, p99", "ms", at(0.99));
    report.add(late.within(Budget::AtMost(5.0)));
    let what = "pull with nothing new, requests per CPU second";
    report.add(Line::new(what, "/s", median(&per_cpu)));
    Ok(())
}

struct Worker {
    device: Device,
    request: Vec<u8>,
    offset: Duration,
}

impl Worker {
    /// Finds the heads of the own stream's files; the later requests ask behind them.
    async fn new(mut device: Device, offset: Duration) -> anyhow::Result<Self> {
        let files = ["org", "sessions", "projects"];
        let starts: Vec<Value> = files
            .iter()
            .map(|file| pull::position(&device, file, None))
            .collect();
        let reply = device.pull(&starts).await?;
        let heads: Vec<Value> = files
            .iter()
            .zip(&reply.pages)
            .map(|(file, page)| pull::position(&device, file, Some(page.cursor.to_string())))
            .collect();
        Ok(Self {
            request: device.pull_request(&heads)?,
            device,
            offset,
        })
    }
}

async fn ask(mut worker: Worker, shared: Arc<Shared>) -> anyhow::Result<(Worker, Vec<f64>)> {
    let mut latencies_ms = Vec::new();
    let start = Instant::now() + worker.offset;
    let mut due = start;
    while !shared.stopped() {
        let early = due.saturating_duration_since(Instant::now());
        let late = early.is_zero();
        tokio::time::sleep(early).await;
        // A request that had to wait for the one before it counts from when it was due.
        let began = if late { due } else { Instant::now() };
        let measured = shared.measuring();
        worker.device.pull_bytes(&worker.request).await?;
        shared.add(1);
        if measured {
            latencies_ms.push(began.elapsed().as_secs_f64() * 1e3);
        }
        due += EACH;
    }
    Ok((worker, latencies_ms))
}
