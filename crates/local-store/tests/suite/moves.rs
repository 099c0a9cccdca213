//! Rows that move to another scope and back, with edits before, meanwhile and after.

use coditect_core::sync::MoveSettled;
use coditect_local_store::{LocalStore, Random, RowFilter, RowView, SearchQuery, Sharing};
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::moves::MoveRequest;
use coditect_protocol::{ErrorCode, Problem, Scope};
use serde_json::json;

use crate::support::{
    NOW, Server, TENANT, assert_converged, bind, folder, own, pull, push, row, store,
};

const DECISIONS: &str = "org_decisions";
const LEARNINGS: &str = "org_skill_learnings";
const ORG: Scope = Scope::Org(TENANT);

pub(crate) fn decide(store: &mut LocalStore, title: &str) -> String {
    let row = row(json!({ "title": title }));
    let id = store.insert(DECISIONS, "user", row, NOW).unwrap();
    id.to_string()
}

pub(crate) fn share(
    store: &mut LocalStore,
    table: &str,
    from: &str,
    id: &str,
    to: &str,
) -> Sharing {
    let rows = [(table, from.to_owned(), id.to_owned())];
    store.share(File::Org, &rows, to, NOW).unwrap()[0]
}

fn rows(store: &LocalStore, table: &str) -> Vec<RowView> {
    let filter = RowFilter {
        limit: 100,
        ..RowFilter::default()
    };
    store.list(table, &filter).unwrap()
}

pub(crate) fn only(store: &LocalStore, table: &str) -> RowView {
    let mut all = rows(store, table);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

pub(crate) fn retitle(store: &mut LocalStore, title: &str, at_ms: i64) {
    let known = only(store, DECISIONS);
    let patch = row(json!({ "title": title }));
    let id = known.id.unwrap();
    assert!(
        store
            .update(DECISIONS, &known.scope, &id, &patch, at_ms)
            .unwrap()
    );
}

fn moves(store: &mut LocalStore, server: &mut Server) -> MoveSettled {
    let mut all = MoveSettled::default();
    for file in File::ALL {
        while let Some(request) = store.next_move(file, server.now_ms).unwrap() {
            let reply = server.move_rows(&request);
            let settled = store.settle_move(&request, &reply, server.now_ms).unwrap();
            all.moved += settled.moved;
            all.refused += settled.refused;
        }
    }
    all
}

/// One run of the engine.
pub(crate) fn sync(store: &mut LocalStore, server: &mut Server) -> MoveSettled {
    for file in File::ALL {
        store.adopt(file, server.now_ms).unwrap();
    }
    pull(store, server);
    push(store, server);
    let settled = moves(store, server);
    push(store, server);
    pull(store, server);
    assert_converged(store, server);
    settled
}

pub(crate) fn org() -> String {
    ORG.to_string()
}

#[test]
fn a_row_is_shared_and_taken_back() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = decide(&mut a, "shared walrus");
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    for (from, to) in [("user".to_owned(), org()), (org(), "user".to_owned())] {
        assert_eq!(share(&mut a, DECISIONS, &from, &id, &to), Sharing::Queued);
        assert_eq!(
            only(&a, DECISIONS).scope,
            from,
            "not before the server has moved it"
        );
        assert_eq!(sync(&mut a, &mut server).moved, 1);
        sync(&mut b, &mut server);
        for device in [&mut a, &mut b] {
            let there = only(device, DECISIONS);
            assert_eq!((there.scope, there.id), (to.clone(), Some(id.clone())));
            let query = SearchQuery {
                text: "walrus".to_owned(),
                limit: 10,
                ..SearchQuery::default()
            };
            assert_eq!(device.search(&query, NOW).unwrap().len(), 1);
            assert!(device.queued_moves(File::Org, 10).unwrap().is_empty());
        }
        assert_eq!(share(&mut a, DECISIONS, &to, &id, &to), Sharing::There);
    }
}

#[test]
fn a_row_that_nobody_has_yet_goes_straight_to_its_new_scope() {
    let mut server = Server::new();
    let mut a = store(1);
    let id = decide(&mut a, "x");
    assert_eq!(share(&mut a, DECISIONS, "user", &id, "org"), Sharing::Done);
    assert_eq!(push(&mut a, &mut server).len(), 1);
    assert!(server.rows.keys().all(|(scope, _, _)| *scope == ORG));
    pull(&mut a, &server);
    assert_converged(&mut a, &server);
}

#[test]
fn a_wish_that_was_not_sent_can_be_taken_back() {
    let mut server = Server::new();
    let mut a = store(1);
    let id = decide(&mut a, "x");
    sync(&mut a, &mut server);
    assert_eq!(
        share(&mut a, DECISIONS, "user", &id, "org"),
        Sharing::Queued
    );
    assert_eq!(
        share(&mut a, DECISIONS, "user", &id, "user"),
        Sharing::TakenBack
    );
    assert_eq!(sync(&mut a, &mut server).moved, 0);
    share(&mut a, DECISIONS, "user", &id, "org");
    a.next_move(File::Org, NOW).unwrap().unwrap();
    assert_eq!(
        share(&mut a, DECISIONS, "user", &id, "user"),
        Sharing::InFlight
    );
}

#[test]
fn what_waits_to_be_pushed_is_pushed_before_the_row_moves() {
    let mut server = Server::new();
    let mut a = store(1);
    let id = decide(&mut a, "old");
    sync(&mut a, &mut server);
    share(&mut a, DECISIONS, "user", &id, "org");
    retitle(&mut a, "new", NOW + 1);
    assert_eq!(a.next_move(File::Org, NOW).unwrap(), None);
    assert_eq!(sync(&mut a, &mut server).moved, 1);
    let there = server
        .rows
        .iter()
        .find(|((scope, _, _), _)| *scope == ORG)
        .unwrap()
        .1;
    assert_eq!(there.row.as_ref().unwrap()["title"], "new");
}

#[test]
fn an_edit_while_the_move_is_in_the_air_is_pushed_to_where_the_row_is() {
    let mut server = Server::new();
    let mut a = store(1);
    let id = decide(&mut a, "old");
    sync(&mut a, &mut server);
    share(&mut a, DECISIONS, "user", &id, "org");
    let request = a.next_move(File::Org, NOW).unwrap().unwrap();
    let reply = server.move_rows(&request);
    retitle(&mut a, "new", NOW + 1);
    a.settle_move(&request, &reply, NOW).unwrap();
    assert!(only(&a, DECISIONS).pending);
    sync(&mut a, &mut server);
    let there = only(&a, DECISIONS);
    assert_eq!((there.scope, &there.row["title"]), (org(), &json!("new")));
    assert!(a.conflicts(File::Org, true).unwrap().is_empty());
}

#[test]
fn a_lost_answer_and_the_end_of_the_process_lose_no_wish() {
    let mut server = Server::new();
    let folder = folder();
    let open = || {
        let mut store = LocalStore::open(folder.path(), NOW, Random::Seeded(7)).unwrap();
        bind(&mut store);
        store
    };
    let mut a = open();
    let id = decide(&mut a, "x");
    sync(&mut a, &mut server);
    share(&mut a, DECISIONS, "user", &id, "org");
    drop(a);
    let mut a = open();
    let first = a.next_move(File::Org, NOW).unwrap().unwrap();
    server.move_rows(&first);
    drop(a);
    let mut a = open();
    // A pull that comes first brings the tombstone, and the row.
    for pulls in [false, true] {
        if pulls {
            pull(&mut a, &server);
        }
        let again = a.next_move(File::Org, NOW).unwrap().unwrap();
        assert_eq!(again.batch_id, first.batch_id);
    }
    assert_eq!(moves(&mut a, &mut server).moved, 1);
    assert_converged(&mut a, &server);
    assert_eq!(only(&a, DECISIONS).scope, org());
    assert_eq!(a.next_move(File::Org, NOW).unwrap(), None);
    let late = server.move_rows(&first);
    assert_eq!(a.settle_move(&first, &late, NOW).unwrap().moved, 0);
}

#[test]
fn an_edit_by_a_device_that_knows_nothing_of_the_move_follows_the_row() {
    for concurrent in [false, true] {
        let mut server = Server::new();
        let (mut a, mut b) = (store(1), store(2));
        let id = decide(&mut a, "old");
        sync(&mut a, &mut server);
        sync(&mut b, &mut server);
        retitle(&mut b, "of b", NOW + 10);
        share(&mut a, DECISIONS, "user", &id, "org");
        sync(&mut a, &mut server);
        if concurrent {
            retitle(&mut a, "of a", NOW + 5);
            sync(&mut a, &mut server);
        }
        server.now_ms += 20;
        sync(&mut b, &mut server);
        sync(&mut b, &mut server);
        sync(&mut a, &mut server);
        for device in [&a, &b] {
            let there = only(device, DECISIONS);
            assert_eq!((there.scope, &there.row["title"]), (org(), &json!("of b")));
        }
        let conflicts = b.conflicts(File::Org, true).unwrap().len();
        assert_eq!(conflicts, usize::from(concurrent));
    }
}

#[test]
fn an_edit_that_is_refused_its_place_before_anything_was_pulled_follows_the_row() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = decide(&mut a, "old");
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    share(&mut a, DECISIONS, "user", &id, "org");
    sync(&mut a, &mut server);
    retitle(&mut b, "of b", NOW + (1 << 20));
    server.now_ms += 1 << 21;
    push(&mut b, &mut server);
    assert_eq!(only(&b, DECISIONS).scope, org());
    sync(&mut b, &mut server);
    let there = only(&b, DECISIONS);
    assert_eq!((there.scope, &there.row["title"]), (org(), &json!("of b")));
}

#[test]
fn what_every_device_added_to_a_counter_moves_along() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let learning = row(json!({"skill_name": "s", "learning": "l", "usage_count": 4}));
    let id = a
        .insert(LEARNINGS, "user", learning, NOW)
        .unwrap()
        .to_string();
    let add = |store: &mut LocalStore, more: i64| {
        let known = only(store, LEARNINGS);
        let count = known.row["usage_count"].as_i64().unwrap() + more;
        let patch = row(json!({ "usage_count": count }));
        let id = known.id.unwrap();
        store
            .update(LEARNINGS, &known.scope, &id, &patch, NOW)
            .unwrap();
    };
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    add(&mut b, 10);
    sync(&mut b, &mut server);
    sync(&mut a, &mut server);
    // Not sent yet when the row moves.
    add(&mut b, 100);
    for (from, to) in [("user".to_owned(), org()), (org(), "user".to_owned())] {
        share(&mut a, LEARNINGS, &from, &id, &to);
        sync(&mut a, &mut server);
        sync(&mut b, &mut server);
        sync(&mut b, &mut server);
        add(&mut a, 1_000);
        sync(&mut a, &mut server);
        sync(&mut b, &mut server);
        add(&mut b, 1_000);
        sync(&mut b, &mut server);
        sync(&mut a, &mut server);
    }
    for device in [&a, &b] {
        assert_eq!(only(device, LEARNINGS).row["usage_count"], 4_114);
    }
}

#[test]
fn a_refused_move_leaves_the_row_where_it_is_with_the_reason() {
    let mut server = Server::new();
    let mut a = store(1);
    let id = decide(&mut a, "x");
    sync(&mut a, &mut server);
    share(&mut a, DECISIONS, "user", &id, "org");
    let request = a.next_move(File::Org, NOW).unwrap().unwrap();
    let problem = Problem::new(ErrorCode::PermissionDenied, "viewers write nothing");
    let settled = a.refuse_move(&request, &problem, NOW).unwrap();
    assert_eq!(settled.refused, 1);
    let parked = a.queued_moves(File::Org, 10).unwrap().remove(0);
    assert_eq!(parked.state, "parked");
    assert_eq!(parked.code.as_deref(), Some("SYNC_005"));
    assert_eq!(parked.reason.as_deref(), Some("viewers write nothing"));
    assert_eq!(a.next_move(File::Org, NOW).unwrap(), None);
    assert_eq!(only(&a, DECISIONS).scope, "user");
    assert_eq!(a.retry_moves(File::Org).unwrap(), 1);
    assert_eq!(sync(&mut a, &mut server).moved, 1);
}

#[test]
fn a_row_that_was_deleted_meanwhile_stays_deleted() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = decide(&mut a, "x");
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    share(&mut a, DECISIONS, "user", &id, "org");
    b.delete(DECISIONS, "user", &id, NOW).unwrap();
    sync(&mut b, &mut server);
    push(&mut a, &mut server);
    assert_eq!(moves(&mut a, &mut server).refused, 1);
    assert!(rows(&a, DECISIONS).is_empty());
    a.retry_moves(File::Org).unwrap();
    assert_eq!(sync(&mut a, &mut server).refused, 0);
    assert!(a.queued_moves(File::Org, 10).unwrap().is_empty());
    let empty = |request: &MoveRequest| request.moves.is_empty();
    assert!(
        a.next_move(File::Org, NOW)
            .unwrap()
            .as_ref()
            .is_none_or(empty)
    );
}

#[test]
fn a_delete_of_a_row_on_its_way_is_carried_out_there() {
    let mut server = Server::new();
    let mut a = store(1);
    let id = decide(&mut a, "x");
    sync(&mut a, &mut server);
    share(&mut a, DECISIONS, "user", &id, "org");
    let request = a.next_move(File::Org, NOW).unwrap().unwrap();
    let reply = server.move_rows(&request);
    a.delete(DECISIONS, "user", &id, NOW).unwrap();
    a.settle_move(&request, &reply, NOW).unwrap();
    sync(&mut a, &mut server);
    assert!(rows(&a, DECISIONS).is_empty());
    let live = server.rows.values().filter(|stored| stored.row.is_some());
    assert_eq!(live.count(), 0);
    let _ = own();
}
