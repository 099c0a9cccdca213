//! Rows of `up` tables that other devices own, fetched by `coditect pull --table`: kept without
//! marks and outside the digest (PROTOCOL 28).

use coditect_protocol::catalogue::{Direction, Table, by_cloud_name};
use coditect_protocol::wire::{Op, Stored};
use coditect_protocol::{DeviceId, Scope, Version};
use rusqlite::params;

use crate::LocalStore;
use crate::error::{Error, InFile as _, Result};
use crate::guards::FileGuard;
use crate::marks;
use crate::work::Work;

impl LocalStore {
    /// Stores rows of an `up` table that other devices own. Own rows and rows with local
    /// changes are left as they are. Returns how many were stored.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] when there is no such `up` table, [`Error::NotBound`] before the
    /// first login, or when the database fails.
    pub fn store_foreign(&mut self, table: &str, scope: Scope, rows: &[Stored]) -> Result<u64> {
        let table = by_cloud_name(table)
            .filter(|table| table.direction == Direction::Up)
            .ok_or_else(|| Error::UnknownTable(table.to_owned()))?;
        let local = scope.to_local(self.owner()?.user.get());
        self.write(table.file, |work| {
            let mut count = 0;
            for stored in rows.iter().filter(|stored| stored.table == table.cloud) {
                count += u64::from(work.put_foreign(table, &local, stored)?);
            }
            Ok(count)
        })
    }
}

impl Work<'_> {
    /// Notes that a row belongs to another device: it is neither compared nor sent.
    pub(crate) fn note_foreign(
        &self,
        table: &Table,
        scope: &str,
        id: &str,
        version: Version,
        device: DeviceId,
        origin: DeviceId,
    ) -> Result<()> {
        self.tx
            .prepare_cached(
                "insert or replace into sync_foreign (table_name, scope, id, version, device,
                   origin)
                 values (?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    table.cloud,
                    scope,
                    id,
                    version.to_i64(),
                    device.to_string(),
                    origin.to_string()
                ])
            })
            .in_file(self.file)?;
        Ok(())
    }

    fn put_foreign(&mut self, table: &Table, scope: &str, stored: &Stored) -> Result<bool> {
        let id = stored.id.to_string();
        let mark = marks::of_row(self.tx, table, scope, &id, None).in_file(self.file)?;
        if mark.is_some() || self.base(table, scope, &id)?.is_some() {
            return Ok(false);
        }
        self.forget_foreign(table, scope, &id)?;
        self.put_stored(table, scope, &id, stored, stored.row.as_ref())?;
        if stored.op == Op::Delete || !FileGuard::ForeignNoted.is_on() {
            return Ok(true);
        }
        self.note_foreign(
            table,
            scope,
            &id,
            stored.version,
            stored.device,
            stored.origin,
        )?;
        Ok(true)
    }

    /// Forgets that a row was foreign.
    pub(crate) fn forget_foreign(&self, table: &Table, scope: &str, id: &str) -> Result<()> {
        if table.direction != Direction::Up {
            return Ok(());
        }
        self.tx
            .prepare_cached(
                "delete from sync_foreign where table_name = ?1 and scope = ?2 and id = ?3",
            )
            .and_then(|mut statement| statement.execute([table.cloud, scope, id]))
            .in_file(self.file)?;
        Ok(())
    }
}
