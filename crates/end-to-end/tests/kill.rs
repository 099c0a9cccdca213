//! `kill -9` of the client, the server and PostgreSQL while a device syncs: what was
//! acknowledged stays, nothing comes twice, and all sides end up equal.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use coditect_end_to_end::{Device, Dump, Server, assert_same};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::process::Child;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const ROUNDS: u64 = 20;
const ROWS: u64 = 400;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Client,
    Server,
    Postgres,
}

/// What the kill met, read from what it left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hit {
    /// A batch was out and the server has not stored it.
    InFlight,
    /// The server had stored the batch and the device did not know yet.
    Committed,
    /// No batch was out.
    Nothing,
}

/// Ids that were acknowledged, kept in a file of its own that is synced after every write.
struct Ledger {
    file: File,
    ids: Vec<String>,
}

impl Ledger {
    fn keep(&mut self, device: &Device) {
        let acknowledged = device.sql("org", "select id from sync_base where deleted = 0;");
        self.ids = acknowledged.lines().map(str::to_owned).collect();
        self.file.write_all(acknowledged.as_bytes()).unwrap();
        self.file.sync_all().unwrap();
    }

    fn assert_stored(&self, server: &Dump) {
        let stored: std::collections::BTreeSet<_> = server.keys().map(|(.., id)| id).collect();
        let lost: Vec<_> = self.ids.iter().filter(|id| !stored.contains(id)).collect();
        assert!(
            lost.is_empty(),
            "{} acknowledged rows are lost: {lost:?}",
            lost.len()
        );
    }
}

#[test]
fn acknowledged_rows_survive_kill_9_of_every_part() {
    let mut server = Server::start();
    let tenant = server.bootstrap("tenant_id");
    let license = server.bootstrap("license_key");
    let (a, b) = (
        Device::linked(&server, &license),
        Device::linked(&server, &license),
    );
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("acknowledged")).unwrap();
    let mut ledger = Ledger {
        file,
        ids: Vec::new(),
    };
    let mut hits: BTreeMap<(Target, Hit), u32> = BTreeMap::new();

    // How long a sync of that many rows takes here; kills are spread over twice that time.
    insert(&a, u64::MAX);
    let started = Instant::now();
    a.converge();
    let usual = started.elapsed();

    for round in 0..ROUNDS {
        let target = [Target::Client, Target::Server, Target::Postgres][round as usize % 3];
        insert(&a, round);
        ledger.keep(&a);
        let mut client = a.spawn(&["sync"]);
        wait_for_the_moment((&a, &server), &mut client, target, round, usual);
        let before = a.sql("org", "select count(*) from sync_batch;");
        match target {
            Target::Client => {
                let _ = client.kill();
            }
            Target::Server => server.kill(),
            Target::Postgres => server.kill_postgres(),
        }
        let _ = client.wait();
        if target == Target::Postgres {
            server.stop();
        }
        if target != Target::Client {
            server.restart();
        }
        *hits
            .entry((target, classify(&a, &server.dump(&tenant), before.trim())))
            .or_default() += 1;
        ledger.assert_stored(&server.dump(&tenant));
        a.converge();
    }
    ledger.keep(&a);
    b.converge();
    a.converge();
    let stored = server.dump(&tenant);
    ledger.assert_stored(&stored);
    let mut titles = BTreeMap::<String, u32>::new();
    for row in stored.values() {
        *titles.entry(row["row"]["title"].to_string()).or_default() += 1;
    }
    assert_eq!(titles.len() as u64, (ROUNDS + 1) * ROWS);
    assert!(titles.values().all(|times| *times == 1), "a row came twice");
    let own = format!("user:{}", server.bootstrap("user_id"));
    for device in [&a, &b] {
        assert_same(
            &stored,
            device,
            &[&own, &format!("org:{tenant}"), "platform"],
        );
    }
    print(&hits);
}

fn insert(device: &Device, round: u64) {
    device.sql(
        "org",
        &format!(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < {ROWS})
             insert into decisions (title, rationale)
             select 'round {round} row ' || i, hex(randomblob(200)) from n;"
        ),
    );
}

fn classify(device: &Device, server: &Dump, out_before: &str) -> Hit {
    let out = device.sql("org", "select count(*) from sync_batch;");
    if out.trim() == "0" && out_before == "0" {
        return Hit::Nothing;
    }
    let queued = device.sql(
        "org",
        "select row_id from sync_queue where row_id is not null;",
    );
    let stored = server
        .keys()
        .map(|(.., id)| id.as_str())
        .collect::<std::collections::BTreeSet<_>>();
    if queued.lines().any(|id| stored.contains(id)) {
        Hit::Committed
    } else {
        Hit::InFlight
    }
}

/// Every other client is killed as soon as the server says that it has answered a push: between
/// the commit and its acknowledgement. The server's parts are killed some time after a batch has
/// gone out, the other clients at a moment that the round gives.
fn wait_for_the_moment(
    (device, server): (&Device, &Server),
    client: &mut Child,
    target: Target,
    round: u64,
    usual: Duration,
) {
    let mut runs = || client.try_wait().unwrap().is_none();
    let answered = server.answered_pushes();
    match target {
        Target::Client if round % 2 == 1 => while server.answered_pushes() == answered && runs() {},
        Target::Client => pause(usual.mul_f64(0.1 + 1.1 * fraction(round))),
        Target::Server | Target::Postgres => {
            let out = || device.sql("org", "select count(*) from sync_batch;").trim() == "1";
            while !out() && runs() {}
            pause(usual.mul_f64(0.3 * fraction(round)));
        }
    }
}

/// Waits without a clock of the test's own: nobody sends on the channel.
fn pause(time: Duration) {
    let (_sender, receiver) = mpsc::channel::<()>();
    let _ = receiver.recv_timeout(time);
}

/// A fraction between 0 and 1 that depends on the round alone.
fn fraction(round: u64) -> f64 {
    let mixed = (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

#[expect(clippy::print_stdout, reason = "what was hit is part of the result")]
fn print(hits: &BTreeMap<(Target, Hit), u32>) {
    for target in [Target::Client, Target::Server, Target::Postgres] {
        let of = |hit| hits.get(&(target, hit)).copied().unwrap_or(0);
        println!(
            "{target:?}: {} in flight, {} committed, {} nothing",
            of(Hit::InFlight),
            of(Hit::Committed),
            of(Hit::Nothing)
        );
    }
}
