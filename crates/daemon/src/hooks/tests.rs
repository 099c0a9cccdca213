use std::path::Path;

use coditect_capture::hooks::{Agent, Event};
use coditect_local_store::{LocalStore, Random, RowFilter, RowView};
use serde_json::{Value, json};

use super::*;
use crate::importer::Importer;

const NOW: i64 = 1_770_090_000_000;

fn store() -> LocalStore {
    LocalStore::in_memory(NOW, Random::Seeded(1)).unwrap()
}

fn event(at_ms: i64, input: Value) -> Event {
    Event::read(Agent::Claude, None, input.to_string().as_bytes(), at_ms).unwrap()
}

fn call(number: i64, tool: &str, input: Value, response: Value) -> Event {
    event(
        NOW + number,
        json!({"hook_event_name": "PostToolUse", "session_id": "s1", "cwd": "/repo",
            "tool_name": tool, "tool_use_id": format!("t{number}"), "tool_input": input,
            "tool_response": response}),
    )
}

fn rows(store: &LocalStore, table: &str) -> Vec<RowView> {
    let filter = RowFilter {
        limit: u32::MAX,
        oldest_first: true,
        ..RowFilter::default()
    };
    store.list(table, &filter).unwrap()
}

fn todos(list: &[(&str, &str)]) -> Value {
    let item = |(text, status): &(&str, &str)| json!({"content": text, "status": status});
    json!({"todos": list.iter().map(item).collect::<Vec<_>>()})
}

#[test]
fn a_list_becomes_tasks_at_once_and_again_changes_nothing() {
    let mut store = store();
    let first = call(
        1,
        "TodoWrite",
        todos(&[("a", "in_progress"), ("b", "pending")]),
        json!({}),
    );
    let second = call(
        2,
        "TodoWrite",
        todos(&[("a", "completed"), ("b", "pending")]),
        json!({}),
    );
    apply(&mut store, &[first.clone(), second.clone()], NOW).unwrap();
    let again = apply(&mut store, &[second, first], NOW).unwrap();
    assert_eq!((again.inserted, again.updated), (0, 0));
    let tasks = rows(&store, "context_task_tracking");
    let of = |text: &str| {
        tasks
            .iter()
            .find(|task| task.row["description"] == text)
            .unwrap()
    };
    assert_eq!(tasks.len(), 2);
    assert_eq!(of("a").row["status"], "completed");
    assert_eq!(of("b").row["status"], "pending");
    assert!(of("a").pending);
    assert_eq!(rows(&store, "context_tool_analytics").len(), 2);
}

#[test]
fn what_found_the_file_busy_comes_in_later_in_order_and_once() {
    let home = tempfile::tempdir().unwrap();
    let folder = Folder::new(home.path());
    assert!(!folder.has_spooled());
    let secret = ["ghp_", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF1234"].concat();
    let steps = ["pending", "in_progress", "completed"];
    for (at, status) in steps.into_iter().enumerate() {
        let text = format!("use {secret}");
        let list = todos(&[(text.as_str(), status)]);
        folder
            .spool(&call(at as i64, "TodoWrite", list, json!({})))
            .unwrap();
    }
    let spool = home.path().join("hooks/spool.jsonl");
    assert!(!std::fs::read_to_string(&spool).unwrap().contains(&secret));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let rights = std::fs::metadata(&spool).unwrap().permissions();
        assert_eq!(rights.mode() & 0o777, 0o600);
    }
    let mut store = store();
    let held = folder.drain_place().unwrap();
    assert!(
        folder.drain(&mut store, u64::MAX, NOW).unwrap().left,
        "another process is at it"
    );
    drop(held);
    let few = folder.drain(&mut store, 10, NOW).unwrap();
    assert_eq!((few.events, few.left), (0, true), "more than was asked for");
    let all = folder.drain_all(&mut store, NOW).unwrap();
    assert_eq!((all.events, all.bad, all.left), (3, 0, false));
    assert!(!folder.has_spooled());
    let tasks = rows(&store, "context_task_tracking");
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].row["status"], "completed");
    assert!(!format!("{tasks:?}").contains(&secret));
}

/// What is left when a process is killed while it writes, or the disk is full, costs that event
/// only: the one after it is whole.
#[test]
fn torn_lines_are_put_aside_and_cost_no_other() {
    let home = tempfile::tempdir().unwrap();
    let folder = Folder::new(home.path());
    let path = home.path().join("hooks/spool.jsonl");
    folder
        .spool(&call(1, "Bash", json!({}), json!({})))
        .unwrap();
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("\n{\"agent\":\"claude\",\"na");
    std::fs::write(&path, text).unwrap();
    folder
        .spool(&call(2, "Bash", json!({}), json!({})))
        .unwrap();
    let mut store = store();
    let all = folder.drain_all(&mut store, NOW).unwrap();
    assert_eq!((all.events, all.bad, all.left), (2, 1, false));
    assert_eq!(rows(&store, "context_tool_analytics").len(), 2);
    let bad = std::fs::read_to_string(home.path().join("hooks/spool.bad.jsonl")).unwrap();
    assert_eq!(bad, "{\"agent\":\"claude\",\"na\n");
}

/// Whoever takes the spool in may be killed at any moment: before or after it has renamed the
/// file, before or after an event is stored. The next one goes on; every row is there once, and
/// says the latest.
#[test]
fn a_killed_drain_loses_and_doubles_nothing() {
    let events: Vec<Event> = ["pending", "in_progress", "completed"]
        .into_iter()
        .enumerate()
        .map(|(at, status)| call(at as i64, "TodoWrite", todos(&[("a", status)]), json!({})))
        .collect();
    for stored in 0..=events.len() {
        for renamed in [false, true] {
            let home = tempfile::tempdir().unwrap();
            let folder = Folder::new(home.path());
            for event in &events[..2] {
                folder.spool(event).unwrap();
            }
            if renamed {
                let name = |name: &str| home.path().join("hooks").join(name);
                std::fs::rename(name("spool.jsonl"), name("spool.taken.jsonl")).unwrap();
            }
            folder.spool(&events[2]).unwrap();
            let mut store = store();
            apply(&mut store, &events[..stored], NOW).unwrap();
            let all = folder.drain_all(&mut store, NOW).unwrap();
            assert_eq!((all.events, all.bad, all.left), (3, 0, false));
            let tasks = rows(&store, "context_task_tracking");
            assert_eq!(tasks.len(), 1, "{stored} stored, renamed: {renamed}");
            assert_eq!(tasks[0].row["status"], "completed");
            assert_eq!(rows(&store, "context_tool_analytics").len(), 3);
        }
    }
}

/// Hooks write while others take in, all at once: each event is stored once.
#[test]
fn writers_and_takers_at_once_lose_and_double_nothing() {
    const WRITERS: i64 = 8;
    const EACH: i64 = 40;
    let home = tempfile::tempdir().unwrap();
    let folder = Folder::new(home.path());
    let store = std::sync::Mutex::new(store());
    let taken = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        let write = |writer: i64| {
            for at in 0..EACH {
                let number = writer * EACH + at;
                folder
                    .spool(&call(number, "Bash", json!({}), json!({})))
                    .unwrap();
            }
        };
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| scope.spawn(move || write(writer)))
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                while taken.load(std::sync::atomic::Ordering::Relaxed) < (WRITERS * EACH) as u64 {
                    let mut store = store.lock().unwrap();
                    let drained = folder.drain(&mut store, u64::MAX, NOW).unwrap();
                    taken.fetch_add(drained.events, std::sync::atomic::Ordering::Relaxed);
                    assert_eq!(drained.bad, 0);
                }
            });
        }
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
    });
    let mut store = store.into_inner().unwrap();
    assert!(!folder.drain_all(&mut store, NOW).unwrap().left);
    let rows = rows(&store, "context_tool_analytics");
    assert_eq!(rows.len() as i64, WRITERS * EACH);
}

#[test]
fn only_a_sessions_own_transcript_is_read() {
    let home = tempfile::tempdir().unwrap();
    let folder = Folder::new(home.path());
    let path = home.path().join("s1.jsonl");
    let line = json!({"type": "user", "uuid": "10000000-0000-4000-8000-000000000001",
        "sessionId": "s1", "timestamp": "2026-02-03T03:51:03.761Z",
        "message": {"role": "user", "content": "hello"}});
    std::fs::write(&path, format!("{line}\n")).unwrap();
    let mut store = store();
    let end = |path: &Path| {
        event(
            NOW,
            json!({"hook_event_name": "SessionEnd", "session_id": "s1", "reason": "other",
                "transcript_path": path}),
        )
    };
    let other = home.path().join("private.jsonl");
    std::fs::copy(&path, &other).unwrap();
    apply(&mut store, &[end(&other)], NOW).unwrap();
    assert!(!folder.has_work(&store).unwrap());
    apply(&mut store, &[end(&path)], NOW).unwrap();
    assert!(folder.has_work(&store).unwrap());
    let worked = folder.work(&mut store, &[], || NOW).unwrap();
    assert_eq!((worked.transcripts, worked.messages), (1, 1));
    assert!(!folder.has_work(&store).unwrap());
    let sessions = rows(&store, "context_sessions");
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].row["status"], "ended");
    assert_eq!(sessions[0].row["title"], "hello");
}

#[test]
fn one_worker_at_a_time_and_not_too_often() {
    let home = tempfile::tempdir().unwrap();
    let folder = Folder::new(home.path());
    let hour = std::time::Duration::from_secs(3_600);
    let at_work = folder.work_place().unwrap();
    assert!(folder.work_place().is_none());
    assert!(
        !folder.claim_start(std::time::Duration::ZERO),
        "one is at work"
    );
    drop(at_work);
    assert!(folder.claim_start(hour));
    assert!(!folder.claim_start(hour), "one was started already");
    assert!(folder.claim_start(std::time::Duration::ZERO));
}

#[test]
fn events_without_a_table_are_kept() {
    let home = tempfile::tempdir().unwrap();
    let folder = Folder::new(home.path());
    let secret = ["ghp_", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF1234"].concat();
    let new = json!({"hook_event_name": "OrbitEntered", "session_id": "s1", "note": secret});
    keep(&folder, &event(NOW, new)).unwrap();
    keep(&folder, &call(1, "Bash", json!({}), json!({}))).unwrap();
    let text = std::fs::read_to_string(home.path().join("hooks/events.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(text.contains("OrbitEntered") && !text.contains(&secret));
}

/// The tool calls of a real transcript, said to hooks as they happened, and the transcript read
/// afterwards give what reading it alone gives.
#[test]
fn hooks_and_transcript_together_double_nothing() {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/transcripts/claude");
    let Ok(found) = coditect_capture::claude::discover(&root) else {
        eprintln!("skipped: there are no real transcripts beside the checkout");
        return;
    };
    let (mut compared, mut tasks) = (0, 0);
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut with_hooks = store();
        for event in said(&text) {
            tasks += u32::from(event.task.is_some());
            let at_ms = event.at_ms;
            apply(&mut with_hooks, &[event], at_ms).unwrap();
        }
        let tasks_said = rows(&with_hooks, "context_task_tracking").len();
        let mut alone = store();
        for store in [&mut with_hooks, &mut alone] {
            let importer = Importer::new(store, NOW).unwrap();
            importer.run_some(std::slice::from_ref(&path)).unwrap();
        }
        for table in [
            "context_task_tracking",
            "context_tool_analytics",
            "context_sessions",
        ] {
            let all = |store: &LocalStore| {
                let row = |view: RowView| (view.id, Value::Object(view.row));
                let all: std::collections::BTreeMap<_, _> =
                    rows(store, table).into_iter().map(row).collect();
                all
            };
            let (found, expected) = (all(&with_hooks), all(&alone));
            for (id, row) in &expected {
                assert_eq!(found.get(id), Some(row), "{table} of {}", path.display());
            }
            assert_eq!(found.len(), expected.len(), "{table} of {}", path.display());
            compared += expected.len();
        }
        assert_eq!(tasks_said, rows(&alone, "context_task_tracking").len());
    }
    assert!(
        compared > 0 && tasks > 0,
        "{compared} rows, {tasks} task calls"
    );
}

/// Returns what hooks would have been told while a transcript was written.
fn said(text: &str) -> Vec<Event> {
    let mut calls = std::collections::HashMap::new();
    let mut events = Vec::new();
    for record in text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        let Some(blocks) = record["message"]["content"].as_array() else {
            continue;
        };
        for block in blocks {
            match block["type"].as_str() {
                Some("tool_use") => {
                    calls.insert(block["id"].clone(), (record.clone(), block.clone()));
                }
                Some("tool_result") => {
                    let Some((from, call)) = calls.get(&block["tool_use_id"]) else {
                        continue;
                    };
                    let failed = block["is_error"] == true;
                    let name = if failed {
                        "PostToolUseFailure"
                    } else {
                        "PostToolUse"
                    };
                    let at = record["timestamp"].as_str().unwrap();
                    let mut input = json!({
                        "hook_event_name": name, "session_id": record["sessionId"],
                        "cwd": from["cwd"], "tool_name": call["name"],
                        "tool_use_id": call["id"], "tool_input": call["input"],
                    });
                    if failed {
                        input["error"] = block["content"].to_string().into();
                    } else {
                        input["tool_response"] = record["toolUseResult"].clone();
                    }
                    if let Some(agent) = from.get("agentId") {
                        input["agent_id"] = agent.clone();
                    }
                    events.push(event(
                        coditect_core::canonical::ms_from_time(at).unwrap(),
                        input,
                    ));
                }
                _ => {}
            }
        }
    }
    events
}
