//! The seeds' routes: views on the caller's own stream.

mod odd;
mod page;
mod positions;
mod records;
mod tasks;

use axum::body::Body;
use axum::http::Request;
use chrono::TimeDelta;
use coditect_core::hash;
use coditect_protocol::catalogue::{File, by_cloud_name};
use coditect_protocol::wire::context::{
    ContextStatus, MessagePage, PushedMessage, PushedMessages, ViewStatus,
};
use coditect_protocol::wire::pull::PullReply;
use coditect_protocol::wire::push::{Change, CounterPart, PushReply, Status};
use coditect_protocol::{DeviceId, ErrorCode};
use coditect_testkit::TestUser;
use serde_json::{Value, json};

use crate::support::{
    PULL, PUSH, Reply, TestApp, bearer, decision, fresh_row, fresh_uuid, get, own_scope, post,
    pull_request, push_decision, push_request,
};

pub(crate) const CONTEXT_PUSH: &str = "/api/v1/context/push";
pub(crate) const CONTEXT_PULL: &str = "/api/v1/context/pull";
pub(crate) const STATUS: &str = "/api/v1/context/status";
pub(crate) const TASKS: &str = "/api/v1/context/tasks/";
pub(crate) const DECISIONS: &str = "/api/v1/context/decisions/";
pub(crate) const LEARNINGS: &str = "/api/v1/context/learnings/";

/// Names the device of a request.
pub(crate) fn of_device(mut request: Request<Body>, device: DeviceId) -> Request<Body> {
    let value = device.to_string().parse().unwrap();
    request.headers_mut().insert("x-device-id", value);
    request
}

async fn start() -> (TestApp, TestUser) {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    (app, ann)
}

fn message(source: &str, content: &str) -> Value {
    json!({ "type": "decision", "content": content,
        "metadata": { "source": source, "timestamp": "2025-12-30T10:00:00Z" } })
}

async fn push_all(app: &TestApp, user: &TestUser, messages: Vec<Value>) -> PushedMessages {
    let body = json!({ "messages": messages });
    app.post_as(user, CONTEXT_PUSH, &body).await.ok()
}

async fn pull(app: &TestApp, user: &TestUser, query: &str) -> MessagePage {
    app.get_as(user, &format!("{CONTEXT_PULL}?{query}"))
        .await
        .ok()
}

fn contents(page: &MessagePage) -> Vec<&str> {
    let messages = page.messages.iter();
    messages.map(|message| message.content.as_str()).collect()
}

#[tokio::test]
async fn messages_are_stored_once_and_come_down_to_devices() {
    let (app, ann) = start().await;
    let batch = || {
        vec![
            message("s", "one"),
            message("s", "two"),
            message("s", "one"),
        ]
    };
    let first = push_all(&app, &ann, batch()).await;
    assert_eq!((first.synced, first.skipped), (2, 1));
    assert_eq!(first.timestamp, "2026-01-01T00:00:00.000000Z");
    let again = push_all(&app, &ann, batch()).await;
    assert_eq!((again.synced, again.skipped), (0, 3));
    assert_eq!(again.cursor, first.cursor);
    assert_eq!(again.rejected, []);

    let mut request = pull_request(ann.device_id, own_scope(&ann));
    request.positions[0].file = File::Sessions;
    let pulled: PullReply = app.post_as(&ann, PULL, &request).await.ok();
    let page = &pulled.pages[0];
    assert_eq!(page.changes.len(), 2);
    assert_eq!(page.cursor.n, first.cursor);
    let row = page.changes[0].row.as_ref().unwrap();
    assert_eq!(
        (&row["content"], &row["session_id"]),
        (&json!("one"), &json!("s"))
    );
    // The digest that the device compares counts them.
    assert_eq!(page.digests.as_ref().unwrap()[0].rows, 2);
}

#[tokio::test]
async fn a_single_message_is_created_or_a_duplicate() {
    let (app, ann) = start().await;
    let one = message("s", "one");
    let first: PushedMessage = app.post_as(&ann, CONTEXT_PUSH, &one).await.ok();
    assert_eq!(first.status, ViewStatus::Created);
    let again: PushedMessage = app.post_as(&ann, CONTEXT_PUSH, &one).await.ok();
    assert_eq!((again.status, again.id), (ViewStatus::Duplicate, first.id));
    // The same text in another session is another message.
    let other: PushedMessage = app
        .post_as(&ann, CONTEXT_PUSH, &message("t", "one"))
        .await
        .ok();
    assert_eq!(other.status, ViewStatus::Created);
    assert_ne!(other.id, first.id);
    for body in [
        json!({}),
        json!({"metadata": {}}),
        json!({"messages": [{}]}),
    ] {
        let reply = app.post_as(&ann, CONTEXT_PUSH, &body).await;
        reply.problem(ErrorCode::BadRequest);
    }
}

#[tokio::test]
async fn pages_follow_the_position_of_the_own_stream() {
    let (app, ann) = start().await;
    let empty = pull(&app, &ann, "").await;
    assert_eq!((empty.cursor, empty.has_more), (0, false));
    // A number of the stream that is no message's.
    push_decision(&app, &ann, "a decision").await;
    let messages = ["a", "b", "c"].map(|content| message("s", content));
    let pushed = push_all(&app, &ann, messages.to_vec()).await;
    let first = pull(&app, &ann, "cursor=0&limit=2").await;
    assert_eq!((contents(&first), first.has_more), (vec!["a", "b"], true));
    let rest = format!("cursor={}&limit=2&epoch={}", first.cursor, first.epoch);
    let rest = pull(&app, &ann, &rest).await;
    assert_eq!((contents(&rest), rest.has_more), (vec!["c"], false));
    assert_eq!(rest.cursor, pushed.cursor);
    let none = pull(&app, &ann, &format!("cursor={}", rest.cursor)).await;
    assert_eq!((none.messages.len(), none.cursor), (0, rest.cursor));

    for query in [
        format!("cursor={}", pushed.cursor + 1),
        "cursor=-1".to_owned(),
        format!("cursor={}", i64::MAX),
        "epoch=0000000000000000".to_owned(),
    ] {
        for path in [CONTEXT_PULL, TASKS, DECISIONS, LEARNINGS] {
            let reply = app.get_as(&ann, &format!("{path}?{query}")).await;
            assert_eq!(
                reply.problem(ErrorCode::InvalidCursor).code.as_str(),
                "SYNC_001"
            );
        }
    }
    for query in ["cursor=x", "limit=-1", "epoch=1", "curser=1"] {
        let reply = app.get_as(&ann, &format!("{CONTEXT_PULL}?{query}")).await;
        reply.problem(ErrorCode::BadRequest);
    }
}

#[tokio::test]
async fn a_page_has_a_hundred_rows_unless_asked_and_a_thousand_at_most() {
    let (app, ann) = start().await;
    let many = |from: usize, to: usize| {
        let numbers = from..to;
        numbers
            .map(|n| message("s", &format!("number {n}")))
            .collect()
    };
    let pushed = push_all(&app, &ann, many(0, 1_000)).await;
    assert_eq!(pushed.synced, 1_000);
    push_all(&app, &ann, many(1_000, 1_005)).await;
    for (query, rows) in [("", 100), ("limit=0", 1), ("limit=5000", 1_000)] {
        let page = pull(&app, &ann, query).await;
        assert_eq!(
            (page.messages.len(), page.has_more),
            (rows, true),
            "{query}"
        );
    }
    let too_many = json!({ "messages": many(0, 1_001) });
    let reply = app.post_as(&ann, CONTEXT_PUSH, &too_many).await;
    reply.problem(ErrorCode::BadRequest);
}

#[tokio::test]
async fn secrets_do_not_reach_the_database() {
    let (app, ann) = start().await;
    let key = format!("{}{}", "ghp_", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    let mut body = message("s", &format!("my token is {key}"));
    body["metadata"]["note"] = json!(key);
    app.post_as(&ann, CONTEXT_PUSH, &body)
        .await
        .ok::<PushedMessage>();
    let event = json!({ "task_id": "A.1", "description": key });
    assert_eq!(app.post_as(&ann, TASKS, &event).await.status, 201);
    let client = app.db.superuser_client().await;
    for table in ["context_messages", "context_task_tracking"] {
        let sql = format!("select count(*), string_agg(t::text, ' ') from {table} t");
        let row = client.query_typed_one(&sql, &[]).await.unwrap();
        let text: String = row.get(1);
        assert_eq!(row.get::<_, i64>(0), 1);
        assert!(
            !text.contains(&key) && text.contains("[REDACTED:"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn the_web_device_is_registered_on_first_use_and_named_devices_are_the_callers() {
    let (app, ann) = start().await;
    let status: ContextStatus = app.get_as(&ann, STATUS).await.ok();
    let web = status.device_id;
    assert_ne!(web, ann.device_id);
    assert_eq!(status.devices.len(), 2);
    let again: ContextStatus = app.get_as(&ann, STATUS).await.ok();
    assert_eq!((again.device_id, again.devices.len()), (web, 2));
    let origin = |reply: PullReply| reply.pages[0].changes[0].origin;
    let mut request = pull_request(ann.device_id, own_scope(&ann));
    request.positions[0].file = File::Sessions;
    push_all(&app, &ann, vec![message("s", "by the web device")]).await;
    assert_eq!(origin(app.post_as(&ann, PULL, &request).await.ok()), web);

    let send = async |device: DeviceId| {
        let body = post(CONTEXT_PUSH, &message("s", "by a named device"));
        let request = bearer(of_device(body, device), &ann.access_token);
        app.send(request).await
    };
    assert_eq!(send(ann.device_id).await.status, 200);
    let tenant = app.db.with_tenant("beta").await;
    let eve = app.db.with_user(&tenant, "eve@beta.example").await;
    for device in [eve.device_id, DeviceId::new(fresh_uuid())] {
        send(device).await.problem(ErrorCode::DeviceUnknown);
    }
    let mut odd = bearer(get(CONTEXT_PULL), &ann.access_token);
    let value = "device-uuid-123".parse().unwrap();
    odd.headers_mut().insert("x-device-id", value);
    app.send(odd).await.problem(ErrorCode::BadRequest);

    // A web device that was locked out is not registered again.
    let client = app.db.superuser_client().await;
    let sql = format!("update devices set revoked_at = now() where id = '{web}'");
    client.execute_typed(&sql, &[]).await.unwrap();
    let reply = app.get_as(&ann, CONTEXT_PULL).await;
    reply.problem(ErrorCode::DeviceUnknown);
    assert_eq!(send(ann.device_id).await.status, 200);
}

/// A revoked login registers no web device to go on with.
#[tokio::test]
async fn a_revoked_device_gets_no_web_device() {
    let (app, ann) = start().await;
    let client = app.db.superuser_client().await;
    client
        .execute_typed("update devices set revoked_at = now()", &[])
        .await
        .unwrap();
    for path in [STATUS, CONTEXT_PULL, TASKS] {
        app.get_as(&ann, path)
            .await
            .problem(ErrorCode::DeviceUnknown);
    }
    let row = client.query_typed_one("select count(*) from devices", &[]);
    assert_eq!(row.await.unwrap().get::<_, i64>(0), 1);
}

/// Writing through a view neither turns nor replaces the tokens of a device's files.
#[tokio::test]
async fn file_tokens_guard_pushes_as_before() {
    let (app, ann) = start().await;
    let write = async |content: &str| {
        let body = post(CONTEXT_PUSH, &message("s", content));
        let request = bearer(of_device(body, ann.device_id), &ann.access_token);
        app.send(request).await.ok::<PushedMessage>()
    };
    write("before").await;
    let file = async |token: Option<&str>| {
        let change = decision(fresh_row(), "of a file", 0);
        let request = push_request(ann.device_id, own_scope(&ann), token, vec![change]);
        app.post_as(&ann, PUSH, &request).await
    };
    let first: PushReply = file(None).await.ok();
    write("between").await;
    let second: PushReply = file(Some(&first.token)).await.ok();
    assert_eq!(second.outcomes[0].status, Status::Applied);
    write("after").await;
    file(None).await.problem(ErrorCode::FileFenced);
    file(Some(&first.token))
        .await
        .problem(ErrorCode::FileFenced);
    file(Some("A")).await.problem(ErrorCode::FileFenced);
    let client = app.db.superuser_client().await;
    let row = client.query_typed_one("select count(*) from device_tokens", &[]);
    assert_eq!(row.await.unwrap().get::<_, i64>(0), 1);
}

fn learning(text: &str, used: i64) -> Change {
    let table = by_cloud_name("org_skill_learnings").unwrap();
    let mut change = decision(fresh_row(), "", 0);
    let row = json!({ "skill_name": "rust", "learning": text, "usage_count": used });
    let row = row.as_object().unwrap().clone();
    change.table = table.cloud.to_owned();
    change.hash = hash::content(table, &row).to_string();
    change.row = Some(row);
    let part = CounterPart {
        seq: 1,
        total: used,
    };
    change.counters.insert("usage_count".to_owned(), part);
    change
}

#[tokio::test]
async fn decisions_and_learnings_of_devices_are_listed() {
    let (app, ann) = start().await;
    let kept = decision(fresh_row(), "keep", 0);
    let changes = vec![
        kept.clone(),
        decision(fresh_row(), "other", 1),
        learning("borrow", 3),
    ];
    let request = push_request(ann.device_id, own_scope(&ann), None, changes);
    let pushed: PushReply = app.post_as(&ann, PUSH, &request).await.ok();
    assert_eq!(pushed.outcomes[2].status, Status::Applied);
    let page: Value = app.get_as(&ann, &format!("{DECISIONS}?limit=1")).await.ok();
    assert_eq!(page["decisions"][0]["title"], "keep");
    assert_eq!(page["decisions"][0]["id"], json!(kept.id));
    assert_eq!(page["decisions"][0]["decision_id"], Value::Null);
    assert_eq!(page["has_more"], true);
    let path = format!("{DECISIONS}?cursor={}", page["cursor"]);
    let page: Value = app.get_as(&ann, &path).await.ok();
    assert_eq!(page["decisions"].as_array().unwrap().len(), 1);
    let page: Value = app.get_as(&ann, LEARNINGS).await.ok();
    assert_eq!(page["learnings"][0]["learning"], "borrow");
    assert_eq!(page["learnings"][0]["usage_count"], 3);

    let status: Value = app.get_as(&ann, STATUS).await.ok();
    for (name, expected) in [
        ("messages", 0),
        ("tasks", 0),
        ("decisions", 2),
        ("learnings", 1),
    ] {
        assert_eq!(status[name], expected, "{name}");
    }
    assert_eq!(status["cursor"], 3);
    assert_eq!(status["last_push_at"], "2026-01-01T00:00:00.000000Z");
    assert!(status["storage_bytes"].as_i64().unwrap() > 50);

    let mut gone = kept;
    gone.op = coditect_protocol::wire::Op::Delete;
    gone.row = None;
    gone.base = pushed.outcomes[0]
        .stored
        .as_ref()
        .map(|stored| stored.version);
    let request = push_request(
        ann.device_id,
        own_scope(&ann),
        Some(&pushed.token),
        vec![gone],
    );
    app.post_as(&ann, PUSH, &request).await.ok::<PushReply>();
    let page: Value = app.get_as(&ann, DECISIONS).await.ok();
    assert_eq!(page["decisions"].as_array().unwrap().len(), 1);
    assert_eq!(page["cursor"], 4);
}

/// Nobody else sees what is written through the views: not the colleague, not the other tenant.
#[tokio::test]
async fn views_show_the_callers_own_stream_only() {
    let app = TestApp::start().await;
    let (acme, beta) = (
        app.db.with_tenant("acme").await,
        app.db.with_tenant("beta").await,
    );
    let ann = app.db.with_user(&acme, "ann@acme.example").await;
    let colleague = app.db.with_user(&acme, "cat@acme.example").await;
    let eve = app.db.with_user(&beta, "eve@beta.example").await;
    app.db.clock().advance(TimeDelta::seconds(1));
    push_all(&app, &ann, vec![message("s", "secret-word")]).await;
    let event = json!({ "task_id": "A.1", "description": "secret-word" });
    assert_eq!(app.post_as(&ann, TASKS, &event).await.status, 201);
    push_decision(&app, &ann, "secret-word").await;
    let paths = [CONTEXT_PULL, STATUS, TASKS, DECISIONS, LEARNINGS];
    for other in [&colleague, &eve] {
        for path in paths {
            let reply: Reply = app.get_as(other, path).await;
            let body: Value = reply.ok();
            assert_eq!(body["cursor"], 0, "{path} {body}");
            assert!(!reply.text().contains("secret-word"), "{path}");
            assert!(!reply.text().contains(&ann.device_id.to_string()), "{path}");
        }
        // The same task and message of somebody else are new ones.
        assert_eq!(app.post_as(other, TASKS, &event).await.status, 201);
        let pushed = push_all(&app, other, vec![message("s", "secret-word")]).await;
        assert_eq!(pushed.synced, 1);
    }
    assert!(app.get_as(&ann, TASKS).await.text().contains("secret-word"));
}

#[tokio::test]
async fn views_are_served_with_and_without_a_slash() {
    let (app, ann) = start().await;
    for path in [CONTEXT_PULL, STATUS, TASKS, DECISIONS, LEARNINGS] {
        let bare = path.trim_end_matches('/');
        for path in [bare.to_owned(), format!("{bare}/")] {
            assert_eq!(app.get_as(&ann, &path).await.status, 200, "{path}");
        }
    }
    for (path, body) in [
        (CONTEXT_PUSH, message("s", "a")),
        (TASKS, json!({ "task_id": "1" })),
    ] {
        let bare = path.trim_end_matches('/');
        for path in [bare.to_owned(), format!("{bare}/")] {
            let reply = app.post_as(&ann, &path, &body).await;
            assert!(matches!(reply.status, 200 | 201), "{path} {}", reply.text());
        }
    }
}
