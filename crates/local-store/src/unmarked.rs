//! Rows that have neither a base nor a mark: somebody removed their queue entries by hand. Each
//! sync finds and marks them (PROTOCOL 11). Of a table of millions it looks at the next slice, so
//! that no sync waits for a look at all of it; where it ended is kept in the file.

use coditect_protocol::catalogue::{Direction, File, Table};
use rusqlite::{Connection, params};

use crate::LocalStore;
use crate::database::{meta, set_meta};
use crate::error::{InFile as _, Result};

/// Rows of a table that one sync looks at.
const SLICE_ROWS: i64 = 50_000;

impl LocalStore {
    /// Returns how many rows of a file have neither base nor mark: of a large table, among those
    /// that the next sync will look at. `converged` needs none.
    ///
    /// # Errors
    /// When the database fails.
    pub fn count_unmarked(&self, file: File) -> Result<u64> {
        let mut count = 0;
        for table in pushed(file) {
            let connection = self.read(file)?;
            let slice = next_slice(connection, table).in_file(file)?;
            count += unmarked(connection, table, &slice, i64::MAX)
                .in_file(file)?
                .len() as u64;
        }
        Ok(count)
    }

    /// Marks them, and returns how many there were.
    pub(crate) fn mark_unmarked(&mut self, file: File, now_ms: i64) -> Result<u64> {
        let mut marked = 0;
        for table in pushed(file) {
            let connection = self.read(file)?;
            let slice = next_slice(connection, table).in_file(file)?;
            let found = unmarked(connection, table, &slice, 1).in_file(file)?;
            if found.is_empty() && slice.is_all() {
                continue;
            }
            marked += self.write(file, |work| {
                let found = unmarked(work.tx, table, &slice, i64::MAX).in_file(file)?;
                for (seq, scope, id) in &found {
                    let id = id.as_deref();
                    work.put_mark(table, Some(*seq), scope, id, "found", now_ms, false)?;
                }
                let next = if slice.ends { 0 } else { slice.to };
                set_meta(work.tx, &place(table), &next.to_string()).in_file(file)?;
                Ok(found.len() as u64)
            })?;
        }
        Ok(marked)
    }
}

/// Some rows of a table, by their `seq`.
struct Slice {
    /// Behind this one.
    from: i64,
    /// Up to this one.
    to: i64,
    /// Whether nothing is behind them.
    ends: bool,
}

impl Slice {
    fn is_all(&self) -> bool {
        self.from == 0 && self.ends
    }
}

fn place(table: &Table) -> String {
    format!("unmarked:{}", table.cloud)
}

/// Returns the rows that are to be looked at next.
fn next_slice(connection: &Connection, table: &Table) -> rusqlite::Result<Slice> {
    let from = meta(connection, &place(table))?.and_then(|text| text.parse().ok());
    let from: i64 = from.unwrap_or(0);
    let sql = format!(
        "select coalesce(max(seq), 0), count(*) from (
           select seq from \"{}\" where seq > ?1 order by seq limit ?2)",
        table.local
    );
    let (to, rows): (i64, i64) = connection
        .prepare_cached(&sql)?
        .query_row([from, SLICE_ROWS], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let ends = rows < SLICE_ROWS;
    Ok(Slice {
        from,
        to: if ends { i64::MAX } else { to },
        ends,
    })
}

fn pushed(file: File) -> impl Iterator<Item = &'static Table> {
    file.tables()
        .filter(|table| table.direction != Direction::Down)
}

type Found = (i64, String, Option<String>);

fn unmarked(
    connection: &Connection,
    table: &Table,
    slice: &Slice,
    limit: i64,
) -> rusqlite::Result<Vec<Found>> {
    let sql = format!(
        "select t.seq, t.scope, t.id from \"{}\" t
         where t.seq > ?3 and t.seq <= ?4
           and not exists (select 1 from sync_base b where b.table_name = ?1
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
    // A number below 1 may have been given by hand.
    let from = if slice.from == 0 {
        i64::MIN
    } else {
        slice.from
    };
    let rows = statement.query_map(params![table.cloud, limit, from, slice.to], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;
    rows.collect()
}
