//! A clock a day fast and one a day slow, against the real server: of two edits the later one
//! wins, whatever the clocks say and whoever syncs first.

use coditect_end_to_end::{Device, Ran, Server, ShiftedClock, assert_same};

const DAY: i64 = 86_400;

/// A machine whose clock is off by so many seconds.
struct Machine<'a> {
    device: Device,
    clock: &'a ShiftedClock,
    off: i64,
}

impl<'a> Machine<'a> {
    fn new(server: &Server, license: &str, clock: &'a ShiftedClock, off: i64) -> Self {
        Self {
            device: Device::linked(server, license),
            clock,
            off,
        }
    }

    /// Runs the program as if it had been run so many seconds ago.
    fn run_ago(&self, ago: i64, arguments: &[&str]) -> Ran {
        let words = self.clock.wrapper(self.off - ago);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = self.device.run_through(&words, arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        ran
    }

    fn edit(&self, ago: i64, id: &str, title: &str) {
        self.run_ago(ago, &["decision", "edit", id, "--title", title]);
    }

    fn sync(&self) {
        self.run_ago(0, &["sync"]);
    }

    fn title(&self, id: &str) -> String {
        let sql = format!("select title from decisions where id = '{id}';");
        self.device.sql("org", &sql).trim().to_owned()
    }
}

#[test]
fn the_later_edit_wins_whatever_the_clocks_say() {
    let server = Server::start();
    let license = server.bootstrap("license_key");
    let clock = ShiftedClock::build();
    let right = Machine::new(&server, &license, &clock, 0);
    let fast = Machine::new(&server, &license, &clock, DAY);
    let slow = Machine::new(&server, &license, &clock, -DAY);
    // What the shim does is seen in the program: the fast one is told about it.
    let doctor = fast.run_through_doctor();
    assert!(doctor.contains("seconds fast"), "{doctor}");

    // The machine whose clock is off edits `ago` seconds ago, the other one half an hour ago.
    let half_hour = 1_800;
    let mut expected = Vec::new();
    for wrong in [&fast, &slow] {
        for (ago, wrong_wins) in [(3_600, false), (600, true)] {
            for wrong_first in [false, true] {
                let added = right.run_ago(7_200, &["decision", "add", "base"]);
                let id = added.stdout.trim().to_owned();
                right.sync();
                wrong.sync();
                wrong.edit(ago, &id, "wrong clock");
                right.edit(half_hour, &id, "right clock");
                if wrong_first {
                    wrong.sync();
                    right.sync();
                } else {
                    right.sync();
                    wrong.sync();
                }
                let winner = if wrong_wins {
                    "wrong clock"
                } else {
                    "right clock"
                };
                expected.push((id, winner, (wrong.off, ago, wrong_first)));
            }
        }
    }
    for machine in [&right, &fast, &slow, &right, &fast, &slow] {
        machine.sync();
    }
    for (id, winner, case) in &expected {
        for machine in [&right, &fast, &slow] {
            assert_eq!(
                machine.title(id),
                *winner,
                "off, ago, syncs first: {case:?}"
            );
        }
    }
    // Each lost version is kept, and the rows are the same everywhere.
    let listed = right.device.json(&["conflict", "list"]);
    assert_eq!(
        listed["conflicts"].as_array().unwrap().len(),
        expected.len()
    );
    let tenant = server.bootstrap("tenant_id");
    let own = format!("user:{}", server.bootstrap("user_id"));
    let scopes = [own.as_str(), &format!("org:{tenant}"), "platform"];
    let dump = server.dump(&tenant);
    for machine in [&right, &fast, &slow] {
        assert_same(&dump, &machine.device, &scopes);
    }
}

impl Machine<'_> {
    fn run_through_doctor(&self) -> String {
        let words = self.clock.wrapper(self.off);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.device.run_through(&words, &["doctor"]).stdout
    }
}

#[test]
fn a_day_fast_gains_nothing_on_a_table_of_facts_or_counters() {
    let server = Server::start();
    let license = server.bootstrap("license_key");
    let clock = ShiftedClock::build();
    let right = Machine::new(&server, &license, &clock, 0);
    let fast = Machine::new(&server, &license, &clock, DAY);
    let added = right.run_ago(60, &["learning", "add", "sql", "counted", "--json"]);
    let row: serde_json::Value = serde_json::from_str(&added.stdout).unwrap();
    let id = row["id"].as_str().unwrap();
    right.sync();
    fast.sync();
    fast.run_ago(40, &["learning", "edit", id, "--used"]);
    right.run_ago(30, &["learning", "edit", id, "--used"]);
    fast.run_ago(
        20,
        &[
            "learning",
            "edit",
            id,
            "--used",
            "--category",
            "of the fast",
        ],
    );
    right.run_ago(10, &["learning", "edit", id, "--category", "of the right"]);
    for machine in [&right, &fast, &right, &fast] {
        machine.sync();
    }
    for machine in [&right, &fast] {
        let sql = "select usage_count, category from skill_learnings;";
        assert_eq!(machine.device.sql("org", sql).trim(), "4|of the right");
        // Nothing is from tomorrow.
        let now = "select count(*) from skill_learnings
                   where updated_at > strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+1 minute');";
        assert_eq!(machine.device.sql("org", now).trim(), "0");
    }
}
