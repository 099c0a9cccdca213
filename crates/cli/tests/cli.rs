//! The program as a person or a script runs it, without a server: exit codes, the two output
//! streams, and the shapes that scripts rely on.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

mod program;

use std::path::PathBuf;

use base64::Engine as _;
use serde_json::{Value, json};

use program::{Ran, coditect, run};

/// Nothing listens on port 1.
const NOWHERE: &str = "http://127.0.0.1:1";
const TENANT: &str = "0da893d9-b095-41b9-abcb-691cc24b9c37";
const USER: &str = "9e50543f-11ca-498c-8ebe-98fd81c53404";

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
        let mut command = coditect(self.0.path());
        command.args(arguments).envs(variables.iter().copied());
        run(&mut command, b"")
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(&[], arguments)
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:?}");
        ran.stderr
    }

    /// Links the folder without a server: a token says who it is for.
    fn link(&self, tenant: &str, profile: &str) -> Ran {
        let token = token(tenant);
        self.run(&[
            "--profile",
            profile,
            "login",
            "--server",
            NOWHERE,
            "--token",
            &token,
            "--yes",
        ])
    }

    fn database(&self, name: &str) -> PathBuf {
        let folder = self.0.path().join(".coditect-data/context-storage");
        folder.join(name)
    }
}

fn token(tenant: &str) -> String {
    let encode =
        |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"sub": USER, "tenant_id": tenant});
    format!(
        "{}.{}.signature",
        encode(&json!({"alg": "EdDSA"})),
        encode(&claims)
    )
}

#[test]
fn a_wrong_command_line_is_usage_and_help_is_not() {
    let home = Home::new();
    assert!(home.fails(2, &[]).contains("Usage: coditect"));
    assert!(home.fails(2, &["sync", "--fast"]).contains("--fast"));
    assert!(home.fails(2, &["decision", "add"]).contains("<TITLE>"));
    assert!(
        home.fails(2, &["--profile", "../x", "status"])
            .contains("no name for a profile")
    );
    let help = home.run(&["help", "decision"]);
    assert_eq!(help.code, 0);
    assert!(help.stdout.contains("Examples:"), "{help:?}");
    assert!(home.run(&["--version"]).stdout.starts_with("coditect 0."));
}

#[test]
fn before_login_everything_local_works() {
    let home = Home::new();
    let status = home.json(&["status"]);
    let empty = json!({
        "tenant_id": null, "user_id": null, "server": null, "profile": null, "logged_in": false,
        "offline_mode": false, "queue_depth": 0, "parked": 0, "conflicts": 0,
        "oldest_queued_at": null, "last_sync_at": null, "last_error": null, "converged": null,
        "streams": [], "daily_backup": true, "last_backup_at": null,
        "device_id": status["device_id"], "bodies_to_fetch": 0, "bodies_to_send": 0,
        "archive": {
            "bytes_original": 0, "bytes_stored": 0, "chunks": 0, "files": 0, "redactions": 0,
        },
    });
    assert_eq!(status, empty);
    let added = home.json(&[
        "decision",
        "add",
        "Use SQLite",
        "--rationale",
        "works offline",
    ]);
    assert_eq!(added["title"], "Use SQLite");
    assert_eq!(added["status"], "proposed");
    assert_eq!(home.json(&["status"])["queue_depth"], 1);
    assert_eq!(home.json(&["status"])["device_id"], status["device_id"]);
    assert_eq!(home.json(&["task", "list"]), json!({"tasks": []}));
    assert_eq!(home.json(&["session", "list"]), json!({"sessions": []}));
    assert_eq!(home.json(&["conflict", "list"]), json!({"conflicts": []}));
    assert_eq!(
        home.json(&["queue", "list"])["queue"][0]["table"],
        "org_decisions"
    );
    assert_eq!(home.json(&["doctor"])["healthy"], true);
}

#[test]
fn what_needs_a_login_says_so() {
    let home = Home::new();
    for command in ["sync", "process-queue", "dump"] {
        let arguments: &[&str] = if command == "dump" {
            &["dump", "--canonical"]
        } else {
            &[command]
        };
        let stderr = home.fails(3, arguments);
        assert!(
            stderr.starts_with("error: this folder is not logged in"),
            "{stderr}"
        );
        assert!(stderr.contains("  hint: coditect login"), "{stderr}");
    }
    home.fails(3, &["decision", "add", "Together", "--scope", "org"]);
    let test = home.run(&["test", "--json"]);
    let report: Value = serde_json::from_str(&test.stdout).unwrap();
    assert_eq!((test.code, &report["success"]), (3, &json!(false)));
    assert!(home.run(&["logout"]).stdout.contains("there was no login"));
}

#[test]
fn records_are_added_found_edited_and_deleted() {
    let home = Home::new();
    let id = home.json(&[
        "learning",
        "add",
        "sqlx",
        "named statements",
        "--confidence",
        "0.9",
    ]);
    let id = id["id"].as_str().unwrap().to_owned();
    let listed = home.json(&["learning", "list"]);
    assert_eq!(listed["learnings"][0]["id"], id.as_str());
    let edited = home.json(&[
        "learning",
        "edit",
        &id[..18],
        "--used",
        "--category",
        "database",
    ]);
    assert_eq!(
        (&edited["usage_count"], &edited["category"]),
        (&json!(2), &json!("database"))
    );
    let cleared = home.json(&["learning", "edit", &id, "--category", ""]);
    assert_eq!(cleared.get("category"), None);
    let found = home.json(&["search", "statem*", "--kind", "learning"]);
    assert_eq!(found["hits"][0]["id"], id.as_str());
    assert_eq!(
        home.json(&["search", "statem*", "--kind", "decision"])["hits"],
        json!([])
    );
    assert_eq!(
        home.json(&["search", "named", "--since", "2999-01-01"])["hits"],
        json!([])
    );

    assert!(
        home.fails(2, &["learning", "delete", &id])
            .contains("say --yes")
    );
    assert!(
        home.fails(2, &["learning", "edit", &id])
            .contains("nothing to change")
    );
    assert!(
        home.fails(2, &["learning", "show", "01"])
            .contains("too short")
    );
    assert!(
        home.fails(6, &["learning", "show", "ffffffff"])
            .contains("no learning")
    );
    let deleted = home.json(&["learning", "delete", &id, "--yes"]);
    assert_eq!(deleted["deleted"], true);
    assert_eq!(deleted["row"]["learning"], "named statements");
    assert_eq!(home.json(&["learning", "list"]), json!({"learnings": []}));
    assert_eq!(home.json(&["search", "named"])["hits"], json!([]));
}

#[test]
fn an_abbreviation_that_fits_several_names_them() {
    let home = Home::new();
    let first = home.json(&["error", "add", "locked", "busy_timeout"]);
    let second = home.json(&["error", "add", "refused", "start it"]);
    let (first, second) = (
        first["id"].as_str().unwrap(),
        second["id"].as_str().unwrap(),
    );
    let stderr = home.fails(6, &["error", "show", &first[..6]]);
    assert!(
        stderr.contains(first) && stderr.contains(second),
        "{stderr}"
    );
    assert!(stderr.contains("hint: give more of the id"), "{stderr}");
    assert!(
        home.run(&["error", "show", first])
            .stdout
            .contains("busy_timeout")
    );
}

#[test]
fn without_an_answer_changes_stay_queued_and_status_says_so() {
    let home = Home::new();
    home.json(&["decision", "add", "Written before login"]);
    let login = home.link(TENANT, "default");
    assert_eq!(login.code, 0, "{login:?}");
    home.json(&["decision", "add", "Written after login", "--scope", "org"]);
    let sync = home.run(&["sync", "--json"]);
    assert_eq!(sync.code, 4, "{sync:?}");
    assert!(
        sync.stderr.contains("error: no connection to the server"),
        "{sync:?}"
    );
    let report: Value = serde_json::from_str(&sync.stdout).unwrap();
    assert_eq!(
        (&report["offline_mode"], &report["pushed"]),
        (&json!(true), &json!(0))
    );
    for name in [
        "pulled",
        "duplicates",
        "conflicts",
        "parked",
        "bytes_sent",
        "bytes_received",
        "duration_ms",
    ] {
        assert!(report[name].is_u64(), "{name} in {report}");
    }
    let status = home.json(&["status"]);
    assert_eq!(status["tenant_id"], TENANT);
    assert_eq!(status["user_id"], USER);
    assert_eq!(status["server"], NOWHERE);
    assert_eq!(status["offline_mode"], true);
    assert_eq!(
        (&status["queue_depth"], &status["parked"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(home.run(&["test"]).code, 4);
    let logs = home.0.path().join(".coditect-data/logs");
    let log = std::fs::read_to_string(logs.join("cloud-sync.log")).unwrap();
    assert!(
        log.contains("request failed") && log.contains("run ended"),
        "{log}"
    );
    assert!(!log.contains("signature"), "a token is in the log");
    let errors = std::fs::read_to_string(logs.join("sync-errors.log")).unwrap();
    assert!(
        errors.contains("request failed") && !errors.contains("run ended"),
        "{errors}"
    );
}

#[test]
fn offline_mode_sends_nothing_until_it_is_left() {
    let home = Home::new();
    home.link(TENANT, "default");
    let config = home.0.path().join(".coditect/config.json");
    let mut stored: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    stored["cloud"]["offline"] = json!(true);
    std::fs::write(&config, stored.to_string()).unwrap();
    let ran = home.run(&["sync", "--json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (ran.code, &report["error"]),
        (4, &json!("offline mode is on"))
    );
    assert!(ran.stderr.contains("CODITECT_OFFLINE=false"), "{ran:?}");
    assert_eq!(home.json(&["status"])["offline_mode"], true);
    let left = home.run_with(&[("CODITECT_OFFLINE", "false")], &["sync"]);
    assert!(
        left.stderr.contains("offline mode is off again"),
        "{left:?}"
    );
    let stored: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    assert_eq!(stored["cloud"]["offline"], false);
    let on = home.run_with(&[("CODITECT_OFFLINE", "true")], &["sync", "--json"]);
    let report: Value = serde_json::from_str(&on.stdout).unwrap();
    assert_eq!(report["error"], "offline mode is on");
}

#[test]
fn a_folder_belongs_to_one_account_and_a_profile_keeps_another_one_apart() {
    let home = Home::new();
    assert_eq!(home.link(TENANT, "default").code, 0);
    home.json(&["decision", "add", "Of the first account"]);
    let other = "11111111-2222-4333-8444-555555555555";
    let refused = home.link(other, "default");
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.stderr.contains("--profile NAME"), "{refused:?}");
    assert_eq!(home.json(&["status"])["tenant_id"], TENANT);
    assert_eq!(home.link(other, "work").code, 0);
    assert_eq!(
        home.json(&["status", "--profile", "work"])["tenant_id"],
        other
    );
    let listed = home.json(&["decision", "list", "--profile", "work"]);
    assert_eq!(listed, json!({"decisions": []}));
    assert_eq!(home.json(&["status"])["tenant_id"], TENANT);
}

#[test]
fn the_first_login_asks_before_it_binds() {
    let home = Home::new();
    let token = token(TENANT);
    let stderr = home.fails(2, &["login", "--server", NOWHERE, "--token", &token]);
    assert!(stderr.contains("bind the data"), "{stderr}");
    assert_eq!(home.json(&["status"])["tenant_id"], Value::Null);
    assert!(
        home.fails(2, &["login", "--token", "x"])
            .contains("no server is named")
    );
    let plain = home.fails(
        2,
        &["login", "--server", "http://10.0.0.1", "--token", &token],
    );
    assert!(
        plain.contains("plain http") && plain.contains("--allow-plain-http"),
        "{plain}"
    );
    assert!(
        home.fails(2, &["login", "--server", NOWHERE])
            .contains("who logs in")
    );
}

#[test]
fn secrets_are_private_and_not_shown() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    home.link(TENANT, "default");
    let file = home.0.path().join(".coditect/credentials/default.json");
    let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(&home.database("org.db")), 0o600);
    let variables = [
        ("CODITECT_PASSWORD", "hunter2"),
        ("CODITECT_OFFLINE", "true"),
    ];
    let shown = home.run_with(&variables, &["config", "show", "--json"]);
    let config: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(config["password"]["source"], "$CODITECT_PASSWORD");
    assert_eq!(
        config["offline"],
        json!({"value": true, "source": "$CODITECT_OFFLINE"})
    );
    assert_eq!(
        config["server"],
        json!({"value": NOWHERE, "source": "file"})
    );
    assert!(!shown.stdout.contains("hunter2") && !shown.stdout.contains("signature"));

    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&file, open).unwrap();
    let doctor = home.run_with(&[("CODITECT_OFFLINE", "true")], &["doctor", "--json"]);
    assert_eq!(doctor.code, 7, "{doctor:?}");
    assert!(
        doctor.stdout.contains("credentials/default.json"),
        "{doctor:?}"
    );
}

#[test]
fn a_file_that_is_not_ours_is_left_untouched() {
    let home = Home::new();
    home.json(&["status"]);
    let path = home.database("org.db");
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(PathBuf::from(name));
    }
    let text = "not a database at all, but long enough to look at ".repeat(20);
    std::fs::write(&path, &text).unwrap();
    let stderr = home.fails(8, &["status"]);
    assert!(
        stderr.contains("left untouched") && stderr.contains("hint:"),
        "{stderr}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    assert_eq!(home.run(&["doctor"]).code, 7);
}

#[test]
fn tables_that_sync_anyway_are_not_pulled_apart() {
    let home = Home::new();
    assert!(
        home.fails(2, &["pull", "--table", "decisions"])
            .contains("part of every sync")
    );
    assert!(
        home.fails(6, &["pull", "--table", "nonsense"])
            .contains("no table 'nonsense'")
    );
    assert!(
        home.fails(6, &["pull", "--table", "projects"])
            .contains("org:projects")
    );
    assert!(
        home.fails(3, &["pull", "--table", "token_economics"])
            .contains("not logged in")
    );
}

#[test]
fn transcripts_are_looked_for_where_the_environment_says() {
    let home = Home::new();
    let stderr = home.fails(2, &["import", "claude"]);
    assert!(stderr.contains("--from DIR"), "{stderr}");
    let stderr = home.fails(6, &["import", "claude", "--from", "/nonexistent"]);
    assert!(stderr.contains("has no folder projects/"), "{stderr}");
    let agent = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(agent.path().join("projects/-app")).unwrap();
    let line = json!({
        "type": "user", "uuid": "10000000-0000-4000-8000-000000000001", "sessionId": "s1",
        "timestamp": "2026-02-03T03:51:00.000Z", "message": {"role": "user", "content": "hello"},
    });
    std::fs::write(
        agent.path().join("projects/-app/s1.jsonl"),
        format!("{line}\n"),
    )
    .unwrap();
    let folder = agent.path().to_str().unwrap();
    let ran = home.run_with(
        &[("CLAUDE_CONFIG_DIR", folder)],
        &["import", "claude", "--json"],
    );
    let summary: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(summary["rows"]["messages"]["inserted"], 1, "{summary}");
    assert_eq!(summary["rows"]["sessions"]["inserted"], 1, "{summary}");
    let shown = home.json(&["session", "show", "s1", "--limit", "5"]);
    assert_eq!(shown["messages"][0]["content"], "hello");
}
