//! A look at every row: whether its bytes are those that its hash was made from.

use coditect_core::hash;
use coditect_protocol::catalogue::{Direction, File};
use rusqlite::types::Value as Sql;
use serde::Serialize;

use crate::LocalStore;
use crate::error::{InFile as _, Result};
use crate::{marks, statements};

/// What a check of a file found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Rows that were looked at.
    pub rows: u64,
    /// Acknowledged rows without a mark whose content is not what was acknowledged; marked now.
    pub changed: u64,
    /// Acknowledged rows that are gone without a mark. The next reconciliation brings them back.
    pub missing: u64,
}

const CHUNK_ROWS: i64 = 500;

impl LocalStore {
    /// Recomputes the hash of every row of a file, and marks those that were changed without a
    /// mark: somebody removed it by hand, or the disk lies.
    ///
    /// # Errors
    /// When the database fails.
    pub fn check_rows(&mut self, file: File, now_ms: i64) -> Result<Checked> {
        let mut checked = Checked::default();
        for table in file.tables() {
            let mut after = 0;
            loop {
                let clause = "where seq > ?1 and id is not null order by seq limit ?2";
                let bounds = vec![Sql::Integer(after), Sql::Integer(CHUNK_ROWS)];
                let last = self.write(file, |work| {
                    let rows = statements::select(work.tx, table, clause, bounds).in_file(file)?;
                    for live in &rows {
                        let id = live.id.as_deref().unwrap_or_default();
                        checked.rows += 1;
                        let Some(base) = work.base(table, &live.scope, id)? else {
                            continue;
                        };
                        let seq = Some(live.seq);
                        let mark = marks::of_row(work.tx, table, &live.scope, id, seq);
                        let row = live.canonical(table);
                        let same = hash::content(table, &row) == base.hash;
                        let pushed = table.direction != Direction::Down;
                        if mark.in_file(file)?.is_none() && !same && pushed {
                            checked.changed += 1;
                            let scope = live.scope.as_str();
                            work.put_mark(table, seq, scope, Some(id), "found", now_ms, false)?;
                        }
                    }
                    Ok(rows.last().map(|live| live.seq))
                })?;
                match last {
                    Some(last) => after = last,
                    None => break,
                }
            }
            let sql = format!(
                "select count(*) from sync_base b
                 where b.table_name = ?1 and b.deleted = 0
                   and not exists (select 1 from \"{}\" t where t.id = b.id and t.scope = b.scope)
                   and not exists (select 1 from sync_queue q where q.table_name = b.table_name
                     and q.row_id = b.id)",
                table.local
            );
            let missing: u64 = self
                .read(file)
                .query_row(&sql, [table.cloud], |row| row.get(0))
                .in_file(file)?;
            checked.missing += missing;
        }
        Ok(checked)
    }
}
