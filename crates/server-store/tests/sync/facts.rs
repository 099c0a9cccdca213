//! Append-only rows: the first accepted one of an identity stays.

use coditect_protocol::catalogue::File;
use coditect_protocol::wire::Op;
use coditect_protocol::wire::push::{Change, Status};
use coditect_testkit::TestDb;
use serde_json::json;

use crate::support::{EDIT_MS, Peer, assert_digests, count, delete, insert, row, table, update};

fn message(peer: &Peer, id: &str, content: &str) -> Change {
    let value = json!({"message_id": id, "session_id": "s", "role": "user", "content": content});
    insert(
        table("context_messages"),
        row("context_messages", value),
        peer.device,
    )
}

async fn two_devices(db: &TestDb) -> (Peer, Peer) {
    let tenant = db.with_tenant("acme").await;
    let user = db.with_user(&tenant, "ann@acme.example").await;
    let other = db.log_in(&user.license_key, &Default::default()).await;
    (Peer::new(db, &user), Peer::on(db, &other.caller))
}

#[tokio::test]
async fn duplicates_with_other_bytes_get_the_stored_row() {
    let db = TestDb::new().await;
    let (mut a, mut b) = two_devices(&db).await;
    a.push_one(a.own(), message(&a, "m1", "first")).await;
    let changes = vec![
        message(&b, "m1", "second"),
        message(&b, "m2", "new"),
        message(&b, "m2", "new"),
        message(&b, "m2", "other bytes"),
    ];
    let outcomes = b.push(b.own(), changes).await;
    let statuses: Vec<_> = outcomes.iter().map(|outcome| outcome.status).collect();
    let duplicate = Status::Duplicate;
    assert_eq!(statuses, [duplicate, Status::Applied, duplicate, duplicate]);
    let stored = outcomes[0].stored.as_ref().unwrap();
    assert_eq!(stored.row.as_ref().unwrap()["content"], "first");
    assert_eq!((stored.origin, stored.device), (a.device, a.device));
    assert_eq!(outcomes[2].stored.as_ref().unwrap().row, None);
    assert_eq!(
        outcomes[3].stored.as_ref().unwrap().row.as_ref().unwrap()["content"],
        "new"
    );
    assert_eq!(count(&db, "context_messages").await, 2);
    assert_eq!(count(&db, "sync_conflicts").await, 0);
    assert_digests(&db).await;
}

#[tokio::test]
async fn an_edited_fact_is_kept_beside_the_stored_one() {
    let db = TestDb::new().await;
    let (mut a, _) = two_devices(&db).await;
    let stored = a
        .push_one(a.own(), message(&a, "m1", "first"))
        .await
        .stored
        .unwrap();
    let edited = message(&a, "m1", "edited").row.unwrap();
    let edit = update(&stored, edited, Some(stored.version), EDIT_MS + 5);
    let outcome = a.push_one(a.own(), edit).await;
    assert_eq!(outcome.status, Status::Duplicate);
    assert_eq!(outcome.stored.unwrap().row.unwrap()["content"], "first");
    let kept = "sync_conflicts where reason = 'edited_fact' and row ->> 'content' = 'edited'";
    assert_eq!(count(&db, kept).await, 1);
}

#[tokio::test]
async fn a_deleted_fact_does_not_come_back_by_an_import() {
    let db = TestDb::new().await;
    let (mut a, mut b) = two_devices(&db).await;
    let stored = a
        .push_one(a.own(), message(&a, "m1", "first"))
        .await
        .stored
        .unwrap();
    let gone = delete(&stored, Some(stored.version), EDIT_MS + 5);
    assert_eq!(a.push_one(a.own(), gone).await.status, Status::Applied);
    let again = b.push_one(b.own(), message(&b, "m1", "first")).await;
    assert_eq!(again.status, Status::Duplicate);
    assert_eq!(again.stored.unwrap().op, Op::Delete);
    let pulled = b.pull(b.own(), File::Sessions).await;
    assert_eq!((pulled.len(), pulled[0].op), (1, Op::Delete));
    assert_digests(&db).await;
}

#[tokio::test]
async fn the_same_call_from_two_devices_counts_at_the_first_only() {
    let db = TestDb::new().await;
    let (mut a, mut b) = two_devices(&db).await;
    let call = json!({"tool_name": "t", "session_id": "s", "tool_use_id": "u"});
    let call = |peer: &Peer| {
        insert(
            table("context_tool_analytics"),
            row("context_tool_analytics", call.clone()),
            peer.device,
        )
    };
    a.push_one(a.own(), call(&a)).await;
    let same = b.push_one(b.own(), call(&b)).await;
    assert_eq!(
        (same.status, same.stored.unwrap().origin),
        (Status::Duplicate, a.device)
    );
    let of = |page: coditect_protocol::wire::pull::Page| page.digests.unwrap().len();
    assert_eq!(of(a.page(a.own(), File::Sessions).await), 1);
    assert_eq!(of(b.page(b.own(), File::Sessions).await), 0);
}
