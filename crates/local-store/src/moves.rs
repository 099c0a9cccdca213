//! Scope moves: rows that shall belong to another scope. The wish waits in the file, beside the
//! row, which stays where it is until the server has moved it. So nothing has to be undone when
//! the server refuses, and what is written meanwhile is pushed to where the row was.
//!
//! A row that the server never had just changes its scope.

mod answer;
mod ask;
mod late;

pub(crate) use late::retarget;

use coditect_protocol::catalogue::{Direction, File, Table, by_cloud_name};
use rusqlite::{OptionalExtension as _, params};
use serde::Serialize;

use crate::LocalStore;
use crate::adopt::Adopted;
use crate::error::{Error, InFile as _, Result};
use crate::marks::Mark;
use crate::statements::{self, LocalRow};
use crate::work::Work;

/// What became of the wish to move a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// The server moves it at the next sync.
    Queued,
    /// Nobody else has it yet: it is in its new scope.
    Done,
    /// It is there already.
    There,
    /// An earlier wish that was not sent yet is taken back.
    TakenBack,
    /// An earlier wish may have been carried out: sync first.
    InFlight,
    /// Another row of this identity is there already.
    Occupied,
}

/// A row that waits to be moved, or may not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueuedMove {
    /// Number within its file.
    pub n: i64,
    /// File that the row is in.
    pub file: File,
    /// Cloud name of the table.
    pub table: String,
    /// Row id.
    pub id: String,
    /// Scope that it is in, as the file stores it.
    pub from: String,
    /// Scope that it shall be in.
    pub to: String,
    /// `queued` or `parked`.
    pub state: String,
    /// Code of the refusal.
    pub code: Option<String>,
    /// Reason of the refusal.
    pub reason: Option<String>,
    /// When it was asked for.
    pub created_at: String,
}

/// Returns whether rows of the table can be in other scopes than that of their first push.
#[must_use]
pub const fn is_movable(table: &Table) -> bool {
    matches!(table.direction, Direction::Both | Direction::Mirror)
}

impl LocalStore {
    /// Asks for rows of a file (cloud name of the table, scope, id) to be moved to the scope `to`,
    /// all in one transaction. The caller keeps it short by giving a few hundred rows at a time.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] for a table whose rows stay with their device or that is in
    /// another file, [`Error::NoSuchRow`], or when the database fails. Then nothing was changed.
    pub fn share(
        &mut self,
        file: File,
        rows: &[(&str, String, String)],
        to: &str,
        now_ms: i64,
    ) -> Result<Vec<Sharing>> {
        self.adopt_marks(file, now_ms, &mut Adopted::default())?;
        self.write(file, |work| {
            let to = work.normal_scope(to).ok_or(Error::NotBound)?;
            let one = |(table, scope, id): &(&str, String, String)| {
                let table = by_cloud_name(table)
                    .filter(|table| table.file == file && is_movable(table))
                    .ok_or_else(|| Error::UnknownTable((*table).to_owned()))?;
                work.share(table, scope, id, &to, now_ms)
            };
            rows.iter().map(one).collect()
        })
    }

    /// Returns the rows of a file that wait to be moved, and those that may not be, oldest
    /// first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn queued_moves(&self, file: File, limit: u32) -> Result<Vec<QueuedMove>> {
        let connection = self.read(file)?;
        let list = || -> rusqlite::Result<Vec<QueuedMove>> {
            let mut statement = connection.prepare_cached(
                "select n, table_name, id, from_scope, to_scope, state, code, reason, created_at
                 from sync_move order by n limit ?1",
            )?;
            let rows = statement.query_map([limit], |row| {
                Ok(QueuedMove {
                    n: row.get(0)?,
                    file,
                    table: row.get(1)?,
                    id: row.get(2)?,
                    from: row.get(3)?,
                    to: row.get(4)?,
                    state: row.get(5)?,
                    code: row.get(6)?,
                    reason: row.get(7)?,
                    created_at: row.get(8)?,
                })
            })?;
            rows.collect()
        };
        list().in_file(file)
    }

    /// Asks again for the moves that were refused. Returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub fn retry_moves(&mut self, file: File) -> Result<u64> {
        self.write(file, |work| {
            let sql = "update sync_move set state = 'queued', code = null, reason = null,
                         attempts = 0, batch_id = null, not_before_ms = 0
                       where state = 'parked'";
            Ok(work.tx.execute(sql, []).in_file(file)? as u64)
        })
    }
}

impl Work<'_> {
    fn share(
        &mut self,
        table: &'static Table,
        from: &str,
        id: &str,
        to: &str,
        now_ms: i64,
    ) -> Result<Sharing> {
        let live = statements::by_key(self.tx, table, from, id).in_file(self.file)?;
        let Some(live) = live else {
            return Err(Error::NoSuchRow {
                table: table.local,
                id: id.to_owned(),
            });
        };
        if let Some(sent) = self.queued_move(table, id)? {
            if sent {
                return Ok(Sharing::InFlight);
            }
            self.forget_move(table, id)?;
            if from == to {
                return Ok(Sharing::TakenBack);
            }
        }
        if from == to {
            return Ok(Sharing::There);
        }
        let twin = statements::by_key(self.tx, table, to, id).in_file(self.file)?;
        if twin.is_some() {
            return Ok(Sharing::Occupied);
        }
        let known = self.base(table, from, id)?;
        let sent = known.is_some_and(|base| !base.deleted)
            || self.may_be_stored(table, from, id)?
            || self.reconciling;
        if sent {
            self.put_move(table, id, from, to, now_ms)?;
            return Ok(Sharing::Queued);
        }
        self.rescope(table, live, to, now_ms)?;
        Ok(Sharing::Done)
    }

    /// Changes the scope of a row that the server does not have.
    fn rescope(
        &mut self,
        table: &'static Table,
        mut live: LocalRow,
        to: &str,
        now_ms: i64,
    ) -> Result<()> {
        let id = live.id.clone().unwrap_or_default();
        let (seq, from) = (live.seq, live.scope.clone());
        let mark = crate::marks::of_row(self.tx, table, &from, &id, Some(seq));
        let mark = mark.in_file(self.file)?;
        let made_ms = mark.map_or(now_ms, |mark| mark.made_ms(now_ms));
        live.scope = to.to_owned();
        let raw = live.raw.clone();
        statements::write(self.tx, table, &live, &raw).in_file(self.file)?;
        self.forget_marks_of(table, &from, &id, Some(seq))?;
        self.remove_base(table, &from, &id)?;
        self.put_mark(table, Some(seq), to, Some(&id), "update", made_ms, false)?;
        Ok(())
    }

    /// Notes the wish to move a row; an earlier one is forgotten.
    fn put_move(&self, table: &Table, id: &str, from: &str, to: &str, made_ms: i64) -> Result<()> {
        self.forget_move(table, id)?;
        self.tx
            .prepare_cached(
                "insert into sync_move (table_name, id, from_scope, to_scope, created_at)
                 values (?1, ?2, ?3, ?4, ?5)",
            )
            .and_then(|mut statement| {
                let at = coditect_core::canonical::time_from_ms(made_ms);
                statement.execute(params![table.cloud, id, from, to, at])
            })
            .in_file(self.file)?;
        Ok(())
    }

    fn forget_move(&self, table: &Table, id: &str) -> Result<()> {
        self.tx
            .prepare_cached("delete from sync_move where table_name = ?1 and id = ?2")
            .and_then(|mut statement| statement.execute([table.cloud, id]))
            .in_file(self.file)?;
        Ok(())
    }

    /// Returns whether the wish to move the row was sent; none where there is no wish.
    fn queued_move(&self, table: &Table, id: &str) -> Result<Option<bool>> {
        self.tx
            .prepare_cached(
                "select batch_id is not null from sync_move where table_name = ?1 and id = ?2",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([table.cloud, id], |row| row.get(0))
                    .optional()
            })
            .in_file(self.file)
    }

    /// Removes all marks of a row.
    fn forget_marks_of(
        &self,
        table: &Table,
        scope: &str,
        id: &str,
        seq: Option<i64>,
    ) -> Result<()> {
        self.tx
            .prepare_cached(
                "delete from sync_queue where table_name = ?1
                 and (row_seq = ?4 or row_id = ?3 and row_scope = ?2)",
            )
            .and_then(|mut statement| statement.execute(params![table.cloud, scope, id, seq]))
            .in_file(self.file)?;
        Ok(())
    }

    /// Somebody changed the scope of an adopted row by SQL: that is the wish to have it moved.
    /// Until then the row goes back to where it was. Returns it as it is then.
    pub(crate) fn moved_by_sql(
        &mut self,
        table: &'static Table,
        mark: &Mark,
        mut live: LocalRow,
        to: &str,
        id: &str,
        made_ms: i64,
    ) -> Result<LocalRow> {
        let from = self.former_scope(table, id, to)?;
        let Some(from) = from else { return Ok(live) };
        self.put_move(table, id, &from, to, made_ms)?;
        live.scope.clone_from(&from);
        let raw = live.raw.clone();
        statements::write(self.tx, table, &live, &raw).in_file(self.file)?;
        self.tx
            .prepare_cached("update sync_queue set row_scope = ?2 where n = ?1")
            .and_then(|mut statement| statement.execute(params![mark.n, from]))
            .in_file(self.file)?;
        Ok(live)
    }

    /// Returns the scope in which a row was acknowledged that is not there any more.
    fn former_scope(&self, table: &Table, id: &str, but: &str) -> Result<Option<String>> {
        let sql = format!(
            "select b.scope from sync_base b
             where b.table_name = ?1 and b.id = ?2 and b.scope <> ?3 and b.deleted = 0
               and not exists (select 1 from \"{}\" t where t.id = b.id and t.scope = b.scope)
             order by b.version desc limit 1",
            table.local
        );
        self.tx
            .prepare_cached(&sql)
            .and_then(|mut statement| {
                statement
                    .query_row([table.cloud, id, but], |row| row.get(0))
                    .optional()
            })
            .in_file(self.file)
    }
}
