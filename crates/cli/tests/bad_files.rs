//! Database files that the program cannot use: every command says so with the same code and
//! leaves the file, byte for byte, as it was; `doctor --repair` moves it away and back again.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

mod program;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use program::{Ran, coditect, run};

/// Every command, with arguments that would do something. A test compares the list with `help`.
const COMMANDS: &[&[&str]] = &[
    &["sync"],
    &["status"],
    &["verify"],
    &["test"],
    &["process-queue"],
    &["process-queue", "--retry"],
    &["decision", "add", "a title"],
    &["decision", "list"],
    &["decision", "show", "0199"],
    &["decision", "edit", "0199", "--title", "x"],
    &["decision", "delete", "0199", "--yes"],
    &["learning", "add", "a skill", "a learning"],
    &["error", "list"],
    &["project", "scan"],
    &["project", "list"],
    &["exclude", "list"],
    &["sprint", "add", "one", "--project", "p"],
    &["track", "list"],
    &["checkpoint", "list"],
    &["checkpoint", "add", "a name"],
    &["metric", "add", "coverage", "0.8"],
    &["calibration", "list"],
    &["node", "list"],
    &["edge", "list"],
    &["task", "list"],
    &["session", "list"],
    &["search", "word"],
    &["timeline"],
    &["stats"],
    &["graph", "show"],
    &["usage", "list"],
    &["activity", "list"],
    &["embedding", "list"],
    &["audit"],
    &["backup"],
    &["restore", "--yes"],
    &["conflict", "list"],
    &["share", "decision:0199", "--to", "org"],
    &["unshare", "decision:0199"],
    &["scrub", "--dry-run"],
    &["mcp"],
    &["queue", "list"],
    &["pull", "--table", "token_economics"],
    &["device", "list"],
    &["account", "erase", "a@b.c", "--dry-run"],
    &["team", "list"],
    &["org", "members"],
    &["dump", "--canonical"],
    &["import", "claude", "--from", "AGENT"],
    &["context"],
    &[
        "login",
        "--server",
        "http://127.0.0.1:1",
        "--token",
        "x.y.z",
        "--yes",
    ],
];

/// Commands that open no database, stay on, or never fail (hooks have a test of their own).
const WITHOUT: &[&str] = &[
    "logout",
    "config",
    "completions",
    "man",
    "help",
    "daemon",
    "init",
    "uninstall",
    "hook",
];

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(home.0.path().join("agent/projects")).unwrap();
        let ran = home.run(&["decision", "add", "kept"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        home
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let agent = self.0.path().join("agent");
        let arguments = arguments.iter().map(|&word| match word {
            "AGENT" => agent.to_str().unwrap(),
            word => word,
        });
        let mut command = coditect(self.0.path());
        command.args(arguments);
        run(&mut command, b"")
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join(".coditect-data/context-storage")
    }

    /// The databases' bytes. Locks and the shared memory of readers are no content.
    fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.folder()).unwrap();
        let files = entries.map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        });
        files.filter(|(name, _)| name.ends_with(".db")).collect()
    }

    #[track_caller]
    fn refuses_everything(&self, code: &str) {
        let before = self.bytes();
        for arguments in COMMANDS {
            let ran = self.run(arguments);
            let told = format!("error[{code}]: ");
            assert_eq!(ran.code, 8, "{arguments:?}: {ran:?}");
            assert!(
                ran.stderr.starts_with(&told) && ran.stderr.contains("left"),
                "{arguments:?}: {ran:?}"
            );
            assert!(self.bytes() == before, "{arguments:?} touched a file");
        }
        let ran = self.run(&["doctor", "--json"]);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((ran.code, &report["healthy"]), (7, &Value::Bool(false)));
        assert!(report.to_string().contains(code), "{report}");
        assert!(self.bytes() == before, "doctor touched a file");
    }
}

fn page(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

#[test]
fn the_list_of_commands_is_whole() {
    let home = Home::new();
    let help = home.run(&["help"]).stdout;
    let listed = help.split("Commands:").nth(1).unwrap();
    let names = listed
        .lines()
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().next().unwrap());
    for name in names {
        let known = COMMANDS.iter().any(|arguments| arguments[0] == name);
        assert!(
            known || WITHOUT.contains(&name) || name == "doctor",
            "{name} is in no list"
        );
    }
}

#[test]
fn what_is_no_database_is_refused_and_untouched() {
    let home = Home::new();
    let text = "not a database at all, but long enough to look at ".repeat(200);
    std::fs::write(home.folder().join("org.db"), text).unwrap();
    home.refuses_everything("not_a_database");
}

#[test]
fn a_database_of_another_program_is_refused_and_untouched() {
    for id in [0_u32, 1_196_444_487] {
        let home = Home::new();
        let path = home.folder().join("sessions.db");
        std::fs::remove_file(&path).unwrap();
        sqlite(
            &path,
            &format!(
                "pragma journal_mode = wal; pragma application_id = {id};
                 create table sessions (mine text); insert into sessions values ('precious');"
            ),
        );
        home.refuses_everything("not_ours");
    }
}

#[test]
fn a_file_that_was_cut_off_is_refused_and_untouched() {
    let home = Home::new();
    let path = home.folder().join("projects.db");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    home.refuses_everything("damaged");
}

#[test]
fn a_newer_schema_is_refused_and_untouched() {
    let home = Home::new();
    let path = home.folder().join("platform.db");
    sqlite(&path, "pragma user_version = 99;");
    home.refuses_everything("schema_too_new");
    // A newer version is no reason to move the file away.
    let ran = home.run(&["doctor", "--repair"]);
    assert_eq!(ran.code, 7, "{ran:?}");
    assert!(
        path.exists() && ran.stderr.contains("newer version"),
        "{ran:?}"
    );
}

#[test]
fn every_code_is_on_the_page() {
    let page = page(Path::new("docs/EXIT-CODES.md"));
    for code in [
        "not_a_database",
        "not_ours",
        "wrong_file",
        "schema_too_new",
        "mixed_owners",
        "damaged",
        "no_space",
        "unusable",
    ] {
        assert!(page.contains(&format!("| `{code}` |")), "{code}");
    }
}

#[test]
fn repair_moves_a_strange_file_away_and_says_how_to_put_it_back() {
    let home = Home::new();
    let path = home.folder().join("org.db");
    let ours = std::fs::read(&path).unwrap();
    let text = "somebody's notes ".repeat(100);
    std::fs::write(&path, &text).unwrap();
    let ran = home.run(&["doctor", "--repair", "--json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (ran.code, &report["healthy"]),
        (0, &Value::Bool(true)),
        "{report}"
    );
    let undo = report["repairs"][0]["undo"].as_str().unwrap();
    assert_eq!(home.run(&["decision", "list"]).code, 0);
    let moved = home.bytes().len();
    assert_eq!(moved, 4);
    std::fs::remove_file(&path).unwrap();
    let ran = Command::new("sh").arg("-c").arg(undo).status().unwrap();
    assert!(ran.success());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    // The person finds the right file again, and everything is there.
    std::fs::write(&path, ours).unwrap();
    assert!(home.run(&["decision", "list"]).stdout.contains("kept"));
}

fn sqlite(path: &Path, statements: &str) {
    let ran = Command::new("sqlite3")
        .arg(path)
        .arg(statements)
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}
