//! The archive of the embedded PostgreSQL itself: base backups and the write-ahead log (WAL), kept
//! beside the backups of scopes, and what a recovery fetches of it.
//!
//! Owns the order in which things become part of the archive. Starts PostgreSQL nowhere.

pub mod base;
pub mod contents;
pub mod keep;
pub mod recover;
pub mod wal;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use coditect_backup::database::{ManifestError, PlanError, TarError};
use coditect_backup::{EncryptionError, Storage, StorageError};
use coditect_server_store::embedded::{ArchiveRecord, BaseBackup, EmbeddedError, Spool};
use uuid::Uuid;

/// Why something could not be kept or fetched.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// PostgreSQL's folder failed.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// A manifest is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is nothing to recover.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The base backup is none.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// What is kept cannot be read.
    #[error("{path} is damaged, or not complete")]
    Damaged {
        /// Where it lies.
        path: String,
        /// How it shows.
        source: std::io::Error,
    },
    /// What was read back is not what was written.
    #[error("{path} is not what was written")]
    Different {
        /// Where it lies.
        path: String,
    },
    /// The program that makes base backups failed.
    #[error("pg_basebackup failed: {detail}")]
    Program {
        /// What it said.
        detail: String,
    },
    /// A file of this server failed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The WAL that a base backup needs did not arrive.
    #[error("the write-ahead log of the base backup is not in the archive after {seconds} s")]
    WalMissing {
        /// How long it was waited for.
        seconds: u64,
    },
    /// A segment has another size than those that this program makes.
    #[error("the segment {name} has {bytes} bytes")]
    SegmentSize {
        /// Its name.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// Another archive was begun meanwhile.
    #[error("another archive was begun while the base backup was made")]
    Replaced,
    /// Work was interrupted.
    #[error("the work was interrupted")]
    Interrupted,
    /// There is no such archive.
    #[error("there is no archive {0}\nhint: coditect-server admin database list")]
    NoArchive(Uuid),
    /// There is none at all.
    #[error(
        "{0} holds no archive of a database\n\
         hint: --backup-url names the place, --backup-key-file the keys"
    )]
    Empty(String),
    /// It is not clear which one is meant.
    #[error("there are several archives, name one with --archive: {}", list(.0))]
    Several(Vec<Uuid>),
}

fn list(ids: &[Uuid]) -> String {
    let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    ids.join(", ")
}

impl ArchiveError {
    /// Returns whether the key that something was encrypted with is not there.
    fn key_is_missing(&self) -> bool {
        let Self::Storage(StorageError::Encryption(error)) = self else {
            return false;
        };
        matches!(error, EncryptionError::KeyMissing(_))
    }

    fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}

/// The archive of a PostgreSQL that runs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Where it is kept.
    pub storage: Storage,
    /// What waits for it.
    pub spool: Spool,
    program: BaseBackup,
    folder: PathBuf,
    begun_at: DateTime<Utc>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    record: ArchiveRecord,
    status: Status,
}

/// How far the archive is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// When a piece of the WAL was last kept; none since the start.
    pub wal_kept_at: Option<DateTime<Utc>>,
    /// When the last base backup was finished.
    pub base_at: Option<DateTime<Utc>>,
    /// Whether the bases of the archive were looked up.
    pub is_known: bool,
}

impl Archive {
    /// Puts together what is known of the archive of the PostgreSQL below `folder`.
    #[must_use]
    pub fn new(
        storage: Storage,
        folder: PathBuf,
        program: BaseBackup,
        record: ArchiveRecord,
        begun_at: DateTime<Utc>,
    ) -> Self {
        Self {
            storage,
            spool: Spool::of(&folder),
            program,
            folder,
            begun_at,
            state: Arc::new(Mutex::new(State {
                record,
                status: Status::default(),
            })),
        }
    }

    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.lock().record.archive_id
    }

    /// Returns when this process began to keep it.
    #[must_use]
    pub fn begun_at(&self) -> DateTime<Utc> {
        self.begun_at
    }

    /// Returns how far it is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.lock().status
    }

    /// Notes when the last base backup was finished.
    pub(crate) fn know(&self, base_at: Option<DateTime<Utc>>) {
        self.note(|status| {
            status.base_at = status.base_at.max(base_at);
            status.is_known = true;
        });
    }

    fn record(&self) -> ArchiveRecord {
        self.lock().record.clone()
    }

    fn note(&self, note: impl FnOnce(&mut Status)) {
        note(&mut self.lock().status);
    }

    /// Begins another archive: what follows does not fit to what is kept.
    fn replace(&self) -> Result<ArchiveRecord, ArchiveError> {
        let next = self.record().replaced()?;
        next.write(&self.folder)?;
        let mut state = self.lock();
        state.record = next.clone();
        state.status.base_at = None;
        Ok(next)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or(Err(ArchiveError::Interrupted))
}
