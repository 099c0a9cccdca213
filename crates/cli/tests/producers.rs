//! Every table that a person or a scan fills: its commands, their filters, their shapes.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

mod program;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use program::{Ran, coditect, run};

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn run_in(&self, folder: &Path, arguments: &[&str]) -> Ran {
        let mut command = coditect(self.0.path());
        command.args(arguments).current_dir(folder);
        run(&mut command, b"")
    }

    #[track_caller]
    fn json_in(&self, folder: &Path, arguments: &[&str]) -> Value {
        let ran = self.run_in(folder, &[arguments, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        self.json_in(self.0.path(), arguments)
    }

    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let ran = self.run_in(self.0.path(), arguments);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (code, ""),
            "{arguments:?}: {ran:?}"
        );
        ran.stderr
    }
}

fn git(folder: &Path, arguments: &[&str]) {
    let ran = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "user.name=ann", "-c", "user.email=ann@example.com"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A repository with a remote, an ignored folder, a package and a file that nobody wants hashed.
fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "-q", "-b", "main"]);
    write(folder.path(), ".gitignore", "ignored/\n");
    write(folder.path(), "src/main.rs", "fn main() {}\n");
    write(folder.path(), "src/lib.rs", "// nothing\n");
    write(folder.path(), "tools/gen/Cargo.toml", "[package]\n");
    write(folder.path(), "ignored/out.rs", "made\n");
    write(folder.path(), "node_modules/left/index.js", "made\n");
    write(folder.path(), "secret.pem", "PRIVATE\n");
    git(folder.path(), &["add", "."]);
    git(folder.path(), &["commit", "-q", "-m", "first"]);
    let remote = "https://ann:token@git.example.com/Acme/App.git";
    git(folder.path(), &["remote", "add", "origin", remote]);
    folder
}

#[test]
fn a_project_is_known_by_its_repository_and_its_files_by_what_they_hold() {
    let home = Home::new();
    let folder = repository();
    let deep = folder.path().join("src");
    let scanned = home.json_in(&deep, &["project", "scan"]);
    assert_eq!(scanned["project_id"], "git.example.com/acme/app");
    assert_eq!(scanned["new"], true);
    assert_eq!(scanned["sub_projects"], 1);
    let files = &scanned["files"];
    assert_eq!(
        (&files["hashed"], &files["unchanged"]),
        (&json!(4), &json!(0)),
        "{scanned}"
    );

    let listed = home.json(&["project", "list"])["projects"][0].clone();
    assert_eq!(listed["name"], "app");
    assert_eq!(listed["primary_language"], "Rust");
    assert_eq!(listed["repository_url"], "https://git.example.com/acme/app");
    assert_eq!(listed["root_commit"].as_str().unwrap().len(), 40);
    assert!(!listed.to_string().contains("token"), "{listed}");
    assert_eq!(
        home.json(&["project", "register"])["projects"][0]["name"],
        "app"
    );
    let parts = home.json(&["project", "parts", "app"]);
    assert_eq!(parts["sub_projects"][0]["path"], "tools/gen");

    // Only what changed is hashed again, and what is gone is forgotten.
    write(folder.path(), "src/lib.rs", "// something else\n");
    write(folder.path(), "src/new.rs", "// new\n");
    std::fs::remove_file(folder.path().join("src/main.rs")).unwrap();
    let again = home.json_in(&deep, &["project", "scan"]);
    assert_eq!(again["new"], false);
    let files = &again["files"];
    assert_eq!(
        (&files["hashed"], &files["unchanged"], &files["removed"]),
        (&json!(2), &json!(2), &json!(1)),
        "{again}"
    );
    let listed = home.json(&["project", "files", "app"]);
    let names: Vec<&str> = listed["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["file_path"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            ".gitignore",
            "src/lib.rs",
            "src/new.rs",
            "tools/gen/Cargo.toml"
        ]
    );
    assert_eq!(
        listed["files"][1]["file_hash"],
        sha256("// something else\n")
    );
}

#[test]
fn a_clone_elsewhere_spelled_otherwise_is_the_same_project() {
    let home = Home::new();
    let folder = repository();
    let scanned = home.json_in(folder.path(), &["project", "scan"]);
    let clone = tempfile::tempdir().unwrap();
    git(
        clone.path(),
        &["clone", "-q", folder.path().to_str().unwrap(), "copy"],
    );
    let copy = clone.path().join("copy");
    git(
        &copy,
        &[
            "remote",
            "set-url",
            "origin",
            "git@git.example.com:acme/app",
        ],
    );
    let same = home.json_in(&copy, &["project", "scan", "--no-files"]);
    assert_eq!(
        (&same["project_id"], &same["new"]),
        (&scanned["project_id"], &json!(false))
    );
    assert_eq!(
        home.json(&["project", "list"])["projects"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

fn sha256(text: &str) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    use std::io::Write as _;
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let out = child.wait_with_output().unwrap().stdout;
    String::from_utf8(out).unwrap()[..64].to_owned()
}

#[test]
fn patterns_of_a_project_are_followed_and_can_be_switched_off() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.py", "x");
    write(folder.path(), "out/big.bin", "x");
    write(folder.path(), "node_modules/x.js", "x");
    // A folder without a repository is a project as well.
    let first = home.json_in(folder.path(), &["project", "scan"]);
    assert_eq!(first["files"]["hashed"], 2, "{first}");
    let project = first["project_id"].as_str().unwrap();
    let out = home.json_in(
        folder.path(),
        &["exclude", "add", "out/", "--project", project],
    );
    let again = home.json_in(folder.path(), &["project", "scan"]);
    assert_eq!(
        (&again["files"]["seen"], &again["files"]["removed"]),
        (&json!(1), &json!(1))
    );
    let id = out["id"].as_str().unwrap();
    home.json(&["exclude", "edit", id, "--enabled", "false"]);
    let off = home.json_in(folder.path(), &["project", "scan"]);
    assert_eq!(off["files"]["seen"], 2, "{off}");
    let listed = home.json(&["exclude", "list", "--project", project, "--limit", "100"]);
    assert!(listed["exclude_patterns"].as_array().unwrap().len() > 10);
}

#[test]
fn records_of_a_project_take_the_project_of_the_folder() {
    let home = Home::new();
    let folder = repository();
    let stderr = home.fails(6, &["sprint", "add", "S1"]);
    assert!(stderr.contains("coditect project scan"), "{stderr}");
    home.json_in(folder.path(), &["project", "scan", "--no-files"]);
    let sprint = home.json_in(
        folder.path(),
        &[
            "sprint",
            "add",
            "S1",
            "--start",
            "2026-03-02",
            "--position",
            "-1",
        ],
    );
    assert_eq!(sprint["project_id"], "git.example.com/acme/app");
    assert_eq!(sprint["start_date"], "2026-03-02T00:00:00.000000Z");
    assert_eq!(
        (&sprint["status"], &sprint["position"]),
        (&json!("planned"), &json!(-1))
    );
    let id = sprint["id"].as_str().unwrap();
    home.json(&[
        "sprint",
        "edit",
        id,
        "--status",
        "active",
        "--metadata",
        "{\"a\": 1}",
    ]);
    let active = home.json(&["sprint", "list", "--status", "active", "--project", "app"]);
    assert_eq!(active["sprints"][0]["metadata"], json!({"a": 1}));
    assert_eq!(
        home.json(&["sprint", "list", "--status", "planned"])["sprints"],
        json!([])
    );

    // A track is known by its letter: the second time changes the first.
    for name in ["Memory", "Memory intelligence"] {
        home.json_in(folder.path(), &["track", "add", "J", "--name", name]);
    }
    let tracks = home.json(&["track", "list"]);
    assert_eq!(tracks["tracks"].as_array().unwrap().len(), 1);
    assert_eq!(tracks["tracks"][0]["name"], "Memory intelligence");
    let shown = home.json(&["project", "show", "app"]);
    assert_eq!(shown["counts"]["sprints"], 1);
    assert_eq!(shown["counts"]["project_tracks"], 1);
    home.json(&["sprint", "delete", id, "--yes"]);
    assert_eq!(home.json(&["sprint", "list"])["sprints"], json!([]));
}

#[test]
fn measurements_are_written_once() {
    let home = Home::new();
    let metric = home.json(&["metric", "add", "latency", "-2.5", "--unit", "ms"]);
    assert_eq!(metric["metric_value"], -2.5);
    let calibration = [
        "calibration",
        "add",
        "model-1",
        "--predicted",
        "0.9",
        "--actual",
        "0.7",
        "--samples",
        "50",
    ];
    assert_eq!(home.json(&calibration)["sample_size"], 50);
    assert_eq!(
        home.json(&["metric", "list", "--name", "latency"])["metrics"][0],
        metric
    );
    assert_eq!(
        home.json(&["metric", "list", "--name", "other"])["metrics"],
        json!([])
    );
    assert!(
        home.fails(2, &["metric", "edit", "0199"])
            .contains("unrecognized subcommand")
    );
    assert!(
        home.fails(2, &["metric", "add", "x", "many"])
            .contains("expected a number")
    );
    assert!(
        home.fails(2, &["calibration", "add", "m", "--actual", "2"])
            .contains("0 to 1")
    );
    let node = home.json(&["node", "add", "decision", "D-1", "--content", "x"]);
    let other = home.json(&["node", "add", "file", "a.rs"]);
    let ids = [&node, &other].map(|row| row["id"].as_str().unwrap().to_owned());
    let edge = home.json(&["edge", "add", &ids[0], &ids[1], "about", "--weight", "0.5"]);
    assert_eq!(edge["weight"], 0.5);
    assert_eq!(
        home.json(&["edge", "list", "--from", &ids[0]])["edges"][0],
        edge
    );
}

#[test]
fn checkpoints_come_from_a_folder_once_with_the_tasks_they_call_done() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let page = "## Executive Summary\nIt runs.\n## Done\n- [x] build it\n- [ ] sell it\n";
    write(
        folder.path(),
        "CHECKPOINTS/2025-11-16T03-54-36Z-Beta.md",
        page,
    );
    write(folder.path(), "README.md", "- [x] no checkpoint\n");
    let index = json!({
        "checkpoint-2025-11-16T03-54-36Z-Beta": {"message_hashes": ["a"], "created": "2025-11-18"},
        "export-2025-10-07-EXPORT": {"message_hashes": []},
    });
    write(
        folder.path(),
        "MEMORY-CONTEXT/dedup_state/checkpoint_index.json",
        &index.to_string(),
    );
    let from = folder.path().to_str().unwrap();
    let done = home.json(&["checkpoint", "import", from]);
    assert_eq!(done["checkpoints"], json!({"read": 2, "inserted": 2}));
    assert_eq!(done["tasks"], json!({"read": 1, "inserted": 1}));
    let again = home.json(&["checkpoint", "import", from]);
    assert_eq!(again["checkpoints"]["inserted"], 0);
    let listed = home.json(&["checkpoint", "list", "--type", "checkpoint"]);
    let beta = &listed["checkpoints"][0];
    assert_eq!(beta["summary"], "It runs.");
    assert_eq!(beta["date"], "2025-11-16T03:54:36.000000Z");
    assert_eq!(
        (&beta["message_count"], &beta["task_count"]),
        (&json!(1), &json!(1))
    );
    let tasks = home.json(&["task", "list", "--status", "completed"]);
    assert_eq!(tasks["tasks"][0]["description"], "build it");
    let empty = tempfile::tempdir().unwrap();
    home.fails(6, &["checkpoint", "import", empty.path().to_str().unwrap()]);
}

#[test]
fn a_real_projects_memory_is_read_whole() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/rollout-master");
    if !data.is_dir() {
        println!("skipped: no real data at shared/data/rollout-master beside the checkout");
        return;
    }
    let home = Home::new();
    let memory = data.join("MEMORY-CONTEXT");
    let done = home.json(&["checkpoint", "import", memory.to_str().unwrap()]);
    // 49 of the index and 39 pages, of which the index knows 9.
    assert_eq!(
        done["checkpoints"],
        json!({"read": 79, "inserted": 79}),
        "{done}"
    );
    assert_eq!(
        done["tasks"],
        json!({"read": 242, "inserted": 242}),
        "{done}"
    );
    let listed = home.json(&["checkpoint", "list", "--limit", "100"]);
    let rows = listed["checkpoints"].as_array().unwrap();
    let sum: u64 = rows
        .iter()
        .filter_map(|row| row["message_count"].as_u64())
        .sum();
    assert_eq!(sum, 1_601);
    let with_tasks = rows
        .iter()
        .filter(|row| row["task_count"].as_u64() > Some(0));
    assert_eq!(with_tasks.count(), 33);
    assert!(
        rows.iter().all(|row| row["date"].is_string()),
        "every date is found"
    );
}

#[test]
fn settings_are_set_and_taken_back() {
    let home = Home::new();
    let set = home.json(&["config", "set", "cloud.offline", "true"]);
    let expected = json!({"setting": "cloud.offline", "value": true, "before": false});
    assert_eq!(set, expected);
    assert_eq!(home.json(&["status"])["offline_mode"], true);
    let ran = home.run_in(home.0.path(), &["config", "set", "offline", "false"]);
    assert!(
        ran.stderr
            .contains("undo: coditect config set cloud.offline true"),
        "{ran:?}"
    );
    assert_eq!(home.json(&["status"])["offline_mode"], false);
    home.json(&["config", "set", "queue_max_age_hours", "5"]);
    let shown = home.json(&["config", "show"]);
    assert_eq!(
        shown["queue_max_age_hours"],
        json!({"value": 5, "source": "file"})
    );
    assert_eq!(
        home.json(&["config", "unset", "queue_max_age_hours"])["value"],
        72
    );
    for (name, value) in [
        ("offline", "perhaps"),
        ("queue_max_age_hours", "0"),
        ("server", "not an address"),
        ("profile", "../x"),
        ("access_token", "x"),
    ] {
        home.fails(2, &["config", "set", name, value]);
    }
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let home = Home::new();
    let folder = home.0.path().join("man");
    home.json(&["man", folder.to_str().unwrap()]);
    for (name, text) in [
        ("coditect.1", "sync"),
        ("coditect-decision-add.1", "rationale"),
    ] {
        let page = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(
            page.contains(text) && page.starts_with(".ie"),
            "{name}: {page}"
        );
    }
}

/// A folder of Claude Code with one session: a task in progress, calls for it, a skill, an agent, a
/// tool of an MCP server, a commit, and a key in a description.
fn agent() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let key = ["AKIA", "Q3EGRMXQZ5JH7N2A"].concat();
    let commit = "[main 1a2b3c4] mend it\n 1 file changed";
    let calls = [
        (
            "TodoWrite",
            json!({"todos": [{"content": "A.9.1: mend the parser",
            "status": "in_progress", "activeForm": "Mending"}]}),
            "ok",
        ),
        ("Edit", json!({"file_path": "/home/ann/app/src/a.rs"}), "ok"),
        (
            "Bash",
            json!({"command": "git commit -am x", "description": "Commit"}),
            commit,
        ),
        (
            "Bash",
            json!({"command": "make", "description": format!("B.2.3: use {key}")}),
            "ok",
        ),
        ("Skill", json!({"skill": "review"}), "ok"),
        (
            "Task",
            json!({"subagent_type": "Explore", "prompt": "look"}),
            "ok",
        ),
        ("mcp__git__log", json!({"n": 3}), "ok"),
    ];
    let record = |kind: &str, number: usize, block: Value| {
        json!({"type": kind, "uuid": format!("10000000-0000-4000-8000-{number:012}"),
            "sessionId": "s-1", "cwd": "/home/ann/app", "version": "2.1.29",
            "timestamp": format!("2026-02-03T03:51:{number:02}.000Z"),
            "message": {"id": format!("msg_{number}"), "role": kind, "model": "model-1",
                "content": [block]}})
    };
    let mut lines = String::new();
    for (at, (name, input, said)) in calls.into_iter().enumerate() {
        let id = format!("toolu_{at}");
        let call = json!({"type": "tool_use", "id": id, "name": name, "input": input});
        let result = json!({"type": "tool_result", "tool_use_id": id, "content": said});
        for (offset, kind, block) in [(0, "assistant", call), (1, "user", result)] {
            lines += &format!("{}\n", record(kind, 2 * at + offset, block));
        }
    }
    write(folder.path(), "projects/-home-ann-app/s-1.jsonl", &lines);
    folder
}

#[test]
fn calls_are_told_by_their_task_once_and_without_secrets() {
    let home = Home::new();
    let folder = agent();
    let from = folder.path().to_str().unwrap();
    let done = home.json(&["import", "claude", "--from", from]);
    assert_eq!(
        done["rows"]["activity_associations"]["inserted"], 6,
        "{done}"
    );
    let said = |filter: &[&str]| -> Vec<String> {
        let listed = home.json(&[&["activity", "list"], filter].concat());
        let rows = listed["activities"].as_array().unwrap().iter().rev();
        rows.map(|row| row["tool_description"].as_str().unwrap().to_owned())
            .collect()
    };
    let temporal = said(&["--method", "temporal"]);
    let expected = [
        "Edit: src/a.rs",
        "commit 1a2b3c4: mend it",
        "Skill",
        "Task",
        "mcp__git__log",
    ];
    assert_eq!(temporal, expected);
    let explicit = said(&["--task", "B.2.3", "--track", "B"]);
    assert_eq!(explicit.len(), 1);
    assert!(explicit[0].starts_with("Bash: B.2.3: use "), "{explicit:?}");
    assert!(!explicit[0].contains("AKIA"), "{explicit:?}");
    assert_eq!(
        said(&["--track", "A", "--project", "app", "--session", "s-1"]),
        expected
    );
    let shown = home.json(&["activity", "show", "toolu_1"]);
    assert_eq!(shown["confidence"], 0.7, "{shown}");
    assert_eq!(shown["association_method"], "temporal");
    home.fails(6, &["activity", "show", "toolu_9"]);

    // Another folder with the same transcript tells nothing new.
    let copy = agent();
    let again = home.json(&["import", "claude", "--from", copy.path().to_str().unwrap()]);
    let rows = &again["rows"]["activity_associations"];
    assert_eq!(
        (&rows["inserted"], &rows["unchanged"]),
        (&json!(0), &json!(6))
    );
    assert_eq!(said(&[]).len(), 6);
}

#[test]
fn components_are_counted_once_however_often_transcripts_are_imported() {
    let home = Home::new();
    for _ in 0..2 {
        let folder = agent();
        home.json(&[
            "import",
            "claude",
            "--from",
            folder.path().to_str().unwrap(),
        ]);
    }
    let used = home.json(&["usage", "list"]);
    let counts: Vec<(&str, u64)> = used["usage"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let count = row["invocation_count"].as_u64().unwrap();
            (row["component_id"].as_str().unwrap(), count)
        })
        .collect();
    assert_eq!(counts.len(), 3, "{used}");
    for name in ["agent:Explore", "mcp:git/log", "skill:review"] {
        assert!(counts.contains(&(name, 1)), "{name}: {used}");
    }
    let agents = home.json(&["usage", "list", "--kind", "agent", "--own"]);
    assert_eq!(agents["usage"].as_array().unwrap().len(), 1);
    let shown = home.json(&["usage", "show", "agent:Explore"]);
    assert_eq!(
        (&shown["success_count"], &shown["total_duration_ms"]),
        (&json!(1), &json!(1_000)),
        "{shown}"
    );
    assert_eq!(shown["last_used_at"], "2026-02-03T03:51:10.000000Z");
    home.fails(6, &["usage", "show", "skill:nothing"]);
}

/// A project with a place for files of vectors.
struct Vectors {
    home: Home,
    file: std::path::PathBuf,
}

impl Vectors {
    fn new() -> Self {
        let home = Home::new();
        let folder = repository();
        home.json_in(folder.path(), &["project", "scan"]);
        let file = home.0.path().join("vectors.jsonl");
        Self { home, file }
    }

    fn import(&self, lines: &[String], more: &[&str]) -> Ran {
        std::fs::write(&self.file, lines.join("\n")).unwrap();
        let path = self.file.to_str().unwrap();
        let command = ["embedding", "import", path, "--project", "app", "--json"];
        self.home
            .run_in(self.home.0.path(), &[&command, more].concat())
    }

    /// Imports vectors of the first model; returns how many were new, changed and known.
    #[track_caller]
    fn add(&self, lines: &[String]) -> [u64; 3] {
        let ran = self.import(lines, &["--model", "m-1"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let done: Value = serde_json::from_str(&ran.stdout).unwrap();
        ["inserted", "updated", "unchanged"].map(|name| done[name].as_u64().unwrap())
    }

    fn listed(&self, more: &[&str]) -> Vec<Value> {
        let listed = self.home.json(&[&["embedding", "list"], more].concat());
        listed["embeddings"].as_array().unwrap().clone()
    }

    fn nearest(&self, more: &[&str]) -> Vec<Value> {
        let found = self.home.json(&[&["embedding", "nearest"], more].concat());
        found["nearest"].as_array().unwrap().clone()
    }
}

fn vector(file: &str, numbers: Value) -> String {
    json!({"file_path": file, "embedding": numbers, "source_hash": "aa"}).to_string()
}

fn three() -> [String; 4] {
    [
        vector("src/main.rs", json!([1.0, 0.0, 0.0])),
        String::new(),
        vector("src/lib.rs", json!([0.9, 0.1, 0.0])),
        vector("docs/a.md", json!([0, 0, 5])),
    ]
}

#[test]
fn a_part_of_a_file_has_one_vector_of_a_model() {
    let vectors = Vectors::new();
    assert_eq!(vectors.add(&three()), [3, 0, 0]);
    assert_eq!(vectors.add(&three()), [0, 0, 3]);
    assert_eq!(
        vectors.add(&[vector("docs/a.md", json!([0, 1, 5]))]),
        [0, 1, 0]
    );
    let other =
        json!({"file_path": "src/lib.rs", "model": "m-2", "vector": [1, 2], "dimensions": 2});
    assert_eq!(vectors.add(&[other.to_string()]), [1, 0, 0]);
    let rows = vectors.listed(&["--project", "app", "--model", "m-1"]);
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.get("embedding_vector").is_none()));
    let of_file = vectors.listed(&["--file", "docs/a.md"]);
    let id = of_file[0]["id"].as_str().unwrap();
    let shown = vectors.home.json(&["embedding", "show", id]);
    assert_eq!(shown["embedding_vector"], json!([0, 1, 5]));
    assert_eq!(
        (&shown["dimensions"], &shown["chunk_index"]),
        (&json!(3), &json!(0))
    );
    let project = vectors.home.json(&["project", "show", "app"]);
    assert_eq!(project["counts"]["project_embeddings"], 4);
    // What was deleted comes back when somebody imports it.
    let deleted = vectors.home.json(&["embedding", "delete", id, "--yes"]);
    assert_eq!(deleted["deleted"], true);
    assert_eq!(
        vectors.add(&[vector("docs/a.md", json!([0, 1, 5]))]),
        [1, 0, 0]
    );
}

#[test]
fn vectors_are_found_by_their_direction() {
    let vectors = Vectors::new();
    vectors.add(&three());
    let near = vectors.nearest(&["--file", "src/main.rs"]);
    let files: Vec<&Value> = near.iter().map(|row| &row["file_path"]).collect();
    assert_eq!(files, ["src/lib.rs", "docs/a.md"]);
    let cosine = near[0]["cosine"].as_f64().unwrap();
    assert!((cosine - 0.993_883).abs() < 1e-5, "{near:?}");
    let one = ["--vector", "[-1, 0, 4]", "--limit", "1"];
    let near = vectors.nearest(&one);
    assert_eq!(
        (near.len(), &near[0]["file_path"]),
        (1, &json!("docs/a.md"))
    );
    let short = ["embedding", "nearest", "--vector", "[1]"];
    assert!(
        vectors
            .home
            .fails(2, &short)
            .contains("those of m-1 have 3")
    );
    let other = json!({"file_path": "src/lib.rs", "model": "m-2", "vector": [1, 2]});
    vectors.add(&[other.to_string()]);
    let vague = [&["embedding", "nearest"], &one[..]].concat();
    assert!(vectors.home.fails(2, &vague).contains("several models"));
    let near = vectors.nearest(&[&one[..], &["--model", "m-1"]].concat());
    assert_eq!(near[0]["file_path"], "docs/a.md");
}

#[test]
fn what_is_no_vector_is_refused_by_its_line() {
    let vectors = Vectors::new();
    vectors.add(&three());
    let model: &[&str] = &["--model", "m-1"];
    let of = |numbers: Value| vec![vector("x", numbers)];
    let torn = vec![vector("ok.rs", json!([1, 2, 3])), "{".to_owned()];
    let nameless = vec!["{\"embedding\": [1, 2, 3]}".to_owned()];
    for (lines, more, message) in [
        (of(json!([1.0, 2.0])), model, "others of m-1 have 3"),
        (
            of(json!([1.0, 1e300, 2.0])),
            model,
            "number 2 is not finite",
        ),
        (of(json!([0, 0, 0])), model, "points nowhere"),
        (of(json!("[1,2,3]")), model, "no array of numbers"),
        (of(json!([1, 2, 3])), &[], "model is missing"),
        (nameless, model, "file_path"),
        (torn, model, "line 2"),
    ] {
        let ran = vectors.import(&lines, more);
        assert_eq!(ran.code, 1, "{message}: {ran:?}");
        assert!(ran.stderr.contains(message), "{message}: {ran:?}");
    }
    // Only the good line before a wrong one is stored.
    assert_eq!(vectors.listed(&[]).len(), 4);
}
