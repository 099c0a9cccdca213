//! The marks in `sync_queue`: one per dirty row, written by the triggers and by our own
//! transactions.

use coditect_core::canonical;
use coditect_protocol::ErrorCode;
use coditect_protocol::catalogue::Table;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::error::{InFile as _, Result};
use crate::triggers::event;
use crate::work::Work;

/// Action of a mark that a reconciliation made: the row goes out under its old version.
pub(crate) const RECONCILE: &str = "reconcile";

/// A mark.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mark {
    pub(crate) n: i64,
    pub(crate) table: String,
    pub(crate) row_seq: Option<i64>,
    pub(crate) scope: String,
    pub(crate) id: Option<String>,
    pub(crate) action: String,
    pub(crate) created_at: Option<String>,
    pub(crate) gone_seq: Option<i64>,
}

impl Mark {
    /// Columns that [`Mark::read`] reads.
    pub(crate) const COLUMNS: &'static str =
        "n, table_name, row_seq, row_scope, row_id, action, created_at, gone_seq";

    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            n: row.get(0)?,
            table: row.get(1)?,
            row_seq: row.get(2).unwrap_or(None),
            scope: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
            id: row.get::<_, Option<String>>(4).unwrap_or(None),
            action: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
            created_at: row.get(6).unwrap_or(None),
            gone_seq: row.get(7).unwrap_or(None),
        })
    }

    /// Returns when the change was made, in milliseconds since 1970; `now_ms` if the mark does
    /// not say.
    pub(crate) fn made_ms(&self, now_ms: i64) -> i64 {
        let made = self.created_at.as_deref().and_then(canonical::ms_from_time);
        made.unwrap_or(now_ms)
    }
}

/// Returns the `seq` of the row that a mark is about, if it is there and names one.
pub(crate) fn seq_of(tx: &Connection, n: i64) -> rusqlite::Result<Option<i64>> {
    let seq = tx
        .prepare_cached("select row_seq from sync_queue where n = ?1")?
        .query_row([n], |row| Ok(row.get(0).unwrap_or(None)))
        .optional()?;
    Ok(seq.flatten())
}

/// Returns the mark of a row: by its key, or by its `seq`.
pub(crate) fn of_row(
    tx: &Connection,
    table: &Table,
    scope: &str,
    id: &str,
    seq: Option<i64>,
) -> rusqlite::Result<Option<Mark>> {
    let by_key = format!(
        "select {} from sync_queue where table_name = ?1 and row_id = ?3 and row_scope = ?2
         order by n desc limit 1",
        Mark::COLUMNS
    );
    let found = tx
        .prepare_cached(&by_key)?
        .query_row([table.cloud, scope, id], Mark::read)
        .optional()?;
    let (None, Some(seq)) = (&found, seq) else {
        return Ok(found);
    };
    let by_seq = format!(
        "select {} from sync_queue where table_name = ?1 and row_seq = ?2 limit 1",
        Mark::COLUMNS
    );
    tx.prepare_cached(&by_seq)?
        .query_row(params![table.cloud, seq], Mark::read)
        .optional()
}

impl Work<'_> {
    /// Removes the mark with that number, if it is still there.
    pub(crate) fn remove_mark(&self, n: i64) -> Result<bool> {
        let removed = self
            .tx
            .prepare_cached("delete from sync_queue where n = ?1")
            .and_then(|mut statement| statement.execute([n]))
            .in_file(self.file)?;
        Ok(removed > 0)
    }

    /// Marks a row anew, as a trigger would. An adopted mark is ready to be sent.
    #[expect(
        clippy::too_many_arguments,
        reason = "these are the columns of a mark; a struct would only repeat them"
    )]
    pub(crate) fn put_mark(
        &self,
        table: &Table,
        seq: Option<i64>,
        scope: &str,
        id: Option<&str>,
        action: &str,
        made_ms: i64,
        adopted: bool,
    ) -> Result<i64> {
        let clear = || -> rusqlite::Result<()> {
            self.tx
                .prepare_cached("delete from sync_queue where table_name = ?1 and row_seq = ?2")?
                .execute(params![table.cloud, seq])?;
            self.tx
                .prepare_cached(
                    "delete from sync_queue
                     where table_name = ?1 and row_id = ?2 and row_scope = ?3",
                )?
                .execute(params![table.cloud, id, scope])?;
            Ok(())
        };
        clear().in_file(self.file)?;
        self.add_mark(table, seq, scope, id, action, made_ms, adopted)
    }

    /// Marks a row that has no mark, which the caller has seen.
    #[expect(
        clippy::too_many_arguments,
        reason = "these are the columns of a mark; a struct would only repeat them"
    )]
    pub(crate) fn add_mark(
        &self,
        table: &Table,
        seq: Option<i64>,
        scope: &str,
        id: Option<&str>,
        action: &str,
        made_ms: i64,
        adopted: bool,
    ) -> Result<i64> {
        let put = || -> rusqlite::Result<i64> {
            self.tx
                .prepare_cached(
                    "insert into sync_queue (event_type, table_name, row_seq, row_scope, row_id,
                       action, created_at, adopted) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    event(table),
                    table.cloud,
                    seq,
                    scope,
                    id,
                    action,
                    canonical::time_from_ms(made_ms),
                    adopted
                ])?;
            Ok(self.tx.last_insert_rowid())
        };
        put().in_file(self.file)
    }

    /// Says what a mark stands for now; its number stays.
    pub(crate) fn adopt_mark(&self, n: i64, seq: Option<i64>, scope: &str, id: &str) -> Result<()> {
        self.tx
            .prepare_cached(
                "update sync_queue set row_seq = ?2, row_scope = ?3, row_id = ?4, adopted = 1
                 where n = ?1",
            )
            .and_then(|mut statement| statement.execute(params![n, seq, scope, id]))
            .in_file(self.file)?;
        Ok(())
    }

    /// Makes a mark that of a removed row's key, still to be adopted.
    pub(crate) fn aim_mark(&self, n: i64, scope: &str, id: &str) -> Result<()> {
        self.tx
            .prepare_cached(
                "update sync_queue set row_seq = null, row_scope = ?2, row_id = ?3 where n = ?1",
            )
            .and_then(|mut statement| statement.execute(params![n, scope, id]))
            .in_file(self.file)?;
        Ok(())
    }

    /// Takes a mark out of the queue until a person asks for it again or the row changes.
    pub(crate) fn park(&self, n: i64, code: &str, reason: &str) -> Result<()> {
        self.tx
            .prepare_cached(
                "update sync_queue set state = 'parked', code = ?2, reason = ?3, batch_id = null
                 where n = ?1",
            )
            .and_then(|mut statement| statement.execute(params![n, code, reason]))
            .in_file(self.file)?;
        Ok(())
    }

    /// Returns whether the server may have a state of the row that no answer has told of yet.
    pub(crate) fn may_be_stored(&self, table: &Table, scope: &str, id: &str) -> Result<bool> {
        Ok(self.guards.in_flight && self.in_flight(table, scope, id)?)
    }

    /// Returns whether the row is part of the batch that waits for its answer.
    fn in_flight(&self, table: &Table, scope: &str, id: &str) -> Result<bool> {
        self.tx
            .prepare_cached(
                "select 1 from sync_batch_mark
                 where table_name = ?1 and id = ?3 and scope = ?2",
            )
            .and_then(|mut statement| statement.exists([table.cloud, scope, id]))
            .in_file(self.file)
    }
}

/// Code under which a row is parked whose scope was changed though its table allows no moves.
pub const SCOPE_MOVE: &str = "scope_move_refused";

/// Returns why a row of a table that only comes down is parked.
pub(crate) fn down_only(table: &Table) -> (&'static str, String) {
    let reason = format!("table '{}' comes from the server only", table.local);
    (ErrorCode::DirectionRefused.as_str(), reason)
}
