//! What a simulation does to the files behind the store's back: SQL of other programs, copies of
//! folders, files that are put back. Compiled with the feature `fault-injection` only.

use coditect_protocol::catalogue::{File, TABLES};
use rusqlite::backup::Backup;
use rusqlite::ffi;
use rusqlite::types::Value as Sql;
use serde_json::Value;
use std::time::Duration;

use crate::database::Database;
use crate::error::{Error, InFile as _, Result};
use crate::random::Random;
use crate::{LocalStore, schema, triggers};

/// Pages that a file may have when its disk is not full: SQLite's own limit.
const PAGES_MAX: i64 = 0x3fff_fffe;

impl LocalStore {
    /// Runs statements as another program would: outside of our transactions, seen by the
    /// triggers.
    ///
    /// # Errors
    /// When SQLite refuses a statement.
    pub fn execute_sql(&mut self, file: File, sql: &str) -> Result<()> {
        self.read(file)?.execute_batch(sql).in_file(file)
    }

    /// Returns the rows of a query; blobs as NULL.
    ///
    /// # Errors
    /// When SQLite refuses the query.
    pub fn query_sql(&self, file: File, sql: &str) -> Result<Vec<Vec<Value>>> {
        let connection = self.read(file)?;
        let query = || -> rusqlite::Result<Vec<Vec<Value>>> {
            let mut statement = connection.prepare_cached(sql)?;
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
        let copy = |file: File| -> Result<Option<Database>> {
            let mut database = Database::in_memory(file)?;
            copy_file(self.database(file)?, &mut database)?;
            Ok(Some(database))
        };
        let [org, sessions, projects, platform] = File::ALL;
        Ok(Self {
            folder: None,
            files: [
                copy(org)?,
                copy(sessions)?,
                copy(projects)?,
                copy(platform)?,
            ],
            device: self.device,
            owner: self.owner,
            random: Random::Seeded(seed),
            guards: self.guards,
            stamped: self.stamped,
            fuse: None,
        })
    }

    /// Puts one file of `saved` in the place of this folder's, and opens the folder again.
    ///
    /// # Errors
    /// When SQLite fails, or when opening does.
    pub fn replace_file(mut self, file: File, saved: &Self, now_ms: i64) -> Result<Self> {
        let at = schema::position(file);
        let into = self.files[at].as_mut().ok_or(Error::NotOpen(file))?;
        copy_file(saved.database(file)?, into)?;
        self.stamped[at] = saved.stamped[at];
        self.reopen(now_ms)
    }

    /// Opens the files anew, as the next process does after this one came to its end.
    ///
    /// # Errors
    /// When opening fails.
    pub fn reopen(self, now_ms: i64) -> Result<Self> {
        let stamped = self.stamped;
        let opened = Self::assemble(None, self.files, now_ms, self.random, self.guards)?;
        Ok(Self { stamped, ..opened })
    }

    /// Lets the process end before the commit of a transaction: the next one for 0. What is
    /// called then fails, and so does all after it, until the store is opened anew.
    pub fn end_before_commit(&mut self, transactions: Option<u32>) {
        self.fuse = transactions;
    }

    /// Returns after how many transactions the process ends; none when it does not.
    #[must_use]
    pub fn ends_before_commit(&self) -> Option<u32> {
        self.fuse
    }

    /// Returns whether the process has come to its simulated end.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.fuse == Some(BURNT)
    }

    /// Fills the disk under a file, or makes space again: SQLite itself refuses to let the file
    /// grow.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn fill_disk(&mut self, file: File, full: bool) -> Result<()> {
        let connection = self.read(file)?;
        let limit = if full { 1 } else { PAGES_MAX };
        // A limit below what the file has is taken as what it has.
        connection
            .pragma_update_and_check(None, "max_page_count", limit, |_| Ok(()))
            .in_file(file)
    }

    /// Changes the triggers that belong to guards which are out.
    pub(crate) fn take_out_triggers(&mut self) -> Result<()> {
        let guards = self.guards;
        for table in TABLES {
            let (name, file) = (table.local, table.file);
            let mut sql = String::new();
            if !guards.replaced_rows {
                sql.push_str(&format!("drop trigger if exists \"{name}_replaced\";"));
                sql.push_str(&format!("drop trigger if exists \"{name}_displaced\";"));
            }
            if !guards.key_kept {
                sql.push_str(&format!("drop trigger if exists \"{name}_key_kept\";"));
            }
            if !guards.delete_keeps_key {
                let made = triggers::deleted(table);
                let blind = made.replace(
                    "null, old.scope, old.id, 'delete'",
                    "null, null, null, 'delete'",
                );
                assert_ne!(made, blind, "the trigger copies scope and id");
                sql.push_str(&format!(
                    "drop trigger if exists \"{name}_deleted\";{blind}"
                ));
            }
            self.read(file)?.execute_batch(&sql).in_file(file)?;
        }
        Ok(())
    }
}

/// State of a fuse whose process has ended.
const BURNT: u32 = u32::MAX;

/// Counts a transaction that is about to be committed; fails when the process ends before.
pub(crate) fn burn(fuse: &mut Option<u32>, file: File) -> Result<()> {
    *fuse = match *fuse {
        None => None,
        Some(0 | BURNT) => Some(BURNT),
        Some(left) => Some(left - 1),
    };
    if *fuse != Some(BURNT) {
        return Ok(());
    }
    let error = ffi::Error::new(ffi::SQLITE_INTERRUPT);
    Err(rusqlite::Error::SqliteFailure(error, None)).in_file(file)
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
