//! Rows whose long values are kept apart, where the whole row matters: an archive and what is
//! restored from it, a move to colleagues, and reading what is stored.

use coditect_core::{body, hash};
use coditect_protocol::catalogue::{File, Table, by_cloud_name};
use coditect_protocol::wire::backups::RestoreReply;
use coditect_protocol::wire::bodies::{BodiesReply, BodiesRequest};
use coditect_protocol::wire::moves::{Move, MoveReply, MoveRequest};
use coditect_protocol::wire::push::{Change, PushReply, PushRequest, Status};
use coditect_protocol::wire::{Op, Row, Stored};
use coditect_protocol::{API_VERSION, BatchId, RowId, Scope};
use coditect_server::jobs;
use coditect_server_store::sync::scrub;
use coditect_testkit::TestUser;
use serde_json::{Value, json};

use crate::backups::{back_up, contents, restore, start};
use crate::support::{
    MOVE, PULL, PUSH, TestApp, decision, fresh_row, fresh_uuid, own_scope, pull_request,
    push_request,
};

const BODIES: &str = "/api/v1/sync/bodies";

fn messages() -> &'static Table {
    by_cloud_name("context_messages").unwrap()
}

fn long(word: &str) -> String {
    format!("{word} Zürich \u{0} ").repeat(1_000)
}

/// Returns a message with two long values.
fn message(name: &str, content: &str) -> Change {
    let value = json!({"message_id": name, "session_id": "s", "role": "user", "content": content,
        "content_blocks": [{"type": "tool_result", "content": content}]});
    let Value::Object(row) = value else {
        unreachable!()
    };
    let row: Row = coditect_core::canonical::row(messages(), row);
    let device = coditect_protocol::DeviceId::new(fresh_uuid());
    Change {
        table: messages().cloud.to_owned(),
        id: hash::derived_id(messages(), &row, device).unwrap().unwrap(),
        hash: hash::content(messages(), &row).to_string(),
        row: Some(row),
        ..decision(fresh_row(), "", 0)
    }
}

/// A device that pushes messages, each batch with the token of the one before.
struct Sender<'a> {
    app: &'a TestApp,
    user: &'a TestUser,
    token: Option<String>,
}

impl<'a> Sender<'a> {
    fn new(app: &'a TestApp, user: &'a TestUser) -> Self {
        Self {
            app,
            user,
            token: None,
        }
    }

    async fn push(&mut self, change: Change) -> Stored {
        let request = PushRequest {
            file: File::Sessions,
            ..push_request(
                self.user.device_id,
                own_scope(self.user),
                self.token.as_deref(),
                vec![change],
            )
        };
        let mut reply: PushReply = self.app.post_as(self.user, PUSH, &request).await.ok();
        let outcome = reply.outcomes.remove(0);
        assert_eq!(outcome.code, None, "{:?}", outcome.reason);
        self.token = Some(reply.token);
        outcome.stored.unwrap()
    }
}

/// Returns the row of a scope as a device has it in the end: pulled, and its texts fetched.
async fn whole(app: &TestApp, user: &TestUser, scope: Scope, id: RowId) -> Option<Row> {
    let mut request = pull_request(user.device_id, scope);
    request.positions[0].file = File::Sessions;
    let reply: coditect_protocol::wire::pull::PullReply =
        app.post_as(user, PULL, &request).await.ok();
    let rows = reply.pages.into_iter().flat_map(|page| page.changes);
    let mut row = rows.into_iter().find(|row| row.id == id)?.row?;
    let names = body::names(messages(), &row);
    assert_eq!(names.len(), 2, "its long values are apart: {row:?}");
    let request = BodiesRequest {
        api_version: API_VERSION.to_owned(),
        device: user.device_id,
        scope,
        hashes: names.iter().map(|(_, name)| name.hash.clone()).collect(),
        values: false,
        numbers: false,
    };
    let reply: BodiesReply = app.post_as(user, BODIES, &request).await.ok();
    if !reply.missing.is_empty() {
        return None;
    }
    for (column, name) in &names {
        let body = reply.bodies.iter().find(|it| it.hash == name.hash).unwrap();
        assert!(body::join(messages(), &mut row, column, &body.text));
    }
    Some(row)
}

#[tokio::test]
async fn an_archive_has_long_values_and_brings_them_back() {
    for mode in ["merge", "replace"] {
        let (app, ann) = start().await;
        let (scope, sent) = (own_scope(&ann), message("m1", &long("one")));
        let mut sender = Sender::new(&app, &ann);
        let stored = sender.push(sent.clone()).await;
        assert_eq!(whole(&app, &ann, scope, sent.id).await, sent.row);
        let at_backup = contents(&app, &ann).await;
        let full = back_up(&app, &ann, "full").await;
        assert_eq!(full.record_count, Some(1));

        let gone = Change {
            op: Op::Delete,
            row: None,
            base: Some(stored.version),
            ..sent.clone()
        };
        sender.push(gone).await;
        assert_eq!(whole(&app, &ann, scope, sent.id).await, None);
        // What nobody names is removed a year later; the archive has it all the same.
        let superuser = app.db.superuser_client().await;
        superuser.batch_execute("delete from bodies").await.unwrap();

        let request = json!({ "backup_id": full.id, "mode": mode });
        let done: RestoreReply = restore(&app, &ann, &request).await.ok();
        assert_eq!((done.restored, done.removed), (1, 0), "{mode}");
        assert_eq!(contents(&app, &ann).await, at_backup, "{mode}");
        assert_eq!(whole(&app, &ann, scope, sent.id).await, sent.row, "{mode}");
    }
}

#[tokio::test]
async fn long_values_move_with_their_row_and_only_those_there_read_them() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let bob = app.db.with_user(&tenant, "bob@acme.example").await;
    let (from, to) = (own_scope(&ann), Scope::Org(tenant.id.get()));
    let sent = message("m1", &long("one"));
    let stored = Sender::new(&app, &ann).push(sent.clone()).await;
    assert_eq!(whole(&app, &ann, from, sent.id).await, sent.row);
    assert_eq!(whole(&app, &bob, to, sent.id).await, None);
    let request = MoveRequest {
        api_version: API_VERSION.to_owned(),
        device: ann.device_id,
        batch_id: BatchId::new(fresh_uuid()),
        file: File::Sessions,
        from,
        to,
        moves: vec![Move {
            table: messages().cloud.to_owned(),
            id: sent.id,
            base: stored.version,
        }],
    };
    let reply: MoveReply = app.post_as(&ann, MOVE, &request).await.ok();
    assert_eq!(reply.outcomes[0].status, Status::Applied, "{reply:?}");
    for user in [&ann, &bob] {
        assert_eq!(whole(&app, user, to, sent.id).await, sent.row);
    }
    assert_eq!(whole(&app, &ann, from, sent.id).await, None);
}

#[tokio::test]
async fn a_flipped_byte_beside_a_long_value_is_found_and_mended_by_its_device() {
    let (app, ann) = start().await;
    let sent = message("m1", &long("one"));
    let mut sender = Sender::new(&app, &ann);
    let mut stored = sender.push(sent.clone()).await;
    let tenant = ann.caller.tenant().organization();
    let read = async || {
        let read = jobs::scrub::run_now(&app.state.db, &app.state.clock, tenant).await;
        let read = read.unwrap().unwrap();
        (read.rows, read.found)
    };
    assert_eq!(read().await, (1, 0));
    // The beginning that stays in the row, and the name of what is apart.
    for flip in [
        "update context_messages set content = 'rihgt' || content",
        "update context_messages set bodies = jsonb_set(bodies, '{content,bytes}', '9000')",
    ] {
        let superuser = app.db.superuser_client().await;
        superuser.batch_execute(flip).await.unwrap();
        assert_eq!(read().await, (1, 1), "{flip}");
        let open = scrub::findings(&app.state.db, None, false).await.unwrap();
        assert_eq!((open.len(), open[0].id), (1, Some(sent.id)), "{flip}");
        // A device that holds the row sends it again.
        let again = Change {
            base: Some(stored.version),
            ..sent.clone()
        };
        stored = sender.push(again).await;
        assert_eq!(read().await, (1, 0), "{flip}");
        let open = scrub::findings(&app.state.db, None, false).await.unwrap();
        assert_eq!(open, [], "{flip}");
    }
    assert_eq!(whole(&app, &ann, own_scope(&ann), sent.id).await, sent.row);
}
