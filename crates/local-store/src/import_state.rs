//! How far each transcript was read, kept in the transaction that stores what was read.

use coditect_core::canonical;
use coditect_protocol::catalogue::File;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::Value;

use crate::LocalStore;
use crate::error::{InFile as _, Result};

/// State of one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportState {
    /// Name of the source, its path as a rule.
    pub source: String,
    /// Bytes that were read; the start of the next line.
    pub bytes_read: u64,
    /// Hash of those bytes; when it does not match any more, the source is read from 0.
    pub prefix_hash: Option<String>,
    /// What the reader needs to go on, such as ordinals of equal records.
    pub state: Value,
}

impl LocalStore {
    /// Prepares the sessions file for writing much, or for little again: more memory, fewer waits
    /// for the disk.
    ///
    /// # Errors
    /// When the database fails.
    pub fn set_bulk(&self, on: bool) -> Result<()> {
        self.database(File::Sessions)?.set_bulk(on)
    }

    /// Returns the state of a source.
    ///
    /// # Errors
    /// When the database fails.
    pub fn import_state(&self, source: &str) -> Result<Option<ImportState>> {
        get(self.read(File::Sessions)?, source)
    }
}

pub(crate) fn get(connection: &Connection, source: &str) -> Result<Option<ImportState>> {
    let read = |row: &rusqlite::Row<'_>| {
        let state: Option<String> = row.get(2)?;
        Ok(ImportState {
            source: source.to_owned(),
            bytes_read: row.get::<_, i64>(0)?.max(0) as u64,
            prefix_hash: row.get(1)?,
            state: state
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or(Value::Null),
        })
    };
    connection
        .prepare_cached("select bytes_read, prefix_hash, state from import_state where source = ?1")
        .and_then(|mut statement| statement.query_row([source], read).optional())
        .in_file(File::Sessions)
}

pub(crate) fn put(connection: &Connection, state: &ImportState, now_ms: i64) -> Result<()> {
    connection
        .prepare_cached(
            "insert into import_state (source, bytes_read, prefix_hash, state, updated_at)
             values (?1, ?2, ?3, ?4, ?5)
             on conflict (source) do update set bytes_read = excluded.bytes_read,
               prefix_hash = excluded.prefix_hash, state = excluded.state,
               updated_at = excluded.updated_at",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                state.source,
                i64::try_from(state.bytes_read).unwrap_or(i64::MAX),
                state.prefix_hash,
                state.state.to_string(),
                canonical::time_from_ms(now_ms)
            ])
        })
        .in_file(File::Sessions)?;
    Ok(())
}
