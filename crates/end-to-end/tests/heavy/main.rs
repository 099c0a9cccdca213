//! The heavy user: a device with years of work links to a server, is interrupted twice, and a new
//! device gets it all: what was said first, long outputs of tools after it. And what its messages
//! take on the wire, in both directions, against each row packed alone.
//!
//! `make test` runs it small. HEAVY_SCALE sets the size (1 is 287,000 messages, 8.2 million calls
//! of tools and 17.8 million answers), CODITECT_TEST_PROGRAMS the folder of the programs.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failure is the test's, and the figures are what it is for"
)]

mod generate;
mod project;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Child;
use std::time::{Duration, Instant};

use coditect_core::body;
use coditect_end_to_end::{Device, Server, pause, process, signal};
use coditect_local_store::{LocalStore, Random};
use coditect_protocol::catalogue::by_cloud_name;
use coditect_protocol::wire::Row;
use serde_json::Value;

use generate::{Made, fill, fill_messages};

/// Size when none is asked for.
const SCALE: f64 = 0.0005;
/// Messages below which memory says nothing about streams.
const MEMORY_ROWS_MIN: u64 = 100_000;
const MIB: u64 = 1024 * 1024;

#[expect(
    clippy::disallowed_methods,
    reason = "a long run is asked for by the environment; no program reads this"
)]
fn scale() -> f64 {
    let asked = std::env::var("HEAVY_SCALE").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(SCALE)
}

/// Bytes of rows that would be packed one by one.
#[derive(Default)]
struct RowWise {
    rows: u64,
    plain: u64,
    packed: u64,
}

impl RowWise {
    fn add(&mut self, row: &Row) {
        let text = serde_json::to_vec(row).unwrap();
        let level = flate2::Compression::new(6);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(&text).unwrap();
        self.rows += 1;
        self.plain += text.len() as u64;
        self.packed += encoder.finish().unwrap().len() as u64;
    }
}

/// How often a process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Highest resident memory of a process so far, in bytes; 0 once it is gone.
fn peak_bytes(pid: u32) -> u64 {
    process::status(pid, "VmHWM:").unwrap_or(0) * 1024
}

/// Seconds of processor time of a process so far; 0 once it is gone.
fn processor_s(pid: u32) -> f64 {
    process::processor(pid).unwrap_or(0) as f64 / 100.0
}

/// Seconds of processor time of a process and its children, those that ended included.
fn family_s(pid: u32) -> f64 {
    let family = process::family(pid).into_iter();
    let ticks: u64 = family.filter_map(process::processor_with_ended).sum();
    ticks as f64 / 100.0
}

/// Processor time of processes, the highest that was seen of each.
#[derive(Default)]
struct Spent(BTreeMap<u32, f64>);

impl Spent {
    fn see(&mut self, pid: u32, seconds: f64) {
        let seen = self.0.entry(pid).or_default();
        *seen = seen.max(seconds);
    }

    /// Returns the milliseconds for 1,000 rows.
    fn per_thousand_ms(&self, rows: u64) -> f64 {
        self.0.values().sum::<f64>() * 1e6 / rows as f64
    }
}

/// Processor time of the three programs of a push.
#[derive(Default)]
struct Sides {
    client: Spent,
    server: Spent,
    postgres: Spent,
}

impl Sides {
    fn see_server(&mut self, server: &Server) {
        if let Some(pid) = server.pid() {
            self.server.see(pid, processor_s(pid));
        }
        if let Some(pid) = server.postgres_pid() {
            self.postgres.see(pid, family_s(pid));
        }
    }
}

/// Watches a process until it ends or `until` holds; returns its highest memory.
fn watch(child: &mut Child, mut until: impl FnMut() -> bool) -> u64 {
    let mut peak = 0;
    loop {
        peak = peak.max(peak_bytes(child.id()));
        if child.try_wait().unwrap().is_some() || until() {
            return peak;
        }
        pause(LOOK_EVERY);
    }
}

fn stored(server: &Server) -> u64 {
    let sql = "select coalesce(sum(rows_pushed), 0)::bigint from device_cursors";
    let said = server.query(sql).unwrap_or_default();
    said.first().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// What runs of a device came to.
#[derive(Default)]
struct Runs {
    said: Value,
    sent: u64,
    received: u64,
    peak: u64,
    processor_s: f64,
}

/// Syncs until nothing is queued, and nothing lacks.
fn sync_all(device: &Device) -> Runs {
    let mut runs = Runs::default();
    loop {
        let mut child = device.command_piped(&["sync", "--json"]);
        let reader = child.stdout.take().unwrap();
        let said = std::thread::spawn(move || std::io::read_to_string(reader).unwrap());
        let (pid, mut spent) = (child.id(), 0.0);
        let peak = watch(&mut child, || {
            spent = processor_s(pid).max(spent);
            false
        });
        runs.peak = runs.peak.max(peak);
        runs.processor_s += spent;
        let code = child.wait().unwrap().code();
        let said: Value = serde_json::from_str(&said.join().unwrap()).unwrap();
        runs.sent += said["bytes_sent"].as_u64().unwrap();
        runs.received += said["bytes_received"].as_u64().unwrap();
        assert_ne!(said["converged"], false, "{said}");
        if code == Some(0) && said["converged"] == true {
            runs.said = said;
            return runs;
        }
    }
}

/// Fills the device's store; returns what its rows would take, packed one by one.
fn make(first: &Device, wanted: Made) -> RowWise {
    let folder = first.home().join(".coditect-data/context-storage");
    let mut row_wise = RowWise::default();
    let began = Instant::now();
    let before_s = processor_s(std::process::id());
    let mut store = LocalStore::open(&folder, 0, Random::Seeded(1)).unwrap();
    fill(&mut store, wanted, 1, |row| row_wise.add(row), |_| {}).unwrap();
    drop(store);
    let made_s = began.elapsed().as_secs_f64();
    println!(
        "made {} rows, {:.0} rows/s, {:.1} ms of processor for 1,000 rows",
        wanted.rows(),
        wanted.rows() as f64 / made_s,
        (processor_s(std::process::id()) - before_s) * 1e6 / wanted.rows() as f64,
    );
    row_wise
}

/// Pushes everything and is interrupted twice: the device is killed, then the server. Returns the
/// highest memory of the client and of the server that was killed.
fn push_interrupted(server: &mut Server, first: &Device, wanted: Made) -> (u64, u64) {
    let began = Instant::now();
    let mut sides = Sides::default();
    let mut asked = Instant::now();
    // Asking takes a process: of a long run not more than one a second.
    let pause = Duration::from_millis((wanted.rows() / 200).min(1_000));
    let mut shown = 0;
    let mut child = first.spawn(&["sync"]);
    let mut until = |client: u32, server: &Server, share: u64, sides: &mut Sides| {
        sides.client.see(client, processor_s(client));
        if asked.elapsed() < pause {
            return false;
        }
        asked = Instant::now();
        let stored = stored(server);
        if stored * 20 / wanted.rows() > shown {
            shown = stored * 20 / wanted.rows();
            println!(
                "up: {stored} rows after {:.0} s",
                began.elapsed().as_secs_f64()
            );
        }
        stored * 10 > wanted.rows() * share
    };
    let client = child.id();
    let mut client_peak = watch(&mut child, || until(client, server, 2, &mut sides));
    signal(&child, "KILL");
    child.wait().unwrap();
    let at_first = stored(server);
    assert!(
        at_first < wanted.rows(),
        "it was over before it was interrupted"
    );
    let mut child = first.spawn(&["sync"]);
    let client = child.id();
    let peak = watch(&mut child, || until(client, server, 5, &mut sides));
    client_peak = peak.max(client_peak);
    let server_peak = peak_bytes(server.pid().unwrap());
    sides.see_server(server);
    server.kill();
    server.restart();
    let peak = watch(&mut child, || until(client, server, 100, &mut sides));
    client_peak = peak.max(client_peak);
    let rest = sync_all(first);
    sides.client.see(0, rest.processor_s);
    sides.see_server(server);
    let (said, client_peak) = (rest.said, client_peak.max(rest.peak));
    let up_s = began.elapsed().as_secs_f64();
    assert_eq!(
        (&said["rejected"], &said["parked"]),
        (&0.into(), &0.into()),
        "{said}"
    );
    assert_stored(server, wanted);
    println!(
        "up: {:.0} rows/s with both interruptions, the first at {at_first} rows; processor for \
         1,000 rows: client {:.1} ms, server {:.1} ms, PostgreSQL {:.1} ms",
        wanted.rows() as f64 / up_s,
        sides.client.per_thousand_ms(wanted.rows()),
        sides.server.per_thousand_ms(wanted.rows()),
        sides.postgres.per_thousand_ms(wanted.rows()),
    );
    (client_peak, server_peak)
}

fn assert_stored(server: &Server, wanted: Made) {
    for (table, rows) in [
        ("context_messages", wanted.messages),
        ("context_tool_analytics", wanted.tool_calls),
        ("context_token_economics", wanted.answers),
    ] {
        let count = server.ask(&format!(
            "select count(*) from {table} where deleted_at is null"
        ));
        assert_eq!(count, [rows.to_string()], "{table}");
    }
}

/// Pulls everything to a new device; returns the highest memory of its client.
fn pull_all(second: &Device, wanted: Made, row_wise: &RowWise) -> u64 {
    let began = Instant::now();
    let mut child = second.command_piped(&["sync", "--json"]);
    let reader = child.stdout.take().unwrap();
    let text = std::thread::spawn(move || std::io::read_to_string(reader).unwrap());
    let mut usable = None;
    let mut asked = Instant::now();
    // Counting reads all of them: of a long run not more than once a second.
    let pause = Duration::from_millis((wanted.messages / 200).min(1_000));
    let watched = watch(&mut child, || {
        // All messages can be searched; long ones by their beginnings.
        if usable.is_none() && asked.elapsed() >= pause {
            asked = Instant::now();
            let sql = "select count(*) from messages";
            let ran = second.try_sql("sessions", sql);
            if ran.stdout.trim() == wanted.messages.to_string() {
                usable = Some(began.elapsed());
            }
        }
        false
    });
    let down_s = began.elapsed().as_secs_f64();
    assert!(child.wait().unwrap().success());
    let said: Value = serde_json::from_str(&text.join().unwrap()).unwrap();
    let converged = match said["converged"] == true {
        true => said.clone(),
        false => second.converge(),
    };
    assert_eq!(converged["converged"], true, "{converged}");
    let lacking = second.sql(
        "sessions",
        "select count(*) from messages where bodies is not null",
    );
    assert_eq!(lacking.trim(), "0");
    let received = said["bytes_received"].as_u64().unwrap();
    let usable_s = usable.map_or(down_s, |time| time.as_secs_f64());
    println!(
        "down: usable after {usable_s:.1} s, everything after {down_s:.1} s; \
         {:.2} MiB on the wire, {:.3} of {:.2} MiB packed row by row, {:.2} MiB plain",
        received as f64 / MIB as f64,
        received as f64 / row_wise.packed as f64,
        row_wise.packed as f64 / MIB as f64,
        row_wise.plain as f64 / MIB as f64,
    );
    watched
}

/// Stores messages only; returns what they would take, packed one by one.
fn make_messages(device: &Device, messages: u64, only_long: bool) -> RowWise {
    let folder = device.home().join(".coditect-data/context-storage");
    let table = by_cloud_name("context_messages").unwrap();
    let mut row_wise = RowWise::default();
    let mut store = LocalStore::open(&folder, 0, Random::Seeded(1)).unwrap();
    let keep = |row: &Row| {
        let kept = !only_long || body::part(table, row).is_some();
        if kept {
            row_wise.add(row);
        }
        kept
    };
    fill_messages(&mut store, messages, 1, keep).unwrap();
    row_wise
}

/// Sends messages and fetches them on a new device, and prints what crossed the wire.
fn measure_wire(what: &str, messages: u64, only_long: bool) {
    let server = Server::start();
    let license = server.bootstrap("license_key");
    let first = Device::new();
    let row_wise = make_messages(&first, messages, only_long);
    first.login(&server, &license);
    let up = sync_all(&first);
    let second = Device::linked(&server, &license);
    let down = sync_all(&second);
    let content = "select count(*) || ' ' || sum(length(content)
        + coalesce(length(content_blocks), 0)) from messages where bodies is null";
    assert_eq!(
        first.sql("sessions", content),
        second.sql("sessions", content)
    );
    let pid = server.pid().unwrap();
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    let share = |bytes: u64| bytes as f64 / row_wise.packed as f64;
    println!(
        "{what}: {} of {:.2} MiB, {:.2} packed row by row; up {:.2} MiB ({:.3}), \
         down {:.2} ({:.3}); \
         processor of the client {:.1} s up, {:.1} s down, of the server {:.1} s in all; \
         memory: client {} MiB, server {} MiB",
        row_wise.rows,
        mib(row_wise.plain),
        mib(row_wise.packed),
        mib(up.sent),
        share(up.sent),
        mib(down.received),
        share(down.received),
        up.processor_s,
        down.processor_s,
        processor_s(pid),
        up.peak.max(down.peak) / MIB,
        peak_bytes(pid) / MIB,
    );
    // Both hold for these messages; how much better it may get is what is printed.
    assert!(share(up.sent) < 0.5 && share(down.received) < 0.6, "{what}");
}

#[test]
fn messages_take_little_on_the_wire() {
    // Few share nothing yet with those before them.
    let messages = Made::of_scale(scale()).messages.max(1_000);
    measure_wire("messages with long values", messages, true);
    measure_wire("all messages", messages, false);
}

fn assert_same_messages(first: &Device, second: &Device, scale: f64) {
    let content = "select count(*) || ' ' || sum(length(content)) from messages";
    assert_eq!(
        first.sql("sessions", content),
        second.sql("sessions", content)
    );
    if scale > 0.01 {
        // Whole dumps of more do not fit into memory.
        return;
    }
    let messages = |device: &Device| -> Vec<_> {
        device
            .dump()
            .1
            .into_iter()
            .filter(|(key, _)| format!("{key:?}").contains("context_messages"))
            .collect()
    };
    assert!(messages(first) == messages(second), "the replicas differ");
}

#[test]
fn the_heavy_user_is_taken_in_and_comes_to_a_new_device() {
    let scale = scale();
    let wanted = Made::of_scale(scale);
    let mut server = Server::start();
    let license = server.bootstrap("license_key");
    let first = Device::new();
    let row_wise = make(&first, wanted);
    first.login(&server, &license);
    let (client_peak, server_peak) = push_interrupted(&mut server, &first, wanted);
    let second = Device::linked(&server, &license);
    let watched = pull_all(&second, wanted, &row_wise);
    let server_peak = peak_bytes(server.pid().unwrap()).max(server_peak);
    println!(
        "memory: client {} MiB up, {} MiB down; server {} MiB",
        client_peak / MIB,
        watched / MIB,
        server_peak / MIB
    );
    if wanted.rows() >= MEMORY_ROWS_MIN {
        assert!(client_peak.max(watched) < 100 * MIB, "memory of the client");
        assert!(server_peak < 100 * MIB, "memory of the server");
    }
    assert_same_messages(&first, &second, scale);
}
