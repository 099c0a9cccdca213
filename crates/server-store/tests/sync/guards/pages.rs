//! Pages, and what is checked of a batch.

use coditect_protocol::catalogue::File;
use coditect_protocol::limits::PULL_BYTES_TARGET;
use coditect_protocol::wire::pull::Position;
use coditect_protocol::wire::push::{Change, Status};
use coditect_server_store::sync::{self, Guard, Looked, PageCache, SyncError, TokenKey};
use coditect_testkit::TestDb;
use serde_json::json;

use super::{both, run, waiting};
use crate::support::{Peer, insert, row, table};

async fn device(db: &TestDb) -> Peer {
    let acme = db.with_tenant("acme").await;
    Peer::new(db, &db.with_user(&acme, "ann@x.example").await)
}

fn decision(peer: &Peer, title: &str) -> Change {
    let value = row("org_decisions", json!({"title": title}));
    insert(table("org_decisions"), value, peer.device)
}

/// Reads a page while a row is pushed between its heads and its rows; returns how many rows it
/// has, and how many its digest counts.
async fn read_beside_a_push(snapshot: bool) -> (i64, i64) {
    let db = TestDb::new().await;
    let mut ann = device(&db).await;
    let own = ann.own();
    ann.push_one(own, decision(&ann, "first")).await;
    let reader = Peer::on(&db, &ann.caller);
    let request = &reader.pull_request(vec![Position {
        scope: own,
        file: File::Org,
        cursor: None,
        token: None,
        descent: None,
    }]);
    let key = TokenKey::new(db.secrets().file_token_key());
    let (key, cache) = (&key, &PageCache::default());
    // A page looks at all tables of the file, and so waits for this one.
    let mut admin = db.superuser_client().await;
    let watcher = db.superuser_client().await;
    let held = admin.transaction().await.unwrap();
    let lock = "lock table org_kg_nodes in access exclusive mode";
    held.batch_execute(lock).await.unwrap();
    let reading = async {
        let read = |mut tx: coditect_server_store::TenantTx| async move {
            let pulled = sync::pull(&mut tx, request, key, cache).await?;
            Ok::<_, SyncError>(pulled.into_reply().unwrap())
        };
        match snapshot {
            true => {
                reader
                    .db
                    .tenant_snapshot("sync.pull", &reader.caller, read)
                    .await
            }
            false => reader.db.tenant("sync.pull", &reader.caller, read).await,
        }
    };
    let meanwhile = async {
        waiting(&watcher, 1).await;
        let change = decision(&ann, "second");
        assert_eq!(ann.push_one(own, change).await.status, Status::Applied);
        held.commit().await.unwrap();
    };
    let (reply, ()) = tokio::join!(reading, meanwhile);
    let page = reply.unwrap().pages.remove(0);
    let digests = page.digests.unwrap();
    let counted = digests
        .iter()
        .find(|it| it.table == "org_decisions")
        .unwrap();
    (page.changes.len() as i64, counted.rows)
}

#[tokio::test]
async fn without_one_snapshot_a_page_has_rows_that_its_digest_does_not_count() {
    assert_eq!(read_beside_a_push(true).await, (1, 1));
    assert_eq!(read_beside_a_push(false).await, (2, 1));
}

/// Returns the bytes of texts in the first page of a long stream.
async fn first_page(out: Option<Guard>) -> usize {
    let db = TestDb::new().await;
    let mut ann = device(&db).await;
    let own = ann.own();
    let text = |n: usize| format!("{n} {}", "word ".repeat(200_000));
    for n in 0..8 {
        let value = row(
            "org_decisions",
            json!({"title": "long", "rationale": text(n)}),
        );
        let change = insert(table("org_decisions"), value, ann.device);
        assert_eq!(ann.push_one(own, change).await.status, Status::Applied);
    }
    let page = run(out, ann.page(own, File::Org)).await;
    let bytes = page
        .changes
        .iter()
        .map(|it| it.row.as_ref().unwrap()["rationale"].to_string().len());
    bytes.sum()
}

#[tokio::test]
async fn without_its_limit_a_page_has_all_that_there_is() {
    let [limited, whole] = both(Guard::PageBytes);
    assert!(first_page(limited).await <= PULL_BYTES_TARGET);
    assert!(first_page(whole).await > PULL_BYTES_TARGET);
}

/// Pushes three rows of which the database refuses one; returns how many are stored.
async fn beside_a_bad_row(out: Option<Guard>) -> usize {
    let db = TestDb::new().await;
    let mut ann = device(&db).await;
    let limit = "alter table org_decisions add constraint short check (length(title) < 100)";
    db.superuser_client()
        .await
        .batch_execute(limit)
        .await
        .unwrap();
    let titles = ["one", &"x".repeat(200), "three"];
    let changes = titles.map(|title| decision(&ann, title));
    let request = ann.request(ann.own(), File::Org, changes.to_vec());
    let sent = run(out, ann.send_alone(&request)).await;
    assert_eq!(sent.is_ok(), out.is_none());
    ann.pull(ann.own(), File::Org).await.len()
}

#[tokio::test]
async fn without_halving_one_bad_row_fails_its_batch() {
    let [halved, whole] = both(Guard::Halving);
    assert_eq!(beside_a_bad_row(halved).await, 2);
    assert_eq!(beside_a_bad_row(whole).await, 0);
}

/// Pushes a row under the hash of another one; returns whether what readers get has its hash.
async fn under_a_wrong_hash(out: Option<Guard>) -> bool {
    let db = TestDb::new().await;
    let mut ann = device(&db).await;
    let mut change = decision(&ann, "one");
    change.hash = decision(&ann, "two").hash;
    let request = ann.request(ann.own(), File::Org, vec![change]);
    run(out, ann.send_alone(&request)).await.unwrap();
    let rows = ann.pull(ann.own(), File::Org).await;
    let hash = |row| coditect_core::hash::content(table("org_decisions"), row).to_string();
    rows.iter()
        .all(|it| it.row.as_ref().map(hash).as_ref() == Some(&it.hash))
}

#[tokio::test]
async fn without_a_look_at_the_hash_readers_get_rows_that_are_not_their_hashes() {
    let [looked, trusted] = both(Guard::RowHash);
    assert!(under_a_wrong_hash(looked).await);
    assert!(!under_a_wrong_hash(trusted).await);
}

/// Asks a copy of the database that is a hundred rows behind, as a replica that lags; returns how
/// many rows the answer has that is taken for one up to the head, if one is.
async fn answer_of_who_lags(out: Option<Guard>) -> Option<usize> {
    let db = TestDb::new().await;
    let mut ann = device(&db).await;
    let own = ann.own();
    ann.push_one(own, decision(&ann, "first")).await;
    let reader = Peer::on(&db, &ann.caller);
    let position = Position {
        scope: own,
        file: File::Org,
        cursor: None,
        token: None,
        descent: None,
    };
    let request = &reader.pull_request(vec![position]);
    let key = &TokenKey::new(db.secrets().file_token_key());
    let (cache, writer) = (&PageCache::default(), &tokio::sync::Mutex::new(ann));
    let read = |mut tx: coditect_server_store::TenantTx| async move {
        // From here on this transaction sees what is there now.
        sync::pull(&mut tx, request, key, cache).await?;
        let mut ann = writer.lock().await;
        let rows = (0..100).map(|n| decision(&ann, &format!("row {n}")));
        let rows = rows.collect();
        ann.push(own, rows).await;
        let look = ann
            .db
            .tenant_snapshot("sync.look", &ann.caller, |mut tx| async move {
                sync::look(&mut tx, request, key, cache).await
            });
        let Looked::Elsewhere(gate) = look.await? else {
            panic!("a hundred rows are for the replica")
        };
        gate.answer(&mut tx, key).await
    };
    let answered = reader.db.tenant_snapshot("sync.pull", &reader.caller, read);
    let pulled = run(out, answered).await.unwrap()?;
    let page = pulled.into_reply().unwrap().pages.remove(0);
    assert!(page.at_head);
    Some(page.changes.len())
}

#[tokio::test]
async fn without_a_look_at_the_head_a_replica_that_lags_hides_acknowledged_rows() {
    let [judged, trusted] = both(Guard::ReplicaHead);
    assert_eq!(answer_of_who_lags(judged).await, None);
    assert_eq!(answer_of_who_lags(trusted).await, Some(1));
}
