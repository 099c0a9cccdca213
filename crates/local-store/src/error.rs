//! Errors of the local store.

use coditect_protocol::catalogue::File;
use coditect_protocol::{Epoch, OrganizationId, UserId};
use std::path::PathBuf;

/// Result of the local store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a local operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is no SQLite database. It was left untouched.
    #[error(
        "'{}' is not a SQLite database; it was left untouched\n  \
         hint: move it away, or use another folder",
        .0.display()
    )]
    NotADatabase(PathBuf),
    /// The file is a database of another program. It was left untouched.
    #[error(
        "'{}' is a database of another program; it was left untouched\n  \
         hint: move it away, or use another folder",
        .0.display()
    )]
    NotOurs(PathBuf),
    /// The file is ours, but another one of the four.
    #[error(
        "'{}' holds the {found} database, not {expected}; it was left untouched",
        .path.display()
    )]
    WrongFile {
        /// Where it lies.
        path: PathBuf,
        /// Which one it should be.
        expected: File,
        /// Which one it says it is.
        found: String,
    },
    /// A newer version of the program wrote the file. It was left untouched.
    #[error(
        "'{}' has schema version {found}, this program knows {known}; it was left untouched\n  \
         hint: install the newer version of coditect",
        .path.display()
    )]
    TooNew {
        /// Where it lies.
        path: PathBuf,
        /// Version of its schema.
        found: i64,
        /// Highest version that this program knows.
        known: i64,
    },
    /// The folder belongs to another tenant or user.
    #[error(
        "this folder belongs to user {user} of organisation {tenant}\n  \
         hint: use another profile: coditect --profile NAME login"
    )]
    BoundToAnother {
        /// Tenant that it belongs to.
        tenant: OrganizationId,
        /// User that it belongs to.
        user: UserId,
    },
    /// The folder's account was erased, and with it the databases.
    #[error(
        "the account that '{}' belonged to was erased, and its databases with it; nothing is \
         recorded there any more\n  hint: coditect login begins anew, empty",
        .0.display()
    )]
    Erased(PathBuf),
    /// The folder's files belong to different owners.
    #[error(
        "the files of this folder belong to different owners\n  \
         hint: restore all four files from the same backup"
    )]
    MixedOwners,
    /// There is no row of that id in that scope.
    #[error("no row '{id}' in {table}")]
    NoSuchRow {
        /// Local name of the table.
        table: &'static str,
        /// Row id.
        id: String,
    },
    /// The folder belongs to nobody yet.
    #[error("this folder is not linked to an account\n  hint: coditect login")]
    NotBound,
    /// Another process syncs this folder.
    #[error("another process syncs this folder\n  hint: wait for it, or stop it")]
    Leased,
    /// The store was opened for another file only.
    #[error("the {0} database is not open here")]
    NotOpen(File),
    /// The file could not be locked in time.
    #[error(
        "the {0} database is locked by another program\n  \
         hint: close the program that holds a transaction open"
    )]
    Busy(File),
    /// The table is not in the catalogue.
    #[error("there is no synced table '{0}'")]
    UnknownTable(String),
    /// The column is not in the catalogue.
    #[error("table '{table}' has no column '{column}'")]
    UnknownColumn {
        /// Table.
        table: &'static str,
        /// Column that it lacks.
        column: String,
    },
    /// A row lacks what its table requires.
    #[error("a row of '{table}' needs '{column}'")]
    MissingColumn {
        /// Table.
        table: &'static str,
        /// Column without a value.
        column: String,
    },
    /// A reply that does not belong to its request.
    #[error("the reply does not fit batch {0}")]
    ReplyMismatch(coditect_protocol::BatchId),
    /// A page of another life of the server's database.
    #[error("the page is of epoch {found}, the {file} database follows {expected}")]
    EpochMismatch {
        /// File that the page was for.
        file: File,
        /// Epoch that the file follows.
        expected: Epoch,
        /// Epoch of the page.
        found: Epoch,
    },
    /// What the store wrote itself does not read back.
    #[error("{file} database, {what}: stored value does not read back\n  hint: coditect doctor")]
    Corrupt {
        /// File.
        file: File,
        /// Where.
        what: &'static str,
    },
    /// SQLite failed.
    #[error("the {file} database failed: {source}")]
    Driver {
        /// File.
        file: File,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file is damaged: cut off, or overwritten in places. It was left as it is.
    #[error(
        "the {file} database is damaged ({cause}); it was left as it is\n  \
         hint: coditect doctor; put {file}.db back from a copy, or move it away: what the \
         server has comes back with the next sync"
    )]
    Damaged {
        /// File.
        file: File,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
    /// The disk is full, or a quota or limit is reached. The transaction left nothing behind.
    #[error(
        "the {file} database cannot grow ({cause}): the disk is full, or a limit is reached; \
         nothing of this step was stored\n  hint: make room, then run it again"
    )]
    NoSpace {
        /// File.
        file: File,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
    /// The file system failed.
    #[error("'{}': {source}", .path.display())]
    Io {
        /// Path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// Returns the name of a fault of the files on this machine; none for other errors. Names
    /// never change their meaning; `docs/EXIT-CODES.md` lists them.
    #[must_use]
    pub fn storage_code(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotADatabase(_) => "not_a_database",
            Self::NotOurs(_) => "not_ours",
            Self::WrongFile { .. } => "wrong_file",
            Self::TooNew { .. } => "schema_too_new",
            Self::MixedOwners => "mixed_owners",
            Self::Damaged { .. } | Self::Corrupt { .. } => "damaged",
            Self::NoSpace { .. } => "no_space",
            Self::Io { source, .. } if is_no_space(source) => "no_space",
            Self::Io { .. } | Self::Driver { .. } => "unusable",
            _ => return None,
        })
    }
}

/// Returns whether the system refused to store more: full, over a quota, over a limit.
#[must_use]
pub fn is_no_space(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Names the file that a driver error came from.
pub(crate) trait InFile<T> {
    /// Classifies the error.
    fn in_file(self, file: File) -> Result<T>;
}

impl<T> InFile<T> for rusqlite::Result<T> {
    fn in_file(self, file: File) -> Result<T> {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull};
        self.map_err(|source| match source.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked) => Error::Busy(file),
            Some(DatabaseCorrupt) => Error::Damaged {
                file,
                cause: source,
            },
            Some(DiskFull) => Error::NoSpace {
                file,
                cause: source,
            },
            _ if source.sqlite_error().is_some_and(is_failed_write) => Error::NoSpace {
                file,
                cause: source,
            },
            _ => Error::Driver { file, source },
        })
    }
}

/// SQLite says "full" only for one of the system's reasons; a quota, or a limit on the size of
/// a file, is an input/output error of a write to it.
fn is_failed_write(error: &rusqlite::ffi::Error) -> bool {
    use rusqlite::ffi;
    matches!(
        error.extended_code,
        ffi::SQLITE_IOERR_WRITE
            | ffi::SQLITE_IOERR_FSYNC
            | ffi::SQLITE_IOERR_SHMSIZE
            | ffi::SQLITE_IOERR_TRUNCATE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: i32) -> Error {
        let source = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        Err::<(), _>(source).in_file(File::Org).unwrap_err()
    }

    #[test]
    fn full_quota_and_limit_are_one_thing_and_damage_another() {
        use rusqlite::ffi;
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_IOERR_SHMSIZE,
        ] {
            assert_eq!(of(code).storage_code(), Some("no_space"), "{code}");
        }
        assert_eq!(of(ffi::SQLITE_CORRUPT).storage_code(), Some("damaged"));
        assert_eq!(of(ffi::SQLITE_IOERR_READ).storage_code(), Some("unusable"));
        assert_eq!(of(ffi::SQLITE_BUSY).storage_code(), None);
    }
}
