//! Rows that their table does not take: refused one by one, beside neighbours that are stored.

use coditect_core::hash;
use coditect_protocol::catalogue::by_cloud_name;
use coditect_protocol::limits::{PUSH_CHANGES_MAX, ROW_BYTES_MAX};
use coditect_protocol::wire::Op;
use coditect_protocol::wire::push::{Change, PushReply, Status};
use coditect_protocol::{ErrorCode, RowId};
use serde_json::{Value, json};

use super::{everything, start, stored};
use crate::support::{
    PUSH, bearer, decision, fresh_row, fresh_uuid, own_scope, push_decision, push_request, raw_post,
};

/// A change with columns as they stand, hashed as they stand.
fn with(mut change: Change, name: &str, value: Value) -> Change {
    let table = by_cloud_name(&change.table).unwrap();
    let row = change.row.as_mut().unwrap();
    row.insert(name.to_owned(), value);
    change.hash = hash::content(table, row).to_string();
    change
}

fn good() -> Change {
    decision(fresh_row(), "t", 0)
}

fn changed(edit: &dyn Fn(&mut Change)) -> Change {
    let mut change = good();
    edit(&mut change);
    change
}

/// Changes whose table, hash or id is wrong.
fn misplaced() -> Vec<(&'static str, ErrorCode, Change)> {
    let node = || {
        let mut change = good();
        change.table = "org_kg_nodes".to_owned();
        change.row.as_mut().unwrap().clear();
        with(
            with(change, "node_type", json!("file")),
            "node_key",
            json!("k"),
        )
    };
    use ErrorCode::{HashMismatch, KeyMismatch, UnknownTable};
    vec![
        (
            "unknown table",
            UnknownTable,
            changed(&|it| it.table = "pg_class".to_owned()),
        ),
        (
            "table of another file",
            UnknownTable,
            changed(&|it| it.table = "context_messages".into()),
        ),
        (
            "table of the platform",
            UnknownTable,
            changed(&|it| it.table = "platform_triggers".into()),
        ),
        (
            "wrong hash",
            HashMismatch,
            changed(&|it| it.hash = "0".repeat(64)),
        ),
        (
            "no hash",
            HashMismatch,
            changed(&|it| it.hash = "sha256".to_owned()),
        ),
        (
            "edited after hashing",
            HashMismatch,
            changed(&|it| {
                it.row
                    .as_mut()
                    .unwrap()
                    .insert("title".to_owned(), json!("other"));
            }),
        ),
        ("wrong id", KeyMismatch, node()),
    ]
}

/// Changes whose row does not fit its table.
fn malformed() -> Vec<(&'static str, ErrorCode, Change)> {
    use ErrorCode::{MalformedRow, RowTooLarge};
    let large = "x".repeat(ROW_BYTES_MAX);
    vec![
        (
            "no title",
            MalformedRow,
            changed(&|it| it.row.as_mut().unwrap().clear()),
        ),
        (
            "unknown column",
            MalformedRow,
            with(good(), "tenant_id", json!("x")),
        ),
        ("null", MalformedRow, with(good(), "rationale", Value::Null)),
        (
            "text for a number",
            MalformedRow,
            with(good(), "confidence", json!("high")),
        ),
        (
            "an upsert without a row",
            MalformedRow,
            changed(&|it| it.row = None),
        ),
        (
            "a delete with a row",
            MalformedRow,
            changed(&|it| it.op = Op::Delete),
        ),
        (
            "a time that is none",
            MalformedRow,
            changed(&|it| it.updated_at = "now".to_owned()),
        ),
        (
            "a time with an offset",
            MalformedRow,
            changed(&|it| {
                it.created_at = "2026-01-01T00:00:00.000000+01:00".to_owned();
            }),
        ),
        (
            "too large",
            RowTooLarge,
            with(good(), "rationale", json!(large)),
        ),
    ]
}

#[tokio::test]
async fn each_bad_row_has_its_code_and_is_not_stored() {
    let (app, ann) = start().await;
    let mut token = push_decision(&app, &ann, "there before").await.token;
    let before = stored(&app).await;
    for (name, code, change) in misplaced().into_iter().chain(malformed()) {
        let request = push_request(ann.device_id, own_scope(&ann), Some(&token), vec![change]);
        // Packed, so that the largest row gets to where rows are looked at.
        let packed = serde_json::to_vec(&request).unwrap();
        let packed = zstd::encode_all(&packed[..], 3).unwrap();
        let mut request = raw_post(PUSH, "application/json", packed);
        let encoding = "zstd".parse().unwrap();
        request.headers_mut().insert("content-encoding", encoding);
        let reply: PushReply = app.send(bearer(request, &ann.access_token)).await.ok();
        let outcome = &reply.outcomes[0];
        assert_eq!(
            (outcome.status, outcome.code),
            (Status::Rejected, Some(code)),
            "{name}"
        );
        let reason = outcome.reason.as_deref().unwrap();
        assert!(!reason.is_empty() && reason.len() < 200, "{name}: {reason}");
        token = reply.token;
        assert_eq!(stored(&app).await, before, "{name}");
    }
}

#[tokio::test]
async fn neighbours_of_bad_rows_are_stored() {
    let (app, ann) = start().await;
    let mut changes = Vec::new();
    for (_, _, change) in misplaced()
        .into_iter()
        .chain(malformed())
        .filter(|(_, code, _)| *code != ErrorCode::RowTooLarge)
    {
        changes.push(change);
        changes.push(decision(fresh_row(), "good", 0));
    }
    let request = push_request(ann.device_id, own_scope(&ann), None, changes);
    let reply: PushReply = app.post_as(&ann, PUSH, &request).await.ok();
    for pair in reply.outcomes.chunks(2) {
        assert_eq!(
            (pair[0].status, pair[1].status),
            (Status::Rejected, Status::Applied)
        );
    }
}

#[tokio::test]
async fn too_many_changes_are_refused_as_a_whole() {
    let (app, ann) = start().await;
    let before = everything(&app).await;
    let change = |_| decision(RowId::new(fresh_uuid()), "x", 0);
    let changes = (0..=PUSH_CHANGES_MAX).map(change).collect();
    let request = push_request(ann.device_id, own_scope(&ann), None, changes);
    app.post_as(&ann, PUSH, &request)
        .await
        .problem(ErrorCode::BadRequest);
    let messages = vec![json!({ "content": "a" }); PUSH_CHANGES_MAX + 1];
    let reply = app
        .post_as(
            &ann,
            crate::context::CONTEXT_PUSH,
            &json!({ "messages": messages }),
        )
        .await;
    reply.problem(ErrorCode::BadRequest);
    // Registering the web device waits until there is something to store.
    assert_eq!(everything(&app).await, before);
}

/// What a database cannot hold as it stands comes back as it was, and is no error.
#[tokio::test]
async fn nul_characters_and_columns_named_twice_are_no_harm() {
    let (app, ann) = start().await;
    let change = with(
        decision(fresh_row(), "a\0b", 0),
        "rationale",
        json!("\0\u{F8FF}N"),
    );
    let id = change.id;
    let request = push_request(ann.device_id, own_scope(&ann), None, vec![change]);
    // Of a column that is named twice the last one counts, and the hash is checked against it.
    let body = serde_json::to_string(&request).unwrap();
    let twice = body.replacen("\"title\":", "\"title\":\"first\",\"title\":", 1);
    assert_ne!(body, twice);
    let reply: PushReply = super::send(&app, &ann, PUSH, &twice).await.ok();
    assert_eq!(reply.outcomes[0].status, Status::Applied, "{reply:?}");
    let pull = crate::support::pull_request(ann.device_id, own_scope(&ann));
    let reply: Value = app.post_as(&ann, crate::support::PULL, &pull).await.ok();
    let row = &reply["pages"][0]["changes"][0];
    assert_eq!(row["id"], json!(id));
    assert_eq!(row["row"]["title"], "a\0b");
    assert_eq!(row["row"]["rationale"], "\0\u{F8FF}N");
}
