//! Long values that the server keeps apart from their rows (ADR 0018). A row that was pulled holds
//! their beginnings until they are fetched; what lacks is named by the row itself, in the column
//! for it, so that a body that is still to come is an entry of its own queue: no commit can part
//! the two.

use coditect_core::body;
use coditect_protocol::Scope;
use coditect_protocol::catalogue::{TABLES, Table};
use coditect_protocol::limits::BODY_IN_ROW_BYTES_MAX;
use coditect_protocol::wire::bodies::Body;
use rusqlite::params;
use std::collections::HashMap;

use crate::error::{InFile as _, Result};
use crate::statements;
use crate::work::Work;
use crate::{LocalStore, outgoing};

/// Bytes of bodies stored in one transaction, so that other writers wait milliseconds only; one
/// body may exceed it.
const CHUNK_BYTES: usize = 512 * 1024;

/// How much is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingBodies {
    /// Rows whose long values are not here yet.
    pub down: u64,
    /// Queued rows with long values that the server does not have yet.
    pub up: u64,
}

/// A row that lacks bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LackingRow {
    /// Cloud name of the table.
    pub table: &'static str,
    /// Scope of the row.
    pub scope: Scope,
    /// Row id.
    pub id: String,
    /// Hashes and sizes of what it lacks.
    pub lacks: Vec<(String, u64)>,
    place: (String, i64),
}

/// Where a list of lacking rows went on to; newest rows come first.
#[derive(Clone, Debug, Default)]
pub struct LackingPlace(Option<(String, i64)>);

impl LocalStore {
    /// Returns how many rows wait for long values, in either direction.
    ///
    /// # Errors
    /// When a database fails.
    pub fn pending_bodies(&self) -> Result<PendingBodies> {
        let mut pending = PendingBodies::default();
        for (table, names) in tables() {
            let connection = self.read(table.file)?;
            let down = format!(
                "select count(*) from \"{}\" where \"{names}\" is not null",
                table.local
            );
            let long: Vec<String> = table
                .bodies()
                .map(|column| format!("length(t.\"{}\") > ?2", column.name))
                .collect();
            let up = format!(
                "select count(*) from sync_queue q join \"{}\" t on t.seq = q.row_seq
                 where q.table_name = ?1 and q.state = 'queued' and ({})",
                table.local,
                long.join(" or ")
            );
            let count = || -> rusqlite::Result<(i64, i64)> {
                let down = connection.query_row(&down, [], |row| row.get(0))?;
                let limit = BODY_IN_ROW_BYTES_MAX as i64;
                let up =
                    connection.query_row(&up, params![table.cloud, limit], |row| row.get(0))?;
                Ok((down, up))
            };
            let (down, up) = count().in_file(table.file)?;
            pending.down += down.unsigned_abs();
            pending.up += up.unsigned_abs();
        }
        Ok(pending)
    }

    /// Returns the next rows that lack long values, newest first, until these have `bytes`, or
    /// `rows` are found; moves the place on.
    ///
    /// # Errors
    /// [`crate::Error::NotBound`] before the first login, or when a database fails.
    pub fn lacking_rows(
        &self,
        place: &mut LackingPlace,
        bytes: u64,
        rows: usize,
    ) -> Result<Vec<LackingRow>> {
        let mut found = Vec::new();
        for (table, names) in tables() {
            found.extend(self.lacking_in(table, names, place, (bytes, rows))?);
        }
        if let Some(last) = found.last() {
            place.0 = Some(last.place.clone());
        }
        Ok(found)
    }

    /// Returns the rows of a list of ids that lack long values.
    ///
    /// # Errors
    /// [`crate::Error::NotBound`] before the first login, or when a database fails.
    pub fn lacking_of(&self, table: &str, ids: &[String]) -> Result<Vec<LackingRow>> {
        let Some((table, _)) = tables().find(|(known, _)| known.cloud == table) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for id in ids {
            let connection = self.read(table.file)?;
            let sql = format!("select scope from \"{}\" where id = ?1", table.local);
            let scopes = || -> rusqlite::Result<Vec<String>> {
                let mut statement = connection.prepare_cached(&sql)?;
                let scopes = statement.query_map([id], |row| row.get(0))?;
                scopes.collect()
            };
            for scope in scopes().in_file(table.file)? {
                found.extend(self.lacking(table, &scope, id, (String::new(), 0))?);
            }
        }
        Ok(found)
    }

    fn lacking_in(
        &self,
        table: &'static Table,
        names: &str,
        place: &LackingPlace,
        (bytes, rows): (u64, usize),
    ) -> Result<Vec<LackingRow>> {
        let (at, seq) = place.0.clone().unwrap_or(("~".to_owned(), i64::MAX));
        let sql = format!(
            "select coalesce(coalesce(timestamp, created_at), ''), seq, scope, id from \"{}\"
             where \"{names}\" is not null and id is not null
               and (coalesce(timestamp, created_at), seq) < (?1, ?2)
             order by coalesce(timestamp, created_at) desc, seq desc limit ?3",
            table.local
        );
        let connection = self.read(table.file)?;
        let list = || -> rusqlite::Result<Vec<(String, i64, String, String)>> {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![at, seq, rows as i64], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
            rows.collect()
        };
        let (mut found, mut sum) = (Vec::new(), 0);
        for (at, seq, scope, id) in list().in_file(table.file)? {
            let Some(row) = self.lacking(table, &scope, &id, (at, seq))? else {
                continue;
            };
            sum += row.lacks.iter().map(|(_, bytes)| bytes).sum::<u64>();
            if sum > bytes && !found.is_empty() {
                break;
            }
            found.push(row);
        }
        Ok(found)
    }

    fn lacking(
        &self,
        table: &'static Table,
        scope: &str,
        id: &str,
        place: (String, i64),
    ) -> Result<Option<LackingRow>> {
        let owner = self.owner()?;
        let live = statements::by_key(self.read(table.file)?, table, scope, id);
        let Some(live) = live.in_file(table.file)? else {
            return Ok(None);
        };
        let names = body::names(table, &live.canonical(table));
        let lacks: Vec<_> = names
            .into_iter()
            .map(|(_, name)| (name.hash, name.bytes))
            .collect();
        Ok((!lacks.is_empty()).then_some(LackingRow {
            table: table.cloud,
            scope: outgoing::from_local(table.file, scope, owner)?,
            id: id.to_owned(),
            lacks,
            place,
        }))
    }

    /// Puts bodies into the rows that lack them; returns how many rows are whole now. A body that
    /// is not what its name says is left out.
    ///
    /// # Errors
    /// [`crate::Error::NotBound`] before the first login, or when a database fails.
    pub fn put_bodies(&mut self, rows: &[LackingRow], bodies: &[Body]) -> Result<u64> {
        let owner = self.owner()?;
        let texts: HashMap<&str, &str> = bodies
            .iter()
            .map(|body| (body.hash.as_str(), body.text.as_str()))
            .collect();
        let mut whole = 0;
        let mut rest = rows;
        while let Some(first) = rest.first() {
            let Some(table) = TABLES.iter().find(|table| table.cloud == first.table) else {
                return Ok(whole);
            };
            let mut bytes = 0;
            let fits = |row: &&LackingRow| {
                let size: usize = row
                    .lacks
                    .iter()
                    .filter_map(|(hash, _)| Some(texts.get(hash.as_str())?.len()))
                    .sum();
                let first = bytes == 0;
                bytes += size.max(1);
                row.table == table.cloud && (first || bytes <= CHUNK_BYTES)
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (chunk, others) = rest.split_at(count);
            rest = others;
            whole += self.write(table.file, |work| {
                let mut whole = 0;
                for row in chunk {
                    let scope = row.scope.to_local(owner.user.get());
                    whole += u64::from(work.put_texts(table, &scope, &row.id, &texts)?);
                }
                Ok(whole)
            })?;
        }
        Ok(whole)
    }

    /// Returns whether a row of the own files still lacks a long value.
    #[must_use]
    pub fn lacks_bodies(table: &str, row: &coditect_protocol::wire::Row) -> bool {
        let names = tables().find(|(known, _)| known.cloud == table);
        names.is_some_and(|(_, names)| row.get(names).is_some())
    }
}

impl Work<'_> {
    /// Puts texts into a row; returns whether nothing lacks any more.
    fn put_texts(
        &mut self,
        table: &'static Table,
        scope: &str,
        id: &str,
        texts: &HashMap<&str, &str>,
    ) -> Result<bool> {
        let Some(live) = statements::by_key(self.tx, table, scope, id).in_file(self.file)? else {
            return Ok(false);
        };
        let mut row = live.canonical(table);
        let mut put = false;
        for (column, name) in body::names(table, &row) {
            if let Some(text) = texts.get(name.hash.as_str()) {
                put |= body::join(table, &mut row, column, text);
            }
        }
        if put {
            statements::write(self.tx, table, &live, &row).in_file(self.file)?;
            self.index(table, live.seq, &row)?;
        }
        Ok(put && body::names(table, &row).is_empty())
    }
}

fn tables() -> impl Iterator<Item = (&'static Table, &'static str)> {
    TABLES
        .iter()
        .filter_map(|table| Some((*table, table.body_names()?.name)))
}
