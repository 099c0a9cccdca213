//! What the routes answer, held against the page that says so and against the printed examples.
//! Both lie beside the checkout; where they are missing the tests say that they skip.
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use coditect_server::openapi;
use coditect_testkit::TestUser;
use serde_json::{Value, json};

use super::{CONTEXT_PULL, CONTEXT_PUSH, DECISIONS, LEARNINGS, STATUS, TASKS, of_device, start};
use crate::support::{
    PUSH, TestApp, bearer, decision, fresh_row, get, own_scope, post, push_request,
};

/// Reads a file beside the checkout whose name begins like `path`.
fn beside(path: &str) -> Option<String> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    let wanted = root.join(path);
    let start = wanted.file_name()?.to_str()?.to_owned();
    let files = std::fs::read_dir(wanted.parent()?).ok()?;
    let found = files
        .filter_map(Result::ok)
        .find(|file| file.file_name().to_string_lossy().starts_with(&start));
    let text = found.and_then(|file| std::fs::read_to_string(file.path()).ok());
    if text.is_none() {
        println!("skipped: there is no {path} beside the checkout");
    }
    text
}

/// The form of a JSON value as the page writes it: `{"a","b":[{"c"}]}`, with a text where it
/// says which ones there may be, and anything else where it does not say.
#[derive(Debug, PartialEq)]
enum Shape {
    Anything,
    OneOf(BTreeSet<String>),
    List(Box<Shape>),
    Object(BTreeMap<String, Shape>),
}

/// Reads shapes from text.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn skip(&mut self, start: &str) -> bool {
        self.0 = self.0.trim_start();
        let rest = self.0.strip_prefix(start);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn text(&mut self) -> Option<String> {
        self.skip("\"").then_some(())?;
        let (text, rest) = self.0.split_once('"')?;
        self.0 = rest;
        Some(text.to_owned())
    }

    fn object(&mut self) -> Shape {
        let mut fields = BTreeMap::new();
        while let Some(name) = self.text() {
            let shape = if self.skip(":") {
                self.value()
            } else {
                Shape::Anything
            };
            fields.insert(name, shape);
            self.skip(",");
        }
        assert!(self.skip("}"), "an object ends with a brace: {}", self.0);
        Shape::Object(fields)
    }

    fn value(&mut self) -> Shape {
        if self.skip("{") {
            return self.object();
        }
        if self.skip("[") {
            let item = if self.0.trim_start().starts_with('{') {
                self.value()
            } else {
                Shape::Anything
            };
            let (_, rest) = self.0.split_once(']').unwrap();
            self.0 = rest;
            return Shape::List(Box::new(item));
        }
        let mut texts = BTreeSet::new();
        while let Some(text) = self.text() {
            texts.insert(text);
            if !self.skip("or ") {
                break;
            }
        }
        if texts.is_empty() {
            Shape::Anything
        } else {
            Shape::OneOf(texts)
        }
    }
}

impl Shape {
    fn of(cell: &str) -> Self {
        let plain = cell.replace('`', "");
        let (_, rest) = plain
            .split_once('{')
            .unwrap_or_else(|| panic!("no shape: {cell}"));
        Reader(rest).object()
    }

    fn check(&self, value: &Value, place: &str) {
        match self {
            Self::Anything => {}
            Self::OneOf(texts) => {
                let text = value.as_str().unwrap_or_else(|| panic!("{place}: {value}"));
                assert!(texts.contains(text), "{place}: {text}");
            }
            Self::List(item) => {
                let items = value
                    .as_array()
                    .unwrap_or_else(|| panic!("{place}: {value}"));
                assert!(!items.is_empty(), "{place} shows nothing");
                for value in items {
                    item.check(value, &format!("{place}[]"));
                }
            }
            Self::Object(fields) => {
                assert!(value.is_object(), "{place}: {value}");
                for (name, shape) in fields {
                    let value = value.get(name);
                    let value = value.unwrap_or_else(|| panic!("{place} lacks {name}"));
                    shape.check(value, &format!("{place}.{name}"));
                }
            }
        }
    }

    /// Returns the names of an object's fields.
    fn names(&self) -> Vec<&str> {
        match self {
            Self::Object(fields) => fields.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

#[test]
fn shapes_are_read_and_held_against_values() {
    let shape = Shape::of("200 `{\"s\":\"a\"` or `\"b\",\"list\":[{\"x\"}],\"n\"}`, more");
    shape.check(
        &json!({"s": "b", "list": [{"x": 1, "y": 2}], "n": null}),
        "$",
    );
    for wrong in [
        json!({"s": "c", "list": [{"x": 1}], "n": 1}),
        json!({"s": "a", "list": [{}], "n": 1}),
        json!({"s": "a", "list": [], "n": 1}),
        json!({"s": "a", "list": [{"x": 1}]}),
        json!([]),
    ] {
        let checked = std::panic::catch_unwind(|| shape.check(&wrong, "$"));
        assert!(checked.is_err(), "{wrong}");
    }
}

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

/// Returns the cells of the page's rows about the caller's own views.
fn rows(page: &str) -> Vec<Vec<String>> {
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let rows = rows.map(|line| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    });
    rows.filter(|cells| {
        cells[0].contains("/api/v1/context/") || cells[0].contains("a single object")
    })
    .collect()
}

/// Returns the names that the document has for a route's query and body.
fn documented(path: &str, method: &str) -> BTreeSet<String> {
    let document = openapi::document();
    let operation = &document["paths"][path][method];
    let mut names = BTreeSet::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        names.insert(parameter["name"].as_str().unwrap().to_owned());
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    if let Some(reference) = body.as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
        names.extend(schema["properties"].as_object().unwrap().keys().cloned());
    }
    names
}

#[tokio::test]
async fn replies_have_the_shapes_of_the_page() {
    let Some(page) = beside("reference/seed-routes.md") else {
        return;
    };
    let (app, ann) = filled().await;
    let rows = rows(&page);
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

/// Returns the JSON object that follows the first `mark`, and what stands behind it.
fn example<'a>(text: &'a str, mark: &str) -> (Value, &'a str) {
    let (_, text) = text.split_once(mark).unwrap();
    let text = &text[text.find('{').unwrap()..];
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next().unwrap().unwrap();
    (value, &text[values.byte_offset()..])
}

/// Checks that what is printed is there, and of the same type.
fn check_types(printed: &Value, actual: &Value, place: &str) {
    match (printed, actual) {
        (Value::Object(printed), Value::Object(_)) => {
            for (name, printed) in printed {
                let place = format!("{place}.{name}");
                check_types(printed, &actual[name], &place);
            }
        }
        (Value::Array(printed), Value::Array(actual)) => {
            assert!(!actual.is_empty(), "{place}");
            for actual in actual {
                check_types(&printed[0], actual, place);
            }
        }
        (Value::Number(_), actual) => assert!(actual.is_i64(), "{place}: {actual}"),
        (Value::String(_), actual) => assert!(actual.is_string(), "{place}: {actual}"),
        (Value::Bool(_), actual) => assert!(actual.is_boolean(), "{place}: {actual}"),
        (printed, actual) => panic!("{place}: {printed} is printed, {actual} came"),
    }
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
