//! Clocks of devices that are wrong by a day.

use coditect_core::canonical;
use coditect_protocol::wire::push::Status;
use coditect_testkit::TestDb;
use serde_json::json;

use crate::support::{EDIT_MS, NOW_MS, Peer, row, update};

#[tokio::test]
async fn a_clock_a_day_fast_wins_nothing_that_it_should_lose() {
    let db = TestDb::new().await;
    let tenant = db.with_tenant("acme").await;
    let user = db.with_user(&tenant, "ann@acme.example").await;
    let other = db.log_in(&user.license_key, &Default::default()).await;
    let (fast, mut right) = (Peer::new(&db, &user), Peer::on(&db, &other.caller));
    let base = right
        .add(right.own(), "org_decisions", json!({"title": "base"}))
        .await;
    let edited = |title| row("org_decisions", json!({"title": title}));
    let day = 86_400_000;
    // Made at the same moment by the fast clock, a second earlier in truth.
    let early = update(
        &base,
        edited("earlier"),
        Some(base.version),
        EDIT_MS + 1_000 + day,
    );
    let late = update(&base, edited("later"), Some(base.version), EDIT_MS + 2_000);
    let file = coditect_protocol::catalogue::File::Org;
    let mut request = fast.request(fast.own(), file, vec![early]);
    request.sent_at_ms = NOW_MS + day;
    let reply = fast.send(&request).await.unwrap();
    assert_eq!(reply.outcomes[0].status, Status::Applied);
    let version = reply.outcomes[0].stored.as_ref().unwrap().version;
    assert_eq!(version.unix_ms(), (EDIT_MS + 1_000) as u64);
    let outcome = right.push_one(right.own(), late).await;
    assert_eq!(outcome.status, Status::Conflict);
    let now = right.pull(right.own(), file).await.remove(0);
    assert_eq!(now.row.unwrap()["title"], "later");
    assert_eq!(now.updated_at, canonical::time_from_ms(EDIT_MS + 2_000));
}
