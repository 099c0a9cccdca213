//! Rows that have neither a base nor a mark: somebody removed their queue entries by hand. Each
//! sync finds and marks them (PROTOCOL 11).

use coditect_protocol::catalogue::{Direction, File, Table};
use rusqlite::{Connection, params};

use crate::LocalStore;
use crate::error::{InFile as _, Result};

impl LocalStore {
    /// Returns how many rows of a file have neither base nor mark. `converged` needs none.
    ///
    /// # Errors
    /// When the database fails.
    pub fn count_unmarked(&self, file: File) -> Result<u64> {
        let mut count = 0;
        for table in pushed(file) {
            count += unmarked(self.read(file)?, table, i64::MAX)
                .in_file(file)?
                .len() as u64;
        }
        Ok(count)
    }

    /// Marks them, and returns how many there were.
    pub(crate) fn mark_unmarked(&mut self, file: File, now_ms: i64) -> Result<u64> {
        let mut marked = 0;
        for table in pushed(file) {
            if unmarked(self.read(file)?, table, 1)
                .in_file(file)?
                .is_empty()
            {
                continue;
            }
            marked += self.write(file, |work| {
                let found = unmarked(work.tx, table, i64::MAX).in_file(file)?;
                for (seq, scope, id) in &found {
                    let id = id.as_deref();
                    work.put_mark(table, Some(*seq), scope, id, "found", now_ms, false)?;
                }
                Ok(found.len() as u64)
            })?;
        }
        Ok(marked)
    }
}

fn pushed(file: File) -> impl Iterator<Item = &'static Table> {
    file.tables()
        .filter(|table| table.direction != Direction::Down)
}

type Found = (i64, String, Option<String>);

fn unmarked(connection: &Connection, table: &Table, limit: i64) -> rusqlite::Result<Vec<Found>> {
    let sql = format!(
        "select t.seq, t.scope, t.id from \"{}\" t
         where not exists (select 1 from sync_base b where b.table_name = ?1
             and b.scope = t.scope and b.id = t.id and b.deleted = 0)
           and not exists (select 1 from sync_queue q where q.table_name = ?1
             and q.row_seq = t.seq)
           and not exists (select 1 from sync_queue q where q.table_name = ?1
             and q.row_id = t.id and q.row_scope = t.scope)
           and not exists (select 1 from sync_foreign f where f.table_name = ?1
             and f.scope = t.scope and f.id = t.id)
         limit ?2",
        table.local
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![table.cloud, limit], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;
    rows.collect()
}
