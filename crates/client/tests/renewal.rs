//! Access tokens end: the transport gets new ones, once, and other processes get them too.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use coditect_client::transport::Fallback;
use coditect_client::{
    CredentialFile, Credentials, Http, HttpOptions, HttpTransport, Transport as _, sync,
};
use coditect_core::sync::Options;
use coditect_local_store::{LocalStore, Random};
use coditect_protocol::wire::auth::PasswordLogin;
use coditect_protocol::{ErrorCode, OrganizationId, Problem, UserId};
use serde_json::{Value, json};
use uuid::Uuid;

/// Answers one connection per reply and returns what was asked.
fn serve(replies: Vec<(u16, Value)>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let answer = |(status, body): (u16, Value)| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let mut asked = vec![0; length];
            reader.read_exact(&mut asked).unwrap();
            let body = body.to_string();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            format!("{head}{}", String::from_utf8_lossy(&asked))
        };
        replies.into_iter().map(answer).collect()
    });
    (address, thread)
}

fn login_reply(access: &str, refresh: &str) -> (u16, Value) {
    let id = Uuid::from_u128(1);
    let reply = json!({
        "access_token": access, "refresh_token": refresh, "expires_in": 900,
        "tenant_id": id, "user_id": id, "device_id": id,
    });
    (200, reply)
}

fn refused() -> (u16, Value) {
    let problem = Problem::new(ErrorCode::Unauthenticated, "the access token has expired");
    (401, serde_json::to_value(problem).unwrap())
}

fn credentials(server: &str, access: &str, refresh: Option<&str>) -> Credentials {
    Credentials {
        server: server.to_owned(),
        access_token: access.to_owned(),
        refresh_token: refresh.map(str::to_owned),
        erasure_key: None,
    }
}

struct Setup {
    _folder: tempfile::TempDir,
    file: CredentialFile,
    transport: HttpTransport,
}

fn setup(server: &str, refresh: Option<&str>, fallback: Fallback) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let file = CredentialFile::new(folder.path().join("default.json"));
    let tokens = credentials(server, "old", refresh);
    file.store(&tokens).unwrap();
    let http = Http::new(&HttpOptions::new(server)).unwrap();
    let transport = HttpTransport::new(http, tokens, Some(file.clone()), fallback);
    Setup {
        _folder: folder,
        file,
        transport,
    }
}

#[tokio::test]
async fn a_refresh_token_gives_the_next_pair_and_both_are_kept() {
    let (server, thread) = serve(vec![login_reply("new", "refresh-2")]);
    let mut setup = setup(&server, Some("refresh-1"), Fallback::default());
    assert!(setup.transport.authenticate().await);
    let asked = thread.join().unwrap();
    assert!(
        asked[0].starts_with("POST /api/v1/auth/refresh/ "),
        "{}",
        asked[0]
    );
    assert!(asked[0].contains("refresh-1"));
    let stored = setup.file.load().unwrap().unwrap();
    assert_eq!(stored, credentials(&server, "new", Some("refresh-2")));
}

#[tokio::test]
async fn tokens_that_another_process_renewed_are_taken_over() {
    // Nobody listens: taking over needs no request.
    let server = "http://127.0.0.1:1";
    let mut setup = setup(server, Some("refresh-1"), Fallback::default());
    let newer = credentials(server, "new", Some("refresh-2"));
    setup.file.store(&newer).unwrap();
    assert!(setup.transport.authenticate().await);
    assert_eq!(setup.file.load().unwrap(), Some(newer));
}

#[tokio::test]
async fn a_used_up_refresh_token_falls_back_to_the_password_or_fails() {
    let (server, thread) = serve(vec![refused(), login_reply("new", "refresh-2")]);
    let password = PasswordLogin {
        email: "ann@example.org".to_owned(),
        password: "pass".to_owned(),
        tenant_id: None,
        device: None,
    };
    let fallback = Fallback {
        password: Some(password),
    };
    assert!(!format!("{fallback:?}").contains("pass\""));
    let mut with_password = setup(&server, Some("used"), fallback);
    assert!(with_password.transport.authenticate().await);
    let asked = thread.join().unwrap();
    assert!(
        asked[1].starts_with("POST /api/v1/auth/login/ "),
        "{}",
        asked[1]
    );

    let (server, thread) = serve(vec![refused()]);
    let mut without = setup(&server, Some("used"), Fallback::default());
    assert!(!without.transport.authenticate().await);
    thread.join().unwrap();
    let kept = without.file.load().unwrap().unwrap();
    assert_eq!(kept.refresh_token.as_deref(), Some("used"));
}

fn store_with_a_decision() -> LocalStore {
    let mut store = LocalStore::in_memory(1_000, Random::Seeded(1)).unwrap();
    let id = Uuid::from_u128(1);
    store
        .bind(OrganizationId::new(id), UserId::new(id))
        .unwrap();
    let row = json!({"title": "queued"}).as_object().unwrap().clone();
    store.insert("org_decisions", "user", row, 1_000).unwrap();
    store
}

fn options(retries: u32) -> Options {
    Options {
        push_only: true,
        retries,
        ..Options::default()
    }
}

#[tokio::test]
async fn a_run_goes_on_after_the_token_was_renewed() {
    let refusal = Problem::new(ErrorCode::PermissionDenied, "viewers do not write");
    let refusal = (403, serde_json::to_value(refusal).unwrap());
    let (server, thread) = serve(vec![refused(), login_reply("new", "r2"), refusal]);
    let mut setup = setup(&server, Some("r1"), Fallback::default());
    let mut store = store_with_a_decision();
    let mut random = Random::Seeded(1);
    let run = sync(
        &mut store,
        &mut setup.transport,
        options(0),
        || 2_000,
        &mut random,
        |_| {},
    );
    let report = run.await.unwrap();
    let asked = thread.join().unwrap();
    assert!(
        asked[0].contains("authorization: Bearer old"),
        "{}",
        asked[0]
    );
    assert!(
        asked[2].contains("authorization: Bearer new"),
        "{}",
        asked[2]
    );
    // The same bytes went out both times.
    let body = |request: &String| request.rsplit("\r\n").next().map(str::to_owned);
    assert_eq!(body(&asked[0]), body(&asked[2]));
    assert_eq!(report.rejected, 1);
    assert_eq!(
        report.problem.map(|problem| problem.code),
        Some(ErrorCode::PermissionDenied)
    );
}

#[tokio::test]
async fn a_run_without_an_answer_costs_no_attempt() {
    let mut setup = setup("http://127.0.0.1:1", Some("r1"), Fallback::default());
    let mut store = store_with_a_decision();
    let mut random = Random::Seeded(1);
    let run = sync(
        &mut store,
        &mut setup.transport,
        options(0),
        || 2_000,
        &mut random,
        |_| {},
    );
    let report = run.await.unwrap();
    assert!(
        report.offline && report.offline_reason.is_some(),
        "{report:?}"
    );
    let file = coditect_protocol::catalogue::File::Org;
    let entries = store.queue_entries(file, false, 10).unwrap();
    assert_eq!((entries.len(), entries[0].attempts), (1, 0));
}
