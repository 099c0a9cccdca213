//! Pushes that go together: what one of them is or does never reaches the others.

use std::sync::Arc;

use coditect_protocol::catalogue::File;
use coditect_protocol::wire::push::{Change, PushReply, PushRequest, Status};
use coditect_protocol::{DeviceId, ErrorCode, Scope, Version};
use coditect_server_store::sync::{Faults, PushQueue, SyncError, TokenKey};
use coditect_server_store::{Caller, Db, StoreError};
use coditect_testkit::{TestDb, TestUser};
use serde_json::json;

use crate::support::{
    EDIT_MS, NOW_MS, Peer, assert_digests, count, fresh_uuid, insert, row, table, update,
};

pub(crate) type Reply = Result<PushReply, SyncError>;

/// People of one organisation and what they push with.
pub(crate) struct Office {
    pub(crate) db: TestDb,
    queue: PushQueue,
    pub(crate) peers: Vec<Peer>,
}

impl Office {
    pub(crate) async fn new(people: usize) -> Self {
        Self::with(TestDb::new().await, people).await
    }

    async fn with(db: TestDb, people: usize) -> Self {
        let tenant = db.with_tenant("acme").await;
        let mut peers = Vec::new();
        for n in 0..people {
            let user = db.with_user(&tenant, &format!("p{n}@acme.test")).await;
            peers.push(Peer::new(&db, &user));
        }
        let queue = queue(&db, db.db().clone());
        Self { db, queue, peers }
    }

    /// Pushes one request of each together.
    pub(crate) async fn together(&self, requests: Vec<(&Peer, PushRequest)>) -> Vec<Reply> {
        let pushes = requests.into_iter();
        let pushes = pushes.map(|(peer, request)| (peer.caller.clone(), request));
        self.queue.push_together(pushes.collect(), NOW_MS).await
    }
}

fn queue(db: &TestDb, store: Db) -> PushQueue {
    PushQueue::new(store, Arc::new(key(db)))
}

fn key(db: &TestDb) -> TokenKey {
    TokenKey::new(db.secrets().file_token_key())
}

/// Makes another device of the person.
async fn second_device(db: &TestDb, user: &TestUser) -> Peer {
    let mut peer = Peer::new(db, user);
    peer.device = DeviceId::new(fresh_uuid());
    let sql = format!(
        "insert into devices (tenant_id, id, user_id) values ('{}', '{}', '{}')",
        user.tenant_id, peer.device, user.user_id
    );
    db.superuser_client()
        .await
        .batch_execute(&sql)
        .await
        .unwrap();
    peer
}

pub(crate) fn message(peer: &Peer, id: &str, content: &str) -> Change {
    let value = json!({"message_id": id, "session_id": "s", "role": "user", "content": content});
    insert(
        table("context_messages"),
        row("context_messages", value),
        peer.device,
    )
}

fn decision(peer: &Peer, title: &str) -> Change {
    let value = row("org_decisions", json!({"title": title}));
    insert(table("org_decisions"), value, peer.device)
}

fn messages(peer: &Peer, name: &str) -> PushRequest {
    let change = message(peer, &format!("{name} {}", peer.device), name);
    peer.request(peer.own(), File::Sessions, vec![change])
}

fn applied(reply: &Reply) -> usize {
    let outcomes = &reply.as_ref().unwrap().outcomes;
    let applied = outcomes
        .iter()
        .filter(|outcome| outcome.status == Status::Applied);
    applied.count()
}

#[tokio::test]
async fn pushes_of_several_people_go_together_and_their_rows_stay_apart() {
    let mut office = Office::new(3).await;
    let mut requests = Vec::new();
    for peer in &office.peers {
        // Facts and a record, in the own stream and in that of all.
        requests.push((peer, messages(peer, "hello")));
        let change = decision(peer, &format!("of {}", peer.device));
        requests.push((peer, peer.request(peer.org(), File::Org, vec![change])));
    }
    let replies = office.together(requests).await;
    assert!(
        replies.iter().all(|reply| applied(reply) == 1),
        "{replies:?}"
    );
    assert_eq!(office.queue.joined_count(), 6);
    for peer in &mut office.peers {
        let own = peer.pull(peer.own(), File::Sessions).await;
        assert_eq!(own.len(), 1);
        assert_eq!(own[0].user_id, Some(peer.caller.user_id()));
        assert_eq!(peer.pull(peer.org(), File::Org).await.len(), 3);
    }
    // Each is in the trail under the own name, and the last token of each file works.
    assert_eq!(
        count(&office.db, "audit_log where action = 'push'").await,
        6
    );
    let sql = "audit_log a join devices d on d.id = a.device_id and d.user_id = a.user_id
        where a.action = 'push' and a.detail->>'device' = d.id::text";
    assert_eq!(count(&office.db, sql).await, 6);
    for (peer, reply) in office.peers.iter().zip(replies.iter().step_by(2)) {
        let mut request = messages(peer, "again");
        request.token = Some(reply.as_ref().unwrap().token.clone());
        assert_eq!(applied(&peer.send_alone(&request).await), 1);
    }
    assert_digests(&office.db).await;
}

#[tokio::test]
async fn row_security_alone_keeps_a_joined_push_out_of_a_foreign_scope() {
    let office = Office::new(3).await;
    let [ann, bob, eve] = &office.peers[..] else {
        panic!("three people")
    };
    // The program decides nothing, so whatever stops Eve is the database.
    let store = office.db.db().clone().without_checks();
    let queue = queue(&office.db, store);
    let mut foreign = messages(eve, "evil");
    foreign.scope = ann.own();
    let pushes = [
        (ann.caller.clone(), messages(ann, "a")),
        (eve.caller.clone(), foreign),
        (bob.caller.clone(), messages(bob, "b")),
    ];
    let replies = queue.push_together(pushes.into(), NOW_MS).await;
    let forbidden = |reply: &Reply| {
        matches!(
            reply,
            Err(SyncError::Store(
                StoreError::Forbidden | StoreError::NotFound
            ))
        )
    };
    assert!(forbidden(&replies[1]), "{:?}", replies[1]);
    assert_eq!((applied(&replies[0]), applied(&replies[2])), (1, 1));
    assert_eq!(queue.joined_count(), 2, "the other two went together");
    assert_eq!(count(&office.db, "context_messages").await, 2);
    let mixed = "context_messages where scope_id <> user_id";
    assert_eq!(count(&office.db, mixed).await, 0);
    assert_digests(&office.db).await;
}

#[tokio::test]
async fn callers_of_two_organisations_are_never_joined() {
    let office = Office::new(1).await;
    let other = office.db.with_tenant("umbrella").await;
    let stranger = office.db.with_user(&other, "zoe@umbrella.test").await;
    let stranger = Peer::new(&office.db, &stranger);
    let callers = [office.peers[0].caller.clone(), stranger.caller.clone()];
    let joined = office
        .db
        .db()
        .joined("test", &callers, |_tx| async { Ok::<_, StoreError>(()) })
        .await;
    assert!(matches!(joined, Err(StoreError::Aborted)), "{joined:?}");
    // Through the queue each has a transaction of its own.
    let ours = office
        .queue
        .push(&callers[0], messages(&office.peers[0], "ours"), NOW_MS);
    let theirs = office
        .queue
        .push(&callers[1], messages(&stranger, "theirs"), NOW_MS);
    let (ours, theirs) = tokio::join!(ours, theirs);
    assert_eq!((applied(&ours), applied(&theirs)), (1, 1));
    assert_eq!(office.queue.joined_count(), 0);
}

/// What is wrong with one push of twenty.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Poison {
    /// A fact that only the database refuses.
    DataError,
    /// A record of that kind.
    RecordError,
    Fenced,
    OtherEpoch,
    Viewer,
    NoMember,
    RevokedDevice,
    UnknownDevice,
    ForeignScope,
    TooMany,
}

impl Poison {
    const ALL: [Self; 10] = [
        Self::DataError,
        Self::RecordError,
        Self::Fenced,
        Self::OtherEpoch,
        Self::Viewer,
        Self::NoMember,
        Self::RevokedDevice,
        Self::UnknownDevice,
        Self::ForeignScope,
        Self::TooMany,
    ];

    /// Whether the database finds it while all are written, so that each goes by itself then.
    const fn parts_them(self) -> bool {
        matches!(self, Self::DataError | Self::NoMember)
    }

    fn is_in(self, reply: &Reply) -> bool {
        match self {
            Self::DataError | Self::RecordError => {
                let outcomes = &reply.as_ref().unwrap().outcomes;
                outcomes[0].code == Some(ErrorCode::MalformedRow)
            }
            Self::Fenced => matches!(reply, Err(SyncError::Fenced)),
            Self::OtherEpoch => matches!(reply, Err(SyncError::EpochChanged { .. })),
            Self::Viewer => matches!(reply, Err(SyncError::PermissionDenied)),
            Self::NoMember => matches!(reply, Err(SyncError::Store(StoreError::NotMember))),
            Self::RevokedDevice | Self::UnknownDevice => {
                matches!(reply, Err(SyncError::DeviceUnknown))
            }
            Self::ForeignScope => matches!(reply, Err(SyncError::ScopeNotFound)),
            Self::TooMany => matches!(reply, Err(SyncError::BadRequest(_))),
        }
    }
}

/// Spoils a push, by what it says or by what the database has about its sender.
async fn spoil(office: &Office, poison: Poison, request: &mut PushRequest, victim: &Caller) {
    let admin = office.db.superuser_client().await;
    let (peer, user) = (&office.peers[7], victim.user_id());
    let sql = match poison {
        Poison::DataError => {
            request.changes = vec![message(peer, "long", &"x".repeat(200))];
            return;
        }
        Poison::RecordError => {
            let change = decision(peer, &"x".repeat(200));
            *request = peer.request(peer.own(), File::Org, vec![change]);
            return;
        }
        Poison::Fenced => {
            request.token = Some("AAAA".to_owned());
            return;
        }
        Poison::OtherEpoch => {
            request.epoch = Some(coditect_protocol::Epoch(1));
            return;
        }
        Poison::UnknownDevice => {
            request.device = DeviceId::new(fresh_uuid());
            return;
        }
        Poison::ForeignScope => {
            request.scope = Scope::User(fresh_uuid());
            return;
        }
        Poison::TooMany => {
            request.changes = vec![request.changes[0].clone(); 1_001];
            return;
        }
        Poison::Viewer => {
            request.scope = peer.org();
            format!("update memberships set role = 'viewer' where user_id = '{user}'")
        }
        Poison::NoMember => {
            format!("update memberships set active = false where user_id = '{user}'")
        }
        Poison::RevokedDevice => {
            format!("update devices set revoked_at = now() where user_id = '{user}'")
        }
    };
    admin.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn one_poisoned_push_of_twenty_affects_only_itself() {
    for poison in Poison::ALL {
        let office = Office::new(20).await;
        // A limit that the checks before the insert know nothing of.
        let limit = "alter table org_decisions add constraint short check (length(title) < 100);
            alter table context_messages add constraint short check (length(content) < 100)";
        let admin = office.db.superuser_client().await;
        admin.batch_execute(limit).await.unwrap();
        let mut requests: Vec<_> = office
            .peers
            .iter()
            .map(|peer| (peer, messages(peer, "fine")))
            .collect();
        let victim = office.peers[7].caller.clone();
        spoil(&office, poison, &mut requests[7].1, &victim).await;
        let replies = office.together(requests).await;
        for (n, reply) in replies.iter().enumerate() {
            if n == 7 {
                assert!(poison.is_in(reply), "{poison:?}: {reply:?}");
            } else {
                assert_eq!(applied(reply), 1, "{poison:?}");
            }
        }
        assert_eq!(
            count(&office.db, "context_messages").await,
            19,
            "{poison:?}"
        );
        assert_eq!(count(&office.db, "org_decisions").await, 0, "{poison:?}");
        let joined = office.queue.joined_count();
        let expected = match poison {
            poison if poison.parts_them() => 0,
            // Refused as a row, so the push itself was carried out with the others.
            Poison::RecordError => 20,
            _ => 19,
        };
        assert_eq!(joined, expected, "{poison:?}");
        assert_digests(&office.db).await;
    }
}

#[tokio::test]
async fn a_batch_that_is_sent_twice_at_once_is_stored_once() {
    let office = Office::new(2).await;
    let [ann, bob] = &office.peers[..] else {
        panic!("two people")
    };
    let request = messages(ann, "once");
    let again = || office.queue.push(&ann.caller, request.clone(), NOW_MS);
    let other = office.queue.push(&bob.caller, messages(bob, "b"), NOW_MS);
    let (first, other, second, third) = tokio::join!(again(), other, again(), again());
    assert_eq!(applied(&other), 1);
    let (mut sum, mut tokens) = (0, Vec::new());
    for reply in [&first, &second, &third] {
        sum += applied(reply);
        let reply = reply.as_ref().unwrap();
        let known = [Status::Applied, Status::Duplicate];
        assert!(known.contains(&reply.outcomes[0].status));
        tokens.push(&reply.token);
    }
    assert_eq!(sum, 1, "stored once");
    tokens.dedup();
    assert_eq!(tokens.len(), 1, "and answered with one token");
    assert_eq!(count(&office.db, "context_messages").await, 2);
    assert_digests(&office.db).await;

    // In one transaction, beside others: it is known by its token.
    let replies = office
        .together(vec![
            (ann, request.clone()),
            (bob, {
                let mut next = messages(bob, "c");
                next.token = Some(other.unwrap().token);
                next
            }),
        ])
        .await;
    let repeated = replies[0].as_ref().unwrap();
    assert_eq!(repeated.outcomes[0].status, Status::Duplicate);
    assert_eq!(&repeated.token, tokens[0]);
    assert_eq!(applied(&replies[1]), 1);
    assert_digests(&office.db).await;
}

#[tokio::test]
async fn later_parts_of_a_stream_see_what_earlier_ones_wrote() {
    let db = TestDb::new().await;
    let tenant = db.with_tenant("acme").await;
    let user = db.with_user(&tenant, "ann@acme.test").await;
    let mut first = Peer::new(&db, &user);
    let second = second_device(&db, &user).await;
    let queue = queue(&db, db.db().clone());

    // The same fact from two devices, with different bytes: the first that is accepted stays.
    let fact = |peer: &Peer, content: &str| {
        peer.request(
            peer.own(),
            File::Sessions,
            vec![message(peer, "m", content), message(peer, content, content)],
        )
    };
    let pushes = vec![
        (first.caller.clone(), fact(&first, "one")),
        (second.caller.clone(), fact(&second, "two")),
    ];
    let replies = queue.push_together(pushes, NOW_MS).await;
    assert_eq!((applied(&replies[0]), applied(&replies[1])), (2, 1));
    let late = &replies[1].as_ref().unwrap().outcomes[0];
    assert_eq!(late.status, Status::Duplicate);
    let stored = late.stored.as_ref().unwrap();
    assert_eq!(stored.row.as_ref().unwrap()["content"], "one");
    assert_eq!(stored.origin, first.device);

    // A record that both edited from one version: one wins, the other is a conflict.
    let added = first
        .add(first.own(), "org_decisions", json!({"title": "t"}))
        .await;
    let base: Option<Version> = Some(added.version);
    let edit = |peer: &Peer, title: &str, at_ms: i64| {
        let value = row("org_decisions", json!({"title": title}));
        let change = update(&added, value, base, at_ms);
        (
            peer.caller.clone(),
            peer.request(peer.own(), File::Org, vec![change]),
        )
    };
    let pushes = vec![
        edit(&first, "first", EDIT_MS + 1_000),
        edit(&second, "second", EDIT_MS + 2_000),
    ];
    let replies = queue.push_together(pushes, NOW_MS).await;
    let status = |n: usize| {
        let reply: &PushReply = replies[n].as_ref().unwrap();
        reply.outcomes[0].status
    };
    assert_eq!((status(0), status(1)), (Status::Applied, Status::Conflict));
    assert_eq!(count(&db, "sync_conflicts").await, 1);
    let mut cursors: Vec<i64> = Vec::new();
    for file in [File::Org, File::Sessions] {
        cursors.extend(
            first
                .pull(first.own(), file)
                .await
                .iter()
                .map(|it| it.cursor),
        );
    }
    cursors.sort_unstable();
    cursors.dedup();
    assert_eq!(cursors.len(), 4, "no number twice: {cursors:?}");
    assert_eq!(queue.joined_count(), 4);
    assert_digests(&db).await;
}

/// Runs joined transactions of two servers over two streams, which come in opposite orders, and
/// returns how many deadlocks the database broke.
async fn deadlocks(faults: Faults) -> i64 {
    let office = Office::with(TestDb::with_connections(8).await, 2).await;
    let [ann, bob] = &office.peers[..] else {
        panic!("two people")
    };
    let servers = [
        queue(&office.db, office.db.db().clone()).with_faults(faults),
        queue(&office.db, office.db.db().clone()).with_faults(faults),
    ];
    let admin = office.db.superuser_client().await;
    // Who holds a first lock waits until the other holds one, too, or for so many steps.
    let steps = if faults.joined_order_off { 2_000 } else { 60 };
    let slow = &format!(
        "create sequence arrived;
        grant usage, select on sequence arrived to coditect_app;
        alter function enter(uuid, uuid) rename to enter_now;
        create function enter(tenant uuid, uid uuid) returns text language plpgsql
        set search_path = pg_catalog, public as $$ begin
            if pg_current_xact_id_if_assigned() is not null then
                perform nextval('arrived');
                for step in 1 .. {steps} loop
                    exit when (select last_value from arrived) >= 2;
                    perform pg_sleep(0.005);
                end loop;
            end if;
            return enter_now(tenant, uid);
        end $$;
        grant execute on function enter(uuid, uuid) to coditect_app"
    );
    admin.batch_execute(slow).await.unwrap();
    let one = servers[0].push_together(
        vec![
            (ann.caller.clone(), messages(ann, "1")),
            (bob.caller.clone(), messages(bob, "1")),
        ],
        NOW_MS,
    );
    let other = servers[1].push_together(
        vec![
            (bob.caller.clone(), {
                let change = decision(bob, "2");
                bob.request(bob.own(), File::Org, vec![change])
            }),
            (ann.caller.clone(), {
                let change = decision(ann, "2");
                ann.request(ann.own(), File::Org, vec![change])
            }),
        ],
        NOW_MS,
    );
    let (one, other) = tokio::join!(one, other);
    assert!(one.iter().chain(&other).all(|reply| applied(reply) == 1));
    assert_digests(&office.db).await;
    office.db.db().close();
    // The statistics of a session are there once it has ended.
    let sessions = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'coditect-server'";
    while admin
        .query_typed_one(sessions, &[])
        .await
        .unwrap()
        .get::<_, i64>(0)
        > 0
    {
        let wait = "select pg_sleep(0.02)";
        admin.query_typed(wait, &[]).await.unwrap();
    }
    let sql = "select deadlocks from pg_stat_database where datname = current_database()";
    admin.query_typed_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn streams_locked_in_one_order_do_not_wait_for_each_other() {
    assert_eq!(deadlocks(Faults::default()).await, 0);
}

#[tokio::test]
async fn without_the_order_of_streams_joined_pushes_lock_each_other_out() {
    let off = Faults {
        joined_order_off: true,
        ..Faults::default()
    };
    assert!(deadlocks(off).await > 0);
}
