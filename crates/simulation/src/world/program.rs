//! What our own program does to a device's files: rows written through the store, and
//! transcripts imported.

use super::ledger::Token;
use super::people::Writer;
use coditect_local_store::ImportState;
use coditect_protocol::catalogue::{File, Table, by_cloud_name};
use coditect_protocol::wire::Row;
use serde_json::{Value, json};

/// Tables that people write to by commands, with the column that holds a text.
const TABLES: [(&str, &str); 4] = [
    ("org_decisions", "rationale"),
    ("org_skill_learnings", "learning"),
    ("org_kg_nodes", "content"),
    ("context_task_tracking", "description"),
];

/// Has the program do something; says what.
pub(super) fn write(w: &mut Writer<'_>) -> Option<String> {
    match w.random.below(10) {
        0 | 1 => insert(w),
        2..=4 => edit(w),
        5 => delete(w),
        6 | 7 => use_learning(w),
        8 => import(w),
        _ => follow_transcript(w),
    }
}

fn object(value: Value) -> Row {
    match value {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}

/// A row that was adopted, with its text.
struct Known {
    table: &'static Table,
    scope: String,
    id: String,
    seq: i64,
    text: Option<Token>,
    name: String,
}

/// Picks an adopted row of one of the tables.
fn known(w: &mut Writer<'_>, tables: &[(&str, &str)]) -> Option<(Known, String)> {
    let (cloud, column) = *w.random.pick(tables)?;
    let table = by_cloud_name(cloud)?;
    let name = if cloud == "org_skill_learnings" {
        "skill_name"
    } else {
        column
    };
    let sql = format!(
        "select scope, id, seq, {column}, {name} from {} where id is not null order by seq",
        table.local
    );
    let rows = w.device.rows(table.file, &sql);
    let row = w.random.pick(&rows)?;
    let text = |at: usize| row[at].as_str().unwrap_or_default().to_owned();
    let known = Known {
        table,
        scope: text(0),
        id: text(1),
        seq: row[2].as_i64()?,
        text: Token::read(&text(3)),
        name: text(4),
    };
    Some((known, column.to_owned()))
}

fn insert(w: &mut Writer<'_>) -> Option<String> {
    let (scope, token) = (w.scope(), w.ledger.token());
    let text = token.text();
    let (cloud, row) = match w.random.below(2) {
        0 => (
            "org_decisions",
            json!({"title": "a decision", "rationale": text}),
        ),
        _ => {
            let name = format!("skill {}", token.0);
            w.ledger.added(&name, 1);
            (
                "org_skill_learnings",
                json!({"skill_name": name, "learning": text}),
            )
        }
    };
    let now_ms = w.device.now_ms;
    let id = w
        .device
        .store
        .insert(cloud, &scope, object(row), now_ms)
        .ok()?;
    let table = by_cloud_name(cloud)?;
    let sql = format!("select seq from {} where id = '{id}'", table.local);
    let seq = w.device.number(table.file, &sql);
    w.ledger
        .wrote((w.number, table.file, table.local, seq), None, Some(token));
    Some(format!("add {cloud} {text} to {scope}"))
}

fn edit(w: &mut Writer<'_>) -> Option<String> {
    let (known, column) = known(w, &TABLES)?;
    let token = w.ledger.token();
    let mut patch = Row::new();
    patch.insert(column, json!(token.text()));
    update(w, &known, &patch);
    let place = (w.number, known.table.file, known.table.local, known.seq);
    w.ledger.wrote(place, known.text, Some(token));
    Some(format!(
        "change {} {:?} to {}",
        known.table.cloud,
        known.text,
        token.text()
    ))
}

fn update(w: &mut Writer<'_>, known: &Known, patch: &Row) {
    let (cloud, now_ms) = (known.table.cloud, w.device.now_ms);
    let done = w
        .device
        .store
        .update(cloud, &known.scope, &known.id, patch, now_ms);
    assert!(
        matches!(done, Ok(true)),
        "an adopted row can be changed: {done:?}"
    );
}

fn delete(w: &mut Writer<'_>) -> Option<String> {
    let (known, _) = known(w, &TABLES)?;
    let (cloud, now_ms) = (known.table.cloud, w.device.now_ms);
    let done = w
        .device
        .store
        .delete(cloud, &known.scope, &known.id, now_ms);
    assert!(
        matches!(done, Ok(true)),
        "an adopted row can be deleted: {done:?}"
    );
    let place = (w.number, known.table.file, known.table.local, known.seq);
    w.ledger.wrote(place, known.text, None);
    if cloud == "org_skill_learnings" {
        w.ledger.blur(known.name);
    }
    Some(format!("remove {cloud} {:?}", known.text))
}

fn use_learning(w: &mut Writer<'_>) -> Option<String> {
    let (known, _) = known(w, &TABLES[1..2])?;
    let sql = format!(
        "select usage_count from skill_learnings where seq = {}",
        known.seq
    );
    let more = w.random.between(1, 3);
    let count = w.device.number(File::Org, &sql) + more;
    let patch = object(json!({"usage_count": count}));
    update(w, &known, &patch);
    w.ledger.added(&known.name, more);
    Some(format!("count {} {more} times", known.name))
}

/// Part of a transcript: messages that every device imports alike, and numbers that have grown.
fn import(w: &mut Writer<'_>) -> Option<String> {
    let first = w.random.below(25);
    let messages = (first..first + 3).map(|at| {
        let id = format!("message {at}");
        let content = format!("content of {id}");
        let row = json!({
            "message_id": id, "session_id": "session", "role": "user", "content": content,
        });
        ("context_messages", object(row))
    });
    let mut rows: Vec<_> = messages.collect();
    let answer = format!("answer {}-{}", w.number, w.random.below(4));
    let tokens = w.random.between(1, 200);
    let row = json!({"session_id": "s", "api_message_id": answer, "output_tokens": tokens});
    rows.push(("context_token_economics", object(row)));
    let now_ms = w.device.now_ms;
    let done = w.device.store.ingest(File::Sessions, rows, None, now_ms);
    assert!(done.is_ok(), "a transcript can be imported: {done:?}");
    Some(format!(
        "import from message {first} on, {answer} with {tokens}"
    ))
}

/// Imports one message, always the same.
pub(super) fn import_one(w: &mut Writer<'_>) {
    let row = json!({
        "message_id": "message 7", "session_id": "session", "role": "user", "content": "seven",
    });
    let rows = vec![("context_messages", object(row))];
    let now_ms = w.device.now_ms;
    let done = w.device.store.ingest(File::Sessions, rows, None, now_ms);
    assert!(done.is_ok(), "a transcript can be imported: {done:?}");
}

/// The agent writes some lines, and the importer reads on from where it stopped; sometimes it is
/// killed.
fn follow_transcript(w: &mut Writer<'_>) -> Option<String> {
    for _ in 0..w.random.between(1, 3) {
        let line = w.ledger.token();
        w.device.transcript.push(line);
    }
    if w.kills && w.random.chance(250) {
        let transactions = w.random.below(2) as u32;
        w.device.store.end_before_commit(Some(transactions));
    }
    read_transcript(w);
    if !w.device.store.has_ended() {
        w.device.store.end_before_commit(None);
    }
    Some(format!("transcript of {} lines", w.device.transcript.len()))
}

/// Imports the lines that were not read yet, with how far it came, in one transaction.
pub(super) fn read_transcript(w: &mut Writer<'_>) {
    const SOURCE: &str = "transcript";
    let known = w.device.store.import_state(SOURCE);
    let known = known.expect("the state of an import can be read");
    let read = known.map_or(0, |state| state.bytes_read as usize);
    let lines: Vec<Token> = w.device.transcript.iter().skip(read).copied().collect();
    if lines.is_empty() {
        return;
    }
    let name = |line: &Token| format!("line {}", line.0);
    let row = |line: &Token| {
        let row = json!({
            "message_id": name(line), "session_id": "s", "role": "user", "content": line.text(),
        });
        ("context_messages", object(row))
    };
    let state = ImportState {
        source: SOURCE.to_owned(),
        bytes_read: w.device.transcript.len() as u64,
        ..ImportState::default()
    };
    let (rows, now_ms) = (lines.iter().map(row).collect(), w.device.now_ms);
    let done = w
        .device
        .store
        .ingest(File::Sessions, rows, Some(&state), now_ms);
    let ended = w.device.store.has_ended();
    assert!(done.is_ok() || ended, "lines can be imported: {done:?}");
    for line in lines.iter().filter(|_| done.is_ok()) {
        let sql = format!(
            "select seq from messages where message_id = '{}'",
            name(line)
        );
        let rows = w.device.rows(File::Sessions, &sql);
        if let Some(seq) = rows.first().and_then(|row| row[0].as_i64()) {
            let place = (w.number, File::Sessions, "messages", seq);
            w.ledger.wrote(place, None, Some(*line));
        }
    }
}
