//! The dump that replicas are compared with.

use std::collections::BTreeMap;

use coditect_protocol::catalogue::File;
use coditect_server_store::StoreError;
use coditect_server_store::sync::dump::{DumpLine, dump};
use coditect_testkit::TestDb;
use serde_json::json;

use crate::support::{EDIT_MS, Peer, delete, full_row, insert, pushed_tables, row, table};

async fn lines(db: &TestDb, tenant: coditect_protocol::OrganizationId) -> Vec<DumpLine> {
    let mut lines = Vec::new();
    let collect = |line| {
        lines.push(line);
        Ok::<_, StoreError>(())
    };
    dump(db.db(), tenant, collect).await.unwrap();
    lines
}

#[tokio::test]
async fn a_dump_has_every_row_of_one_tenant_once() {
    let db = TestDb::new().await;
    let (acme, other) = (db.with_tenant("acme").await, db.with_tenant("other").await);
    let mut ann = Peer::new(&db, &db.with_user(&acme, "ann@x.example").await);
    let mut eve = Peer::new(&db, &db.with_user(&other, "eve@x.example").await);
    eve.add(
        eve.own(),
        "org_decisions",
        json!({"title": "of another tenant"}),
    )
    .await;
    let mut sent = BTreeMap::new();
    for table in pushed_tables() {
        for scope in [ann.own(), ann.org()] {
            let change = insert(table, full_row(table, 1), ann.device);
            sent.insert((change.table.clone(), scope, change.id), change.row.clone());
            ann.push_one(scope, change).await;
        }
    }
    // More than one transaction reads.
    for part in 0..2 {
        let message = |n: i32| {
            let id = format!("{part} {n}");
            let value = json!({"message_id": id, "session_id": "s", "role": "user"});
            insert(
                table("context_messages"),
                row("context_messages", value),
                ann.device,
            )
        };
        let changes: Vec<_> = (0..600).map(message).collect();
        for change in &changes {
            sent.insert(
                (change.table.clone(), ann.own(), change.id),
                change.row.clone(),
            );
        }
        ann.push(ann.own(), changes).await;
    }
    let gone = ann.pull(ann.org(), File::Org).await.remove(0);
    ann.push_one(ann.org(), delete(&gone, Some(gone.version), EDIT_MS + 1))
        .await;
    sent.insert((gone.table.clone(), ann.org(), gone.id), None);

    let dumped = lines(&db, acme.id).await;
    let count = dumped.len();
    let got: BTreeMap<_, _> = dumped
        .into_iter()
        .map(|line| {
            assert_eq!(line.deleted, line.row.is_none());
            assert_eq!((line.device, line.origin), (ann.device, ann.device));
            ((line.table, line.scope, line.id), line.row)
        })
        .collect();
    assert_eq!(count, got.len());
    assert_eq!(got, sent);
    assert_eq!(lines(&db, other.id).await.len(), 1);
}
