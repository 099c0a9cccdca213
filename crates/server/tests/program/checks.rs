//! What docs/OPERATIONS.md tells an operator to run, run as it stands there.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Folder, Server};

/// Runs a line of shell and returns what it printed.
fn shell(line: &str, token: &str) -> String {
    let done = Command::new("sh")
        .args(["-c", line])
        .env("TOKEN", token)
        .output()
        .unwrap();
    String::from_utf8(done.stdout).unwrap()
}

/// Returns the line of the page that has `mark`, without a filter of a program that may be absent.
fn documented(mark: &str) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/OPERATIONS.md");
    let page = std::fs::read_to_string(page).unwrap();
    let line = page.lines().find(|line| line.contains(mark)).unwrap();
    line.split(" | jq").next().unwrap().trim().to_owned()
}

#[test]
fn tenant_of_a_token_health_and_rows_are_seen_from_a_shell() {
    let folder = Folder::new();
    let server = Server::up(&folder);
    assert_eq!(
        server.get("/health/"),
        (200, json!({ "status": "healthy" }))
    );
    let bootstrap = folder.bootstrap();
    let key = json!({ "license_key": bootstrap["license_key"] });
    let (status, login) = server.post("/api/v1/auth/license/", &key);
    assert_eq!(status, 200, "{login}");
    let token = login["access_token"].as_str().unwrap();
    let claims = shell(&documented("base64 -d"), token);
    let claims: Value = serde_json::from_str(&claims).unwrap();
    assert_eq!(claims["tenant_id"], bootstrap["tenant_id"]);
    // Of a row that can be read there is a line.
    let task = json!({ "task_id": "1", "description": "look" });
    assert_eq!(
        server.post_as(token, "/api/v1/context/tasks/", &task).0,
        201
    );
    let tenant = bootstrap["tenant_id"].as_str().unwrap();
    assert_eq!(
        folder.lines(&["admin", "dump", "--tenant", tenant]).len(),
        1
    );
}
