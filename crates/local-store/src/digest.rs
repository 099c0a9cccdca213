//! Digests and canonical rows, for comparing replicas.

use coditect_core::digest::Digest;
use coditect_protocol::catalogue::{Direction, File, Table};
use coditect_protocol::wire::Row;
use coditect_protocol::wire::pull::TableDigest;
use coditect_protocol::{DeviceId, Scope};
use rusqlite::{Connection, params};

use crate::error::{InFile as _, Result};
use crate::{LocalStore, outgoing, statements};

/// A row as replicas are compared by it.
#[derive(Clone, Debug, PartialEq)]
pub struct DumpedRow {
    /// Cloud name of the table.
    pub table: String,
    /// Scope, as on the wire.
    pub scope: String,
    /// Row id.
    pub id: String,
    /// Acknowledged version; 0 for a row that was never acknowledged.
    pub version: u64,
    /// Device that wrote this version; empty for a row that was never acknowledged.
    pub device: String,
    /// Device of the first accepted push.
    pub origin: String,
    /// Content hash, recomputed from the row where there is one.
    pub hash: String,
    /// Whether it is a tombstone.
    pub deleted: bool,
    /// Its columns in canonical form; none for a tombstone, and none for a live base whose row
    /// is missing.
    pub row: Option<Row>,
}

impl LocalStore {
    /// Returns the digest of every table of a file in one stream: `up` tables over the own
    /// device's rows, others over all.
    ///
    /// # Errors
    /// [`crate::Error::NotBound`] before the first login, or when the database fails.
    pub fn digests(&self, file: File, scope: Scope) -> Result<Vec<TableDigest>> {
        let local = scope.to_local(self.owner()?.user.get());
        of(self.read(file)?, file, &local, self.device).in_file(file)
    }

    /// Returns the same sums as [`LocalStore::digests`], by table, made from the bases at this
    /// moment and not taken from what is kept of them. Tables without any row are left out.
    ///
    /// # Errors
    /// [`crate::Error::NotBound`] before the first login, or when the database fails.
    pub fn sums_of_rows(&self, file: File, scope: Scope) -> Result<Vec<(&'static str, Digest)>> {
        let local = scope.to_local(self.owner()?.user.get());
        let connection = self.read(file)?;
        let read = |table: &Table| -> rusqlite::Result<Digest> {
            let mut statement = connection.prepare_cached(
                "select fingerprint, deleted from sync_base
                 where table_name = ?1 and scope = ?2 and (?3 is null or origin = ?3)",
            )?;
            let up = table.direction == Direction::Up;
            let origin = up.then(|| self.device.to_string());
            let mut rows = statement.query(params![table.cloud, local, origin])?;
            let mut sum = Digest::default();
            while let Some(row) = rows.next()? {
                sum.add(row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?);
            }
            Ok(sum)
        };
        let mut sums = Vec::new();
        for table in file.tables() {
            let sum = read(table).in_file(file)?;
            if sum != Digest::default() {
                sums.push((table.cloud, sum));
            }
        }
        Ok(sums)
    }

    /// Returns all rows and tombstones of a file, sorted by table, scope and id. Rows fetched
    /// by [`LocalStore::store_foreign`] are left out.
    ///
    /// # Errors
    /// [`crate::Error::NotBound`] before the first login, or when the database fails.
    pub fn canonical_dump(&self, file: File) -> Result<Vec<DumpedRow>> {
        let owner = self.owner()?;
        let mut dump = Vec::new();
        for table in file.tables() {
            let mut rows = bases(self.read(file)?, table).in_file(file)?;
            rows.extend(unacknowledged(self.read(file)?, table).in_file(file)?);
            for row in &mut rows {
                let live = statements::by_key(self.read(file)?, table, &row.scope, &row.id)
                    .in_file(file)?;
                if let Some(live) = live {
                    let canonical = live.canonical(table);
                    row.hash = coditect_core::hash::content(table, &canonical).to_string();
                    row.row = Some(coditect_core::body::parted(table, canonical));
                }
                row.scope = outgoing::from_local(file, &row.scope, owner)
                    .map_or_else(|_| row.scope.clone(), |scope| scope.to_string());
            }
            dump.extend(rows);
        }
        dump.sort_by(|a, b| (&a.table, &a.scope, &a.id).cmp(&(&b.table, &b.scope, &b.id)));
        Ok(dump)
    }
}

/// Reads the digests of a stream; tables without any row are left out.
pub(crate) fn of(
    connection: &Connection,
    file: File,
    local: &str,
    device: DeviceId,
) -> rusqlite::Result<Vec<TableDigest>> {
    let mut statement = connection.prepare_cached(
        "select rows, count, xor from sync_digest
         where table_name = ?1 and scope = ?2 and (?3 is null or origin = ?3)",
    )?;
    let mut digests = Vec::new();
    for table in file.tables() {
        let origin = (table.direction == Direction::Up).then(|| device.to_string());
        let parts = statement.query_map(params![table.cloud, local, origin], |row| {
            Ok(Digest {
                rows: row.get(0)?,
                count: row.get(1)?,
                xor: row.get::<_, i64>(2)? as u64,
            })
        })?;
        let mut sum = Digest::default();
        for part in parts {
            sum.join(part?);
        }
        if sum != Digest::default() {
            digests.push(TableDigest {
                table: table.cloud.to_owned(),
                rows: sum.rows,
                count: sum.count,
                digest: sum.text(),
            });
        }
    }
    Ok(digests)
}

fn bases(connection: &Connection, table: &Table) -> rusqlite::Result<Vec<DumpedRow>> {
    let mut statement = connection.prepare_cached(
        "select scope, id, version, device, origin, lower(hex(hash)), deleted from sync_base
         where table_name = ?1",
    )?;
    let rows = statement.query_map([table.cloud], |row| {
        Ok(DumpedRow {
            table: table.cloud.to_owned(),
            scope: row.get(0)?,
            id: row.get(1)?,
            version: row.get::<_, i64>(2)? as u64,
            device: row.get(3)?,
            origin: row.get(4)?,
            hash: row.get(5)?,
            deleted: row.get(6)?,
            row: None,
        })
    })?;
    rows.collect()
}

fn unacknowledged(connection: &Connection, table: &Table) -> rusqlite::Result<Vec<DumpedRow>> {
    let sql = format!(
        "select t.scope, t.id from \"{}\" t
         where t.id is not null
           and not exists (select 1 from sync_base b where b.table_name = ?1
             and b.scope = t.scope and b.id = t.id)
           and not exists (select 1 from sync_foreign f where f.table_name = ?1
             and f.scope = t.scope and f.id = t.id)",
        table.local
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([table.cloud], |row| {
        Ok(DumpedRow {
            table: table.cloud.to_owned(),
            scope: row.get(0)?,
            id: row.get(1)?,
            version: 0,
            device: String::new(),
            origin: String::new(),
            hash: String::new(),
            deleted: false,
            row: None,
        })
    })?;
    rows.collect()
}
