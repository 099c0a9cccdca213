//! Guards that only the files have, each taken out: what goes wrong then is asserted beside what
//! holds with it. `docs/GUARDS.md` lists them.

use coditect_local_store::{FileGuard, without};
use coditect_protocol::Epoch;
use coditect_protocol::catalogue::File;
use serde_json::json;

use crate::bodies::{long, part_all, say};
use crate::support::{NOW, Server, own, row, store};
use crate::{leave, moves};

/// With all guards, and without this one.
fn both(guard: FileGuard) -> [Option<FileGuard>; 2] {
    [None, Some(guard)]
}

fn run<T>(out: Option<FileGuard>, work: impl FnOnce() -> T) -> T {
    match out {
        Some(guard) => without(guard, work),
        None => work(),
    }
}

/// Leaves a team with a row that was never sent; returns what is left of its rows.
fn leave_with_unsent(out: Option<FileGuard>) -> Vec<String> {
    let mut server = Server::new();
    let mut store = leave::member(&mut server);
    let local = store.local_scope(leave::TEAM).unwrap();
    let late = row(json!({"title": "late"}));
    store.insert("org_decisions", &local, late, NOW).unwrap();
    run(out, || leave::pull(&mut store, &server, false));
    leave::titles(&store)
}

#[test]
fn without_a_look_at_marks_what_was_never_sent_is_gone_with_its_scope() {
    let [kept, gone] = both(FileGuard::LeftUnsent);
    assert_eq!(leave_with_unsent(kept), ["late"]);
    assert!(leave_with_unsent(gone).is_empty());
}

/// The server was set back to before a membership; returns how many rows of the team stay.
fn membership_lost(out: Option<FileGuard>) -> usize {
    let mut server = Server::new();
    let mut store = leave::member(&mut server);
    store.begin_reconcile(Epoch(3)).unwrap();
    server.epoch = Epoch(3);
    run(out, || leave::pull(&mut store, &server, false));
    leave::titles(&store).len()
}

#[test]
fn without_a_look_at_the_epoch_a_set_back_takes_the_rows_of_a_team() {
    let [stays, left] = both(FileGuard::LeftAfterSetBack);
    assert_eq!(membership_lost(stays), 2);
    assert_eq!(membership_lost(left), 0);
}

/// A row comes once more, without its body; returns how many texts lack then.
fn row_without_its_body(out: Option<FileGuard>) -> u64 {
    let mut server = Server::new();
    let mut a = store(1);
    say(&mut a, "m", &long("one"));
    crate::support::sync(&mut a, &mut server);
    part_all(&mut server);
    // By another device, so that the row is stored anew.
    for stored in server.rows.values_mut() {
        stored.version = stored.version.next();
    }
    let page = server.page(own(), File::Sessions, 0, a.device());
    let page = coditect_protocol::wire::pull::Page {
        changes: (page.changes.into_iter())
            .map(|mut stored| {
                stored.cursor += 1_000;
                stored
            })
            .collect(),
        ..page
    };
    run(out, || a.apply_page(&page, server.epoch)).unwrap();
    a.pending_bodies().unwrap().down
}

#[test]
fn without_a_look_at_what_is_there_a_text_goes_and_is_fetched_again() {
    let [kept, gone] = both(FileGuard::BodyKept);
    assert_eq!(row_without_its_body(kept), 0);
    assert_eq!(row_without_its_body(gone), 1);
}

/// Fetches another device's row; returns how many rows are found to be sent.
fn fetched_row(out: Option<FileGuard>) -> u64 {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let table = "context_tool_analytics";
    let used = json!({"session_id": "s", "tool_name": "Read", "tool_use_id": "t"});
    a.insert(table, "user", row(used), NOW).unwrap();
    crate::support::sync(&mut a, &mut server);
    let rows: Vec<_> = server.rows.values().cloned().collect();
    let stored = run(out, || b.store_foreign(table, own(), &rows));
    assert_eq!(stored.unwrap(), 1);
    b.adopt(File::Sessions, NOW).unwrap().found
}

#[test]
fn without_its_note_a_fetched_row_is_sent_as_an_own_one() {
    let [noted, unnoted] = both(FileGuard::ForeignNoted);
    assert_eq!(fetched_row(noted), 0);
    assert_eq!(fetched_row(unnoted), 1);
}

/// Edits a row that another device has moved meanwhile; returns its title where it is.
fn edit_after_a_move(out: Option<FileGuard>) -> String {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = moves::decide(&mut a, "old");
    moves::sync(&mut a, &mut server);
    moves::sync(&mut b, &mut server);
    moves::share(&mut a, "org_decisions", "user", &id, &moves::org());
    moves::sync(&mut a, &mut server);
    moves::retitle(&mut b, "edited", NOW + 1);
    run(out, || moves::sync(&mut b, &mut server));
    moves::sync(&mut a, &mut server);
    let row = moves::only(&a, "org_decisions").row;
    row["title"].as_str().unwrap().to_owned()
}

#[test]
fn without_the_way_an_edit_does_not_follow_its_row() {
    let [follows, stays] = both(FileGuard::EditFollows);
    assert_eq!(edit_after_a_move(follows), "edited");
    assert_eq!(edit_after_a_move(stays), "old");
}
