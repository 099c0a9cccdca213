//! A scope of many messages is backed up, emptied and restored: how fast, and how much memory of
//! the server that takes, which must not depend on the size.
//!
//! `make test` runs it small. `BACKUP_ROWS` sets the number of messages; `CODITECT_TEST_PROGRAMS`
//! the folder of the programs, such as `target/release`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failure is the test's, and the figures are what it is for"
)]

use std::sync::mpsc;
use std::time::{Duration, Instant};

use coditect_end_to_end::{Pusher, Server, rounds_asked_for};
use coditect_protocol::catalogue::File;
use serde_json::{Value, json};

/// Messages of an ordinary run.
const ROWS: u64 = 1_000;
/// Messages of a push.
const BATCH: u64 = 500;
const MIB: f64 = 1024.0 * 1024.0;
/// How much the server may grow above what it took before, MiB.
const GROWTH_MAX: f64 = 100.0;
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
    let variables = [("CODITECT_REQUEST_TIMEOUT_MS", "600000")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
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
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.unwrap().trim().trim_end_matches("kB").trim();
    kib.parse::<f64>().unwrap() * 1024.0 / MIB
}

/// Returns the processor's time that the process has taken, seconds.
fn processor(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name before it may hold anything; user and system time are 12 and 13 behind it.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// Waits without a clock of the test's own: nobody sends on the channel.
fn pause(time: Duration) {
    let (_sender, receiver) = mpsc::channel::<()>();
    let _ = receiver.recv_timeout(time);
}
