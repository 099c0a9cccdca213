//! What can still be read of a damaged database and was not sent yet.

use coditect_protocol::catalogue::{File, Table};
use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params, params_from_iter};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

use crate::LocalStore;
use crate::error::{InFile as _, Result};

/// Row numbers that are tried one by one behind a damaged place; then the steps double.
const NEAR: i64 = 256;
/// Columns that belong to the file and not to the row.
const OF_FILE: [&str; 3] = ["seq", "version", "content_hash"];

/// What was saved of a damaged file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Salvaged {
    /// Rows that could be read.
    pub read: u64,
    /// Rows and deletes among them that were not sent and are in the new file now.
    pub saved: u64,
    /// Places that could not be read.
    pub unreadable: u64,
}

/// A mark: table, row number, scope, id.
type Mark = (String, Option<i64>, Option<String>, Option<String>);

struct Damaged {
    connection: Connection,
    /// Whether nobody else has any of its rows.
    is_only: bool,
    /// Marks that could be read.
    marks: Vec<Mark>,
    /// Whether all marks could be read.
    has_all_marks: bool,
}

impl LocalStore {
    /// Takes over from a damaged file, which stays as it is, what can be read and was not sent.
    /// Rows that are here already with the same values are left alone.
    ///
    /// # Errors
    /// When this store's database fails; what of the damaged one cannot be read is counted.
    pub fn salvage(&mut self, damaged: &Path, file: File) -> Result<Salvaged> {
        let mut salvaged = Salvaged::default();
        let Ok(mut from) = open(damaged) else {
            salvaged.unreadable = 1;
            return Ok(salvaged);
        };
        from.is_only = self.owner.is_none();
        for table in file.tables() {
            let columns = columns(&from, self.read(file)?, table).in_file(file)?;
            if columns.is_empty() {
                salvaged.unreadable += 1;
                continue;
            }
            let rows = rows(&from, table, &columns, &mut salvaged);
            self.take_over(file, table, &columns, rows, &mut salvaged)?;
            self.take_deletes(file, table, &from, &mut salvaged)?;
        }
        Ok(salvaged)
    }

    fn take_over(
        &self,
        file: File,
        table: &Table,
        columns: &[String],
        rows: Vec<Vec<Value>>,
        salvaged: &mut Salvaged,
    ) -> Result<()> {
        let name = table.local;
        let same: Vec<_> = columns
            .iter()
            .map(|column| format!("\"{column}\" is ?"))
            .collect();
        let same = format!("select 1 from \"{name}\" where {}", same.join(" and "));
        let places = vec!["?"; columns.len()].join(", ");
        let listed = columns.join("\", \"");
        let insert = format!("insert or replace into \"{name}\" (\"{listed}\") values ({places})");
        // As another program would: the triggers mark it, adoption makes it a row to be sent.
        let tx = self.read(file)?.unchecked_transaction().in_file(file)?;
        for row in rows {
            let known = tx
                .prepare_cached(&same)
                .and_then(|mut known| known.exists(params_from_iter(&row)));
            if known.in_file(file)? {
                continue;
            }
            let put = tx
                .prepare_cached(&insert)
                .and_then(|mut put| put.execute(params_from_iter(&row)));
            // One that the damage made impossible must not keep the others out.
            if put.is_ok() {
                salvaged.saved += 1;
            } else {
                salvaged.unreadable += 1;
            }
        }
        tx.commit().in_file(file)
    }

    fn take_deletes(
        &self,
        file: File,
        table: &Table,
        from: &Damaged,
        salvaged: &mut Salvaged,
    ) -> Result<()> {
        let delete = format!(
            "delete from \"{}\" where scope = ?1 and id = ?2",
            table.local
        );
        for (name, seq, scope, id) in &from.marks {
            if name == table.cloud && seq.is_none() && id.is_some() {
                let gone = self.read(file)?.execute(&delete, params![scope, id]);
                salvaged.saved += gone.in_file(file)? as u64;
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> rusqlite::Result<Damaged> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // Else a file that was cut off is not read at all.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, true)?;
    connection.query_row("select count(*) from sqlite_master", [], |_| Ok(()))?;
    let (mut marks, mut has_all_marks) = (Vec::new(), false);
    if let Ok(mut statement) = connection.prepare(
        "select table_name, row_seq, row_scope, row_id from sync_queue not indexed
         where table_name is not null",
    ) && let Ok(mut rows) = statement.query([])
    {
        has_all_marks = loop {
            match rows.next() {
                Ok(None) => break true,
                Err(_) => break false,
                Ok(Some(row)) => {
                    marks.extend(mark(row).ok());
                }
            }
        };
    }
    Ok(Damaged {
        connection,
        is_only: false,
        marks,
        has_all_marks,
    })
}

fn mark(row: &rusqlite::Row<'_>) -> rusqlite::Result<Mark> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

/// Returns the columns that both files have.
fn columns(from: &Damaged, to: &Connection, table: &Table) -> rusqlite::Result<Vec<String>> {
    let of = |connection: &Connection| -> rusqlite::Result<BTreeSet<String>> {
        let mut statement = connection.prepare("select name from pragma_table_info(?1)")?;
        let names = statement.query_map([table.local], |row| row.get(0))?;
        names.collect()
    };
    let there = of(&from.connection).unwrap_or_default();
    let both = of(to)?.into_iter().filter(|name| there.contains(name));
    Ok(both
        .filter(|name| !OF_FILE.contains(&name.as_str()))
        .collect())
}

/// Reads the rows of a table that were not sent, around the places that cannot be read.
fn rows(
    from: &Damaged,
    table: &Table,
    columns: &[String],
    salvaged: &mut Salvaged,
) -> Vec<Vec<Value>> {
    let listed = columns.join("\", \"");
    let sql = format!(
        "select seq, scope, id, \"{listed}\" from \"{}\" not indexed where seq > ?1 order by seq",
        table.local
    );
    let (mut found, mut at, mut jump, mut failures) = (Vec::new(), 0_i64, 1_i64, 0_i64);
    let Ok(mut statement) = from.connection.prepare(&sql) else {
        salvaged.unreadable += 1;
        return found;
    };
    loop {
        let before = at;
        let mut read = || -> rusqlite::Result<()> {
            let mut rows = statement.query([at])?;
            while let Some(row) = rows.next()? {
                let seq = row.get(0)?;
                let values = (3..columns.len() + 3).map(|column| row.get(column));
                let values = values.collect::<rusqlite::Result<Vec<Value>>>()?;
                salvaged.read += 1;
                if is_unsent(from, table, seq, row.get(1)?, row.get(2)?) {
                    found.push(values);
                }
                at = seq;
            }
            Ok(())
        };
        if read().is_ok() {
            return found;
        }
        if at > before || failures == 0 {
            salvaged.unreadable += 1;
            (failures, jump) = (0, 1);
        }
        failures += 1;
        if failures > NEAR {
            jump = jump.saturating_mul(2);
        }
        let Some(next) = at.checked_add(jump) else {
            return found;
        };
        at = next;
    }
}

fn is_unsent(
    from: &Damaged,
    table: &Table,
    seq: i64,
    scope: Option<String>,
    id: Option<String>,
) -> bool {
    let marked = |(name, of, _, key): &Mark| {
        name == table.cloud && (*of == Some(seq) || key.is_some() && *key == id)
    };
    if from.is_only || !from.has_all_marks || id.is_none() || from.marks.iter().any(marked) {
        return true;
    }
    let sql =
        "select exists (select 1 from sync_base where table_name = ?1 and scope = ?2 and id = ?3)";
    let known = from
        .connection
        .query_row(sql, params![table.cloud, scope, id], |row| row.get(0));
    // Of what cannot be read nobody knows; the server recognises what it has.
    !known.unwrap_or(false)
}
