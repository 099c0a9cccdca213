//! Against a real socket on this machine: one thread answers what the test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use coditect_protocol::{ErrorCode, Problem};
use serde_json::{Value, json};

use super::*;

/// What the server saw of one request.
struct Seen {
    head: String,
    body: Vec<u8>,
}

/// Answers one request and returns it.
fn answer(reply: Vec<u8>) -> (String, JoinHandle<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line == "\r\n" {
                break;
            }
            let line = line.to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(&reply).unwrap();
        Seen { head, body }
    });
    (address, thread)
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

async fn post(reply: Vec<u8>, body: &[u8]) -> (Result<Value, Failure>, Seen, Traffic) {
    let (address, thread) = answer(reply);
    let http = Http::new(&HttpOptions::new(address)).unwrap();
    let result = http
        .post("/api/v1/sync/push", body, Some("the-token"))
        .await;
    (result, thread.join().unwrap(), http.traffic())
}

async fn fail(status: &str, headers: &str, body: &[u8]) -> Failure {
    let headers = format!("content-type: application/problem+json\r\n{headers}");
    let (result, ..) = post(reply(status, &headers, body), b"{}").await;
    result.unwrap_err()
}

fn problem(code: ErrorCode, extra: &[(&str, Value)]) -> Vec<u8> {
    let mut problem = Problem::new(code, "because");
    for (name, value) in extra {
        problem.extra.insert((*name).to_owned(), value.clone());
    }
    serde_json::to_vec(&problem).unwrap()
}

const JSON: &str = "content-type: application/json\r\n";

#[tokio::test]
async fn a_small_body_travels_as_it_is() {
    let (result, seen, traffic) = post(reply("200 OK", JSON, b"{\"a\":1}"), b"{\"b\":2}").await;
    assert_eq!(result.unwrap(), json!({"a": 1}));
    assert_eq!(seen.body, b"{\"b\":2}");
    assert!(seen.head.starts_with("post /api/v1/sync/push http/1.1"));
    assert!(seen.head.contains("authorization: bearer the-token\r\n"));
    assert!(!seen.head.contains("content-encoding"));
    assert_eq!((traffic.sent, traffic.received), (7, 7));
}

#[tokio::test]
async fn large_bodies_are_compressed_both_ways_and_counted_compressed() {
    let body = serde_json::to_vec(&json!({"text": "words ".repeat(1000)})).unwrap();
    let compressed = zstd::bulk::compress(&body, 3).unwrap();
    let headers = format!("{JSON}content-encoding: zstd\r\n");
    let (result, seen, traffic) = post(reply("200 OK", &headers, &compressed), &body).await;
    assert_eq!(result.unwrap()["text"].as_str().unwrap().len(), 6000);
    assert!(seen.head.contains("content-encoding: zstd\r\n"));
    assert!(seen.head.contains("accept-encoding: zstd\r\n"));
    assert_eq!(zstd::bulk::decompress(&seen.body, 10_000).unwrap(), body);
    assert_eq!(traffic.sent, seen.body.len() as u64);
    assert_eq!(traffic.received, compressed.len() as u64);
    assert!(traffic.sent < 1000);
}

#[tokio::test]
async fn refusals_that_the_engine_acts_on_carry_their_fields() {
    let epoch = problem(
        ErrorCode::EpochChanged,
        &[("epoch", json!("00000000000000ab"))],
    );
    let failure = fail("409 Conflict", "", &epoch).await;
    assert_eq!(
        failure,
        Failure::EpochChanged(coditect_protocol::Epoch(0xab))
    );

    let device = uuid::Uuid::from_u128(9);
    let fenced = problem(ErrorCode::FileFenced, &[("device_id", json!(device))]);
    let failure = fail("409 Conflict", "", &fenced).await;
    assert_eq!(failure, Failure::Fenced(DeviceId::new(device)));

    let cursor = problem(ErrorCode::InvalidCursor, &[]);
    assert!(matches!(
        fail("409 Conflict", "", &cursor).await,
        Failure::InvalidCursor(_)
    ));
    let fenced_without_field = problem(ErrorCode::FileFenced, &[]);
    let failure = fail("409 Conflict", "", &fenced_without_field).await;
    assert!(matches!(failure, Failure::Refused(_)));
}

#[tokio::test]
async fn statuses_decide_when_there_is_no_problem_document() {
    assert!(matches!(
        fail("401 Unauthorized", "", b"").await,
        Failure::Unauthenticated(_)
    ));
    assert!(matches!(
        fail("404 Not Found", "", b"<html>").await,
        Failure::Refused(_)
    ));
    for status in [
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "504 Gateway Timeout",
    ] {
        assert!(
            matches!(fail(status, "", b"").await, Failure::Offline(_)),
            "{status}"
        );
    }
    let limited = fail("429 Too Many Requests", "retry-after: 17\r\n", b"").await;
    assert!(matches!(limited, Failure::RateLimited(17, _)));
    let mismatch = problem(ErrorCode::HashMismatch, &[]);
    let refused = fail("422 Unprocessable Content", "", &mismatch).await;
    assert_eq!(describe(&refused), "because (SYNC_002)");
}

#[tokio::test]
async fn a_page_of_a_portal_is_not_taken_for_a_reply() {
    let (result, ..) = post(
        reply("200 OK", "content-type: text/html\r\n", b"<html>"),
        b"{}",
    )
    .await;
    assert!(matches!(result, Err(Failure::Offline(_))));
    let moved = fail("302 Found", "location: https://elsewhere.example\r\n", b"").await;
    assert!(describe(&moved).contains("https://elsewhere.example"));
}

#[tokio::test]
async fn no_server_and_a_cut_reply_are_offline() {
    let (address, thread) = answer(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_vec());
    let http = Http::new(&HttpOptions::new(&address)).unwrap();
    let cut: Result<Value, _> = http.post("/x", b"{}", None).await;
    assert!(matches!(cut, Err(Failure::Offline(_))));
    thread.join().unwrap();
    // The listener is gone with its thread.
    let refused: Result<Value, _> = http.post("/x", b"{}", None).await;
    let Err(Failure::Offline(reason)) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        reason.starts_with("no connection to the server"),
        "{reason}"
    );
}

#[test]
fn plain_http_stays_on_this_machine_unless_told() {
    let new = |server: &str, allow| {
        let mut options = HttpOptions::new(server);
        options.allow_plain_http = allow;
        Http::new(&options)
    };
    for server in [
        "http://localhost:1",
        "http://127.0.0.9",
        "http://[::1]:80",
        "https://a.b",
    ] {
        assert!(new(server, false).is_ok(), "{server}");
    }
    for server in ["http://10.0.0.1", "http://localhost.example.org"] {
        assert!(
            matches!(new(server, false), Err(HttpError::PlainHttp(_))),
            "{server}"
        );
        assert!(new(server, true).is_ok(), "{server}");
    }
}

#[test]
fn addresses_are_hosts_and_nothing_else() {
    for server in [
        "",
        "a.b",
        "ftp://a.b",
        "https://u:p@a.b",
        "https://a.b/path",
        "https://a.b?x",
    ] {
        let result = Http::new(&HttpOptions::new(server));
        assert!(matches!(result, Err(HttpError::Address { .. })), "{server}");
    }
    let http = Http::new(&HttpOptions::new("https://A.example:443/")).unwrap();
    assert_eq!(http.server(), "https://a.example");
}

#[test]
fn authorities_come_from_a_file_that_holds_some() {
    let folder = tempfile::tempdir().unwrap();
    let with = |text: Option<&str>| {
        let path = folder.path().join("authority.pem");
        match text {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => drop(std::fs::remove_file(&path)),
        }
        Http::new(&HttpOptions {
            ca_cert: Some(path),
            ..HttpOptions::new("https://10.0.0.5")
        })
    };
    let missing = with(None);
    assert!(matches!(missing, Err(HttpError::AuthorityFile { .. })));
    let empty = with(Some("no certificate"));
    assert!(matches!(empty, Err(HttpError::NoAuthority(_))));
}
