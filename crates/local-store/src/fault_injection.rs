//! What a simulation does to the files behind the store's back: SQL of other programs, copies of
//! folders, files that are put back. Compiled with the feature `fault-injection` only.

use coditect_protocol::catalogue::File;
use rusqlite::backup::Backup;
use rusqlite::types::Value as Sql;
use serde_json::Value;
use std::time::Duration;

use crate::database::Database;
use crate::error::{InFile as _, Result};
use crate::random::Random;
use crate::{LocalStore, schema};

impl LocalStore {
    /// Runs statements as another program would: outside of our transactions, seen by the
    /// triggers.
    ///
    /// # Errors
    /// When SQLite refuses a statement.
    pub fn execute_sql(&mut self, file: File, sql: &str) -> Result<()> {
        self.read(file).execute_batch(sql).in_file(file)
    }

    /// Returns the rows of a query; blobs as NULL.
    ///
    /// # Errors
    /// When SQLite refuses the query.
    pub fn query_sql(&self, file: File, sql: &str) -> Result<Vec<Vec<Value>>> {
        let query = || -> rusqlite::Result<Vec<Vec<Value>>> {
            let mut statement = self.read(file).prepare_cached(sql)?;
            let columns = statement.column_count();
            let rows = statement.query_map([], |row| {
                (0..columns).map(|at| Ok(json(row.get(at)?))).collect()
            })?;
            rows.collect()
        };
        query().in_file(file)
    }

    /// Returns a copy of the folder in memory, as copying its files makes one: the same device,
    /// the same tokens.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn copy(&self, seed: u64) -> Result<Self> {
        let copy = |at: usize| -> Result<Database> {
            let mut database = Database::in_memory(self.files[at].file)?;
            copy_file(&self.files[at], &mut database)?;
            Ok(database)
        };
        Ok(Self {
            folder: None,
            files: [copy(0)?, copy(1)?, copy(2)?, copy(3)?],
            device: self.device,
            owner: self.owner,
            random: Random::Seeded(seed),
            guards: self.guards,
            stamped: self.stamped,
        })
    }

    /// Puts one file of `saved` in the place of this folder's, and opens the folder again.
    ///
    /// # Errors
    /// When SQLite fails, or when opening does.
    pub fn replace_file(mut self, file: File, saved: &Self, now_ms: i64) -> Result<Self> {
        let at = schema::position(file);
        copy_file(&saved.files[at], &mut self.files[at])?;
        let (guards, mut stamped) = (self.guards, self.stamped);
        stamped[at] = saved.stamped[at];
        let opened = Self::assemble(None, self.files, now_ms, self.random)?;
        Ok(Self {
            guards,
            stamped,
            ..opened
        })
    }
}

fn copy_file(from: &Database, to: &mut Database) -> Result<()> {
    let file = to.file;
    let backup = Backup::new(&from.connection, &mut to.connection).in_file(file)?;
    backup
        .run_to_completion(i32::MAX, Duration::ZERO, None)
        .in_file(file)
}

fn json(value: Sql) -> Value {
    match value {
        Sql::Null | Sql::Blob(_) => Value::Null,
        Sql::Integer(number) => Value::from(number),
        Sql::Real(number) => Value::from(number),
        Sql::Text(text) => Value::String(text),
    }
}
