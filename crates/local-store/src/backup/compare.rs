//! What putting a copy back would change.

use coditect_protocol::catalogue::{File, Table};
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use std::path::Path;

use super::{BackupResult, Backups, exists};
use crate::error::InFile as _;
use crate::profile::path_of;

/// What would change in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which of the four files.
    pub file: File,
    /// Local name of the table.
    pub table: &'static str,
    /// Rows that only the backup has.
    pub come_back: u64,
    /// Rows that only the database has. Those that the server has come again with the next sync.
    pub go: u64,
    /// Rows of which the backup has an older version.
    pub older: u64,
    /// Rows of which the backup has a newer one.
    pub newer: u64,
}

impl Backups {
    /// Compares a backup's files with the databases; tables without a difference are left out.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn compare(
        &self,
        databases: &Path,
        id: &str,
        files: &[File],
    ) -> BackupResult<Vec<Difference>> {
        let mut found = Vec::new();
        for file in files {
            let path = path_of(databases, *file);
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags).in_file(*file)?;
            let copy = path_of(&self.path(id), *file);
            let attach = "attach database ?1 as saved";
            connection
                .execute(attach, [copy.to_string_lossy()])
                .in_file(*file)?;
            for table in file.tables().filter(|_| exists(databases, *file)) {
                let difference = of_table(&connection, *file, table).in_file(*file)?;
                let counts = [
                    difference.come_back,
                    difference.go,
                    difference.older,
                    difference.newer,
                ];
                if counts != [0; 4] {
                    found.push(difference);
                }
            }
        }
        Ok(found)
    }
}

fn of_table(
    connection: &Connection,
    file: File,
    table: &'static Table,
) -> rusqlite::Result<Difference> {
    let name = table.local;
    let count =
        |sql: String| -> rusqlite::Result<u64> { connection.query_row(&sql, [], |row| row.get(0)) };
    let only_in = |here: &str, there: &str| {
        count(format!(
            "select count(*) from {here}.\"{name}\" a where not exists
               (select 1 from {there}.\"{name}\" b where b.scope = a.scope and b.id = a.id)"
        ))
    };
    let both = |than: &str| {
        count(format!(
            "select count(*) from saved.\"{name}\" a
             join main.\"{name}\" b on b.scope = a.scope and b.id = a.id
             where a.content_hash is not b.content_hash
               and coalesce(a.updated_at, '') {than} coalesce(b.updated_at, '')"
        ))
    };
    Ok(Difference {
        file,
        table: name,
        come_back: only_in("saved", "main")?,
        go: only_in("main", "saved")?,
        older: both("<")?,
        newer: both(">=")?,
    })
}
