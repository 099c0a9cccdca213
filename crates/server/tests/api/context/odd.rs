//! Odd input to the views: it is stored as it came, or refused with a documented status.

use std::collections::BTreeSet;

use axum::http::Request;
use coditect_server::openapi;
use serde_json::{Value, json};

use super::{CONTEXT_PULL, CONTEXT_PUSH, STATUS, TASKS, start};
use crate::support::{bearer, get, raw_post};

/// Returns the statuses that the document has for a route.
fn documented(path: &str, method: &str) -> BTreeSet<u16> {
    let document = openapi::document();
    let responses = document["paths"][path][method]["responses"].as_object();
    let statuses = responses.unwrap().keys();
    statuses.map(|status| status.parse().unwrap()).collect()
}

fn bodies() -> Vec<(&'static str, String)> {
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let odd = "\u{0}\u{f8ff}N\u{f8ff}\u{10ffff}\u{202e}'; drop table x; --";
    let huge = "x".repeat(17 * 1024 * 1024);
    let texts = [
        json!({ "content": odd, "type": odd, "role": odd,
            "metadata": { odd: odd, "source": odd, "source_id": odd, "agent": odd } }),
        json!({ "content": "", "metadata": { "source": "" } }),
        json!({ "type": "" }),
        json!({ "content": "a", "metadata": { "timestamp": "0000-01-01T00:00:00Z" } }),
        json!({ "content": "b", "metadata": { "timestamp": "9999-12-31T23:59:60Z" } }),
        json!({ "content": "c", "metadata": { "timestamp": "-9999-01-01T00:00:00Z" } }),
        json!({ "content": "d", "metadata": { "timestamp": "+200000-01-01T00:00:00Z" } }),
        json!({ "content": "e", "metadata": { "n": u64::MAX, "m": i64::MIN, "x": 1e308 } }),
        json!({ "content": "f", "metadata": serde_json::from_str::<Value>(
            &format!("{{\"deep\":{deep}}}")).unwrap() }),
        json!({ "messages": [{ "content": "large" }, { "content": huge }] }),
        json!({ "content": huge }),
        json!({ "messages": null }),
        json!({ "messages": [null] }),
        json!(null),
        json!("text"),
        json!([[], [], []]),
    ];
    let tasks = [
        json!({ "task_id": odd, "session_id": odd, "description": odd, "project_id": odd }),
        json!({ "task_id": "x".repeat(5_000), "status": "y".repeat(5_000) }),
        json!({ "task_id": "1", "outcome_score": -1e308, "started_at": "0000-01-01" }),
        json!({ "task_id": "2", "description": huge }),
        json!({ "task_id": "3", "tool_success_count": 9_007_199_254_740_992_i64 }),
        json!({ "task_id": null }),
    ];
    let texts = texts.iter().map(|body| (CONTEXT_PUSH, body.to_string()));
    let tasks = tasks.iter().map(|body| (TASKS, body.to_string()));
    let raw = [
        "",
        "{",
        "{\"content\":\"\\ud800\"}",
        "{\"content\":1e999}",
        "\u{feff}{}",
    ];
    let raw = raw.map(|body| (CONTEXT_PUSH, body.to_owned()));
    texts.chain(tasks).chain(raw).collect()
}

#[tokio::test]
async fn odd_bodies_get_a_documented_answer() {
    let (app, ann) = start().await;
    let mut stored = 0;
    for (path, body) in bodies() {
        let head: String = body.chars().take(80).collect();
        let request = raw_post(path, "application/json", body.into_bytes());
        let reply = app.send(bearer(request, &ann.access_token)).await;
        let known = documented(path, "post");
        assert!(
            known.contains(&reply.status),
            "{path} {head}: {}",
            reply.text()
        );
        assert!(reply.status < 500, "{path} {head}: {}", reply.text());
        stored += u32::from(reply.status < 300);
    }
    assert_eq!(stored, 10);
    // All that was stored reads back, and as it was.
    let page: Value = app.get_as(&ann, CONTEXT_PULL).await.ok();
    let messages = page["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 5);
    let odd = messages[0]["content"].as_str().unwrap();
    assert!(
        odd.starts_with("\u{0}\u{f8ff}N\u{f8ff}\u{10ffff}"),
        "{odd:?}"
    );
    assert_eq!(messages[0]["metadata"]["source"], odd);
    let page: Value = app.get_as(&ann, TASKS).await.ok();
    assert_eq!(page["tasks"][0]["session_id"], odd);
    let status: Value = app.get_as(&ann, STATUS).await.ok();
    assert_eq!(status["messages"], messages.len());
}

/// What is too large for a row is named, and its neighbour stored.
#[tokio::test]
async fn a_message_that_is_too_large_does_not_stop_its_neighbour() {
    let (app, ann) = start().await;
    let huge = "x".repeat(17 * 1024 * 1024);
    let body = json!({ "messages": [{ "content": "small" }, { "content": huge }] });
    let packed = zstd::encode_all(&serde_json::to_vec(&body).unwrap()[..], 1).unwrap();
    let mut request = raw_post(CONTEXT_PUSH, "application/json", packed);
    let encoding = "zstd".parse().unwrap();
    request.headers_mut().insert("content-encoding", encoding);
    let reply: Value = app.send(bearer(request, &ann.access_token)).await.ok();
    assert_eq!(
        (&reply["synced"], &reply["skipped"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(reply["rejected"][0]["index"], 1);
    assert_eq!(reply["rejected"][0]["code"], "row_too_large");
}

#[tokio::test]
async fn odd_queries_and_headers_get_a_documented_answer() {
    let (app, ann) = start().await;
    for query in [
        "cursor=",
        "cursor=1.5",
        "cursor=9223372036854775808",
        "limit=4294967296",
        "cursor=0&cursor=0",
        "status=%ff%fe",
        "status=%F0%9F%92%A9&task_id=%00",
        "session_id=",
        "%00=1",
        "&&&",
    ] {
        let reply = app.get_as(&ann, &format!("{TASKS}?{query}")).await;
        let known = documented(TASKS, "get");
        assert!(known.contains(&reply.status), "{query}: {}", reply.text());
        assert!(reply.status < 500, "{query}: {}", reply.text());
    }
    for device in [&b""[..], b"\xff", b"00000000-0000-0000-0000-000000000000"] {
        let (mut parts, body) = bearer(get(STATUS), &ann.access_token).into_parts();
        let value = axum::http::HeaderValue::from_bytes(device).unwrap();
        parts.headers.insert("x-device-id", value);
        let reply = app.send(Request::from_parts(parts, body)).await;
        assert!(
            matches!(reply.status, 400 | 403),
            "{device:?}: {}",
            reply.text()
        );
    }
}
