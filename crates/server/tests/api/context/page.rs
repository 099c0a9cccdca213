//! What the routes answer, held against the page that says so and against the printed examples.

use coditect_testkit::TestUser;
use serde_json::{Value, json};

use super::{CONTEXT_PULL, CONTEXT_PUSH, DECISIONS, LEARNINGS, STATUS, TASKS, of_device, start};
use crate::seed_page::{Shape, beside, check_types, documented, example, rows};
use crate::support::{
    PUSH, TestApp, bearer, decision, fresh_row, get, own_scope, post, push_request,
};

/// A stream with something of every kind.
async fn filled() -> (TestApp, TestUser) {
    let (app, ann) = start().await;
    let mut learning = decision(fresh_row(), "", 0);
    let table = coditect_protocol::catalogue::by_cloud_name("org_skill_learnings").unwrap();
    let row = json!({ "skill_name": "rust", "learning": "borrow" });
    let row = row.as_object().unwrap().clone();
    learning.table = table.cloud.to_owned();
    learning.hash = coditect_core::hash::content(table, &row).to_string();
    learning.row = Some(row);
    let changes = vec![decision(fresh_row(), "a decision", 0), learning];
    let request = push_request(ann.device_id, own_scope(&ann), None, changes);
    assert_eq!(app.post_as(&ann, PUSH, &request).await.status, 200);
    let body = json!({ "messages": [{ "type": "note", "content": "first" }] });
    assert_eq!(app.post_as(&ann, CONTEXT_PUSH, &body).await.status, 200);
    let body = json!({ "task_id": "A.1", "description": "a task" });
    assert_eq!(app.post_as(&ann, TASKS, &body).await.status, 201);
    (app, ann)
}

/// Returns the page's rows about the caller's own views.
fn own_rows(page: &str) -> Vec<Vec<String>> {
    let mut rows = rows(page);
    rows.retain(|cells| {
        cells[0].contains("`/api/v1/context/")
            || cells[0].contains(" `/api/v1/context/")
            || cells[0].contains("a single object")
    });
    rows
}

#[tokio::test]
async fn replies_have_the_shapes_of_the_page() {
    let Some(page) = beside("reference/seed-routes.md") else {
        return;
    };
    let (app, ann) = filled().await;
    let rows = own_rows(&page);
    assert_eq!(rows.len(), 8, "{rows:?}");
    for cells in rows {
        let route = cells[0].replace('`', "");
        let (url, query) = route.split_once('?').unwrap_or((&route, ""));
        let (method, path) = match url.split_once(' ') {
            Some((method, path)) if path.starts_with('/') => (method, path),
            _ => ("POST", CONTEXT_PUSH),
        };
        let single = cells[0].contains("a single object");
        let names = documented(path, &method.to_lowercase());
        for parameter in query.split('&').filter(|part| !part.is_empty()) {
            let name = parameter.trim_end_matches('=');
            assert!(names.contains(name), "{route}: {name} of {names:?}");
        }
        let request = match (method, path) {
            ("POST", CONTEXT_PUSH) if single => {
                post(path, &json!({ "type": "note", "content": "single" }))
            }
            ("POST", CONTEXT_PUSH) => {
                let message = json!({ "type": "note", "content": "second" });
                post(path, &json!({ "messages": [message] }))
            }
            ("POST", TASKS) => {
                for name in Shape::of(&cells[1]).names() {
                    assert!(names.contains(name), "{route}: {name} of {names:?}");
                }
                let (_, others) = cells[1].split_once("`003`").unwrap();
                let (_, others) = others.split_once('`').unwrap();
                for name in others.trim_end_matches('`').split(',').map(str::trim) {
                    assert!(names.contains(name), "{route}: {name} of {names:?}");
                }
                post(path, &json!({ "task_id": "A.2", "description": "another" }))
            }
            ("GET", CONTEXT_PULL | STATUS | TASKS | DECISIONS | LEARNINGS) => get(path),
            other => panic!("no test for {other:?}"),
        };
        let reply = app.send(bearer(request, &ann.access_token)).await;
        let created = (method, path) == ("POST", TASKS);
        assert_eq!(reply.status, if created { 201 } else { 200 }, "{route}");
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        Shape::of(&cells[2]).check(&body, path);
        assert!(body["cursor"].is_i64(), "{route}: {body}");
        assert!(body["epoch"].is_string(), "{route}: {body}");
    }
}

/// All fields that the third seed's model of a task has.
#[tokio::test]
async fn a_task_has_the_fields_of_the_model() {
    let Some(seed) = beside("seeds/003") else {
        return;
    };
    let (app, ann) = filled().await;
    let page: Value = app.get_as(&ann, TASKS).await.ok();
    let task = &page["tasks"][0];
    let (_, model) = seed.split_once("class TaskTracking").unwrap();
    let (model, _) = model.split_once("4.3 TaskMessage").unwrap();
    let mut checked = 0;
    for line in model.lines().filter(|line| line.contains(" = ")) {
        let (name, rest) = line.split_once(" = ").unwrap();
        let name = if rest.starts_with("TenantForeignKey") {
            "tenant_id"
        } else {
            name.trim()
        };
        let value = task.get(name);
        let value = value.unwrap_or_else(|| panic!("a task lacks {name}"));
        let may_be_null = rest.contains("null=True");
        let fits = match rest.split('(').next().unwrap() {
            _ if may_be_null && value.is_null() => true,
            "models.FloatField" => value.is_f64(),
            "models.IntegerField" | "models.BigIntegerField" => value.is_i64(),
            _ => value.is_string(),
        };
        assert!(fits, "{name}: {value}");
        checked += 1;
    }
    assert!(checked >= 20, "{checked}");
}

/// The printed requests are sent as they are, but for the device, which is no UUID there.
#[tokio::test]
async fn the_printed_examples_work() {
    let Some(seed) = beside("seeds/002") else {
        return;
    };
    let (app, ann) = start().await;
    let (body, rest) = example(&seed, "POST /api/v1/context/push");
    let (printed, rest) = example(rest, "Response:");
    let request = of_device(post(CONTEXT_PUSH, &body), ann.device_id);
    let pushed: Value = app.send(bearer(request, &ann.access_token)).await.ok();
    check_types(&printed, &pushed, "push");
    assert_eq!(
        (&pushed["synced"], &pushed["skipped"]),
        (&printed["synced"], &printed["skipped"])
    );

    let (printed, _) = example(rest, "Response:");
    let path = format!("{CONTEXT_PULL}?cursor=0&limit=100");
    let request = of_device(get(&path), ann.device_id);
    let pulled: Value = app.send(bearer(request, &ann.access_token)).await.ok();
    check_types(&printed, &pulled, "pull");
    assert_eq!(pulled["cursor"], pushed["cursor"]);
    assert_eq!(pulled["has_more"], printed["has_more"]);
    let (message, example) = (&pulled["messages"][0], &printed["messages"][0]);
    for name in ["type", "content"] {
        assert_eq!(message[name], example[name]);
    }
    assert_eq!(message["metadata"], body["messages"][0]["metadata"]);
    let said = message["created_at"].as_str().unwrap();
    assert!(said.starts_with("2025-12-30T10:00:00"), "{said}");
}
