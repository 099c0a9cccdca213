//! Tasks through the view.

use coditect_core::hash;
use coditect_protocol::ErrorCode;
use coditect_protocol::catalogue::{File, by_cloud_name};
use coditect_protocol::wire::context::{TaskPage, TaskReply, ViewStatus};
use coditect_protocol::wire::push::{PushReply, Status};
use coditect_testkit::TestUser;
use serde_json::{Value, json};

use super::{TASKS, start};
use crate::support::{CONFLICTS, PUSH, TestApp, decision, fresh_row, own_scope, push_request};

async fn list(app: &TestApp, user: &TestUser, query: &str) -> TaskPage {
    app.get_as(user, &format!("{TASKS}?{query}")).await.ok()
}

async fn put(app: &TestApp, user: &TestUser, event: Value) -> (u16, TaskReply) {
    let reply = app.post_as(user, TASKS, &event).await;
    let body = serde_json::from_slice(&reply.body);
    (
        reply.status,
        body.unwrap_or_else(|_| panic!("{}", reply.text())),
    )
}

#[tokio::test]
async fn an_event_makes_a_task_and_later_ones_change_it() {
    let (app, ann) = start().await;
    let event = json!({ "task_id": "A.9.1.1", "description": "Write tests",
        "status": "in_progress", "outcome": "", "project_id": "p", "tool_success_count": 5,
        "tool_error_count": 0, "user_corrections": 0 });
    let (status, made) = put(&app, &ann, event.clone()).await;
    assert_eq!((status, made.status), (201, ViewStatus::Created));
    let (status, same) = put(&app, &ann, event.clone()).await;
    assert_eq!((status, same.status), (200, ViewStatus::Duplicate));
    assert_eq!((same.id, same.cursor), (made.id, made.cursor));
    let done = json!({ "task_id": "A.9.1.1", "status": "completed", "outcome": "success",
        "outcome_score": 0.5, "tool_success_count": 3, "tool_error_count": 2,
        "completed_at": "2026-01-01T01:00:00+01:00" });
    let (status, changed) = put(&app, &ann, done).await;
    assert_eq!(
        (status, changed.status, changed.id),
        (200, ViewStatus::Updated, made.id)
    );
    assert!(changed.cursor > made.cursor);

    let page = list(&app, &ann, "").await;
    assert_eq!((page.tasks.len(), page.cursor), (1, changed.cursor));
    let task = &page.tasks[0];
    assert_eq!((task.id, task.sync_cursor), (made.id, changed.cursor));
    assert_eq!(
        (task.status.as_str(), task.outcome.as_str()),
        ("completed", "success")
    );
    // What the later event did not say stays, and counts only grow.
    assert_eq!(
        (task.description.as_str(), task.project_id.as_str()),
        ("Write tests", "p")
    );
    assert_eq!((task.tool_success_count, task.tool_error_count), (5, 2));
    assert_eq!(task.outcome_score, Some(0.5));
    assert_eq!(
        task.completed_at.as_deref(),
        Some("2026-01-01T00:00:00.000000Z")
    );
    assert_eq!(
        (task.session_id.as_str(), task.started_at.as_deref()),
        ("", None)
    );
    // A session of its own makes another task of the same name.
    let (status, other) = put(
        &app,
        &ann,
        json!({ "task_id": "A.9.1.1", "session_id": "s" }),
    )
    .await;
    assert_eq!(status, 201);
    assert_ne!(other.id, made.id);
}

#[tokio::test]
async fn tasks_are_filtered() {
    let (app, ann) = start().await;
    for (task, session, project, status) in [
        ("1", "s", "p", "pending"),
        ("2", "s", "q", "completed"),
        ("1", "t", "p", "completed"),
    ] {
        let event = json!({ "task_id": task, "session_id": session, "project_id": project,
            "status": status });
        put(&app, &ann, event).await;
    }
    let found = async |query: &str| {
        let page = list(&app, &ann, query).await;
        let tasks = page.tasks.iter();
        let names = tasks.map(|task| format!("{}{}", task.session_id, task.task_id));
        (names.collect::<Vec<_>>(), page.has_more)
    };
    for (query, expected) in [
        ("", vec!["s1", "s2", "t1"]),
        ("status=completed", vec!["s2", "t1"]),
        ("project_id=p", vec!["s1", "t1"]),
        ("session_id=s", vec!["s1", "s2"]),
        ("task_id=1", vec!["s1", "t1"]),
        (
            "task_id=1&status=completed&session_id=t&project_id=p",
            vec!["t1"],
        ),
        ("status=none", vec![]),
        ("status=%00", vec![]),
    ] {
        let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(found(query).await, (expected, false), "{query}");
    }
    assert_eq!(
        found("status=completed&limit=1").await,
        (vec!["s2".to_owned()], true)
    );
}

/// PROTOCOL 29: a write through a view is based on what is stored, so it meets no conflict and
/// overwrites nothing that it was not told to.
#[tokio::test]
async fn a_write_is_based_on_the_stored_version() {
    let (app, ann) = start().await;
    let table = by_cloud_name("context_task_tracking").unwrap();
    let row = json!({ "task_id": "1", "session_id": "s", "description": "by a device",
        "details": "only devices write this", "tool_success_count": 4 });
    let row = row.as_object().unwrap().clone();
    let mut change = decision(fresh_row(), "", 0);
    change.table = table.cloud.to_owned();
    change.id = hash::derived_id(table, &row, ann.device_id)
        .unwrap()
        .unwrap();
    change.hash = hash::content(table, &row).to_string();
    change.row = Some(row.clone());
    let mut request = push_request(ann.device_id, own_scope(&ann), None, vec![change.clone()]);
    request.file = File::Sessions;
    let pushed: PushReply = app.post_as(&ann, PUSH, &request).await.ok();
    assert_eq!(pushed.outcomes[0].status, Status::Applied);

    let event = json!({ "task_id": "1", "session_id": "s", "status": "completed" });
    let (status, changed) = put(&app, &ann, event).await;
    assert_eq!(
        (status, changed.status, changed.id),
        (200, ViewStatus::Updated, change.id)
    );
    let conflicts: Value = app.get_as(&ann, CONFLICTS).await.ok();
    assert_eq!(conflicts["conflicts"], json!([]));
    let page = list(&app, &ann, "").await;
    assert_eq!(page.tasks[0].description, "by a device");
    assert_eq!(page.tasks[0].tool_success_count, 4);
    let client = app.db.superuser_client().await;
    let details = "select details from context_task_tracking";
    let details = client.query_typed_one(details, &[]).await.unwrap();
    assert_eq!(details.get::<_, String>(0), "only devices write this");

    // The device, which does not know of it, meets a conflict: nothing is lost in silence.
    let mut late = row;
    late.insert("description".to_owned(), json!("edited meanwhile"));
    change.hash = hash::content(table, &late).to_string();
    change.row = Some(late);
    change.base = pushed.outcomes[0]
        .stored
        .as_ref()
        .map(|stored| stored.version);
    let mut request = push_request(
        ann.device_id,
        own_scope(&ann),
        Some(&pushed.token),
        vec![change],
    );
    request.file = File::Sessions;
    let pushed: PushReply = app.post_as(&ann, PUSH, &request).await.ok();
    assert_eq!(pushed.outcomes[0].status, Status::Conflict);
}

#[tokio::test]
async fn mistakes_are_refused_and_store_nothing() {
    let (app, ann) = start().await;
    for event in [
        json!({}),
        json!({ "task_id": "" }),
        json!({ "task_id": 5 }),
        json!({ "task_id": "1", "started_at": "soon" }),
        json!({ "task_id": "1", "tool_error_count": -1 }),
        json!({ "task_id": "1", "tool_error_count": "2" }),
        json!([]),
    ] {
        let reply = app.post_as(&ann, TASKS, &event).await;
        reply.problem(ErrorCode::BadRequest);
    }
    let page = list(&app, &ann, "").await;
    assert_eq!((page.tasks.len(), page.cursor), (0, 0));
}
