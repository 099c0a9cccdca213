//! Bases: what the server last acknowledged or sent of each row. Triggers of the file move the
//! digests over them in the statement that changes a base, so that reading one costs nothing.

use coditect_core::digest::term;
use coditect_core::hash::ContentHash;
use coditect_protocol::catalogue::{Merge, Table};
use coditect_protocol::wire::{Op, Row, Stored};
use coditect_protocol::{DeviceId, RowId, Version};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::error::{Error, InFile as _, Result};
use crate::value;
use crate::work::Work;

/// A counter column at the base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counter {
    /// The sum over all devices.
    pub(crate) value: i64,
    /// What this device has added and the server acknowledged.
    pub(crate) own: i64,
}

/// What a dirty row was made from, when the base has moved on since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Version; none if the row was new.
    pub(crate) version: Option<Version>,
    /// Content hash of that version, or of what it deleted; none if it is not known.
    pub(crate) hash: Option<ContentHash>,
    /// Whether the server lost that version: then what is here is an edit of the register, even
    /// if it is the same content.
    pub(crate) lost: bool,
}

impl Edit {
    /// Returns the content that the edit was made from, if the server had it since.
    pub(crate) fn acknowledged(&self) -> Option<ContentHash> {
        self.hash.filter(|_| !self.lost)
    }
}

/// The acknowledged state of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Base {
    pub(crate) version: Version,
    pub(crate) device: DeviceId,
    pub(crate) origin: DeviceId,
    pub(crate) hash: ContentHash,
    pub(crate) deleted: bool,
    pub(crate) created_at: String,
    pub(crate) counters: BTreeMap<String, Counter>,
    pub(crate) maxima: Row,
    /// The reconciliation in which it was last seen.
    pub(crate) generation: i64,
    /// Whether the server was found not to have it.
    pub(crate) lost: bool,
    pub(crate) edit: Option<Edit>,
    /// What came from the server while the row was dirty.
    pub(crate) pulled: Option<Stored>,
}

impl Base {
    /// Makes the base of a row that the server sent. `row` is its content, which a reply leaves
    /// out when it equals what was sent. Own parts of counters are taken from the old base.
    pub(crate) fn of(
        work: &Work<'_>,
        table: &Table,
        stored: &Stored,
        row: Option<&Row>,
        old: Option<&Self>,
    ) -> Result<Self> {
        let empty = Row::new();
        let content = row.unwrap_or(&empty);
        let deleted = stored.op == Op::Delete;
        let elsewhere = match old {
            Some(old) if !old.deleted || deleted => BTreeMap::new(),
            _ => work.counters_elsewhere(table, stored.id)?,
        };
        let counters = table.columns_by(Merge::Counter).map(|column| {
            let before = old.and_then(|old| old.counters.get(column.name)).copied();
            let before = elsewhere.get(column.name).copied().or(before);
            let before = before.unwrap_or_default();
            // A tombstone has no value; the sum comes back with the row.
            let value = if deleted {
                before.value
            } else {
                value::integer(content, column.name)
            };
            let own = before.own;
            (column.name.to_owned(), Counter { value, own })
        });
        Ok(Self {
            version: stored.version,
            device: stored.device,
            origin: stored.origin,
            hash: stored
                .hash
                .parse()
                .map_err(|_| work.corrupt("hash of a row"))?,
            deleted,
            created_at: stored.created_at.clone(),
            counters: counters.collect(),
            maxima: value::maxima(table, content),
            generation: work.generation,
            lost: false,
            edit: None,
            pulled: None,
        })
    }

    /// Returns what this device has added to each counter so far, given the local row: the
    /// acknowledged part and what was added since.
    pub(crate) fn totals(&self, local: &Row) -> BTreeMap<String, i64> {
        let total = |(name, counter): (&String, &Counter)| {
            let added = value::integer(local, name).wrapping_sub(counter.value);
            (name.clone(), counter.own.wrapping_add(added))
        };
        self.counters.iter().map(total).collect()
    }
}

impl Work<'_> {
    /// Returns the error of a stored value that does not read back.
    pub(crate) fn corrupt(&self, what: &'static str) -> Error {
        Error::Corrupt {
            file: self.file,
            what,
        }
    }

    /// Returns a row's base.
    pub(crate) fn base(&self, table: &Table, scope: &str, id: &str) -> Result<Option<Base>> {
        load(self.tx, table, scope, id)
            .in_file(self.file)?
            .map(|read| read.ok_or_else(|| self.corrupt("base")))
            .transpose()
    }

    /// Returns the counters of the latest base that the row has in any scope: one that was moved
    /// takes along what this device added to it.
    fn counters_elsewhere(&self, table: &Table, id: RowId) -> Result<BTreeMap<String, Counter>> {
        if table.columns_by(Merge::Counter).next().is_none() {
            return Ok(BTreeMap::new());
        }
        let found: Option<String> = self
            .tx
            .prepare_cached(
                "select b.counters from sync_cursor c cross join sync_base b
                 where b.table_name = ?1 and b.scope = c.scope and b.id = ?2
                   and b.counters is not null
                 order by b.version desc limit 1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([table.cloud, &id.to_string()], |row| row.get(0))
                    .optional()
            })
            .in_file(self.file)?;
        let read = |text: String| serde_json::from_str(&text);
        let counters = found.map(read).transpose();
        Ok(counters
            .map_err(|_| self.corrupt("base"))?
            .unwrap_or_default())
    }

    /// Writes a row's base; triggers move the digest.
    pub(crate) fn set_base(&self, table: &Table, scope: &str, id: &str, base: &Base) -> Result<()> {
        let row_id: RowId = id.parse().map_err(|_| self.corrupt("id of a base"))?;
        let term = term(
            table.cloud,
            row_id,
            base.version,
            base.device,
            &base.hash,
            base.deleted,
        );
        store(self.tx, table, scope, id, base, term).in_file(self.file)
    }

    /// Returns whether a version was the row's base once: one of the last two dozen.
    pub(crate) fn was_base(
        &self,
        table: &Table,
        scope: &str,
        id: &str,
        version: Version,
    ) -> Result<bool> {
        let (past, wanted) = (self.past(table, scope, id)?, version.to_i64().to_string());
        let mut versions = past.split(' ').filter_map(|it| it.split(':').next());
        Ok(versions.any(|text| text == wanted))
    }

    /// Returns the version of the row's base before the one that it has.
    pub(crate) fn last_base(
        &self,
        table: &Table,
        scope: &str,
        id: &str,
    ) -> Result<Option<Version>> {
        let past = self.past(table, scope, id)?;
        let version = past.split([' ', ':']).next().unwrap_or_default();
        let version: Option<i64> = version.parse().ok();
        Ok(version.map(Version::from_i64))
    }

    /// Returns whether what is here now was made from that content: it was the row's base once,
    /// while no edit waited on top of it.
    pub(crate) fn was_content(
        &self,
        table: &Table,
        scope: &str,
        id: &str,
        hash: &ContentHash,
    ) -> Result<bool> {
        let (past, wanted) = (self.past(table, scope, id)?, hash.to_string());
        let mut contents = past.split(' ').filter_map(|it| it.split(':').nth(1));
        Ok(contents.any(|text| !text.is_empty() && wanted.starts_with(text)))
    }

    /// Returns a row's former bases: the version of each, and half of the hash of those that were
    /// what is here at that time.
    fn past(&self, table: &Table, scope: &str, id: &str) -> Result<String> {
        let past: Option<String> = self
            .tx
            .prepare_cached(
                "select past from sync_base where table_name = ?1 and scope = ?2 and id = ?3",
            )
            .and_then(|mut statement| {
                let past = statement.query_row([table.cloud, scope, id], |row| row.get(0));
                past.optional()
            })
            .in_file(self.file)?
            .flatten();
        Ok(past.unwrap_or_default())
    }

    /// Removes a row's base.
    pub(crate) fn remove_base(&self, table: &Table, scope: &str, id: &str) -> Result<()> {
        self.tx
            .prepare_cached(
                "delete from sync_base where table_name = ?1 and scope = ?2 and id = ?3",
            )
            .and_then(|mut statement| statement.execute([table.cloud, scope, id]))
            .in_file(self.file)?;
        Ok(())
    }
}

fn store(
    tx: &Connection,
    table: &Table,
    scope: &str,
    id: &str,
    base: &Base,
    term: u64,
) -> rusqlite::Result<()> {
    let json = |empty: bool, text: Result<String, serde_json::Error>| {
        if empty { None } else { text.ok() }
    };
    let edit = base.edit.as_ref();
    let pulled = base.pulled.as_ref();
    tx.prepare_cached(
        "insert into sync_base (table_name, scope, id, version, device, origin, hash,
           fingerprint, deleted, created_at, counters, maxima, generation, lost, edit_version,
           edit_hash, pulled, edit_lost)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
         on conflict (table_name, scope, id) do update set version = ?4, device = ?5,
           origin = ?6, hash = ?7, fingerprint = ?8, deleted = ?9, created_at = ?10,
           counters = ?11, maxima = ?12, generation = ?13, lost = ?14, edit_version = ?15,
           edit_hash = ?16, pulled = ?17, edit_lost = ?18,
           past = case when version = ?4 then past else substr(
             version || case when edit_version is null
               then ':' || lower(hex(substr(hash, 1, 8))) else '' end
             || coalesce(' ' || past, ''), 1, 900) end",
    )?
    .execute(params![
        table.cloud,
        scope,
        id,
        base.version.to_i64(),
        base.device.to_string(),
        base.origin.to_string(),
        base.hash.0,
        term as i64,
        base.deleted,
        base.created_at,
        json(
            base.counters.is_empty(),
            serde_json::to_string(&base.counters)
        ),
        json(base.maxima.is_empty(), serde_json::to_string(&base.maxima)),
        base.generation,
        base.lost,
        edit.map(|edit| edit.version.map_or(0, Version::to_i64)),
        edit.and_then(|edit| edit.hash).map(|hash| hash.0),
        pulled.and_then(|stored| serde_json::to_string(stored).ok()),
        edit.is_some_and(|edit| edit.lost),
    ])?;
    Ok(())
}

/// Reads a base; the inner none says that it does not read back.
fn load(
    tx: &Connection,
    table: &Table,
    scope: &str,
    id: &str,
) -> rusqlite::Result<Option<Option<Base>>> {
    tx.prepare_cached(
        "select version, device, origin, hash, deleted, created_at, counters, maxima,
           generation, lost, edit_version, edit_hash, pulled, edit_lost
         from sync_base where table_name = ?1 and scope = ?2 and id = ?3",
    )?
    .query_row([table.cloud, scope, id], |row| Ok(read(row).ok()))
    .optional()
}

fn read(row: &rusqlite::Row<'_>) -> Result<Base, Box<dyn std::error::Error>> {
    let hash: [u8; 32] = row.get(3)?;
    let counters: Option<String> = row.get(6)?;
    let maxima: Option<String> = row.get(7)?;
    let edit_version: Option<i64> = row.get(10)?;
    let edit_hash: Option<[u8; 32]> = row.get(11)?;
    let pulled: Option<String> = row.get(12)?;
    let edit_lost: bool = row.get(13)?;
    Ok(Base {
        version: Version::from_i64(row.get(0)?),
        device: row.get::<_, String>(1)?.parse()?,
        origin: row.get::<_, String>(2)?.parse()?,
        hash: ContentHash(hash),
        deleted: row.get(4)?,
        created_at: row.get(5)?,
        counters: counters.map_or(Ok(BTreeMap::new()), |text| serde_json::from_str(&text))?,
        maxima: maxima.map_or(Ok(Row::new()), |text| serde_json::from_str(&text))?,
        generation: row.get(8)?,
        lost: row.get(9)?,
        edit: edit_version.map(|version| Edit {
            version: (version != 0).then(|| Version::from_i64(version)),
            hash: edit_hash.map(ContentHash),
            lost: edit_lost,
        }),
        pulled: pulled.map(|text| serde_json::from_str(&text)).transpose()?,
    })
}
