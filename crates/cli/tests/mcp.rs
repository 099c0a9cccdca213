//! `coditect mcp` as an agent starts it: the real program over real files, asked by the protocol's
//! own client library.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use std::path::Path;
use std::process::Stdio;

use rmcp::ServiceExt as _;
use rmcp::model::{CallToolRequestParams, ReadResourceRequestParams};
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

type Client = RunningService<RoleClient, ()>;

fn program(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coditect"));
    command
        .args(arguments)
        .current_dir(home)
        .env("CODITECT_HOME", home)
        .env_remove("CODITECT_OFFLINE")
        .kill_on_drop(true);
    command
}

async fn json_of(home: &Path, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    let ran = program(home, &arguments).output().await.unwrap();
    assert!(ran.status.success(), "{ran:?}");
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// Starts the program and a client on its standard input and output.
async fn start(home: &Path) -> (Child, Client) {
    let mut child = program(home, &["mcp"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pipes = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let client = ().serve(pipes).await.unwrap();
    (child, client)
}

async fn call(client: &Client, tool: &'static str, arguments: Value) -> String {
    let arguments = arguments.as_object().cloned().unwrap();
    let request = CallToolRequestParams::new(tool).with_arguments(arguments);
    let result = client.call_tool(request).await.unwrap();
    let text = result.content[0].as_text().unwrap().text.clone();
    assert_ne!(result.is_error, Some(true), "{tool}: {text}");
    text
}

#[tokio::test]
async fn what_an_agent_records_is_found_again_by_agents_and_people() {
    let home = tempfile::tempdir().unwrap();
    let (mut child, client) = start(home.path()).await;
    let new =
        json!({"title": "Retry pushes with jitter", "rationale": "herds", "status": "accepted"});
    let kept = call(&client, "record_decision", new).await;
    let id = kept
        .split("decision ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    let secret = "ghp_0123456789abcdefABCDEF0123456789abcd";
    let new = json!({"skill": "git", "learning": format!("never paste {secret} anywhere")});
    let learned = call(&client, "record_learning", new).await;
    assert!(!learned.contains(secret), "{learned}");
    let new = json!({"pattern": "database is locked", "solution": "set busy_timeout"});
    call(&client, "record_error_solution", new).await;

    let found = call(&client, "search", json!({"query": "jitter"})).await;
    assert!(
        found.contains(&id) && found.contains("you · accepted"),
        "{found}"
    );
    let whole = call(&client, "get", json!({"id": id})).await;
    assert!(whole.contains("rationale: herds"), "{whole}");
    let known = call(
        &client,
        "recall",
        json!({"task": "pushes fail: database is locked"}),
    )
    .await;
    assert!(
        known.contains("busy_timeout") && known.contains("jitter"),
        "{known}"
    );
    let line = call(&client, "timeline", json!({"kinds": ["decision", "error"]})).await;
    assert_eq!(line.lines().count(), 3, "{line}");
    let status = call(&client, "status", json!({})).await;
    assert!(status.contains("linked: false"), "{status}");
    assert_eq!(call(&client, "tasks", json!({})).await, "Nothing found.");
    let uri = format!("coditect://decision/{id}");
    let read = client
        .read_resource(ReadResourceRequestParams::new(uri))
        .await;
    assert_eq!(read.unwrap().contents.len(), 1);

    client.cancel().await.unwrap();
    assert!(child.wait().await.unwrap().success());
    let listed = json_of(home.path(), &["decision", "list"]).await;
    assert_eq!(listed["decisions"][0]["id"], json!(id));
}

#[tokio::test]
async fn http_gives_an_address_and_a_token_for_the_owner_alone() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut child = program(home.path(), &["mcp", "--http", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut printed = String::new();
    let place: Value = loop {
        assert_ne!(lines.read_line(&mut printed).await.unwrap(), 0, "{printed}");
        if let Ok(place) = serde_json::from_str(&printed) {
            break place;
        }
    };
    let file = place["token_file"].as_str().unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let token = std::fs::read_to_string(file).unwrap();
    let url = place["url"].as_str().unwrap().to_owned();
    let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(token.trim());
    let client = ().serve(StreamableHttpClientTransport::from_config(config)).await.unwrap();
    assert_eq!(client.list_all_tools().await.unwrap().len(), 9);
    let status = call(&client, "status", json!({})).await;
    assert!(status.contains("queued: 0"), "{status}");
    child.kill().await.unwrap();
}

/// Resident memory of a process in KiB.
#[cfg(target_os = "linux")]
fn resident(child: &Child) -> u64 {
    let file = format!("/proc/{}/status", child.id().unwrap());
    let status = std::fs::read_to_string(file).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// Growth that is none: the allocator and SQLite's caches settle.
#[cfg(target_os = "linux")]
const SETTLING_KIB: u64 = 1_024;

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_session_of_ten_thousand_calls_does_not_grow() {
    let home = tempfile::tempdir().unwrap();
    let (child, client) = start(home.path()).await;
    for n in 0..20 {
        let new = json!({"title": format!("Decision {n} about retries")});
        call(&client, "record_decision", new).await;
    }
    let round = async |calls: u32| {
        for n in 0..calls {
            match n % 4 {
                0 => call(&client, "search", json!({"query": "retries"})).await,
                1 => call(&client, "timeline", json!({"limit": 5})).await,
                2 => call(&client, "tasks", json!({})).await,
                _ => call(&client, "status", json!({})).await,
            };
        }
    };
    round(2_000).await;
    let before = resident(&child);
    round(8_000).await;
    let after = resident(&child);
    println!("resident: {before} KiB after 2,000 calls, {after} KiB after 10,000");
    assert!(
        after <= before + SETTLING_KIB,
        "{before} KiB, then {after} KiB"
    );
}
