//! What the server stores.

use super::token::FileToken;
use coditect_protocol::catalogue::File;
use coditect_protocol::catalogue::{Merge, Table, by_cloud_name};
use coditect_protocol::wire::push::{CounterPart, Loser};
use coditect_protocol::wire::{Op, Row, Stored};
use coditect_protocol::{DeviceId, Epoch, RowId, Scope, UserId, Version};
use serde_json::Value;
use std::collections::BTreeMap;

/// A row's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Stream.
    pub scope: Scope,
    /// Cloud name of the table.
    pub table: &'static str,
    /// Row id.
    pub id: RowId,
}

impl Key {
    /// Returns the catalogue's entry of the table.
    ///
    /// # Panics
    /// When the key was made of another name than the catalogue's.
    #[must_use]
    pub fn table(&self) -> &'static Table {
        by_cloud_name(self.table).expect("keys are made of catalogue names")
    }
}

/// A stored row; a tombstone has no fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Version.
    pub version: Version,
    /// Device that wrote the version.
    pub device: DeviceId,
    /// Device of the first accepted push.
    pub origin: DeviceId,
    /// Author.
    pub user: UserId,
    /// Content hash; of the last content for a tombstone.
    pub hash: String,
    /// Position in the stream.
    pub cursor: i64,
    /// When it was made.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
    /// All columns but counters; none for a tombstone.
    pub fields: Option<Row>,
}

/// A version that lost a conflict.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// The row.
    pub key: Key,
    /// Device whose push met the other version.
    pub pusher: DeviceId,
    /// The losing version.
    pub loser: Loser,
    /// Its content hash.
    pub hash: String,
}

/// Everything that a backup holds.
#[derive(Clone, Debug)]
pub struct Database {
    /// The current life.
    pub epoch: Epoch,
    /// Lives before it, as far as this database knows.
    pub past_epochs: Vec<Epoch>,
    /// Registered devices and their users.
    pub devices: BTreeMap<DeviceId, UserId>,
    /// Highest number given in each stream.
    pub numbers: BTreeMap<Scope, i64>,
    /// The rows.
    pub rows: BTreeMap<Key, Kept>,
    /// Each device's share of each counter.
    pub parts: BTreeMap<(Key, &'static str), BTreeMap<DeviceId, CounterPart>>,
    /// Tokens of the devices' files.
    pub tokens: BTreeMap<(DeviceId, File), FileToken>,
    /// Versions that lost a conflict.
    pub conflicts: Vec<Conflict>,
    /// Contents that each row ever had in this database.
    pub history: BTreeMap<Key, Vec<Row>>,
}

impl Database {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            past_epochs: Vec::new(),
            devices: BTreeMap::new(),
            numbers: BTreeMap::new(),
            rows: BTreeMap::new(),
            parts: BTreeMap::new(),
            tokens: BTreeMap::new(),
            conflicts: Vec::new(),
            history: BTreeMap::new(),
        }
    }

    /// Returns the sum of what the devices added; none when no device ever said anything.
    #[must_use]
    pub fn sum(&self, key: &Key, column: &'static str) -> Option<i64> {
        let parts = self.parts.get(&(*key, column))?;
        Some(parts.values().map(|part| part.total).sum())
    }

    /// Returns a row's columns as readers see them, counters included.
    #[must_use]
    pub fn shown(&self, key: &Key) -> Option<Row> {
        let mut row = self.rows.get(key)?.fields.clone()?;
        for column in key.table().columns_by(Merge::Counter) {
            if let Some(sum) = self.sum(key, column.name) {
                row.insert(column.name.to_owned(), Value::from(sum));
            }
        }
        Some(row)
    }

    /// Returns a row in the form of the wire.
    #[must_use]
    pub fn stored(&self, key: &Key) -> Option<Stored> {
        let kept = self.rows.get(key)?;
        let row = self.shown(key);
        Some(Stored {
            table: key.table.to_owned(),
            id: key.id,
            op: if row.is_some() {
                Op::Upsert
            } else {
                Op::Delete
            },
            version: kept.version,
            device: kept.device,
            origin: kept.origin,
            user_id: Some(kept.user),
            hash: kept.hash.clone(),
            cursor: kept.cursor,
            created_at: kept.created_at.clone(),
            updated_at: kept.updated_at.clone(),
            row,
        })
    }

    /// Returns the rows of a stream's file, in no order that matters.
    pub fn file_rows(&self, scope: Scope, file: File) -> impl Iterator<Item = (&Key, &Kept)> {
        let in_file = move |key: &Key| key.scope == scope && key.table().file == file;
        self.rows.iter().filter(move |(key, _)| in_file(key))
    }

    /// Returns the last position of a stream's file.
    #[must_use]
    pub fn head(&self, scope: Scope, file: File) -> i64 {
        let cursors = self.file_rows(scope, file).map(|(_, kept)| kept.cursor);
        cursors.max().unwrap_or(0)
    }
}
