//! Descents: sums over ranges of ids, lists, and rows read again.

use std::collections::BTreeSet;

use coditect_core::{digest, hash};
use coditect_protocol::catalogue::{Direction, File};
use coditect_protocol::limits::{DESCENT_LISTED_MAX, DESCENT_PARTS, DESCENT_RANGES_MAX};
use coditect_protocol::wire::descent::{Descended, Descent, NamedRows, Range};
use coditect_protocol::wire::pull::{Page, Position};
use coditect_protocol::{RowId, Scope};
use coditect_server_store::sync::SyncError;
use coditect_testkit::TestDb;
use serde_json::json;
use uuid::Uuid;

use crate::support::{Peer, delete, fresh_uuid, full_row, insert, pushed_tables, row, table};

async fn ask(peer: &Peer, scope: Scope, file: File, descent: Descent) -> Result<Page, SyncError> {
    let mut position = Position {
        scope,
        file,
        cursor: None,
        token: None,
        descent: Some(descent),
    };
    loop {
        let request = peer.pull_request(vec![position.clone()]);
        let page = peer.ask(&request).await?.pages.remove(0);
        if page.at_head {
            return Ok(page);
        }
        assert_eq!(page.descent, None, "only the head has an answer");
        position.cursor = Some(page.cursor);
    }
}

async fn descend(peer: &Peer, scope: Scope, file: File, descent: Descent) -> Descended {
    let page = ask(peer, scope, file, descent).await.unwrap();
    page.descent.unwrap()
}

fn ranges(ranges: Vec<Range>) -> Descent {
    Descent {
        ranges,
        rows: Vec::new(),
    }
}

#[tokio::test]
async fn the_terms_of_every_table_are_those_of_the_digest() {
    let db = TestDb::new().await;
    let tenant = db.with_tenant("acme").await;
    let mut peer = Peer::new(&db, &db.with_user(&tenant, "ann@acme.example").await);
    for table in pushed_tables() {
        let change = insert(table, full_row(table, 3), peer.device);
        let kept = peer.push_one(peer.own(), change).await.stored.unwrap();
        let change = insert(table, full_row(table, 4), peer.device);
        let gone = peer.push_one(peer.own(), change).await.stored.unwrap();
        let change = delete(&gone, Some(gone.version), crate::support::EDIT_MS + 1);
        let gone = peer.push_one(peer.own(), change).await.stored.unwrap();
        let whole = ranges(vec![Range::whole(table.cloud, 2)]);
        let found = descend(&peer, peer.own(), table.file, whole).await;
        let listed = found.ranges[0].listed.as_ref().unwrap();
        assert_eq!(listed.len(), 2, "{}", table.cloud);
        for (stored, deleted) in [(kept, false), (gone, true)] {
            let hash: hash::ContentHash = stored.hash.parse().unwrap();
            let (version, device) = (stored.version, stored.device);
            let term = digest::term(table.cloud, stored.id, version, device, &hash, deleted);
            let entry = listed.iter().find(|entry| entry.id == stored.id).unwrap();
            assert_eq!(
                (entry.term, entry.version),
                (term, version),
                "{}",
                table.cloud
            );
        }
    }
}

#[tokio::test]
async fn a_difference_is_found_by_descending() {
    const ROWS: i64 = 3_000;
    let db = TestDb::new().await;
    let tenant = db.with_tenant("acme").await;
    let mut peer = Peer::new(&db, &db.with_user(&tenant, "ann@acme.example").await);
    for batch in 0..(ROWS / 500) {
        let rows = (batch * 500..(batch + 1) * 500).map(|n| {
            let value = row("org_decisions", json!({"title": format!("decision {n}")}));
            insert(table("org_decisions"), value, peer.device)
        });
        let rows: Vec<_> = rows.collect();
        peer.push(peer.own(), rows).await;
    }
    let whole = ranges(vec![Range::whole("org_decisions", ROWS)]);
    let page = ask(&peer, peer.own(), File::Org, whole).await.unwrap();
    let kept = &page.digests.as_ref().unwrap()[0];
    let divided = &page.descent.as_ref().unwrap().ranges[0];
    assert!(divided.listed.is_none() && divided.parts.len() <= DESCENT_PARTS);
    assert!(divided.parts.len() > DESCENT_PARTS / 2);
    let counts = divided.parts.iter().map(|part| part.count);
    assert_eq!(counts.sum::<i64>(), kept.count);
    let xor = divided.parts.iter().fold(0, |xor, part| xor ^ part.xor);
    assert_eq!(format!("{xor:016x}"), kept.digest);
    assert_eq!(divided.parts.last().unwrap().last.get(), Uuid::max());

    // The list of a part has the rows of the part, and its sums are the part's.
    let (before, part) = (divided.parts[3].last, &divided.parts[4]);
    let first = RowId::new(Uuid::from_u128(before.get().as_u128() + 1));
    let closer = Range {
        first,
        last: part.last,
        count: part.count,
        ..Range::whole("org_decisions", 0)
    };
    let found = descend(&peer, peer.own(), File::Org, ranges(vec![closer.clone()])).await;
    let listed = found.ranges[0].listed.clone().unwrap();
    assert_eq!(listed.len() as i64, part.count);
    assert_eq!(
        listed.iter().fold(0, |xor, entry| xor ^ entry.term),
        part.xor
    );
    assert!(listed.is_sorted_by(|a, b| a.id < b.id));

    // Whatever a device says about the size of a range, the answer is small and complete.
    for count in [0, 1, i64::MAX, -5] {
        let said = Range {
            count,
            ..Range::whole("org_decisions", 0)
        };
        let found = descend(&peer, peer.own(), File::Org, ranges(vec![said])).await;
        let divided = &found.ranges[0];
        assert!(divided.parts.len() <= DESCENT_PARTS && divided.listed.is_none());
        let counts = divided.parts.iter().map(|part| part.count);
        assert_eq!(counts.sum::<i64>(), ROWS, "{count}");
        let said = Range {
            count,
            ..closer.clone()
        };
        let found = descend(&peer, peer.own(), File::Org, ranges(vec![said])).await;
        assert!(
            found.ranges[0]
                .listed
                .as_ref()
                .is_some_and(|it| it.len() <= DESCENT_LISTED_MAX)
        );
    }
}

#[tokio::test]
async fn rows_that_only_go_up_are_compared_for_their_own_device() {
    let db = TestDb::new().await;
    let tenant = db.with_tenant("acme").await;
    let user = db.with_user(&tenant, "ann@acme.example").await;
    let mut one = Peer::new(&db, &user);
    let other = db.log_in(&user.license_key, &Default::default()).await;
    let mut other = Peer::on(&db, &other.caller);
    let name = "context_tool_analytics";
    assert_eq!(table(name).direction, Direction::Up);
    for (seed, peer) in [(1, &mut one), (2, &mut other)] {
        let change = insert(table(name), full_row(table(name), seed), peer.device);
        peer.push_one(peer.own(), change).await;
    }
    let mut seen = BTreeSet::new();
    for peer in [&one, &other] {
        for count in [1, 1_000] {
            let whole = ranges(vec![Range::whole(name, count)]);
            let page = ask(peer, peer.own(), File::Sessions, whole).await.unwrap();
            let found = page.descent.unwrap();
            let listed = found.ranges[0].listed.clone().unwrap();
            assert_eq!(listed.len(), 1);
            let kept = &page.digests.unwrap()[0];
            assert_eq!(format!("{:016x}", listed[0].term), kept.digest);
            seen.insert(listed[0].id);
        }
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn rows_are_read_again_by_id_and_what_is_not_there_is_said() {
    let db = TestDb::new().await;
    let tenant = db.with_tenant("acme").await;
    let mut peer = Peer::new(&db, &db.with_user(&tenant, "ann@acme.example").await);
    let stored = peer
        .add(peer.own(), "org_decisions", json!({"title": "a"}))
        .await;
    let other = peer
        .add(peer.org(), "org_decisions", json!({"title": "b"}))
        .await;
    let unknown = RowId::new(fresh_uuid());
    let mut named = NamedRows {
        table: "org_decisions".to_owned(),
        ids: vec![stored.id, other.id, unknown],
    };
    let descent = Descent {
        ranges: Vec::new(),
        rows: vec![named.clone()],
    };
    let found = descend(&peer, peer.own(), File::Org, descent).await;
    assert_eq!(
        found.rows.iter().map(|row| row.id).collect::<Vec<_>>(),
        [stored.id]
    );
    assert_eq!(found.rows[0].row.as_ref().unwrap()["title"], "a");
    // The organisation's row is in another stream.
    named.ids = vec![other.id, unknown];
    named.ids.sort_unstable();
    assert_eq!(found.absent, [named]);
}

#[tokio::test]
async fn questions_about_too_much_or_about_what_is_elsewhere_are_refused() {
    let db = TestDb::new().await;
    let tenant = db.with_tenant("acme").await;
    let peer = Peer::new(&db, &db.with_user(&tenant, "ann@acme.example").await);
    let many = vec![Range::whole("org_decisions", 1); DESCENT_RANGES_MAX + 1];
    let refused = ask(&peer, peer.own(), File::Org, ranges(many)).await;
    assert!(
        matches!(refused, Err(SyncError::BadRequest(_))),
        "{refused:?}"
    );
    let ids = (0..501).map(|n| RowId::new(Uuid::from_u128(n))).collect();
    let descent = Descent {
        ranges: Vec::new(),
        rows: vec![NamedRows {
            table: "org_decisions".to_owned(),
            ids,
        }],
    };
    let refused = ask(&peer, peer.own(), File::Org, descent).await;
    assert!(
        matches!(refused, Err(SyncError::BadRequest(_))),
        "{refused:?}"
    );
    for (scope, file, name) in [
        (peer.own(), File::Org, "context_messages"),
        (peer.own(), File::Org, "users"),
        (peer.own(), File::Platform, "platform_components"),
        (Scope::Platform, File::Platform, "platform_usage_stats"),
    ] {
        let refused = ask(&peer, scope, file, ranges(vec![Range::whole(name, 1)])).await;
        assert!(matches!(refused, Err(SyncError::UnknownTable)), "{name}");
    }
}
