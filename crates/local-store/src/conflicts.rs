//! Versions that lost: kept until a person settles them.

use coditect_core::canonical;
use coditect_protocol::catalogue::{File, Table};
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{DeviceId, Version};
use rusqlite::{OptionalExtension as _, params};
use serde::Serialize;

use crate::LocalStore;
use crate::error::{InFile as _, Result};
use crate::work::Work;

/// Why a version was put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Both sides had changed; the other one is stored.
    Concurrent,
    /// A fact was edited here; the first accepted one stays.
    Fact,
    /// Two local rows had the same identity.
    SameIdentity,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Concurrent => "concurrent",
            Self::Fact => "fact",
            Self::SameIdentity => "same_identity",
        }
    }

    fn read(text: &str) -> Self {
        match text {
            "fact" => Self::Fact,
            "same_identity" => Self::SameIdentity,
            _ => Self::Concurrent,
        }
    }
}

/// A version that lost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conflict {
    /// Number within its file.
    pub n: i64,
    /// File that it is in.
    pub file: File,
    /// Cloud name of the table.
    pub table: String,
    /// Scope, as the file stores it.
    pub scope: String,
    /// Row id.
    pub id: String,
    /// Why it was put aside.
    pub kind: Kind,
    /// Whether it deleted the row.
    pub op: Op,
    /// Its version, or the one that was proposed for it.
    pub version: Option<Version>,
    /// Device that wrote it.
    pub device: Option<String>,
    /// Version that is stored instead.
    pub kept_version: Option<Version>,
    /// Its columns; none for a delete.
    pub row: Option<Row>,
    /// When it was put aside.
    pub created_at: String,
    /// When a person settled it.
    pub resolved_at: Option<String>,
}

pub(crate) struct NewConflict<'a> {
    pub(crate) table: &'a Table,
    pub(crate) scope: &'a str,
    pub(crate) id: &'a str,
    pub(crate) kind: Kind,
    pub(crate) op: Op,
    pub(crate) version: Option<Version>,
    pub(crate) device: Option<DeviceId>,
    pub(crate) kept_version: Option<Version>,
    pub(crate) row: Option<&'a Row>,
    pub(crate) at_ms: i64,
}

impl Work<'_> {
    /// Keeps a version that lost; the same one is kept once.
    pub(crate) fn keep_conflict(&self, new: &NewConflict<'_>) -> Result<()> {
        let op = match new.op {
            Op::Upsert => "upsert",
            Op::Delete => "delete",
        };
        let row = new.row.and_then(|row| serde_json::to_string(row).ok());
        let version = new.version.map(Version::to_i64);
        let device = new.device.map(|device| device.to_string());
        let keep = || -> rusqlite::Result<()> {
            let known = self
                .tx
                .prepare_cached(
                    "select 1 from sync_conflicts where table_name = ?1 and id = ?3
                       and scope = ?2 and op = ?4 and version is ?5 and device is ?6
                       and row is ?7",
                )?
                .exists(params![
                    new.table.cloud,
                    new.scope,
                    new.id,
                    op,
                    version,
                    device,
                    row
                ])?;
            if known {
                return Ok(());
            }
            self.tx
                .prepare_cached(
                    "insert into sync_conflicts (table_name, scope, id, kind, op, version,
                       device, kept_version, row, created_at)
                     values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                )?
                .execute(params![
                    new.table.cloud,
                    new.scope,
                    new.id,
                    new.kind.as_str(),
                    op,
                    version,
                    device,
                    new.kept_version.map(Version::to_i64),
                    row,
                    canonical::time_from_ms(new.at_ms)
                ])?;
            Ok(())
        };
        keep().in_file(self.file)
    }
}

const COLUMNS: &str = "n, table_name, scope, id, kind, op, version, device, kept_version, row,
                       created_at, resolved_at";

impl LocalStore {
    /// Returns a file's versions that lost, oldest first; settled ones only if asked for.
    ///
    /// # Errors
    /// When the database fails.
    pub fn conflicts(&self, file: File, settled_too: bool) -> Result<Vec<Conflict>> {
        let sql = format!(
            "select {COLUMNS} from sync_conflicts where ?1 or resolved_at is null order by n"
        );
        let connection = self.read(file)?;
        let list = || -> rusqlite::Result<Vec<Conflict>> {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([settled_too], |row| read(file, row))?;
            rows.collect()
        };
        list().in_file(file)
    }

    /// Returns one version that lost.
    ///
    /// # Errors
    /// When the database fails.
    pub fn conflict(&self, file: File, n: i64) -> Result<Option<Conflict>> {
        let sql = format!("select {COLUMNS} from sync_conflicts where n = ?1");
        self.read(file)?
            .query_row(&sql, [n], |row| read(file, row))
            .optional()
            .in_file(file)
    }

    /// Notes that a person settled it. Returns whether there was such a one, unsettled.
    ///
    /// # Errors
    /// When the database fails.
    pub fn settle_conflict(&mut self, file: File, n: i64, now_ms: i64) -> Result<bool> {
        let at = canonical::time_from_ms(now_ms);
        self.write(file, |work| {
            let sql = "update sync_conflicts set resolved_at = ?2
                       where n = ?1 and resolved_at is null";
            let changed = work.tx.execute(sql, params![n, at]).in_file(file)?;
            Ok(changed > 0)
        })
    }
}

fn read(file: File, row: &rusqlite::Row<'_>) -> rusqlite::Result<Conflict> {
    let kind: String = row.get(4)?;
    let op: String = row.get(5)?;
    let json: Option<String> = row.get(9)?;
    Ok(Conflict {
        n: row.get(0)?,
        file,
        table: row.get(1)?,
        scope: row.get(2)?,
        id: row.get(3)?,
        kind: Kind::read(&kind),
        op: if op == "delete" {
            Op::Delete
        } else {
            Op::Upsert
        },
        version: row.get::<_, Option<i64>>(6)?.map(Version::from_i64),
        device: row.get(7)?,
        kept_version: row.get::<_, Option<i64>>(8)?.map(Version::from_i64),
        row: json.and_then(|text| serde_json::from_str(&text).ok()),
        created_at: row.get(10)?,
        resolved_at: row.get(11)?,
    })
}
