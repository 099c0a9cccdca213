//! Calling hooks, and killing some.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use coditect_end_to_end::{Device, program};
use serde_json::Value;

use crate::book::Book;

/// A small generator: the same seed plays the same day.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Calls a hook as a host does; `kill` ends it at once. Returns its answer; a hook that lived
/// must have ended with 0 and said nothing that no host expects.
pub(crate) fn call(
    device: &Device,
    agent: &str,
    input: &Value,
    kill: bool,
    book: &Mutex<Book>,
) -> Option<Value> {
    let event = input["hook_event_name"].as_str().unwrap();
    let mut child = Command::new(program("coditect"))
        .args(["hook", event, "--agent", agent])
        .env("CODITECT_HOME", device.home())
        .env("HOME", device.home())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(input.to_string().as_bytes());
    drop(stdin);
    {
        let mut book = book.lock().unwrap();
        book.hooks += 1;
        book.killed += u64::from(kill);
    }
    if kill {
        // Some of them are far by now, some have not begun.
        for _ in 0..book.lock().unwrap().hooks % 3 {
            let _ = device.run(&["--version"]);
        }
        let _ = child.kill();
        child.wait().unwrap();
        return None;
    }
    let ran = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(
        (ran.status.code(), errors.as_ref()),
        (Some(0), ""),
        "{event}"
    );
    if ran.stdout.is_empty() {
        return None;
    }
    assert_eq!(
        event,
        "SessionStart",
        "{}",
        String::from_utf8_lossy(&ran.stdout)
    );
    Some(serde_json::from_slice(&ran.stdout).unwrap())
}
