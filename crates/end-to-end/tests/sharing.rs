//! Two people and three machines in a project and a team: what one shares the others have, and
//! what is taken back is nowhere else.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use coditect_end_to_end::{Daemon, Device, Server, assert_same, write_transcript};
use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Stdio};

const BEN: &str = "ben@example.com";

struct World {
    server: Server,
    tenant: String,
    /// Both machines of Ann, who owns the organisation.
    a: Device,
    second: Device,
    /// Ben's machine.
    b: Device,
    ann: String,
    ben: String,
}

impl World {
    fn new() -> Self {
        let server = Server::start();
        let license = server.bootstrap("license_key");
        let tenant = server.bootstrap("tenant_id");
        let (ben, of_ben) = server.user(&tenant, BEN, "member");
        Self {
            a: Device::linked(&server, &license),
            second: Device::linked(&server, &license),
            b: Device::linked(&server, &of_ben),
            ann: server.bootstrap("user_id"),
            tenant,
            server,
            ben,
        }
    }

    /// Makes a project that Ben belongs to; returns its scope.
    fn project(&self, name: &str) -> String {
        let made = self.a.json(&["project", "publish", name]);
        let _ = self.a.json(&["project", "add-member", name, BEN]);
        format!("project:{}", made["id"].as_str().unwrap())
    }

    /// Everybody has what the server has for them, no more.
    fn assert_same(&self, shared: &[&str]) {
        Device::converge_all(&[&self.a, &self.b, &self.second]);
        let dump = self.server.dump(&self.tenant);
        let org = format!("org:{}", self.tenant);
        for (device, user) in [
            (&self.a, &self.ann),
            (&self.second, &self.ann),
            (&self.b, &self.ben),
        ] {
            let own = format!("user:{user}");
            let mut scopes = vec![own.as_str(), &org, "platform"];
            scopes.extend(shared);
            assert_same(&dump, device, &scopes);
        }
    }
}

fn decide(device: &Device, title: &str) -> String {
    let made = device.json(&["decision", "add", title]);
    made["id"].as_str().unwrap().to_owned()
}

fn titles(device: &Device) -> String {
    let sql = "select title || ' ' || substr(scope, 1, instr(scope || ':', ':') - 1)
        from decisions order by 1;";
    device
        .sql("org", sql)
        .lines()
        .collect::<Vec<_>>()
        .join(", ")
}

fn hits(device: &Device, word: &str) -> usize {
    let found = device.json(&["search", word]);
    found["hits"].as_array().unwrap().len()
}

fn statuses(done: &Value) -> Vec<&str> {
    let rows = done["rows"].as_array().unwrap().iter();
    rows.map(|row| row["status"].as_str().unwrap()).collect()
}

#[test]
fn a_decision_that_is_shared_is_on_every_machine_of_the_project_and_comes_back() {
    let world = World::new();
    let (a, second, b) = (&world.a, &world.second, &world.b);
    let scope = world.project("app");
    let private = decide(a, "private");
    let shared = decide(a, "walrus");
    world.assert_same(&[&scope]);
    assert_eq!(titles(b), "");
    // A look changes nothing; the wish waits without a server as well.
    let target = format!("decision:{shared}");
    let look = a.json(&["share", &target, "--to", "project:app", "--dry-run"]);
    assert_eq!(statuses(&look), ["would_move"]);
    let offline = [("CODITECT_OFFLINE", "true")];
    let asked = a.run_with(&["share", &target, "--to", "project:app"], &offline);
    assert_eq!(asked.code, 0, "{}", asked.stderr);
    assert_eq!(titles(a), "private user, walrus user");
    let waits = a.json(&["queue", "list"]);
    assert_eq!(waits["moves"][0]["to"], scope.as_str());
    assert_eq!(a.sync()["moved"], 1);
    world.assert_same(&[&scope]);
    assert_eq!(titles(b), "walrus project");
    for device in [a, second] {
        assert_eq!(titles(device), "private user, walrus project");
        assert_eq!(hits(device, "walrus"), 1);
    }
    assert_eq!(hits(b, "walrus"), 1);
    let author = b.json(&["decision", "show", &shared]);
    assert_eq!(author["user_id"], world.ann.as_str(), "the author stays");

    // Ben works on it; so does Ann's other machine, without having heard of anything.
    let edited = b.run(&["decision", "edit", &shared, "--rationale", "of ben"]);
    assert_eq!(edited.code, 0, "{}", edited.stderr);
    b.converge();
    // Not Ben's to take back.
    let taken = b.json(&["unshare", &target]);
    assert_eq!(statuses(&taken), ["queued"]);
    let refused = b.run(&["sync"]);
    assert!(
        refused.stdout.contains("1 refused"),
        "{}{}",
        refused.stdout,
        refused.stderr
    );
    let listed = b.run(&["queue", "list", "--parked"]);
    assert!(
        listed.stdout.contains("only its author"),
        "{}",
        listed.stdout
    );

    assert_eq!(statuses(&a.json(&["unshare", &target])), ["queued"]);
    world.assert_same(&[&scope]);
    assert_eq!(titles(b), "");
    assert_eq!(hits(b, "walrus"), 0);
    assert_eq!(titles(second), "private user, walrus user");
    let back = a.json(&["decision", "show", &shared]);
    assert_eq!(back["rationale"], "of ben");
    let _ = private;
}

#[test]
fn a_new_row_goes_straight_to_the_scope_that_is_named_and_sql_can_share_as_well() {
    let world = World::new();
    let (a, b) = (&world.a, &world.b);
    let scope = world.project("app");
    world.assert_same(&[&scope]);
    let made = a.json(&["decision", "add", "for all", "--scope", "project:app"]);
    assert_eq!(made["scope"], scope.as_str());
    let other = decide(a, "by sql");
    a.converge();
    let update = format!("update decisions set scope = '{scope}' where id = '{other}';");
    a.sql("org", &update);
    assert_eq!(a.sync()["moved"], 1);
    world.assert_same(&[&scope]);
    assert_eq!(titles(b), "by sql project, for all project");
    let unknown = a.run(&["decision", "add", "x", "--scope", "project:nope"]);
    assert_eq!(unknown.code, 6, "{}", unknown.stderr);
}

#[test]
fn a_whole_session_is_shared_by_one_line_and_goes_on_there() {
    let world = World::new();
    let (a, b) = (&world.a, &world.b);
    let scope = world.project("app");
    let transcripts = tempfile::tempdir().unwrap();
    write_transcript(transcripts.path(), 1, 20);
    write_transcript(transcripts.path(), 2, 20);
    let import = |device: &Device| {
        let from = transcripts.path().to_str().unwrap();
        device.json(&["import", "claude", "--from", from])
    };
    import(a);
    world.assert_same(&[&scope]);
    let sessions = a.json(&["session", "list"]);
    let session = sessions["sessions"][0]["session_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let shared = a.json(&["share", "session", &session, "--to", "project:app"]);
    assert!(statuses(&shared).len() > 20 && statuses(&shared).iter().all(|it| *it == "queued"));
    world.assert_same(&[&scope]);
    let count = |device: &Device, scope: &str| {
        let sql = format!("select count(*) from messages where scope = '{scope}';");
        device.sql("sessions", &sql).trim().parse::<u64>().unwrap()
    };
    for device in [a, b, &world.second] {
        assert_eq!(count(device, &scope), 20);
    }
    assert_eq!((count(a, "user"), count(b, "user")), (20, 0));
    let again = a.json(&["share", "session", &session, "--to", "project:app"]);
    assert!(statuses(&again).iter().all(|status| *status == "there"));
    // The transcript is read again, here and on the other machine: nothing comes twice.
    import(a);
    import(&world.second);
    world.assert_same(&[&scope]);
    assert_eq!((count(a, "user"), count(a, &scope)), (20, 20));
}

#[test]
fn who_leaves_a_team_has_none_of_it_after_one_poll() {
    let world = World::new();
    let (a, b) = (&world.a, &world.b);
    let team = a.json(&["team", "create", "core"]);
    let scope = format!("team:{}", team["id"].as_str().unwrap());
    let invited = a.json(&["team", "invite", "core", BEN]);
    let secret = invited["secret"].as_str().unwrap();
    accept(b, world.server.url(), secret);
    let shared = decide(a, "of the team");
    world.assert_same(&[&scope]);
    let target = format!("decision:{shared}");
    let _ = a.json(&["share", &target, "--to", "team:core"]);
    world.assert_same(&[&scope]);
    assert_eq!(titles(b), "of the team team");
    let _ = a.json(&["team", "remove", "core", BEN]);
    let left = b.converge();
    assert_eq!(left["converged"], true);
    assert_eq!(titles(b), "");
    let dump = world.server.dump(&world.tenant);
    let org = format!("org:{}", world.tenant);
    let own = format!("user:{}", world.ben);
    assert_same(&dump, b, &[&own, &org, "platform"]);
    let bases = format!("select count(*) from sync_base where scope = '{scope}';");
    assert_eq!(b.sql("org", &bases).trim(), "0");
}

#[test]
fn daemons_carry_moves_and_a_killed_one_is_made_up_for_by_the_next_command() {
    let world = World::new();
    let (a, b) = (&world.a, &world.b);
    let scope = world.project("app");
    let shared = decide(a, "walrus");
    world.assert_same(&[&scope]);
    let daemons = [Daemon::start(a), Daemon::start(b)];
    until(|| {
        [a, b]
            .iter()
            .all(|it| it.json(&["daemon", "status"])["connected"] == true)
    });
    let target = format!("decision:{shared}");
    let _ = a.json(&["share", &target, "--to", "project:app"]);
    until(|| titles(b) == "walrus project");
    let [of_a, of_b] = daemons;
    of_b.kill();
    drop(of_a);
    let _ = a.json(&["unshare", &target]);
    a.converge();
    b.converge();
    assert_eq!(titles(b), "");
    world.assert_same(&[&scope]);
}

/// Asks until the answer is as expected; the test's own time limit is the only one.
fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        std::thread::yield_now();
    }
}

fn accept(device: &Device, url: &str, secret: &str) {
    let mut child = Command::new(coditect_end_to_end::program("coditect"))
        .args(["team", "accept", "--server", url, "-"])
        .env("CODITECT_HOME", device.home())
        .env("HOME", device.home())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{secret}").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_is_decided_in_a_project_with_a_rule_is_shared_by_itself() {
    let world = World::new();
    let (a, b) = (&world.a, &world.b);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    for arguments in [
        vec!["init", "-q"],
        vec![
            "remote",
            "add",
            "origin",
            "git@git.example.com:acme/app.git",
        ],
    ] {
        let mut git = Command::new("git");
        assert!(
            git.arg("-C")
                .arg(path)
                .args(arguments)
                .status()
                .unwrap()
                .success()
        );
    }
    let remote = "https://git.example.com/acme/app.git";
    let made = a.json(&["project", "publish", "app", "--remote", remote]);
    let scope = format!("project:{}", made["id"].as_str().unwrap());
    let _ = a.json(&["project", "add-member", "app", BEN]);
    let _ = a.json(&["project", "scan", path, "--no-files", "--name", "app"]);
    a.converge();
    let early = a.json(&["decision", "add", "early", "--project", "app"]);
    assert_eq!(early["scope"], "user");
    let rule = a.json(&["project", "rule", "add", "--project", "app"]);
    assert_eq!(rule["to"], scope.as_str());
    let made = a.json(&["decision", "add", "by rule", "--project", "app"]);
    assert_eq!(made["scope"], scope.as_str());
    let apart = a.json(&["decision", "add", "apart"]);
    assert_eq!(apart["scope"], "user");
    let project = early["project_id"].as_str().unwrap();
    let insert = format!(
        "insert into decisions (title, project_id) values ('by sql', '{project}');
         insert into error_solutions (error_pattern, solution, project_id)
            values ('e', 's', '{project}');"
    );
    a.sql("org", &insert);
    world.assert_same(&[&scope]);
    assert_eq!(titles(b), "by rule project, by sql project");
    assert_eq!(
        b.sql("org", "select count(*) from error_solutions;").trim(),
        "0"
    );
    // The rule is on the other machine as well; removed, new rows are private again.
    let second = &world.second;
    let rules = second.json(&["project", "rule", "list"]);
    assert_eq!(rules["rules"][0]["to"], scope.as_str());
    let _ = second.json(&["project", "rule", "remove", "--project", "app"]);
    let made = second.json(&["decision", "add", "late", "--project", "app"]);
    assert_eq!(made["scope"], "user");
    world.assert_same(&[&scope]);
    assert_eq!(
        a.json(&["project", "rule", "list"])["rules"][0],
        Value::Null
    );
}
