//! Fills the platform's catalogue: components, capabilities, triggers and relationships, the
//! same for all tenants, written by the operator only (PROTOCOL 30).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use coditect_core::digest::Digest;
use coditect_core::hash::ContentHash;
use coditect_core::merge::Existing;
use coditect_core::{canonical, clock, hash};
use coditect_protocol::catalogue::{Class, TABLES, Table};
use coditect_protocol::wire::Row;
use coditect_protocol::{DeviceId, RowId};
use serde::{Deserialize, Serialize};
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::columns::Array;
use super::held::Held;
use super::{sql, validate};
use crate::StoreError;
use crate::db::{Db, Retryable, SystemTask, SystemTx};

const LOCK: &str = "select n from platform_stream for update";
const ADVANCE: &str = "update platform_stream set n = $1";
const SET_DIGEST: &str = "insert into platform_digests (table_name, rows, count, xor)
    values ($1, $2, $3, $4) on conflict (table_name) do update set
    rows = excluded.rows, count = excluded.count, xor = excluded.xor";

/// A line of the import file: `{"table": "components", "row": {…}}`. The table may be named as
/// on the device or as on the server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    table: String,
    row: Row,
}

/// Why an import was refused; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A line is not what it should be.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The file has no line at all, which would empty the catalogue.
    #[error("the file is empty\nhint: the file must hold the whole catalogue, it replaces all")]
    Empty,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Retryable for ImportError {
    fn is_retry(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retry())
    }
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Rows that are new, or came back.
    pub added: u64,
    /// Rows whose content changed.
    pub changed: u64,
    /// Rows that the file does not have any more.
    pub removed: u64,
    /// Rows that were as the file says already.
    pub unchanged: u64,
}

type Wanted = BTreeMap<&'static str, BTreeMap<RowId, Row>>;

/// Makes the catalogue what `text` says: JSON lines, the full set. A row that is absent becomes
/// a tombstone; importing the same file again changes nothing.
///
/// # Errors
///
/// [`ImportError::Line`] names the first line that is no row of the catalogue.
pub async fn import(db: &Db, text: &str, now: DateTime<Utc>) -> Result<Imported, ImportError> {
    let wanted = &parse(text)?;
    db.system(SystemTask::ImportCatalogue, |mut tx| async move {
        let locked = tx.query_opt(LOCK, &[]).await?.ok_or(StoreError::NotFound)?;
        let mut n: i64 = locked.try_get(0).map_err(StoreError::from)?;
        let mut imported = Imported::default();
        for table in catalogue_tables() {
            let rows = wanted.get(table.cloud);
            replace(&mut tx, table, rows, now, &mut n, &mut imported).await?;
        }
        tx.execute(ADVANCE, &[(&n, Type::INT8)]).await?;
        Ok(imported)
    })
    .await
}

fn catalogue_tables() -> impl Iterator<Item = &'static Table> {
    TABLES
        .iter()
        .copied()
        .filter(|table| table.class == Class::Catalogue)
}

fn parse(text: &str) -> Result<Wanted, ImportError> {
    let mut wanted = Wanted::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let (table, id, row) = parse_line(line).map_err(|reason| ImportError::Line {
            line: index + 1,
            reason,
        })?;
        if wanted
            .entry(table.cloud)
            .or_default()
            .insert(id, row)
            .is_some()
        {
            let reason = "the row appears twice".to_owned();
            return Err(ImportError::Line {
                line: index + 1,
                reason,
            });
        }
    }
    if wanted.is_empty() {
        Err(ImportError::Empty)
    } else {
        Ok(wanted)
    }
}

fn parse_line(line: &str) -> Result<(&'static Table, RowId, Row), String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let named = |table: &&Table| table.cloud == line.table || table.local == line.table;
    let table = catalogue_tables().find(|table| named(table));
    let table = table.ok_or("no table of the catalogue has this name")?;
    let unknown = line.row.keys().find(|name| table.column(name).is_none());
    if let Some(name) = unknown {
        return Err(format!("{} has no column {name}", table.local));
    }
    let row = canonical::row(table, line.row);
    validate::row(table, &row).map_err(|refusal| refusal.reason)?;
    // The device is no part of these keys.
    let id = hash::derived_id(table, &row, DeviceId::new(Uuid::nil()))
        .map_err(|error| error.to_string())?;
    let id = id.ok_or("the table has no natural key")?;
    Ok((table, id, row))
}

/// Makes one table what the file says.
async fn replace(
    tx: &mut SystemTx,
    table: &'static Table,
    wanted: Option<&BTreeMap<RowId, Row>>,
    now: DateTime<Utc>,
    n: &mut i64,
    imported: &mut Imported,
) -> Result<(), StoreError> {
    let mut held = HashMap::new();
    for row in tx.query(&sql::of(table).fetch, &[]).await? {
        let row = Held::read(table, &row)?;
        held.insert(row.id, row);
    }
    let none = BTreeMap::new();
    let wanted = wanted.unwrap_or(&none);
    let ids: BTreeSet<RowId> = wanted.keys().chain(held.keys()).copied().collect();
    let (mut digest, mut changed) = (Digest::default(), Vec::new());
    for id in ids {
        let before = held.get(&id);
        let row = wanted.get(&id);
        let hash = row.map(|row| hash::content(table, row));
        if let Some(before) = before.filter(|before| is_same(before, hash)) {
            imported.unchanged += u64::from(row.is_some());
            digest.add(before.term(table), before.deleted());
            continue;
        }
        count(imported, before, row.is_some());
        *n += 1;
        let after = next(id, before, row, hash, now, *n);
        digest.add(after.term(table), after.deleted());
        changed.push(after);
    }
    write(tx, table, &changed).await?;
    let xor = digest.xor.cast_signed();
    let params: [(&(dyn ToSql + Sync), Type); 4] = [
        (&table.cloud, Type::TEXT),
        (&digest.rows, Type::INT8),
        (&digest.count, Type::INT8),
        (&xor, Type::INT8),
    ];
    tx.execute(SET_DIGEST, &params).await.map(drop)
}

/// Returns whether the stored row is what is wanted; `None` wants a tombstone.
fn is_same(before: &Held, wanted: Option<ContentHash>) -> bool {
    match wanted {
        None => before.deleted(),
        Some(hash) => !before.deleted() && before.existing.hash == hash,
    }
}

const fn count(imported: &mut Imported, before: Option<&Held>, wanted: bool) {
    match (before, wanted) {
        (_, false) => imported.removed += 1,
        (Some(before), true) if !before.deleted() => imported.changed += 1,
        (_, true) => imported.added += 1,
    }
}

fn next(
    id: RowId,
    before: Option<&Held>,
    row: Option<&Row>,
    hash: Option<ContentHash>,
    now: DateTime<Utc>,
    cursor: i64,
) -> Held {
    let nobody = DeviceId::new(Uuid::nil());
    let proposed = clock::propose(now.timestamp_millis(), 0);
    let stored = before.map(|before| before.existing.version);
    let last_hash = before.map(|before| before.existing.hash);
    Held {
        id,
        user: None,
        origin: nobody,
        cursor,
        created_at: before.map_or(now, |before| before.created_at),
        updated_at: now,
        existing: Existing {
            version: clock::mint(proposed, stored),
            device: nobody,
            hash: hash.or(last_hash).unwrap_or(ContentHash([0; 32])),
            row: row.cloned(),
        },
    }
}

async fn write(tx: &mut SystemTx, table: &Table, rows: &[Held]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let own: Vec<Option<&Row>> = rows.iter().map(|row| row.existing.row.as_ref()).collect();
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id.get()).collect();
    let hashes: Vec<&[u8]> = rows
        .iter()
        .map(|row| row.existing.hash.0.as_slice())
        .collect();
    let versions: Vec<i64> = rows
        .iter()
        .map(|row| row.existing.version.to_i64())
        .collect();
    let cursors: Vec<i64> = rows.iter().map(|row| row.cursor).collect();
    let created: Vec<_> = rows.iter().map(|row| row.created_at).collect();
    let updated: Vec<_> = rows.iter().map(|row| row.updated_at).collect();
    let deleted: Vec<_> = rows
        .iter()
        .map(|row| row.deleted().then_some(row.updated_at))
        .collect();
    let mut arrays = vec![Array::extra(&own)];
    arrays.extend(table.columns.iter().map(|column| Array::of(column, &own)));
    let mut params: Vec<crate::db::Param<'_>> = vec![
        (&ids, Type::UUID_ARRAY),
        (&hashes, Type::BYTEA_ARRAY),
        (&versions, Type::INT8_ARRAY),
        (&cursors, Type::INT8_ARRAY),
        (&created, Type::TIMESTAMPTZ_ARRAY),
        (&updated, Type::TIMESTAMPTZ_ARRAY),
        (&deleted, Type::TIMESTAMPTZ_ARRAY),
    ];
    params.extend(arrays.iter().map(Array::param));
    tx.execute(&sql::of(table).upsert, &params).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (usize, String) {
        match parse(text) {
            Err(ImportError::Line { line, reason }) => (line, reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_bad_line_is_named() {
        let row = r#"{"component_id":"c","component_type":"agent","name":"n"}"#;
        let good = &format!(r#"{{"table":"components","row":{row}}}"#);
        assert_eq!(parse(good).unwrap()["platform_components"].len(), 1);
        for (bad, says) in [
            ("{", "EOF"),
            (r#"{"table":"decisions","row":{}}"#, "no table"),
            (
                r#"{"table":"components","row":{"component_id":"d"}}"#,
                "required",
            ),
            (
                r#"{"table":"components","row":{"colour":"red"}}"#,
                "no column colour",
            ),
            (good, "twice"),
        ] {
            let (line, reason) = refused(&format!("{good}\n\n{bad}\n"));
            assert_eq!(line, 3, "{bad}");
            assert!(reason.contains(says), "{reason}");
        }
        assert!(matches!(parse("\n\n"), Err(ImportError::Empty)));
    }
}
