//! A number never appears behind a reader: many writers, delays, rollbacks, readers following.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

#[path = "sync/support.rs"]
#[expect(dead_code, reason = "shared with the other tests of sync")]
mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use coditect_protocol::catalogue::File;
use coditect_protocol::wire::pull::Position;
use coditect_protocol::wire::push::{Change, Status};
use coditect_protocol::{DeviceId, RowId, Scope};
use coditect_server_store::sync::{self, Faults, PushContext, PushQueue, SyncError, TokenKey};
use coditect_testkit::{TestDb, TestUser};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio_postgres::Client;

use support::{NOW_MS, Peer, fresh_uuid, insert, row, table};

const ROLLED_BACK: &str = "rolled back by the test";

/// How much a run writes.
#[derive(Clone, Copy)]
struct Load {
    seed: u64,
    writers: usize,
    batches: usize,
    rows: usize,
    faults: Faults,
    /// Longest delay before a commit, in seconds.
    delay_s: f64,
    /// Whether the writers share a queue, so that their pushes go together.
    joined: bool,
}

/// What was committed, per stream.
type Committed = Arc<Mutex<HashSet<(Scope, RowId)>>>;

/// Makes the devices of the writers, all of one person.
async fn devices(db: &TestDb, user: &TestUser, count: usize) -> Vec<Peer> {
    let admin = db.superuser_client().await;
    let mut peers = Vec::new();
    for _ in 0..count {
        let mut peer = Peer::new(db, user);
        peer.device = DeviceId::new(fresh_uuid());
        let sql = format!(
            "insert into devices (tenant_id, id, user_id) values ('{}', '{}', '{}')",
            user.tenant_id, peer.device, user.user_id
        );
        admin.batch_execute(&sql).await.unwrap();
        peers.push(peer);
    }
    peers
}

fn batch(peer: &Peer, load: &Load, number: usize) -> Vec<Change> {
    (0..load.rows)
        .map(|n| {
            let id = format!("{} {number} {n}", peer.device);
            // The table with the fewest columns: the test is about numbers, not about rows.
            let value = json!({"message_id": id, "session_id": "s", "task_id": "t"});
            let row = row("context_task_messages", value);
            insert(table("context_task_messages"), row, peer.device)
        })
        .collect()
}

/// Pushes batch after batch through a queue, where it meets those of the other writers; some
/// transactions are rolled back, and their pushes go one by one then.
async fn write_joined(
    mut peer: Peer,
    load: Load,
    queue: PushQueue,
    committed: Committed,
    seed: u64,
) {
    let mut random = StdRng::seed_from_u64(seed);
    for number in 0..load.batches {
        let scope = if random.random_bool(0.7) {
            peer.org()
        } else {
            peer.own()
        };
        let request = peer.request(scope, File::Sessions, batch(&peer, &load, number));
        let reply = queue.push(&peer.caller, request.clone(), NOW_MS).await;
        let reply = reply.unwrap();
        assert!(reply.outcomes.iter().all(|it| it.status == Status::Applied));
        peer.tokens.insert(File::Sessions, reply.token);
        let ids = request.changes.iter().map(|change| (scope, change.id));
        committed.lock().unwrap().extend(ids);
    }
}

/// Pushes batch after batch, to one stream or the other; some are rolled back and sent again.
async fn write(mut peer: Peer, load: Load, key: Arc<TokenKey>, committed: Committed, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    for number in 0..load.batches {
        let scope = if random.random_bool(0.7) {
            peer.org()
        } else {
            peer.own()
        };
        let request = peer.request(scope, File::Sessions, batch(&peer, &load, number));
        loop {
            let mut context = PushContext::new(NOW_MS, &key);
            context.faults = load.faults;
            context.faults.delay_s = random.random_range(0.0..load.delay_s);
            let (context, request, fails) = (&context, &request, random.random_bool(0.15));
            let reply = peer
                .db
                .tenant("push", &peer.caller, |mut tx| async move {
                    let reply = sync::push(&mut tx, request, context).await?;
                    if fails {
                        Err(SyncError::BadRequest(ROLLED_BACK))
                    } else {
                        Ok(reply)
                    }
                })
                .await;
            match reply {
                Err(SyncError::BadRequest(ROLLED_BACK)) => {}
                Err(error) if matches!(&error, SyncError::Store(it) if it.is_retry()) => {}
                reply => {
                    let reply = reply.unwrap();
                    assert!(reply.outcomes.iter().all(|it| it.status == Status::Applied));
                    peer.tokens.insert(File::Sessions, reply.token);
                    let ids = request.changes.iter().map(|change| (scope, change.id));
                    committed.lock().unwrap().extend(ids);
                    break;
                }
            }
        }
    }
}

/// Follows both streams until the writers are done and both heads are reached.
async fn follow(mut peer: Peer, admin: Client, done: Arc<AtomicBool>) -> HashSet<(Scope, RowId)> {
    let mut seen = HashSet::new();
    loop {
        let last = done.load(Ordering::SeqCst);
        let scopes = [peer.own(), peer.org()];
        let position = |scope: &Scope| {
            let cursor = peer.cursors.get(&(*scope, File::Sessions)).copied();
            Position {
                scope: *scope,
                file: File::Sessions,
                cursor,
                token: None,
                descent: None,
            }
        };
        let request = peer.pull_request(scopes.iter().map(position).collect());
        let reply = match peer.ask(&request).await {
            Ok(reply) => reply,
            // Without the lock a stream's head even goes back.
            Err(SyncError::InvalidCursor) if last => return seen,
            Err(SyncError::InvalidCursor) => continue,
            Err(error) => panic!("{error}"),
        };
        for page in &reply.pages {
            let mut before = 0;
            for change in &page.changes {
                assert!(change.cursor >= before, "in cursor order");
                before = change.cursor;
                seen.insert((page.scope, change.id));
            }
            peer.cursors
                .insert((page.scope, File::Sessions), page.cursor);
        }
        let at_head = reply.pages.iter().all(|page| page.at_head);
        if last && at_head {
            return seen;
        }
        if at_head {
            // A reader that never rests takes the cores from the writers.
            admin
                .query_typed("select pg_sleep(0.005)", &[])
                .await
                .unwrap();
        }
    }
}

/// Samples how many transactions are open in the database.
async fn watch(db: &TestDb, done: &AtomicBool, highest: &AtomicI64) {
    let admin = db.superuser_client().await;
    let sql = "select count(*), pg_sleep(0.02) from pg_stat_activity
        where datname = current_database() and xact_start is not null and pid <> pg_backend_pid()";
    while !done.load(Ordering::SeqCst) {
        let open: i64 = admin.query_typed_one(sql, &[]).await.unwrap().get(0);
        highest.fetch_max(open, Ordering::SeqCst);
    }
}

/// What a run showed.
struct Run {
    committed: usize,
    missed: Vec<usize>,
    highest_open: i64,
    /// Pushes that shared a transaction with others.
    joined: u64,
}

async fn run(db: &TestDb, user: &TestUser, load: Load) -> Run {
    let key = Arc::new(TokenKey::new(db.secrets().file_token_key()));
    let queue = PushQueue::new(db.db().clone(), Arc::clone(&key)).with_faults(load.faults);
    let committed = Committed::default();
    let (done, highest) = (Arc::new(AtomicBool::new(false)), AtomicI64::new(0));
    let mut readers = Vec::new();
    for _ in 0..2 {
        let admin = db.superuser_client().await;
        readers.push(tokio::spawn(follow(
            Peer::new(db, user),
            admin,
            Arc::clone(&done),
        )));
    }
    let writers: Vec<_> = devices(db, user, load.writers)
        .await
        .into_iter()
        .zip(load.seed..)
        .map(|(peer, seed)| {
            if load.joined {
                let (queue, committed) = (queue.clone(), Arc::clone(&committed));
                return tokio::spawn(write_joined(peer, load, queue, committed, seed));
            }
            tokio::spawn(write(
                peer,
                load,
                Arc::clone(&key),
                Arc::clone(&committed),
                seed,
            ))
        })
        .collect();
    let written = async {
        for writer in writers {
            writer.await.unwrap();
        }
        done.store(true, Ordering::SeqCst);
    };
    tokio::join!(written, watch(db, &done, &highest));
    let committed = committed.lock().unwrap().clone();
    let mut missed = Vec::new();
    for reader in readers {
        let seen = reader.await.unwrap();
        assert!(
            seen.is_subset(&committed),
            "nothing that was rolled back is seen"
        );
        missed.push(committed.len() - seen.len());
    }
    Run {
        committed: committed.len(),
        missed,
        highest_open: highest.into_inner(),
        joined: queue.joined_count(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_that_follow_64_writers_miss_nothing_in_200_000_rows() {
    let db = TestDb::with_connections(72).await;
    let tenant = db.with_tenant("acme").await;
    let user = db.with_user(&tenant, "ann@acme.example").await;
    let load = Load {
        seed: 1,
        writers: 64,
        batches: 16,
        rows: 200,
        faults: Faults::default(),
        delay_s: 0.004,
        joined: false,
    };
    let run = run(&db, &user, load).await;
    println!(
        "cursor: {} rows by {} writers, missed {:?}, at most {} transactions open at once",
        run.committed, load.writers, run.missed, run.highest_open
    );
    assert_eq!(run.committed, 204_800);
    assert_eq!(run.missed, [0, 0]);
    assert!(run.highest_open >= 48, "the writers were at it at once");
    support::assert_digests(&db).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_miss_nothing_of_64_writers_whose_pushes_go_together() {
    let db = TestDb::with_connections(16).await;
    let tenant = db.with_tenant("acme").await;
    let user = db.with_user(&tenant, "ann@acme.example").await;
    let load = Load {
        seed: 7,
        writers: 64,
        batches: 16,
        rows: 20,
        faults: Faults {
            joined_fails_percent: 15,
            delay_s: 0.002,
            ..Faults::default()
        },
        delay_s: 0.0,
        joined: true,
    };
    let run = run(&db, &user, load).await;
    println!(
        "cursor: {} rows by {} writers, missed {:?}, {} of {} pushes shared a transaction",
        run.committed,
        load.writers,
        run.missed,
        run.joined,
        load.writers * load.batches
    );
    assert_eq!(run.committed, 20_480);
    assert_eq!(run.missed, [0, 0]);
    assert!(run.joined > 512, "most pushes met others");
    support::assert_digests(&db).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_the_stream_lock_readers_miss_rows_in_ten_of_ten_runs() {
    let db = TestDb::with_connections(40).await;
    let mut missed = Vec::new();
    for seed in 0..10 {
        let tenant = db.with_tenant(&format!("acme {seed}")).await;
        let user = db
            .with_user(&tenant, &format!("ann{seed}@acme.example"))
            .await;
        let load = Load {
            seed: seed * 1_000,
            writers: 32,
            batches: 3,
            rows: 10,
            faults: Faults {
                stream_lock_off: true,
                ..Faults::default()
            },
            delay_s: 0.008,
            joined: false,
        };
        let run = run(&db, &user, load).await;
        missed.push(run.missed[0].min(run.missed[1]));
    }
    println!("cursor without the stream lock: missed {missed:?}");
    assert!(missed.iter().all(|missed| *missed > 0), "{missed:?}");
}
