//! Hooks, eight at a time, while an import writes: none fails, none is lost.

use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::machine::{Machine, asked_for};

/// Hooks of an ordinary run.
const HOOKS: u64 = 120;
const AT_A_TIME: usize = 8;
/// Every so many calls one is about a list of tasks.
const LIST_EVERY: u64 = 10;
/// Records of one import.
const RECORDS: u64 = 2_000;

#[test]
fn a_crowd_of_hooks_loses_nothing_while_an_import_writes() {
    let hooks = asked_for("HOOKS", HOOKS);
    let machine = Machine::new();
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let imports = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&machine, &over));
        let callers: Vec<_> = (0..AT_A_TIME)
            .map(|_| scope.spawn(|| call_all(&machine, &next, hooks)))
            .collect();
        let called = callers.into_iter().map(std::thread::ScopedJoinHandle::join);
        let called: Vec<_> = called.collect();
        over.store(true, Ordering::Release);
        let imports = writer.join().unwrap();
        called.into_iter().for_each(Result::unwrap);
        imports
    });
    take_in_what_waits(&machine);
    let calls = machine.numbers(
        "select count(*), count(distinct tool_use_id) from tool_analytics
         where session_id like 'crowd%'",
    );
    assert_eq!(calls, [hooks, hooks]);
    let tasks = machine.numbers(
        "select count(*), count(distinct description) from task_tracking
         where status = 'in_progress'",
    );
    assert_eq!(tasks, [hooks.div_ceil(LIST_EVERY); 2]);
    let messages = machine.numbers("select count(*), count(distinct message_id) from messages");
    assert_eq!(messages, [imports * RECORDS; 2]);
    println!(
        "{hooks} hooks, {AT_A_TIME} at a time, beside {imports} imports of {RECORDS} messages: \
         none failed, all stored once"
    );
}

fn call_all(machine: &Machine, next: &AtomicU64, hooks: u64) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= hooks {
            return;
        }
        let ran = machine.hook(&event(number).to_string());
        assert!(is_silent(&ran), "{number}: {ran:?}");
    }
}

fn is_silent(ran: &Output) -> bool {
    ran.status.code() == Some(0) && ran.stdout.is_empty() && ran.stderr.is_empty()
}

fn event(number: u64) -> Value {
    let mut event = json!({
        "hook_event_name": "PostToolUse", "session_id": format!("crowd{}", number % 8),
        "cwd": "/home/ann/app", "tool_name": "Bash", "tool_use_id": format!("toolu_{number}"),
        "duration_ms": 12, "tool_input": {"command": "cargo test"},
        "tool_response": {"stdout": "ok ".repeat(200)},
    });
    if number.is_multiple_of(LIST_EVERY) {
        let list = json!([{"content": format!("step {number}"), "status": "in_progress"}]);
        event["session_id"] = json!(format!("crowd-list-{number}"));
        event["tool_name"] = json!("TodoWrite");
        event["tool_input"] = json!({"todos": list});
        event["tool_response"] = json!({"oldTodos": [], "newTodos": list});
    }
    event
}

/// Imports new transcripts until the others are done, once at least; returns how often.
fn write_until(machine: &Machine, over: &AtomicBool) -> u64 {
    let mut imports = 0;
    while imports == 0 || !over.load(Ordering::Acquire) {
        write_transcript(&machine.path("agent/projects/-home-ann-app"), imports);
        let folder = machine.path("agent");
        machine.ok(&["import", "claude", "--from", &folder.to_string_lossy()]);
        imports += 1;
    }
    imports
}

fn write_transcript(folder: &Path, session: u64) {
    std::fs::create_dir_all(folder).unwrap();
    let id = format!("00000000-0000-4000-8000-{session:012}");
    let line = |at: u64| {
        let record = json!({
            "type": "user", "uuid": format!("10000000-0000-4000-8000-{session:06}{at:06}"),
            "sessionId": id, "timestamp": "2026-02-03T03:51:03.761Z", "cwd": "/home/ann/app",
            "version": "2.1.29",
            "message": {"role": "user", "content": format!("{at} {}", "word ".repeat(60))},
        });
        format!("{record}\n")
    };
    let lines: String = (0..RECORDS).map(line).collect();
    std::fs::write(folder.join(format!("{id}.jsonl")), lines).unwrap();
}

/// Waits for the processes that hooks may have started, and stores what they left.
fn take_in_what_waits(machine: &Machine) {
    machine.ok(&["status"]);
    for place in ["worker.lock", "spool.lock"] {
        let place = machine.path(".coditect-data/hooks").join(place);
        if let Ok(place) = std::fs::File::options().write(true).open(place) {
            place.lock().unwrap();
        }
    }
    machine.ok(&["status"]);
    for left in ["spool.jsonl", "spool.taken.jsonl", "spool.bad.jsonl"] {
        let left = machine.path(".coditect-data/hooks").join(left);
        assert!(!left.exists(), "{left:?}");
    }
    let log = std::fs::read_to_string(machine.path(".coditect-data/logs/hooks.log"));
    let log = log.unwrap_or_default();
    assert!(!log.contains("not recorded"), "{log}");
}
