//! A bad change is refused alone.

use coditect_protocol::catalogue::{Class, File, TABLES};
use coditect_protocol::wire::push::{Change, Status};
use coditect_protocol::{ErrorCode, RowId, Scope};
use coditect_server_store::sync::SyncError;
use coditect_testkit::TestDb;
use serde_json::json;

use crate::support::{Peer, assert_digests, fresh_uuid, full_row, insert, row, table};

async fn one_device(db: &TestDb) -> Peer {
    let tenant = db.with_tenant("acme").await;
    Peer::new(db, &db.with_user(&tenant, "ann@acme.example").await)
}

fn decision(peer: &Peer, title: &str) -> Change {
    insert(
        table("org_decisions"),
        row("org_decisions", json!({"title": title})),
        peer.device,
    )
}

#[tokio::test]
async fn refused_changes_do_not_fail_their_neighbours() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    let mut changes = Vec::new();
    let mut expected = Vec::new();
    for code in [
        ErrorCode::UnknownTable,
        ErrorCode::MalformedRow,
        ErrorCode::HashMismatch,
        ErrorCode::KeyMismatch,
    ] {
        changes.push(decision(&peer, &format!("before {}", code.as_str())));
        let mut bad = decision(&peer, &format!("bad {}", code.as_str()));
        match code {
            ErrorCode::UnknownTable => bad.table = "context_messages".to_owned(),
            ErrorCode::MalformedRow => bad.row.as_mut().unwrap().clear(),
            ErrorCode::HashMismatch => bad.hash = "00".repeat(32),
            _ => {
                let node = json!({"node_type": "file", "node_key": "k"});
                bad = insert(
                    table("org_kg_nodes"),
                    row("org_kg_nodes", node),
                    peer.device,
                );
                bad.id = RowId::new(fresh_uuid());
            }
        }
        changes.push(bad);
        expected.extend([None, Some(code)]);
    }
    changes.push(decision(&peer, "last"));
    expected.push(None);
    let outcomes = peer.push(peer.own(), changes).await;
    assert_eq!(
        outcomes
            .iter()
            .map(|outcome| outcome.code)
            .collect::<Vec<_>>(),
        expected
    );
    let applied = outcomes
        .iter()
        .filter(|outcome| outcome.status == Status::Applied)
        .count();
    assert_eq!(
        (applied, peer.pull(peer.own(), File::Org).await.len()),
        (5, 5)
    );
    assert_digests(&db).await;
}

#[tokio::test]
async fn what_only_the_database_refuses_is_found_by_halving() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    // A limit that the checks before the insert know nothing of.
    let limit = "alter table org_decisions add constraint short check (length(title) < 100);
        alter table context_messages add constraint short check (length(content) < 100)";
    db.superuser_client()
        .await
        .batch_execute(limit)
        .await
        .unwrap();
    let long = "x".repeat(200);
    let changes: Vec<_> = (0..50)
        .map(|n| {
            let title = if n == 7 || n == 31 {
                format!("{n} {long}")
            } else {
                format!("{n}")
            };
            decision(&peer, &title)
        })
        .collect();
    let outcomes = peer.push(peer.own(), changes).await;
    let refused = outcomes
        .iter()
        .enumerate()
        .filter(|(_, it)| it.status != Status::Applied);
    assert_eq!(refused.map(|(n, _)| n).collect::<Vec<_>>(), [7, 31]);
    assert_eq!(outcomes[7].code, Some(ErrorCode::MalformedRow));
    assert!(!outcomes[7].reason.as_ref().unwrap().contains("xxx"));
    assert_eq!(peer.pull(peer.own(), File::Org).await.len(), 48);
    let message = |n: i32, content: &str| {
        let id = n.to_string();
        let value =
            json!({"message_id": id, "session_id": "s", "role": "user", "content": content});
        insert(
            table("context_messages"),
            row("context_messages", value),
            peer.device,
        )
    };
    let changes = vec![message(1, "a"), message(2, &long), message(3, "c")];
    let outcomes = peer.push(peer.own(), changes).await;
    let statuses: Vec<_> = outcomes.iter().map(|outcome| outcome.status).collect();
    assert_eq!(
        statuses,
        [Status::Applied, Status::Rejected, Status::Applied]
    );
    assert_digests(&db).await;
}

#[tokio::test]
async fn the_catalogue_takes_no_push() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    for table in TABLES
        .iter()
        .filter(|table| table.class == Class::Catalogue)
    {
        let change = insert(table, full_row(table, 1), peer.device);
        let outcome = peer.push_one(peer.own(), change.clone()).await;
        assert_eq!(
            outcome.code,
            Some(ErrorCode::DirectionRefused),
            "{}",
            table.cloud
        );
        let request = peer.request(Scope::Platform, File::Platform, vec![change]);
        assert!(matches!(
            peer.send(&request).await,
            Err(SyncError::DirectionRefused)
        ));
    }
}

#[tokio::test]
async fn a_push_has_a_limit() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    let change = decision(&peer, "t");
    let request = peer.request(peer.own(), File::Org, vec![change.clone(); 1_001]);
    assert!(matches!(
        peer.send(&request).await,
        Err(SyncError::BadRequest(_))
    ));
    let outcomes = peer.push(peer.own(), vec![change; 1_000]).await;
    assert_eq!(outcomes[0].status, Status::Applied);
    assert!(
        outcomes[1..]
            .iter()
            .all(|outcome| outcome.status == Status::Duplicate)
    );
    assert_digests(&db).await;
}
