//! Runs both programs as a person does: a server on an embedded PostgreSQL, devices with homes
//! of their own, foreign writers through the `sqlite3` program. Knows only the documented
//! surface; panics where a test should fail.
#![expect(
    clippy::unwrap_used,
    reason = "support code of tests: a failure is the test's"
)]

mod clock;
mod daemon;
mod device;
mod ledger;
mod moments;
pub mod process;
mod programs;
mod proxy;
mod pusher;
mod server;
mod shells;
mod transcripts;
mod work;

pub use clock::ShiftedClock;
pub use daemon::Daemon;
pub use device::{Device, Ran};
pub use ledger::Ledger;
pub use moments::{fraction, pause};
pub use programs::{program, rounds_asked_for, shared_data};
pub use proxy::{Held, Proxy, Stop};
pub use pusher::{Pushed, Pusher};
pub use server::{Server, signal};
pub use shells::Shell;
pub use transcripts::write_transcript;
pub use work::Work;

use serde_json::Value;
use std::collections::BTreeMap;

/// Rows of a dump by table, scope and id.
pub type Dump = BTreeMap<(String, String, String), Value>;

/// Reads a dump's lines; the first line of a device's dump names the device.
///
/// # Panics
/// When a line is no JSON or a key appears twice.
#[must_use]
pub fn read_dump(lines: &str) -> (Option<String>, Dump) {
    let (mut device, mut rows) = (None, Dump::new());
    for line in lines.lines() {
        let mut entry: Value = serde_json::from_str(line).unwrap();
        if let Some(id) = entry["this_device"].as_str() {
            device = Some(id.to_owned());
            continue;
        }
        // A tombstone's columns may be null or left out.
        entry
            .as_object_mut()
            .unwrap()
            .entry("row")
            .or_insert(Value::Null);
        let text = |name: &str| entry[name].as_str().unwrap().to_owned();
        let key = (text("table"), text("scope"), text("id"));
        assert!(
            rows.insert(key.clone(), entry).is_none(),
            "{key:?} appears twice"
        );
    }
    (device, rows)
}

/// Asserts that the device holds exactly what the server has for it: every row of the scopes
/// given whose table comes down, of `up` tables at least those that it was first to push, and
/// nothing else.
///
/// # Panics
/// With the differences, when there are any.
pub fn assert_same(server: &Dump, device: &Device, scopes: &[&str]) {
    let (id, rows) = device.dump();
    let id = id.unwrap();
    let expected: Dump = server
        .iter()
        .filter(|((table, scope, _), entry)| {
            let table = coditect_protocol::catalogue::by_cloud_name(table).unwrap();
            scopes.contains(&scope.as_str())
                && (table.comes_down() || entry["origin"].as_str() == Some(&id))
        })
        .map(|(key, entry)| (key.clone(), entry.clone()))
        .collect();
    let mut differences = Vec::new();
    for key in expected.keys().filter(|key| !rows.contains_key(*key)) {
        differences.push(format!("missing {key:?}"));
    }
    for (key, row) in &rows {
        // A row of an `up` table may be another device's first push of what both derived; it
        // counts there only, but it must be the same row.
        let table = coditect_protocol::catalogue::by_cloud_name(&key.0).unwrap();
        let stored = expected
            .get(key)
            .or_else(|| server.get(key).filter(|_| !table.comes_down()));
        match stored {
            None => differences.push(format!("extra {key:?}")),
            Some(stored) if stored != row => {
                differences.push(format!("{key:?}\n  server {stored}\n  device {row}"));
            }
            Some(_) => {}
        }
    }
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
