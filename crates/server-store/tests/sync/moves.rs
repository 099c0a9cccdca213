//! Rows move between scopes: both streams, digests, counters, and what comes late.

use std::collections::BTreeMap;

use coditect_protocol::catalogue::File;
use coditect_protocol::wire::moves::{Move, MoveReply, MoveRequest, Moved};
use coditect_protocol::wire::push::{CounterPart, Status};
use coditect_protocol::wire::{Op, Stored};
use coditect_protocol::{API_VERSION, BatchId, DeviceId, ErrorCode, Scope};
use coditect_server_store::sync::{self, SyncError};
use coditect_testkit::{TestDb, TestTenant, TestUser};
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    EDIT_MS, NOW_MS, Peer, assert_digests, count, delete, fresh_uuid, insert, row, table, update,
};

pub(crate) const DECISION: &str = "org_decisions";

pub(crate) struct World {
    pub(crate) db: TestDb,
    tenant: TestTenant,
    pub(crate) ann: Peer,
    pub(crate) project: Scope,
}

/// A tenant with Ann, who is a member of a project.
pub(crate) async fn world() -> World {
    let db = TestDb::new().await;
    let tenant = db.with_tenant("acme").await;
    let ann = db.with_user(&tenant, "ann@acme.example").await;
    let project = Scope::Project(fresh_uuid());
    let sql = format!(
        "insert into scopes (tenant_id, scope_id, kind, name)
            values ('{}', '{}', 'project', 'x')",
        tenant.id,
        project.id()
    );
    db.superuser_client()
        .await
        .batch_execute(&sql)
        .await
        .unwrap();
    join(&db, &ann, project, "member").await;
    World {
        ann: Peer::new(&db, &ann),
        db,
        tenant,
        project,
    }
}

async fn join(db: &TestDb, user: &TestUser, scope: Scope, role: &str) {
    let sql = format!(
        "insert into scope_members (tenant_id, scope_id, user_id, role)
            values ('{}', '{}', '{}', '{role}')",
        user.tenant_id,
        scope.id(),
        user.user_id
    );
    db.superuser_client()
        .await
        .batch_execute(&sql)
        .await
        .unwrap();
}

impl World {
    /// A colleague with a role in the project; without one, only in the organisation.
    pub(crate) async fn colleague(&self, name: &str, role: Option<&str>) -> Peer {
        let email = format!("{name}@acme.example");
        let user = self.db.with_user(&self.tenant, &email).await;
        if let Some(role) = role {
            join(&self.db, &user, self.project, role).await;
        }
        Peer::new(&self.db, &user)
    }

    /// Another device of Ann.
    pub(crate) async fn second_device(&self) -> Peer {
        let mut peer = self.ann.clone();
        peer.device = DeviceId::new(fresh_uuid());
        peer.tokens.clear();
        peer.cursors.clear();
        let sql = format!(
            "insert into devices (tenant_id, id, user_id) values ('{}', '{}', '{}')",
            self.tenant.id,
            peer.device,
            peer.caller.user_id()
        );
        let admin = self.db.superuser_client().await;
        admin.batch_execute(&sql).await.unwrap();
        peer
    }
}

pub(crate) fn request(peer: &Peer, from: Scope, to: Scope, rows: &[&Stored]) -> MoveRequest {
    let moves = rows.iter().map(|row| Move {
        table: row.table.clone(),
        id: row.id,
        base: row.version,
    });
    MoveRequest {
        api_version: API_VERSION.to_owned(),
        device: peer.device,
        batch_id: BatchId::new(fresh_uuid()),
        file: table(&rows[0].table).file,
        from,
        to,
        moves: moves.collect(),
    }
}

pub(crate) async fn send(peer: &Peer, request: &MoveRequest) -> Result<MoveReply, SyncError> {
    peer.db
        .tenant("sync.move", &peer.caller, |mut tx| async move {
            sync::move_rows(&mut tx, request, NOW_MS).await
        })
        .await
}

async fn moved(peer: &Peer, from: Scope, to: Scope, row: &Stored) -> Moved {
    let request = request(peer, from, to, &[row]);
    send(peer, &request).await.unwrap().outcomes.remove(0)
}

/// Moves a row, which must be possible, and returns it as stored in the other scope.
pub(crate) async fn shared(peer: &Peer, from: Scope, to: Scope, row: &Stored) -> Stored {
    let outcome = moved(peer, from, to, row).await;
    assert_eq!(outcome.status, Status::Applied, "{:?}", outcome.reason);
    outcome.entered.unwrap()
}

fn refusal(outcome: &Moved) -> ErrorCode {
    assert_eq!(outcome.status, Status::Rejected);
    outcome.code.unwrap()
}

#[tokio::test]
async fn a_shared_row_is_a_tombstone_here_and_a_row_there() {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let mut ben = world.colleague("ben", Some("member")).await;
    let own = ann.own();
    let mine = ann.add(own, DECISION, json!({"title": "shared"})).await;
    let outcome = moved(&ann, own, project, &mine).await;
    assert_eq!(outcome.status, Status::Applied);
    let (left, entered) = (outcome.left.unwrap(), outcome.entered.unwrap());
    assert_eq!((left.op, entered.op), (Op::Delete, Op::Upsert));
    assert_eq!((left.id, entered.id), (mine.id, mine.id));
    assert!(left.version > mine.version && entered.version > mine.version);
    assert_eq!(
        (entered.origin, entered.user_id),
        (mine.origin, mine.user_id)
    );
    assert_eq!(entered.hash, mine.hash);
    assert_eq!(entered.row, None, "the device has the content");

    let here = ann.pull(own, File::Org).await;
    assert_eq!(here, [left]);
    let there = ben.pull(project, File::Org).await;
    assert_eq!(there.len(), 1);
    assert_eq!(
        there[0].user_id,
        Some(ann.caller.user_id()),
        "the author stays"
    );
    assert_eq!(there[0].row.as_ref().unwrap()["title"], "shared");
    assert_digests(&world.db).await;
    let audit = "audit_log where action in ('move_in', 'move_out')";
    assert_eq!(count(&world.db, audit).await, 2);
    assert_eq!(
        count(&world.db, "record_history where reason = 'moved'").await,
        1
    );
    for (scope, rows) in [(own, 0), (project, 1)] {
        let usage = format!(
            "streams where scope_id = '{}' and row_count = {rows} and (byte_count > 0) = {}",
            scope.id(),
            rows > 0
        );
        assert_eq!(
            count(&world.db, &usage).await,
            1,
            "usage moves with the row"
        );
    }
}

#[tokio::test]
async fn a_move_that_comes_again_changes_nothing_even_when_the_row_is_back() {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let own = ann.own();
    let mine = ann.add(own, DECISION, json!({"title": "to and fro"})).await;
    let request = request(&ann, own, project, &[&mine]);
    let first = send(&ann, &request).await.unwrap().outcomes.remove(0);
    let second = send(&ann, &request).await.unwrap().outcomes.remove(0);
    assert_eq!(second.status, Status::Duplicate);
    assert_eq!(second.left, first.left);
    let there = first.entered.unwrap();
    let back = shared(&ann, project, own, &there).await;
    assert_eq!((back.origin, back.user_id), (mine.origin, mine.user_id));
    let third = send(&ann, &request).await.unwrap().outcomes.remove(0);
    assert_eq!(third.status, Status::Duplicate);
    assert_eq!(third.left.unwrap().op, Op::Upsert);
    assert_eq!(third.entered.unwrap().op, Op::Delete);
    // A new request moves it again.
    shared(&ann, own, project, &back).await;
    assert_digests(&world.db).await;
    assert_eq!(count(&world.db, "row_moves").await, 3);
}

#[tokio::test]
async fn opposite_moves_at_once_take_their_turn() {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let other = world.second_device().await;
    let own = ann.own();
    let (mut to, mut fro) = (Vec::new(), Vec::new());
    for n in 0..20 {
        to.push(
            ann.add(own, DECISION, json!({"title": format!("to {n}")}))
                .await,
        );
        fro.push(
            ann.add(project, DECISION, json!({"title": format!("fro {n}")}))
                .await,
        );
    }
    let moves = (0..20).map(|n| {
        let (ann, other) = (ann.clone(), other.clone());
        let (to, fro) = (to[n].clone(), fro[n].clone());
        async move {
            tokio::join!(
                shared(&ann, own, project, &to),
                shared(&other, project, own, &fro)
            )
        }
    });
    let mut set = tokio::task::JoinSet::new();
    moves.for_each(|one| drop(set.spawn(one)));
    while let Some(done) = set.join_next().await {
        done.unwrap();
    }
    assert_digests(&world.db).await;
    let live = |scope: Scope| {
        format!(
            "org_decisions where deleted_at is null and scope_id = '{}'",
            scope.id()
        )
    };
    assert_eq!(count(&world.db, &live(own)).await, 20);
    assert_eq!(count(&world.db, &live(project)).await, 20);
}

#[tokio::test]
async fn of_two_moves_to_different_places_the_first_counts() {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let (own, org) = (ann.own(), ann.org());
    let mine = ann.add(own, DECISION, json!({"title": "one place"})).await;
    shared(&ann, own, project, &mine).await;
    let late = moved(&ann, own, org, &mine).await;
    assert_eq!(refusal(&late), ErrorCode::NotFound);
    assert!(late.reason.as_ref().unwrap().contains("elsewhere"));
    assert_eq!(late.left.unwrap().op, Op::Delete);
    assert_digests(&world.db).await;
}

#[tokio::test]
async fn what_is_stored_is_moved_even_if_the_device_knows_it_not_yet() {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let mut other = world.second_device().await;
    let own = ann.own();
    let mine = ann.add(own, DECISION, json!({"title": "old"})).await;
    let newer = row(DECISION, json!({"title": "new"}));
    let edit = update(&mine, newer, Some(mine.version), EDIT_MS + 5);
    assert_eq!(other.push_one(own, edit).await.status, Status::Applied);
    let outcome = moved(&ann, own, project, &mine).await;
    assert_eq!(outcome.status, Status::Merged);
    assert_eq!(outcome.entered.unwrap().row.unwrap()["title"], "new");
    assert_digests(&world.db).await;
}

#[tokio::test]
async fn an_edit_that_comes_after_the_move_is_told_where_the_row_is() {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let other = world.second_device().await;
    let own = ann.own();
    let mine = ann.add(own, DECISION, json!({"title": "old"})).await;
    shared(&ann, own, project, &mine).await;
    let edit = |title: &str| {
        let row = row(DECISION, json!({"title": title}));
        update(&mine, row, Some(mine.version), EDIT_MS + 5)
    };
    let request = other.request(own, File::Org, vec![edit("late")]);
    for _ in 0..2 {
        let reply = other.send(&request).await.unwrap();
        let outcome = &reply.outcomes[0];
        assert_eq!(outcome.moved_to, Some(project));
        assert_eq!(outcome.stored.as_ref().unwrap().op, Op::Delete);
    }
    let live = "org_decisions where deleted_at is null";
    assert_eq!(count(&world.db, live).await, 1, "no second row");
    assert_digests(&world.db).await;
}

#[tokio::test]
async fn who_may_not_see_the_new_place_does_not_learn_of_it_and_loses_no_edit() {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let org = ann.org();
    let mut eve = world.colleague("eve", None).await;
    let common = ann.add(org, DECISION, json!({"title": "for all"})).await;
    shared(&ann, org, project, &common).await;
    let row = row(DECISION, json!({"title": "of eve"}));
    let edit = update(&common, row, Some(common.version), EDIT_MS + 5);
    let outcome = eve.push_one(org, edit).await;
    assert_eq!(
        (outcome.status, outcome.moved_to),
        (Status::Superseded, None)
    );
    let kept = "sync_conflicts where row ->> 'title' = 'of eve'";
    assert_eq!(count(&world.db, kept).await, 1);
    let seen = eve.pull(org, File::Org).await;
    assert_eq!(seen.len(), 1);
    let text = serde_json::to_string(&seen).unwrap();
    assert!(!text.contains(&project.id().to_string()));
    assert_digests(&world.db).await;
}

#[tokio::test]
async fn a_deleted_row_does_not_move_and_a_moved_one_is_not_deleted() {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let mut other = world.second_device().await;
    let own = ann.own();
    let gone = ann.add(own, DECISION, json!({"title": "gone"})).await;
    let away = ann.add(own, DECISION, json!({"title": "away"})).await;
    other
        .push_one(own, delete(&gone, Some(gone.version), EDIT_MS + 5))
        .await;
    let outcome = moved(&ann, own, project, &gone).await;
    assert_eq!(refusal(&outcome), ErrorCode::NotFound);
    assert_eq!(outcome.left.unwrap().op, Op::Delete);
    shared(&ann, own, project, &away).await;
    let late = delete(&away, Some(away.version), EDIT_MS + 5);
    assert_eq!(other.push_one(own, late).await.status, Status::Duplicate);
    let live = "org_decisions where deleted_at is null";
    assert_eq!(count(&world.db, live).await, 1, "the move goes first");
    assert_digests(&world.db).await;
}

#[tokio::test]
async fn counters_move_with_their_parts() {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let mut other = world.second_device().await;
    let own = ann.own();
    let name = "org_skill_learnings";
    let mine = json!({"skill_name": "s", "learning": "l", "usage_count": 4});
    let mine = ann.add(own, name, mine).await;
    let count_by = |peer: &Peer, seq: i64, total: i64, of: &Stored| {
        let row = row(name, json!({"skill_name": "s", "learning": "l"}));
        let mut change = update(of, row, Some(of.version), EDIT_MS + seq);
        change.register = false;
        let part = CounterPart { seq, total };
        change.counters = BTreeMap::from([("usage_count".to_owned(), part)]);
        let _ = peer;
        change
    };
    let change = count_by(&other, 5, 3, &mine);
    other.push_one(own, change).await;
    let outcome = moved(&ann, own, project, &mine).await;
    let there = outcome.entered.unwrap();
    assert_eq!(there.row.as_ref().unwrap()["usage_count"], 7);
    let change = count_by(&ann, 9, 10, &there);
    let after = ann.push_one(project, change).await.stored.unwrap();
    assert_eq!(after.row.unwrap()["usage_count"], 13);
    assert_digests(&world.db).await;
}

#[tokio::test]
async fn a_row_of_the_same_identity_that_was_there_first_stays() {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let mut ben = world.colleague("ben", Some("member")).await;
    let message = json!({"message_id": "m", "session_id": "s", "role": "user", "content": "c"});
    let task = |status| json!({"session_id": "s", "task_id": "1", "status": status});
    for (peer, status) in [(&mut ann, "pending"), (&mut ben, "completed")] {
        let own = peer.own();
        let message = peer.add(own, "context_messages", message.clone()).await;
        let task = peer.add(own, "context_task_tracking", task(status)).await;
        let request = request(peer, own, project, &[&message, &task]);
        let outcomes = send(peer, &request).await.unwrap().outcomes;
        let expected = if status == "pending" {
            Status::Applied
        } else {
            Status::Merged
        };
        assert!(
            outcomes.iter().all(|it| it.status == expected),
            "{outcomes:?}"
        );
        assert!(
            outcomes
                .iter()
                .all(|it| it.left.as_ref().unwrap().op == Op::Delete)
        );
        let entered = outcomes[1].entered.as_ref().unwrap();
        assert_eq!(entered.user_id, Some(world.ann.caller.user_id()));
    }
    let kept = "sync_conflicts where row ->> 'status' = 'completed'";
    assert_eq!(count(&world.db, kept).await, 1, "what differs is kept");
    assert_digests(&world.db).await;
}

#[tokio::test]
async fn only_authors_and_admins_move_and_nobody_into_a_private_scope() {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let ben = world.colleague("ben", Some("member")).await;
    let boss = world.colleague("boss", Some("admin")).await;
    let org = ann.org();
    let ours = ann.add(project, DECISION, json!({"title": "ours"})).await;
    let denied = ErrorCode::PermissionDenied;
    assert_eq!(refusal(&moved(&ben, project, org, &ours).await), denied);
    assert_eq!(
        refusal(&moved(&ben, project, ben.own(), &ours).await),
        denied
    );
    assert_eq!(
        refusal(&moved(&boss, project, boss.own(), &ours).await),
        denied
    );
    let session = json!({"session_id": "s", "llm_provider": "p"});
    let session = ann.add(project, "context_sessions", session).await;
    let refused = ErrorCode::DirectionRefused;
    assert_eq!(
        refusal(&moved(&boss, project, org, &session).await),
        refused
    );
    shared(&boss, project, org, &ours).await;
    // The author goes on being it.
    assert_eq!(count(&world.db, "row_moves").await, 1);
    assert_digests(&world.db).await;
}

#[tokio::test]
async fn scopes_that_may_not_be_written_or_seen_are_refused_as_a_whole() {
    let world = world().await;
    let (mut ann, project) = (world.ann.clone(), world.project);
    let mut viewer = world.colleague("viewer", Some("viewer")).await;
    let mut eve = world.colleague("eve", None).await;
    let own = viewer.own();
    let mine = viewer.add(own, DECISION, json!({"title": "mine"})).await;
    let asked = send(&viewer, &request(&viewer, own, project, &[&mine])).await;
    assert!(
        matches!(asked, Err(SyncError::PermissionDenied)),
        "{asked:?}"
    );
    let own = eve.own();
    let mine = eve.add(own, DECISION, json!({"title": "mine"})).await;
    for to in [
        project,
        ann.own(),
        Scope::Team(fresh_uuid()),
        Scope::Org(Uuid::nil()),
    ] {
        let asked = send(&eve, &request(&eve, own, to, &[&mine])).await;
        assert!(
            matches!(asked, Err(SyncError::ScopeNotFound)),
            "{to} {asked:?}"
        );
        let asked = send(&eve, &request(&eve, to, own, &[&mine])).await;
        assert!(
            matches!(asked, Err(SyncError::ScopeNotFound)),
            "{to} {asked:?}"
        );
    }
    let asked = send(&eve, &request(&eve, own, Scope::Platform, &[&mine])).await;
    assert!(asked.is_err());
    // Tables that stay with their device.
    let own = ann.own();
    let usage = json!({"session_id": "s", "api_message_id": "m", "output_tokens": 1});
    let usage = insert(
        table("context_token_economics"),
        row("context_token_economics", usage),
        ann.device,
    );
    let usage = ann.push_one(own, usage).await.stored.unwrap();
    let outcome = moved(&ann, own, project, &usage).await;
    assert_eq!(refusal(&outcome), ErrorCode::DirectionRefused);
    assert_eq!(count(&world.db, "row_moves").await, 0);
    assert_digests(&world.db).await;
}
