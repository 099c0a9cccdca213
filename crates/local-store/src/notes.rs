//! Secrets in what a file notes beside its rows: states of imports, versions that lost a
//! conflict, reasons and payloads in the queue. And the end of deleted bytes in the file itself.

use coditect_core::redact::{Report, redact_text, redact_value};
use coditect_protocol::catalogue::File;
use rusqlite::types::Value as Sql;
use serde_json::Value;

use crate::LocalStore;
use crate::error::{InFile as _, Result};

/// Tables that hold texts of rows, and are no rows; with their keys.
const TABLES: [(&str, &str); 3] = [
    ("import_state", "source"),
    ("sync_conflicts", "n"),
    ("sync_queue", "n"),
];

impl LocalStore {
    /// Replaces secrets in the notes of a file, unless it is only a rehearsal; returns what was
    /// found.
    ///
    /// # Errors
    /// When the database fails.
    pub fn redact_notes(&mut self, file: File, is_rehearsal: bool) -> Result<Report> {
        let mut report = Report::default();
        let mut changes: Vec<(&str, &str, String, Sql, String)> = Vec::new();
        for (table, key) in TABLES {
            for column in text_columns(self.read(file)?, table).in_file(file)? {
                let sql = format!("select {key}, \"{column}\" from {table}");
                let connection = self.read(file)?;
                let mut statement = connection.prepare(&sql).in_file(file)?;
                let mut rows = statement.query([]).in_file(file)?;
                while let Some(row) = rows.next().in_file(file)? {
                    let Sql::Text(text) = row.get::<_, Sql>(1).in_file(file)? else {
                        continue;
                    };
                    if let Some(redacted) = redacted(&text, &mut report) {
                        let id = row.get(0).in_file(file)?;
                        changes.push((table, key, column.clone(), id, redacted));
                    }
                }
            }
        }
        if is_rehearsal || changes.is_empty() {
            return Ok(report);
        }
        self.write(file, |work| {
            for (table, key, column, id, text) in &changes {
                let sql = format!("update {table} set \"{column}\" = ?1 where {key} = ?2");
                work.tx
                    .execute(&sql, rusqlite::params![text, id])
                    .in_file(file)?;
            }
            Ok(())
        })?;
        Ok(report)
    }

    /// Writes a file anew, so that nothing of what was deleted or changed is left in it or in
    /// its journal. Takes as long as copying it, and as much space.
    ///
    /// # Errors
    /// When the database fails, or somebody else is using the file.
    pub fn forget_deleted(&mut self, file: File) -> Result<()> {
        self.read(file)?
            .execute_batch("vacuum; pragma wal_checkpoint(truncate);")
            .in_file(file)
    }

    /// Empties a file's journal, which has the rows as they were, after secrets were taken out of
    /// them. Where somebody reads just now, they stay until they are overwritten or
    /// [`LocalStore::forget_deleted`].
    pub(crate) fn forget_overwritten(&self, file: File) {
        let is_forgotten = self
            .database(file)
            .and_then(|database| database.empty_log());
        if !matches!(is_forgotten, Ok(true)) {
            tracing::info!(file = %file, "the journal still has rows as they were written");
        }
    }

    /// Returns whether a batch of a file is with the server, its answer not being known.
    ///
    /// # Errors
    /// When the database fails.
    pub fn is_sending(&self, file: File) -> Result<bool> {
        self.read(file)?
            .query_row("select exists (select 1 from sync_batch)", [], |row| {
                row.get(0)
            })
            .in_file(file)
    }
}

fn text_columns(connection: &rusqlite::Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection
        .prepare("select name from pragma_table_info(?1) where lower(type) = 'text' and pk = 0")?;
    let names = statement.query_map([table], |row| row.get(0))?;
    names.collect()
}

/// Returns a text without its secrets; JSON stays JSON. None when there are none.
fn redacted(text: &str, report: &mut Report) -> Option<String> {
    if text.starts_with(['{', '['])
        && let Ok(mut value) = serde_json::from_str::<Value>(text)
    {
        let mut own = Report::default();
        redact_value(&mut value, &mut own);
        report.merge(&own);
        return (!own.is_empty()).then(|| value.to_string());
    }
    match redact_text(text, report) {
        std::borrow::Cow::Borrowed(_) => None,
        std::borrow::Cow::Owned(redacted) => Some(redacted),
    }
}
