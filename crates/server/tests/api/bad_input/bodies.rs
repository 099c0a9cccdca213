//! Bodies that are no JSON, or not the JSON that a route takes.

use coditect_protocol::ErrorCode;
use coditect_protocol::limits::{BODY_BYTES_MAX, BODY_COMPRESSED_BYTES_MAX};
use serde_json::json;

use super::{everything, send, start};
use crate::context::{CONTEXT_PUSH, TASKS};
use crate::support::{PULL, PUSH, decision, fresh_row, own_scope, pull_request, push_request};

/// Routes that take a body.
const ROUTES: [&str; 5] = [PUSH, PULL, CONTEXT_PUSH, TASKS, "/api/v1/auth/license/"];

#[tokio::test]
async fn malformed_json_is_refused_by_every_route() {
    let (app, ann) = start().await;
    let before = everything(&app).await;
    let bodies = [
        "",
        " ",
        "{",
        "}",
        "[",
        "nul",
        "{\"a\":}",
        "{'a':1}",
        "{\"a\":1,}",
        "\u{feff}{}",
        "{}{}",
        "{\"api_version\":\"1.0\"",
        "\"\\ud800\"",
        "{\"content\":\"a\0b\"}",
        "01",
        "+1",
        "NaN",
    ];
    for path in ROUTES {
        for body in bodies {
            let reply = send(&app, &ann, path, body).await;
            let problem = reply.problem(ErrorCode::BadRequest);
            let detail = problem.detail.unwrap();
            assert!(
                detail.contains(" at line 1 column "),
                "{path} {body:?}: {detail}"
            );
        }
    }
    assert_eq!(everything(&app).await, before);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused() {
    let (app, ann) = start().await;
    let before = everything(&app).await;
    for bytes in [
        &b"\xff\xfe{\0}\0"[..],
        b"{\"content\":\"\xc3\x28\"}",
        b"\0",
        &[0; 64],
    ] {
        let request = crate::support::raw_post(CONTEXT_PUSH, "application/json", bytes.to_vec());
        let reply = app
            .send(crate::support::bearer(request, &ann.access_token))
            .await;
        reply.problem(ErrorCode::BadRequest);
    }
    assert_eq!(everything(&app).await, before);
}

#[tokio::test]
async fn deep_nesting_is_refused_and_does_not_exhaust_the_stack() {
    let (app, ann) = start().await;
    let before = everything(&app).await;
    for depth in [200, 10_000, 1_000_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{}0{}", open.repeat(depth), close.repeat(depth));
            send(&app, &ann, PULL, &deep)
                .await
                .problem(ErrorCode::BadRequest);
            let within = format!("{{\"content\":\"x\",\"metadata\":{{\"deep\":{deep}}}}}");
            let reply = send(&app, &ann, CONTEXT_PUSH, &within).await;
            reply.problem(ErrorCode::BadRequest);
        }
    }
    assert_eq!(everything(&app).await, before);
}

#[tokio::test]
async fn keys_that_come_twice_are_refused() {
    let (app, ann) = start().await;
    let before = everything(&app).await;
    let push = push_request(ann.device_id, own_scope(&ann), None, Vec::new());
    let push = serde_json::to_string(&push).unwrap();
    let pull = pull_request(ann.device_id, own_scope(&ann));
    let pull = serde_json::to_string(&pull).unwrap();
    for (path, body) in [
        (PUSH, push.replacen('{', "{\"api_version\":\"1.0\",", 1)),
        (PULL, pull.replacen('{', "{\"positions\":[],", 1)),
        (TASKS, "{\"task_id\":\"a\",\"task_id\":\"b\"}".to_owned()),
        (
            CONTEXT_PUSH,
            "{\"content\":\"a\",\"content\":\"b\"}".to_owned(),
        ),
    ] {
        let problem = send(&app, &ann, path, &body)
            .await
            .problem(ErrorCode::BadRequest);
        let detail = problem.detail.unwrap();
        assert!(detail.contains("duplicate field"), "{detail}");
    }
    assert_eq!(everything(&app).await, before);
}

#[tokio::test]
async fn numbers_beyond_every_type_are_refused() {
    let (app, ann) = start().await;
    let before = everything(&app).await;
    let push = push_request(ann.device_id, own_scope(&ann), None, Vec::new());
    let mut push = serde_json::to_value(push).unwrap();
    push["sent_at_ms"] = json!("HERE");
    let push = push.to_string();
    let digits = "9".repeat(400);
    for number in [
        "1e999",
        "-1e999",
        "9223372036854775808",
        "1.5",
        digits.as_str(),
    ] {
        let body = push.replace("\"HERE\"", number);
        send(&app, &ann, PUSH, &body)
            .await
            .problem(ErrorCode::BadRequest);
        let task = format!("{{\"task_id\":\"a\",\"tool_error_count\":{number}}}");
        send(&app, &ann, TASKS, &task)
            .await
            .problem(ErrorCode::BadRequest);
    }
    for range in [
        "cursor=9223372036854775808",
        "limit=-1",
        "limit=4294967296",
        "cursor=1e3",
    ] {
        let path = format!("{}?{range}", crate::context::CONTEXT_PULL);
        app.get_as(&ann, &path).await.problem(ErrorCode::BadRequest);
    }
    assert_eq!(everything(&app).await, before);
}

#[tokio::test]
async fn oversized_bodies_are_refused_as_they_come_and_unpacked() {
    let (app, ann) = start().await;
    let before = everything(&app).await;
    let large = " ".repeat(BODY_COMPRESSED_BYTES_MAX + 1);
    for path in [PUSH, PULL, CONTEXT_PUSH, TASKS] {
        send(&app, &ann, path, &large)
            .await
            .problem(ErrorCode::BodyTooLarge);
    }
    let packed = zstd::encode_all(&vec![b' '; BODY_BYTES_MAX + 1][..], 3).unwrap();
    let mut request = crate::support::raw_post(CONTEXT_PUSH, "application/json", packed);
    request
        .headers_mut()
        .insert("content-encoding", "zstd".parse().unwrap());
    let reply = app
        .send(crate::support::bearer(request, &ann.access_token))
        .await;
    reply.problem(ErrorCode::BodyTooLarge);
    assert_eq!(everything(&app).await, before);
}

#[tokio::test]
async fn fields_and_values_that_a_route_does_not_know_are_refused() {
    let (app, ann) = start().await;
    let before = everything(&app).await;
    let push = push_request(
        ann.device_id,
        own_scope(&ann),
        None,
        vec![decision(fresh_row(), "t", 0)],
    );
    let push = serde_json::to_value(push).unwrap();
    for (pointer, value) in [
        ("/device", json!("me")),
        ("/batch_id", json!(7)),
        ("/file", json!("secrets")),
        ("/scope", json!("user:me")),
        ("/changes", json!({})),
        ("/changes/0/op", json!("drop")),
        ("/changes/0/id", json!("1 or 1=1")),
        ("/changes/0/proposed", json!("99999999999999999999")),
        ("/changes/0/register", json!("yes")),
        ("/changes/0/row", json!([])),
    ] {
        let mut wrong = push.clone();
        *wrong.pointer_mut(pointer).unwrap() = value;
        let reply = send(&app, &ann, PUSH, &wrong.to_string()).await;
        reply.problem(ErrorCode::BadRequest);
    }
    assert_eq!(everything(&app).await, before);
}
