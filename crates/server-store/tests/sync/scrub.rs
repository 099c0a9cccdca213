//! The rolling scrub: what it finds, what it mends, and how a device mends the rest.

use chrono::{DateTime, Duration, Utc};
use coditect_core::hash;
use coditect_protocol::OrganizationId;
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::Stored;
use coditect_protocol::wire::push::Status;
use coditect_server_store::sync::scrub::{self, Finding, Round, Slice};
use coditect_testkit::{TestDb, TestUser};
use serde_json::json;

use crate::support::{
    EDIT_MS, NOW_MS, Peer, assert_digests, full_row, insert, pushed_tables, row, table, update,
};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(NOW_MS).unwrap()
}

async fn world() -> (TestDb, TestUser, Peer) {
    let db = TestDb::new().await;
    let tenant = db.with_tenant("acme").await;
    let user = db.with_user(&tenant, "ann@acme.example").await;
    let peer = Peer::new(&db, &user);
    (db, user, peer)
}

fn tenant(peer: &Peer) -> OrganizationId {
    peer.caller.tenant().organization()
}

async fn step(peer: &Peer, round: &mut Round, rows: u64) -> Slice {
    scrub::slice(&peer.db, round, rows, now, std::time::Duration::ZERO)
        .await
        .unwrap()
}

/// Reads everything, and returns how much that was.
async fn whole(peer: &Peer) -> Slice {
    let round = scrub::claim_now(&peer.db, tenant(peer), now())
        .await
        .unwrap();
    let mut round = round.unwrap();
    let slice = step(peer, &mut round, u64::MAX).await;
    assert!(slice.finished);
    scrub::release(&peer.db, round, true, now()).await.unwrap();
    slice
}

async fn found(peer: &Peer, mended: bool) -> Vec<Finding> {
    let found = scrub::findings(&peer.db, Some(tenant(peer)), mended).await;
    found.unwrap()
}

async fn damage(db: &TestDb, sql: &str) {
    let client = db.superuser_client().await;
    client.batch_execute(sql).await.unwrap();
}

/// Returns the ids that a pull to the head names as damaged.
async fn named(peer: &mut Peer, file: File) -> Vec<coditect_protocol::RowId> {
    let page = peer.page(peer.own(), file).await;
    assert!(page.at_head);
    let damaged = page.descent.unwrap_or_default().damaged;
    damaged.into_iter().flat_map(|named| named.ids).collect()
}

#[tokio::test]
async fn nothing_is_found_in_a_store_that_is_right() {
    let (db, _, mut peer) = world().await;
    let other = db.with_tenant("other").await;
    let mut stranger = Peer::new(&db, &db.with_user(&other, "eve@other.example").await);
    let mut pushed = 0;
    for table in pushed_tables() {
        for seed in 0..3 {
            let change = insert(table, full_row(table, seed), peer.device);
            peer.push_one(peer.own(), change).await;
            pushed += 1;
        }
    }
    stranger
        .add(stranger.own(), "org_decisions", json!({"title": "x"}))
        .await;
    damage(
        &db,
        "update org_decisions set title = 'y' where title = 'x'",
    )
    .await;
    let slice = whole(&peer).await;
    assert_eq!((slice.rows, slice.found), (pushed, 0));
    // Another tenant's faults are that tenant's.
    assert_eq!(found(&peer, true).await, []);
    assert_eq!(whole(&stranger).await.found, 1);
    assert_eq!(found(&peer, true).await, []);
}

/// Returns tables, each with a row, and SQL that makes a fault of it.
fn flips() -> [(&'static str, serde_json::Value, &'static str); 3] {
    let full = |name| serde_json::Value::Object(full_row(table(name), 5));
    [
        (
            "org_decisions",
            json!({"title": "right"}),
            "update org_decisions set title = 'rihgt'",
        ),
        (
            "context_messages",
            full("context_messages"),
            "update context_messages set content = 'rihgt'",
        ),
        (
            "context_tool_analytics",
            full("context_tool_analytics"),
            "update context_tool_analytics set tool_name = 'rihgt'",
        ),
    ]
}

#[tokio::test]
async fn a_flipped_byte_is_found_and_mended_by_a_device_that_holds_the_row() {
    let (db, user, mut peer) = world().await;
    let other = db.log_in(&user.license_key, &Default::default()).await;
    let mut other = Peer::on(&db, &other.caller);
    for (name, value, flip) in flips() {
        let entry = table(name);
        let stored = peer.add(peer.own(), name, value.clone()).await;
        peer.pull(peer.own(), entry.file).await;
        other.pull(other.own(), entry.file).await;
        assert_eq!(named(&mut peer, entry.file).await, [], "{name}");
        damage(&db, flip).await;
        assert_eq!(whole(&peer).await.found, 1, "{name}");
        assert_eq!(whole(&peer).await.found, 0, "{name}: it is one finding");
        let open = found(&peer, false).await;
        assert_eq!(open.len(), 1, "{name}");
        assert_eq!(
            (open[0].kind.as_str(), open[0].id, open[0].origin),
            ("hash", Some(stored.id), Some(peer.device))
        );
        assert_digests(&db).await;
        // The row is named to those who may hold it.
        assert_eq!(named(&mut peer, entry.file).await, [stored.id], "{name}");
        let up = name == "context_tool_analytics";
        let others = named(&mut other, entry.file).await;
        assert_eq!(others.is_empty(), up, "{name}");
        // The version is the acknowledged one, and the bytes are those of the hash.
        let change = update(
            &stored,
            row(name, value.clone()),
            Some(stored.version),
            EDIT_MS,
        );
        let outcome = peer.push_one(peer.own(), change).await;
        assert_eq!(outcome.status, Status::Merged, "{name}: {outcome:?}");
        assert_eq!(outcome.stored.unwrap().hash, stored.hash);
        assert_eq!(named(&mut peer, entry.file).await, [], "{name}");
        assert_eq!(
            scrub::recheck(&peer.db, tenant(&peer), now())
                .await
                .unwrap(),
            1
        );
        let all = found(&peer, true).await;
        let mended = all.iter().find(|it| it.id == Some(stored.id)).unwrap();
        assert_eq!(
            (mended.state, mended.mended_by.as_deref()),
            ("mended", Some("sent"))
        );
        assert_eq!(whole(&peer).await.found, 0, "{name}");
        assert_digests(&db).await;
        if !up {
            let came: Vec<Stored> = other.pull(other.own(), entry.file).await;
            let came = came.iter().find(|it| it.id == stored.id);
            let content = came.unwrap().row.as_ref().unwrap();
            assert_eq!(hash::content(entry, content).to_string(), stored.hash);
        }
        damage(&db, "delete from scrub_findings").await;
    }
}

#[tokio::test]
async fn a_flipped_byte_is_mended_by_an_edit_as_well() {
    let (db, _, mut peer) = world().await;
    let stored = peer
        .add(peer.own(), "org_decisions", json!({"title": "right"}))
        .await;
    damage(&db, "update org_decisions set title = 'rihgt'").await;
    assert_eq!(whole(&peer).await.found, 1);
    let edit = row("org_decisions", json!({"title": "edited"}));
    let change = update(&stored, edit, Some(stored.version), EDIT_MS + 5);
    let outcome = peer.push_one(peer.own(), change).await;
    assert_eq!(outcome.status, Status::Applied);
    assert_eq!(
        scrub::recheck(&peer.db, tenant(&peer), now())
            .await
            .unwrap(),
        1
    );
    assert_eq!(named(&mut peer, File::Org).await, []);
}

#[tokio::test]
async fn a_counter_that_is_not_its_parts_sum_is_counted_anew_and_comes_to_devices() {
    let (db, _, mut peer) = world().await;
    let value = json!({"skill_name": "s", "learning": "l", "usage_count": 7});
    let stored = peer.add(peer.own(), "org_skill_learnings", value).await;
    peer.pull(peer.own(), File::Org).await;
    damage(&db, "update org_skill_learnings set usage_count = 70").await;
    assert_eq!(whole(&peer).await.found, 1);
    let all = found(&peer, true).await;
    assert_eq!(
        (all[0].kind.as_str(), all[0].mended_by.as_deref()),
        ("counter", Some("recomputed"))
    );
    assert_eq!(found(&peer, false).await, []);
    let came = peer.pull(peer.own(), File::Org).await;
    assert_eq!(came.len(), 1);
    assert_eq!(came[0].row.as_ref().unwrap()["usage_count"], 7);
    assert_eq!(came[0].version, stored.version);
    assert_digests(&db).await;
    assert_eq!(whole(&peer).await.found, 0);
}

#[tokio::test]
async fn sums_that_are_not_those_of_the_rows_are_corrected() {
    let (db, _, mut peer) = world().await;
    for n in 0..5 {
        let value = json!({"title": format!("decision {n}")});
        peer.add(peer.own(), "org_decisions", value).await;
    }
    for wrong in [
        "update stream_digests set xor = xor # 4711",
        "update stream_digests set rows = rows + 1, count = count - 3",
        "delete from stream_digests",
        "delete from org_decisions where title = 'decision 2'",
        "insert into stream_digests (tenant_id, scope_id, table_name, origin_device, rows, count,
         xor) select tenant_id, scope_id, 'org_kg_nodes', origin_device, 2, 2, 5
         from stream_digests limit 1",
    ] {
        damage(&db, wrong).await;
        assert_eq!(whole(&peer).await.found, 1, "{wrong}");
        damage(&db, "delete from stream_digests where count = 0").await;
        assert_digests(&db).await;
        let all = found(&peer, true).await;
        assert_eq!(all[0].kind, "digest", "{wrong}");
        assert_eq!(whole(&peer).await.found, 0, "{wrong}");
    }
}

#[tokio::test]
async fn a_term_that_is_not_the_rows_is_found() {
    let (db, _, mut peer) = world().await;
    peer.add(peer.own(), "org_decisions", json!({"title": "a"}))
        .await;
    // The database computes terms itself, so that it has to be told not to.
    damage(
        &db,
        "alter table org_decisions alter column term drop expression;
         update org_decisions set term = term + 1;
         update stream_digests set xor = (select term from org_decisions)",
    )
    .await;
    assert_eq!(whole(&peer).await.found, 1);
    let open = found(&peer, false).await;
    assert_eq!(open[0].kind, "term", "what could not be mended stays open");
}

#[tokio::test]
async fn a_round_goes_on_where_it_stopped_also_on_another_server() {
    let (_db, _, mut peer) = world().await;
    for n in 0..6 {
        let value = json!({"title": format!("decision {n}")});
        peer.add(peer.own(), "org_decisions", value).await;
    }
    let mut round = scrub::claim(&peer.db, now()).await.unwrap().unwrap();
    assert_eq!(round.tenant(), tenant(&peer));
    assert_eq!(round.due(now()), 200);
    // One server at a time.
    assert!(scrub::claim(&peer.db, now()).await.unwrap().is_none());
    let claimed = scrub::claim_now(&peer.db, tenant(&peer), now()).await;
    assert!(claimed.unwrap().is_none());
    let slice = step(&peer, &mut round, 4).await;
    assert_eq!((slice.rows, slice.finished), (4, false));
    scrub::release(&peer.db, round, false, now()).await.unwrap();
    assert!(
        scrub::claim(&peer.db, now()).await.unwrap().is_none(),
        "not yet"
    );
    // The next slice; its server dies, and another one goes on after the lease.
    let later = now() + Duration::minutes(2);
    let mut lost = scrub::claim(&peer.db, later).await.unwrap().unwrap();
    let much_later = later + Duration::minutes(6);
    let mut round = scrub::claim(&peer.db, much_later).await.unwrap().unwrap();
    let slice = step(&peer, &mut round, u64::MAX).await;
    assert_eq!((slice.rows, slice.finished), (2, true));
    scrub::release(&peer.db, round, true, much_later)
        .await
        .unwrap();
    step(&peer, &mut lost, u64::MAX).await;
    let refused = scrub::release(&peer.db, lost, true, much_later).await;
    assert!(refused.is_err(), "what was taken over is not noted");
    let progress = scrub::progress(&peer.db, Some(tenant(&peer)))
        .await
        .unwrap();
    assert_eq!(progress[0].last_rows_read, Some(6));
    assert_eq!(progress[0].next_at, now() + Duration::hours(24));
    assert!(scrub::claim(&peer.db, much_later).await.unwrap().is_none());
    let tomorrow = now() + Duration::hours(24);
    assert!(scrub::claim(&peer.db, tomorrow).await.unwrap().is_some());
}
