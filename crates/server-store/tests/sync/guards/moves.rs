//! Moves between scopes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use coditect_protocol::catalogue::File;
use coditect_protocol::wire::moves::MoveRequest;
use coditect_protocol::wire::push::{CounterPart, Status};
use coditect_protocol::wire::{Op, Stored};
use coditect_protocol::{Scope, wire::push::Change};
use coditect_server_store::sync::{self, Guard, SyncError};
use serde_json::json;
use tokio_postgres::{Client, Transaction};

use super::{Stop, both, run, waiting};
use crate::moves::{DECISION, World, request, send, shared, world};
use crate::support::{EDIT_MS, NOW_MS, Peer, assert_digests, count, delete, insert, row, table};

fn decision(peer: &Peer, title: &str) -> Change {
    let value = row(DECISION, json!({"title": title}));
    insert(table(DECISION), value, peer.device)
}

fn edit(of: &Stored, title: &str) -> Change {
    let row = row(DECISION, json!({"title": title}));
    crate::support::update(of, row, Some(of.version), EDIT_MS + 5)
}

async fn live(world: &World, scope: Scope) -> i64 {
    let id = scope.id();
    let live = format!("org_decisions where deleted_at is null and scope_id = '{id}'");
    count(&world.db, &live).await
}

/// Moves a row while another device pushes into the stream that it enters; returns how many rows
/// of that stream a reader gets who reads between their commits, if it can, and after them.
async fn read_beside_a_move(out: Option<Guard>) -> usize {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let mine = ann
        .add(ann.own(), DECISION, json!({"title": "moves"}))
        .await;
    ann.add(project, DECISION, json!({"title": "was there"}))
        .await;
    let stop = Stop::after(&world.db, "insert on row_moves").await;
    let request = request(&ann, ann.own(), project, &[&mine]);
    let (mut other, mut reader) = (world.second_device().await, world.second_device().await);
    let mut seen = reader.pull(project, File::Org).await.len();
    let meanwhile = async {
        stop.waiting(1).await;
        let change = decision(&other, "meanwhile");
        let mut push = Box::pin(other.push_one(project, change));
        let first = tokio::select! {
            outcome = &mut push => Some(outcome),
            () = stop.waiting(2) => None,
        };
        if first.is_some() {
            seen += reader.pull(project, File::Org).await.len();
        }
        stop.let_go().await;
        if first.is_none() {
            assert_eq!(push.await.status, Status::Applied);
        }
    };
    let (moved, ()) = tokio::join!(run(out, send(&ann, &request)), meanwhile);
    assert_eq!(moved.unwrap().outcomes[0].status, Status::Applied);
    seen += reader.pull(project, File::Org).await.len();
    assert_eq!(live(&world, project).await, 3);
    seen
}

#[tokio::test]
async fn without_both_locks_a_moved_row_appears_behind_a_reader() {
    let [held, missed] = both(Guard::MoveLocks);
    assert_eq!(read_beside_a_move(held).await, 3);
    assert_eq!(read_beside_a_move(missed).await, 2);
}

/// Sends a move, and counts how often its transaction ran.
async fn counted(peer: &Peer, request: &MoveRequest, runs: &AtomicU32) {
    let moved = peer
        .db
        .tenant("sync.move", &peer.caller, |mut tx| async move {
            runs.fetch_add(1, Ordering::SeqCst);
            sync::move_rows(&mut tx, request, NOW_MS).await
        });
    let moved: Result<_, SyncError> = moved.await;
    assert_eq!(moved.unwrap().outcomes[0].status, Status::Applied);
}

/// Holds a stream.
async fn hold(admin: &mut Client, scope: Scope) -> Transaction<'_> {
    let held = admin.transaction().await.unwrap();
    let id = scope.id();
    let lock = format!("select n from streams where scope_id = '{id}' for update");
    held.batch_execute(&lock).await.unwrap();
    held
}

/// Waits until somebody stands behind another one who waits for a row.
async fn standing_behind(admin: &Client) {
    let sql = "select count(*), pg_sleep(0.01) from pg_locks
        where locktype = 'tuple' and not granted";
    while admin
        .query_typed_one(sql, &[])
        .await
        .unwrap()
        .get::<_, i64>(0)
        == 0
    {}
}

/// Runs two opposite moves that come to their first locks at the same moment; returns how many
/// transactions it took.
async fn opposite_moves(out: Option<Guard>) -> u32 {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let own = ann.own();
    let mine = ann.add(own, DECISION, json!({"title": "to"})).await;
    let theirs = ann.add(project, DECISION, json!({"title": "fro"})).await;
    let other = world.second_device().await;
    let (mut one, mut two) = (
        world.db.superuser_client().await,
        world.db.superuser_client().await,
    );
    let watcher = world.db.superuser_client().await;
    let (first, second) = (hold(&mut one, own).await, hold(&mut two, project).await);
    let (to, fro) = (
        request(&ann, own, project, &[&mine]),
        request(&other, project, own, &[&theirs]),
    );
    let runs = &AtomicU32::new(0);
    let let_go = async {
        waiting(&watcher, 2).await;
        first.commit().await.unwrap();
        if out.is_some() {
            // Who has the first stream now stands behind who waits for the second one.
            standing_behind(&watcher).await;
        }
        second.commit().await.unwrap();
    };
    tokio::join!(
        run(out, counted(&ann, &to, runs)),
        run(out, counted(&other, &fro, runs)),
        let_go
    );
    assert_digests(&world.db).await;
    runs.load(Ordering::SeqCst)
}

#[tokio::test]
async fn without_the_order_of_locks_opposite_moves_lock_each_other_out() {
    let [ordered, unordered] = both(Guard::MoveOrder);
    assert_eq!(opposite_moves(ordered).await, 2);
    assert!(opposite_moves(unordered).await > 2, "a deadlock was broken");
}

/// The second half of a move fails: in one transaction the row stays where it was. Its halves sent
/// by themselves, as one without moves would have to, leave it in no scope.
#[tokio::test]
async fn a_move_in_two_transactions_loses_the_row_when_its_second_half_fails() {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let own = ann.own();
    let mine = ann.add(own, DECISION, json!({"title": "stays"})).await;
    let fails = format!(
        "create function fails() returns trigger language plpgsql as $$ begin
            raise exception 'no second half';
        end $$;
        create trigger fails before insert on org_decisions for each row
        when (new.scope_id = '{}') execute function fails()",
        project.id()
    );
    let admin = world.db.superuser_client().await;
    admin.batch_execute(&fails).await.unwrap();
    let request = request(&ann, own, project, &[&mine]);
    assert!(send(&ann, &request).await.is_err());
    assert_eq!(
        (live(&world, own).await, live(&world, project).await),
        (1, 0)
    );
    let reader = &mut world.second_device().await;
    assert_eq!(reader.pull(own, File::Org).await[0].op, Op::Upsert);

    let first = delete(&mine, Some(mine.version), EDIT_MS + 5);
    assert_eq!(ann.push_one(own, first).await.status, Status::Applied);
    let second = ann.request(project, File::Org, vec![decision(&ann, "stays")]);
    let second = ann.send_alone(&second).await;
    assert!(second.is_err() || second.unwrap().outcomes[0].status == Status::Rejected);
    assert_eq!(
        (live(&world, own).await, live(&world, project).await),
        (0, 0)
    );
}

/// Sends a move again after its row came back; returns where the row is then.
async fn late_move(out: Option<Guard>) -> (i64, i64) {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let own = ann.own();
    let mine = ann.add(own, DECISION, json!({"title": "to and fro"})).await;
    let request = request(&ann, own, project, &[&mine]);
    let there = send(&ann, &request).await.unwrap().outcomes.remove(0);
    shared(&ann, project, own, &there.entered.unwrap()).await;
    run(out, send(&ann, &request)).await.unwrap();
    (live(&world, own).await, live(&world, project).await)
}

#[tokio::test]
async fn without_its_note_a_move_that_comes_late_takes_a_row_away_again() {
    let [noted, forgotten] = both(Guard::MoveAgain);
    assert_eq!(late_move(noted).await, (1, 0));
    assert_eq!(late_move(forgotten).await, (0, 1));
}

/// Pushes an edit to where a row was; returns how many rows it is then.
async fn late_edit(out: Option<Guard>) -> i64 {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let own = ann.own();
    let mine = ann.add(own, DECISION, json!({"title": "old"})).await;
    shared(&ann, own, project, &mine).await;
    let other = world.second_device().await;
    let request = other.request(own, File::Org, vec![edit(&mine, "late")]);
    run(out, other.send_alone(&request)).await.unwrap();
    live(&world, own).await + live(&world, project).await
}

#[tokio::test]
async fn without_a_look_at_moves_a_late_edit_makes_two_rows_of_one() {
    let [told, untold] = both(Guard::MovedAway);
    assert_eq!(late_edit(told).await, 1);
    assert_eq!(late_edit(untold).await, 2);
}

/// Edits a row that was moved to where the editor sees nothing; returns what the answer names.
async fn edit_of_a_stranger(out: Option<Guard>) -> Option<Scope> {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let org = ann.org();
    let eve = world.colleague("eve", None).await;
    let common = ann.add(org, DECISION, json!({"title": "for all"})).await;
    shared(&ann, org, project, &common).await;
    // Row security hides the scope as well: the condition is to do without.
    let open = "alter table scopes disable row level security";
    let admin = world.db.superuser_client().await;
    admin.batch_execute(open).await.unwrap();
    let request = eve.request(org, File::Org, vec![edit(&common, "of eve")]);
    let reply = run(out, eve.send_alone(&request)).await.unwrap();
    reply.outcomes[0].moved_to
}

#[tokio::test]
async fn without_the_condition_a_stranger_learns_where_a_row_went() {
    let [hidden, told] = both(Guard::MoveHidden);
    assert_eq!(edit_of_a_stranger(hidden).await, None);
    assert!(matches!(
        edit_of_a_stranger(told).await,
        Some(Scope::Project(_))
    ));
}

/// Moves a row that two devices counted on, and counts once more; returns the sum.
async fn count_after_a_move(out: Option<Guard>) -> i64 {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let mut other = world.second_device().await;
    let own = ann.own();
    let name = "org_skill_learnings";
    let learning = json!({"skill_name": "s", "learning": "l", "usage_count": 4});
    let mine = ann.add(own, name, learning).await;
    let count_by = |seq: i64, total: i64, of: &Stored| {
        let row = row(name, json!({"skill_name": "s", "learning": "l"}));
        let mut change = crate::support::update(of, row, Some(of.version), EDIT_MS + seq);
        change.register = false;
        let part = CounterPart { seq, total };
        change.counters = BTreeMap::from([("usage_count".to_owned(), part)]);
        change
    };
    other.push_one(own, count_by(5, 3, &mine)).await;
    let request = request(&ann, own, project, &[&mine]);
    let moved = run(out, send(&ann, &request))
        .await
        .unwrap()
        .outcomes
        .remove(0);
    let there = moved.entered.unwrap();
    let after = ann
        .push_one(project, count_by(9, 10, &there))
        .await
        .stored
        .unwrap();
    after.row.unwrap()["usage_count"].as_i64().unwrap()
}

#[tokio::test]
async fn without_their_parts_counters_forget_others_when_a_row_moves() {
    let [carried, left] = both(Guard::MoveParts);
    assert_eq!(count_after_a_move(carried).await, 13);
    assert_eq!(count_after_a_move(left).await, 10);
}

/// A colleague takes somebody's row out of the project into the own scope; returns what is left.
async fn taken(out: Option<Guard>) -> i64 {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let eve = world.colleague("eve", Some("admin")).await;
    let theirs = ann.add(project, DECISION, json!({"title": "of ann"})).await;
    let request = request(&eve, project, eve.own(), &[&theirs]);
    run(out, send(&eve, &request)).await.unwrap();
    live(&world, project).await
}

#[tokio::test]
async fn without_a_look_at_the_author_rows_are_taken_into_private_scopes() {
    let [kept, gone] = both(Guard::MoveAuthor);
    assert_eq!(taken(kept).await, 1);
    assert_eq!(taken(gone).await, 0);
}
