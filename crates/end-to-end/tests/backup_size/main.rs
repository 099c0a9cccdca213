//! A scope of many messages is backed up, emptied and restored: how fast, and how much memory of
//! the server that takes, which must not depend on the size.
//!
//! `make test` runs it small. `BACKUP_ROWS` sets the number of messages; `CODITECT_TEST_PROGRAMS`
//! the folder of the programs, such as `target/release`. At the end devices push at a steady rate,
//! with and without a backup beside them in turn; `BACKUP_MB_PER_SECOND` is the backup's limit.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failure is the test's, and the figures are what it is for"
)]

mod steady;

use std::time::{Duration, Instant};

use coditect_end_to_end::{Pusher, Server, pause, process, rounds_asked_for};
use coditect_protocol::catalogue::File;
use serde_json::{Value, json};

use steady::{Beside, Steady};

/// Messages of an ordinary run.
const ROWS: u64 = 1_000;
/// Messages of a push.
const BATCH: u64 = 500;
/// How much the server may grow above what it took before, MiB.
const GROWTH_MAX: f64 = 100.0;
/// Megabytes a second that a backup may read.
const MB_PER_SECOND: u64 = 50;
/// Turns of pushes without and with a backup, and how many pushes each takes at least.
const TURNS: usize = 3;
const PUSHES_PER_TURN: usize = 40;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

struct World {
    server: Server,
    pusher: Pusher,
    rows: u64,
    /// Bytes of the archive, unpacked: what the rates are of.
    bytes: f64,
}

#[test]
fn a_large_scope_is_backed_up_and_restored_in_bounded_memory() {
    let rows = rounds_asked_for("BACKUP_ROWS").unwrap_or(ROWS);
    let limit = rounds_asked_for("BACKUP_MB_PER_SECOND").unwrap_or(MB_PER_SECOND);
    let variables = [
        ("CODITECT_REQUEST_TIMEOUT_MS", "600000".to_owned()),
        ("CODITECT_BACKUP_MB_PER_SECOND", limit.to_string()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let server = Server::start_in(&[], &variables);
    let license = server.bootstrap("license_key");
    let mut world = World {
        pusher: Pusher::log_in(server.url(), &license, File::Sessions, 1),
        server,
        rows,
        bytes: 0.0,
    };
    world.push(0, 1);
    let empty = world.back_up();
    world.push(1, rows);
    world.bytes = world.unpacked();
    println!("{rows} messages, {:.1} MB", world.bytes / 1e6);
    let full = world.measured("backup", World::back_up);
    assert_eq!(world.live(), rows);
    let gone = world.measured("replace: all go", |world| world.restore("replace", &empty));
    assert_eq!(gone["removed"], rows - 1, "{gone}");
    assert_eq!(world.live(), 1);
    let back = world.measured("merge: all come back", |world| {
        world.restore("merge", &full)
    });
    assert_eq!(back["restored"], rows - 1, "{back}");
    assert_eq!(world.live(), rows);
    let same = world.measured("replace: all stay", |world| world.restore("replace", &full));
    assert_eq!(
        (&same["restored"], &same["removed"]),
        (&json!(0), &json!(0)),
        "{same}"
    );
    assert_eq!(world.live(), rows);
    let tried = world.server.admin(&["backup-try", &full]);
    assert_eq!(
        (&tried["trial"], &tried["rows"]),
        (&json!("passed"), &json!(rows))
    );
    world.push_beside(&license);
}

impl World {
    fn push(&mut self, first: u64, behind: u64) {
        for from in (first..behind).step_by(usize::try_from(BATCH).unwrap()) {
            let changes = (from..behind.min(from + BATCH)).map(|n| {
                let row = json!({
                    "message_id": format!("message-{n}"),
                    "session_id": format!("session-{}", n / 1_000),
                    "role": if n % 2 == 0 { "user" } else { "assistant" },
                    "content": format!("{n}: {}", words(n)),
                });
                self.pusher.change("context_messages", row, None)
            });
            let changes = changes.collect();
            self.pusher.prepare(changes);
            let reply = self.pusher.push_on();
            let refused = reply.outcomes.iter().find(|one| one.code.is_some());
            assert!(refused.is_none(), "{refused:?}");
        }
    }

    fn path(&self, what: &str) -> String {
        format!("/api/v1/users/{}/context/{what}", self.pusher.user())
    }

    /// Takes a full backup, waits for it, and returns its id.
    fn back_up(&mut self) -> String {
        self.pusher.renew().unwrap();
        let asked = self
            .pusher
            .post(&self.path("backup"), &json!({ "type": "full" }));
        let id = asked.unwrap()["id"].as_str().unwrap().to_owned();
        let state = format!("select status from context_backups where id = '{id}'");
        loop {
            match &*self.server.ask(&state)[0] {
                "completed" => return id,
                "failed" => panic!("the backup failed"),
                _ => pause(LOOK_AGAIN),
            }
        }
    }

    fn restore(&mut self, mode: &str, backup: &str) -> Value {
        self.pusher.renew().unwrap();
        let request = json!({ "backup_id": backup, "mode": mode });
        self.pusher.post(&self.path("restore"), &request).unwrap()
    }

    /// Compares pushes beside a backup with those beside nothing, in turn within one run.
    fn push_beside(&mut self, license: &str) {
        let steady = Steady::new(self.server.url(), license);
        std::thread::scope(|scope| {
            let _stops = steady.start(scope);
            for turn in 1..=TURNS {
                let pushes = turn * PUSHES_PER_TURN;
                let took = self.with_backups(&steady, pushes);
                // As long as the backups took: both have as many pushes to take a share of.
                let rest = Instant::now();
                while steady.pushes(Beside::Nothing) < pushes || rest.elapsed() < took {
                    pause(LOOK_AGAIN);
                }
            }
        });
        let [quiet, busy] = [Beside::Nothing, Beside::Backup].map(|what| {
            let [p50, p99] = [0.5, 0.99].map(|share| steady.share(what, share));
            println!(
                "{} pushes beside {what:?}: p50 {p50:.1} ms, p99 {p99:.1} ms",
                steady.pushes(what)
            );
            (p50, p99)
        });
        println!(
            "beside a backup p50 takes {:.2} and p99 {:.2} times as long",
            busy.0 / quiet.0,
            busy.1 / quiet.1
        );
    }

    /// Takes backups until so many pushes were made beside them; returns how long that took.
    fn with_backups(&mut self, steady: &Steady, pushes: usize) -> Duration {
        let began = Instant::now();
        steady.beside(Beside::Backup);
        self.back_up();
        while steady.pushes(Beside::Backup) < pushes {
            self.back_up();
        }
        steady.beside(Beside::Nothing);
        began.elapsed()
    }

    fn live(&self) -> u64 {
        let live = "select count(*) from context_messages where deleted_at is null";
        self.server.ask(live)[0].parse().unwrap()
    }

    fn unpacked(&self) -> f64 {
        let bytes = "select sum(octet_length(row_to_json(m)::text)) from context_messages m";
        self.server.ask(bytes)[0].parse().unwrap()
    }

    /// Runs something, prints what it took, and checks how much the server grew.
    fn measured<T>(&mut self, name: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let pid = self.server.pid().unwrap();
        // The peak is counted from here on.
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
        let (before, cpu, started) = (memory(pid, "VmRSS:"), processor(pid), Instant::now());
        let done = work(self);
        let (took, cpu) = (started.elapsed().as_secs_f64(), processor(pid) - cpu);
        let peak = memory(pid, "VmHWM:");
        let (mb, rows) = (self.bytes / 1e6, self.rows as f64);
        println!(
            "{name}: {took:.1} s, {:.1} MB/s, {:.0} rows/s; server {cpu:.1} s of processor, \
             {before:.0} MiB before, {peak:.0} MiB at most",
            mb / took,
            rows / took,
        );
        assert!(
            peak - before < GROWTH_MAX,
            "{name}: the server grew by {:.0}",
            peak - before
        );
        done
    }
}

/// Some hundred characters that differ from message to message.
fn words(n: u64) -> String {
    let mixed = |at: u64| (n * 31 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let words = (0..60).map(|at| format!("{:x}", mixed(at)));
    words.collect::<Vec<_>>().join(" ")
}

/// Returns a field of the process's status, MiB.
fn memory(pid: u32, field: &str) -> f64 {
    process::status(pid, field).unwrap() as f64 / 1024.0
}

/// Returns the processor's time that the process has taken, seconds.
fn processor(pid: u32) -> f64 {
    process::processor(pid).unwrap() as f64 / 100.0
}
