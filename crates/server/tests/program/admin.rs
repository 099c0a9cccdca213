//! `admin`: the same with the server running and stopped.

use coditect_core::hash;
use coditect_protocol::catalogue::by_cloud_name;
use coditect_protocol::{API_VERSION, Version};
use serde_json::json;

use crate::support::{Done, Folder, Server, mode, run};

#[test]
fn organisations_people_and_licences_are_made_running_and_stopped() {
    let folder = Folder::new();
    let never = run(&mut folder.command(&["admin", "tenant", "list"]));
    assert_eq!(never.code, Some(1));
    assert!(
        never.err.contains("hint: coditect-server up"),
        "{}",
        never.err
    );

    let server = Server::up(&folder);
    let running = make(&folder, "acme");
    let (status, login) = server.post(
        "/api/v1/auth/license/",
        &json!({ "license_key": running.license_key }),
    );
    assert_eq!(
        (status, login["tenant_id"].as_str().unwrap()),
        (200, running.tenant.as_str())
    );
    assert_eq!(
        server.get("/health/").0,
        200,
        "the server's PostgreSQL goes on"
    );
    assert_eq!(server.signal("TERM").0, Some(0));

    let stopped = make(&folder, "beta");
    assert!(
        folder.postgres_pid().is_none(),
        "what a command started it stops"
    );
    let server = Server::up(&folder);
    let body = json!({ "email": stopped.email, "password": stopped.password });
    let (status, login) = server.post("/api/v1/auth/login/", &body);
    assert_eq!(
        (status, login["user_id"].as_str().unwrap()),
        (200, stopped.user.as_str())
    );
    check_lists(&folder, &running);
    check_refusals(&folder);
}

#[test]
fn catalogue_comes_down_and_rows_are_dumped() {
    let folder = Folder::new();
    let server = Server::up(&folder);
    let file = folder.file("catalogue.jsonl");
    let line = json!({ "table": "platform_components",
        "row": { "component_id": "c-1", "component_type": "agent", "name": "Reviewer" } });
    std::fs::write(&file, format!("{line}\n")).unwrap();
    let words = ["admin", "catalogue", "import", file.to_str().unwrap()];
    assert_eq!(folder.json(&words)["added"], 1);
    assert_eq!(folder.json(&words)["unchanged"], 1);
    std::fs::write(&file, "{}\n").unwrap();
    let wrong = run(&mut folder.command(&words));
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(1), ""));
    assert!(wrong.err.contains("line 1"), "{}", wrong.err);

    let key = json!({ "license_key": folder.bootstrap()["license_key"] });
    let (_, login) = server.post("/api/v1/auth/license/", &key);
    let token = login["access_token"].as_str().unwrap();
    let pull = json!({ "api_version": API_VERSION, "device": login["device_id"],
        "positions": [{ "scope": "platform", "file": "platform" }] });
    let (status, page) = server.post_as(token, "/api/v1/sync/pull", &pull);
    assert_eq!(
        (status, &page["pages"][0]["changes"][0]["row"]["name"]),
        (200, &json!("Reviewer"))
    );

    let (status, pushed) = server.post_as(token, "/api/v1/sync/push", &one_decision(&login));
    assert_eq!(
        (status, &pushed["outcomes"][0]["status"]),
        (200, &json!("applied")),
        "{pushed}"
    );
    let dump = run(&mut folder.command(&["admin", "dump", "--tenant", "default"]));
    assert_eq!(dump.code, Some(0), "{}", dump.err);
    let titles: Vec<serde_json::Value> = dump
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["table"] == "org_decisions")
        .map(|line| line["row"]["title"].clone())
        .collect();
    assert_eq!(titles, [json!("use Rust")]);
    assert_eq!(
        run(&mut folder.command(&["admin", "dump", "--tenant", "x"])).code,
        Some(4)
    );
}

#[test]
fn an_organisation_moves_to_another_server() {
    let (from, to) = (Folder::new(), Folder::new());
    let server = Server::up(&from);
    let made = make(&from, "acme");
    let file = from.file("acme.jsonl.gz");
    let path = file.to_str().unwrap();
    let export = ["admin", "tenant", "export", "--tenant", "acme", path];
    let left = from.json(&export);
    assert_eq!(mode(&file), 0o600);
    let again = run(&mut from.command(&export));
    assert_eq!((again.code, again.out.as_str()), (Some(1), ""));
    let person = from.file("person.jsonl.gz");
    let own = person.to_str().unwrap();
    let export = ["admin", "user", "export", "--tenant", "acme", "--user"];
    let receipt = from.json(&[&export[..], &[&made.email, own]].concat());
    assert_eq!(receipt["tables"]["users"], 1, "{receipt}");
    assert_eq!(mode(&person), 0o600);
    let unknown = [&export[..], &["nobody@b.c", own]].concat();
    assert_eq!(run(&mut from.command(&unknown)).code, Some(4));
    assert_eq!(server.signal("TERM").0, Some(0));

    let server = Server::up(&to);
    let import = ["admin", "tenant", "import", path];
    let arrived = to.json(&import);
    assert_eq!(arrived["sha256"], left["sha256"]);
    assert_eq!(arrived["tables"], left["tables"]);
    let body = json!({ "license_key": made.license_key });
    assert_eq!(server.post("/api/v1/auth/license/", &body).0, 200);
    let body = json!({ "email": made.email, "password": made.password });
    assert_eq!(server.post("/api/v1/auth/login/", &body).0, 401);
    let trail = to.json(&["admin", "audit", "verify", "--tenant", "acme"]);
    assert_eq!(trail["trails"][0]["state"], "whole", "{trail}");
    let twice = run(&mut to.command(&import));
    assert_eq!(twice.code, Some(1));
    assert!(twice.err.contains("is there already"), "{}", twice.err);
}

/// Returns a push of one decision into the caller's own scope.
fn one_decision(login: &serde_json::Value) -> serde_json::Value {
    let table = by_cloud_name("org_decisions").unwrap();
    let row = json!({ "title": "use Rust" });
    let hash = hash::content(table, row.as_object().unwrap()).to_string();
    let at = "2026-01-01T00:00:00.000000Z";
    json!({
        "api_version": API_VERSION,
        "device": login["device_id"],
        "batch_id": "00000000-0000-4000-8000-000000000001",
        "sent_at_ms": 1_767_225_600_000_i64,
        "file": "org",
        "scope": format!("user:{}", login["user_id"].as_str().unwrap()),
        "changes": [{
            "table": table.cloud,
            "id": "00000000-0000-7000-8000-000000000002",
            "op": "upsert",
            "proposed": Version::from_parts(1_767_225_600_000, 0),
            "register": true,
            "hash": hash,
            "created_at": at,
            "updated_at": at,
            "row": row,
        }],
    })
}

struct Made {
    tenant: String,
    user: String,
    email: String,
    password: String,
    license_key: String,
}

fn make(folder: &Folder, name: &str) -> Made {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let tenant = text(&folder.json(&["admin", "tenant", "create", "--name", name])["tenant_id"]);
    let email = format!("Ann@{name}.example");
    let words = [
        "admin", "user", "create", "--tenant", name, "--email", &email, "--role", "admin",
    ];
    let user = folder.json(&words);
    assert_eq!(user["role"], "admin");
    let id = text(&user["user_id"]);
    let words = [
        "admin", "license", "issue", "--tenant", &tenant, "--user", &id,
    ];
    let license = folder.json(&words);
    let (password, license_key) = (text(&user["password"]), text(&license["license_key"]));
    Made {
        tenant,
        user: id,
        email,
        password,
        license_key,
    }
}

fn check_lists(folder: &Folder, made: &Made) {
    let tenants = folder.json(&["admin", "tenant", "list"]);
    let names: Vec<&str> = tenants["tenants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["default", "acme", "beta"]);
    let users = folder.json(&["admin", "user", "list", "--tenant", "acme"]);
    assert_eq!(users["users"][0]["user_id"], made.user);
    assert_eq!(users["users"][0]["email"], "ann@acme.example");
    let licenses = folder.json(&["admin", "license", "list", "--tenant", &made.tenant]);
    assert_eq!(licenses["licenses"][0]["user_id"], made.user);
    assert!(
        !licenses.to_string().contains("cdl_"),
        "keys are not listed"
    );
    // The same person in a second organisation keeps the password.
    let words = [
        "admin",
        "user",
        "create",
        "--tenant",
        "beta",
        "--email",
        "ann@acme.example",
    ];
    assert_eq!(folder.json(&words)["password"], json!(null));
    let first = folder.json(&["admin", "epoch", "bump"]);
    assert_ne!(first, folder.json(&["admin", "epoch", "bump"]));
}

fn check_refusals(folder: &Folder) {
    let refused = |words: &[&str]| -> Done { run(&mut folder.command(words)) };
    let nobody = refused(&["admin", "user", "list", "--tenant", "nobody"]);
    assert_eq!((nobody.code, nobody.out.as_str()), (Some(4), ""));
    let words = [
        "admin",
        "license",
        "issue",
        "--tenant",
        "acme",
        "--user",
        "bob@x.example",
    ];
    let nobody = refused(&words);
    assert_eq!(nobody.code, Some(4));
    assert!(
        nobody.err.contains("hint: coditect-server admin user list"),
        "{}",
        nobody.err
    );
    let words = [
        "admin",
        "user",
        "create",
        "--tenant",
        "acme",
        "--email",
        "ann@acme.example",
    ];
    let twice = refused(&words);
    assert_eq!(twice.code, Some(1));
    assert!(
        twice.err.contains("belongs to the organisation already"),
        "{}",
        twice.err
    );
}

/// What the tests of losses work with: a person at acme, logged in by a running server.
struct Lost {
    folder: Folder,
    server: Server,
    ann: Made,
}

impl Lost {
    fn new() -> Self {
        let folder = Folder::new();
        let server = Server::up(&folder);
        let ann = make(&folder, "acme");
        Self {
            folder,
            server,
            ann,
        }
    }

    /// Logs in with the licence key.
    fn log_in(&self) -> (u16, serde_json::Value) {
        let key = json!({ "license_key": self.ann.license_key });
        self.server.post("/api/v1/auth/license/", &key)
    }

    /// Returns the status of a pull with a login's access token.
    fn asks(&self, login: &serde_json::Value) -> u16 {
        let pull = json!({ "api_version": API_VERSION, "device": login["device_id"],
            "positions": [] });
        let token = login["access_token"].as_str().unwrap();
        self.server.post_as(token, "/api/v1/sync/pull", &pull).0
    }

    fn admin(&self, words: &[&str]) -> serde_json::Value {
        self.folder.json(&[&["admin"], words].concat())
    }

    fn admin_code(&self, words: &[&str]) -> Option<i32> {
        run(&mut self.folder.command(&[&["admin"], words].concat())).code
    }
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn devices_and_people_are_locked_out_at_once() {
    let lost = Lost::new();
    let (laptop, kept) = (lost.log_in().1, lost.log_in().1);
    let id = text(&laptop["device_id"]);
    let revoke = ["device", "revoke", "--tenant", "acme", &id];
    assert_eq!(lost.admin(&revoke)["device_id"], id.as_str());
    assert_eq!((lost.asks(&laptop), lost.asks(&kept)), (403, 200));
    let devices = lost.admin(&["device", "list", "--tenant", "acme"]);
    let devices = devices["devices"].as_array().unwrap();
    let revoked: Vec<bool> = devices
        .iter()
        .map(|device| !device["revoked_at"].is_null())
        .collect();
    assert_eq!(
        (devices[0]["device_id"] == id, revoked),
        (true, vec![true, false])
    );
    assert_eq!(lost.admin_code(&revoke), Some(4));

    let email = &lost.ann.email;
    let user = |what| lost.admin(&["user", what, "--tenant", "acme", "--user", email]);
    assert_eq!(user("disable")["active"], false);
    assert_eq!((lost.asks(&kept), lost.log_in().0), (401, 401));
    assert_eq!(user("enable")["active"], true);
    assert_eq!((lost.asks(&kept), lost.log_in().0), (200, 200));
    let refresh = json!({ "refresh_token": kept["refresh_token"] });
    assert_eq!(lost.server.post("/api/v1/auth/refresh/", &refresh).0, 401);

    let reset = user("reset-password");
    let with = |password: &serde_json::Value| {
        let body = json!({ "email": email, "password": password });
        lost.server.post("/api/v1/auth/login/", &body).0
    };
    assert_eq!(
        (with(&json!(lost.ann.password)), with(&reset["password"])),
        (401, 200)
    );
}

#[test]
fn licences_and_the_signing_key_are_replaced() {
    let lost = Lost::new();
    let login = lost.log_in().1;
    let listed = lost.admin(&["license", "list", "--tenant", "acme"]);
    let license = text(&listed["licenses"][0]["license_id"]);
    let foreign = ["license", "revoke", "--tenant", "default", &license];
    assert_eq!(lost.admin_code(&foreign), Some(4));
    let revoke = ["license", "revoke", "--tenant", "acme", &license];
    assert_eq!(lost.admin(&revoke)["license_id"], license.as_str());
    assert_eq!(lost.log_in().0, 401);
    assert_eq!(lost.admin_code(&revoke), Some(4));

    let key_id = text(&lost.admin(&["key", "rotate"])["key_id"]);
    let keys = lost.server.get("/api/v1/auth/jwks.json").1;
    let keys = keys["keys"].as_array().unwrap();
    assert_eq!((keys.len(), &keys[0]["kid"]), (2, &json!(key_id)));
    assert_eq!(lost.asks(&login), 200);
    lost.admin(&["key", "rotate", "--at-once"]);
    assert_eq!(lost.asks(&login), 401);
    let elsewhere = lost.folder.file("elsewhere");
    let elsewhere_text = elsewhere.to_str().unwrap();
    let words = ["admin", "key", "rotate", "--secrets-dir", elsewhere_text];
    let wrong = run(&mut lost.folder.command(&words));
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.err.contains("hint: --secrets-dir"), "{}", wrong.err);
    assert!(!elsewhere.exists(), "no key is made by accident");
}
