//! Local full-text search (FTS5), offline and without a model. The index is kept by our own
//! process at adoption and when rows come in, never by triggers: the writer's SQLite may lack
//! FTS5 (PROTOCOL 13).

use coditect_protocol::catalogue::{File, TABLES, Table};
use coditect_protocol::limits::SEARCH_TEXT_BYTES_MAX;
use coditect_protocol::wire::Row;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params_from_iter};
use serde::Serialize;
use serde_json::Value;

use crate::LocalStore;
use crate::adopt::Adopted;
use crate::error::{Error, InFile as _, Result};
use crate::statements;
use crate::work::Work;

/// Characters of text shown around a hit.
const SNIPPET_CHARS: usize = 160;

/// What to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchQuery {
    /// Words that must all occur; a part in double quotes is a phrase, a final `*` a prefix.
    pub text: String,
    /// Cloud or local names of the tables to search; all searchable ones if empty.
    pub tables: Vec<String>,
    /// Only rows of this session.
    pub session_id: Option<String>,
    /// Only rows of this project.
    pub project_id: Option<String>,
    /// Only messages of this role.
    pub role: Option<String>,
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
}

impl LocalStore {
    /// Searches messages, decisions, learnings, error solutions and tasks; best hits first.
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
                Ok(()) | Err(Error::Busy(_) | Error::NoSpace { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let words = words(&query.text);
        let mut hits = Vec::new();
        for table in tables {
            let found = find(self.read(table.file)?, table, query, &expression);
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
                    });
                }
            }
        }
        hits.sort_by(|a, b| a.rank.total_cmp(&b.rank).then_with(|| a.id.cmp(&b.id)));
        hits.truncate(query.limit as usize);
        Ok(hits)
    }
}

impl Work<'_> {
    /// Puts a row's text into the index, in place of what was there.
    pub(crate) fn index(&self, table: &Table, seq: i64, row: &Row) -> Result<()> {
        if table.search.is_empty() {
            return Ok(());
        }
        self.unindex(table, seq)?;
        let columns = table.search.join(", ");
        let places = vec!["?"; table.search.len()].join(", ");
        let sql = format!(
            "insert into \"{}_fts\" (rowid, {columns}) values (?, {places})",
            table.local
        );
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
        if table.search.is_empty() {
            return Ok(());
        }
        let sql = format!("delete from \"{}_fts\" where rowid = ?1", table.local);
        self.tx
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.execute([seq]))
            .in_file(self.file)?;
        Ok(())
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

/// Returns the rows found in a table, best first. A filter on a column that the table lacks
/// finds nothing there.
fn find(
    connection: &Connection,
    table: &Table,
    query: &SearchQuery,
    expression: &str,
) -> rusqlite::Result<Vec<(i64, f64)>> {
    let name = table.local;
    let mut sql = format!(
        "select t.seq, f.rank from \"{name}_fts\" f join \"{name}\" t on t.seq = f.rowid
         where \"{name}_fts\" match ?"
    );
    let mut parameters = vec![Sql::Text(expression.to_owned())];
    let filters = [
        ("session_id", &query.session_id),
        ("project_id", &query.project_id),
        ("role", &query.role),
    ];
    for (column, wanted) in filters {
        let Some(wanted) = wanted else { continue };
        if table.column(column).is_none() {
            return Ok(Vec::new());
        }
        sql.push_str(&format!(" and t.\"{column}\" = ?"));
        parameters.push(Sql::Text(wanted.clone()));
    }
    sql.push_str(" order by f.rank limit ?");
    parameters.push(Sql::Integer(i64::from(query.limit)));
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(parameters), |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    rows.collect()
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
}
