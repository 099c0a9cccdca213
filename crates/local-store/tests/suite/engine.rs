//! The local half of sync against a small server: what is sent, what an answer does, what a
//! page does, and what survives in between.

use crate::support::{NOW, Server, assert_converged, own, pull, push, row, store, sync, take};
use coditect_local_store::{LocalStore, Random, RowFilter};
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::Op;
use coditect_protocol::wire::push::Status;
use coditect_protocol::{DeviceId, Epoch, RowId};
use serde_json::json;
use uuid::Uuid;

const DECISIONS: &str = "org_decisions";
const LEARNINGS: &str = "org_skill_learnings";

fn decide(store: &mut LocalStore, title: &str, now_ms: i64) -> RowId {
    store
        .insert(DECISIONS, "user", row(json!({"title": title})), now_ms)
        .unwrap()
}

fn retitle(store: &mut LocalStore, id: RowId, title: &str, now_ms: i64) {
    let patch = row(json!({"title": title}));
    let id = id.to_string();
    assert!(
        store
            .update(DECISIONS, "user", &id, &patch, now_ms)
            .unwrap()
    );
}

fn title(store: &LocalStore, id: RowId) -> Option<String> {
    let found = store.get(DECISIONS, &id.to_string()).unwrap();
    found.map(|view| view.row["title"].as_str().unwrap().to_owned())
}

fn learn(store: &mut LocalStore, text: &str) -> RowId {
    let learning = row(json!({"skill_name": "s", "learning": text}));
    store.insert(LEARNINGS, "user", learning, NOW).unwrap()
}

fn used(store: &LocalStore, id: RowId) -> i64 {
    let view = store.get(LEARNINGS, &id.to_string()).unwrap().unwrap();
    view.row["usage_count"].as_i64().unwrap()
}

fn use_again(store: &mut LocalStore, id: RowId, times: i64) {
    let patch = row(json!({"usage_count": used(store, id) + times}));
    assert!(
        store
            .update(LEARNINGS, "user", &id.to_string(), &patch, NOW)
            .unwrap()
    );
}

#[test]
fn a_row_goes_up_and_comes_down_on_the_other_device() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = decide(&mut a, "one", NOW);
    let sent = sync(&mut a, &mut server);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].base, sent[0].register), (None, true));
    assert_eq!(sent[0].row.as_ref().unwrap()["status"], "proposed");
    sync(&mut b, &mut server);
    assert_eq!(title(&b, id).as_deref(), Some("one"));
    retitle(&mut b, id, "two", NOW + 5);
    let sent = sync(&mut b, &mut server);
    assert!(sent[0].base.is_some());
    sync(&mut a, &mut server);
    assert_eq!(title(&a, id).as_deref(), Some("two"));
    assert_eq!(
        a.canonical_dump(File::Org).unwrap(),
        b.canonical_dump(File::Org).unwrap()
    );
    assert!(sync(&mut a, &mut server).is_empty() && sync(&mut b, &mut server).is_empty());
}

#[test]
fn an_edit_between_send_and_acknowledgement_survives() {
    let mut server = Server::new();
    let mut a = store(1);
    let id = decide(&mut a, "one", NOW);
    let batch = take(&mut a, File::Org, NOW).unwrap();
    retitle(&mut a, id, "two", NOW + 1);
    let reply = server.push(&batch.request);
    a.settle(&batch, &reply, NOW).unwrap();
    assert_eq!(a.queue_state(File::Org).unwrap().queued, 1);
    let sent = sync(&mut a, &mut server);
    assert_eq!(sent[0].row.as_ref().unwrap()["title"], "two");
    assert_eq!(
        sent[0].base,
        reply.outcomes[0]
            .stored
            .as_ref()
            .map(|stored| stored.version)
    );
    assert_eq!(title(&a, id).as_deref(), Some("two"));
}

#[test]
fn an_acknowledgement_twice_is_harmless() {
    let mut server = Server::new();
    let mut a = store(1);
    let id = decide(&mut a, "one", NOW);
    let batch = take(&mut a, File::Org, NOW).unwrap();
    let reply = server.push(&batch.request);
    assert_eq!(a.settle(&batch, &reply, NOW).unwrap().pushed, 1);
    retitle(&mut a, id, "two", NOW + 1);
    assert_eq!(a.settle(&batch, &reply, NOW).unwrap().pushed, 0);
    assert_eq!(a.queue_state(File::Org).unwrap().queued, 1);
    sync(&mut a, &mut server);
    assert_eq!(title(&a, id).as_deref(), Some("two"));
}

#[test]
fn a_lost_reply_is_answered_by_the_same_bytes_again() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = decide(&mut a, "one", NOW);
    let first = take(&mut a, File::Org, NOW).unwrap();
    server.push(&first.request);
    // The other device edits what the first one does not know to be stored.
    sync(&mut b, &mut server);
    retitle(&mut b, id, "from b", NOW + 10);
    sync(&mut b, &mut server);
    decide(&mut a, "queued meanwhile", NOW + 20);
    pull(&mut a, &server);
    let again = take(&mut a, File::Org, NOW + 30).unwrap();
    assert_eq!(first.bytes, again.bytes);
    let reply = server.push(&again.request);
    assert_eq!(reply.outcomes[0].status, Status::Duplicate);
    a.settle(&again, &reply, NOW).unwrap();
    assert_eq!(title(&a, id).as_deref(), Some("from b"));
    sync(&mut a, &mut server);
}

#[test]
fn a_recorded_reply_does_not_set_the_row_back() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = decide(&mut a, "one", NOW);
    let batch = take(&mut a, File::Org, NOW).unwrap();
    let reply = server.push(&batch.request);
    sync(&mut b, &mut server);
    retitle(&mut b, id, "from b", NOW + 10);
    sync(&mut b, &mut server);
    pull(&mut a, &server);
    assert_eq!(
        title(&a, id).as_deref(),
        Some("one"),
        "dirty rows are not overwritten"
    );
    a.settle(&batch, &reply, NOW).unwrap();
    assert_eq!(title(&a, id).as_deref(), Some("from b"));
    assert_converged(&mut a, &server);
    assert!(sync(&mut a, &mut server).is_empty());
}

#[test]
fn concurrent_edits_keep_the_losing_one_even_after_a_pull() {
    for a_later in [true, false] {
        let mut server = Server::new();
        let (mut a, mut b) = (store(1), store(2));
        let id = decide(&mut a, "one", NOW);
        sync(&mut a, &mut server);
        sync(&mut b, &mut server);
        server.now_ms = NOW + 1_000;
        let (at_a, at_b) = if a_later { (200, 100) } else { (100, 200) };
        retitle(&mut a, id, "from a", NOW + at_a);
        retitle(&mut b, id, "from b", NOW + at_b);
        sync(&mut a, &mut server);
        let sent = sync(&mut b, &mut server);
        assert_eq!(sent.len(), 1);
        sync(&mut a, &mut server);
        let (won, lost) = if a_later {
            ("from a", "from b")
        } else {
            ("from b", "from a")
        };
        assert_eq!(title(&a, id).as_deref(), Some(won));
        assert_eq!(title(&b, id).as_deref(), Some(won));
        let conflicts = b.conflicts(File::Org, false).unwrap();
        assert_eq!(conflicts.len(), 1);
        assert_eq!(conflicts[0].row.as_ref().unwrap()["title"], lost);
        assert!(b.settle_conflict(File::Org, conflicts[0].n, NOW).unwrap());
        assert!(b.conflicts(File::Org, false).unwrap().is_empty());
    }
}

#[test]
fn an_update_beats_a_concurrent_delete() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = decide(&mut a, "one", NOW);
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    server.now_ms = NOW + 1_000;
    retitle(&mut a, id, "kept", NOW + 10);
    assert!(
        b.delete(DECISIONS, "user", &id.to_string(), NOW + 500)
            .unwrap()
    );
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    assert_eq!(title(&b, id).as_deref(), Some("kept"));
    assert!(
        b.delete(DECISIONS, "user", &id.to_string(), NOW + 600)
            .unwrap()
    );
    let sent = sync(&mut b, &mut server);
    assert_eq!(sent[0].op, Op::Delete);
    sync(&mut a, &mut server);
    assert_eq!(title(&a, id), None);
    let dump = a.canonical_dump(File::Org).unwrap();
    assert!(dump.len() == 1 && dump[0].deleted);
}

#[test]
fn a_hundred_devices_count_exactly_and_make_no_conflict() {
    let mut server = Server::new();
    let mut devices: Vec<_> = (0..100).map(store).collect();
    let id = learn(&mut devices[0], "l");
    sync(&mut devices[0], &mut server);
    for device in &mut devices {
        pull(device, &server);
        use_again(device, id, 1);
    }
    for device in &mut devices {
        push(device, &mut server);
        use_again(device, id, 2);
        assert!(device.conflicts(File::Org, true).unwrap().is_empty());
    }
    for device in &mut devices {
        let sent = push(device, &mut server);
        assert!(sent.iter().all(|change| !change.register));
    }
    for device in &mut devices {
        pull(device, &server);
        assert_eq!(used(device, id), 1 + 100 + 200);
        assert!(device.conflicts(File::Org, true).unwrap().is_empty());
    }
    assert_converged(&mut devices[99], &server);
}

#[test]
fn a_counter_moves_under_a_batch_in_the_air() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = learn(&mut a, "l");
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    use_again(&mut a, id, 5);
    let batch = take(&mut a, File::Org, NOW).unwrap();
    let reply = server.push(&batch.request);
    use_again(&mut a, id, 3);
    use_again(&mut b, id, 10);
    sync(&mut b, &mut server);
    pull(&mut a, &server);
    a.settle(&batch, &reply, NOW).unwrap();
    sync(&mut a, &mut server);
    assert_eq!(used(&a, id), 1 + 5 + 3 + 10);
    pull(&mut b, &server);
    assert_eq!(used(&b, id), 1 + 5 + 3 + 10);
}

#[test]
fn an_edit_of_others_is_not_reverted_by_counting() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = learn(&mut a, "old text");
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    let patch = row(json!({"learning": "new text"}));
    a.update(LEARNINGS, "user", &id.to_string(), &patch, NOW + 5)
        .unwrap();
    sync(&mut a, &mut server);
    use_again(&mut b, id, 1);
    sync(&mut b, &mut server);
    let view = b.get(LEARNINGS, &id.to_string()).unwrap().unwrap();
    assert_eq!(
        (&view.row["learning"], &view.row["usage_count"]),
        (&json!("new text"), &json!(2))
    );
    assert!(b.conflicts(File::Org, true).unwrap().is_empty());
}

#[test]
fn an_edit_that_is_undone_takes_what_was_pulled() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = decide(&mut a, "one", NOW);
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    retitle(&mut a, id, "two", NOW + 1);
    sync(&mut a, &mut server);
    retitle(&mut b, id, "mine", NOW + 2);
    pull(&mut b, &server);
    retitle(&mut b, id, "one", NOW + 3);
    b.stamp_new_marks(File::Org, NOW + 3).unwrap();
    let sent = sync(&mut b, &mut server);
    // Our own writes are marked as adopted; the change says that the register did not move.
    assert!(sent.iter().all(|change| !change.register), "{sent:?}");
    assert_eq!(title(&b, id).as_deref(), Some("two"));
}

#[test]
fn refused_rows_park_and_the_rest_flows_on() {
    let mut server = Server::new();
    server.refuses = Some(LEARNINGS);
    let mut a = store(1);
    learn(&mut a, "bad");
    decide(&mut a, "good", NOW);
    for round in 1..=3 {
        push(&mut a, &mut server);
        let state = a.queue_state(File::Org).unwrap();
        assert_eq!(
            (state.queued, state.parked),
            if round < 3 { (1, 0) } else { (0, 1) }
        );
        assert_eq!(server.rows.len(), 1);
        a.clear_delays(File::Org).unwrap();
    }
    let parked = a.queue_entries(File::Org, true, 10).unwrap();
    assert_eq!(
        (parked[0].attempts, parked[0].code.as_deref()),
        (3, Some("malformed_row"))
    );
    assert!(push(&mut a, &mut server).is_empty());
    server.refuses = None;
    assert_eq!(a.retry_parked(File::Org).unwrap(), 1);
    assert_eq!(push(&mut a, &mut server).len(), 1);
    assert_converged(&mut a, &server);
}

#[test]
fn a_refused_batch_is_made_anew_without_what_parks() {
    let mut server = Server::new();
    let mut a = store(1);
    decide(&mut a, "one", NOW);
    let problem = coditect_protocol::Problem::new(coditect_protocol::ErrorCode::BadRequest, "no");
    for _ in 0..3 {
        let batch = take(&mut a, File::Org, NOW).unwrap();
        assert_eq!(a.refuse(&batch, &problem, NOW).unwrap().rejected, 1);
        assert!(take(&mut a, File::Org, NOW).is_none());
        a.clear_delays(File::Org).unwrap();
    }
    assert_eq!(a.queue_state(File::Org).unwrap().parked, 1);
    a.retry_parked(File::Org).unwrap();
    sync(&mut a, &mut server);
}

#[test]
fn a_page_twice_and_a_page_that_comes_late_change_nothing() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = decide(&mut a, "one", NOW);
    sync(&mut a, &mut server);
    let early = server.page(own(), File::Org, 0, b.device());
    assert_eq!(b.apply_page(&early, server.epoch).unwrap().changes, 1);
    retitle(&mut a, id, "two", NOW + 1);
    sync(&mut a, &mut server);
    pull(&mut b, &server);
    let before = b.canonical_dump(File::Org).unwrap();
    assert_eq!(b.apply_page(&early, server.epoch).unwrap().changes, 0);
    assert_eq!(b.canonical_dump(File::Org).unwrap(), before);
    assert_converged(&mut b, &server);
}

#[test]
fn own_echoes_count_neither_as_pulled_nor_as_change() {
    let mut server = Server::new();
    let mut a = store(1);
    decide(&mut a, "one", NOW);
    push(&mut a, &mut server);
    let page = server.page(own(), File::Org, 0, a.device());
    let applied = a.apply_page(&page, server.epoch).unwrap();
    assert_eq!((applied.changes, applied.own_echoes), (0, 1));
}

#[test]
fn facts_of_one_identity_are_one_row() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let message = |text: &str| {
        row(json!({"message_id": "m", "session_id": "s", "role": "user", "content": text}))
    };
    for (device, text) in [(&mut a, "first"), (&mut b, "second")] {
        let rows = vec![("context_messages", message(text))];
        let done = device.ingest(File::Sessions, rows, None, NOW).unwrap();
        assert_eq!(done.inserted, 1);
    }
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    let all = RowFilter {
        limit: 10,
        ..RowFilter::default()
    };
    let rows = b.list("context_messages", &all).unwrap();
    assert_eq!((rows.len(), &rows[0].row["content"]), (1, &json!("first")));
    // Imported again it stays, deleted it stays away.
    let again = vec![("context_messages", message("third"))];
    assert_eq!(
        b.ingest(File::Sessions, again.clone(), None, NOW)
            .unwrap()
            .unchanged,
        1
    );
    let id = rows[0].id.clone().unwrap();
    b.delete("context_messages", "user", &id, NOW).unwrap();
    assert_eq!(
        b.ingest(File::Sessions, again.clone(), None, NOW)
            .unwrap()
            .kept_out,
        1
    );
    sync(&mut b, &mut server);
    sync(&mut a, &mut server);
    assert_eq!(
        a.ingest(File::Sessions, again, None, NOW).unwrap().kept_out,
        1
    );
    assert!(a.list("context_messages", &all).unwrap().is_empty());
}

#[test]
fn the_same_rows_imported_on_both_devices_need_no_second_push() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    for device in [&mut a, &mut b] {
        let message = json!({"message_id": "m", "session_id": "s", "role": "user"});
        let rows = vec![("context_messages", row(message))];
        device.ingest(File::Sessions, rows, None, NOW).unwrap();
    }
    assert_eq!(sync(&mut a, &mut server).len(), 1);
    assert_eq!(sync(&mut b, &mut server).len(), 0);
}

#[test]
fn a_server_that_was_set_back_gets_what_it_lost() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let kept = decide(&mut a, "kept", NOW);
    let edited = decide(&mut a, "before", NOW);
    let deleted = decide(&mut a, "deleted later", NOW);
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    let mut restored = server.clone();
    server.now_ms = NOW + 1_000;
    retitle(&mut a, edited, "after", NOW + 100);
    assert!(
        a.delete(DECISIONS, "user", &deleted.to_string(), NOW + 100)
            .unwrap()
    );
    let added = decide(&mut a, "added", NOW + 100);
    let usage = row(json!({"component_id": "c", "invocation_count": 3}));
    a.insert("platform_usage_stats", "user", usage, NOW)
        .unwrap();
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    restored.epoch = Epoch(2);
    restored.now_ms = NOW + 2_000;
    // The other device goes first; it has pulled all of it.
    for device in [&mut b, &mut a] {
        device.begin_reconcile(restored.epoch).unwrap();
        pull(device, &restored);
        device.finish_reconcile(NOW + 2_000).unwrap();
        sync(device, &mut restored);
    }
    sync(&mut b, &mut restored);
    for device in [&a, &b] {
        assert_eq!(title(device, kept).as_deref(), Some("kept"));
        assert_eq!(title(device, edited).as_deref(), Some("after"));
        assert_eq!(title(device, added).as_deref(), Some("added"));
        assert_eq!(title(device, deleted), None);
        assert!(device.conflicts(File::Org, true).unwrap().is_empty());
        assert!(!device.is_reconciling(File::Org).unwrap());
    }
    assert_eq!(
        a.canonical_dump(File::Org).unwrap(),
        b.canonical_dump(File::Org).unwrap()
    );
    assert_eq!(a.canonical_dump(File::Platform).unwrap().len(), 1);
}

#[test]
fn a_reconciliation_that_was_cut_off_ends_with_the_next_run() {
    let mut server = Server::new();
    let mut a = store(1);
    decide(&mut a, "one", NOW);
    let restored = server.clone();
    sync(&mut a, &mut server);
    server = restored;
    server.epoch = Epoch(2);
    a.begin_reconcile(server.epoch).unwrap();
    // The run ends here. The next one knows nothing of it.
    assert_eq!(sync(&mut a, &mut server).len(), 1);
    assert!(!a.is_reconciling(File::Org).unwrap());
}

#[test]
fn a_counter_in_a_forgotten_batch_revives_no_deleted_row() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let counted = learn(&mut a, "l");
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    use_again(&mut a, counted, 1);
    assert!(
        take(&mut a, File::Org, NOW).is_some(),
        "it is never answered"
    );
    assert!(
        b.delete(LEARNINGS, "user", &counted.to_string(), NOW + 100)
            .unwrap()
    );
    sync(&mut b, &mut server);
    server.epoch = Epoch(2);
    a.begin_reconcile(server.epoch).unwrap();
    pull(&mut a, &server);
    a.finish_reconcile(NOW + 200).unwrap();
    let sent = sync(&mut a, &mut server);
    assert!(sent.iter().all(|change| !change.register), "{sent:?}");
    assert!(server.rows.values().all(|row| row.op == Op::Delete));
    assert!(
        a.canonical_dump(File::Org)
            .unwrap()
            .iter()
            .all(|row| row.deleted)
    );
}

#[test]
fn a_page_of_another_epoch_is_not_stored() {
    let mut server = Server::new();
    let mut a = store(1);
    sync(&mut a, &mut server);
    server.epoch = Epoch(2);
    let page = server.page(own(), File::Org, 0, a.device());
    let refused = a.apply_page(&page, server.epoch);
    assert!(matches!(
        refused,
        Err(coditect_local_store::Error::EpochMismatch { .. })
    ));
}

#[test]
fn a_fenced_file_goes_on_as_another_device() {
    let mut server = Server::new();
    let mut a = store(1);
    let counted = learn(&mut a, "l");
    let usage = row(json!({"component_id": "c", "invocation_count": 3}));
    a.insert("platform_usage_stats", "user", usage, NOW)
        .unwrap();
    sync(&mut a, &mut server);
    use_again(&mut a, counted, 4);
    decide(&mut a, "not yet sent", NOW);
    assert!(
        take(&mut a, File::Org, NOW)
            .unwrap()
            .request
            .token
            .is_some()
    );
    let old_usage = a.canonical_dump(File::Platform).unwrap()[0].id.clone();
    let device = DeviceId::new(Uuid::from_u128(0xfe));
    a.fence(device).unwrap();
    assert_eq!(a.device(), device);
    assert!(a.stored_batch(File::Org).unwrap().is_none());
    pull(&mut a, &server);
    a.finish_reconcile(NOW).unwrap();
    let sent = sync(&mut a, &mut server);
    let mut tables: Vec<_> = sent.iter().map(|change| change.table.as_str()).collect();
    tables.sort_unstable();
    assert_eq!(tables, ["org_decisions", LEARNINGS, "platform_usage_stats"]);
    let part = sent
        .iter()
        .find(|change| change.table == LEARNINGS)
        .unwrap();
    assert_eq!(part.counters["usage_count"].total, 4);
    assert_eq!(used(&a, counted), 5);
    assert_ne!(a.canonical_dump(File::Platform).unwrap()[0].id, old_usage);
}

#[test]
fn foreign_rows_have_no_mark_and_no_digest() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let call = |id: &str| row(json!({"tool_name": "t", "session_id": "s", "tool_use_id": id}));
    let table = "context_tool_analytics";
    a.ingest(File::Sessions, vec![(table, call("1"))], None, NOW)
        .unwrap();
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    assert_eq!(b.count(table).unwrap(), []);
    let rows: Vec<_> = server.rows.values().cloned().collect();
    assert_eq!(b.store_foreign(table, own(), &rows).unwrap(), 1);
    assert_eq!(b.count(table).unwrap(), [("user".to_owned(), 1)]);
    assert!(sync(&mut b, &mut server).is_empty());
    assert!(b.canonical_dump(File::Sessions).unwrap().is_empty());
    assert_eq!(a.store_foreign(table, own(), &rows).unwrap(), 0);
}

#[test]
fn commits_of_one_file_only_are_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), open(folder.path()));
    decide(&mut a, "one", NOW);
    let message = json!({"message_id": "m", "session_id": "s", "role": "user"});
    a.ingest(
        File::Sessions,
        vec![("context_messages", row(message))],
        None,
        NOW,
    )
    .unwrap();
    sync(&mut a, &mut server);
    // The first file's page is stored, then the process dies.
    let reply = server.pull(&b);
    let org = reply
        .pages
        .iter()
        .find(|page| page.file == File::Org && page.scope == own());
    b.apply_page(org.unwrap(), reply.epoch).unwrap();
    drop(b);
    let mut b = open(folder.path());
    sync(&mut b, &mut server);
    // The same with a batch: one file's reply is lost, the other's is stored.
    decide(&mut b, "two", NOW);
    let message = json!({"message_id": "n", "session_id": "s", "role": "user"});
    b.ingest(
        File::Sessions,
        vec![("context_messages", row(message))],
        None,
        NOW,
    )
    .unwrap();
    for (file, stored) in [(File::Org, true), (File::Sessions, false)] {
        let batch = take(&mut b, file, NOW).unwrap();
        let reply = server.push(&batch.request);
        if stored {
            b.settle(&batch, &reply, NOW).unwrap();
        }
    }
    drop(b);
    let mut b = open(folder.path());
    sync(&mut b, &mut server);
    assert_eq!(server.rows.len(), 4);
}

fn open(folder: &std::path::Path) -> LocalStore {
    let mut store = LocalStore::open(folder, NOW, Random::Seeded(7)).unwrap();
    crate::support::bind(&mut store);
    store
}
