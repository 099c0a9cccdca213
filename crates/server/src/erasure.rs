//! The ledger of erasures, and how one is carried out (ADR 0034).
//!
//! The ledger lies outside the database that it protects: a file in the data folder to whose end
//! lines are added, and one object for each erasure beside the backups. It is written first, and
//! what it says is done again whenever the database does not know of it: after a crash, and after
//! the database was set back.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use coditect_backup::database::KEPT_DAYS;
use coditect_backup::{Storage, StorageError, Stored};
use coditect_protocol::{OrganizationId, UserId};
use coditect_server_store::audit::head::HeadKey;
use coditect_server_store::embedded::ArchiveRecord;
use coditect_server_store::erasure::{
    self, Begun, EraseError, ErasedArchive, Erasure, Receipt, Signed,
};
use coditect_server_store::{Db, StoreError};
use futures_util::TryStreamExt as _;
use uuid::Uuid;

use crate::database_archive::ArchiveError;
use crate::database_archive::contents::{Contents, contents};
use crate::state::Clock;

/// Name of the file in the data folder.
const FILE: &str = "erasures.jsonl";
/// Folder of the objects below the storage's root.
const FOLDER: &str = "erasures";
/// An entry has a few hundred bytes; what is longer is none.
const ENTRY_BYTES_MAX: usize = 16 * 1024;
/// How long a server that starts waits for the storage.
const STORAGE_WAIT: Duration = Duration::from_secs(10);
/// How often is looked again whether nothing is left: a push that was under way may have come in
/// between.
const ROUNDS_MAX: u32 = 10;

/// Why nothing was erased, or not all of it yet.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// The organisation would be left without an owner.
    #[error("the organisation would be left without an owner")]
    LastOwner,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger beside the backups cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The ledger's file cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Rows kept coming.
    #[error("something goes on writing what is to be erased")]
    Restless,
}

impl From<EraseError> for ErasureError {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::LastOwner => Self::LastOwner,
            EraseError::Store(error) => Self::Store(error),
        }
    }
}

/// Where erasures are written down, and the key that signs them.
#[derive(Clone, Debug)]
pub struct Ledger {
    file: PathBuf,
    storage: Storage,
    key: Arc<HeadKey>,
}

impl Ledger {
    /// Uses a data folder and the storage of backups.
    #[must_use]
    pub fn new(data_dir: &Path, storage: Storage, key: Arc<HeadKey>) -> Self {
        let file = data_dir.join(FILE);
        Self { file, storage, key }
    }

    /// Adds an entry at both places. It is there for good when this returns.
    ///
    /// # Errors
    /// [`ErasureError::File`], [`ErasureError::Storage`].
    pub async fn add(&self, erasure: &Erasure) -> Result<(), ErasureError> {
        let signed = erasure.clone().sign(&self.key);
        let line = format!("{}\n", serde_json::json!(signed));
        let path = format!("{FOLDER}/{}/{}.json", erasure.tenant_id, erasure.id);
        self.storage.write(&path, line.clone().into_bytes()).await?;
        self.append(&line).map_err(|source| self.failed(source))
    }

    fn append(&self, line: &str) -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.file)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        match self.file.parent() {
            Some(folder) => std::fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    fn failed(&self, source: std::io::Error) -> ErasureError {
        let path = self.file.clone();
        ErasureError::File { path, source }
    }

    /// Returns what the file says; a file that is not there says nothing. What this installation
    /// has not signed does not count.
    ///
    /// # Errors
    /// [`ErasureError::File`].
    pub fn read_file(&self) -> Result<Vec<Erasure>, ErasureError> {
        match std::fs::read_to_string(&self.file) {
            Ok(text) => Ok(text.lines().filter_map(|line| self.read(line)).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Returns what lies beside the backups.
    ///
    /// # Errors
    /// [`ErasureError::Storage`].
    pub async fn read_storage(&self) -> Result<Vec<Erasure>, ErasureError> {
        let entries: Vec<Stored> = self.storage.list(FOLDER).try_collect().await?;
        let mut found = Vec::new();
        for entry in entries {
            let bytes = self.storage.read(&entry.path, ENTRY_BYTES_MAX).await?;
            found.extend(self.read(&String::from_utf8_lossy(&bytes)));
        }
        Ok(found)
    }

    /// Returns what both say, each erasure once. A storage that does not answer is logged: the
    /// file has what this server has written.
    ///
    /// # Errors
    /// [`ErasureError::File`].
    pub async fn read_all(&self) -> Result<Vec<Erasure>, ErasureError> {
        let stored = tokio::time::timeout(STORAGE_WAIT, self.read_storage()).await;
        let stored = match stored {
            Ok(Ok(stored)) => stored,
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot read the ledger of erasures beside the backups");
                Vec::new()
            }
            Err(_) => {
                tracing::warn!("the storage of backups does not tell its erasures in time");
                Vec::new()
            }
        };
        let all = self.read_file()?.into_iter().chain(stored);
        let all: BTreeMap<Uuid, Erasure> = all.map(|erasure| (erasure.id, erasure)).collect();
        Ok(all.into_values().collect())
    }

    fn read(&self, line: &str) -> Option<Erasure> {
        let line = line.trim();
        if line.is_empty() {
            return None;
        }
        let signed: Signed<Erasure> = match serde_json::from_str(line) {
            Ok(signed) => signed,
            Err(_) => {
                tracing::warn!("a line of the ledger of erasures is none");
                return None;
            }
        };
        let id = signed.what.id;
        match signed.check(&self.key) {
            Ok(erasure) => Some(erasure),
            Err(error) => {
                tracing::error!(erasure.id = %id, %error, "an entry of the ledger of erasures \
                    does not count");
                None
            }
        }
    }
}

/// Erases a person, or the whole organisation, and returns the receipt. The ledger is written
/// before anything is removed: what is cut off here goes on when a server starts.
///
/// # Errors
/// [`ErasureError::LastOwner`], [`StoreError::NotFound`]: nothing was done then. Others may leave
/// the erasure to the server's job.
pub async fn erase(
    db: &Db,
    clock: &Clock,
    ledger: &Ledger,
    tenant: OrganizationId,
    person: Option<UserId>,
) -> Result<Signed<Receipt>, ErasureError> {
    let erasure = Erasure::order(db, tenant, person, clock.now()).await?;
    ledger.add(&erasure).await?;
    carry_out(db, clock, ledger, &erasure).await
}

/// Says what an erasure would remove.
///
/// # Errors
/// As [`erase`], but for those of the ledger.
pub async fn plan(
    db: &Db,
    clock: &Clock,
    tenant: OrganizationId,
    person: Option<UserId>,
) -> Result<erasure::Plan, ErasureError> {
    let erasure = Erasure::order(db, tenant, person, clock.now()).await?;
    Ok(erasure::plan(db, &erasure).await?)
}

/// Does what an entry of the ledger says.
async fn carry_out(
    db: &Db,
    clock: &Clock,
    ledger: &Ledger,
    erasure: &Erasure,
) -> Result<Signed<Receipt>, ErasureError> {
    let mut begun = erasure::begin(db, erasure, clock.now()).await?;
    remove_archives(db, clock, ledger, erasure, &mut begun).await?;
    begun.database_archives = database_archives(ledger, clock.now()).await;
    for _ in 0..ROUNDS_MAX {
        erasure::remove(db, erasure, &mut begun.tables).await?;
        let done = erasure::finish(db, erasure, &begun, &ledger.key, clock.now()).await?;
        if let Some(receipt) = done {
            tracing::info!(erasure.id = %erasure.id, rows = receipt.what.rows, "erased");
            return Ok(receipt);
        }
    }
    Err(ErasureError::Restless)
}

/// Removes the archives of what is erased. One that the storage keeps is tried again by the job
/// that removes old backups.
async fn remove_archives(
    db: &Db,
    clock: &Clock,
    ledger: &Ledger,
    erasure: &Erasure,
    begun: &mut Begun,
) -> Result<(), StoreError> {
    for backup in &mut begun.backups {
        match ledger.storage.remove(&backup.path).await {
            Ok(()) => {
                erasure::forget_backup(db, erasure, backup).await?;
                backup.removed_at = Some(clock.now());
            }
            Err(error) => {
                tracing::warn!(backup.id = %backup.id, %error, "cannot remove an erased backup");
            }
        }
    }
    Ok(())
}

/// Returns the archives of the embedded PostgreSQL that hold what it was: its own, those of before,
/// and the one that it was recovered from. A storage that does not answer may hold all of them.
async fn database_archives(ledger: &Ledger, now: DateTime<Utc>) -> Vec<ErasedArchive> {
    // The next base backup comes within a day, and what it made superfluous goes with the one that
    // is made when it is old enough itself.
    let gone_by = now + TimeDelta::days(KEPT_DAYS + 2);
    let folder = ledger.file.with_file_name("postgres");
    let Some(record) = ArchiveRecord::last(&folder) else {
        return Vec::new();
    };
    let seen_to = |id: &Uuid| *id == record.archive_id || record.former.contains(id);
    let mut ids = vec![record.archive_id];
    ids.extend(record.former.iter().chain(&record.parent_id));
    ids.dedup();
    let mut found = Vec::new();
    for id in ids {
        let (has_bases, has_log) = match contents(&ledger.storage, id).await {
            Err(ArchiveError::NoArchive(_)) => continue,
            Err(error) => {
                tracing::warn!(archive.id = %id, %error, "cannot look into an archive");
                (true, true)
            }
            Ok(Contents {
                bases, wal, tars, ..
            }) => (!bases.is_empty() || !tars.is_empty(), !wal.is_empty()),
        };
        // Without an archive that is kept nothing expires.
        let gone_by = Some(gone_by).filter(|_| record.seconds > 0 && seen_to(&id));
        for (kind, is_there) in [("base_backups", has_bases), ("log", has_log)] {
            if is_there {
                found.push(ErasedArchive {
                    archive_id: id,
                    kind: kind.to_owned(),
                    gone_by,
                });
            }
        }
    }
    found
}

/// Locks out whom the ledger names and the database knows again, before anybody is served. Their
/// rows go later.
///
/// # Errors
/// [`ErasureError::File`], [`ErasureError::Store`].
pub async fn lock_out(db: &Db, clock: &Clock, ledger: &Ledger) -> Result<(), ErasureError> {
    let now = clock.now();
    let known = ledger.read_all().await?;
    for erasure in erasure::unapplied(db, &known, now).await? {
        tracing::warn!(erasure.id = %erasure.id, "what was erased is here again; it goes");
        erasure::begin(db, &erasure, now).await?;
    }
    Ok(())
}

/// Carries out what `known` says and the database does not know of, or has again; returns how many
/// erasures that were. One that was asked for within `patience` is left to whoever began it.
///
/// # Errors
/// [`ErasureError`].
pub async fn apply_again(
    db: &Db,
    clock: &Clock,
    ledger: &Ledger,
    known: &[Erasure],
    patience: TimeDelta,
) -> Result<usize, ErasureError> {
    let before = clock.now() - patience;
    let open = erasure::unapplied(db, known, before).await?;
    for erasure in &open {
        carry_out(db, clock, ledger, erasure).await?;
    }
    Ok(open.len())
}
