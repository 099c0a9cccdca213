//! Local full-text search (FTS5), offline and without a model. The index is kept by our own
//! process, never by triggers: the writer's SQLite may lack FTS5 (PROTOCOL 13). Rows above a
//! noted `seq` wait for [`LocalStore::index_new`], so that many are indexed together and a hook
//! does not touch the index; rows below it are indexed when they change.

use coditect_protocol::catalogue::{File, TABLES, Table, by_cloud_name};
use coditect_protocol::limits::SEARCH_TEXT_BYTES_MAX;
use coditect_protocol::wire::Row;
use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};
use serde::Serialize;
use serde_json::Value;
use std::borrow::Cow;

use crate::LocalStore;
use crate::adopt::Adopted;
use crate::database::{meta, set_meta};
use crate::error::{Error, InFile as _, Result};
use crate::recall::{Clause, Origin, Which};
use crate::statements;
use crate::work::Work;

/// Characters of text shown around a hit.
const SNIPPET_CHARS: usize = 160;

/// Text that is indexed in one transaction, in bytes: some milliseconds.
const CHUNK_TEXT_BYTES: usize = 256 * 1024;
/// Rows that are indexed in one transaction at most.
const CHUNK_ROWS: u64 = 1_000;

/// Hits of a table that are ranked when there is no filter: the newest. Each costs three
/// microseconds; of a word that half of all messages have, there would be seconds of them.
const RANKED_MAX: u32 = 5_000;

/// What to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchQuery {
    /// Words that must all occur; a part in double quotes is a phrase, a final `*` a prefix.
    pub text: String,
    /// Cloud or local names of the tables to search; all searchable ones if empty.
    pub tables: Vec<String>,
    /// Which rows.
    pub which: Which,
    /// Hits at most.
    pub limit: u32,
}

/// A row that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hit {
    /// Cloud name of the table.
    pub table: &'static str,
    /// Row id.
    pub id: String,
    /// Scope, as the file stores it.
    pub scope: String,
    /// How well it fits; smaller is better (BM25).
    pub rank: f64,
    /// Text around the first word found.
    pub snippet: String,
    /// The row.
    pub row: Row,
    /// When the row was made.
    pub created_at: Option<String>,
    /// Author.
    pub user_id: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
}

impl LocalStore {
    /// Searches messages, decisions, learnings, error solutions and tasks; best hits first. Of a
    /// table with more than 5,000 hits the newest 5,000 are ranked, unless a filter is set.
    /// What was written by SQL since the last adoption is found too: it is adopted first.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] for a table that is not searched, or when a database fails.
    pub fn search(&mut self, query: &SearchQuery, now_ms: i64) -> Result<Vec<Hit>> {
        let tables = searched(query)?;
        let Some(expression) = expression(&query.text) else {
            return Ok(Vec::new());
        };
        let mut files: Vec<File> = tables.iter().map(|table| table.file).collect();
        files.dedup();
        for file in files {
            match self.adopt_marks(file, now_ms, &mut Adopted::default()) {
                // Somebody writes, or the disk is full; what is indexed can be searched.
                Ok(_) | Err(Error::Busy(_) | Error::NoSpace { .. }) => {}
                Err(error) => return Err(error),
            }
            match self.index_new(file, 1) {
                Ok(_) | Err(Error::Busy(_) | Error::NoSpace { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let words = words(&query.text);
        let resolved = self.resolve(&query.which)?;
        let mut hits = Vec::new();
        for table in tables {
            let Some(clause) = resolved.clause(table) else {
                continue;
            };
            let found = find(
                self.read(table.file)?,
                table,
                clause,
                &expression,
                query.limit,
            );
            for (seq, rank) in found.in_file(table.file)? {
                let live = statements::by_seq(self.read(table.file)?, table, seq);
                if let Some(live) = live.in_file(table.file)? {
                    let row = live.canonical(table);
                    hits.push(Hit {
                        table: table.cloud,
                        id: live.id.unwrap_or_default(),
                        scope: live.scope,
                        rank,
                        snippet: snippet(table, &row, &words),
                        row,
                        created_at: live.created_at,
                        user_id: live.user_id,
                        origin: Origin::default(),
                    });
                }
            }
        }
        hits.sort_by(|a, b| a.rank.total_cmp(&b.rank).then_with(|| a.id.cmp(&b.id)));
        hits.truncate(query.limit as usize);
        for hit in &mut hits {
            let (created, user) = (hit.created_at.as_deref(), hit.user_id.as_deref());
            let table = by_cloud_name(hit.table);
            let table = table.ok_or_else(|| Error::UnknownTable(hit.table.to_owned()))?;
            hit.origin = self.origin(table, &hit.row, created, user)?;
        }
        Ok(hits)
    }
}

impl LocalStore {
    /// Indexes the rows of a file that came since the last time, a chunk per transaction, if at
    /// least `rows_min` have come to a table. Returns how many it indexed.
    ///
    /// # Errors
    /// When the database fails.
    pub fn index_new(&mut self, file: File, rows_min: i64) -> Result<u64> {
        let mut indexed = 0;
        for table in file.tables().filter(|table| !table.search.is_empty()) {
            let connection = self.read(file)?;
            let noted = noted(connection, table).in_file(file)?;
            let newest = newest(connection, table).in_file(file)?;
            if newest - noted < rows_min.max(1) {
                continue;
            }
            loop {
                let rows = self.write(file, |work| index_chunk(work, table).in_file(file))?;
                if rows == 0 {
                    break;
                }
                indexed += rows;
            }
        }
        Ok(indexed)
    }
}

/// Returns the `seq` above which rows of the table wait to be indexed.
fn noted(connection: &Connection, table: &Table) -> rusqlite::Result<i64> {
    let text = meta(connection, &note_of(table))?;
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

fn newest(connection: &Connection, table: &Table) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(&format!(
            "select coalesce(max(seq), 0) from \"{}\"",
            table.local
        ))?
        .query_row([], |row| row.get(0))
}

/// Key of the note in the file.
pub(crate) fn note_of(table: &Table) -> String {
    format!("indexed:{}", table.local)
}

/// Indexes the next rows and notes how far it came; returns how many rows it looked at. What is
/// not adopted yet is left out: it may hold secrets, and adopting it will index it.
fn index_chunk(work: &Work<'_>, table: &Table) -> rusqlite::Result<u64> {
    let (name, columns) = (table.local, table.search.join(", "));
    let mut insert = work.tx.prepare_cached(&insertion(table))?;
    let mut select = work.tx.prepare_cached(&format!(
        "select t.seq, t.content_hash is null or exists (select 1 from sync_queue q
           where q.table_name = ?2 and q.row_seq = t.seq and q.adopted = 0), {columns}
         from \"{name}\" t where t.seq > ?1 order by t.seq"
    ))?;
    let mut rows = select.query(params![noted(work.tx, table)?, table.cloud])?;
    let (mut looked_at, mut bytes, mut last) = (0, 0, None);
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        (looked_at, last) = (looked_at + 1, Some(seq));
        if !row.get::<_, bool>(1)? {
            insert.raw_bind_parameter(1, seq)?;
            for at in 0..table.search.len() {
                let text = match row.get_ref(2 + at)? {
                    ValueRef::Text(text) => String::from_utf8_lossy(text),
                    _ => Cow::Borrowed(""),
                };
                let text = prefix(&text, SEARCH_TEXT_BYTES_MAX);
                bytes += text.len();
                insert.raw_bind_parameter(2 + at, text)?;
            }
            insert.raw_execute()?;
        }
        if bytes >= CHUNK_TEXT_BYTES || looked_at >= CHUNK_ROWS {
            break;
        }
    }
    if let Some(last) = last {
        set_meta(work.tx, &note_of(table), &last.to_string())?;
    }
    Ok(looked_at)
}

fn insertion(table: &Table) -> String {
    let columns = table.search.join(", ");
    let places = vec!["?"; table.search.len()].join(", ");
    format!(
        "insert into \"{}_fts\" (rowid, {columns}) values (?, {places})",
        table.local
    )
}

impl Work<'_> {
    /// Puts a row's text into the index, in place of what was there; a new row waits until
    /// others come along.
    pub(crate) fn index(&self, table: &Table, seq: i64, row: &Row) -> Result<()> {
        if table.search.is_empty() || self.waits_for_index(table, seq)? {
            return Ok(());
        }
        self.unindex(table, seq)?;
        let sql = insertion(table);
        let mut parameters = vec![Sql::Integer(seq)];
        parameters.extend(table.search.iter().map(|name| {
            let text = row.get(*name).and_then(Value::as_str).unwrap_or_default();
            Sql::Text(prefix(text, SEARCH_TEXT_BYTES_MAX).to_owned())
        }));
        self.tx
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.execute(params_from_iter(parameters)))
            .in_file(self.file)?;
        Ok(())
    }

    /// Takes a row's text out of the index.
    pub(crate) fn unindex(&self, table: &Table, seq: i64) -> Result<()> {
        if table.search.is_empty() || self.waits_for_index(table, seq)? {
            return Ok(());
        }
        let sql = format!("delete from \"{}_fts\" where rowid = ?1", table.local);
        self.tx
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.execute([seq]))
            .in_file(self.file)?;
        Ok(())
    }

    fn waits_for_index(&self, table: &Table, seq: i64) -> Result<bool> {
        Ok(seq > noted(self.tx, table).in_file(self.file)?)
    }

    /// Takes a removed row's text out of the index, unless its `seq` is used again.
    pub(crate) fn unindex_if_gone(&self, table: &Table, seq: i64) -> Result<()> {
        let live = statements::by_seq(self.tx, table, seq).in_file(self.file)?;
        if live.is_none() {
            self.unindex(table, seq)?;
        }
        Ok(())
    }
}

fn searched(query: &SearchQuery) -> Result<Vec<&'static Table>> {
    let all = || {
        TABLES
            .iter()
            .copied()
            .filter(|table| !table.search.is_empty())
    };
    for name in &query.tables {
        if !all().any(|table| name == table.cloud || name == table.local) {
            return Err(Error::UnknownTable(name.clone()));
        }
    }
    let wanted = |table: &&Table| {
        query.tables.is_empty()
            || query
                .tables
                .iter()
                .any(|name| name == table.cloud || name == table.local)
    };
    Ok(all().filter(wanted).collect())
}

/// Returns the rows found in a table, best first.
fn find(
    connection: &Connection,
    table: &Table,
    clause: Clause,
    expression: &str,
    limit: u32,
) -> rusqlite::Result<Vec<(i64, f64)>> {
    let name = table.local;
    let oldest = if clause.sql.is_empty() {
        oldest_ranked(connection, table, expression)?
    } else {
        None
    };
    let newer = oldest.map_or("", |_| " and f.rowid >= ?");
    let sql = format!(
        "select t.seq, f.rank from \"{name}_fts\" f join \"{name}\" t on t.seq = f.rowid
         where \"{name}_fts\" match ?{newer}{} order by f.rank limit ?",
        clause.sql
    );
    let mut parameters = vec![Sql::Text(expression.to_owned())];
    parameters.extend(oldest.map(Sql::Integer));
    parameters.extend(clause.parameters);
    parameters.push(Sql::Integer(i64::from(limit)));
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(parameters), |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    rows.collect()
}

/// Returns the `seq` of the oldest hit that is ranked; none when all are. Goes through the list of
/// hits from its end, without looking at any row.
fn oldest_ranked(
    connection: &Connection,
    table: &Table,
    expression: &str,
) -> rusqlite::Result<Option<i64>> {
    let name = table.local;
    let sql = format!(
        "select rowid from \"{name}_fts\" where \"{name}_fts\" match ?1
         order by rowid desc limit 1 offset ?2"
    );
    connection
        .prepare_cached(&sql)?
        .query_row(params![expression, RANKED_MAX - 1], |row| row.get(0))
        .optional()
}

/// Returns the FTS5 expression: every word quoted, so that no character is an operator.
fn expression(text: &str) -> Option<String> {
    let mut parts = Vec::new();
    for (at, piece) in text.split('"').enumerate() {
        if at % 2 == 1 {
            if piece.chars().any(char::is_alphanumeric) {
                parts.push(format!("\"{piece}\""));
            }
            continue;
        }
        for word in piece.split_whitespace() {
            let (word, star) = match word.strip_suffix('*') {
                Some(word) => (word, " *"),
                None => (word, ""),
            };
            if word.chars().any(char::is_alphanumeric) {
                parts.push(format!("\"{word}\"{star}"));
            }
        }
    }
    (!parts.is_empty()).then(|| parts.join(" "))
}

fn words(text: &str) -> Vec<String> {
    let split = text.split(|c: char| !c.is_alphanumeric());
    split
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

fn snippet(table: &Table, row: &Row, words: &[String]) -> String {
    let texts = || {
        table
            .search
            .iter()
            .filter_map(|name| row.get(*name)?.as_str())
    };
    for text in texts() {
        let text = prefix(text, SEARCH_TEXT_BYTES_MAX);
        let lower = text.to_lowercase();
        let Some(at) = words
            .iter()
            .filter_map(|word| lower.find(word.as_str()))
            .min()
        else {
            continue;
        };
        // Lower case may have other byte lengths; the position is only a hint.
        let before = text.chars().take_while({
            let mut bytes = 0;
            move |c| {
                bytes += c.len_utf8();
                bytes <= at
            }
        });
        let skip = before.count().saturating_sub(SNIPPET_CHARS / 3);
        return text.chars().skip(skip).take(SNIPPET_CHARS).collect();
    }
    texts()
        .next()
        .unwrap_or_default()
        .chars()
        .take(SNIPPET_CHARS)
        .collect()
}

fn prefix(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn no_character_of_a_query_is_an_operator() {
        for (text, expected) in [
            ("plain words", Some("\"plain\" \"words\"")),
            ("a-b OR (c)", Some("\"a-b\" \"OR\" \"(c)\"")),
            ("\"two words\" pre*", Some("\"two words\" \"pre\" *")),
            ("\"open", Some("\"open\"")),
            ("  * -- ", None),
        ] {
            assert_eq!(expression(text).as_deref(), expected, "{text}");
        }
    }

    /// Of a common word the newest hits are ranked; with a filter, or a second word that is
    /// seldom, the oldest is found as ever.
    #[test]
    fn of_a_common_word_the_newest_hits_are_ranked() {
        let mut store = LocalStore::in_memory(0, Random::Seeded(1)).unwrap();
        let rows = |first: u32, count: u32| {
            let row = |at: u32| {
                let text = match at {
                    0 => "common oldest".to_owned(),
                    _ => format!("common {}", "filler ".repeat(20)),
                };
                let row = serde_json::json!({
                    "message_id": format!("m{at}"), "session_id": "s", "role": "user",
                    "message_type": "user", "content": text,
                });
                ("context_messages", row.as_object().unwrap().clone())
            };
            (first..first + count).map(row).collect::<Vec<_>>()
        };
        let first = |store: &mut LocalStore, text: &str, role: Option<&str>| {
            let query = SearchQuery {
                text: text.to_owned(),
                which: Which {
                    role: role.map(str::to_owned),
                    ..Which::default()
                },
                limit: 1,
                ..SearchQuery::default()
            };
            let hits = store.search(&query, 1).unwrap();
            hits[0].row["message_id"].as_str().unwrap().to_owned()
        };
        store
            .ingest(File::Sessions, rows(0, RANKED_MAX), None, 0)
            .unwrap();
        assert_eq!(
            first(&mut store, "common", None),
            "m0",
            "it is the shortest"
        );
        store
            .ingest(File::Sessions, rows(RANKED_MAX, 1), None, 0)
            .unwrap();
        assert_ne!(first(&mut store, "common", None), "m0", "it is too old");
        assert_eq!(first(&mut store, "common oldest", None), "m0");
        assert_eq!(first(&mut store, "common", Some("user")), "m0");
    }

    #[test]
    fn what_is_not_adopted_yet_is_not_indexed() {
        let mut store = LocalStore::in_memory(0, Random::Seeded(1)).unwrap();
        let row = serde_json::json!({"title": "first"});
        let row = row.as_object().unwrap().clone();
        store.insert("org_decisions", "user", row, 0).unwrap();
        let secret = concat!("AKIA", "QX7RT2MW4ZKP9BVN");
        let insert = "insert into decisions (title) values ('key ' || ?1)";
        let org = store.read(File::Org).unwrap();
        org.execute(insert, [secret]).unwrap();
        let found = |store: &LocalStore, word: &str| -> i64 {
            let count = "select count(*) from decisions_fts where decisions_fts match ?1";
            let org = store.read(File::Org).unwrap();
            org.query_row(count, [word], |row| row.get(0)).unwrap()
        };
        assert_eq!(found(&store, "first"), 0, "it waits");
        assert_eq!(store.index_new(File::Org, 3).unwrap(), 0);
        assert_eq!(store.index_new(File::Org, 2).unwrap(), 2);
        assert_eq!((found(&store, "first"), found(&store, "key")), (1, 0));
        store.adopt(File::Org, 0).unwrap();
        assert_eq!((found(&store, secret), found(&store, "key")), (0, 1));
        assert_eq!(store.index_new(File::Org, 1).unwrap(), 0);
    }
}
