//! What a database holds, as counts and one digest over all rows of all tables.

use coditect_core::hex::hex;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// What a database holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) tables: BTreeMap<String, u64>,
    pub(super) digest: String,
}

/// Reads every row of every table, also those that search keeps.
pub(super) fn of(connection: &Connection) -> rusqlite::Result<Content> {
    let mut tables = BTreeMap::new();
    let mut hash = Sha256::new();
    for name in names(connection)? {
        // Without an index the rows come in the order of their keys.
        let sql = format!("select * from \"{name}\" not indexed");
        let mut statement = connection.prepare(&sql)?;
        let columns = statement.column_count();
        put(&mut hash, b't', name.as_bytes());
        let (mut rows, mut count) = (statement.query([])?, 0_u64);
        while let Some(row) = rows.next()? {
            count += 1;
            for column in 0..columns {
                match row.get_ref(column)? {
                    ValueRef::Null => put(&mut hash, b'n', &[]),
                    ValueRef::Integer(number) => put(&mut hash, b'i', &number.to_le_bytes()),
                    ValueRef::Real(number) => put(&mut hash, b'r', &number.to_bits().to_le_bytes()),
                    ValueRef::Text(text) => put(&mut hash, b's', text),
                    ValueRef::Blob(bytes) => put(&mut hash, b'b', bytes),
                }
            }
        }
        tables.insert(name, count);
    }
    Ok(Content {
        tables,
        digest: hex(&hash.finalize()),
    })
}

fn put(hash: &mut Sha256, kind: u8, bytes: &[u8]) {
    hash.update([kind]);
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "select name from sqlite_master
         where type = 'table' and lower(sql) not like 'create virtual%' order by name",
    )?;
    let names = statement.query_map([], |row| row.get(0))?;
    names.collect()
}
