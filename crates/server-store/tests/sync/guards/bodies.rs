//! Long values apart from their rows.

use chrono::{DateTime, TimeDelta, Utc};
use coditect_core::body;
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::push::Status;
use coditect_server_store::sync::{Guard, bodies};
use coditect_testkit::{TestDb, TestTenant};
use serde_json::json;

use super::{Stop, both, run};
use crate::bodies::{change, long, named_only, read, request};
use crate::support::{NOW_MS, Peer, count, delete};

/// Ann and Bob, colleagues.
async fn colleagues(db: &TestDb) -> (TestTenant, Peer, Peer) {
    let acme = db.with_tenant("acme").await;
    let ann = Peer::new(db, &db.with_user(&acme, "ann@x.example").await);
    let bob = Peer::new(db, &db.with_user(&acme, "bob@x.example").await);
    (acme, ann, bob)
}

async fn collect(db: &TestDb, tenant: &TestTenant, days: i64) -> bodies::Collected {
    let now: DateTime<Utc> = DateTime::from_timestamp_millis(NOW_MS).unwrap();
    let at = now + TimeDelta::days(days);
    bodies::collect(db.db(), tenant.id.get(), at, bodies::KEPT)
        .await
        .unwrap()
}

/// Pushes a name whose text is with a colleague only; returns whether it is stored, and whether
/// the text can be read then.
async fn named_by_a_colleague(out: Option<Guard>) -> (bool, bool) {
    let db = TestDb::new().await;
    let (_, mut ann, bob) = colleagues(&db).await;
    ann.push_one(ann.own(), change(&ann, "m1", &long("secret")))
        .await;
    let (named, hashes) = named_only(change(&bob, "m1", &long("secret")));
    let pushed = bob.request(bob.own(), File::Sessions, vec![named]);
    let reply = run(out, bob.send_alone(&pushed)).await.unwrap();
    let stored = reply.outcomes[0].status == Status::Applied;
    let asked = request(&bob, bob.own(), hashes);
    (stored, !read(&bob, &asked).await.unwrap().bodies.is_empty())
}

#[tokio::test]
async fn without_a_look_for_its_body_a_row_is_stored_whose_text_is_nowhere() {
    let [refused, stored] = both(Guard::BodyMissing);
    assert_eq!(named_by_a_colleague(refused).await, (false, false));
    assert_eq!(named_by_a_colleague(stored).await, (true, false));
}

/// Names the text of a row that was deleted from the organisation's scope; returns whether the
/// text is given out then, to one who has only its hash.
async fn named_after_a_delete(out: Option<Guard>) -> bool {
    let db = TestDb::new().await;
    let (_, mut ann, bob) = colleagues(&db).await;
    let org = ann.org();
    let gone = ann
        .push_one(org, change(&ann, "m1", &long("secret")))
        .await
        .stored
        .unwrap();
    ann.push_one(org, delete(&gone, Some(gone.version), NOW_MS))
        .await;
    let (named, hashes) = named_only(change(&bob, "m2", &long("secret")));
    let pushed = bob.request(org, File::Sessions, vec![named]);
    run(out, bob.send_alone(&pushed)).await.unwrap();
    let asked = request(&bob, org, hashes);
    !read(&bob, &asked).await.unwrap().bodies.is_empty()
}

#[tokio::test]
async fn without_a_row_that_has_it_a_deleted_text_is_given_for_its_hash() {
    let [refused, given] = both(Guard::BodyVisible);
    assert!(!named_after_a_delete(refused).await);
    assert!(named_after_a_delete(given).await);
}

/// Names a text that is there, with a beginning that is not its; returns whether it is stored.
async fn lying(out: Option<Guard>) -> bool {
    let db = TestDb::new().await;
    let (_, mut ann, _) = colleagues(&db).await;
    ann.push_one(ann.own(), change(&ann, "m1", &long("one")))
        .await;
    let (mut named, _) = named_only(change(&ann, "m2", &long("one")));
    let lie = "Nothing of it";
    let row = named.row.as_mut().unwrap();
    row.insert("content".to_owned(), json!(lie));
    row["bodies"]["content"]["prefix"] = json!(body::hash(lie).to_string()[..16]);
    let pushed = ann.request(ann.own(), File::Sessions, vec![named]);
    let reply = run(out, ann.send_alone(&pushed)).await.unwrap();
    reply.outcomes[0].status == Status::Applied
}

#[tokio::test]
async fn without_a_look_at_the_text_a_row_shows_a_beginning_that_is_not_its() {
    let [refused, stored] = both(Guard::BodyBeginning);
    assert!(!lying(refused).await);
    assert!(lying(stored).await);
}

/// A text that nothing names any more is pushed again while it is being removed; returns how many
/// texts the new row has.
async fn kept_beside_a_removal(out: Option<Guard>) -> usize {
    let db = TestDb::new().await;
    let (acme, mut ann, _) = colleagues(&db).await;
    let own = ann.own();
    let gone = ann
        .push_one(own, change(&ann, "m1", &long("one")))
        .await
        .stored
        .unwrap();
    ann.push_one(own, delete(&gone, Some(gone.version), NOW_MS))
        .await;
    assert_eq!(collect(&db, &acme, 1).await.marked, 2);
    // What the deleted row was names them as long as it is kept.
    let client = db.superuser_client().await;
    let purge = "delete from record_history";
    client.batch_execute(purge).await.unwrap();
    let stop = Stop::after(&db, "update on device_tokens").await;
    let again = change(&ann, "m2", &long("one"));
    let hashes = named_only(again.clone()).1;
    let pushed = ann.request(own, File::Sessions, vec![again]);
    let removal = async {
        stop.waiting(1).await;
        let mut removal = Box::pin(collect(&db, &acme, 368));
        let done = tokio::select! {
            _ = &mut removal => true,
            () = stop.waiting(2) => false,
        };
        stop.let_go().await;
        if !done {
            removal.await;
        }
    };
    let (reply, ()) = tokio::join!(run(out, ann.send_alone(&pushed)), removal);
    assert_eq!(reply.unwrap().outcomes[0].status, Status::Applied);
    let asked = request(&ann, own, hashes);
    read(&ann, &asked).await.unwrap().bodies.len()
}

#[tokio::test]
async fn without_a_lock_a_text_is_removed_under_the_push_that_needs_it() {
    let [locked, unlocked] = both(Guard::BodyKept);
    assert_eq!(kept_beside_a_removal(locked).await, 2);
    assert_eq!(kept_beside_a_removal(unlocked).await, 0);
}

/// Removes texts by marks of which none is true; returns how many texts are left.
async fn wrongly_marked(out: Option<Guard>) -> i64 {
    let db = TestDb::new().await;
    let (acme, mut ann, _) = colleagues(&db).await;
    ann.push_one(ann.own(), change(&ann, "m1", &long("one")))
        .await;
    let admin = db.superuser_client().await;
    let marks = "update bodies set unused_since = '2000-01-01'";
    admin.batch_execute(marks).await.unwrap();
    run(out, collect(&db, &acme, 0)).await;
    count(&db, "bodies").await
}

#[tokio::test]
async fn without_a_second_look_a_wrong_mark_removes_a_text_that_a_row_has() {
    let [looked, trusted] = both(Guard::BodyLookedAt);
    assert_eq!(wrongly_marked(looked).await, 2);
    assert_eq!(wrongly_marked(trusted).await, 0);
}

/// Deletes a row; returns how many of its texts can still be read.
async fn read_after_a_delete(out: Option<Guard>) -> usize {
    let db = TestDb::new().await;
    let (_, mut ann, _) = colleagues(&db).await;
    let own = ann.own();
    let whole = change(&ann, "m1", &long("one"));
    let hashes = named_only(whole.clone()).1;
    let gone = ann.push_one(own, whole).await.stored.unwrap();
    let removal = delete(&gone, Some(gone.version), NOW_MS);
    let pushed = ann.request(own, File::Sessions, vec![removal]);
    let reply = run(out, ann.send_alone(&pushed)).await.unwrap();
    assert_eq!(reply.outcomes[0].status, Status::Applied);
    read(&ann, &request(&ann, own, hashes))
        .await
        .unwrap()
        .bodies
        .len()
}

#[tokio::test]
async fn without_a_look_at_deletes_the_text_of_a_deleted_row_is_given_out() {
    let [unlinked, linked] = both(Guard::BodyUnlinked);
    assert_eq!(read_after_a_delete(unlinked).await, 0);
    assert_eq!(read_after_a_delete(linked).await, 2);
}
