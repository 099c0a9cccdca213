//! The queue as people see it: how much waits, what is parked, and asking for it again.

use coditect_protocol::catalogue::File;
use rusqlite::params;
use serde::Serialize;

use crate::LocalStore;
use crate::error::{InFile as _, Result};

/// State of a file's queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueueState {
    /// Changes that wait to be sent.
    pub queued: u64,
    /// Changes that were refused too often.
    pub parked: u64,
    /// Entries of `sync_queue` that other programs put there; they are left alone.
    pub others: u64,
    /// Time of the oldest change that waits.
    pub oldest: Option<String>,
}

/// A change in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueEntry {
    /// Number of its mark.
    pub n: i64,
    /// File that it is in.
    pub file: File,
    /// Cloud name of the table.
    pub table: String,
    /// Scope, as the file stores it.
    pub scope: Option<String>,
    /// Row id, once adopted.
    pub id: Option<String>,
    /// What the trigger saw: insert, update, delete, replace; for information only.
    pub action: Option<String>,
    /// `queued` or `parked`.
    pub state: String,
    /// Refusals so far.
    pub attempts: u32,
    /// Code of the last refusal.
    pub code: Option<String>,
    /// Reason of the last refusal.
    pub reason: Option<String>,
    /// When the change was made.
    pub created_at: Option<String>,
}

/// Counts in indexes: millions of marks, read one by one, are gigabytes. The plus keeps SQLite from
/// looking for the few of other programs among all that are queued. The oldest is the one with the
/// lowest number.
const QUEUE_STATE: &str = "
    select
      (select count(*) from sync_queue where state = 'queued')
        - (select count(*) from sync_queue where table_name is null and +state = 'queued'),
      (select count(*) from sync_queue where state = 'parked')
        - (select count(*) from sync_queue where table_name is null and +state = 'parked'),
      (select count(*) from sync_queue where table_name is null),
      (select created_at from sync_queue not indexed
       where table_name is not null and state = 'queued' and created_at is not null
       order by n limit 1)";

impl LocalStore {
    /// Returns the state of a file's queue.
    ///
    /// # Errors
    /// When the database fails.
    pub fn queue_state(&self, file: File) -> Result<QueueState> {
        self.read(file)?
            .query_row(QUEUE_STATE, [], |row| {
                Ok(QueueState {
                    queued: row.get(0)?,
                    parked: row.get(1)?,
                    others: row.get(2)?,
                    oldest: row.get(3)?,
                })
            })
            .in_file(file)
    }

    /// Returns a file's changes in the queue, oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn queue_entries(
        &self,
        file: File,
        parked_only: bool,
        limit: u32,
    ) -> Result<Vec<QueueEntry>> {
        let connection = self.read(file)?;
        let list = || -> rusqlite::Result<Vec<QueueEntry>> {
            let mut statement = connection.prepare_cached(
                "select n, table_name, row_scope, row_id, action, state, attempts, code, reason,
                   created_at
                 from sync_queue
                 where table_name is not null and (not ?1 or state = 'parked')
                 order by n limit ?2",
            )?;
            let rows = statement.query_map(params![parked_only, limit], |row| {
                Ok(QueueEntry {
                    n: row.get(0)?,
                    file,
                    table: row.get(1)?,
                    scope: row.get(2)?,
                    id: row.get(3)?,
                    action: row.get(4)?,
                    state: row.get(5)?,
                    attempts: row.get(6)?,
                    code: row.get(7)?,
                    reason: row.get(8)?,
                    created_at: row.get(9)?,
                })
            })?;
            rows.collect()
        };
        list().in_file(file)
    }

    /// Queues parked changes again. Returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub fn retry_parked(&mut self, file: File) -> Result<u64> {
        self.write(file, |work| {
            let sql = "update sync_queue set state = 'queued', attempts = 0, retry_count = 0,
                         code = null, reason = null, adopted = 0, not_before_ms = 0
                       where state = 'parked' and table_name is not null";
            Ok(work.tx.execute(sql, []).in_file(file)? as u64)
        })
    }

    /// Ends the wait of refused changes, so that the next run sends them. Returns how many
    /// waited.
    ///
    /// # Errors
    /// When the database fails.
    pub fn clear_delays(&mut self, file: File) -> Result<u64> {
        self.write(file, |work| {
            let sql = "update sync_queue set not_before_ms = 0 where not_before_ms > 0";
            Ok(work.tx.execute(sql, []).in_file(file)? as u64)
        })
    }

    /// Sets the time of the marks that triggers have made since the last call to `now_ms`. The
    /// triggers know only the wall clock; a simulation has its own.
    #[doc(hidden)]
    pub fn stamp_new_marks(&mut self, file: File, now_ms: i64) -> Result<()> {
        let at = coditect_core::canonical::time_from_ms(now_ms);
        let last = self.stamped[crate::schema::position(file)];
        let highest = self.write(file, |work| {
            let stamp = || -> rusqlite::Result<i64> {
                let sql = "update sync_queue set created_at = ?1 where n > ?2 and adopted = 0";
                work.tx.execute(sql, params![at, last])?;
                let sql = "select coalesce(max(seq), 0) from sqlite_sequence
                           where name = 'sync_queue'";
                work.tx.query_row(sql, [], |row| row.get(0))
            };
            stamp().in_file(file)
        })?;
        self.stamped[crate::schema::position(file)] = highest;
        Ok(())
    }
}
