//! Daemons as people have them: one per machine, started and killed.

use coditect_end_to_end::{Daemon, Device, Server, write_transcript};
use serde_json::{Value, json};

/// Asks until the answer is as expected; the test's own time limit is the only one.
fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        std::thread::yield_now();
    }
}

fn decisions(device: &Device) -> String {
    device.sql("org", "select title from decisions order by title;")
}

fn decide(device: &Device, title: &str) {
    let ran = device.run(&["decision", "add", title]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

fn status(device: &Device) -> Value {
    device.json(&["daemon", "status"])
}

fn two_devices(server: &Server) -> [Device; 2] {
    let license = server.bootstrap("license_key");
    [(); 2].map(|()| Device::linked(server, &license))
}

#[test]
fn a_decision_is_on_the_other_machine_without_any_command() {
    let server = Server::start();
    let [a, b] = two_devices(&server);
    let (of_a, of_b) = (Daemon::start(&a), Daemon::start(&b));
    until(|| {
        [&a, &b]
            .iter()
            .all(|device| status(device)["connected"] == true)
    });
    decide(&a, "one");
    until(|| decisions(&b) == "one\n");
    // Another program writes as well, on the other machine.
    b.sql("org", "insert into decisions (title) values ('two');");
    until(|| decisions(&a) == "one\ntwo\n");
    assert_eq!(of_a.stop(), Some(0));
    assert_eq!(of_b.stop(), Some(0));
    let gone = a.run(&["daemon", "status"]);
    assert_eq!(gone.code, 7, "{}", gone.stdout);
    a.converge();
    b.converge();
}

#[test]
fn without_the_daemon_the_next_command_syncs() {
    let server = Server::start();
    let [a, b] = two_devices(&server);
    let of_a = Daemon::start(&a);
    Daemon::start(&b).kill();
    decide(&a, "one");
    until(|| status(&a)["queued"] == 0 && status(&a)["last_sync_at"].is_string());
    assert_eq!(decisions(&b), "");
    b.converge();
    assert_eq!(decisions(&b), "one\n");
    // A command on a machine with a daemon waits its turn.
    a.sync();
    drop(of_a);
    // What a killed daemon left behind is no obstacle.
    let again = Daemon::start(&b);
    assert_eq!(again.stop(), Some(0));
}

#[test]
fn what_an_agent_writes_is_imported_while_it_writes() {
    let server = Server::start();
    let [a, b] = two_devices(&server);
    let _daemons = [Daemon::start(&a), Daemon::start(&b)];
    let agent = a.home().join(".claude");
    write_transcript(&agent, 1, 10);
    let count = |device: &Device| device.sql("sessions", "select count(*) from messages;");
    until(|| count(&a) == "10\n");
    until(|| count(&b) == "10\n");
}

#[test]
fn codex_and_gemini_are_tailed_too_and_opted_out_folders_are_not() {
    let device = Device::new();
    let quiet = device.home().join("quiet");
    std::fs::create_dir_all(&quiet).unwrap();
    let named = quiet.display().to_string();
    assert_eq!(
        device.run(&["config", "set", "hooks.ignore", &named]).code,
        0
    );
    let codex = device.home().join("elsewhere/codex");
    let variables = [("CODEX_HOME", codex.to_str().unwrap())];
    let _daemon = Daemon::start_with(&device, &variables);
    let mut lines = Vec::new();
    let mut line = |kind: &str, payload: Value| {
        let line = json!({"timestamp": "2026-02-03T03:51:03.761Z", "type": kind,
            "payload": payload});
        lines.push(format!("{line}\n"));
        lines.concat()
    };
    let said = |text: &str| {
        json!({"type": "message", "role": "user",
        "content": [{"type": "input_text", "text": text}]})
    };
    let day = codex.join("sessions/2026/02/03");
    let write = |path: std::path::PathBuf, text: String| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let hidden = json!({"timestamp": "2026-02-03T03:51:03.761Z", "type": "session_meta",
        "payload": {"id": "hidden", "cwd": quiet.join("src")}});
    let hidden = format!(
        "{hidden}\n{{\"type\":\"response_item\",\"payload\":{}}}\n",
        said("hush")
    );
    write(day.join("rollout-2026-02-03T03-51-00-hidden.jsonl"), hidden);
    let rollout = day.join("rollout-2026-02-03T03-51-03-open.jsonl");
    line(
        "session_meta",
        json!({"id": "open", "cwd": "/home/ann/app"}),
    );
    write(rollout.clone(), line("response_item", said("one")));
    let of = |agent: &str| {
        device.sql(
            "sessions",
            &format!("select count(*) from messages where agent = '{agent}';"),
        )
    };
    until(|| of("codex") == "1\n");
    write(rollout, line("response_item", said("two")));
    until(|| of("codex") == "2\n");
    let chat = json!({"sessionId": "g", "messages": [{"id": "m", "type": "user",
        "timestamp": "2026-02-03T03:51:04Z", "content": "hello"}]});
    let folder = device.home().join(".gemini/tmp/app/chats");
    write(folder.join("session-1.json"), chat.to_string());
    until(|| of("gemini") == "1\n");
    // What is kept out would have come before it.
    let all = device.sql(
        "sessions",
        "select distinct session_id from messages order by 1;",
    );
    assert_eq!(all, "g\nopen\n");
}

#[test]
fn a_second_daemon_says_that_one_runs() {
    let device = Device::new();
    let first = Daemon::start(&device);
    let second = device.run(&["daemon", "run"]);
    assert_eq!(second.code, 5, "{}", second.stderr);
    let pid = first.pid().to_string();
    assert!(second.stderr.contains(&pid), "{}", second.stderr);
    let status = status(&device);
    assert!(status["idle_because"].is_string() && status["rss_bytes"].as_u64() > Some(0));
}

#[test]
fn a_login_and_a_logout_are_noticed() {
    let server = Server::start();
    let device = Device::new();
    let _daemon = Daemon::start(&device);
    assert_eq!(status(&device)["connected"], false);
    device.login(&server, &server.bootstrap("license_key"));
    until(|| status(&device)["connected"] == true);
    assert_eq!(device.run(&["logout"]).code, 0);
    until(|| status(&device)["connected"] == false);
}

#[test]
fn installing_again_changes_nothing_and_uninstalling_leaves_nothing() {
    let device = Device::new();
    let unit = device.home().join(".config/systemd/user/coditect.service");
    let shown = device.json(&["daemon", "install", "--dry-run"]);
    assert!(
        shown["done"]
            .as_array()
            .is_some_and(|done| !done.is_empty())
    );
    assert!(!unit.exists());
    // Without a way to the system's own manager: the test must leave no trace there.
    let run = |words: &[&str]| device.run_with(words, &[("PATH", "")]);
    let first = run(&["daemon", "install"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(
        first.stderr.contains("coditect daemon run"),
        "{}",
        first.stderr
    );
    let text = std::fs::read_to_string(&unit).unwrap();
    assert!(text.contains("daemon run"), "{text}");
    assert_eq!(run(&["daemon", "install"]).code, 0);
    assert_eq!(std::fs::read_to_string(&unit).unwrap(), text);
    for _ in 0..2 {
        assert_eq!(run(&["daemon", "uninstall"]).code, 0);
        assert!(!unit.exists());
    }
}
