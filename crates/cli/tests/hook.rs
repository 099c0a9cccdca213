//! Hooks as an agent calls them: whatever is wrong on this machine, they end with 0 and say
//! nothing that a host does not expect; what they hear is there afterwards. And what writes the
//! calls into an agent's settings.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

mod program;

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use program::{Ran, coditect, run};

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(home.path("repo/.git")).unwrap();
        home
    }

    /// A home whose databases are made.
    fn ready() -> Self {
        let home = Self::new();
        assert_eq!(home.run(&["status"]).code, 0);
        // As if a worker had just been started: these tests start none.
        std::fs::create_dir_all(home.path(".coditect-data/hooks")).unwrap();
        std::fs::write(home.path(".coditect-data/hooks/worker.started"), "").unwrap();
        home
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn start(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = coditect(self.0.path());
        command
            .args(arguments)
            .env_remove("CODITECT_HOME")
            .env("HOME", self.0.path())
            .current_dir(self.path("repo"));
        run(&mut command, input)
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.start(arguments, b"")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// Calls a hook, which must go well whatever it is given, and returns what it answers.
    #[track_caller]
    fn hook(&self, input: &[u8]) -> String {
        let ran = self.start(&["hook"], input);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
        if !ran.stdout.is_empty() {
            let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
            assert!(answer["hookSpecificOutput"]["hookEventName"].is_string());
        }
        ran.stdout
    }

    fn todo(&self, number: u32, text: &str, status: &str) -> Vec<u8> {
        let list = json!([{"content": text, "status": status, "activeForm": "x"}]);
        let event = json!({"hook_event_name": "PostToolUse", "session_id": "s1",
            "cwd": self.path("repo"), "tool_name": "TodoWrite", "tool_use_id": format!("t{number}"),
            "tool_input": {"todos": list}, "tool_response": {"oldTodos": [], "newTodos": list}});
        event.to_string().into_bytes()
    }

    fn tasks(&self) -> Vec<(String, String)> {
        let tasks = self.json(&["task", "list"]);
        let text = |task: &Value, name: &str| task[name].as_str().unwrap().to_owned();
        let list = tasks["tasks"].as_array().unwrap();
        list.iter()
            .map(|task| (text(task, "description"), text(task, "status")))
            .collect()
    }

    /// Returns how many events wait.
    fn spooled(&self) -> usize {
        let names = ["spool.taken.jsonl", "spool.jsonl"];
        let texts =
            names.map(|name| std::fs::read_to_string(self.path(".coditect-data/hooks").join(name)));
        let lines = texts.iter().flatten().flat_map(|text| text.lines());
        lines.filter(|line| !line.is_empty()).count()
    }

    /// Takes the place of whoever takes in the spool, as if somebody did: hooks start nobody then.
    fn drain_place(&self) -> std::fs::File {
        let folder = self.path(".coditect-data/hooks");
        std::fs::create_dir_all(&folder).unwrap();
        let mut options = std::fs::File::options();
        options.write(true).create(true).truncate(false);
        options.mode(0o600);
        let place = options.open(folder.join("spool.lock")).unwrap();
        place.lock().unwrap();
        place
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path(".coditect-data/logs/hooks.log")).unwrap_or_default()
    }
}

fn task(text: &str, status: &str) -> (String, String) {
    (text.to_owned(), status.to_owned())
}

#[test]
fn a_task_is_there_at_once_and_a_session_begins_with_it() {
    let home = Home::ready();
    assert_eq!(
        home.hook(&home.todo(1, "Fix the parser", "in_progress")),
        ""
    );
    assert_eq!(home.tasks(), [task("Fix the parser", "in_progress")]);
    let begin = |session: &str| {
        let event = json!({"hook_event_name": "SessionStart", "session_id": session,
            "source": "startup", "cwd": home.path("repo")});
        home.hook(event.to_string().as_bytes())
    };
    begin("s1");
    let answer = begin("s2");
    assert!(answer.contains("Fix the parser (in progress)"), "{answer}");
    assert!(answer.len() < 10_000);
    let shown = home.run(&["context"]);
    assert!(shown.stdout.contains("Fix the parser"), "{shown:?}");
    let off = home.run(&["config", "set", "hooks.context", "false"]);
    assert_eq!(off.code, 0, "{off:?}");
    assert_eq!(begin("s3"), "");
}

#[test]
fn odd_input_is_logged_and_never_a_fault() {
    let home = Home::ready();
    let deep = format!("{{\"session_id\":\"s\",\"x\":{}", "[".repeat(200_000));
    let inputs: [&[u8]; 9] = [
        b"",
        b"nonsense",
        b"[]",
        b"null",
        b"{\"session_id\": 3}",
        b"{\"a\":",
        b"\xff\xfe\x00",
        deep.as_bytes(),
        b"{\"session_id\":\"s\",\"hook_event_name\":\"OrbitEntered\",\"x\":1}",
    ];
    for input in inputs {
        assert_eq!(home.hook(input), "");
    }
    let large = json!({"session_id": "s", "hook_event_name": "PostToolUse", "tool_name": "Bash",
        "tool_use_id": "t", "tool_response": "x".repeat(6_000_000)});
    assert_eq!(home.hook(large.to_string().as_bytes()), "");
    assert!(home.log().contains("no JSON object") && home.log().contains("too long"));
    let kept = std::fs::read_to_string(home.path(".coditect-data/hooks/events.jsonl")).unwrap();
    assert!(kept.contains("OrbitEntered"), "{kept}");
    // An agent that nobody knows is not taken for another one.
    let begin = json!({"hook_event_name": "SessionStart", "session_id": "e", "cwd": "/x"});
    let begin = begin.to_string();
    for words in [
        ["hook", "--agent", "emacs"],
        ["hook", "SomethingNew", "--agent"],
    ] {
        let ran = home.start(&words, begin.as_bytes());
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
    }
    assert!(
        home.log().contains("no agent 'emacs' is known"),
        "{}",
        home.log()
    );
    assert_eq!(home.json(&["session", "list"])["sessions"], json!([]));
}

#[test]
fn databases_of_no_use_cost_nothing_but_time() {
    let file = |home: &Home| home.path(".coditect-data/context-storage/sessions.db");
    let begin = json!({"hook_event_name": "SessionStart", "session_id": "s", "cwd": "/x"});
    for bytes in [&b"no database at all"[..], b"", b"SQLite format 3\0cut"] {
        let home = Home::ready();
        for end in ["", "-wal", "-shm"] {
            let mut name = file(&home).into_os_string();
            name.push(end);
            let _ = std::fs::remove_file(name);
        }
        std::fs::write(file(&home), bytes).unwrap();
        let _place = home.drain_place();
        assert_eq!(home.hook(&home.todo(1, "a", "pending")), "");
        home.hook(begin.to_string().as_bytes());
        assert_eq!(
            std::fs::read(file(&home)).unwrap(),
            bytes,
            "it was left as it is"
        );
        assert_eq!(home.spooled(), 2, "what was heard waits for a database");
    }
    // A home that cannot be written to, or none.
    let home = Home::ready();
    std::fs::write(home.path(".coditect/config.json"), "{ no json").unwrap_or_default();
    home.hook(&home.todo(1, "a", "pending"));
    let nowhere = Command::new(env!("CARGO_BIN_EXE_coditect"))
        .arg("hook")
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        nowhere.status.success() && nowhere.stdout.is_empty(),
        "{nowhere:?}"
    );
    let home = Home::ready();
    let data = home.path(".coditect-data");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::write(&data, "in the way").unwrap();
    assert_eq!(home.hook(&home.todo(1, "a", "pending")), "");
}

#[test]
fn without_databases_what_was_heard_waits_for_them() {
    let home = Home::new();
    std::fs::create_dir_all(home.path(".coditect-data/hooks")).unwrap();
    std::fs::write(home.path(".coditect-data/hooks/worker.started"), "").unwrap();
    let place = home.drain_place();
    for (number, status) in ["pending", "in_progress", "completed"]
        .into_iter()
        .enumerate()
    {
        home.hook(&home.todo(number as u32, "a", status));
    }
    assert_eq!(home.spooled(), 3);
    drop(place);
    assert_eq!(home.tasks(), [task("a", "completed")]);
    assert_eq!(home.spooled(), 0);
}

#[test]
fn while_another_program_writes_the_event_goes_to_the_spool_without_its_secrets() {
    let home = Home::ready();
    let database = home.path(".coditect-data/context-storage/sessions.db");
    let mut shell = Command::new("sqlite3")
        .arg(&database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    writeln!(input, "begin immediate; select 'held';").unwrap();
    let mut output = std::io::BufReader::new(shell.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert_eq!(line, "held\n");
    let secret = ["ghp_", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF1234"].concat();
    let place = home.drain_place();
    home.hook(&home.todo(1, &format!("use {secret}"), "pending"));
    home.hook(&home.todo(2, &format!("use {secret}"), "completed"));
    assert_eq!(home.spooled(), 2);
    for entry in std::fs::read_dir(home.path(".coditect-data/hooks")).unwrap() {
        let path = entry.unwrap().path();
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&secret));
        let is_ours = path.file_name().unwrap() != "worker.started";
        let rights = std::fs::metadata(&path).unwrap().permissions();
        assert!(!is_ours || rights.mode() & 0o777 == 0o600, "{path:?}");
    }
    writeln!(input, "commit;").unwrap();
    drop(input);
    shell.wait().unwrap();
    drop(place);
    home.hook(&home.todo(3, "other", "pending"));
    let tasks = home.tasks();
    assert_eq!(tasks.len(), 2, "{tasks:?}");
    assert!(
        tasks.contains(&task("use [REDACTED:github-token]", "completed")),
        "{tasks:?}"
    );
}

#[test]
fn a_project_can_stay_out() {
    let home = Home::ready();
    std::fs::write(home.path("repo/.coditect-ignore"), "").unwrap();
    home.hook(&home.todo(1, "hidden", "pending"));
    std::fs::remove_file(home.path("repo/.coditect-ignore")).unwrap();
    let repo = home.path("repo").display().to_string();
    assert_eq!(home.run(&["config", "set", "hooks.ignore", &repo]).code, 0);
    home.hook(&home.todo(2, "hidden", "pending"));
    assert_eq!(home.run(&["config", "unset", "hooks.ignore"]).code, 0);
    assert_eq!(
        home.run(&["config", "set", "hooks.enabled", "false"]).code,
        0
    );
    home.hook(&home.todo(3, "hidden", "pending"));
    assert_eq!(
        home.run(&["config", "set", "hooks.enabled", "true"]).code,
        0
    );
    home.hook(&home.todo(4, "shown", "pending"));
    assert_eq!(home.tasks(), [task("shown", "pending")]);
    assert_eq!(
        home.json(&["config", "show"])["hooks.enabled"]["value"],
        true
    );
}

#[test]
fn a_host_that_keeps_the_input_open_is_answered() {
    let home = Home::ready();
    let mut child = Command::new(env!("CARGO_BIN_EXE_coditect"))
        .arg("hook")
        .env_clear()
        .env("HOME", home.0.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&home.todo(1, "open", "pending")).unwrap();
    assert!(child.wait().unwrap().success());
    drop(input);
    assert_eq!(home.tasks(), [task("open", "pending")]);
}

#[test]
fn init_and_uninstall_leave_every_file_as_it_was() {
    let home = Home::ready();
    let settings = "{\n  // mine\n  \"model\": \"opus\",\n  \"hooks\": {\n    \"Stop\": [\n      \
                    {\"hooks\": [{\"command\": \"say done\"}]},\n    ]\n  }\n}\n";
    std::fs::create_dir_all(home.path(".claude")).unwrap();
    std::fs::create_dir_all(home.path(".codex")).unwrap();
    std::fs::write(home.path(".claude/settings.json"), settings).unwrap();
    std::fs::set_permissions(
        home.path(".claude/settings.json"),
        Permissions::from_mode(0o640),
    )
    .unwrap();
    std::fs::write(home.path(".codex/config.toml"), "model = \"x\"\n").unwrap();
    let read = |path: &str| std::fs::read_to_string(home.path(path)).ok();

    let shown = home.json(&["init", "--dry-run"]);
    assert_eq!(shown["dry_run"], true);
    assert_eq!(read(".claude/settings.json").as_deref(), Some(settings));
    assert_eq!(home.run(&["init"]).code, 2, "nobody can be asked");

    let done = home.json(&["init", "--yes"]);
    let found: Vec<bool> = done["agents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["found"] == true)
        .collect();
    assert_eq!(found, [true, true, false]);
    let written = read(".claude/settings.json").unwrap();
    assert!(
        written.contains("// mine") && written.contains("say done"),
        "{written}"
    );
    assert!(written.contains("\"SessionStart\""), "{written}");
    let rights = std::fs::metadata(home.path(".claude/settings.json")).unwrap();
    assert_eq!(rights.permissions().mode() & 0o777, 0o640);
    assert_eq!(
        read(".claude/settings.json.before-coditect").as_deref(),
        Some(settings)
    );
    assert!(read(".codex/hooks.json").is_some());
    assert!(!home.path(".gemini").exists());

    let again = home.json(&["init", "--yes"]);
    let is_done = |file: &Value| file["action"] == "nothing";
    assert!(again["files"].as_array().unwrap().iter().all(is_done));
    assert_eq!(
        read(".claude/settings.json").as_deref(),
        Some(written.as_str())
    );

    assert_eq!(home.run(&["uninstall", "--yes"]).code, 0);
    assert_eq!(read(".claude/settings.json").as_deref(), Some(settings));
    assert_eq!(
        read(".codex/config.toml").as_deref(),
        Some("model = \"x\"\n")
    );
    for gone in [
        ".claude/settings.json.before-coditect",
        ".codex/hooks.json",
        ".coditect/init.json",
    ] {
        assert_eq!(read(gone), None, "{gone}");
    }
    assert!(
        home.path(".coditect-data/context-storage/org.db").exists(),
        "the data stays"
    );
}

#[test]
fn uninstall_takes_only_ours_from_a_file_that_was_changed_since() {
    let home = Home::ready();
    std::fs::create_dir_all(home.path(".claude")).unwrap();
    assert_eq!(home.run(&["init", "--agent", "claude", "--yes"]).code, 0);
    let path = home.path(".claude/settings.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = text.replacen('{', "{\n  \"model\": \"later\",", 1);
    std::fs::write(&path, changed).unwrap();
    assert_eq!(home.run(&["uninstall", "--yes"]).code, 0);
    let left: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(left, json!({"model": "later"}));

    let refused = home.run(&["uninstall", "--data", "--yes"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(home.path(".coditect-data").exists());
    let done = home.run(&["uninstall", "--data", "--yes", "--really"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(!home.path(".coditect-data").exists() && !home.path(".coditect").exists());
}

#[test]
fn a_project_gets_settings_of_its_own_and_loses_them_again() {
    let home = Home::ready();
    let words = ["init", "--agent", "claude", "--scope", "project", "--yes"];
    assert_eq!(home.run(&words).code, 0);
    assert!(home.path("repo/.claude/settings.json").exists());
    assert!(!home.path(".claude").exists());
    assert_eq!(home.run(&["uninstall", "--yes"]).code, 0);
    assert!(
        !home.path("repo/.claude").exists(),
        "the folder was made by init"
    );
    std::fs::create_dir_all(home.path(".claude")).unwrap();
    std::fs::write(home.path(".claude/settings.json"), "{ broken").unwrap();
    let ran = home.run(&["init", "--agent", "claude", "--yes"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(
        std::fs::read_to_string(home.path(".claude/settings.json")).unwrap(),
        "{ broken"
    );
}
