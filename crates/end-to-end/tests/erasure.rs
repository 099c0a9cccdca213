//! A person is erased while one device is at hand, one has something unsent, and one was away: no
//! file of theirs keeps anything, nothing comes back with them or with an older database, and a
//! colleague loses nothing.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use coditect_end_to_end::{Device, Server};
use coditect_testkit::files_below;
use serde_json::{Value, json};
use tempfile::TempDir;

const MARK: &str = "mark-ann";
/// How often a command asks whether the server is done; each attempt is a process.
const ATTEMPTS_MAX: usize = 1_000;

/// Returns the files of a device that hold the mark, but for the archive of transcripts, which
/// never leaves it.
fn marked(device: &Device) -> Vec<PathBuf> {
    let data = device.home().join(".coditect-data");
    let mut found = files_below(&data);
    found.extend(files_below(&device.home().join(".coditect")));
    found.retain(|path| {
        let bytes = std::fs::read(path).unwrap();
        let is_marked = bytes.windows(MARK.len()).any(|it| it == MARK.as_bytes());
        is_marked && !path.starts_with(data.join("archive"))
    });
    found
}

/// Returns the server's tables that hold a mark, with how many rows do.
fn stored(server: &Server, mark: &str) -> Vec<String> {
    let tables = server.ask(
        "select table_name from information_schema.tables
         where table_schema = 'public' order by 1",
    );
    let parts: Vec<String> = tables
        .iter()
        .map(|table| {
            format!("select '{table}', count(*) from {table} t where t::text like '%{mark}%'")
        })
        .collect();
    let all = format!(
        "select * from ({}) as counted (name, rows) where rows > 0",
        parts.join(" union all ")
    );
    server.ask(&all)
}

fn transcript(device: &Device) {
    let folder = device.home().join(".claude/projects/-home-ann-app");
    std::fs::create_dir_all(&folder).unwrap();
    let line = json!({"type": "user", "uuid": "u1", "sessionId": "s1",
        "timestamp": "2026-02-03T03:51:03.761Z", "cwd": "/home/ann/app",
        "message": {"role": "user", "content": format!("{MARK} said ").repeat(2_000)}});
    std::fs::write(folder.join("s1.jsonl"), format!("{line}\n")).unwrap();
    let ran = device.run(&["import", "claude"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

fn decision(device: &Device, title: &str, scope: &str) {
    let insert = format!("insert into decisions (scope, title) values ('{scope}', '{title}');");
    device.sql("org", &insert);
}

/// Syncs a device of the erased account: it is told, and has nothing any more.
fn is_told(device: &Device) {
    let ran = device.run(&["sync"]);
    assert_eq!(ran.code, 5, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("account_erased"), "{}", ran.stderr);
    assert_eq!(marked(device), Vec::<PathBuf>::new());
    assert!(!device.database("org").exists());
    let tokens = device.home().join(".coditect/credentials");
    assert_eq!(
        files_below(&tokens)
            .iter()
            .filter(|it| it.extension() == Some("json".as_ref()))
            .count(),
        0
    );
}

/// Neither hooks nor an import fill the folder again, and the agent never notices.
fn nothing_fills_it_again(first: &Device) {
    let input = json!({"hook_event_name": "PostToolUse", "session_id": "s2", "cwd": "/home/ann/app",
        "tool_name": "Bash", "tool_use_id": "t1", "tool_input": {"command": MARK},
        "tool_response": {"stdout": MARK}});
    let ran = first.run_fed(&["hook", "PostToolUse"], &input.to_string());
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    assert_eq!(first.run(&["import", "claude"]).code, 5);
    assert_eq!(marked(first), Vec::<PathBuf>::new());
}

/// The database of before is put back: the ledger outside knows better.
fn put_back(server: &mut Server, older: &TempDir, away: &Device) {
    let tenant = server.bootstrap("tenant_id");
    server.stop();
    server.restore_postgres(older);
    server.restart();
    is_told(away);
    let done = (0..ATTEMPTS_MAX).any(|_| {
        let receipts = server.admin(&["erasures", "--tenant", &tenant]);
        !receipts["receipts"].as_array().unwrap().is_empty()
    });
    assert!(
        done && stored(server, MARK).is_empty(),
        "{:?}",
        stored(server, MARK)
    );
    assert!(!stored(server, "mark-bob").is_empty());
}

#[test]
fn devices_of_an_erased_person_keep_nothing_and_bring_nothing_back() {
    let mut server = Server::start();
    let tenant = server.bootstrap("tenant_id");
    let (person, license) = server.user(&tenant, "mark-ann@example.com", "member");
    let devices = [(); 3].map(|()| Device::linked(&server, &license));
    let [first, second, away] = &devices;
    let colleague = Device::linked(&server, &server.bootstrap("license_key"));
    for number in 0..20 {
        decision(first, &format!("{MARK} {number}"), "user");
    }
    decision(first, "mark-shared", "org");
    transcript(first);
    decision(&colleague, "mark-bob", "user");
    Device::converge_all(&[first, second, away, &colleague]);
    let backed_up = first.run(&["backup"]);
    assert_eq!(backed_up.code, 0, "{}", backed_up.stderr);
    for device in &devices {
        assert!(!marked(device).is_empty());
    }
    assert!(
        stored(&server, MARK).len() >= 6,
        "{:?}",
        stored(&server, MARK)
    );

    server.stop();
    let older = server.save_postgres();
    server.restart();
    decision(second, &format!("{MARK} unsent"), "user");
    decision(second, &format!("{MARK} unsent and shared"), "org");
    let erase = ["user", "erase", "--tenant", &tenant, "--user", &person];
    let plan = server.admin(&[&erase[..], &["--dry-run"]].concat());
    assert!(
        plan["tables"]["org_decisions"].as_u64().unwrap() >= 20,
        "{plan}"
    );
    assert!(!stored(&server, MARK).is_empty());
    let receipt = server.admin(&[&erase[..], &["--yes"]].concat());
    assert_eq!(
        receipt["tables"]["org_decisions"],
        plan["tables"]["org_decisions"]
    );
    assert_eq!(stored(&server, MARK), Vec::<String>::new());

    is_told(first);
    is_told(second);
    let verified = server.admin(&["audit", "verify", "--tenant", &tenant]);
    assert_eq!(verified["trails"][0]["state"], "whole", "{verified}");
    nothing_fills_it_again(first);

    put_back(&mut server, &older, away);

    // A colleague goes on with everything, what the person shared included.
    let _ = colleague.sync();
    let _ = colleague.converge();
    let titles = colleague.sql("org", "select title from decisions order by title;");
    assert_eq!(titles.trim(), "mark-bob\nmark-shared");
    // The folder can begin anew, empty.
    first.login(&server, &server.bootstrap("license_key"));
    let _ = first.converge();
    assert_eq!(marked(first), Vec::<PathBuf>::new());
}

/// Hash, whether it is deleted, and content of each row, by table and id.
type Contents = BTreeMap<(String, String), Value>;

/// Returns what a dump says of each row.
fn contents(rows: &[Value]) -> Contents {
    let of = |row: &Value| {
        let key = (row["table"].to_string(), row["id"].to_string());
        let what = json!([row["hash"], row["deleted"], row["row"]]);
        (key, what)
    };
    rows.iter().map(of).collect()
}

/// Returns the lines of a device's dump that are of the own scope.
fn own_rows(device: &Device) -> Vec<Value> {
    let ran = device.run(&["dump", "--canonical"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines = ran.stdout.lines().skip(1);
    let rows = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|row| row["scope"].as_str().unwrap().starts_with("user:"))
        .collect()
}

/// Takes the person's file to another server, where the person has another address and another id;
/// what is there then equals what was here.
fn moves(old: &Server, tenant: &str, person: &str, left: &Contents) -> (Server, Device) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.jsonl.gz");
    let file = file.to_str().unwrap();
    let export = ["user", "export", "--tenant", tenant, "--user", person, file];
    assert_eq!(old.admin(&export)["user_id"], person);
    let new = Server::start();
    let home = new.bootstrap("tenant_id");
    let (again, license) = new.user(&home, "ann@new.example", "member");
    let from = "mark-ann@example.com";
    let import = ["user", "import", "--tenant", &home, "--user", &again];
    let import = [&import[..], &["--from", from, file]].concat();
    let came = new.admin(&import);
    assert_eq!(came["deletions"], 1, "{came}");
    let moved = Device::linked(&new, &license);
    let _ = moved.converge();
    assert_eq!(&contents(&own_rows(&moved)), left);
    assert_eq!(new.admin(&import)["restored"], 0);
    (new, moved)
}

#[test]
fn a_person_moves_to_another_server_and_erases_the_account_of_before() {
    let old = Server::start();
    let tenant = old.bootstrap("tenant_id");
    let (person, license) = old.user(&tenant, "mark-ann@example.com", "member");
    let devices = [(); 2].map(|()| Device::linked(&old, &license));
    let [first, second] = &devices;
    for number in 0..5 {
        decision(first, &format!("{MARK} {number}"), "user");
    }
    transcript(first);
    Device::converge_all(&[first, second]);
    second.sql(
        "org",
        &format!("delete from decisions where title = '{MARK} 4';"),
    );
    Device::converge_all(&[second, first]);
    let left = contents(&own_rows(first));
    assert!(left.len() >= 6, "{left:?}");
    let (_new, moved) = moves(&old, &tenant, &person, &left);

    // A mistake costs nothing.
    let ran = first.run(&["account", "erase", "ann@new.example", "--yes"]);
    assert_eq!(ran.code, 5, "{}{}", ran.stdout, ran.stderr);
    let dry = first.json(&["account", "erase", "mark-ann@example.com", "--dry-run"]);
    assert!(
        dry["tables"]["org_decisions"].as_u64().unwrap() >= 5,
        "{dry}"
    );
    assert!(!stored(&old, MARK).is_empty() && !marked(first).is_empty());

    let done = first.json(&["account", "erase", "mark-ann@example.com", "--yes"]);
    assert_eq!(done["device_erased"], true, "{done}");
    assert_eq!(done["receipt"]["user_id"], person.as_str());
    assert_eq!(
        done["tables"]["org_decisions"],
        dry["tables"]["org_decisions"]
    );
    let receipts = old.admin(&["erasures", "--tenant", &tenant]);
    assert_eq!(receipts["receipts"], json!([done["receipt"]]));
    assert_eq!(stored(&old, MARK), Vec::<String>::new());
    assert_eq!(marked(first), Vec::<PathBuf>::new());
    assert!(!first.database("org").exists());
    nothing_fills_it_again(first);
    is_told(second);
    let verified = old.admin(&["audit", "verify", "--tenant", &tenant]);
    assert_eq!(verified["trails"][0]["state"], "whole", "{verified}");
    // What went to the other server is there.
    assert_eq!(contents(&own_rows(&moved)), left);
}
