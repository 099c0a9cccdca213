//! What the model answers, checked by hand against the protocol's text, and against the
//! server's own merge rules over many random meetings of two versions.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use coditect_core::{canonical, clock, hash, merge};
use coditect_protocol::catalogue::{File, Merge, Table, by_cloud_name};
use coditect_protocol::wire::pull::{Position, PullReply, PullRequest};
use coditect_protocol::wire::push::{Change, CounterPart, PushReply, PushRequest, Status};
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{BatchId, Cursor, DeviceId, ErrorCode, RowId, Scope, UserId, Version};
use coditect_simulation::model::{Begun, Key, Refusal, Server};
use coditect_simulation::random::Random;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

const NOW: i64 = 1_700_000_000_000;
const USER: UserId = UserId::new(Uuid::from_u128(1));
const A: DeviceId = DeviceId::new(Uuid::from_u128(0xa));
const B: DeviceId = DeviceId::new(Uuid::from_u128(0xb));

fn server() -> Server {
    let mut server = Server::new(1);
    server.register(USER, A);
    server.register(USER, B);
    server
}

fn decision(id: u128, base: Option<Version>, at: i64, title: &str) -> Change {
    change("org_decisions", id, base, at, Some(json!({"title": title})))
}

fn change(table: &str, id: u128, base: Option<Version>, at: i64, row: Option<Value>) -> Change {
    let entry = by_cloud_name(table).unwrap();
    let row = row.map(|row| canonical::row(entry, row.as_object().unwrap().clone()));
    Change {
        table: table.to_owned(),
        id: RowId::new(Uuid::from_u128(id)),
        op: if row.is_some() {
            Op::Upsert
        } else {
            Op::Delete
        },
        base,
        follows: None,
        base_hash: None,
        proposed: clock::propose(NOW + at, 0),
        register: true,
        hash: hash::content(entry, row.as_ref().unwrap_or(&Row::new())).to_string(),
        created_at: canonical::time_from_ms(NOW + at),
        updated_at: canonical::time_from_ms(NOW + at),
        row,
        counters: BTreeMap::new(),
    }
}

fn request(
    device: DeviceId,
    batch: u128,
    token: Option<&str>,
    changes: Vec<Change>,
) -> PushRequest {
    PushRequest {
        api_version: coditect_protocol::API_VERSION.to_owned(),
        device,
        batch_id: BatchId::new(Uuid::from_u128(batch)),
        sent_at_ms: NOW,
        file: File::Org,
        scope: Scope::User(USER.get()),
        epoch: None,
        token: token.map(str::to_owned),
        changes,
    }
}

fn push(server: &mut Server, request: &PushRequest) -> Result<PushReply, Refusal> {
    server.push(USER, request, NOW)
}

fn pull(
    server: &mut Server,
    device: DeviceId,
    cursor: Option<Cursor>,
) -> Result<PullReply, Refusal> {
    let request = PullRequest {
        api_version: coditect_protocol::API_VERSION.to_owned(),
        device,
        positions: vec![Position {
            scope: Scope::User(USER.get()),
            file: File::Org,
            cursor,
            token: None,
            descent: None,
        }],
        table: None,
    };
    server.pull(USER, &request)
}

fn key(id: u128) -> Key {
    let id = RowId::new(Uuid::from_u128(id));
    Key {
        scope: Scope::User(USER.get()),
        table: "org_decisions",
        id,
    }
}

#[test]
fn a_batch_that_comes_again_changes_nothing() {
    let mut server = server();
    let batch = request(A, 1, None, vec![decision(1, None, -10, "one")]);
    let first = push(&mut server, &batch).unwrap();
    let rows = server.database.rows.clone();
    let again = push(&mut server, &batch).unwrap();
    assert_eq!(first.outcomes[0].status, Status::Applied);
    assert_eq!(again.outcomes[0].status, Status::Duplicate);
    assert_eq!(
        (first.token, rows),
        (again.token, server.database.rows.clone())
    );
}

#[test]
fn a_lost_reply_is_no_clone_but_an_older_token_is() {
    let mut server = server();
    let first = push(
        &mut server,
        &request(A, 1, None, vec![decision(1, None, -10, "one")]),
    )
    .unwrap();
    let second = request(A, 2, Some(&first.token), vec![decision(2, None, -9, "two")]);
    push(&mut server, &second).unwrap();
    assert!(push(&mut server, &second).is_ok());
    let copy = request(
        A,
        3,
        Some(&first.token),
        vec![decision(3, None, -9, "three")],
    );
    let refusal = push(&mut server, &copy).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::FileFenced);
    let device: DeviceId = refusal.extra["device_id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(push(&mut server, &request(device, 4, None, copy.changes)).is_ok());
    assert_eq!(
        push(&mut server, &request(A, 5, None, vec![]))
            .unwrap_err()
            .code,
        ErrorCode::FileFenced
    );
}

#[test]
fn a_token_ahead_of_the_database_begins_a_new_life() {
    let mut server = server();
    let first = push(
        &mut server,
        &request(A, 1, None, vec![decision(1, None, -10, "one")]),
    )
    .unwrap();
    let backup = server.backup();
    let second = request(A, 2, Some(&first.token), vec![decision(2, None, -9, "two")]);
    let second = push(&mut server, &second).unwrap();
    server.restore(backup);
    let third = request(
        A,
        3,
        Some(&second.token),
        vec![decision(3, None, -8, "three")],
    );
    let refusal = push(&mut server, &third).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::EpochChanged);
    assert_eq!(refusal.extra["epoch"], server.database.epoch.to_string());
    assert_ne!(server.database.epoch, first.epoch);
    // A file that did not hear of it yet is told, and begins no further life.
    let told = push(&mut server, &third).unwrap_err();
    assert_eq!(told.extra["epoch"], server.database.epoch.to_string());
    assert!(push(&mut server, &request(A, 4, None, third.changes)).is_ok());
}

#[test]
fn positions_of_another_life_or_beyond_the_head_are_refused() {
    let mut server = server();
    push(
        &mut server,
        &request(A, 1, None, vec![decision(1, None, -10, "one")]),
    )
    .unwrap();
    let page = pull(&mut server, B, None).unwrap().pages.remove(0);
    assert_eq!(
        (page.changes.len(), page.cursor.n, page.at_head),
        (1, 1, true)
    );
    let beyond = Cursor {
        n: 2,
        ..page.cursor
    };
    assert_eq!(
        pull(&mut server, B, Some(beyond)).unwrap_err().code,
        ErrorCode::InvalidCursor
    );
    server.bump_epoch();
    assert_eq!(
        pull(&mut server, B, Some(page.cursor)).unwrap_err().code,
        ErrorCode::EpochChanged
    );
}

#[test]
fn pages_end_at_every_size_and_miss_nothing() {
    for size in 1..=6 {
        let mut server = server();
        let changes = (1..=5).map(|id| decision(id, None, -10, "d")).collect();
        push(&mut server, &request(A, 1, None, changes)).unwrap();
        server.page_changes_max = size;
        let (mut cursor, mut seen) = (None, 0);
        loop {
            let page = pull(&mut server, B, cursor).unwrap().pages.remove(0);
            (cursor, seen) = (Some(page.cursor), seen + page.changes.len());
            assert_eq!(page.digests.is_some(), page.at_head);
            if page.at_head {
                break;
            }
        }
        assert_eq!(seen, 5, "pages of {size}");
    }
}

#[test]
fn the_stream_lock_keeps_numbers_from_appearing_behind_a_reader() {
    for locked in [true, false] {
        let mut server = server();
        server.guards.stream_lock = locked;
        let slow = request(A, 1, None, vec![decision(1, None, -10, "slow")]);
        let quick = request(B, 1, None, vec![decision(2, None, -10, "quick")]);
        let Begun::Open(ticket) = server.begin_push(&slow) else {
            panic!("nobody else holds the lock")
        };
        let second = server.push(USER, &quick, NOW);
        let page = pull(&mut server, B, None).unwrap().pages.remove(0);
        server.commit_push(&ticket, USER, &slow, NOW).unwrap();
        if second.is_err() {
            server.push(USER, &quick, NOW).unwrap();
        }
        let rest = pull(&mut server, B, Some(page.cursor))
            .unwrap()
            .pages
            .remove(0);
        let seen = page.changes.len() + rest.changes.len();
        assert_eq!(
            (second.is_err(), seen),
            (locked, if locked { 2 } else { 1 })
        );
    }
}

#[test]
fn counters_are_the_sum_of_the_latest_parts() {
    let mut server = server();
    let learning = |device, batch, token: Option<&str>, seq, total, register| {
        let row = json!({"skill_name": "s", "learning": "l", "usage_count": 1});
        let mut change = change("org_skill_learnings", 1, None, -10, Some(row));
        change.register = register;
        change
            .counters
            .insert("usage_count".to_owned(), CounterPart { seq, total });
        request(device, batch, token, vec![change])
    };
    let first = push(&mut server, &learning(A, 1, None, 1, 1, true)).unwrap();
    push(&mut server, &learning(B, 1, None, 1, 4, false)).unwrap();
    let last = push(
        &mut server,
        &learning(A, 2, Some(&first.token), 2, 3, false),
    )
    .unwrap();
    assert_eq!(last.outcomes[0].status, Status::Merged);
    let row = last.outcomes[0]
        .stored
        .as_ref()
        .unwrap()
        .row
        .as_ref()
        .unwrap();
    assert_eq!(row["usage_count"], 7);
}

#[test]
fn both_versions_of_a_conflict_are_kept() {
    let mut server = server();
    let first = push(
        &mut server,
        &request(A, 1, None, vec![decision(1, None, -30, "one")]),
    )
    .unwrap();
    let base = first.outcomes[0]
        .stored
        .as_ref()
        .map(|stored| stored.version);
    let edit = request(
        A,
        2,
        Some(&first.token),
        vec![decision(1, base, -20, "two")],
    );
    push(&mut server, &edit).unwrap();
    let late = request(B, 1, None, vec![decision(1, base, -25, "three")]);
    let loses = push(&mut server, &late).unwrap();
    assert_eq!(loses.outcomes[0].status, Status::Conflict);
    assert_eq!(
        loses.outcomes[0]
            .loser
            .as_ref()
            .unwrap()
            .row
            .as_ref()
            .unwrap()["title"],
        "three"
    );
    assert_eq!(server.database.shown(&key(1)).unwrap()["title"], "two");
    let newer = request(
        B,
        2,
        Some(&loses.token),
        vec![decision(1, base, -5, "four")],
    );
    push(&mut server, &newer).unwrap();
    assert_eq!(server.database.shown(&key(1)).unwrap()["title"], "four");
    let losers: Vec<_> = server
        .database
        .conflicts
        .iter()
        .map(|c| c.loser.row.clone())
        .collect();
    let titles: Vec<_> = losers
        .iter()
        .map(|row| row.as_ref().unwrap()["title"].clone())
        .collect();
    assert_eq!(titles, ["three", "two"]);
}

#[test]
fn a_bad_change_is_refused_alone() {
    let mut server = server();
    server.refused_word = Some("poison".to_owned());
    let mut wrong_hash = decision(3, None, -10, "three");
    wrong_hash.hash = "0".repeat(64);
    let changes = vec![
        decision(1, None, -10, "poison"),
        decision(2, None, -10, "fine"),
        wrong_hash,
        change(
            "context_sessions",
            4,
            None,
            -10,
            Some(json!({"session_id": "s"})),
        ),
        change(
            "org_kg_nodes",
            5,
            None,
            -10,
            Some(json!({"node_type": "t", "node_key": "k"})),
        ),
    ];
    let reply = push(&mut server, &request(A, 1, None, changes)).unwrap();
    let codes: Vec<_> = reply.outcomes.iter().map(|outcome| outcome.code).collect();
    let expected = [
        Some(ErrorCode::MalformedRow),
        None,
        Some(ErrorCode::HashMismatch),
        Some(ErrorCode::UnknownTable),
        Some(ErrorCode::KeyMismatch),
    ];
    assert_eq!(codes, expected);
    assert_eq!(server.database.rows.len(), 1);
}

fn random_row(random: &mut Random, table: &Table, text: &str) -> Value {
    let mut row = Row::new();
    for column in table.columns.iter().filter(|column| column.required) {
        row.insert(column.name.to_owned(), json!("k"));
    }
    row.insert(text.to_owned(), json!(format!("text {}", random.below(3))));
    for column in table.columns_by(Merge::Max).take(2) {
        row.insert(column.name.to_owned(), json!(random.below(3)));
    }
    Value::Object(canonical::row(table, row))
}

/// One random meeting of two versions, judged by the model and by the server's rules.
fn meet(random: &mut Random, table: &'static Table, text: &str) -> (Status, Option<Row>, String) {
    let mut server = server();
    let row = |random: &mut Random| random_row(random, table, text);
    let id = {
        let row = row(random);
        let id = hash::derived_id(table, row.as_object().unwrap(), A).unwrap();
        id.map_or(1, |id| id.get().as_u128())
    };
    let send = |server: &mut Server, device, batch, token: Option<&str>, change: Change| {
        let request = PushRequest {
            file: table.file,
            ..request(device, batch, token, vec![change])
        };
        push(server, &request).unwrap()
    };
    let made = random.between(-60, -40);
    let first = change(table.cloud, id, None, made, Some(row(random)));
    let reply = send(&mut server, A, 1, None, first);
    let stored = reply.outcomes[0].stored.as_ref();
    let base = stored.map(|stored| stored.version);
    let edited = (!random.chance(250)).then(|| row(random));
    let edit = change(table.cloud, id, base, random.between(-50, -10), edited);
    send(&mut server, A, 2, Some(&reply.token), edit);

    let key = Key {
        scope: Scope::User(USER.get()),
        table: table.cloud,
        id: RowId::new(Uuid::from_u128(id)),
    };
    let kept = server.database.rows[&key].clone();
    let existing = merge::Existing {
        version: kept.version,
        device: kept.device,
        hash: kept.hash.parse().unwrap(),
        row: server.database.shown(&key),
    };
    let base = [None, base, Some(kept.version)][random.below(3)];
    let last = (!random.chance(200)).then(|| row(random));
    let mut last = change(table.cloud, id, base, random.between(-60, 0), last);
    last.register = last.row.is_none() || random.chance(700);
    let incoming = merge::Incoming {
        hash: last.hash.parse().unwrap(),
        corrected: last.proposed,
        sender: B,
        counters: &Row::new(),
        change: &last,
    };
    let verdict = merge::decide(table, Some(&existing), &incoming);
    let reply = send(&mut server, B, 3, None, last.clone());
    let outcome = &reply.outcomes[0];
    let hash = server.database.rows[&key].hash.clone();
    let seen = (outcome.status, server.database.shown(&key), hash);
    let (row, hash) = match verdict.write {
        Some(write) => (write.row, write.hash),
        None => (existing.row.clone(), existing.hash),
    };
    let expected = (verdict.status, row, hash.to_string());
    assert_eq!(seen, expected, "{existing:?} meets {last:?}");
    assert_eq!(outcome.loser.is_some(), verdict.losing.is_some());
    seen
}

#[test]
fn model_and_server_judge_alike() {
    let mut random = Random::new(42);
    let mut statuses = BTreeMap::new();
    let tables = [
        ("org_decisions", "rationale"),
        ("context_messages", "content"),
        ("context_task_tracking", "description"),
        ("org_kg_nodes", "content"),
    ];
    for round in 0..4_000 {
        let (table, text) = tables[round % tables.len()];
        let (status, _, _) = meet(&mut random, by_cloud_name(table).unwrap(), text);
        *statuses.entry(format!("{status:?}")).or_insert(0) += 1;
    }
    for status in ["Applied", "Duplicate", "Superseded", "Merged", "Conflict"] {
        assert!(
            statuses.get(status).is_some_and(|count| *count > 50),
            "{statuses:?}"
        );
    }
}
