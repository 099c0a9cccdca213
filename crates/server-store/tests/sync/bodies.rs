//! Long values apart from their rows: stored once, read through rows only, removed late.

use chrono::{DateTime, TimeDelta, Utc};
use coditect_core::body;
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::Row;
use coditect_protocol::wire::bodies::{BodiesKnown, BodiesReply, BodiesRequest};
use coditect_protocol::wire::push::{Change, Status};
use coditect_protocol::{API_VERSION, ErrorCode, OrganizationId, Scope};
use coditect_server_store::sync::views::{self, Filter, Listing, View};
use coditect_server_store::sync::{SyncError, archive, bodies};
use coditect_testkit::TestDb;
use serde_json::json;

use crate::support::{NOW_MS, Peer, assert_digests, count, delete, insert, row, table};

const MESSAGES: &str = "context_messages";

pub(crate) fn long(word: &str) -> String {
    format!("{word} Zürich \u{0} ").repeat(1_000)
}

fn message(id: &str, content: &str) -> Row {
    let value = json!({"message_id": id, "session_id": "s", "role": "user", "content": content,
        "content_blocks": [{"type": "tool_result", "content": content}]});
    row(MESSAGES, value)
}

pub(crate) fn change(peer: &Peer, id: &str, content: &str) -> Change {
    insert(table(MESSAGES), message(id, content), peer.device)
}

/// Returns the change as one sends it who believes that the server has the bodies.
pub(crate) fn named_only(mut change: Change) -> (Change, Vec<String>) {
    let (parted, apart) = body::part(table(MESSAGES), change.row.as_ref().unwrap()).unwrap();
    change.row = Some(parted);
    (change, apart.into_iter().map(|body| body.hash).collect())
}

pub(crate) fn request(peer: &Peer, scope: Scope, hashes: Vec<String>) -> BodiesRequest {
    BodiesRequest {
        api_version: API_VERSION.to_owned(),
        device: peer.device,
        scope,
        values: false,
        numbers: false,
        hashes,
    }
}

pub(crate) async fn read(peer: &Peer, request: &BodiesRequest) -> Result<BodiesReply, SyncError> {
    peer.db
        .tenant("sync.bodies", &peer.caller, |mut tx| async move {
            bodies::read(&mut tx, request).await
        })
        .await
}

async fn known(peer: &Peer, request: &BodiesRequest) -> Result<BodiesKnown, SyncError> {
    peer.db
        .tenant("sync.bodies_known", &peer.caller, |mut tx| async move {
            bodies::known(&mut tx, request).await
        })
        .await
}

async fn stored_bytes(db: &TestDb) -> i64 {
    let client = db.superuser_client().await;
    let sql = "select coalesce(sum(byte_count), 0)::bigint from streams";
    client.query_typed_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_long_value_is_stored_once_and_comes_back_whole() {
    let db = TestDb::new().await;
    let acme = db.with_tenant("acme").await;
    let mut ann = Peer::new(&db, &db.with_user(&acme, "ann@x.example").await);
    let whole = change(&ann, "m1", &long("one"));
    let outcome = ann.push_one(ann.own(), whole.clone()).await;
    assert_eq!(outcome.status, Status::Applied, "{:?}", outcome.reason);
    assert_eq!(count(&db, "bodies").await, 2);
    let first = stored_bytes(&db).await;
    let again = ann
        .push_one(ann.own(), change(&ann, "m2", &long("one")))
        .await;
    assert_eq!(again.status, Status::Applied);
    assert_eq!(
        (count(&db, "bodies").await, count(&db, "body_links").await),
        (2, 4)
    );
    let second = stored_bytes(&db).await - first;
    assert!(second < 5_000 && first > 2 * 16_000, "{first} {second}");

    let pulled = ann.pull(ann.own(), File::Sessions).await;
    let mut parted = pulled[0].row.clone().unwrap();
    assert_eq!(pulled[0].hash, whole.hash);
    assert!(serde_json::to_vec(&parted).unwrap().len() < 4_000);
    let names = body::names(table(MESSAGES), &parted);
    let hashes: Vec<_> = names.iter().map(|(_, name)| name.hash.clone()).collect();
    let reply = read(&ann, &request(&ann, ann.own(), hashes)).await.unwrap();
    for ((column, _), body) in names.iter().zip(&reply.bodies) {
        assert!(body::join(table(MESSAGES), &mut parted, column, &body.text));
    }
    assert_eq!(Some(parted), whole.row);
    // Who takes values gets the JSON one as such, and the same bytes.
    let hashes: Vec<_> = names.iter().map(|(_, name)| name.hash.clone()).collect();
    let mut asked = request(&ann, ann.own(), hashes);
    asked.values = true;
    let as_values = read(&ann, &asked).await.unwrap();
    assert_eq!((as_values.bodies.len(), as_values.values.len()), (1, 1));
    let value = &as_values.values[0];
    let text = body::text_of(&value.value);
    assert!(
        reply
            .bodies
            .iter()
            .any(|it| it.text == text && it.hash == value.hash)
    );
    assert_digests(&db).await;
}

#[tokio::test]
async fn a_row_pushed_by_name_is_the_same_row_as_one_pushed_whole() {
    let db = TestDb::new().await;
    let acme = db.with_tenant("acme").await;
    let mut ann = Peer::new(&db, &db.with_user(&acme, "ann@x.example").await);
    let (named, hashes) = named_only(change(&ann, "m1", &long("one")));
    let refused = ann.push_one(ann.own(), named.clone()).await;
    assert_eq!(refused.code, Some(ErrorCode::BodyMissing));
    ann.push_one(ann.own(), change(&ann, "m0", &long("one")))
        .await;
    let asked = request(&ann, ann.own(), hashes.clone());
    assert_eq!(known(&ann, &asked).await.unwrap().known, hashes);
    let applied = ann.push_one(ann.own(), named).await;
    assert_eq!(applied.status, Status::Applied, "{:?}", applied.reason);
    let whole = ann
        .push_one(ann.own(), change(&ann, "m1", &long("one")))
        .await;
    assert_eq!(whole.status, Status::Duplicate);
    // A beginning that is not the body's is refused, whatever the hash says.
    let (mut lying, _) = named_only(change(&ann, "m2", &long("one")));
    let short = "Nothing of it";
    let mut lie = lying.row.take().unwrap();
    lie.insert("content".to_owned(), json!(short));
    let check = &body::hash(short).to_string()[..16];
    lie["bodies"]["content"]["prefix"] = json!(check);
    lying.row = Some(lie);
    let refused = ann.push_one(ann.own(), lying).await;
    assert_eq!(
        refused.code,
        Some(ErrorCode::BodyMissing),
        "{:?}",
        refused.reason
    );
}

#[tokio::test]
async fn a_hash_without_its_bytes_is_refused_and_confirmed_to_nobody_else() {
    let db = TestDb::new().await;
    let acme = db.with_tenant("acme").await;
    let other = db.with_tenant("other").await;
    let mut ann = Peer::new(&db, &db.with_user(&acme, "ann@x.example").await);
    let mut bob = Peer::new(&db, &db.with_user(&acme, "bob@x.example").await);
    let mut eve = Peer::new(&db, &db.with_user(&other, "eve@x.example").await);
    ann.push_one(ann.own(), change(&ann, "m1", &long("secret")))
        .await;
    let (named, hashes) = named_only(change(&ann, "m1", &long("secret")));
    for peer in [&mut bob, &mut eve] {
        let refused = peer.push_one(peer.own(), named.clone()).await;
        assert_eq!(refused.code, Some(ErrorCode::BodyMissing));
        let own = request(peer, peer.own(), hashes.clone());
        assert!(known(peer, &own).await.unwrap().known.is_empty());
        let reply = read(peer, &own).await.unwrap();
        assert!(reply.bodies.is_empty() && reply.missing == hashes);
        let foreign = request(peer, ann.own(), hashes.clone());
        for refused in [
            known(peer, &foreign).await.err(),
            read(peer, &foreign).await.err(),
        ] {
            assert!(
                matches!(refused, Some(SyncError::ScopeNotFound)),
                "{refused:?}"
            );
        }
        // With its bytes everybody has the row.
        let whole = peer
            .push_one(peer.own(), change(peer, "m1", &long("secret")))
            .await;
        assert_eq!(whole.status, Status::Applied);
    }
    assert_eq!(count(&db, "bodies").await, 6);
}

#[tokio::test]
async fn lists_and_archives_have_the_whole_text() {
    let db = TestDb::new().await;
    let acme = db.with_tenant("acme").await;
    let mut ann = Peer::new(&db, &db.with_user(&acme, "ann@x.example").await);
    let whole = change(&ann, "m1", &long("one"));
    ann.push_one(ann.own(), whole.clone()).await;
    let listing = Listing {
        view: View::Messages,
        scope: ann.own(),
        device: ann.device,
        cursor: 0,
        epoch: None,
        limit: 10,
        filter: Filter::default(),
    };
    let listing = &listing;
    let listed = ann
        .db
        .tenant_snapshot("views.list", &ann.caller, |mut tx| async move {
            views::list(&mut tx, listing).await
        })
        .await
        .unwrap();
    assert_eq!(listed.rows[0].row, whole.row);
    let tenant = OrganizationId::new(acme.id.get());
    let piece = archive::piece(&ann.db, tenant, ann.own(), 0).await.unwrap();
    let mut archived = piece.rows.into_iter().next().unwrap();
    assert_ne!(archived.stored.row, whole.row);
    archive::whole(&ann.db, tenant, ann.own(), &mut archived)
        .await
        .unwrap();
    assert_eq!(archived.stored.row, whole.row);
}

#[tokio::test]
async fn a_body_outlives_its_row_and_every_backup_of_it() {
    let db = TestDb::new().await;
    let acme = db.with_tenant("acme").await;
    let mut ann = Peer::new(&db, &db.with_user(&acme, "ann@x.example").await);
    let row = ann
        .push_one(ann.own(), change(&ann, "m1", &long("one")))
        .await;
    let row = row.stored.unwrap();
    ann.push_one(ann.own(), change(&ann, "m2", &long("two")))
        .await;
    let before = stored_bytes(&db).await;
    let now: DateTime<Utc> = DateTime::from_timestamp_millis(NOW_MS).unwrap();
    let tenant = acme.id.get();
    let collect = |days: i64| {
        let at = now + TimeDelta::days(days);
        bodies::collect(db.db(), tenant, at, bodies::KEPT)
    };
    assert_eq!(collect(0).await.unwrap(), bodies::Collected::default());
    let gone = ann
        .push_one(ann.own(), delete(&row, Some(row.version), NOW_MS))
        .await;
    assert_eq!(gone.status, Status::Applied, "{:?}", gone.reason);
    assert_eq!(collect(1).await.unwrap().marked, 2);
    assert_eq!(collect(366).await.unwrap(), bodies::Collected::default());
    // A row names one of them again, with its bytes: it stays.
    let text = long("one");
    let mut half = message("m3", &text);
    half.remove("content_blocks");
    let half = insert(table(MESSAGES), half, ann.device);
    assert_eq!(ann.push_one(ann.own(), half).await.status, Status::Applied);
    // What the deleted row was is not kept any more.
    let client = db.superuser_client().await;
    let purge = "delete from record_history";
    client.batch_execute(purge).await.unwrap();
    let late = collect(368).await.unwrap();
    assert_eq!((late.removed, late.marked), (1, 0));
    assert_eq!(count(&db, "bodies").await, 3);
    assert!(stored_bytes(&db).await < before);
    let hash = body::hash(&text).to_string();
    let reply = read(&ann, &request(&ann, ann.own(), vec![hash]))
        .await
        .unwrap();
    assert_eq!(reply.bodies[0].text, text);
}

#[tokio::test]
async fn a_kept_version_keeps_the_body_that_it_names() {
    let db = TestDb::new().await;
    let acme = db.with_tenant("acme").await;
    let mut ann = Peer::new(&db, &db.with_user(&acme, "ann@x.example").await);
    let text = long("one");
    let row = ann.push_one(ann.own(), change(&ann, "m1", &text)).await;
    let row = row.stored.unwrap();
    let delete = delete(&row, Some(row.version), NOW_MS);
    ann.push_one(ann.own(), delete).await;
    let now: DateTime<Utc> = DateTime::from_timestamp_millis(NOW_MS).unwrap();
    let tenant = acme.id.get();
    let collect = |days: i64| {
        let at = now + TimeDelta::days(days);
        bodies::collect(db.db(), tenant, at, bodies::KEPT)
    };
    assert_eq!(collect(0).await.unwrap().marked, 2);
    assert_eq!(collect(367).await.unwrap(), bodies::Collected::default());
    let client = db.superuser_client().await;
    let purge = "delete from record_history";
    client.batch_execute(purge).await.unwrap();
    assert_eq!(collect(367).await.unwrap().removed, 2);
    assert_eq!(count(&db, "bodies").await, 0);
}
