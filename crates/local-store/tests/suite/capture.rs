//! The capture matrix (DESIGN 15): every way to change a row, by every writer, with and without
//! recursive triggers, on a record and on a fact. Each change ends in the right mark, and
//! adoption makes the right change of it.

use coditect_local_store::{Damage, LocalStore, Random};
use coditect_protocol::catalogue::{File, Table, by_cloud_name};
use coditect_protocol::wire::Op;
use coditect_protocol::wire::push::Change;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{NOW, Server, assert_converged, bind, folder, push, row, sync};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Writer {
    /// The command line program.
    Sqlite3,
    /// Python's module.
    Python,
    /// Another connection of our own SQLite, without anything of ours.
    Plain,
}

/// What a statement may do, in the order that the matrix prints.
const CASES: &[(&str, &str, &[Expected])] = &[
    (
        "insert",
        "insert into T (COLUMNS) values (NEW)",
        &[NewRow("new")],
    ),
    (
        "insert or replace, by key",
        "insert or replace into T (scope, id, COLUMNS) values ('user', ID1, SAME1)",
        &[Changed(1, "changed")],
    ),
    (
        "insert or replace, by rowid",
        "insert or replace into T (seq, COLUMNS) values (SEQ1, NEW)",
        &[Gone(1), NewRow("new")],
    ),
    (
        "insert or replace, both in the way",
        "insert or replace into T (seq, scope, id, COLUMNS) values (SEQ2, 'user', ID1, SAME1)",
        &[Changed(1, "changed"), Gone(2)],
    ),
    (
        "insert or ignore, by key",
        "insert or ignore into T (scope, id, COLUMNS) values ('user', ID1, SAME1)",
        &[],
    ),
    (
        "insert or ignore, by rowid",
        "insert or ignore into T (seq, COLUMNS) values (SEQ1, NEW)",
        &[],
    ),
    (
        "upsert",
        "insert into T (scope, id, COLUMNS) values ('user', ID1, SAME1)
         on conflict (scope, id) do update set MAIN = excluded.MAIN",
        &[Changed(1, "changed")],
    ),
    (
        "upsert that does nothing",
        "insert into T (scope, id, COLUMNS) values ('user', ID1, SAME1)
         on conflict (scope, id) do nothing",
        &[],
    ),
    (
        "update",
        "update T set MAIN = 'changed' where id = ID1",
        &[Changed(1, "changed")],
    ),
    ("update to the same", "update T set MAIN = MAIN", &[]),
    (
        "update twice",
        "update T set MAIN = 'once' where id = ID1;
         update T set MAIN = 'changed' where id = ID1",
        &[Changed(1, "changed")],
    ),
    (
        "update and back",
        "update T set MAIN = 'once' where id = ID1; update T set MAIN = 'one' where id = ID1",
        &[],
    ),
    (
        "update or replace, by rowid",
        "update or replace T set rowid = SEQ2 where seq = SEQ1",
        &[Gone(2)],
    ),
    (
        "update or replace, by key",
        "insert into T (seq, COLUMNS) values (77, SAME1);
         update or replace T set id = ID1 where seq = 77",
        &[Changed(1, "changed")],
    ),
    (
        "update or ignore, by key",
        "insert into T (seq, COLUMNS) values (77, NEW);
         update or ignore T set id = ID1 where seq = 77",
        &[NewRow("new")],
    ),
    ("delete", "delete from T where id = ID1", &[Gone(1)]),
    ("delete all", "delete from T", &[Gone(1), Gone(2)]),
    (
        "delete and insert again",
        "delete from T where id = ID1;
         insert into T (scope, id, COLUMNS) values ('user', ID1, SAME1)",
        &[Changed(1, "changed")],
    ),
    (
        "deleted_at",
        "update T set deleted_at = datetime('now') where id = ID1",
        &[Gone(1)],
    ),
    (
        "vacuum",
        "delete from T where id = ID1; insert into T (COLUMNS) values (NEW); vacuum;
         update T set MAIN = 'changed' where id = ID2",
        &[Gone(1), NewRow("new"), Changed(2, "changed")],
    ),
    (
        "low rowid",
        "insert into T (seq, COLUMNS) values (-5, NEW)",
        &[NewRow("new")],
    ),
    (
        "rowid used again",
        "delete from T where id = ID2; insert into T (seq, COLUMNS) values (SEQ2, NEW)",
        &[Gone(2), NewRow("new")],
    ),
    (
        "insert and delete",
        "insert into T (COLUMNS) values (NEW); delete from T where MAIN = 'new'",
        &[],
    ),
    (
        "rolled back",
        "begin; update T set MAIN = 'changed'; delete from T; rollback",
        &[],
    ),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    NewRow(&'static str),
    Changed(usize, &'static str),
    Gone(usize),
}
use Expected::{Changed, Gone, NewRow};

struct Fixture {
    folder: tempfile::TempDir,
    store: LocalStore,
    server: Server,
    table: &'static Table,
    main: &'static str,
    ids: [String; 2],
    seqs: [i64; 2],
}

/// A folder with two acknowledged rows, as it is before every case.
struct Template {
    folder: tempfile::TempDir,
    server: Server,
    table: &'static Table,
    main: &'static str,
    ids: [String; 2],
}

impl Template {
    fn new(cloud: &'static str) -> Self {
        let folder = folder();
        let mut store = LocalStore::open(folder.path(), NOW, Random::Seeded(1)).unwrap();
        bind(&mut store);
        let mut server = Server::new();
        let fact = cloud == "context_messages";
        let main = if fact { "content" } else { "title" };
        for (key, text) in [("m1", "one"), ("m2", "two")] {
            let columns = if fact {
                json!({main: text, "message_id": key, "session_id": "s", "role": "user"})
            } else {
                json!({main: text})
            };
            store.insert(cloud, "user", row(columns), NOW).unwrap();
        }
        let sent = sync(&mut store, &mut server);
        Self {
            folder,
            server,
            table: by_cloud_name(cloud).unwrap(),
            main,
            ids: [sent[0].id.to_string(), sent[1].id.to_string()],
        }
    }
}

impl Fixture {
    fn new(cloud: &'static str) -> Self {
        Self::of(&Template::new(cloud))
    }

    fn of(template: &Template) -> Self {
        let folder = folder();
        for file in File::ALL {
            let name = format!("{file}.db");
            let from = template.folder.path().join(&name);
            std::fs::copy(from, folder.path().join(&name)).unwrap();
        }
        Self {
            store: LocalStore::open(folder.path(), NOW, Random::Seeded(2)).unwrap(),
            folder,
            server: template.server.clone(),
            table: template.table,
            main: template.main,
            ids: template.ids.clone(),
            seqs: [1, 2],
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join(format!("{}.db", self.table.file))
    }

    fn sql(&self, template: &str) -> String {
        let fact = self.table.cloud == "context_messages";
        let (columns, new, same) = if fact {
            (
                "message_id, session_id, role, content",
                "'m9', 's', 'user', 'new'",
                "'m1', 's', 'user', 'changed'",
            )
        } else {
            (
                "title, status",
                "'new', 'proposed'",
                "'changed', 'proposed'",
            )
        };
        template
            .replace("COLUMNS", columns)
            .replace("SAME1", same)
            .replace("NEW", new)
            .replace("MAIN", self.main)
            .replace("ID1", &format!("'{}'", self.ids[0]))
            .replace("ID2", &format!("'{}'", self.ids[1]))
            .replace("SEQ1", &self.seqs[0].to_string())
            .replace("SEQ2", &self.seqs[1].to_string())
            .replace(" T ", &format!(" {} ", self.table.local))
            .replace(" T;", &format!(" {};", self.table.local))
            + " "
    }

    /// Returns (scope, id or seq) of every mark.
    fn marks(&self) -> Vec<(String, String)> {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        let sql = "select row_scope, coalesce(row_id, row_seq) || '' from sync_queue";
        let mut statement = connection.prepare(sql).unwrap();
        let marks = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        marks.map(Result::unwrap).collect()
    }
}

#[test]
fn every_change_of_a_record_ends_in_the_right_mark() {
    run_matrix("org_decisions");
}

#[test]
fn every_change_of_a_fact_ends_in_the_right_mark() {
    run_matrix("context_messages");
}

fn run_matrix(cloud: &'static str) {
    let before = Template::new(cloud);
    for writer in [Writer::Sqlite3, Writer::Python, Writer::Plain] {
        if !is_installed(writer) {
            println!("{cloud}: {writer:?} is not installed, its column is skipped");
            continue;
        }
        for recursive in [false, true] {
            for (name, template, expected) in CASES {
                let case = format!("{cloud}, {writer:?}, recursive {recursive}: {name}");
                run_case(&before, writer, recursive, template, expected, &case);
                println!("ok {case}");
            }
        }
    }
}

fn run_case(
    before: &Template,
    writer: Writer,
    recursive: bool,
    template: &str,
    expected: &[Expected],
    case: &str,
) {
    let mut fixture = Fixture::of(before);
    assert!(fixture.marks().is_empty(), "{case}");
    // The closing blank lets the table's name be replaced at the end of a statement too.
    let sql = fixture.sql(&format!("{template} "));
    write(writer, &fixture.path(), recursive, &sql);
    let marks = fixture.marks();
    let mut distinct = marks.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(
        marks.len(),
        distinct.len(),
        "{case}: one mark per row: {marks:?}"
    );
    assert!(marks.len() >= expected.len(), "{case}: {marks:?}");
    let sent = push(&mut fixture.store, &mut fixture.server);
    let mut found: Vec<String> = sent
        .iter()
        .map(|change| describe(&fixture, change))
        .collect();
    let mut wanted: Vec<String> = expected.iter().map(|one| format!("{one:?}")).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted, "{case}");
    assert!(fixture.marks().is_empty(), "{case}");
    // The fact's first accepted bytes stay; the edited ones are kept.
    sync(&mut fixture.store, &mut fixture.server);
    assert_converged(&mut fixture.store, &fixture.server);
}

fn describe(fixture: &Fixture, change: &Change) -> String {
    let at = fixture
        .ids
        .iter()
        .position(|id| *id == change.id.to_string());
    let text = change
        .row
        .as_ref()
        .map(|row| row[fixture.main].as_str().unwrap());
    match (change.op, at, text) {
        (Op::Delete, Some(at), None) => format!("Gone({})", at + 1),
        (Op::Upsert, Some(at), Some(text)) => format!("Changed({}, {text:?})", at + 1),
        (Op::Upsert, None, Some(text)) => format!("NewRow({text:?})"),
        other => format!("{other:?}"),
    }
}

fn is_installed(writer: Writer) -> bool {
    let mut command = match writer {
        Writer::Plain => return true,
        Writer::Sqlite3 => Command::new("sqlite3"),
        Writer::Python => python(),
    };
    let arguments: &[&str] = match writer {
        Writer::Python => &["-c", "import sqlite3"],
        _ => &["-version"],
    };
    let status = command
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Returns the system's Python; one that a version manager wraps starts slowly.
fn python() -> Command {
    let system = Path::new("/usr/bin/python3");
    Command::new(if system.exists() {
        system
    } else {
        Path::new("python3")
    })
}

fn write(writer: Writer, path: &Path, recursive: bool, sql: &str) {
    let pragma = if recursive { "on" } else { "off" };
    let sql = format!("pragma recursive_triggers = {pragma};\n{sql};\n");
    let mut command = match writer {
        Writer::Plain => {
            let connection = rusqlite::Connection::open(path).unwrap();
            connection.execute_batch(&sql).unwrap();
            return;
        }
        Writer::Sqlite3 => {
            let mut command = Command::new("sqlite3");
            command.args(["-bail", "-cmd", ".timeout 5000"]).arg(path);
            command
        }
        Writer::Python => {
            let script = "import sqlite3, sys\n\
                          c = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                          c.executescript(sys.stdin.read())";
            let mut command = python();
            command.args(["-c", script]).arg(path);
            command
        }
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(sql.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{writer:?}: {sql}: {errors}");
}

#[test]
fn the_key_of_an_adopted_row_cannot_change() {
    let fixture = Fixture::new("context_messages");
    let connection = rusqlite::Connection::open(fixture.path()).unwrap();
    for sql in [
        "update messages set id = 'other' where seq = 1",
        "update messages set id = null where seq = 1",
        "update or ignore messages set message_id = 'other' where seq = 1",
        "update or replace messages set message_id = 'other' where seq = 1",
    ] {
        let error = connection.execute(sql, []).unwrap_err().to_string();
        assert!(
            error.contains(coditect_local_store::KEY_IS_IMMUTABLE),
            "{sql}: {error}"
        );
    }
    assert!(fixture.marks().is_empty());
}

#[test]
fn entries_of_other_programs_are_left_alone() {
    let mut fixture = Fixture::new("org_decisions");
    let connection = rusqlite::Connection::open(fixture.path()).unwrap();
    let sql = "insert into sync_queue (event_type, payload) values ('mine', '{}')";
    connection.execute(sql, []).unwrap();
    connection
        .execute("update decisions set title = 'changed'", [])
        .unwrap();
    assert_eq!(push(&mut fixture.store, &mut fixture.server).len(), 2);
    let state = fixture.store.queue_state(File::Org).unwrap();
    assert_eq!((state.queued, state.parked, state.others), (0, 0, 1));
    let sql = "select count(*) from sync_queue where event_type = 'mine' and retry_count = 0";
    let left: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1);
}

#[test]
fn rows_whose_queue_entries_were_deleted_by_hand_are_sent() {
    for (table, insert) in [
        (
            "org_decisions",
            "insert into decisions (title) values ('found')",
        ),
        (
            "context_messages",
            "insert into messages (message_id, session_id, role) values ('m9', 's', 'user')",
        ),
    ] {
        let mut fixture = Fixture::new(table);
        let file = fixture.table.file;
        let connection = rusqlite::Connection::open(fixture.path()).unwrap();
        connection.execute(insert, []).unwrap();
        connection
            .execute("delete from sync_queue where retry_count >= 0", [])
            .unwrap();
        assert_eq!(fixture.store.count_unmarked(file).unwrap(), 1);
        let sent = sync(&mut fixture.store, &mut fixture.server);
        assert_eq!(sent.len(), 1, "{table}");
        // An edit without its entry cannot be told from a damaged row: the check of all rows
        // names it, and nothing sends it.
        let update = format!(
            "update {} set {} = 'edited'",
            fixture.table.local, fixture.main
        );
        connection.execute(&update, []).unwrap();
        connection.execute("delete from sync_queue", []).unwrap();
        for _ in 0..2 {
            let checked = fixture.store.check_rows(file).unwrap();
            assert_eq!((checked.rows, checked.wrong.len()), (3, 3));
            let damages = checked.wrong.iter().map(|wrong| wrong.damage);
            assert!(damages.eq([Damage::Content; 3]));
            assert_eq!(push(&mut fixture.store, &mut fixture.server).len(), 0);
        }
    }
}

#[test]
fn an_entry_deleted_while_its_batch_is_out_does_not_lose_the_row() {
    let mut fixture = Fixture::new("org_decisions");
    let connection = rusqlite::Connection::open(fixture.path()).unwrap();
    connection
        .execute("update decisions set title = 'changed' where seq = 1", [])
        .unwrap();
    let batch = crate::support::take(&mut fixture.store, File::Org, NOW).unwrap();
    connection
        .execute("update decisions set title = 'again' where seq = 1", [])
        .unwrap();
    connection.execute("delete from sync_queue", []).unwrap();
    let reply = fixture.server.push(&batch.request);
    fixture.store.settle(&batch, &reply, NOW).unwrap();
    let sent = sync(&mut fixture.store, &mut fixture.server);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].row.as_ref().unwrap()["title"], Value::from("again"));
}
