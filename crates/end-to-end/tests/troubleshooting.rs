//! The cases of docs/TROUBLESHOOTING.md, one by one: what a person sees, and that what the page
//! says to do helps.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use coditect_end_to_end::{Device, Ran, Server};
use serde_json::{Value, json};

fn with(device: &Device, variables: &[&str], arguments: &[&str]) -> Ran {
    device.run_through(&[&["env"], variables].concat(), arguments)
}

fn check(device: &Device, name: &str) -> Value {
    let ran = device.run(&["doctor", "--json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["name"] == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {report}"))
        .clone()
}

#[test]
fn cases_one_to_four_end_as_the_page_says() {
    let server = Server::start();
    let license = server.bootstrap("license_key");
    let device = Device::linked(&server, &license);
    let add = |title: &str| assert_eq!(device.run(&["decision", "add", title]).code, 0);
    add("first");
    device.converge();

    // 1. Authentication: what is stored is damaged, then renewed by a login.
    let tokens = device.home().join(".coditect/credentials/default.json");
    std::fs::remove_file(&tokens).unwrap();
    add("made meanwhile");
    let test = device.run(&["test", "--json"]);
    let report: Value = serde_json::from_str(&test.stdout).unwrap();
    assert_eq!((test.code, &report["success"]), (3, &json!(false)));
    assert_eq!(check(&device, "login")["hint"], "coditect login");
    assert_eq!(device.json(&["status"])["queue_depth"], 1);
    device.login(&server, &license);
    assert_eq!(device.json(&["test"])["success"], true);
    device.converge();
    assert_eq!(check(&device, "login")["ok"], true);

    // 2. Entries that somebody deletes from the queue come back by themselves; old ones warn.
    add("its entry is deleted");
    device.sql("org", "delete from sync_queue;");
    let report = device.converge();
    assert_eq!(report["pushed"], 1, "{report}");
    add("made long ago");
    let old = "update sync_queue set created_at = '2020-01-01T00:00:00.000Z';";
    device.sql("org", old);
    let queue = check(&device, "queue");
    assert_eq!(queue["level"], "warning", "{queue}");
    assert!(
        queue["detail"].as_str().unwrap().contains("limit 72"),
        "{queue}"
    );
    assert_eq!(device.run(&["process-queue"]).code, 0);
    assert_eq!(check(&device, "queue")["level"], "ok");
    device.sql(
        "org",
        "select event_type, count(*), avg(retry_count), max(retry_count) from sync_queue
         group by event_type;",
    );

    // 4. Offline mode, by the setting and by the variable.
    set_offline(&device, "true");
    add("made offline");
    assert_eq!(device.run(&["sync"]).code, 4);
    assert_eq!(device.json(&["status"])["offline_mode"], true);
    set_offline(&device, "false");
    device.converge();
    set_offline(&device, "true");
    assert_eq!(
        with(&device, &["CODITECT_OFFLINE=false"], &["sync"]).code,
        0
    );
    assert_eq!(device.json(&["status"])["offline_mode"], false);
}

#[test]
fn another_organisations_licence_is_refused_with_the_next_step() {
    let server = Server::start();
    let license = server.bootstrap("license_key");
    let device = Device::linked(&server, &license);
    assert_eq!(device.run(&["decision", "add", "ours"]).code, 0);
    let other = server.admin(&["tenant", "create", "--name", "Beta"]);
    let other = other["tenant_id"].as_str().unwrap();
    let (_, key) = server.user(other, "eve@example.com", "member");
    let words = [
        "login",
        "--server",
        server.url(),
        "--license",
        &key,
        "--yes",
    ];
    let refused = device.run(&words);
    assert_eq!(
        (refused.code, refused.stdout.as_str()),
        (5, ""),
        "{refused:?}"
    );
    assert!(
        refused.stderr.contains("this folder belongs to user"),
        "{refused:?}"
    );
    assert!(
        refused.stderr.contains("coditect --profile NAME login"),
        "{refused:?}"
    );
    // Nothing has changed, and a profile keeps the two apart.
    assert_eq!(
        device.json(&["status"])["tenant_id"],
        server.bootstrap("tenant_id")
    );
    device.converge();
    let linked = device.run(&[&["--profile", "beta"], &words[..]].concat());
    assert_eq!(linked.code, 0, "{linked:?}");
    assert_eq!(
        device.json(&["--profile", "beta", "status"])["tenant_id"],
        other
    );
    assert_eq!(
        device.json(&["--profile", "beta", "decision", "list"])["decisions"],
        json!([])
    );
    let wrong = format!("CODITECT_TENANT_ID={other}");
    let named = with(&device, &[&wrong], &["doctor"]);
    assert!(named.stdout.contains("CODITECT_TENANT_ID"), "{named:?}");
}

#[test]
fn a_row_that_was_changed_behind_the_programs_back_is_found_and_comes_right() {
    let server = Server::start();
    let license = server.bootstrap("license_key");
    let device = Device::linked(&server, &license);
    assert_eq!(device.run(&["decision", "add", "as acknowledged"]).code, 0);
    device.converge();
    assert_eq!(device.json(&["doctor"])["healthy"], true);
    device.sql(
        "org",
        "update decisions set title = 'edited'; delete from sync_queue;",
    );
    let found = check(&device, "org.db");
    assert_eq!(found["ok"], false, "{found}");
    assert!(
        found["detail"]
            .as_str()
            .unwrap()
            .starts_with("1 rows changed"),
        "{found}"
    );
    let _ = device.sync();
    let _ = device.run(&["verify", "--repair"]);
    device.converge();
    assert_eq!(check(&device, "org.db")["ok"], true);
}

#[test]
fn a_lost_or_damaged_file_comes_back_from_the_server() {
    let server = Server::start();
    let license = server.bootstrap("license_key");
    let device = Device::linked(&server, &license);
    assert_eq!(
        device.run(&["decision", "add", "kept by the server"]).code,
        0
    );
    assert_eq!(device.run(&["checkpoint", "add", "a moment"]).code, 0);
    device.converge();
    let path = device.database("sessions");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let refused = device.run(&["checkpoint", "list"]);
    assert_eq!(refused.code, 8, "{refused:?}");
    let repaired = device.run(&["doctor", "--repair", "--json"]);
    let report: Value = serde_json::from_str(&repaired.stdout).unwrap();
    assert!(
        report["repairs"][0]["undo"]
            .as_str()
            .unwrap()
            .contains("mv "),
        "{report}"
    );
    let _ = device.sync();
    device.converge();
    let listed = device.json(&["checkpoint", "list"]);
    assert_eq!(listed["checkpoints"][0]["name"], "a moment");
}

fn set_offline(device: &Device, value: &str) {
    let set = device.run(&["config", "set", "cloud.offline", value]);
    assert_eq!(set.code, 0);
}
