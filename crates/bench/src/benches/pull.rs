//! Pull: pages of 100 and 1,000 messages, uncompressed, from streams of many people; the page's
//! SELECT by pgbench beside it.

use std::sync::Arc;

use anyhow::ensure;
use coditect_server_store::sync::page_text;
use serde_json::{Value, json};

use super::{Plan, push, raw};
use crate::load::people::{Device, Site};
use crate::load::window::{self, Measured, Shared};
use crate::messages::{self, Pool};
use crate::random::Random;
use crate::report::{Budget, Line, Report};
use crate::rig::server::Server;
use crate::statistics::{median, median_ratio};

const CONNECTIONS: usize = 16;
/// Messages in each stream.
const MESSAGES: usize = 1_000;

/// Measures both page sizes.
pub(crate) async fn run(plan: &Plan, site: &Site, report: &mut Report) -> anyhow::Result<()> {
    site.server.postgres.run("truncate context_messages")?;
    let mut random = Random::new(11);
    let pool = Pool::new(MESSAGES, 2);
    for (size, least) in [(100, 85_000.0), (1_000, 100_000.0)] {
        let mut workers = Vec::new();
        for person in site.people.iter().take(CONNECTIONS) {
            let mut device = Device::log_in(&site.server, person, &mut random).await?;
            if size == 100 {
                push::fill(&mut device, MESSAGES, &pool, &mut random).await?;
            }
            workers.push(Worker::new(device, size).await?);
        }
        site.server
            .postgres
            .run("vacuum analyze context_messages")?;
        let select = Select::write(&site.server, &workers[0], size)?;
        report.fact("SQL, page", page_text(messages::table()));
        let (mut rounds, mut raws) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            let (back, measured) =
                window::run(&site.server, workers, plan.window(), pull_all).await?;
            workers = back;
            rounds.push(measured);
            raws.push(select.run(&site.server, plan.seconds)?);
        }
        let rates: Vec<f64> = rounds.iter().map(Measured::rate).collect();
        let per_cpu: Vec<f64> = rounds.iter().map(Measured::per_cpu_second).collect();
        let raw_rates: Vec<f64> = raws.iter().map(|raw| raw.0).collect();
        let raw_cpu: Vec<f64> = raws.iter().map(|raw| raw.1).collect();
        let line = Line::new(
            format!("pull, pages of {size}, messages"),
            "/s",
            median(&rates),
        );
        report.add(line.beside(median(&raw_rates), median_ratio(&rates, &raw_rates)));
        let what = format!("pull, pages of {size}, messages per CPU second");
        let line = Line::new(what, "/s", median(&per_cpu));
        let line = line.beside(median(&raw_cpu), median_ratio(&per_cpu, &raw_cpu));
        report.add(line.within(Budget::AtLeast(least)));
    }
    Ok(())
}

/// A device that asks for the same page again and again.
struct Worker {
    device: Device,
    request: Vec<u8>,
    reply_bytes: usize,
    size: usize,
    from: i64,
}

impl Worker {
    /// Asks once, and checks that the page has the messages wanted.
    async fn new(mut device: Device, size: usize) -> anyhow::Result<Self> {
        let position = |cursor: Option<String>| position(&device, "sessions", cursor);
        let whole = [position(None)];
        let reply = device.pull(&whole).await?;
        let head = reply.pages[0].cursor;
        let from = head.n - size as i64;
        let cursor = coditect_protocol::Cursor { n: from, ..head };
        let request = device.pull_request(&[self::position(
            &device,
            "sessions",
            Some(cursor.to_string()),
        )])?;
        let bytes = device.pull_bytes(&request).await?;
        let reply: coditect_protocol::wire::pull::PullReply = serde_json::from_slice(bytes)?;
        let found = reply.pages[0].changes.len();
        ensure!(
            found == size,
            "a page of {found} instead of {size} messages"
        );
        let reply_bytes = bytes.len();
        Ok(Self {
            device,
            request,
            reply_bytes,
            size,
            from,
        })
    }
}

/// Returns a position of the device's own stream.
pub(crate) fn position(device: &Device, file: &str, cursor: Option<String>) -> Value {
    let mut position = json!({"scope": device.scope(), "file": file});
    if let Some(cursor) = cursor {
        position["cursor"] = json!(cursor);
    }
    position
}

async fn pull_all(mut worker: Worker, shared: Arc<Shared>) -> anyhow::Result<(Worker, Vec<f64>)> {
    while !shared.stopped() {
        let bytes = worker.device.pull_bytes(&worker.request).await?.len();
        // Equal requests have equal replies; reading each would cost more than making it.
        ensure!(bytes.abs_diff(worker.reply_bytes) < 200, "the page changed");
        shared.add(worker.size);
    }
    Ok((worker, Vec::new()))
}

/// The page's SELECT as a script.
struct Select {
    folder: tempfile::TempDir,
    settings: Vec<(String, String)>,
    size: usize,
}

impl Select {
    fn write(server: &Server, worker: &Worker, size: usize) -> anyhow::Result<Self> {
        let folder = crate::rig::server::new_folder()?;
        let text = page_text(messages::table())
            .replace("$1", &format!("'{}'::uuid", server.tenant))
            .replace("$2", &format!("'{}'::uuid", worker.device.user))
            .replace("$3", &(worker.from + 1).to_string())
            .replace("$4", &(worker.from + size as i64).to_string());
        std::fs::write(folder.path().join("page.sql"), format!("{text};\n"))?;
        Ok(Self {
            folder,
            settings: raw::settings(server, worker.device.user)?,
            size,
        })
    }

    fn run(&self, server: &Server, seconds: u64) -> anyhow::Result<(f64, f64)> {
        let script = self.folder.path().join("page.sql");
        let raw = server
            .postgres
            .bench(&[script], CONNECTIONS, seconds, &self.settings)?;
        let rows = self.size as f64;
        Ok((raw.rate * rows, raw.per_cpu_second * rows))
    }
}
