//! Planted secrets through the real programs: hooks as an agent calls them, imports, records that
//! people write, rows that another program writes, and a sync to a server behind a proxy that
//! keeps what is sent. Afterwards every byte is looked at: databases with their logs, the queue,
//! the archive, what hooks keep, the logs, and the requests.

#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

#[path = "../../core/tests/planted/mod.rs"]
mod planted;

use std::collections::{BTreeMap, HashMap};

use coditect_daemon::archive::Archive;
use coditect_end_to_end::{Device, Proxy, Server};
use coditect_testkit::files_below;
use planted::Planted;
use serde_json::{Value, json};

/// Bytes that a piece of a secret is looked up by.
const START_BYTES: usize = 6;
/// Records that people write; each is a process.
const RECORDS: usize = 24;

/// Where something was looked for, and what it held.
type Looked = Vec<(String, Vec<u8>)>;

fn hook(device: &Device, input: &Value) {
    let event = input["hook_event_name"].as_str().unwrap();
    let ran = device.run_fed(&["hook", event], &input.to_string());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

/// Says a secret to a hook in the places where one can stand.
fn hooks(device: &Device, secrets: &[Planted]) {
    for (number, one) in secrets.iter().enumerate() {
        let mut input = match number % 5 {
            0 => json!({"hook_event_name": "PostToolUseFailure", "tool_name": "Bash",
                "tool_use_id": format!("t{number}"), "tool_input": {"command": one.text},
                "error": format!("Exit code 1\n{}", one.text)}),
            1 => json!({"hook_event_name": "PostToolUse", "tool_name": "TodoWrite",
                "tool_use_id": format!("t{number}"),
                "tool_input": {"todos": [{"content": one.text, "status": "pending"}]},
                "tool_response": {"newTodos": [{"content": one.text, "status": "pending"}]}}),
            2 => json!({"hook_event_name": "OrbitEntered", "note": one.text,
                "deep": [{"er": one.text}]}),
            3 => json!({"hook_event_name": "TaskCreated", "task_id": number.to_string(),
                "task_subject": one.text, "task_description": one.text}),
            _ => json!({"hook_event_name": "SessionStart", "source": "startup",
                "session_title": one.text}),
        };
        input["session_id"] = json!(format!("h{}", number % 7));
        input["cwd"] = json!("/home/ann/app");
        hook(device, &input);
    }
}

fn transcripts(device: &Device, secrets: &[Planted]) {
    let (mut claude, mut codex) = (String::new(), String::new());
    for (number, one) in secrets.iter().enumerate() {
        let blocks = match number % 3 {
            0 => json!(one.text),
            1 => json!([{"type": "tool_use", "id": format!("t{number}"), "name": "Bash",
                "input": {"command": one.text}}]),
            _ => json!([{"type": "tool_result", "tool_use_id": format!("t{number}"),
                "is_error": true, "content": one.text}]),
        };
        let kind = if number % 3 == 1 { "assistant" } else { "user" };
        let line = json!({"type": kind, "uuid": format!("u{number}"), "sessionId": "s1",
            "timestamp": "2026-02-03T03:51:03.761Z", "cwd": "/home/ann/app",
            "message": {"role": kind, "content": blocks}});
        claude.push_str(&format!("{line}\n"));
        let line = json!({"timestamp": "2026-02-03T03:51:03.000Z", "type": "response_item",
            "payload": {"type": "message", "role": "user",
                "content": [{"type": "input_text", "text": one.text}]}});
        codex.push_str(&format!("{line}\n"));
    }
    let write = |path: &str, text: &str| {
        let path = device.home().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(".claude/projects/-home-ann-app/s1.jsonl", &claude);
    write(
        ".codex/sessions/2026/02/03/rollout-2026-02-03T03-51-00-x.jsonl",
        &codex,
    );
    for agent in ["claude", "codex"] {
        let ran = device.run(&["import", agent]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
}

/// What people and other programs write themselves.
fn records(device: &Device, secrets: &[Planted]) {
    for one in secrets
        .iter()
        .filter(|one| !one.text.starts_with('-'))
        .take(RECORDS)
    {
        let ran = device.run(&["decision", "add", "Which one", "--rationale", &one.text]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    for one in secrets {
        let text = one.text.replace('\'', "''").replace('\0', "");
        let insert = format!("insert into decisions (title) values ('{text}');");
        // A shell of SQLite reads lines: texts with a line of their own are the importer's part.
        if !text.contains('\n') {
            device.sql("org", &insert);
        }
    }
}

/// Returns a request's head and body, unpacked.
fn unpacked(request: &[u8]) -> Vec<u8> {
    let end = request
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap()
        + 4;
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    assert!(!head.contains("transfer-encoding: chunked"), "{head}");
    let mut all = request[..end].to_vec();
    if head.contains("content-encoding: zstd") {
        all.extend(zstd::decode_all(&request[end..]).unwrap());
    } else {
        assert!(!head.contains("content-encoding"), "{head}");
        all.extend(&request[end..]);
    }
    all
}

fn everything(device: &Device, proxy: &Proxy) -> Looked {
    let mut looked = Looked::new();
    let folders = [".coditect", ".coditect-data"].map(|folder| device.home().join(folder));
    for path in folders.iter().flat_map(|folder| files_below(folder)) {
        let name = path
            .strip_prefix(device.home())
            .unwrap()
            .display()
            .to_string();
        looked.push((name, std::fs::read(&path).unwrap()));
    }
    let archive = Archive::new(&device.home().join(".coditect-data"));
    for one in archive.manifests().unwrap() {
        let content = archive.restore(&one.path).unwrap().unwrap().content;
        looked.push((format!("archived {}", one.path), content));
    }
    for (at, request) in proxy.requests().iter().enumerate() {
        looked.push((format!("request {at}"), unpacked(request)));
    }
    looked
}

#[test]
fn no_planted_secret_is_stored_kept_logged_or_sent() {
    let server = Server::start();
    let proxy = Proxy::start_recording(server.url());
    let device = Device::linked_at(&proxy.url(), &server.bootstrap("license_key"));
    let secrets = planted::all(7, 1);
    hooks(&device, &secrets);
    transcripts(&device, &secrets);
    records(&device, &secrets);
    // What hooks left for later, and everything that waits to be sent.
    assert_eq!(device.run(&["hook", "--work"]).code, 0);
    device.converge();

    let mut pieces: HashMap<[u8; START_BYTES], Vec<(Vec<u8>, &str)>> = HashMap::new();
    for one in &secrets {
        let escaped = Value::String(one.secret.clone()).to_string();
        let forms = [one.secret.as_str(), &escaped[1..escaped.len() - 1]];
        for piece in forms.iter().flat_map(|secret| planted::pieces(secret)) {
            if let Some(start) = piece.as_bytes().first_chunk::<START_BYTES>() {
                let same = pieces.entry(*start).or_default();
                same.push((piece.as_bytes().to_vec(), one.kind.name));
            }
        }
    }
    let looked = everything(&device, &proxy);
    let mut left: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (place, bytes) in &looked {
        let kind = place
            .split(['/', ' '])
            .find(|part| !part.starts_with('.'))
            .unwrap_or(".");
        let sum = kinds.entry(kind).or_default();
        (sum.0, sum.1) = (sum.0 + 1, sum.1 + bytes.len() as u64);
        for (at, start) in bytes.array_windows::<START_BYTES>().enumerate() {
            for (piece, name) in pieces.get(start).into_iter().flatten() {
                if bytes[at..].starts_with(piece) {
                    left.entry(name).or_default().push(place.clone());
                }
            }
        }
    }
    println!(
        "{} secrets of as many kinds, each planted in hooks, transcripts and records",
        secrets.len()
    );
    println!("looked at (places, bytes): {kinds:?}");
    println!("left: {left:?}");
    for kind in ["context-storage", "archived", "logs", "request", "hooks"] {
        assert!(
            kinds.contains_key(kind),
            "nothing of {kind} was looked at: {kinds:?}"
        );
    }
    assert!(secrets.len() >= 200, "{}", secrets.len());
    assert!(left.len() * 100 <= secrets.len(), "{left:?}");
}
