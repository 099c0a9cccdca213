//! Concurrent edits, deletes and increments by several devices.

use std::collections::BTreeMap;

use coditect_protocol::catalogue::File;
use coditect_protocol::wire::push::{CounterPart, Status};
use coditect_protocol::wire::{Op, Stored};
use coditect_server_store::sync::{self, ConflictEntry};
use coditect_testkit::TestDb;
use serde_json::json;

use crate::support::{EDIT_MS, Peer, assert_digests, count, delete, row, update};

async fn two_devices(db: &TestDb) -> (Peer, Peer) {
    let tenant = db.with_tenant("acme").await;
    let user = db.with_user(&tenant, "ann@acme.example").await;
    let other = db.log_in(&user.license_key, &Default::default()).await;
    (Peer::new(db, &user), Peer::on(db, &other.caller))
}

async fn open_conflicts(peer: &Peer) -> Vec<ConflictEntry> {
    let scope = peer.own();
    peer.db
        .tenant_snapshot("t", &peer.caller, |mut tx| async move {
            sync::conflicts(&mut tx, scope, 100).await
        })
        .await
        .unwrap()
}

fn retitled(stored: &Stored, title: &str, at_ms: i64) -> coditect_protocol::wire::push::Change {
    let edited = row(
        "org_decisions",
        json!({"title": title, "status": "accepted"}),
    );
    update(stored, edited, Some(stored.version), at_ms)
}

#[tokio::test]
async fn the_later_edit_wins_whichever_comes_first_and_the_other_is_kept() {
    for later_first in [true, false] {
        let db = TestDb::new().await;
        let (mut a, mut b) = two_devices(&db).await;
        let base = a
            .add(a.own(), "org_decisions", json!({"title": "base"}))
            .await;
        let of_a = retitled(&base, "of a", EDIT_MS + 1_000);
        let of_b = retitled(&base, "of b", EDIT_MS + 2_000);
        let (first, second) = if later_first {
            (
                b.push_one(b.own(), of_b).await,
                a.push_one(a.own(), of_a).await,
            )
        } else {
            (
                a.push_one(a.own(), of_a).await,
                b.push_one(b.own(), of_b).await,
            )
        };
        assert_eq!(
            (first.status, second.status),
            (Status::Applied, Status::Conflict)
        );
        let now = a.pull(a.own(), File::Org).await.remove(0);
        assert_eq!(
            (now.origin, now.user_id),
            (a.device, Some(a.caller.user_id()))
        );
        assert_eq!(now.created_at, base.created_at);
        assert_eq!(now.row.unwrap()["title"], "of b");
        let loser = second.loser.unwrap();
        assert_eq!((loser.op, loser.device), (Op::Upsert, a.device));
        assert_eq!(loser.row.as_ref().unwrap()["title"], "of a");
        let kept = open_conflicts(&a).await;
        assert_eq!(kept.len(), 1);
        assert_eq!((&kept[0].row, kept[0].loser_device), (&loser.row, a.device));
        assert_eq!(
            (kept[0].winner_version, kept[0].row_id),
            (now.version, base.id)
        );
        let history = "record_history where row ->> 'title' = 'of a'";
        assert_eq!(count(&db, history).await, 1);
        assert_digests(&db).await;
    }
}

#[tokio::test]
async fn an_edit_beats_a_delete_whichever_comes_first() {
    for delete_first in [true, false] {
        let db = TestDb::new().await;
        let (mut a, mut b) = two_devices(&db).await;
        let base = a
            .add(a.own(), "org_decisions", json!({"title": "base"}))
            .await;
        let gone = delete(&base, Some(base.version), EDIT_MS + 2_000);
        let edit = retitled(&base, "edited", EDIT_MS + 1_000);
        let statuses = if delete_first {
            [
                a.push_one(a.own(), gone).await.status,
                b.push_one(b.own(), edit).await.status,
            ]
        } else {
            [
                b.push_one(b.own(), edit).await.status,
                a.push_one(a.own(), gone).await.status,
            ]
        };
        let expected = if delete_first {
            [Status::Applied, Status::Merged]
        } else {
            [Status::Applied, Status::Superseded]
        };
        assert_eq!(statuses, expected);
        let now = a.pull(a.own(), File::Org).await.remove(0);
        assert_eq!(now.row.unwrap()["title"], "edited");
        assert_digests(&db).await;
    }
}

#[tokio::test]
async fn a_hundred_devices_count_to_the_exact_sum_without_conflict() {
    let db = TestDb::new().await;
    let (mut a, _) = two_devices(&db).await;
    let fact = json!({"skill_name": "s", "learning": "l", "usage_count": 1});
    let base = a.add(a.own(), "org_skill_learnings", fact.clone()).await;
    let admin = db.superuser_client().await;
    let mut expected = 1;
    for number in 1..=100_i64 {
        let device = crate::support::fresh_uuid();
        let register = format!(
            "insert into devices (tenant_id, id, user_id) values ('{}', '{device}', '{}')",
            a.caller.tenant(),
            a.caller.user_id()
        );
        admin.batch_execute(&register).await.unwrap();
        let mut peer = a.clone();
        peer.device = coditect_protocol::DeviceId::new(device);
        peer.tokens.clear();
        // Each device pushes twice: its whole part, then a greater one.
        for (seq, total) in [(1, number), (2, number + 5)] {
            let mut edit = update(
                &base,
                row("org_skill_learnings", fact.clone()),
                Some(base.version),
                EDIT_MS,
            );
            edit.register = false;
            edit.counters =
                BTreeMap::from([("usage_count".to_owned(), CounterPart { seq, total })]);
            let outcome = peer.push_one(peer.own(), edit).await;
            assert_eq!(outcome.status, Status::Merged);
        }
        expected += number + 5;
    }
    let now = a.pull(a.own(), File::Org).await.remove(0);
    assert_eq!(now.row.unwrap()["usage_count"], expected);
    assert!(open_conflicts(&a).await.is_empty());
    assert_digests(&db).await;
}

#[tokio::test]
async fn greater_numbers_win_beside_a_conflict() {
    let db = TestDb::new().await;
    let (mut a, mut b) = two_devices(&db).await;
    let session = |title: &str, messages: i64| {
        let ends = "2026-01-01T00:00:00Z";
        json!({"session_id": "s", "title": title, "message_count": messages, "end_time": ends})
    };
    let base = a.add(a.own(), "context_sessions", session("base", 1)).await;
    let of = |title, messages, at| {
        update(
            &base,
            row("context_sessions", session(title, messages)),
            Some(base.version),
            at,
        )
    };
    a.push_one(a.own(), of("a", 9, EDIT_MS + 1)).await;
    let conflict = b.push_one(b.own(), of("b", 5, EDIT_MS + 2)).await;
    assert_eq!(conflict.status, Status::Conflict);
    let stored = conflict.stored.unwrap().row.unwrap();
    assert_eq!(
        (&stored["title"], &stored["message_count"]),
        (&json!("b"), &json!(9))
    );
    assert_digests(&db).await;
}

#[tokio::test]
async fn a_key_named_twice_in_a_batch_is_settled_in_order() {
    // The second change does not say that it knew the first: that is a conflict, with the first
    // kept (ADR 0020). The delete knew neither.
    let db = TestDb::new().await;
    let (mut a, _) = two_devices(&db).await;
    let base = a
        .add(a.own(), "org_decisions", json!({"title": "base"}))
        .await;
    let changes = vec![
        retitled(&base, "one", EDIT_MS + 1),
        retitled(&base, "two", EDIT_MS + 2),
        delete(&base, Some(base.version), EDIT_MS + 3),
    ];
    let outcomes = a.push(a.own(), changes).await;
    let statuses: Vec<Status> = outcomes.iter().map(|it| it.status).collect();
    let expected = [Status::Applied, Status::Conflict, Status::Superseded];
    assert_eq!(statuses, expected, "{outcomes:?}");
    let lost = outcomes[1].loser.as_ref().unwrap().row.as_ref().unwrap();
    assert_eq!(lost["title"], json!("one"));
    let now = a.pull(a.own(), File::Org).await;
    assert_eq!(now.len(), 1);
    assert_eq!(
        (now[0].op, now[0].version),
        (Op::Upsert, outcomes[1].stored.as_ref().unwrap().version)
    );
    assert_eq!(now[0].row.as_ref().unwrap()["title"], json!("two"));
    assert_digests(&db).await;
}
