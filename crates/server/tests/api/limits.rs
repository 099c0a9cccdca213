//! Bodies, time and number of requests are bounded.

use std::io::Write as _;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, header};
use coditect_protocol::{ErrorCode, limits};
use coditect_server::config::HttpConfig;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use serde_json::json;

use crate::support::{PULL, PUSH, TestApp, bearer, get, http, raw_post};

const LICENSE: &str = "/api/v1/auth/license/";

fn packed(path: &str, encoding: &str, body: Vec<u8>) -> Request<Body> {
    let mut request = raw_post(path, "application/json", body);
    request
        .headers_mut()
        .insert(header::CONTENT_ENCODING, encoding.parse().unwrap());
    request
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn compression_bomb_is_stopped_at_the_limit() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let spaces = vec![b' '; limits::BODY_BYTES_MAX + 1];
    let bombs = [
        ("zstd", zstd::encode_all(&spaces[..], 3).unwrap()),
        ("gzip", gzip(&spaces)),
    ];
    for (encoding, bomb) in bombs {
        assert!(bomb.len() < 64 * 1024, "{} bytes", bomb.len());
        for path in [PUSH, PULL, LICENSE] {
            let request = bearer(packed(path, encoding, bomb.clone()), &ann.access_token);
            app.send(request).await.problem(ErrorCode::BodyTooLarge);
        }
    }
    // One byte less is unpacked, and then is no JSON.
    let spaces = &spaces[1..];
    let request = packed(PUSH, "zstd", zstd::encode_all(spaces, 3).unwrap());
    let reply = app.send(bearer(request, &ann.access_token)).await;
    reply.problem(ErrorCode::BadRequest);
}

#[tokio::test]
async fn large_plain_bodies_are_refused() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let key = "x".repeat(16 * 1024);
    let reply = app.post(LICENSE, &json!({ "license_key": key })).await;
    let problem = reply.problem(ErrorCode::BodyTooLarge);
    assert_eq!(
        problem.detail.as_deref(),
        Some("the body is larger than 16384 bytes")
    );
    let large = vec![b' '; limits::BODY_COMPRESSED_BYTES_MAX + 1];
    let request = bearer(raw_post(PUSH, "application/json", large), &ann.access_token);
    app.send(request).await.problem(ErrorCode::BodyTooLarge);
}

#[tokio::test]
async fn unauthenticated_body_is_not_even_read() {
    let app = TestApp::start().await;
    let endless = stream::repeat(Ok::<_, std::fmt::Error>(Bytes::from_static(b" ")));
    let request = Request::post(PUSH)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from_stream(endless))
        .unwrap();
    app.send(request).await.problem(ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn body_that_never_ends_is_cut_off() {
    let app = TestApp::start_with(HttpConfig {
        request_timeout: Duration::from_millis(50),
        ..http()
    })
    .await;
    let silent = stream::pending::<Result<Bytes, std::io::Error>>();
    let request = Request::post(LICENSE)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from_stream(silent))
        .unwrap();
    let reply = app.send(request).await;
    reply.problem(ErrorCode::Unavailable);
    assert_eq!(reply.headers[header::RETRY_AFTER], "1");
}

#[tokio::test]
async fn broken_body_is_a_bad_request() {
    let app = TestApp::start().await;
    let broken = stream::iter([
        Ok(Bytes::from_static(b"{")),
        Err(std::io::Error::other("cut")),
    ]);
    let request = Request::post(LICENSE)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from_stream(broken))
        .unwrap();
    app.send(request).await.problem(ErrorCode::BadRequest);
}

#[tokio::test]
async fn requests_wait_for_a_free_place() {
    let app = TestApp::start_with(HttpConfig {
        requests_max: 1,
        ..http()
    })
    .await;
    assert!(
        app.get("/health/live").now_or_never().is_some(),
        "free: answered at once"
    );
    // The first request holds the only place until its body comes.
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let body = stream::once(async {
        receiver.await.unwrap();
        Ok::<_, std::io::Error>(Bytes::from_static(b"{\"license_key\":\"x\"}"))
    });
    let request = Request::post(LICENSE)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from_stream(body.boxed()))
        .unwrap();
    let mut first = Box::pin(app.send(request));
    assert!(first.as_mut().now_or_never().is_none());
    let mut second = Box::pin(app.send(get("/health/live")));
    assert!(second.as_mut().now_or_never().is_none(), "no place free");
    sender.send(()).unwrap();
    first.await.problem(ErrorCode::Unauthenticated);
    assert_eq!(second.await.status, 200);
}

#[tokio::test]
async fn damaged_packing_is_a_bad_request() {
    let app = TestApp::start().await;
    for encoding in ["zstd", "gzip"] {
        let request = packed(LICENSE, encoding, b"{\"license_key\":\"x\"}".to_vec());
        app.send(request).await.problem(ErrorCode::BadRequest);
    }
    let body = serde_json::to_vec(&json!({ "license_key": "x" })).unwrap();
    let whole = packed(LICENSE, "gzip", gzip(&body));
    app.send(whole).await.problem(ErrorCode::Unauthenticated);
}
