//! A row as the database holds it, with its place in the stream.

use chrono::{DateTime, Utc};
use coditect_core::digest;
use coditect_core::hash::ContentHash;
use coditect_core::merge::Existing;
use coditect_protocol::catalogue::Table;
use coditect_protocol::wire::{Op, Row, Stored};
use coditect_protocol::{DeviceId, RowId, UserId, Version};
use tokio_postgres::Row as DbRow;
use uuid::Uuid;

use super::columns;
use super::sql::EXTRA_POSITION;
use crate::StoreError;

/// A stored row.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) id: RowId,
    /// Author; none in the platform's catalogue.
    pub(super) user: Option<Uuid>,
    pub(super) origin: DeviceId,
    pub(super) cursor: i64,
    pub(super) created_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
    /// Version, device, hash and columns.
    pub(super) existing: Existing,
}

impl Held {
    /// Reads what the statements of [`super::sql::TableSql`] return.
    pub(super) fn read(table: &'static Table, row: &DbRow) -> Result<Self, StoreError> {
        let id: Uuid = row.try_get(0)?;
        let device: Option<Uuid> = row.try_get(2)?;
        let origin: Option<Uuid> = row.try_get(3)?;
        let hash: &[u8] = row.try_get(4)?;
        let hash = hash.try_into().map_err(|_| StoreError::Corrupt {
            table: table.cloud,
            row: id.to_string(),
        })?;
        let deleted: bool = row.try_get(9)?;
        let own = if deleted {
            None
        } else {
            Some(columns::read(table, row, EXTRA_POSITION)?)
        };
        Ok(Self {
            id: RowId::new(id),
            user: row.try_get(1)?,
            origin: DeviceId::new(origin.unwrap_or_default()),
            cursor: row.try_get(6)?,
            created_at: row.try_get::<_, Option<_>>(7)?.unwrap_or_default(),
            updated_at: row.try_get::<_, Option<_>>(8)?.unwrap_or_default(),
            existing: Existing {
                version: Version::from_i64(row.try_get(5)?),
                device: DeviceId::new(device.unwrap_or_default()),
                hash: ContentHash(hash),
                row: own,
            },
        })
    }

    /// Returns whether it is a tombstone.
    pub(super) const fn deleted(&self) -> bool {
        self.existing.row.is_none()
    }

    /// Returns the row's term in the digest.
    pub(super) fn term(&self, table: &Table) -> u64 {
        let Existing {
            version,
            device,
            hash,
            ..
        } = &self.existing;
        digest::term(
            table.cloud,
            self.id,
            *version,
            *device,
            hash,
            self.deleted(),
        )
    }

    /// Returns the row as it travels, with its columns.
    pub(super) fn into_stored(mut self, table: &Table) -> Stored {
        let place = self.place(table);
        Stored {
            row: self.existing.row.take(),
            ..place
        }
    }

    /// Returns the row as it travels in the reply to a push that sent `sent`: with its columns
    /// only where they differ.
    pub(super) fn reply_to(&self, table: &Table, sent: Option<&Row>) -> Stored {
        let row = self.existing.row.as_ref();
        Stored {
            row: row.filter(|row| Some(*row) != sent).cloned(),
            ..self.place(table)
        }
    }

    /// Returns all that travels but the columns.
    pub(super) fn place(&self, table: &Table) -> Stored {
        Stored {
            table: table.cloud.to_owned(),
            id: self.id,
            op: if self.deleted() {
                Op::Delete
            } else {
                Op::Upsert
            },
            version: self.existing.version,
            device: self.existing.device,
            origin: self.origin,
            user_id: self.user.map(UserId::new),
            hash: self.existing.hash.to_string(),
            cursor: self.cursor,
            created_at: columns::time_text(self.created_at),
            updated_at: columns::time_text(self.updated_at),
            row: None,
        }
    }
}
