//! What a server that was set back lost, and gets again: deletes, edits that wait, rows that were
//! sent and never answered.

use crate::support::{NOW, Server, own, pull, push, row, store, sync, take};
use coditect_core::digest::term;
use coditect_local_store::LocalStore;
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::Op;
use coditect_protocol::wire::descent::{Descended, Divided, Listed, Range};
use coditect_protocol::wire::push::{Change, Status};
use coditect_protocol::{Epoch, RowId, Version};
use serde_json::json;

const LEARNINGS: &str = "org_skill_learnings";

fn learn(store: &mut LocalStore, text: &str) -> RowId {
    let learning = row(json!({"skill_name": "s", "learning": text}));
    store.insert(LEARNINGS, "user", learning, NOW).unwrap()
}

fn relearn(store: &mut LocalStore, id: RowId, text: &str, now_ms: i64) {
    let (patch, id) = (row(json!({"learning": text})), id.to_string());
    let done = store.update(LEARNINGS, "user", &id, &patch, now_ms);
    assert!(done.unwrap());
}

fn count(store: &mut LocalStore, id: RowId, now_ms: i64) {
    let view = store.get(LEARNINGS, &id.to_string()).unwrap().unwrap();
    let times = view.row["usage_count"].as_i64().unwrap() + 1;
    let patch = row(json!({"usage_count": times}));
    let done = store.update(LEARNINGS, "user", &id.to_string(), &patch, now_ms);
    assert!(done.unwrap());
}

fn delete(store: &mut LocalStore, id: RowId, now_ms: i64) {
    let done = store.delete(LEARNINGS, "user", &id.to_string(), now_ms);
    assert!(done.unwrap());
}

fn text(store: &LocalStore, id: RowId) -> Option<String> {
    let found = store.get(LEARNINGS, &id.to_string()).unwrap();
    found.map(|view| view.row["learning"].as_str().unwrap().to_owned())
}

/// Reads everything again, as a device does that hears of a new epoch.
fn reread(store: &mut LocalStore, server: &Server) {
    store.begin_reconcile(server.epoch).unwrap();
    pull(store, server);
    store.finish_reconcile(server.now_ms).unwrap();
}

/// Hears of a new epoch, and sends what the server lacks.
fn come_back(store: &mut LocalStore, server: &mut Server) -> Vec<Change> {
    reread(store, server);
    sync(store, server)
}

/// The server as it was, in a new life and some seconds later.
fn restored(backup: &Server) -> Server {
    let mut server = backup.clone();
    server.epoch = Epoch(backup.epoch.0 + 1);
    server.now_ms = NOW + 5_000;
    server
}

fn conflicts(store: &LocalStore) -> usize {
    store.conflicts(File::Org, true).unwrap().len()
}

/// What a set back takes away.
#[derive(PartialEq)]
enum Lost {
    Edit,
    Row,
}

/// Two devices that know a text, which the first one has edited since.
struct Edited {
    a: LocalStore,
    b: LocalStore,
    id: RowId,
    server: Server,
    /// The server when it is back.
    after: Server,
}

fn edited(lost: Lost) -> Edited {
    let mut server = Server::new();
    server.now_ms = NOW + 1_000;
    let empty = restored(&server);
    let (mut a, mut b) = (store(1), store(2));
    let id = learn(&mut a, "one");
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    let after = if lost == Lost::Row {
        empty
    } else {
        restored(&server)
    };
    relearn(&mut a, id, "two", NOW + 100);
    sync(&mut a, &mut server);
    Edited {
        a,
        b,
        id,
        server,
        after,
    }
}

fn assert_both(a: &LocalStore, b: &LocalStore, id: RowId, wanted: &str) {
    let wanted = Some(wanted);
    assert_eq!(text(a, id).as_deref(), wanted);
    assert_eq!(text(b, id).as_deref(), wanted);
}

#[test]
fn a_lost_delete_goes_before_a_later_count() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = learn(&mut a, "one");
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    let mut after = restored(&server);
    server.now_ms = NOW + 1_000;
    delete(&mut a, id, NOW + 100);
    sync(&mut a, &mut server);
    count(&mut b, id, NOW + 2_000);
    come_back(&mut b, &mut after);
    let counted = after.rows.values().next().unwrap().version;
    let deleted = server.rows.values().next().unwrap().version;
    assert!(counted > deleted);
    let sent = come_back(&mut a, &mut after);
    assert!(sent.iter().any(|change| change.op == Op::Delete));
    sync(&mut b, &mut after);
    assert_eq!((text(&a, id), text(&b, id)), (None, None));
    assert_eq!((conflicts(&a), conflicts(&b)), (0, 0));
}

#[test]
fn an_edit_beside_a_lost_delete_stays() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = learn(&mut a, "one");
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    let mut after = restored(&server);
    server.now_ms = NOW + 1_000;
    delete(&mut a, id, NOW + 100);
    sync(&mut a, &mut server);
    relearn(&mut b, id, "two", NOW + 2_000);
    come_back(&mut b, &mut after);
    come_back(&mut a, &mut after);
    sync(&mut b, &mut after);
    assert_both(&a, &b, id, "two");
}

#[test]
fn an_edit_that_comes_while_a_lost_delete_waits_is_not_deleted() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = learn(&mut a, "one");
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    let mut after = restored(&server);
    server.now_ms = NOW + 1_000;
    delete(&mut a, id, NOW + 100);
    sync(&mut a, &mut server);
    // The delete waits to be sent again when the edit comes.
    reread(&mut a, &after);
    relearn(&mut b, id, "two", NOW + 2_000);
    come_back(&mut b, &mut after);
    sync(&mut a, &mut after);
    sync(&mut b, &mut after);
    assert_both(&a, &b, id, "two");
}

#[test]
fn an_edit_knows_the_content_that_the_server_lost() {
    let Edited {
        mut a,
        mut b,
        id,
        mut server,
        mut after,
    } = edited(Lost::Edit);
    // It counts, and never hears of it: the other one has a version that it does not know.
    count(&mut a, id, NOW + 200);
    let batch = take(&mut a, File::Org, NOW + 300).unwrap();
    server.push(&batch.request);
    sync(&mut b, &mut server);
    reread(&mut a, &after);
    come_back(&mut b, &mut after);
    relearn(&mut a, id, "three", NOW + 3_000);
    sync(&mut a, &mut after);
    sync(&mut b, &mut after);
    assert_both(&a, &b, id, "three");
    assert_eq!((conflicts(&a), conflicts(&b)), (0, 0));
}

#[test]
fn what_was_found_lost_is_sent_although_a_pull_comes_first() {
    let Edited {
        mut a,
        mut b,
        id,
        mut after,
        ..
    } = edited(Lost::Row);
    // The server has nothing; the delete of the older text is there before the newer one.
    reread(&mut a, &after);
    delete(&mut b, id, NOW + 2_000);
    come_back(&mut b, &mut after);
    let sent = sync(&mut a, &mut after);
    assert!(sent.iter().any(|change| change.register), "{sent:?}");
    sync(&mut b, &mut after);
    assert_both(&a, &b, id, "two");
}

#[test]
fn the_delete_of_what_was_sent_and_never_answered_is_sent() {
    for late in [false, true] {
        let mut server = Server::new();
        server.now_ms = NOW + 1_000;
        let mut after = restored(&server);
        let (mut a, mut b) = (store(1), store(2));
        let id = learn(&mut a, "one");
        let batch = take(&mut a, File::Org, NOW).unwrap();
        server.push(&batch.request);
        sync(&mut b, &mut server);
        // Before the new life begins for this device, or after it has read everything again.
        if late {
            reread(&mut a, &after);
            delete(&mut a, id, NOW + 100);
        } else {
            delete(&mut a, id, NOW + 100);
            reread(&mut a, &after);
        }
        let sent = sync(&mut a, &mut after);
        assert!(sent.iter().any(|change| change.op == Op::Delete));
        come_back(&mut b, &mut after);
        sync(&mut a, &mut after);
        assert_eq!((text(&a, id), text(&b, id)), (None, None));
        assert!(push(&mut a, &mut after).is_empty() && push(&mut b, &mut after).is_empty());
    }
}

#[test]
fn what_was_never_sent_leaves_no_tombstone() {
    let mut server = Server::new();
    let mut after = restored(&server);
    let mut a = store(1);
    sync(&mut a, &mut server);
    let id = learn(&mut a, "one");
    delete(&mut a, id, NOW + 100);
    assert!(come_back(&mut a, &mut after).is_empty());
    assert!(after.rows.is_empty());
}

#[test]
fn a_reply_about_a_row_that_the_server_lacks_settles_it() {
    let mut server = Server::new();
    server.now_ms = NOW + 1_000;
    let mut a = store(1);
    let id = learn(&mut a, "one");
    sync(&mut a, &mut server);
    // Something damaged the server's row: the same content under an older version.
    let damaged = server.rows.values_mut().next().unwrap();
    damaged.version = Version::from_i64(damaged.version.to_i64() - (60_000 << 16));
    let stale = damaged.clone();
    let hash = stale.hash.parse().unwrap();
    let term = term(LEARNINGS, id, stale.version, stale.device, &hash, false);
    let listed = Listed {
        id,
        version: stale.version,
        term,
    };
    let all = Range::whole(LEARNINGS, 1);
    let mut reply = server.pull(&a);
    let page = reply
        .pages
        .iter_mut()
        .find(|page| (page.scope, page.file) == (own(), File::Org));
    page.unwrap().descent = Some(Descended {
        ranges: vec![Divided {
            table: LEARNINGS.to_owned(),
            first: all.first,
            last: all.last,
            parts: Vec::new(),
            listed: Some(vec![listed]),
        }],
        ..Descended::default()
    });
    let applied = a.apply_reply(&reply).unwrap();
    let queued: u64 = applied.repairs.iter().map(|repair| repair.queued).sum();
    assert_eq!(queued, 1);
    let batch = take(&mut a, File::Org, NOW + 1_000).unwrap();
    let answer = server.push(&batch.request);
    assert_eq!(answer.outcomes[0].status, Status::Duplicate);
    a.settle(&batch, &answer, NOW + 1_000).unwrap();
    // Its content is what the server has, and so is its version.
    crate::support::assert_converged(&mut a, &server);
}

#[test]
fn a_batch_comes_again_when_its_epoch_does() {
    let mut server = Server::new();
    let mut a = store(1);
    sync(&mut a, &mut server);
    learn(&mut a, "one");
    let first = take(&mut a, File::Org, NOW).unwrap();
    let reply = server.push(&first.request);
    // Its answer is lost, and the server begins a new life for a while.
    let other = restored(&server);
    reread(&mut a, &other);
    let second = take(&mut a, File::Org, NOW + 100).unwrap();
    assert_ne!(first.bytes, second.bytes);
    reread(&mut a, &server);
    let again = take(&mut a, File::Org, NOW + 200).unwrap();
    assert_eq!(first.bytes, again.bytes);
    a.settle(&again, &reply, NOW + 200).unwrap();
    sync(&mut a, &mut server);
    assert_eq!(a.queue_state(File::Org).unwrap().queued, 0);
}

#[test]
fn a_count_on_an_earlier_state_is_no_edit_beside_what_was_lost() {
    let Edited {
        mut a,
        mut b,
        id,
        mut after,
        ..
    } = edited(Lost::Edit);
    count(&mut b, id, NOW + 2_000);
    // The count arrives between the page and the push.
    reread(&mut a, &after);
    come_back(&mut b, &mut after);
    push(&mut a, &mut after);
    sync(&mut a, &mut after);
    sync(&mut b, &mut after);
    assert_both(&a, &b, id, "two");
    assert_eq!((conflicts(&a), conflicts(&b)), (0, 0));
}

#[test]
fn what_the_server_lost_names_the_state_before_it() {
    let Edited {
        mut a,
        mut b,
        id,
        mut after,
        ..
    } = edited(Lost::Row);
    // The server has nothing of it when the one asks; then the other gives back what was before.
    reread(&mut a, &after);
    come_back(&mut b, &mut after);
    let sent = push(&mut a, &mut after);
    assert!(
        sent.iter().any(|change| change.follows.is_some()),
        "{sent:?}"
    );
    sync(&mut a, &mut after);
    sync(&mut b, &mut after);
    assert_both(&a, &b, id, "two");
    assert_eq!((conflicts(&a), conflicts(&b)), (0, 0));
}
