//! File tokens: lost replies, copied files, a database that was set back.

use coditect_protocol::catalogue::File;
use coditect_protocol::wire::pull::Position;
use coditect_protocol::wire::push::Status;
use coditect_server_store::cluster;
use coditect_server_store::sync::SyncError;
use coditect_testkit::TestDb;
use serde_json::json;

use crate::support::{Peer, assert_digests, count, fresh_uuid, insert, row, table};

async fn one_device(db: &TestDb) -> Peer {
    let tenant = db.with_tenant("acme").await;
    Peer::new(db, &db.with_user(&tenant, "ann@acme.example").await)
}

fn decision(peer: &Peer, title: &str) -> coditect_protocol::wire::push::Change {
    insert(
        table("org_decisions"),
        row("org_decisions", json!({"title": title})),
        peer.device,
    )
}

#[tokio::test]
async fn a_lost_reply_is_no_copy_and_changes_nothing() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    for round in ["first", "second"] {
        let mut malformed = decision(&peer, "malformed");
        malformed.hash = "00".repeat(32);
        let changes = vec![decision(&peer, round), malformed];
        let request = peer.request(peer.own(), File::Org, changes);
        let lost = peer.send(&request).await.unwrap();
        let again = peer.send(&request).await.unwrap();
        assert_eq!(again.token, lost.token);
        let statuses = again.outcomes.iter().map(|outcome| outcome.status);
        assert_eq!(
            statuses.collect::<Vec<_>>(),
            [Status::Duplicate, Status::Rejected]
        );
        assert_eq!(again.outcomes[0].stored, lost.outcomes[0].stored);
        peer.tokens.insert(File::Org, again.token);
    }
    assert_eq!(count(&db, "org_decisions").await, 2);
    assert_eq!(count(&db, "audit_log where action = 'push'").await, 2);
    peer.push_one(peer.own(), decision(&peer, "third")).await;
    assert_digests(&db).await;
}

#[tokio::test]
async fn a_copied_file_is_fenced_and_the_original_goes_on() {
    let db = TestDb::new().await;
    let mut original = one_device(&db).await;
    original
        .push_one(original.own(), decision(&original, "before the copy"))
        .await;
    let copy = original.clone();
    original
        .push_one(original.own(), decision(&original, "by the original"))
        .await;
    let request = copy.request(copy.own(), File::Org, vec![decision(&copy, "by the copy")]);
    assert!(matches!(copy.send(&request).await, Err(SyncError::Fenced)));
    original
        .push_one(original.own(), decision(&original, "and on"))
        .await;
    let mut restored = copy.clone();
    restored.tokens.clear();
    let request = restored.request(copy.own(), File::Org, vec![decision(&copy, "restored")]);
    assert!(matches!(
        restored.send(&request).await,
        Err(SyncError::Fenced)
    ));
    assert_eq!(count(&db, "org_decisions").await, 3);
}

#[tokio::test]
async fn tokens_of_other_files_devices_and_servers_are_fenced() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    peer.push_one(peer.own(), decision(&peer, "a")).await;
    let session = row("context_sessions", json!({"session_id": "s"}));
    let change = insert(table("context_sessions"), session, peer.device);
    let mut request = peer.request(peer.own(), File::Sessions, vec![change]);
    request.token = peer.tokens.get(&File::Org).cloned();
    assert!(matches!(peer.send(&request).await, Err(SyncError::Fenced)));
    let mut request = peer.request(peer.own(), File::Org, vec![decision(&peer, "b")]);
    request.token = Some("AAAA".to_owned());
    assert!(matches!(peer.send(&request).await, Err(SyncError::Fenced)));
}

#[tokio::test]
async fn a_database_that_was_set_back_is_noticed_and_fences_nobody() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    peer.push_one(peer.own(), decision(&peer, "a")).await;
    let admin = db.superuser_client().await;
    let save = "create table saved as select * from device_tokens";
    admin.batch_execute(save).await.unwrap();
    peer.push_one(peer.own(), decision(&peer, "b")).await;
    let restore = "delete from device_tokens; insert into device_tokens select * from saved";
    admin.batch_execute(restore).await.unwrap();

    let request = peer.request(peer.own(), File::Org, vec![decision(&peer, "c")]);
    let epoch = match peer.send(&request).await {
        Err(SyncError::EpochBehind { epoch }) => epoch,
        other => panic!("{other:?}"),
    };
    assert_eq!(count(&db, "org_decisions").await, 2);
    let next = cluster::change_epoch(db.db()).await.unwrap();
    assert_ne!(next, epoch);
    match peer.send(&request).await {
        Err(SyncError::EpochChanged { epoch }) => assert_eq!(epoch, next),
        other => panic!("{other:?}"),
    }
    // The device forgets its tokens with the old epoch and starts again.
    peer.tokens.clear();
    peer.push_one(peer.own(), decision(&peer, "c")).await;
    peer.push_one(peer.own(), decision(&peer, "d")).await;
    assert_eq!(count(&db, "org_decisions").await, 4);
}

/// Reads with the token that the file has.
async fn read(peer: &Peer) -> Result<(), SyncError> {
    let position = Position {
        scope: peer.own(),
        file: File::Org,
        cursor: None,
        token: peer.tokens.get(&File::Org).cloned(),
        descent: None,
    };
    let request = peer.pull_request(vec![position]);
    peer.ask(&request).await.map(drop)
}

#[tokio::test]
async fn a_device_that_only_reads_notices_that_the_database_was_set_back() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    peer.push_one(peer.own(), decision(&peer, "a")).await;
    read(&peer).await.unwrap();
    let admin = db.superuser_client().await;
    let save = "create table saved as select * from device_tokens";
    admin.batch_execute(save).await.unwrap();
    peer.push_one(peer.own(), decision(&peer, "b")).await;
    read(&peer).await.unwrap();
    let restore = "delete from device_tokens; insert into device_tokens select * from saved";
    admin.batch_execute(restore).await.unwrap();
    let behind = read(&peer).await;
    assert!(
        matches!(behind, Err(SyncError::EpochBehind { .. })),
        "{behind:?}"
    );
    let next = cluster::change_epoch(db.db()).await.unwrap();
    match read(&peer).await {
        Err(SyncError::EpochChanged { epoch }) => assert_eq!(epoch, next),
        other => panic!("{other:?}"),
    }
    peer.tokens.clear();
    read(&peer).await.unwrap();
}

#[tokio::test]
async fn a_copy_that_only_reads_is_fenced_and_a_lost_reply_is_not() {
    let db = TestDb::new().await;
    let mut original = one_device(&db).await;
    original
        .push_one(original.own(), decision(&original, "a"))
        .await;
    let copy = original.clone();
    original
        .push_one(original.own(), decision(&original, "b"))
        .await;
    // One behind: the reply to a push may have been lost.
    read(&copy).await.unwrap();
    original
        .push_one(original.own(), decision(&original, "c"))
        .await;
    assert!(matches!(read(&copy).await, Err(SyncError::Fenced)));
    read(&original).await.unwrap();
    let mut stranger = original.clone();
    stranger.tokens.insert(File::Org, "AAAA".to_owned());
    assert!(matches!(read(&stranger).await, Err(SyncError::Fenced)));
    let other = db.with_tenant("other").await;
    let mut bob = Peer::new(&db, &db.with_user(&other, "bob@other.example").await);
    bob.tokens.clone_from(&original.tokens);
    assert!(matches!(read(&bob).await, Err(SyncError::Fenced)));
}

#[tokio::test]
async fn a_token_of_a_later_epoch_shows_a_set_back_too() {
    let db = TestDb::new().await;
    let mut peer = one_device(&db).await;
    let admin = db.superuser_client().await;
    let save = "create table saved as select * from cluster";
    admin.batch_execute(save).await.unwrap();
    cluster::change_epoch(db.db()).await.unwrap();
    peer.push_one(peer.own(), decision(&peer, "a")).await;
    let restore = "delete from cluster; insert into cluster select * from saved;
        delete from device_tokens";
    admin.batch_execute(restore).await.unwrap();
    let request = peer.request(peer.own(), File::Org, vec![decision(&peer, "b")]);
    assert!(matches!(
        peer.send(&request).await,
        Err(SyncError::EpochBehind { .. })
    ));
}

#[tokio::test]
async fn only_registered_devices_of_the_caller_push_and_pull() {
    let db = TestDb::new().await;
    let tenant = db.with_tenant("acme").await;
    let ann = db.with_user(&tenant, "ann@acme.example").await;
    let bob = db.with_user(&tenant, "bob@acme.example").await;
    for device in [
        bob.device_id,
        coditect_protocol::DeviceId::new(fresh_uuid()),
    ] {
        let mut peer = Peer::new(&db, &ann);
        peer.device = device;
        let request = peer.request(peer.own(), File::Org, vec![decision(&peer, "a")]);
        assert!(matches!(
            peer.send(&request).await,
            Err(SyncError::DeviceUnknown)
        ));
        let pull = peer.pull_request(vec![]);
        assert!(matches!(
            peer.ask(&pull).await,
            Err(SyncError::DeviceUnknown)
        ));
    }
    let peer = Peer::new(&db, &ann);
    let admin = db.superuser_client().await;
    let revoke = format!(
        "update devices set revoked_at = now() where id = '{}'",
        ann.device_id
    );
    admin.batch_execute(&revoke).await.unwrap();
    let request = peer.request(peer.own(), File::Org, vec![decision(&peer, "a")]);
    assert!(matches!(
        peer.send(&request).await,
        Err(SyncError::DeviceUnknown)
    ));
    // A new device name does not help a revoked login.
    let other = db.log_in(&ann.license_key, &Default::default()).await;
    let mut renamed = peer.clone();
    renamed.device = other.caller.device_id();
    let request = renamed.request(peer.own(), File::Org, vec![decision(&peer, "a")]);
    assert!(matches!(
        renamed.send(&request).await,
        Err(SyncError::DeviceUnknown)
    ));
}

#[tokio::test]
async fn two_copies_that_push_first_at_once_cannot_both_pass() {
    let db = TestDb::new().await;
    let peer = one_device(&db).await;
    let one = peer.request(peer.own(), File::Org, vec![decision(&peer, "one")]);
    let other = peer.request(peer.org(), File::Org, vec![decision(&peer, "other")]);
    let (one, other) = tokio::join!(peer.send(&one), peer.send(&other));
    let fenced = |reply: &Result<_, SyncError>| matches!(reply, Err(SyncError::Fenced));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    assert!(fenced(&one) != fenced(&other));
}
