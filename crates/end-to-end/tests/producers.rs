//! What the commands of one machine write is on the server, and on the other machine as the
//! direction of its table says.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use coditect_client::{Http, HttpOptions, auth};
use coditect_end_to_end::{Device, Server, assert_same};
use coditect_protocol::wire::auth::LicenseLogin;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// Tables that the commands below fill, and whether they come down to the second machine.
const TABLES: &[(&str, &str, bool)] = &[
    ("projects", "projects", true),
    ("projects", "sub_projects", true),
    ("projects", "exclude_patterns", true),
    ("projects", "sprints", true),
    ("projects", "content_hashes", false),
    ("org", "projects", true),
    ("org", "project_tracks", true),
    ("org", "decisions", true),
    ("org", "skill_learnings", true),
    ("org", "error_solutions", true),
    ("org", "kg_nodes", true),
    ("org", "kg_edges", true),
    ("org", "quality_metrics", false),
    ("org", "calibration_history", false),
    ("sessions", "checkpoints", true),
    ("sessions", "task_tracking", true),
    ("sessions", "tool_analytics", false),
    ("sessions", "token_economics", false),
    ("sessions", "activity_associations", false),
    ("platform", "component_usage_stats", false),
    ("projects", "project_embeddings", true),
];

fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("src/main.rs", "fn main() {}\n");
    write("tools/Cargo.toml", "[package]\n");
    write(
        "CHECKPOINTS/2026-01-02T03-04-05Z-Beta.md",
        "- [x] build it\n",
    );
    let git = |arguments: &[&str]| {
        let names = ["-c", "user.name=ann", "-c", "user.email=ann@example.com"];
        let mut command = Command::new("git");
        let ran = command
            .arg("-C")
            .arg(folder.path())
            .args(names)
            .args(arguments);
        assert!(ran.status().unwrap().success(), "{arguments:?}");
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "first"]);
    git(&[
        "remote",
        "add",
        "origin",
        "git@git.example.com:acme/app.git",
    ]);
    folder
}

/// A folder of Claude Code with a session: a task in progress, and a skill that is used for it.
fn agent() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("projects/-app");
    std::fs::create_dir_all(&inside).unwrap();
    let todos =
        r#"{"todos":[{"content":"mend it","status":"in_progress","activeForm":"Mending"}]}"#;
    let mut lines = String::new();
    for (at, (tool, input)) in [("TodoWrite", todos), ("Skill", r#"{"skill":"review"}"#)]
        .into_iter()
        .enumerate()
    {
        let call =
            format!(r#"{{"type":"tool_use","id":"toolu_{at}","name":"{tool}","input":{input}}}"#);
        let result =
            format!(r#"{{"type":"tool_result","tool_use_id":"toolu_{at}","content":"ok"}}"#);
        for (number, kind, block) in [(2 * at, "assistant", call), (2 * at + 1, "user", result)] {
            let head = format!(r#""type":"{kind}","uuid":"10000000-0000-4000-8000-{number:012}""#);
            let place = r#""sessionId":"s-1","cwd":"/home/ann/app""#;
            let time = format!(r#""timestamp":"2026-02-03T03:51:{number:02}.000Z""#);
            let usage = r#""model":"model-1","usage":{"input_tokens":3,"output_tokens":1}"#;
            let message =
                format!(r#"{{"id":"msg_{number}","role":"{kind}",{usage},"content":[{block}]}}"#);
            lines += &format!(r#"{{{head},{place},{time},"message":{message}}}"#);
            lines.push('\n');
        }
    }
    std::fs::write(inside.join("s-1.jsonl"), lines).unwrap();
    folder
}

/// Brings in the transcript, and a vector of a file of the project.
fn bring_in(device: &Device) {
    let agent = agent();
    let from = agent.path().to_str().unwrap();
    let _ = device.json(&["import", "claude", "--from", from]);
    let vectors = agent.path().join("vectors.jsonl");
    let line = r#"{"file_path":"src/main.rs","model":"m-1","embedding":[0.5,-0.25]}"#;
    std::fs::write(&vectors, line).unwrap();
    let path = vectors.to_str().unwrap();
    let _ = device.json(&["embedding", "import", path, "--project", "app"]);
}

fn produce(device: &Device, folder: &Path) {
    let path = folder.to_str().unwrap();
    let run = |arguments: &[&str]| device.json(arguments)["id"].as_str().map(str::to_owned);
    run(&["project", "scan", path]);
    run(&["sprint", "add", "S1", "--project", "app"]);
    run(&["track", "add", "J", "--project", "app"]);
    run(&["decision", "add", "Use Rust", "--project", "app"]);
    run(&["learning", "add", "sql", "indexes"]);
    run(&["error", "add", "locked", "wait"]);
    let from = run(&["node", "add", "decision", "D-1"]).unwrap();
    let to = run(&["node", "add", "file", "src/main.rs"]).unwrap();
    run(&["edge", "add", &from, &to, "about"]);
    run(&["metric", "add", "coverage", "0.8", "--project", "app"]);
    run(&["calibration", "add", "model-1", "--actual", "0.7"]);
    run(&["checkpoint", "import", path]);
    bring_in(device);
}

fn count(device: &Device, file: &str, table: &str) -> u64 {
    let sql = format!("select count(*) from {table};");
    device.sql(file, &sql).trim().parse().unwrap()
}

/// What a device wrote is listed and shown by the records' routes as it is on the device, and what
/// a route makes is on the device after its next sync.
fn check_routes(server: &Server, license: &str, device: &Device) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let http = Http::new(&HttpOptions::new(server.url())).unwrap();
    let wanted = LicenseLogin {
        license_key: license.to_owned(),
        device: None,
    };
    let login = runtime.block_on(auth::license(&http, &wanted)).unwrap();
    let get = |path: String| -> Value {
        let token = Some(login.access_token.as_str());
        runtime.block_on(http.get(&path, token)).unwrap()
    };
    for (kind, file, table) in [
        ("sprints", "projects", "sprints"),
        ("tracks", "org", "project_tracks"),
        ("metrics", "org", "quality_metrics"),
        ("calibrations", "org", "calibration_history"),
        ("checkpoints", "sessions", "checkpoints"),
    ] {
        let page = get(format!("/api/v1/context/{kind}/"));
        let of = |row: &Value| {
            let part = |name| row[name].as_str().unwrap().to_owned();
            format!("{}|{}", part("id"), part("content_hash"))
        };
        let rows = page[kind].as_array().unwrap();
        let mut listed: Vec<String> = rows.iter().map(of).collect();
        listed.sort();
        let sql = format!("select id || '|' || content_hash from {table} order by id;");
        let stored: Vec<String> = device.sql(file, &sql).lines().map(str::to_owned).collect();
        assert!(!stored.is_empty(), "{kind}");
        assert_eq!(listed, stored, "{kind}");
        let id = rows[0]["id"].as_str().unwrap();
        assert_eq!(get(format!("/api/v1/context/{kind}/{id}/")), rows[0]);
    }
    let body = json!({ "name": "by a route", "project_id": "p" }).to_string();
    let token = Some(login.access_token.as_str());
    let made = http.post::<Value>("/api/v1/context/sprints/", body.as_bytes(), token);
    let made = runtime.block_on(made).unwrap();
    device.converge();
    let shown = device.json(&["sprint", "show", made["id"].as_str().unwrap()]);
    assert_eq!(shown["name"], "by a route", "{shown}");
}

#[test]
fn what_commands_write_goes_where_its_table_says() {
    let server = Server::start();
    let license = server.bootstrap("license_key");
    let (a, b) = (
        Device::linked(&server, &license),
        Device::linked(&server, &license),
    );
    let folder = repository();
    produce(&a, folder.path());
    a.converge();
    b.converge();
    for (file, table, comes_down) in TABLES {
        let (on_a, on_b) = (count(&a, file, table), count(&b, file, table));
        assert!(on_a > 0, "{file}:{table} was not filled");
        assert_eq!(on_b, if *comes_down { on_a } else { 0 }, "{file}:{table}");
    }
    // What stays on its device can be fetched.
    let fetched = b.json(&["pull", "--table", "content_hashes"]);
    assert_eq!(fetched["stored"], count(&a, "projects", "content_hashes"));
    assert_eq!(b.json(&["project", "show", "app"])["counts"]["sprints"], 1);
    check_routes(&server, &license, &a);

    // The same repository on the other machine is the same project: nothing appears twice but
    // the files, which each machine has for itself.
    produce(&b, folder.path());
    b.converge();
    a.converge();
    for (file, table) in [
        ("projects", "projects"),
        ("projects", "sub_projects"),
        ("projects", "exclude_patterns"),
        ("org", "projects"),
        ("org", "project_tracks"),
        ("org", "kg_nodes"),
        ("org", "kg_edges"),
        ("sessions", "checkpoints"),
        ("sessions", "task_tracking"),
        ("sessions", "tool_analytics"),
        ("sessions", "activity_associations"),
        ("projects", "project_embeddings"),
    ] {
        let sql = format!("select count(*) - count(distinct id) from {table};");
        assert_eq!(a.sql(file, &sql).trim(), "0");
        assert_eq!(
            count(&a, file, table),
            count(&b, file, table),
            "{file}:{table}"
        );
    }
    assert_eq!(count(&a, "projects", "projects"), 1);
    assert_eq!(count(&a, "sessions", "checkpoints"), 1);
    let tenant = server.bootstrap("tenant_id");
    let own = format!("user:{}", server.bootstrap("user_id"));
    let scopes = [own.as_str(), &format!("org:{tenant}"), "platform"];
    let dump = server.dump(&tenant);
    assert_same(&dump, &a, &scopes);
    assert_same(&dump, &b, &scopes);

    // Both machines have the transcript; its call counts for the one that sent it first.
    for device in [&a, &b] {
        let _ = device.json(&["usage", "list"]);
        device.converge();
    }
    let sum = "select sum(invocation_count)::bigint from platform_usage_stats";
    assert_eq!(server.ask(sum), ["1"]);
    let own = |device: &Device| device.json(&["usage", "list", "--own"])["usage"].clone();
    assert_eq!(own(&a)[0]["component_id"], "skill:review");
    assert_eq!(own(&b), serde_json::json!([]));
}

#[test]
fn what_lost_is_written_back_whole_or_by_fields() {
    let server = Server::start();
    let license = server.bootstrap("license_key");
    let (a, b) = (
        Device::linked(&server, &license),
        Device::linked(&server, &license),
    );
    let conflict = |first: [&str; 2], second: [&str; 2]| {
        let id = a.json(&["decision", "add", "base", "--rationale", "base"]);
        let id = id["id"].as_str().unwrap().to_owned();
        a.sync();
        b.sync();
        let edit = |device: &Device, [title, why]: [&str; 2]| {
            let _ = device.json(&[
                "decision",
                "edit",
                &id,
                "--title",
                title,
                "--rationale",
                why,
            ]);
        };
        edit(&a, first);
        edit(&b, second);
        b.sync();
        a.sync();
        b.sync();
        id
    };
    let stored = |device: &Device, id: &str| {
        let sql = format!("select title, rationale from decisions where id = '{id}';");
        device.sql("org", &sql).trim().to_owned()
    };
    // The later edit, of b, holds.
    let id = conflict(["a", "because of a"], ["b", "because of b"]);
    assert_eq!(stored(&a, &id), "b|because of b");
    let shown = a.json(&["conflict", "show", &id]);
    assert_eq!(shown["before"]["title"], "base", "{shown}");
    assert_eq!(shown["conflicts"][0]["row"]["title"], "a");
    let done = a.json(&["conflict", "resolve", &id, "--take", "title=mine"]);
    assert_eq!(
        (&done["changed"], &done["settled"]),
        (&true.into(), &1.into()),
        "{done}"
    );
    a.converge();
    b.converge();
    for device in [&a, &b] {
        assert_eq!(stored(device, &id), "a|because of b");
        assert_eq!(
            device.json(&["conflict", "list"])["conflicts"],
            serde_json::json!([])
        );
    }

    // The other machine, which did not meet the conflict, restores what lost.
    let id = conflict(["a", "because of a"], ["b", "because of b"]);
    let done = b.json(&["conflict", "restore", &id]);
    assert_eq!(done["changed"], true, "{done}");
    b.converge();
    a.converge();
    assert_eq!(stored(&a, &id), "a|because of a");
    assert_eq!(
        b.run(&["conflict", "restore", &id]).code,
        6,
        "it is settled"
    );
}
