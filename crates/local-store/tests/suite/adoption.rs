//! What adoption makes of rows that were written by SQL.

use coditect_local_store::{LocalStore, Random, RowFilter, RowView, SearchQuery, Which};
use coditect_protocol::catalogue::File;
use coditect_protocol::scope::Scope;
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    NOW, Server, TENANT, assert_converged, bind, own, pull, push, row, store, sync,
};

struct Device {
    folder: tempfile::TempDir,
    store: LocalStore,
}

impl Device {
    fn new(seed: u64) -> Self {
        let folder = crate::support::folder();
        let mut store = LocalStore::open(folder.path(), NOW, Random::Seeded(seed)).unwrap();
        bind(&mut store);
        Self { folder, store }
    }

    fn execute(&self, file: File, sql: &str) {
        let path = self.folder.path().join(format!("{file}.db"));
        rusqlite::Connection::open(path)
            .unwrap()
            .execute_batch(sql)
            .unwrap();
    }

    fn rows(&self, table: &str) -> Vec<RowView> {
        let filter = RowFilter {
            oldest_first: true,
            limit: 100,
            ..RowFilter::default()
        };
        self.store.list(table, &filter).unwrap()
    }
}

#[test]
fn two_copies_of_a_folder_give_a_waiting_row_one_id() {
    let mut a = Device::new(1);
    a.execute(File::Org, "insert into decisions (title) values ('waits')");
    let folder = crate::support::folder();
    for entry in std::fs::read_dir(a.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let to = folder.path().join(path.file_name().unwrap());
        std::fs::copy(path, to).unwrap();
    }
    let store = LocalStore::open(folder.path(), NOW, Random::Seeded(2)).unwrap();
    let mut b = Device { folder, store };
    a.execute(File::Org, "insert into decisions (title) values ('of a')");
    b.execute(File::Org, "insert into decisions (title) values ('of b')");
    for device in [&mut a, &mut b] {
        device.store.adopt(File::Org, NOW).unwrap();
    }
    let [of_a, of_b] = [a.rows("org_decisions"), b.rows("org_decisions")];
    assert!(of_a[0].id.is_some());
    assert_eq!(of_a[0].id, of_b[0].id);
    assert_ne!(of_a[1].id, of_b[1].id);
}

#[test]
fn a_plain_insert_gets_all_that_a_row_needs() {
    let mut a = Device::new(1);
    a.execute(
        File::Org,
        "insert into decisions (title, tags) values ('t', '[ 1,  \"x\" ]')",
    );
    let adopted = a.store.adopt(File::Org, NOW).unwrap();
    assert_eq!((adopted.ready, adopted.parked), (1, 0));
    let view = &a.rows("org_decisions")[0];
    let id: Uuid = view.id.as_ref().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
    assert_eq!((view.scope.as_str(), view.pending), ("user", true));
    assert_eq!(view.user_id, Some(crate::support::USER.to_string()));
    assert_eq!(view.device_id, Some(a.store.device().to_string()));
    assert!(view.created_at.as_ref().unwrap().ends_with('Z'));
    assert_eq!(view.row["tags"], json!([1, "x"]));
    assert_eq!(
        a.store.adopt(File::Org, NOW).unwrap().ready,
        0,
        "adopted once"
    );
}

#[test]
fn odd_values_reach_the_other_device_as_they_are() {
    let mut server = Server::new();
    let (mut a, mut b) = (Device::new(1), Device::new(2));
    a.execute(
        File::Org,
        "insert into decisions (title, confidence, tags) values (x'ff00', 'very', 'no json');
         insert into decisions (title) values ('with' || char(0) || 'nul');
         insert into skill_learnings (skill_name, learning, effectiveness_score)
           values (5, 7.5, 9007199254740993);",
    );
    sync(&mut a.store, &mut server);
    sync(&mut b.store, &mut server);
    let dumps = [&a, &b].map(|device| device.store.canonical_dump(File::Org).unwrap());
    assert_eq!(dumps[0], dumps[1]);
    let rows = b.rows("org_decisions");
    let extra = json!({"title": "/wA=", "confidence": "very", "tags": "no json"});
    assert_eq!(rows[0].row["extra"], extra);
    assert_eq!(rows[1].row["title"], "with\0nul");
    let learning = &b.rows("org_skill_learnings")[0];
    assert_eq!(
        learning.row["extra"],
        json!({"effectiveness_score": "9007199254740993"})
    );
    assert_eq!(learning.row["skill_name"], "5");
    // A proper value takes the place of the odd one.
    b.execute(
        File::Org,
        "update decisions set confidence = 0.5, title = 'named' where seq = 1",
    );
    sync(&mut b.store, &mut server);
    sync(&mut a.store, &mut server);
    assert_eq!(
        a.rows("org_decisions")[0].row["extra"],
        json!({"tags": "no json"})
    );
    assert_eq!(a.rows("org_decisions")[0].row["title"], "named");
}

#[test]
fn secrets_are_redacted_before_anything_is_sent() {
    let mut server = Server::new();
    let mut a = Device::new(1);
    let secret = format!("ghp_{}", "a1B2c3D4e5".repeat(4).get(..36).unwrap());
    a.execute(
        File::Org,
        &format!("insert into decisions (title, tags) values ('use {secret}', '[\"{secret}\"]')"),
    );
    let sent = sync(&mut a.store, &mut server);
    let text = serde_json::to_string(&sent).unwrap();
    assert!(
        !text.contains(&secret) && text.contains("[REDACTED:"),
        "{text}"
    );
    let left = serde_json::to_string(&a.rows("org_decisions")[0].row).unwrap();
    assert!(!left.contains(&secret));
}

#[test]
fn two_local_rows_of_one_identity_become_one() {
    let mut server = Server::new();
    let mut a = Device::new(1);
    a.execute(
        File::Sessions,
        "insert into task_tracking (session_id, task_id, description, status, tool_error_count)
           values ('s', '1', 'first', 'pending', 2);
         insert into task_tracking (session_id, task_id, description, status, tool_error_count,
             priority)
           values ('s', '1', 'second', 'completed', 5, 'high');",
    );
    let adopted = a.store.adopt(File::Sessions, NOW).unwrap();
    assert_eq!(adopted.joined, 1);
    let rows = a.rows("context_task_tracking");
    assert_eq!(rows.len(), 1);
    let joined = &rows[0].row;
    assert_eq!(
        (&joined["description"], &joined["priority"]),
        (&json!("first"), &json!("high"))
    );
    assert_eq!(joined["tool_error_count"], 5);
    let kept = a.store.conflicts(File::Sessions, false).unwrap();
    assert_eq!(kept[0].row.as_ref().unwrap()["status"], "completed");
    assert_eq!(sync(&mut a.store, &mut server).len(), 1);
}

#[test]
fn a_row_of_the_organisation_goes_to_its_stream() {
    let mut server = Server::new();
    let mut a = Device::new(1);
    a.execute(
        File::Org,
        "insert into decisions (title, scope) values ('ours', 'org')",
    );
    let wire = Scope::Org(TENANT);
    a.execute(
        File::Org,
        &format!("insert into decisions (title, scope) values ('also', '{wire}')"),
    );
    a.execute(
        File::Org,
        &format!(
            "insert into decisions (title, scope) values ('me', '{}')",
            own()
        ),
    );
    a.execute(
        File::Org,
        "insert into decisions (title, scope) values ('blank', ' ')",
    );
    push(&mut a.store, &mut server);
    let scopes: Vec<_> = server.rows.keys().map(|key| key.0).collect();
    assert_eq!(scopes.iter().filter(|scope| **scope == wire).count(), 2);
    assert_eq!(scopes.iter().filter(|scope| **scope == own()).count(), 2);
    assert_converged(&mut a.store, &server);
}

#[test]
fn what_cannot_be_sent_is_parked_with_its_reason() {
    let mut server = Server::new();
    let mut a = Device::new(1);
    a.execute(
        File::Org,
        "insert into decisions (title, scope) values ('x', 'nonsense')",
    );
    a.execute(
        File::Platform,
        "insert into components (component_id, component_type, name) values ('c', 't', 'n')",
    );
    assert!(push(&mut a.store, &mut server).is_empty());
    for (file, code) in [
        (File::Org, "malformed_row"),
        (File::Platform, "direction_refused"),
    ] {
        let parked = a.store.queue_entries(file, true, 10).unwrap();
        assert_eq!(parked[0].code.as_deref(), Some(code));
        assert!(parked[0].reason.is_some());
    }
    // Repaired, it goes.
    a.execute(File::Org, "update decisions set scope = 'user'");
    assert_eq!(push(&mut a.store, &mut server).len(), 1);
}

#[test]
fn a_changed_scope_is_a_wish_to_move_the_row() {
    let mut server = Server::new();
    let mut a = Device::new(1);
    a.execute(File::Org, "insert into decisions (title) values ('x')");
    sync(&mut a.store, &mut server);
    a.execute(File::Org, "update decisions set scope = 'org', title = 'y'");
    let sent = push(&mut a.store, &mut server);
    assert_eq!(sent.len(), 1, "the edit goes to where the row is");
    assert_eq!(a.rows("org_decisions")[0].scope, "user");
    let waits = a.store.queued_moves(File::Org, 10).unwrap();
    assert_eq!(waits.len(), 1);
    assert_eq!(
        (waits[0].from.as_str(), waits[0].state.as_str()),
        ("user", "queued")
    );
    // Set back by hand, it stays where it is.
    a.execute(File::Org, "update decisions set scope = 'user'");
    a.store.adopt(File::Org, NOW).unwrap();
}

#[test]
fn a_changed_scope_of_a_row_that_stays_parks_it_until_it_is_set_back() {
    let mut server = Server::new();
    let mut a = Device::new(1);
    let insert = "insert into token_economics (session_id, api_message_id, output_tokens)
        values ('s', 'm', 1)";
    a.execute(File::Sessions, insert);
    sync(&mut a.store, &mut server);
    a.execute(File::Sessions, "update token_economics set scope = 'org'");
    assert!(push(&mut a.store, &mut server).is_empty());
    let parked = a.store.queue_entries(File::Sessions, true, 10).unwrap();
    assert_eq!(
        parked[0].code.as_deref(),
        Some(coditect_local_store::SCOPE_MOVE)
    );
    a.execute(File::Sessions, "update token_economics set scope = 'user'");
    assert!(sync(&mut a.store, &mut server).is_empty());
    assert_eq!(a.store.queue_state(File::Sessions).unwrap().parked, 0);
}

#[test]
fn a_scope_changed_before_the_first_push_is_no_move() {
    let mut server = Server::new();
    let mut a = Device::new(1);
    a.execute(File::Org, "insert into decisions (title) values ('x')");
    a.store.adopt(File::Org, NOW).unwrap();
    a.execute(File::Org, "update decisions set scope = 'org'");
    assert_eq!(push(&mut a.store, &mut server).len(), 1);
}

#[test]
fn a_delete_while_the_row_is_in_the_air_is_sent_after_it() {
    let mut server = Server::new();
    let mut a = Device::new(1);
    a.execute(File::Org, "insert into decisions (title) values ('x')");
    let batch = crate::support::take(&mut a.store, File::Org, NOW).unwrap();
    a.execute(File::Org, "delete from decisions");
    a.store.adopt(File::Org, NOW).unwrap();
    let reply = server.push(&batch.request);
    a.store.settle(&batch, &reply, NOW).unwrap();
    assert_eq!(sync(&mut a.store, &mut server).len(), 1);
    assert!(a.store.canonical_dump(File::Org).unwrap()[0].deleted);
}

#[test]
fn an_edit_undone_while_it_is_in_the_air_is_sent_again() {
    let mut server = Server::new();
    let mut a = Device::new(1);
    a.execute(File::Org, "insert into decisions (title) values ('one')");
    sync(&mut a.store, &mut server);
    a.execute(File::Org, "update decisions set title = 'two'");
    let batch = crate::support::take(&mut a.store, File::Org, NOW).unwrap();
    a.execute(File::Org, "update decisions set title = 'one'");
    a.store.adopt(File::Org, NOW).unwrap();
    let reply = server.push(&batch.request);
    a.store.settle(&batch, &reply, NOW).unwrap();
    assert_eq!(sync(&mut a.store, &mut server).len(), 1);
    assert_eq!(a.rows("org_decisions")[0].row["title"], "one");
}

#[test]
fn the_edited_bytes_of_a_fact_are_kept_as_a_conflict() {
    let mut server = Server::new();
    let mut a = Device::new(1);
    a.execute(
        File::Sessions,
        "insert into messages (message_id, session_id, role, content)
           values ('m', 's', 'user', 'said')",
    );
    sync(&mut a.store, &mut server);
    a.execute(File::Sessions, "update messages set content = 'never said'");
    sync(&mut a.store, &mut server);
    assert_eq!(a.rows("context_messages")[0].row["content"], "said");
    let kept = a.store.conflicts(File::Sessions, false).unwrap();
    assert_eq!(kept[0].row.as_ref().unwrap()["content"], "never said");
}

#[test]
fn greater_values_of_both_sides_win() {
    let mut server = Server::new();
    let (mut a, mut b) = (Device::new(1), Device::new(2));
    let session = |count: i64, end: &str| {
        format!(
            "insert into sessions (session_id, message_count, end_time)
               values ('s', {count}, '{end}')
               on conflict (scope, id) do nothing"
        )
    };
    a.execute(File::Sessions, &session(5, "2026-01-01 10:00:00"));
    b.execute(File::Sessions, &session(3, "2026-01-01T12:00:00Z"));
    sync(&mut a.store, &mut server);
    sync(&mut b.store, &mut server);
    sync(&mut a.store, &mut server);
    for device in [&a, &b] {
        let row = &device.rows("context_sessions")[0].row;
        assert_eq!(row["message_count"], 5);
        assert_eq!(row["end_time"], "2026-01-01T12:00:00.000000Z");
    }
    assert!(b.store.conflicts(File::Sessions, true).unwrap().is_empty());
}

#[test]
fn search_finds_what_sql_wrote_and_forgets_what_it_removed() {
    let mut a = Device::new(1);
    a.execute(
        File::Sessions,
        "insert into messages (message_id, session_id, role, content)
           values ('m1', 's1', 'user', 'the quick zebra'),
                  ('m2', 's2', 'assistant', 'a lazy zebra')",
    );
    a.execute(
        File::Org,
        "insert into decisions (title, rationale) values ('Zebra', 'stripes')",
    );
    let mut find = |text: &str, session: Option<&str>| {
        let query = SearchQuery {
            text: text.to_owned(),
            which: Which {
                session_id: session.map(str::to_owned),
                ..Which::default()
            },
            limit: 10,
            ..SearchQuery::default()
        };
        let hits = a.store.search(&query, NOW).unwrap();
        hits.into_iter()
            .map(|hit| (hit.table, hit.snippet))
            .collect::<Vec<_>>()
    };
    assert_eq!(find("zebra", None).len(), 3);
    assert_eq!(
        find("zeb*", Some("s2")),
        [("context_messages", "a lazy zebra".to_owned())]
    );
    assert_eq!(find("stripes \"zebra", None).len(), 1);
    assert!(find("unicorn", None).is_empty() && find("\" -- *", None).is_empty());
    a.execute(
        File::Sessions,
        "update messages set content = 'a unicorn' where message_id = 'm1'",
    );
    a.execute(
        File::Sessions,
        "delete from messages where message_id = 'm2'",
    );
    let mut find = |text: &str| {
        let query = SearchQuery {
            text: text.to_owned(),
            limit: 10,
            ..SearchQuery::default()
        };
        a.store.search(&query, NOW).unwrap().len()
    };
    assert_eq!((find("zebra"), find("unicorn"), find("lazy")), (1, 1, 0));
}

#[test]
fn rows_made_before_the_first_login_belong_to_who_logs_in() {
    let folder = crate::support::folder();
    let mut a = LocalStore::open(folder.path(), NOW, Random::Seeded(1)).unwrap();
    a.insert("org_decisions", "user", row(json!({"title": "early"})), NOW)
        .unwrap();
    assert!(a.scopes_with_work(File::Org, NOW).is_err());
    bind(&mut a);
    let mut server = Server::new();
    assert_eq!(sync(&mut a, &mut server).len(), 1);
    let filter = RowFilter {
        limit: 1,
        ..RowFilter::default()
    };
    let view = &a.list("org_decisions", &filter).unwrap()[0];
    assert_eq!(view.user_id, Some(crate::support::USER.to_string()));
}

#[test]
fn a_record_deleted_elsewhere_comes_back_with_a_newer_edit() {
    let mut server = Server::new();
    let (mut a, mut b) = (store(1), store(2));
    let id = a
        .insert("org_decisions", "user", row(json!({"title": "x"})), NOW)
        .unwrap();
    sync(&mut a, &mut server);
    sync(&mut b, &mut server);
    server.now_ms = NOW + 1_000;
    a.delete("org_decisions", "user", &id.to_string(), NOW + 10)
        .unwrap();
    sync(&mut a, &mut server);
    let patch = row(json!({"title": "edited"}));
    b.update("org_decisions", "user", &id.to_string(), &patch, NOW + 20)
        .unwrap();
    sync(&mut b, &mut server);
    pull(&mut a, &server);
    let view = a.get("org_decisions", &id.to_string()).unwrap().unwrap();
    assert_eq!(view.row["title"], "edited");
}
