//! Writes and lists of the views: the same digests, numbers and audit trail as any push.

use coditect_core::canonical;
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::Row;
use coditect_protocol::wire::push::Status;
use coditect_protocol::{DeviceId, Scope};
use coditect_server_store::sync::SyncError;
use coditect_server_store::sync::views::{
    self, Edited, Filter, Listed, Listing, NewFact, View, Writer, Written,
};
use coditect_testkit::TestDb;
use serde_json::{Value, json};

use crate::support::{NOW_MS, Peer, assert_digests, count, delete, fresh_uuid, row, table, update};

fn writer(peer: &Peer, scope: Scope) -> Writer {
    Writer {
        scope,
        device: peer.device,
        now_ms: peer.now_ms,
    }
}

fn fact(id: &str, content: &str) -> NewFact {
    let value = json!({"message_id": id, "session_id": "s", "role": "user", "content": content});
    NewFact {
        row: row("context_messages", value),
        created_at: canonical::time_from_ms(NOW_MS),
    }
}

async fn add(peer: &Peer, writer: Writer, facts: &[NewFact]) -> Result<Written, SyncError> {
    peer.db
        .tenant("views.add", &peer.caller, |mut tx| async move {
            views::add_facts(&mut tx, writer, View::Messages.table(), facts).await
        })
        .await
}

/// Sets one column of a task.
async fn set(peer: &Peer, writer: Writer, name: &str, value: Value) -> Edited {
    let key = row(
        "context_task_tracking",
        json!({"task_id": "1", "session_id": "s"}),
    );
    let (key, value) = (&key, &value);
    let edited = peer
        .db
        .tenant("views.edit", &peer.caller, |mut tx| async move {
            let edit = |stored: Option<&Row>| {
                let mut row = stored.cloned().unwrap_or_default();
                row.extend(key.clone());
                row.insert(name.to_owned(), value.clone());
                row
            };
            views::edit_record(&mut tx, writer, View::Tasks.table(), key, &edit).await
        })
        .await;
    edited.unwrap()
}

fn listing(peer: &Peer, view: View) -> Listing {
    Listing {
        view,
        scope: peer.own(),
        device: peer.device,
        cursor: 0,
        epoch: None,
        limit: 100,
        filter: Filter::default(),
    }
}

async fn list(peer: &Peer, listing: &Listing) -> Result<Listed, SyncError> {
    peer.db
        .tenant_snapshot("views.list", &peer.caller, |mut tx| async move {
            views::list(&mut tx, listing).await
        })
        .await
}

async fn ann() -> (TestDb, Peer) {
    let db = TestDb::new().await;
    let tenant = db.with_tenant("acme").await;
    let user = db.with_user(&tenant, "ann@acme.example").await;
    let peer = Peer::new(&db, &user);
    (db, peer)
}

#[tokio::test]
async fn facts_are_counted_and_heard_of_like_any_push() {
    let (db, mut peer) = ann().await;
    let writer = writer(&peer, peer.own());
    let facts = [fact("a", "one"), fact("b", "two"), fact("a", "one")];
    let written = add(&peer, writer, &facts).await.unwrap();
    let statuses: Vec<_> = written.outcomes.iter().map(|it| it.status).collect();
    assert_eq!(
        statuses,
        [Status::Applied, Status::Applied, Status::Duplicate]
    );
    // Another text under the identity changes nothing, and nothing is kept as a conflict.
    let other = add(&peer, writer, &[fact("a", "other")]).await.unwrap();
    assert_eq!(other.outcomes[0].status, Status::Duplicate);
    assert_eq!(other.cursor, written.cursor);
    assert_eq!(count(&db, "sync_conflicts").await, 0);
    assert_eq!(count(&db, "audit_log where action = 'push'").await, 2);
    assert_eq!(count(&db, "device_cursors where rows_pushed = 4").await, 1);
    assert_eq!(count(&db, "device_tokens").await, 0);
    assert_digests(&db).await;
    let pulled = peer.pull(peer.own(), File::Sessions).await;
    let contents: Vec<_> = pulled
        .iter()
        .map(|it| &it.row.as_ref().unwrap()["content"])
        .collect();
    assert_eq!(contents, ["one", "two"]);
}

#[tokio::test]
async fn a_deleted_fact_stays_away_and_a_deleted_record_comes_back() {
    let (db, mut peer) = ann().await;
    let writer = writer(&peer, peer.own());
    let message = add(&peer, writer, &[fact("a", "one")]).await.unwrap();
    let message = message.outcomes[0].stored.clone().unwrap();
    let task = set(&peer, writer, "status", json!("pending")).await;
    assert!(!task.existed);
    let task = task.written.outcomes[0].stored.clone().unwrap();
    let deletes = vec![
        delete(&message, Some(message.version), NOW_MS),
        delete(&task, Some(task.version), NOW_MS),
    ];
    for outcome in peer.push(peer.own(), deletes).await {
        assert_eq!(outcome.status, Status::Applied);
    }
    for view in [View::Messages, View::Tasks] {
        let listed = list(&peer, &listing(&peer, view)).await.unwrap();
        assert_eq!(
            (listed.rows.len(), listed.cursor, listed.has_more),
            (0, 4, false)
        );
    }
    let again = add(&peer, writer, &[fact("a", "one")]).await.unwrap();
    assert_eq!(again.outcomes[0].status, Status::Duplicate);
    let again = set(&peer, writer, "status", json!("completed")).await;
    assert!(!again.existed);
    assert_ne!(again.written.outcomes[0].status, Status::Duplicate);
    let listed = list(&peer, &listing(&peer, View::Tasks)).await.unwrap();
    assert_eq!(listed.rows[0].row.as_ref().unwrap()["status"], "completed");
    assert_digests(&db).await;
}

/// Edits of two devices of one person, one through the view and one by a file, at once: whoever
/// gets the lock later builds on what the other stored, so the view never meets a conflict.
#[tokio::test]
async fn concurrent_edits_through_the_view_lose_nothing() {
    let (db, peer) = ann().await;
    let writer = writer(&peer, peer.own());
    let names = [
        "description",
        "details",
        "owner",
        "priority",
        "track_id",
        "project_id",
    ];
    let edits = names.map(|name| set(&peer, writer, name, json!(name)));
    let edited = futures_util::future::join_all(edits).await;
    assert_eq!(edited.iter().filter(|edit| !edit.existed).count(), 1);
    let listed = list(&peer, &listing(&peer, View::Tasks)).await.unwrap();
    assert_eq!(listed.rows.len(), 1);
    for name in names {
        assert_eq!(listed.rows[0].row.as_ref().unwrap()[name], name);
    }
    assert_eq!(count(&db, "sync_conflicts").await, 0);
    assert_digests(&db).await;
}

/// A device that edited the row before it heard of the view's write meets a conflict.
#[tokio::test]
async fn a_device_that_does_not_know_of_the_write_is_told() {
    let (db, mut peer) = ann().await;
    let writer = Writer {
        device: DeviceId::new(fresh_uuid()),
        ..writer(&peer, peer.own())
    };
    // The view's device is not registered yet.
    let refused = add(&peer, writer, &[fact("a", "one")]).await.unwrap_err();
    assert!(matches!(refused, SyncError::DeviceUnknown), "{refused}");
    let now = chrono::DateTime::from_timestamp_millis(NOW_MS).unwrap();
    views::register_web_device(&peer.db, &peer.caller, writer.device, now)
        .await
        .unwrap();
    let value = json!({"task_id": "1", "session_id": "s", "description": "old"});
    let stored = peer.add(peer.own(), "context_task_tracking", value).await;
    let edited = set(&peer, writer, "description", json!("by the view")).await;
    assert_eq!(edited.written.outcomes[0].status, Status::Applied);
    let value = json!({"task_id": "1", "session_id": "s", "description": "by the device"});
    let late = update(
        &stored,
        row("context_task_tracking", value),
        Some(stored.version),
        NOW_MS - 1,
    );
    let outcome = peer.push_one(peer.own(), late).await;
    assert_eq!(outcome.status, Status::Conflict);
    assert_eq!(count(&db, "sync_conflicts").await, 1);
    assert_digests(&db).await;
}

#[tokio::test]
async fn scopes_of_others_do_not_exist() {
    let (db, peer) = ann().await;
    let tenant = db.with_tenant("beta").await;
    let eve = db.with_user(&tenant, "eve@beta.example").await;
    let eve = Peer::new(&db, &eve);
    let nobody = Scope::User(fresh_uuid());
    for scope in [peer.own(), peer.org(), nobody, Scope::Team(fresh_uuid())] {
        let refused = add(&eve, writer(&eve, scope), &[fact("a", "one")]).await;
        assert!(
            matches!(refused, Err(SyncError::ScopeNotFound)),
            "{refused:?}"
        );
        let mut wanted = listing(&eve, View::Messages);
        wanted.scope = scope;
        let refused = list(&eve, &wanted).await;
        assert!(
            matches!(refused, Err(SyncError::ScopeNotFound)),
            "{refused:?}"
        );
    }
    assert_eq!(count(&db, "streams where n > 0").await, 0);
    let platform = add(&eve, writer(&eve, Scope::Platform), &[fact("a", "one")]).await;
    assert!(
        matches!(platform, Err(SyncError::DirectionRefused)),
        "{platform:?}"
    );
}

/// A page ends where its bytes end; the next one goes on there.
#[tokio::test]
async fn pages_end_by_bytes_and_lose_no_row() {
    let (_db, peer) = ann().await;
    let large = "x".repeat(1_500_000);
    let facts: Vec<_> = (0..5)
        .map(|n| fact(&n.to_string(), &format!("{n}{large}")))
        .collect();
    add(&peer, writer(&peer, peer.own()), &facts).await.unwrap();
    let mut wanted = listing(&peer, View::Messages);
    let mut seen = Vec::new();
    loop {
        let listed = list(&peer, &wanted).await.unwrap();
        assert!(
            (1..=2).contains(&listed.rows.len()),
            "{}",
            listed.rows.len()
        );
        let ids = listed
            .rows
            .iter()
            .map(|it| it.row.as_ref().unwrap()["message_id"].clone());
        seen.extend(ids);
        wanted.cursor = listed.cursor;
        if !listed.has_more {
            break;
        }
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4"]);
    assert_eq!(
        table("context_messages").cloud,
        View::Messages.table().cloud
    );
}
