//! The platform's catalogue: imported whole, pulled by every tenant.

use coditect_core::{digest, hash};
use coditect_protocol::Scope;
use coditect_protocol::catalogue::{Class, File, TABLES};
use coditect_protocol::wire::{Op, Row};
use coditect_server_store::sync::catalogue::{ImportError, Imported, import};
use coditect_testkit::TestDb;
use serde_json::json;

use crate::support::{Peer, full_row};

/// Returns rows of all four tables, every column filled.
fn rows(seeds: std::ops::Range<i64>) -> Vec<(&'static str, Row)> {
    let tables = TABLES
        .iter()
        .filter(|table| table.class == Class::Catalogue);
    tables
        .flat_map(|table| {
            seeds
                .clone()
                .map(|seed| (table.cloud, full_row(table, seed)))
        })
        .collect()
}

fn text(rows: &[(&str, Row)]) -> String {
    rows.iter()
        .map(|(table, row)| format!("{}\n", json!({"table": table, "row": row})))
        .collect()
}

async fn reader(db: &TestDb, tenant: &str) -> Peer {
    let tenant = db.with_tenant(tenant).await;
    let email = format!("ann@{}.example", tenant.name);
    Peer::new(db, &db.with_user(&tenant, &email).await)
}

#[tokio::test]
async fn every_column_comes_down_to_every_tenant() {
    let db = TestDb::new().await;
    let rows = rows(0..3);
    let imported = import(db.db(), &text(&rows), db.clock().now())
        .await
        .unwrap();
    assert_eq!(
        imported,
        Imported {
            added: 12,
            ..Imported::default()
        }
    );
    for tenant in ["acme", "other"] {
        let mut peer = reader(&db, tenant).await;
        let page = peer.page(Scope::Platform, File::Platform).await;
        let mut got: Vec<_> = page
            .changes
            .iter()
            .map(|stored| (stored.table.as_str(), stored.row.clone().unwrap()))
            .collect();
        let mut expected = rows.clone();
        got.sort_by_key(|row| format!("{row:?}"));
        expected.sort_by_key(|row| format!("{row:?}"));
        assert_eq!(got, expected);
        assert!(page.changes.is_sorted_by_key(|stored| stored.cursor));
        for kept in page.digests.unwrap() {
            let mut expected = digest::Digest::default();
            for it in page
                .changes
                .iter()
                .filter(|stored| stored.table == kept.table)
            {
                let hash: hash::ContentHash = it.hash.parse().unwrap();
                let term = digest::term(&it.table, it.id, it.version, it.device, &hash, false);
                expected.add(term, false);
            }
            assert_eq!((kept.rows, kept.digest), (expected.rows, expected.text()));
        }
    }
}

#[tokio::test]
async fn importing_again_changes_nothing_and_absence_removes() {
    let db = TestDb::new().await;
    let mut peer = reader(&db, "acme").await;
    let now = db.clock().now();
    import(db.db(), &text(&rows(0..3)), now).await.unwrap();
    peer.pull(Scope::Platform, File::Platform).await;
    let again = import(db.db(), &text(&rows(0..3)), now).await.unwrap();
    assert_eq!(
        again,
        Imported {
            unchanged: 12,
            ..Imported::default()
        }
    );
    assert!(peer.pull(Scope::Platform, File::Platform).await.is_empty());

    let mut fewer = rows(1..3);
    let component = fewer
        .iter_mut()
        .find(|(table, _)| *table == "platform_components");
    component.unwrap().1["name"] = json!("renamed");
    let imported = import(db.db(), &text(&fewer), now).await.unwrap();
    let expected = Imported {
        added: 0,
        changed: 1,
        removed: 4,
        unchanged: 7,
    };
    assert_eq!(imported, expected);
    let pulled = peer.pull(Scope::Platform, File::Platform).await;
    let removed = pulled
        .iter()
        .filter(|stored| stored.op == Op::Delete)
        .count();
    assert_eq!((pulled.len(), removed), (5, 4));
    let back = import(db.db(), &text(&rows(0..3)), now).await.unwrap();
    assert_eq!(
        back,
        Imported {
            added: 4,
            changed: 1,
            removed: 0,
            unchanged: 7
        }
    );
    let page = peer.page(Scope::Platform, File::Platform).await;
    assert!(
        page.digests
            .unwrap()
            .iter()
            .all(|kept| (kept.rows, kept.count) == (3, 3))
    );
}

#[tokio::test]
async fn a_bad_line_changes_nothing() {
    let db = TestDb::new().await;
    let text = format!(
        "{}{{\"table\": \"components\", \"row\": {{}}}}\n",
        text(&rows(0..1))
    );
    let refused = import(db.db(), &text, db.clock().now()).await;
    assert!(
        matches!(refused, Err(ImportError::Line { line: 5, .. })),
        "{refused:?}"
    );
    let mut peer = reader(&db, "acme").await;
    assert!(peer.pull(Scope::Platform, File::Platform).await.is_empty());
}
