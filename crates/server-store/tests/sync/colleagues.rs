//! People of one tenant and of another: what is private stays unseen.

use coditect_protocol::Scope;
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::pull::Position;
use coditect_protocol::wire::push::{Change, Status};
use coditect_server_store::identity::Role;
use coditect_server_store::sync::SyncError;
use coditect_testkit::TestDb;
use serde_json::json;
use uuid::Uuid;

use crate::support::{Peer, assert_digests, delete, full_row, insert, table};

fn transcript(peer: &Peer) -> Vec<Change> {
    File::Sessions
        .tables()
        .filter(|table| !crate::support::per_device(table))
        .map(|table| insert(table, full_row(table, 1), peer.device))
        .collect()
}

#[tokio::test]
async fn two_people_import_the_same_transcript_and_both_replicas_are_full() {
    let db = TestDb::new().await;
    let acme = db.with_tenant("acme").await;
    let other = db.with_tenant("other").await;
    let mut peers = Vec::new();
    for (tenant, email) in [
        (&acme, "ann@x.example"),
        (&acme, "bob@x.example"),
        (&other, "cy@x.example"),
    ] {
        peers.push(Peer::new(&db, &db.with_user(tenant, email).await));
    }
    let mut replicas = Vec::new();
    for peer in &mut peers {
        let outcomes = peer.push(peer.own(), transcript(peer)).await;
        assert!(
            outcomes
                .iter()
                .all(|outcome| outcome.status == Status::Applied)
        );
        let rows = peer.pull(peer.own(), File::Sessions).await;
        assert!(rows.iter().all(|row| row.origin == peer.device));
        replicas.push(
            rows.into_iter()
                .map(|row| (row.id, row.hash, row.row))
                .collect::<Vec<_>>(),
        );
    }
    assert!(!replicas[0].is_empty());
    assert_eq!(replicas[0], replicas[1]);
    assert_eq!(replicas[0], replicas[2]);
    assert_digests(&db).await;
}

#[tokio::test]
async fn a_scope_of_somebody_else_is_not_found() {
    let db = TestDb::new().await;
    let acme = db.with_tenant("acme").await;
    let other = db.with_tenant("other").await;
    let mut ann = Peer::new(&db, &db.with_user(&acme, "ann@x.example").await);
    let bob = Peer::new(&db, &db.with_user(&acme, "bob@x.example").await);
    let eve = Peer::new(&db, &db.with_user(&other, "eve@x.example").await);
    let secret = ann
        .add(ann.own(), "org_decisions", json!({"title": "secret"}))
        .await;
    let nowhere = Scope::User(Uuid::from_u128(7));
    for (peer, scope) in [
        (&bob, ann.own()),
        (&eve, ann.own()),
        (&eve, ann.org()),
        (&bob, nowhere),
        (&bob, Scope::Team(ann.own().id())),
        (&bob, Scope::Org(ann.own().id())),
        (&ann, Scope::User(acme.id.get())),
    ] {
        let change = delete(&secret, Some(secret.version), 0);
        let request = peer.request(scope, File::Org, vec![change]);
        let pushed = peer.send(&request).await;
        assert!(
            matches!(pushed, Err(SyncError::ScopeNotFound)),
            "{scope} {pushed:?}"
        );
        let position = Position {
            scope,
            file: File::Org,
            cursor: None,
            token: None,
            descent: None,
        };
        // Left out, not refused: other positions of the request are answered.
        let pulled = peer.ask(&peer.pull_request(vec![position])).await.unwrap();
        assert_eq!(pulled.pages, [], "{scope}");
        assert!(!pulled.scopes.contains(&scope), "{scope}");
    }
    assert_eq!(ann.pull(ann.own(), File::Org).await.len(), 1);
}

#[tokio::test]
async fn the_organisation_is_read_by_all_and_written_by_some() {
    let db = TestDb::new().await;
    let acme = db.with_tenant("acme").await;
    let mut member = Peer::new(&db, &db.with_user(&acme, "m@x.example").await);
    member
        .add(member.org(), "org_decisions", json!({"title": "shared"}))
        .await;
    for role in [Role::Viewer, Role::Auditor, Role::Executive] {
        let user = db
            .with_role(&acme, &format!("{role}@x.example"), role)
            .await;
        let mut peer = Peer::new(&db, &user);
        // Auditors and executives look at what is shared, but take none of it to a device.
        let pulls = role == Role::Viewer;
        let position = peer.pull_request(vec![Position {
            scope: peer.org(),
            file: File::Org,
            cursor: None,
            token: None,
            descent: None,
        }]);
        let reply = peer.ask(&position).await.unwrap();
        let rows: usize = reply.pages.iter().map(|page| page.changes.len()).sum();
        assert_eq!(
            (reply.scopes.contains(&peer.org()), rows),
            (pulls, usize::from(pulls))
        );
        let row = crate::support::row("org_decisions", json!({"title": "t"}));
        let change = insert(table("org_decisions"), row, peer.device);
        let request = peer.request(peer.org(), File::Org, vec![change]);
        assert!(matches!(
            peer.send(&request).await,
            Err(SyncError::PermissionDenied)
        ));
        peer.add(peer.own(), "org_decisions", json!({"title": "own"}))
            .await;
    }
}

#[tokio::test]
async fn a_session_in_the_organisation_is_edited_by_its_author_only() {
    let db = TestDb::new().await;
    let acme = db.with_tenant("acme").await;
    let mut ann = Peer::new(&db, &db.with_user(&acme, "ann@x.example").await);
    let mut bob = Peer::new(&db, &db.with_user(&acme, "bob@x.example").await);
    let stored = ann
        .add(ann.org(), "context_sessions", json!({"session_id": "s"}))
        .await;
    let gone = delete(&stored, Some(stored.version), crate::support::EDIT_MS);
    let outcome = bob.push_one(bob.org(), gone.clone()).await;
    assert_eq!(
        outcome.code,
        Some(coditect_protocol::ErrorCode::DirectionRefused)
    );
    assert_eq!(ann.push_one(ann.org(), gone).await.status, Status::Applied);
}
