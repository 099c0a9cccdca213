//! Long values through HTTP: every form in which they travel, for clients old and new.

use coditect_core::{body, hash};
use coditect_protocol::catalogue::{File, Table, by_cloud_name};
use coditect_protocol::wire::Row;
use coditect_protocol::wire::bodies::{BodiesKnown, BodiesReply, LINE_NUMBERS};
use coditect_protocol::wire::push::{Change, PushReply, Status};
use coditect_protocol::{API_VERSION, DeviceId, ErrorCode};
use coditect_testkit::TestUser;
use serde_json::{Value, json};

use crate::support::{PUSH, TestApp, decision, fresh_row, own_scope, push_request};

const BODIES: &str = "/api/v1/sync/bodies";
const KNOWN: &str = "/api/v1/sync/bodies/known";

fn messages() -> &'static Table {
    by_cloud_name("context_messages").unwrap()
}

/// A file of 400 lines as an agent reads it, from a line on, and a remark of the tool.
fn listing(from: usize) -> String {
    let lines = (from..from + 400).map(|at| format!("{at:>6}→    let word = {};\n", at % 7));
    lines.collect::<String>() + "\n<note>\nnothing to see\n</note>"
}

fn row(id: &str, content: &str) -> Row {
    let value = json!({"message_id": id, "session_id": "s", "role": "user", "content": content,
        "content_blocks": [{"type": "tool_result", "content": content, "tool_use_id": "t"}]});
    coditect_core::canonical::row(messages(), value.as_object().unwrap().clone())
}

/// Returns the change of a row, in which the row may then travel in another form.
fn change(row: &Row, device: DeviceId) -> Change {
    let mut change = decision(fresh_row(), "", 0);
    messages().cloud.clone_into(&mut change.table);
    change.id = hash::derived_id(messages(), row, device).unwrap().unwrap();
    change.hash = hash::content(messages(), row).to_string();
    change.row = Some(row.clone());
    change
}

/// Returns the change as a client sends it that leaves out the numbers of lines.
fn numbered(row: &Row, device: DeviceId) -> Change {
    let mut change = change(row, device);
    body::numbers::take_from_row(messages(), change.row.as_mut().unwrap());
    assert!(change.row.as_ref().unwrap().contains_key(LINE_NUMBERS));
    change
}

async fn push(
    app: &TestApp,
    ann: &TestUser,
    token: Option<&str>,
    changes: Vec<Change>,
) -> PushReply {
    let mut request = push_request(ann.device_id, own_scope(ann), token, changes);
    request.file = File::Sessions;
    app.post_as(ann, PUSH, &request).await.ok()
}

fn question(ann: &TestUser, hashes: &[String], forms: &[&str]) -> Value {
    let mut question = json!({"api_version": API_VERSION, "device": ann.device_id,
        "scope": own_scope(ann), "hashes": hashes});
    for form in forms {
        question[*form] = json!(true);
    }
    question
}

fn bodies_of(rows: &[Row]) -> Vec<(String, String)> {
    let parted = rows
        .iter()
        .map(|row| body::part(messages(), row).unwrap().1);
    parted
        .flatten()
        .map(|body| (body.hash, body.text))
        .collect()
}

/// Returns hashes and texts of a reply, and how many came in each form.
fn read(reply: BodiesReply) -> (Vec<(String, String)>, [usize; 3]) {
    let counts = [reply.bodies.len(), reply.values.len(), reply.numbered.len()];
    let texts = reply.bodies.into_iter().map(|body| (body.hash, body.text));
    let values = reply.values.into_iter();
    let values = values.map(|body| (body.hash, body::text_of(&body.value)));
    let numbered = reply.numbered.into_iter().map(|body| {
        let hash = body.hash.clone();
        (hash, body::text_of_numbered(body).unwrap())
    });
    (texts.chain(values).chain(numbered).collect(), counts)
}

#[tokio::test]
async fn each_client_gets_the_forms_that_it_asks_for_and_the_same_bytes() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let rows = [
        row("whole", &listing(1)),
        row("numbered", &listing(400)),
        row("prose", &"no numbers here. ".repeat(800)),
    ];
    let changes = vec![
        change(&rows[0], ann.device_id),
        numbered(&rows[1], ann.device_id),
        change(&rows[2], ann.device_id),
    ];
    let pushed = push(&app, &ann, None, changes).await;
    let statuses: Vec<_> = pushed.outcomes.iter().map(|it| it.status).collect();
    assert_eq!(statuses, [Status::Applied; 3], "{:?}", pushed.outcomes);

    let mut expected = bodies_of(&rows);
    expected.sort();
    let hashes: Vec<String> = expected.iter().map(|(hash, _)| hash.clone()).collect();
    for (forms, counts) in [
        (vec![], [6, 0, 0]),
        (vec!["values"], [3, 3, 0]),
        (vec!["numbers"], [4, 0, 2]),
        (vec!["values", "numbers"], [1, 1, 4]),
    ] {
        let reply = app
            .post_as(&ann, BODIES, &question(&ann, &hashes, &forms))
            .await;
        let (mut texts, came) = read(reply.ok());
        texts.sort();
        assert_eq!((texts == expected, came), (true, counts), "{forms:?}");
        let known = app
            .post_as(&ann, KNOWN, &question(&ann, &hashes, &forms))
            .await;
        let known: BodiesKnown = known.ok();
        assert_eq!(known.numbers, forms.contains(&"numbers"));
        assert_eq!(known.known.len(), 6);
    }
    // The same row in the other form is the same row.
    let again = vec![
        numbered(&rows[0], ann.device_id),
        change(&rows[1], ann.device_id),
    ];
    let again = push(&app, &ann, Some(&pushed.token), again).await;
    let statuses: Vec<_> = again.outcomes.iter().map(|it| it.status).collect();
    assert_eq!(statuses, [Status::Duplicate; 2]);
}

#[tokio::test]
async fn numbers_that_do_not_fit_refuse_their_row_alone() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let run = |lines: u64, width: u64| {
        let run = json!({"lines": lines, "first": 1, "width": width, "mark": "tab"});
        json!({"content": [run]})
    };
    let lies = [
        json!(7),
        json!({"content": "x"}),
        json!({"role": []}),
        json!({"nowhere": [{"lines": 1, "first": 1, "width": 1, "mark": "tab"}]}),
        run(u64::from(u32::MAX), 6),
        run(100, 200),
        run(0, 6),
    ];
    let mut changes = Vec::new();
    for (at, lie) in lies.iter().enumerate() {
        let mut lying = numbered(&row(&format!("m{at}"), &listing(1)), ann.device_id);
        let row = lying.row.as_mut().unwrap();
        row.insert(LINE_NUMBERS.to_owned(), lie.clone());
        changes.push(lying);
    }
    // Lines that are nothing but their number: 2 MiB become more than a request may hold.
    let mut bomb = change(&row("bomb", "x"), ann.device_id);
    let content = json!("\n".repeat(2 << 20));
    bomb.row
        .as_mut()
        .unwrap()
        .insert("content".to_owned(), content);
    let bomb_run = run(2 << 20, 16);
    bomb.row
        .as_mut()
        .unwrap()
        .insert(LINE_NUMBERS.to_owned(), bomb_run);
    changes.push(bomb);
    changes.push(numbered(&row("honest", &listing(1)), ann.device_id));
    let pushed = push(&app, &ann, None, changes).await;
    let (honest, refused) = pushed.outcomes.split_last().unwrap();
    assert_eq!(honest.status, Status::Applied, "{:?}", honest.reason);
    assert_eq!(refused.len(), 8);
    for outcome in refused {
        let code = outcome.code.unwrap();
        let expected = [ErrorCode::MalformedRow, ErrorCode::HashMismatch];
        assert!(expected.contains(&code), "{code:?}");
    }
}
