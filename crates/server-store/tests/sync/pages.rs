//! Pages: positions, limits, heads and digests.

use coditect_core::{digest, hash};
use coditect_protocol::catalogue::File;
use coditect_protocol::limits::PULL_CHANGES_MAX;
use coditect_protocol::wire::Op;
use coditect_protocol::wire::pull::{Page, Position};
use coditect_protocol::{Cursor, Epoch, Scope};
use coditect_server_store::sync::SyncError;
use coditect_testkit::TestDb;
use serde_json::json;

use crate::support::{Peer, full_row, insert, row, table};

async fn one_device(db: &TestDb) -> Peer {
    let tenant = db.with_tenant("acme").await;
    Peer::new(db, &db.with_user(&tenant, "ann@acme.example").await)
}

fn messages(
    peer: &Peer,
    range: std::ops::Range<usize>,
) -> Vec<coditect_protocol::wire::push::Change> {
    range
        .map(|n| {
            let id = format!("m{n}");
            let value = json!({"message_id": id, "session_id": "s", "role": "user"});
            insert(
                table("context_messages"),
                row("context_messages", value),
                peer.device,
            )
        })
        .collect()
}

#[tokio::test]
async fn pages_around_their_limit_lose_and_repeat_nothing() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    let mut sent = Vec::new();
    for (count, rest) in [(PULL_CHANGES_MAX - 1, 0), (1, 0), (1, 1)] {
        let from = sent.len();
        let changes = messages(&peer, from..from + count);
        for part in changes.chunks(1_000) {
            peer.push(peer.own(), part.to_vec()).await;
        }
        sent.extend(changes.into_iter().map(|change| change.id));
        peer.cursors.clear();
        let page = peer.page(peer.own(), File::Sessions).await;
        assert_eq!(
            (page.changes.len(), page.at_head),
            (sent.len() - rest, rest == 0)
        );
        assert_eq!(page.digests.is_some(), page.at_head);
        let mut got: Vec<_> = page.changes.into_iter().map(|stored| stored.id).collect();
        got.extend(
            peer.pull(peer.own(), File::Sessions)
                .await
                .into_iter()
                .map(|it| it.id),
        );
        assert_eq!(got, sent);
    }
}

#[tokio::test]
async fn digests_at_the_head_are_those_of_the_pulled_rows() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    for seed in 0..3 {
        let of_file = File::Org.tables().filter(|table| table.comes_down());
        let changes = of_file.map(|table| insert(table, full_row(table, seed), peer.device));
        peer.push(peer.own(), changes.collect()).await;
    }
    let page: Page = peer.page(peer.own(), File::Org).await;
    assert!(page.at_head);
    let digests = page.digests.unwrap();
    assert_eq!(
        digests.len(),
        File::Org
            .tables()
            .filter(|table| table.comes_down())
            .count()
    );
    for kept in digests {
        let mut expected = digest::Digest::default();
        for it in page
            .changes
            .iter()
            .filter(|stored| stored.table == kept.table)
        {
            let hash: hash::ContentHash = it.hash.parse().unwrap();
            let deleted = it.op == Op::Delete;
            let term = digest::term(&it.table, it.id, it.version, it.device, &hash, deleted);
            expected.add(term, deleted);
        }
        assert_eq!((kept.rows, kept.count), (expected.rows, expected.count));
        assert_eq!(kept.digest, expected.text());
    }
    let again = peer.page(peer.own(), File::Org).await;
    assert!(again.changes.is_empty() && again.at_head && again.digests.is_some());
}

#[tokio::test]
async fn wrong_cursors_are_told_apart() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    peer.add(peer.own(), "org_decisions", json!({"title": "t"}))
        .await;
    let head = peer.page(peer.own(), File::Org).await.cursor;
    let ask = |cursor: Cursor| {
        let position = Position {
            scope: peer.own(),
            file: File::Org,
            cursor: Some(cursor),
            token: None,
            descent: None,
        };
        peer.pull_request(vec![position])
    };
    let future = ask(Cursor {
        n: head.n + 1,
        ..head
    });
    assert!(matches!(
        peer.ask(&future).await,
        Err(SyncError::InvalidCursor)
    ));
    let other = ask(Cursor {
        epoch: Epoch(head.epoch.0 ^ 1),
        n: 0,
    });
    match peer.ask(&other).await {
        Err(SyncError::EpochChanged { epoch }) => assert_eq!(epoch, head.epoch),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn all_scopes_of_the_caller_are_listed_and_read_at_once() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    peer.add(peer.own(), "org_decisions", json!({"title": "own"}))
        .await;
    peer.add(peer.org(), "org_decisions", json!({"title": "shared"}))
        .await;
    let position = |scope, file| Position {
        scope,
        file,
        cursor: None,
        token: None,
        descent: None,
    };
    let positions = vec![
        position(peer.own(), File::Org),
        position(peer.org(), File::Org),
        position(peer.own(), File::Projects),
        position(Scope::Platform, File::Platform),
    ];
    let reply = peer.ask(&peer.pull_request(positions)).await.unwrap();
    assert_eq!(reply.scopes, [peer.own(), peer.org(), Scope::Platform]);
    let counts: Vec<_> = reply.pages.iter().map(|page| page.changes.len()).collect();
    assert_eq!(counts, [1, 1, 0, 0]);
    assert!(reply.pages.iter().all(|page| page.at_head));
}

#[tokio::test]
async fn a_team_is_seen_by_its_members_and_written_by_those_who_may() {
    let db = TestDb::new().await;
    let tenant = db.with_tenant("acme").await;
    let mut ann = Peer::new(&db, &db.with_user(&tenant, "ann@acme.example").await);
    let mut bob = Peer::new(&db, &db.with_user(&tenant, "bob@acme.example").await);
    let team = crate::support::fresh_uuid();
    let (id, a, b) = (tenant.id, ann.caller.user_id(), bob.caller.user_id());
    let make = format!(
        "insert into scopes (tenant_id, scope_id, kind) values ('{id}', '{team}', 'team');
        insert into scope_members (tenant_id, scope_id, user_id, role) values
        ('{id}', '{team}', '{a}', 'member'), ('{id}', '{team}', '{b}', 'viewer')"
    );
    db.superuser_client()
        .await
        .batch_execute(&make)
        .await
        .unwrap();
    let scope = Scope::Team(team);
    ann.add(scope, "org_decisions", json!({"title": "of the team"}))
        .await;
    assert_eq!(bob.pull(scope, File::Org).await.len(), 1);
    let change = insert(
        table("org_decisions"),
        row("org_decisions", json!({"title": "x"})),
        bob.device,
    );
    let request = bob.request(scope, File::Org, vec![change]);
    assert!(matches!(
        bob.send(&request).await,
        Err(SyncError::PermissionDenied)
    ));
}

#[tokio::test]
async fn the_platform_catalogue_comes_down_to_every_tenant() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    let fill = "insert into platform_components (id, content_hash, version, cursor, created_at,
        updated_at, component_id, component_type, name) values
        ('00000000-0000-8000-8000-000000000001', decode(repeat('ab', 32), 'hex'), 5, 1, now(),
        now(), 'c', 'agent', 'n');
        update platform_stream set n = 1;
        insert into platform_digests (table_name, rows, count, xor)
        values ('platform_components', 1, 1, 7)";
    db.superuser_client()
        .await
        .batch_execute(fill)
        .await
        .unwrap();
    let page = peer.page(Scope::Platform, File::Platform).await;
    assert_eq!(page.changes.len(), 1);
    assert_eq!(page.changes[0].row.as_ref().unwrap()["component_id"], "c");
    assert_eq!(page.digests.unwrap()[0].digest, "0000000000000007");
    assert!(
        peer.page(peer.own(), File::Platform)
            .await
            .changes
            .is_empty()
    );
}

#[tokio::test]
async fn only_one_up_table_of_the_asked_files_can_be_named() {
    let db = TestDb::new().await;
    let peer = one_device(&db).await;
    let position = Position {
        scope: peer.own(),
        file: File::Sessions,
        cursor: None,
        token: None,
        descent: None,
    };
    for name in ["context_messages", "org_quality_metrics", "pg_class"] {
        let mut request = peer.pull_request(vec![position.clone()]);
        request.table = Some(name.to_owned());
        assert!(
            matches!(peer.ask(&request).await, Err(SyncError::UnknownTable)),
            "{name}"
        );
    }
}
