//! The versions of a record over HTTP, going back to one, and settling a conflict.

use coditect_protocol::wire::Op;
use coditect_protocol::wire::history::{RecordHistory, RecordReply};
use coditect_protocol::wire::push::{Change, PushReply, Status};
use coditect_protocol::{ErrorCode, RowId};
use coditect_testkit::TestUser;
use serde_json::{Value, json};

use crate::support::{
    CONFLICTS, PUSH, TestApp, bearer, decision, fresh_row, own_scope, post, push_request,
};

const HISTORY: &str = "/api/v1/sync/history";

async fn start() -> (TestApp, TestUser) {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    (app, ann)
}

/// Pushes one change from a fresh device of the user's.
async fn push(app: &TestApp, user: &TestUser, change: Change) -> PushReply {
    let device = app.db.log_in(&user.license_key, &Default::default()).await;
    let scope = own_scope(user);
    let request = push_request(device.caller.device_id(), scope, None, vec![change]);
    let sent = bearer(post(PUSH, &request), &device.access_token);
    app.send(sent).await.ok()
}

async fn history(app: &TestApp, user: &TestUser, id: RowId) -> RecordHistory {
    let path = format!("{HISTORY}?table=org_decisions&id={id}");
    app.get_as(user, &path).await.ok()
}

fn titles(history: &RecordHistory) -> Vec<(&str, Option<&str>)> {
    let versions = history.versions.iter();
    versions
        .map(|one| {
            let title = one.row.as_ref().and_then(|row| row["title"].as_str());
            (one.reason.as_str(), title)
        })
        .collect()
}

/// Two devices edit one row without knowing of each other; returns the open conflict's id.
async fn conflict(app: &TestApp, user: &TestUser, id: RowId) -> Value {
    push(app, user, decision(id, "one", 0)).await;
    let reply = push(app, user, decision(id, "two", 1)).await;
    assert_eq!(reply.outcomes[0].status, Status::Conflict);
    let open: Value = app.get_as(user, CONFLICTS).await.ok();
    assert_eq!(open["conflicts"].as_array().unwrap().len(), 1);
    open["conflicts"][0]["id"].clone()
}

async fn resolve(app: &TestApp, user: &TestUser, conflict: &Value, body: Value) -> RecordReply {
    let path = format!("{CONFLICTS}/{}/resolve", conflict.as_str().unwrap());
    let mut body = body;
    body["scope"] = json!(own_scope(user));
    app.post_as(user, &path, &body).await.ok()
}

async fn open_conflicts(app: &TestApp, user: &TestUser) -> usize {
    let open: Value = app.get_as(user, CONFLICTS).await.ok();
    open["conflicts"].as_array().unwrap().len()
}

#[tokio::test]
async fn every_version_is_kept_and_can_hold_again() {
    let (app, ann) = start().await;
    let id = fresh_row();
    let first = push(&app, &ann, decision(id, "first", 0)).await;
    let base = first.outcomes[0].stored.as_ref().unwrap().version;
    let second = Change {
        base: Some(base),
        ..decision(id, "second", 10)
    };
    let second = push(&app, &ann, second).await;
    let gone = Change {
        op: Op::Delete,
        row: None,
        base: Some(second.outcomes[0].stored.as_ref().unwrap().version),
        ..decision(id, "", 20)
    };
    push(&app, &ann, gone).await;
    let known = history(&app, &ann, id).await;
    assert_eq!(
        titles(&known),
        [
            ("stored", None),
            ("overwritten", Some("second")),
            ("overwritten", Some("first")),
        ]
    );
    assert!(
        known
            .versions
            .iter()
            .all(|one| one.user_id == Some(ann.user_id))
    );
    let devices: Vec<_> = known.versions.iter().map(|one| one.device).collect();
    assert!(devices[1] != devices[2] && devices[0] != devices[1]);

    let wanted = json!({ "scope": own_scope(&ann), "table": "org_decisions", "id": id,
        "version": base });
    let path = format!("{HISTORY}/restore");
    let reply: RecordReply = app.post_as(&ann, &path, &wanted).await.ok();
    assert_eq!(reply.stored.row.unwrap()["title"], "first");
    assert!(reply.stored.version > known.versions[0].version);
    let after = history(&app, &ann, id).await;
    assert_eq!(titles(&after)[0], ("stored", Some("first")));
    assert_eq!(after.versions.len(), 4);

    // The tombstone is a version like any other.
    let wanted = json!({ "scope": own_scope(&ann), "table": "org_decisions", "id": id,
        "version": known.versions[0].version });
    let reply: RecordReply = app.post_as(&ann, &path, &wanted).await.ok();
    assert_eq!((reply.stored.op, reply.stored.row), (Op::Delete, None));
}

#[tokio::test]
async fn a_conflict_is_settled_by_what_is_stored_lost_or_merged() {
    for (take, row, expected) in [
        ("stored", None, "stored"),
        ("lost", None, "lost"),
        ("merged", Some(json!({ "title": "both" })), "both"),
    ] {
        let (app, ann) = start().await;
        let id = fresh_row();
        let conflict = conflict(&app, &ann, id).await;
        let before = history(&app, &ann, id).await;
        let of = |reason: &str| {
            let all = titles(&before);
            let found = all.into_iter().find(|(known, _)| *known == reason);
            found.unwrap().1.unwrap().to_owned()
        };
        let expected = match expected {
            "stored" => of("stored"),
            "lost" => of("conflict"),
            text => text.to_owned(),
        };
        let mut body = json!({ "take": take });
        if let Some(row) = row {
            body["row"] = row;
        }
        let reply = resolve(&app, &ann, &conflict, body).await;
        assert_eq!(reply.stored.row.unwrap()["title"], expected, "{take}");
        assert_eq!(open_conflicts(&app, &ann).await, 0);
        assert_eq!(
            titles(&history(&app, &ann, id).await)[0].1,
            Some(expected.as_str())
        );
        // What was settled is settled once.
        let path = format!("{CONFLICTS}/{}/resolve", conflict.as_str().unwrap());
        let again = json!({ "scope": own_scope(&ann), "take": "lost" });
        let refused = app.post_as(&ann, &path, &again).await;
        refused.problem(ErrorCode::NotFound);
    }
}

#[tokio::test]
async fn bad_requests_change_nothing() {
    let (app, ann) = start().await;
    let id = fresh_row();
    let conflict = conflict(&app, &ann, id).await;
    let before = history(&app, &ann, id).await;
    let path = format!("{CONFLICTS}/{}/resolve", conflict.as_str().unwrap());
    let scope = own_scope(&ann);
    for body in [
        json!({ "scope": scope, "take": "merged" }),
        json!({ "scope": scope, "take": "both" }),
    ] {
        let refused = app.post_as(&ann, &path, &body).await;
        refused.problem(ErrorCode::BadRequest);
    }
    let facts = format!("{HISTORY}?table=context_messages&id={id}");
    let refused = app.get_as(&ann, &facts).await;
    refused.problem(ErrorCode::UnknownTable);
    assert_eq!(history(&app, &ann, id).await, before);
    assert_eq!(open_conflicts(&app, &ann).await, 1);
}
