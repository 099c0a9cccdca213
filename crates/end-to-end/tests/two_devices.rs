//! One person's two machines: transcripts imported on one are on the other, whole and once.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use coditect_end_to_end::{Device, Server, assert_same, shared_data, write_transcript};
use serde_json::{Value, json};
use std::path::Path;

fn scopes(server: &Server) -> [String; 2] {
    [
        format!("user:{}", server.bootstrap("user_id")),
        format!("org:{}", server.bootstrap("tenant_id")),
    ]
}

fn assert_all_same(server: &Server, devices: &[&Device]) {
    let dump = server.dump(&server.bootstrap("tenant_id"));
    let [user, org] = scopes(server);
    for device in devices {
        assert_same(&dump, device, &[&user, &org, "platform"]);
    }
}

fn count(device: &Device, sql: &str) -> i64 {
    device.sql("sessions", sql).trim().parse().unwrap()
}

fn import(device: &Device, from: &Path) -> Value {
    device.json(&["import", "claude", "--from", from.to_str().unwrap()])
}

/// A transcript folder of two short sessions, made here.
fn small_transcripts() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for session in 1..=2 {
        write_transcript(folder.path(), session, 20);
    }
    folder
}

#[test]
fn transcripts_of_one_machine_are_on_the_other() {
    let server = Server::start();
    let license = server.bootstrap("license_key");
    let (a, b) = (
        Device::linked(&server, &license),
        Device::linked(&server, &license),
    );
    let transcripts = small_transcripts();
    import(&a, transcripts.path());
    a.converge();
    b.converge();
    assert_eq!(count(&b, "select count(*) from messages;"), 40);
    // Twenty times the same word is twenty messages.
    assert_eq!(
        count(
            &b,
            "select count(*) from messages where content = 'continue';"
        ),
        20
    );
    assert_all_same(&server, &[&a, &b]);

    import(&a, transcripts.path());
    let again = a.converge();
    assert_eq!(
        (&again["pushed"], &again["pulled"]),
        (&json!(0), &json!(0)),
        "{again}"
    );
    // The second machine has the same transcripts in its own folder: they are the same rows.
    import(&b, transcripts.path());
    let same = b.converge();
    assert_eq!(same["conflicts"], 0, "{same}");
    assert_eq!(count(&b, "select count(*) from messages;"), 40);
    a.converge();
    assert_all_same(&server, &[&a, &b]);

    let found = b.json(&["search", "answer"]);
    assert!(found.to_string().contains("answer"), "{found}");
}

#[test]
fn real_transcripts_arrive_complete() {
    let Some(transcripts) = shared_data("transcripts/claude") else {
        return;
    };
    let server = Server::start();
    let license = server.bootstrap("license_key");
    let (a, b) = (
        Device::linked(&server, &license),
        Device::linked(&server, &license),
    );
    import(&a, &transcripts);
    a.converge();
    b.converge();
    for (sql, expected) in [
        ("select count(*) from sessions;", 14),
        ("select count(*) from messages;", 2_112),
        ("select count(*) from messages where role = 'user';", 775),
        (
            "select count(*) from messages where role = 'assistant';",
            1_281,
        ),
        ("select count(*) from messages where role = 'system';", 56),
        ("select count(distinct api_message_id) from messages;", 636),
    ] {
        assert_eq!(
            (count(&a, sql), count(&b, sql)),
            (expected, expected),
            "{sql}"
        );
    }
    assert_all_same(&server, &[&a, &b]);
    import(&a, &transcripts);
    let again = a.converge();
    let moved = ["pushed", "pulled", "duplicates", "conflicts"].map(|name| again[name].clone());
    assert_eq!(moved, [0, 0, 0, 0].map(|none| json!(none)), "{again}");
}

#[test]
fn work_goes_on_without_a_server_and_a_lost_edit_is_kept() {
    let mut server = Server::start();
    let license = server.bootstrap("license_key");
    let (a, b) = (
        Device::linked(&server, &license),
        Device::linked(&server, &license),
    );
    let added = a.json(&[
        "decision",
        "add",
        "Use row-level security",
        "--rationale",
        "one place",
    ]);
    let id = added["id"].as_str().unwrap().to_owned();
    a.converge();
    b.converge();

    server.stop();
    a.sql(
        "org",
        &format!("update decisions set title = 'edited on a' where id = '{id}';"),
    );
    b.sql(
        "org",
        &format!("update decisions set title = 'edited on b' where id = '{id}';"),
    );
    a.sql(
        "org",
        "insert into skill_learnings (skill_name, learning) values ('sql', 'offline');",
    );
    for device in [&a, &b] {
        let _ = device.run(&["sync"]);
        let status = device.json(&["status"]);
        assert_eq!(status["offline_mode"], true, "{status}");
        assert!(status["queue_depth"].as_i64().unwrap() >= 1, "{status}");
        assert_eq!(status["parked"], 0, "being offline parks nothing: {status}");
    }

    server.restart();
    let first = a.sync();
    let second = b.sync();
    assert_eq!(
        first["conflicts"].as_i64().unwrap() + second["conflicts"].as_i64().unwrap(),
        1,
        "{first} {second}"
    );
    a.converge();
    b.converge();
    assert_all_same(&server, &[&a, &b]);
    let winner = a.sql(
        "org",
        &format!("select title from decisions where id = '{id}';"),
    );
    let loser = if winner.trim() == "edited on a" {
        "edited on b"
    } else {
        "edited on a"
    };
    for device in [&a, &b] {
        let listed = device.json(&["conflict", "list"]).to_string();
        assert!(listed.contains(&id), "{listed}");
        let shown = device.json(&["conflict", "show", &id]).to_string();
        assert!(shown.contains(loser), "{shown}");
    }
}

#[test]
fn a_deleted_row_leaves_both_machines_and_an_edit_beats_a_delete() {
    let server = Server::start();
    let license = server.bootstrap("license_key");
    let (a, b) = (
        Device::linked(&server, &license),
        Device::linked(&server, &license),
    );
    a.sql(
        "org",
        "insert into decisions (title) values ('goes'), ('stays');
         insert into error_solutions (error_pattern, solution) values ('E1', 'restart');",
    );
    a.converge();
    b.converge();
    a.sql("org", "delete from decisions where title = 'goes';");
    a.sql("org", "delete from decisions where title = 'stays';");
    b.sql(
        "org",
        "update decisions set rationale = 'still needed' where title = 'stays';",
    );
    b.sync();
    a.sync();
    b.converge();
    a.converge();
    for device in [&a, &b] {
        assert_eq!(
            device.sql("org", "select title from decisions;").trim(),
            "stays"
        );
    }
    assert_all_same(&server, &[&a, &b]);
}

#[test]
fn colleagues_with_one_transcript_see_only_their_own() {
    let server = Server::start();
    let tenant = server.bootstrap("tenant_id");
    let (ann_id, ann_key) = server.user(&tenant, "ann@example.com", "member");
    let (bob_id, bob_key) = server.user(&tenant, "bob@example.com", "member");
    let (ann, bob) = (
        Device::linked(&server, &ann_key),
        Device::linked(&server, &bob_key),
    );
    let transcripts = small_transcripts();
    for device in [&ann, &bob] {
        import(device, transcripts.path());
        device.converge();
    }
    ann.sql(
        "org",
        "insert into decisions (title) values ('annsuniqueword');",
    );
    ann.converge();
    bob.converge();
    let dump = server.dump(&tenant);
    let org = format!("org:{tenant}");
    for (device, id) in [(&ann, &ann_id), (&bob, &bob_id)] {
        assert_same(&dump, device, &[&format!("user:{id}"), &org, "platform"]);
        assert_eq!(count(device, "select count(*) from messages;"), 40);
    }
    let found = bob.json(&["search", "annsuniqueword"]);
    assert!(!found.to_string().contains("ann's"), "{found}");
    assert_eq!(
        bob.sql("org", "select count(*) from decisions;").trim(),
        "0"
    );
}
