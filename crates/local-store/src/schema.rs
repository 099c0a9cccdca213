//! The SQL of a file's schema, made from the catalogue. Plain tables only: any SQLite from 3.24
//! on may write to them (PROTOCOL 13).

use coditect_protocol::catalogue::{Column, ColumnType, File, Table};
use std::fmt::Write as _;
use std::sync::LazyLock;

use crate::{search, triggers};

/// `application_id` of all our files: "CODI".
pub const APPLICATION_ID: i32 = 0x434f_4449;

/// What every synced table has besides its own columns, in the order in which rows are read.
pub(crate) const COMMON: [&str; 11] = [
    "seq",
    "id",
    "scope",
    "user_id",
    "device_id",
    "content_hash",
    "version",
    "created_at",
    "updated_at",
    "deleted_at",
    "extra",
];

/// Returns the SQL that makes a file's tables, indexes and triggers.
pub(crate) fn of(file: File) -> &'static str {
    static SQL: LazyLock<[String; 4]> = LazyLock::new(|| File::ALL.map(build));
    &SQL[position(file)]
}

/// Returns the file's place in [`File::ALL`].
pub(crate) fn position(file: File) -> usize {
    match file {
        File::Org => 0,
        File::Sessions => 1,
        File::Projects => 2,
        File::Platform => 3,
    }
}

fn build(file: File) -> String {
    let mut sql = String::from(ENGINE);
    if file == File::Sessions {
        sql.push_str(IMPORT);
    }
    for table in file.tables() {
        push_table(&mut sql, table);
        triggers::push(&mut sql, table);
    }
    sql
}

fn push_table(sql: &mut String, table: &Table) {
    let name = table.local;
    let _ = write!(
        sql,
        "create table \"{name}\" (\n  seq integer primary key autoincrement,\n  id text,\n  \
         scope text not null default 'user',\n  user_id text,\n  device_id text"
    );
    for column in table.columns {
        let _ = write!(sql, ",\n  {}", definition(column));
    }
    let _ = write!(
        sql,
        ",\n  content_hash text,\n  version integer,\n  created_at text,\n  updated_at text,\n  \
         deleted_at text,\n  extra text,\n  unique (scope, id)\n);\n"
    );
    for columns in table.indexes {
        let _ = writeln!(
            sql,
            "create index \"{name}_{}\" on \"{name}\" ({});",
            columns.join("_"),
            columns.join(", ")
        );
    }
    let key = table.identity.columns();
    if !key.is_empty() && !table.indexes.contains(&key) {
        let _ = writeln!(
            sql,
            "create index \"{name}_key\" on \"{name}\" ({});",
            key.join(", ")
        );
    }
    if !table.search.is_empty() {
        let _ = writeln!(
            sql,
            "create virtual table \"{name}_fts\" using fts5({}, content='', \
             contentless_delete=1, tokenize='unicode61 remove_diacritics 2');",
            table.search.join(", ")
        );
    }
}

fn definition(column: &Column) -> String {
    let ty = match column.ty {
        ColumnType::Text | ColumnType::Timestamp | ColumnType::Json => "text",
        ColumnType::Integer | ColumnType::Boolean => "integer",
        ColumnType::Real => "real",
        ColumnType::Blob => "blob",
    };
    let mut sql = format!("\"{}\" {ty}", column.name);
    if column.required {
        sql.push_str(" not null");
    }
    if let Some(literal) = column.default {
        let _ = write!(sql, " default {literal}");
    }
    sql
}

/// Tables of the sync engine, the same in every file: they describe the rows beside them,
/// because commits are not atomic across files.
///
/// `sync_queue` holds the marks; rows without a table name are other people's and left alone.
/// `retry_count` repeats `attempts` under the name that published commands use.
const ENGINE: &str = "
create table sync_queue (
  n integer primary key autoincrement,
  event_type text,
  table_name text,
  row_seq integer,
  row_scope text,
  row_id text,
  action text,
  payload text,
  attempts integer not null default 0,
  retry_count integer not null default 0,
  created_at text,
  batch_id text,
  state text not null default 'queued',
  code text,
  reason text,
  gone_seq integer,
  adopted integer not null default 0,
  not_before_ms integer not null default 0
);
create index sync_queue_seq on sync_queue (table_name, row_seq);
create index sync_queue_key on sync_queue (table_name, row_id, row_scope);
create index sync_queue_state on sync_queue (state, adopted, row_scope);
create view retry_count as
  select n, event_type, table_name, action, attempts as retry_count, state, created_at
  from sync_queue;
create table sync_base (
  table_name text not null,
  scope text not null,
  id text not null,
  version integer not null,
  device text not null,
  origin text not null,
  hash blob not null,
  fingerprint integer not null,
  deleted integer not null default 0,
  created_at text not null,
  counters text,
  maxima text,
  generation integer not null default 0,
  lost integer not null default 0,
  edit_version integer,
  edit_hash blob,
  pulled text,
  primary key (table_name, scope, id)
) without rowid;
create table sync_digest (
  table_name text not null,
  scope text not null,
  origin text not null,
  rows integer not null,
  count integer not null,
  xor integer not null,
  primary key (table_name, scope, origin)
) without rowid;
create table sync_foreign (
  table_name text not null,
  scope text not null,
  id text not null,
  version integer not null,
  device text not null,
  origin text not null,
  primary key (table_name, scope, id)
) without rowid;
create table sync_cursor (
  scope text primary key,
  epoch text not null,
  n integer not null,
  at_head integer not null default 0
) without rowid;
create table sync_token (token text not null);
create table sync_batch (
  batch_id text primary key,
  scope text not null,
  request blob not null
) without rowid;
create table sync_batch_mark (
  position integer primary key,
  n integer not null,
  table_name text not null,
  scope text not null,
  id text not null
);
create index sync_batch_mark_key on sync_batch_mark (table_name, id, scope);
create table sync_flag (applying integer not null);
insert into sync_flag (applying) values (0);
create table sync_meta (key text primary key, value text not null) without rowid;
create table sync_scope (scope text primary key) without rowid;
create table sync_conflicts (
  n integer primary key autoincrement,
  table_name text not null,
  scope text not null,
  id text not null,
  kind text not null,
  op text not null,
  version integer,
  device text,
  kept_version integer,
  row text,
  created_at text not null,
  resolved_at text
);
create index sync_conflicts_key on sync_conflicts (table_name, id);
";

/// Second version: digests follow the bases whoever changes those, and rows that a scrub found
/// damaged wait here until they are read again.
pub(crate) const REPAIR: &str = "
create table sync_suspect (
  table_name text not null,
  scope text not null,
  id text not null,
  reason text not null,
  primary key (table_name, scope, id)
) without rowid;
create trigger sync_base_added after insert on sync_base begin
  update sync_digest set rows = rows + (new.deleted = 0), count = count + 1,
    xor = (xor | new.fingerprint) & ~(xor & new.fingerprint)
    where table_name = new.table_name and scope = new.scope and origin = new.origin;
  insert into sync_digest (table_name, scope, origin, rows, count, xor)
    select new.table_name, new.scope, new.origin, new.deleted = 0, 1, new.fingerprint
    where not exists (select 1 from sync_digest
      where table_name = new.table_name and scope = new.scope and origin = new.origin);
end;
create trigger sync_base_removed after delete on sync_base begin
  update sync_digest set rows = rows - (old.deleted = 0), count = count - 1,
    xor = (xor | old.fingerprint) & ~(xor & old.fingerprint)
    where table_name = old.table_name and scope = old.scope and origin = old.origin;
end;
create trigger sync_base_changed after update on sync_base
when old.fingerprint <> new.fingerprint or old.deleted <> new.deleted
  or old.origin <> new.origin or old.id <> new.id or old.scope <> new.scope
  or old.table_name <> new.table_name
begin
  update sync_digest set rows = rows - (old.deleted = 0), count = count - 1,
    xor = (xor | old.fingerprint) & ~(xor & old.fingerprint)
    where table_name = old.table_name and scope = old.scope and origin = old.origin;
  update sync_digest set rows = rows + (new.deleted = 0), count = count + 1,
    xor = (xor | new.fingerprint) & ~(xor & new.fingerprint)
    where table_name = new.table_name and scope = new.scope and origin = new.origin;
  insert into sync_digest (table_name, scope, origin, rows, count, xor)
    select new.table_name, new.scope, new.origin, new.deleted = 0, 1, new.fingerprint
    where not exists (select 1 from sync_digest
      where table_name = new.table_name and scope = new.scope and origin = new.origin);
end;
";

/// Third version: how far the full-text index goes is noted; until now it had everything.
pub(crate) fn indexed(file: File) -> &'static str {
    static SQL: LazyLock<[String; 4]> = LazyLock::new(|| {
        File::ALL.map(|file| {
            let searched = file.tables().filter(|table| !table.search.is_empty());
            let note = |table: &Table| {
                format!(
                    "insert into sync_meta (key, value)
                       select '{}', coalesce(max(seq), 0) from \"{}\" where true
                       on conflict (key) do nothing;\n",
                    search::note_of(table),
                    table.local
                )
            };
            searched.map(note).collect()
        })
    });
    &SQL[position(file)]
}

/// Seventh version: a queue of millions is taken from its front without a look at the rest, and
/// rows whose bodies are not here yet are found without a look at all rows.
pub(crate) const BODIES: &str = "
create index sync_queue_fresh on sync_queue (n) where state = 'queued' and adopted = 0;
create index sync_queue_batch on sync_queue (batch_id) where batch_id is not null;
create index messages_bodies on messages (coalesce(timestamp, created_at))
  where bodies is not null;
";

/// The same of a file without bodies.
pub(crate) const QUEUE: &str = "
create index sync_queue_fresh on sync_queue (n) where state = 'queued' and adopted = 0;
create index sync_queue_batch on sync_queue (batch_id) where batch_id is not null;
";

/// Fifth version: rows that wait to be moved to another scope, or may not be.
pub(crate) const MOVES: &str = "
create table sync_move (
  n integer primary key autoincrement,
  table_name text not null,
  id text not null,
  from_scope text not null,
  to_scope text not null,
  created_at text not null,
  batch_id text,
  state text not null default 'queued',
  attempts integer not null default 0,
  code text,
  reason text,
  not_before_ms integer not null default 0
);
create unique index sync_move_row on sync_move (table_name, id);
alter table sync_scope add column name text;
";

/// Sixth version: the last versions that a base had before, which tell whether what a server has
/// that was set back is an earlier state of the row.
pub(crate) const PAST: &str = "
alter table sync_base add column past text;
";

/// Eighth version: whether the server lost what an edit was made from.
pub(crate) const LOST: &str = "
alter table sync_base add column edit_lost integer not null default 0;
";

const IMPORT: &str = "
create table import_state (
  source text primary key,
  bytes_read integer not null default 0,
  prefix_hash text,
  state text,
  updated_at text not null
) without rowid;
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_makes_its_tables() {
        for file in File::ALL {
            let connection = rusqlite::Connection::open_in_memory().unwrap();
            connection.execute_batch(of(file)).unwrap();
            for table in file.tables() {
                let sql = format!("select count(*) from \"{}\"", table.local);
                let count: i64 = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
                assert_eq!(count, 0, "{}", table.local);
            }
        }
        assert!(
            File::ALL
                .iter()
                .enumerate()
                .all(|(at, file)| position(*file) == at)
        );
    }

    #[test]
    fn only_plain_sql_is_used() {
        for file in File::ALL {
            let sql = of(file).to_lowercase();
            for word in [" strict", "generated always", " check (", " check("] {
                assert!(!sql.contains(word), "{file}: {word}");
            }
        }
    }
}
