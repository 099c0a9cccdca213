//! `backup`, `restore` and `doctor --repair` as a person runs them, without a server.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

mod program;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use program::{Ran, coditect, run};

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = coditect(self.0.path());
        command.args(arguments);
        run(&mut command, b"")
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    }

    fn add(&self, title: &str) {
        let rationale = "because ".repeat(60);
        let ran = self.run(&["decision", "add", title, "--rationale", &rationale]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }

    fn has(&self, title: &str) -> bool {
        let ran = self.run(&["decision", "list", "--limit", "1000", "--json"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.stdout.contains(&format!("\"{title}\""))
    }

    fn data(&self) -> PathBuf {
        self.0.path().join(".coditect-data")
    }

    fn database(&self, name: &str) -> PathBuf {
        self.data().join("context-storage").join(name)
    }

    /// Puts a transcript of two messages where an agent does, and imports it.
    fn import(&self) {
        let folder = self.0.path().join(".claude/projects/-w-p");
        fs::create_dir_all(&folder).unwrap();
        let session = "5f8f3a1e-5d0a-4b8e-9a51-1f64b1f0a001";
        let line = |uuid: &str, role: &str, text: &str| {
            serde_json::json!({
                "type": role, "uuid": uuid, "sessionId": session, "cwd": "/w/p",
                "timestamp": "2026-02-03T10:00:00.000Z",
                "message": {"role": role, "content": text},
            })
        };
        let lines = format!(
            "{}\n{}\n",
            line(
                "5f8f3a1e-5d0a-4b8e-9a51-1f64b1f0a002",
                "user",
                "how is the weather"
            ),
            line(
                "5f8f3a1e-5d0a-4b8e-9a51-1f64b1f0a003",
                "assistant",
                "cloudless"
            ),
        );
        fs::write(folder.join(format!("{session}.jsonl")), lines).unwrap();
        let from = self.0.path().join(".claude");
        let ran = self.run(&["import", "claude", "--from", from.to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }

    fn finds(&self, word: &str) -> bool {
        let ran = self.run(&["search", word, "--json"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.stdout.contains("how is the weather") || ran.stdout.contains("cloudless")
    }
}

#[test]
fn a_backup_is_made_listed_put_back_and_removed() {
    let home = Home::new();
    home.add("kept");
    assert_eq!(home.json(&["status"])["last_backup_at"], Value::Null);
    let made = home.json(&["backup"]);
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["files"].as_array().unwrap().len(), 4);
    assert_eq!(home.json(&["status"])["last_backup_at"], made["created_at"]);
    home.add("later");

    let rehearsed = home.json(&["restore", "--dry-run"]);
    assert_eq!(rehearsed["id"], id);
    assert_eq!(rehearsed["changes"][0]["go"], 1, "{rehearsed}");
    assert!(home.has("later"));
    // Nobody can answer here.
    assert_eq!(home.run(&["restore"]).code, 2);

    let restored = home.json(&["restore", id, "--yes"]);
    assert!(home.has("kept") && !home.has("later"));
    let undo = restored["undo"].as_str().unwrap();
    home.json(&["restore", undo, "--file", "org", "--yes"]);
    assert!(home.has("kept") && home.has("later"));

    let verified = home.json(&["backup", "verify"]);
    let verified = verified["backups"].as_array().unwrap();
    assert!(
        verified.len() == 3 && verified.iter().all(|one| one["ok"] == true),
        "{verified:?}"
    );
    home.json(&["backup", "remove", id, "--yes"]);
    assert_eq!(home.run(&["restore", id, "--yes"]).code, 6);
    assert_eq!(
        home.json(&["backup", "list"])["backups"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn a_damaged_backup_is_refused_by_its_name() {
    let home = Home::new();
    home.add("kept");
    let elsewhere = home.0.path().join("disk");
    let to = elsewhere.to_str().unwrap();
    let made = home.json(&["backup", "--file", "org", "--to", to]);
    let id = made["id"].as_str().unwrap();
    let copy = elsewhere.join(id).join("org.db");
    let mut bytes = fs::read(&copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&copy, bytes).unwrap();
    home.add("later");
    let refused = home.run(&["restore", id, "--from", to, "--file", "org", "--yes"]);
    assert_eq!(refused.code, 8, "{refused:?}");
    assert!(
        refused.stderr.starts_with("error[backup_damaged]: "),
        "{refused:?}"
    );
    assert_eq!(home.run(&["backup", "verify", "--from", to]).code, 7);
    assert!(home.has("kept") && home.has("later"));
}

#[test]
fn a_sessions_database_that_was_cut_off_is_made_anew_from_the_archive() {
    for transcript_is_there in [true, false] {
        let home = Home::new();
        home.import();
        assert!(home.finds("weather"));
        let path = home.database("sessions.db");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 3]).unwrap();
        if !transcript_is_there {
            fs::remove_dir_all(home.0.path().join(".claude")).unwrap();
        }
        assert_eq!(home.run(&["search", "weather"]).code, 8);
        let repaired = home.json(&["doctor", "--repair"]);
        assert_eq!(repaired["healthy"], true, "{repaired}");
        assert!(
            home.finds("weather") && home.finds("cloudless"),
            "{repaired}"
        );
        let aside = fs::read_dir(home.data().join("context-storage"))
            .unwrap()
            .flatten();
        let kept = aside.into_iter().filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("sessions.db.damaged-")
        });
        assert!(kept.count() > 0, "what was damaged is gone");
    }
}

#[test]
fn an_overwritten_page_of_org_is_mended_from_the_backup_and_from_what_is_left() {
    let home = Home::new();
    for n in 0..12 {
        home.add(&format!("before {n}"));
    }
    home.json(&["backup", "--file", "org"]);
    for n in 0..12 {
        home.add(&format!("after {n}"));
    }
    let path = home.database("org.db");
    let mut bytes = fs::read(&path).unwrap();
    let needle = b"before 3because";
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle);
    let at = at.expect("a row lies in the file as it was written");
    let page = at / 4_096 * 4_096;
    bytes[page..page + 4_096].fill(0x5a);
    fs::write(&path, &bytes).unwrap();

    let found = home.run(&["doctor", "--json"]);
    assert_eq!(found.code, 7, "{found:?}");
    // Nobody agreed.
    let refused = home.run(&["doctor", "--repair", "--json"]);
    assert_eq!(refused.code, 7, "{refused:?}");
    assert!(refused.stderr.contains("--repair --yes"), "{refused:?}");
    assert!(fs::read(&path).unwrap() == bytes);

    let repaired = home.json(&["doctor", "--repair", "--yes"]);
    assert_eq!(repaired["healthy"], true, "{repaired}");
    for n in 0..12 {
        assert!(home.has(&format!("before {n}")), "before {n}: {repaired}");
    }
    // The rows of the last page are beyond the damaged one.
    assert!(home.has("after 11"), "{repaired}");
}

#[test]
fn daily_backups_can_be_switched_off() {
    let home = Home::new();
    assert_eq!(home.json(&["status"])["daily_backup"], true);
    home.json(&["config", "set", "cloud.daily_backup", "false"]);
    assert_eq!(home.json(&["status"])["daily_backup"], false);
    home.json(&["config", "unset", "cloud.daily_backup"]);
    assert_eq!(home.json(&["status"])["daily_backup"], true);
}
