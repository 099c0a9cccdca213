//! The rows of checked archives, beside the server until they are restored: a transaction must
//! not wait for the storage, and may have to read them twice.

mod lines;

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Seek as _, Write as _};

use coditect_backup::{ArchiveError, EncryptionError, Reader, Record, Storage, StorageError};
use coditect_protocol::catalogue::TABLES;
use coditect_protocol::wire::Stored;
use coditect_protocol::{ErrorCode, OrganizationId, Scope};
use coditect_server_store::backups::Backup;
use coditect_server_store::sync::{ArchivedPart, ArchivedRow};
use futures_util::TryStreamExt as _;
use uuid::Uuid;

use lines::{Counting, Lines};

use super::is_whole;
use crate::error::AppError;

/// Rows that are handed over at once, and bytes from which on there are fewer.
const ROWS_AT_ONCE: usize = 200;
const BYTES_AT_ONCE: usize = 2 * 1024 * 1024;

/// A row's key: position of its table in the catalogue, id.
type Key = (u8, Uuid);

/// Why the archives cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(&'static str),
}

impl SpoolError {
    /// Returns whether the archives are at fault, and not the way to them.
    pub(crate) const fn is_of_archives(&self) -> bool {
        match self {
            Self::Archive(_) | Self::Damaged(_) => true,
            Self::Storage(error) => matches!(
                error,
                StorageError::NotFound { .. } | StorageError::Encryption(_)
            ),
            Self::Io(_) => false,
        }
    }
}

impl From<SpoolError> for AppError {
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::Archive(error) => damaged(&error.to_string()),
            SpoolError::Damaged(reason) => damaged(reason),
            SpoolError::Storage(StorageError::NotFound { .. }) => AppError::refused(
                ErrorCode::BackupNotFound,
                "the archive is not there any more",
            ),
            SpoolError::Storage(StorageError::Encryption(EncryptionError::Damaged)) => {
                damaged("the encrypted archive was altered, or is not complete")
            }
            SpoolError::Storage(StorageError::Encryption(EncryptionError::KeyMissing(_))) => {
                AppError::Unavailable {
                    reason: "this server lacks the key that the archive was encrypted with",
                }
            }
            SpoolError::Storage(error) => AppError::Spool(error.to_string()),
            SpoolError::Io(error) => AppError::Spool(error.to_string()),
        }
    }
}

/// Refuses an archive.
pub(crate) fn damaged(reason: &str) -> AppError {
    AppError::refused(ErrorCode::ChecksumFailed, reason)
}

/// Checked rows in a file without a name, which goes when it is closed.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    /// The lines that count: of each row its last.
    counting: Counting,
}

impl Spool {
    /// Reads and checks the archives of the backups, the full one first.
    pub(crate) async fn fill(
        storage: &Storage,
        tenant: OrganizationId,
        scope: Scope,
        chain: &[Backup],
    ) -> Result<Self, AppError> {
        Ok(Self::read(storage, tenant, scope, chain).await?)
    }

    /// The same with the store's own errors.
    pub(crate) async fn read(
        storage: &Storage,
        tenant: OrganizationId,
        scope: Scope,
        chain: &[Backup],
    ) -> Result<Self, SpoolError> {
        let mut filling = Filling::new()?;
        for backup in chain {
            let mut reader = Reader::default();
            let mut pieces = std::pin::pin!(storage.download(&backup.path).await?);
            let mut each = |_, record: Record| filling.push(&record);
            while let Some(piece) = pieces.try_next().await? {
                reader.feed(&piece, &mut each)?;
            }
            let (manifest, end, sealed) = reader.finish(&mut each)?;
            let is_ours = manifest.tenant_id == tenant
                && manifest.scope == scope
                && manifest.backup_id == backup.id
                && manifest.base_id == backup.base;
            let is_whole = Some(&sealed.checksum) == backup.checksum.as_ref()
                && Some(sealed.records) == backup.record_count.and_then(|n| n.try_into().ok())
                && Some(end.to) == backup.to;
            if !is_ours || !is_whole {
                return Err(SpoolError::Damaged(
                    "the archive is not the one that was written",
                ));
            }
        }
        filling.finish()
    }

    /// Returns the rows from the beginning.
    pub(crate) fn rows(&self) -> io::Result<Rows<'_>> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(Rows {
            lines: BufReader::new(file),
            number: 0,
            counting: &self.counting,
        })
    }
}

/// Takes rows, and becomes a spool.
pub(crate) struct Filling {
    out: BufWriter<File>,
    lines: Lines,
}

impl Filling {
    pub(crate) fn new() -> Result<Self, SpoolError> {
        Ok(Self {
            out: BufWriter::new(tempfile::tempfile()?),
            lines: Lines::new()?,
        })
    }

    /// Adds a row; one that comes again takes the place of the one before.
    pub(crate) fn push(&mut self, record: &Record) -> Result<(), SpoolError> {
        let key = key(&record.stored).filter(|_| is_whole(&record.stored));
        let (table, id) = key.ok_or(SpoolError::Damaged("a row is not what its hash says"))?;
        serde_json::to_writer(&mut self.out, record).map_err(io::Error::from)?;
        self.out.write_all(b"\n")?;
        Ok(self.lines.push(table, id)?)
    }

    pub(crate) fn finish(self) -> Result<Spool, SpoolError> {
        let file = self.out.into_inner();
        Ok(Spool {
            file: file.map_err(io::IntoInnerError::into_error)?,
            counting: self.lines.finish()?,
        })
    }
}

/// The rows, each once, as it was last.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    lines: BufReader<File>,
    number: u64,
    counting: &'a Counting,
}

impl Rows<'_> {
    /// Returns some rows, `None` when there are no more.
    pub(crate) fn next_batch(&mut self) -> io::Result<Option<Vec<ArchivedRow>>> {
        let (mut rows, mut line, mut bytes) = (Vec::new(), String::new(), 0);
        while rows.len() < ROWS_AT_ONCE && bytes < BYTES_AT_ONCE {
            line.clear();
            let length = self.lines.read_line(&mut line)?;
            if length == 0 {
                break;
            }
            bytes += length;
            if self.counting.has(self.number) {
                let record: Record = serde_json::from_str(&line)?;
                rows.push(archived(record));
            }
            self.number += 1;
        }
        Ok((!rows.is_empty()).then_some(rows))
    }
}

fn key(row: &Stored) -> Option<Key> {
    let table = TABLES.iter().position(|table| table.cloud == row.table)?;
    Some((u8::try_from(table).ok()?, row.id.get()))
}

fn archived(record: Record) -> ArchivedRow {
    let parts = record.counters.into_iter().map(|(column, parts)| {
        let parts = parts.into_iter().map(|part| ArchivedPart {
            device: part.device,
            seq: part.seq,
            total: part.total,
        });
        (column, parts.collect())
    });
    ArchivedRow {
        parts: parts.collect(),
        stored: record.stored,
    }
}
