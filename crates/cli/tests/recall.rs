//! Recall on the command line: search with its filters, timeline, statistics, graph; over
//! transcripts made by the formats that the agents publish.

#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

mod program;

use std::path::Path;

use serde_json::{Value, json};

use program::{Ran, coditect, run};

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = coditect(self.0.path());
        command
            .args(arguments)
            .current_dir(self.path())
            .env("HOME", self.path());
        let ran = run(&mut command, b"");
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
        ran
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["--json"]].concat());
        serde_json::from_str(&ran.stdout).unwrap()
    }

    fn text(&self, arguments: &[&str]) -> String {
        self.run(arguments).stdout
    }

    fn write(&self, path: &str, lines: &[Value]) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(path, text).unwrap();
    }
}

/// A record of Claude Code.
fn record(session: &str, number: u32, at: &str, kind: &str, message: Value) -> Value {
    let letters: u32 = session.bytes().map(u32::from).sum();
    let uuid = format!("10000000-0000-4000-8000-{letters:08}{number:04}");
    json!({"type": kind, "uuid": uuid, "sessionId": session,
        "timestamp": at, "cwd": format!("/home/ann/{}", folder(session)), "gitBranch": "topic",
        "version": "2.1.29", "isSidechain": false, "userType": "external", "message": message})
}

fn folder(session: &str) -> &str {
    if session == "sess-other" {
        "other"
    } else {
        "app"
    }
}

fn said(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

/// A part of an answer; the vendor repeats `usage`, growing, in every part.
fn answered(id: &str, output: u64, content: Value) -> Value {
    json!({"id": id, "role": "assistant", "model": "claude-sonnet-4-20250514",
        "content": content, "usage": {"input_tokens": 1000, "output_tokens": output,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 2000}})
}

/// A session with an edit, a commit, an error and an answer in two records.
fn of_claude() -> Vec<Value> {
    let edit = json!([{"type": "tool_use", "id": "t1", "name": "Edit",
        "input": {"file_path": "/home/ann/app/src/net.rs", "old_string": "a", "new_string": "b"}}]);
    let commit = json!([{"type": "tool_use", "id": "t2", "name": "Bash",
        "input": {"command": "git commit -am 'Retry on timeout'"}}]);
    let result = |id: &str, text: &str, is_error: bool| {
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id,
            "content": text, "is_error": is_error}]})
    };
    vec![
        record(
            "sess-app",
            1,
            "2026-02-03T10:00:00Z",
            "user",
            said("the zebra times out"),
        ),
        record(
            "sess-app",
            2,
            "2026-02-03T10:01:00Z",
            "assistant",
            answered("msg_1", 10, edit),
        ),
        record(
            "sess-app",
            3,
            "2026-02-03T10:02:00Z",
            "user",
            result("t1", "done", false),
        ),
        record(
            "sess-app",
            4,
            "2026-02-03T10:03:00Z",
            "assistant",
            answered(
                "msg_2",
                7,
                json!([{"type": "text", "text": "a zebra again"}]),
            ),
        ),
        record(
            "sess-app",
            5,
            "2026-02-03T10:03:01Z",
            "assistant",
            answered("msg_2", 30, commit),
        ),
        record(
            "sess-app",
            6,
            "2026-02-03T10:04:00Z",
            "user",
            result(
                "t2",
                "[topic 1a2b3c4] Retry on timeout\n 1 file changed",
                false,
            ),
        ),
        record(
            "sess-app",
            7,
            "2026-02-03T10:05:00Z",
            "user",
            result("t9", "Exit code 1\nerror[E0308]: mismatched types", true),
        ),
    ]
}

fn of_codex() -> Vec<Value> {
    let line = |kind: &str, payload: Value| {
        json!({"timestamp": "2026-02-04T10:00:00.000Z", "type": kind,
            "payload": payload})
    };
    vec![
        line(
            "session_meta",
            json!({"id": "codex-1", "cwd": "/home/ann/app", "cli_version": "1",
            "git": {"branch": "main"}}),
        ),
        line(
            "response_item",
            json!({"type": "message", "role": "user",
            "content": [{"type": "input_text", "text": "a zebra for codex"}]}),
        ),
    ]
}

fn filled() -> Home {
    let home = Home::new();
    let app = of_claude();
    home.write(".claude/projects/-home-ann-app/sess-app.jsonl", &app);
    let other = [record(
        "sess-other",
        1,
        "2026-02-05T10:00:00Z",
        "user",
        said("zebra elsewhere"),
    )];
    home.write(".claude/projects/-home-ann-other/sess-other.jsonl", &other);
    // The same session gone on from elsewhere repeats its records under a name of its own.
    let mut fork = app[..4].to_vec();
    for line in &mut fork {
        line["sessionId"] = json!("sess-fork");
    }
    home.write(".claude/projects/-home-ann-app/sess-fork.jsonl", &fork);
    home.write(
        ".codex/sessions/2026/02/04/rollout-2026-02-04T10-00-00-codex-1.jsonl",
        &of_codex(),
    );
    home.run(&["import", "claude"]);
    home.run(&["import", "codex"]);
    home.run(&["decision", "add", "Zebra keeps its stripes"]);
    home
}

fn ids(found: &Value) -> Vec<String> {
    let hits = found["hits"].as_array().unwrap();
    let mut sessions: Vec<String> = hits
        .iter()
        .map(|hit| hit["session_id"].as_str().unwrap_or("-").to_owned())
        .collect();
    sessions.sort();
    sessions
}

#[test]
fn every_filter_of_search_leaves_out_the_others() {
    let home = filled();
    let find = |more: &[&str]| ids(&home.json(&[&["search", "zebra"], more].concat()));
    assert_eq!(
        find(&[]),
        ["-", "codex-1", "sess-app", "sess-app", "sess-other"]
    );
    assert_eq!(find(&["--project", "other"]), ["sess-other"]);
    assert_eq!(
        find(&["--project", "/home/ann/app"]),
        ["codex-1", "sess-app", "sess-app"]
    );
    assert_eq!(find(&["--agent", "codex"]), ["codex-1"]);
    assert_eq!(find(&["--role", "assistant"]), ["sess-app"]);
    assert_eq!(find(&["--kind", "decision"]), ["-"]);
    let span = [
        "--kind",
        "message",
        "--since",
        "2026-02-04",
        "--until",
        "2026-02-04",
    ];
    assert_eq!(
        find(&span),
        ["codex-1"],
        "a date is meant with its whole day"
    );
    assert_eq!(find(&["--session", "sess-o"]), ["sess-other"]);
    assert_eq!(find(&["--author", "me"]).len(), 5);
    assert_eq!(find(&["--author", "0198abcd"]), Vec::<String>::new());
}

#[test]
fn every_hit_says_source_date_project_branch_and_author() {
    let home = filled();
    let found = home.json(&["search", "codex", "--kind", "message"]);
    let hit = &found["hits"][0];
    assert_eq!(hit["source"], "codex codex-1");
    assert_eq!(hit["time"], "2026-02-04T10:00:00.000000Z");
    assert_eq!(hit["project"], "/home/ann/app");
    assert_eq!(hit["branch"], "main");
    assert_eq!(hit["author"], "you");
    let text = home.text(&["search", "codex", "--kind", "message"]);
    for word in [
        "2026-02-04 10:00:00",
        "you",
        "app",
        "main",
        "codex codex-1",
        "a zebra for codex",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "colours are for terminals only");
}

#[test]
fn the_timeline_goes_by_time_and_shows_what_was_around() {
    let home = filled();
    let all = home.json(&["timeline", "--project", "app"]);
    let moments = all["moments"].as_array().unwrap();
    let told: Vec<String> = moments
        .iter()
        .map(|it| {
            format!(
                "{} {}",
                it["kind"].as_str().unwrap(),
                it["session_id"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "session sess-fork",
            "commit sess-app",
            "session sess-app",
            "session codex-1"
        ]
    );
    assert_eq!(moments[1]["text"], "Retry on timeout");
    assert_eq!(moments[1]["branch"], "topic");
    let around = home.json(&["timeline", "sess-app", "--limit", "2"]);
    let times: Vec<&str> = around["moments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["time"].as_str().unwrap())
        .collect();
    assert_eq!(
        times,
        ["2026-02-03T10:04:00.000000Z", "2026-02-03T10:05:00.000000Z"]
    );
    let day = home.json(&[
        "timeline",
        "2026-02-05",
        "--limit",
        "4",
        "--kind",
        "session",
    ]);
    assert_eq!(day["moments"].as_array().unwrap().len(), 3);
}

#[test]
fn an_answer_counts_once_and_costs_what_the_list_says() {
    let home = filled();
    let stats = home.json(&["stats", "--agent", "claude"]);
    let total = &stats["total"];
    // msg_1 and msg_2, each with the greatest numbers seen, however often they are repeated.
    assert_eq!(total["answers"], 2);
    assert_eq!(total["input_tokens"], 2_000);
    assert_eq!(total["output_tokens"], 40);
    assert_eq!(total["cache_read_input_tokens"], 4_000);
    let cost = total["cost_usd"].as_f64().unwrap();
    assert!(
        (cost - (2_000.0 * 3.0 + 40.0 * 15.0 + 4_000.0 * 0.3) / 1e6).abs() < 1e-9,
        "{cost}"
    );
    assert_eq!(stats["lines"][0]["key"], "2026-02-03");
    let by = |what: &str| home.json(&["stats", "--by", what])["lines"][0]["key"].clone();
    assert_eq!(by("model"), "claude-sonnet-4-20250514");
    assert_eq!(by("project"), "/home/ann/app");
    assert_eq!(stats["activity"]["tool_calls"], 2);
    assert_eq!(
        home.json(&["stats", "--since", "2027-01-01"])["lines"],
        json!([])
    );
}

#[test]
fn the_graph_links_what_transcripts_tell_and_rebuilding_adds_nothing() {
    let home = filled();
    let counts = home.json(&["graph", "show"]);
    assert_eq!(counts["nodes"]["file"], 1);
    assert_eq!(counts["nodes"]["commit"], 1);
    assert_eq!(counts["nodes"]["error"], 1);
    assert_eq!(counts["nodes"]["session"], 4);
    let file = home.json(&["graph", "show", "file:app/src/net.rs", "--depth", "2"]);
    let keys: Vec<&str> = file["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["node_key"].as_str().unwrap())
        .collect();
    assert!(
        keys.contains(&"sess-app") && keys.contains(&"1a2b3c4"),
        "{keys:?}"
    );
    let text = home.text(&["graph", "show", "commit:1a2b3c4"]);
    assert!(
        text.contains("Retry on timeout") && text.contains("committed"),
        "{text}"
    );
    home.run(&["decision", "add", "Use jitter"]);
    home.run(&["error", "add", "mismatched types", "convert first"]);
    let rebuilt = home.json(&["graph", "rebuild"]);
    // Two decisions, one of them from before the first import's end, and a fix with its edge.
    assert_eq!(
        (rebuilt["nodes"].as_u64(), rebuilt["edges"].as_u64()),
        (Some(3), Some(1))
    );
    let again = home.json(&["graph", "rebuild"]);
    assert_eq!((&again["nodes"], &again["edges"]), (&json!(0), &json!(0)));
    home.run(&["import", "claude"]);
    assert_eq!(home.json(&["graph", "show"])["nodes"]["session"], 4);
}
