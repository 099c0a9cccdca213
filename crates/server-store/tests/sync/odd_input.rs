//! What agent data is like: NUL characters, private-use characters, lines of a megabyte.

use coditect_protocol::catalogue::File;
use coditect_protocol::wire::push::Status;
use coditect_testkit::TestDb;
use serde_json::json;

use crate::support::{Peer, assert_digests, full_row, insert, pushed_tables, row, table};

async fn one_device(db: &TestDb) -> Peer {
    let tenant = db.with_tenant("acme").await;
    Peer::new(db, &db.with_user(&tenant, "ann@acme.example").await)
}

#[tokio::test]
async fn nul_and_private_use_characters_arrive_as_they_were() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    let odd = "\0 \u{F8FF}N \u{F8FF} \u{FFFF} \u{10FFFF} \u{1}\u{7f}\u{2028} 💾 \u{F8FF}";
    let mut sent = Vec::new();
    for content in ["", "\0", odd] {
        let value = json!({
            "message_id": content, "session_id": odd, "role": "user", "content": content,
            "content_blocks": [{content: {"deep": [content, odd]}}],
            "extra": {"sequence": content},
        });
        let change = insert(
            table("context_messages"),
            row("context_messages", value),
            peer.device,
        );
        sent.push(change.row.clone());
        let outcome = peer.push_one(peer.own(), change).await;
        assert_eq!(outcome.status, Status::Applied, "{:?}", outcome.reason);
    }
    let pulled = peer.pull(peer.own(), File::Sessions).await;
    assert_eq!(
        pulled
            .into_iter()
            .map(|stored| stored.row)
            .collect::<Vec<_>>(),
        sent
    );
}

#[tokio::test]
async fn long_values_in_every_text_column_are_stored_in_every_table() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    // Text that does not compress below an index's limit.
    let mut state = 1_u64;
    let long: String = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'!' + (state >> 33) as u8 % 90)
    })
    .take(20_000)
    .collect();
    for table in pushed_tables() {
        let mut row = full_row(table, 1);
        for value in row.values_mut().filter(|value| value.is_string()) {
            if !value.as_str().unwrap().starts_with("2025-12-31T") {
                *value = json!(long);
            }
        }
        let change = insert(table, row, peer.device);
        let outcome = peer.push_one(peer.own(), change).await;
        assert_eq!(
            outcome.status,
            Status::Applied,
            "{}: {:?}",
            table.cloud,
            outcome.reason
        );
    }
    assert_digests(&db).await;
}

#[tokio::test]
async fn lines_of_a_megabyte_and_more_come_back_in_bounded_replies() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    let sizes = [
        1_000_000, 10, 6_000_000, 10, 1_000_000, 2_000_000, 1_000_000, 1_000_000, 10,
    ];
    let mut changes = Vec::new();
    for (n, size) in sizes.into_iter().enumerate() {
        let text = "0123456789".repeat(size / 10);
        // Long columns of messages are kept apart and do not count; these stay in their rows.
        let value = json!({"title": n.to_string(), "rationale": text});
        changes.push(insert(
            table("org_decisions"),
            row("org_decisions", value),
            peer.device,
        ));
    }
    let outcomes = peer.push(peer.own(), changes.clone()).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.status == Status::Applied)
    );
    let (mut pulled, mut pages) = (Vec::new(), 0);
    loop {
        let page = peer.page(peer.own(), File::Org).await;
        pages += 1;
        let bytes = serde_json::to_vec(&page).unwrap().len();
        let target = coditect_protocol::limits::PULL_BYTES_TARGET;
        assert!(
            page.changes.len() == 1 || bytes < target + 20_000,
            "{bytes}"
        );
        pulled.extend(page.changes.into_iter().map(|stored| stored.row));
        if page.at_head {
            break;
        }
    }
    assert!(pages >= 4, "{pages}");
    assert_eq!(
        pulled,
        changes
            .into_iter()
            .map(|change| change.row)
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn numbers_survive_the_database() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    let numbers = json!([
        0,
        -1,
        1.5,
        1e18,
        -1e18,
        1e19,
        1e300,
        5e-324,
        9_007_199_254_740_992_i64,
        0.1,
        123_456.789
    ]);
    let value = json!({"title": "t", "confidence": 1e-300, "tags": numbers});
    let change = insert(
        table("org_decisions"),
        row("org_decisions", value),
        peer.device,
    );
    let sent = change.row.clone();
    assert_eq!(
        peer.push_one(peer.own(), change).await.status,
        Status::Applied
    );
    assert_eq!(peer.pull(peer.own(), File::Org).await.remove(0).row, sent);
}
