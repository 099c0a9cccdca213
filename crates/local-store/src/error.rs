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
    /// The folder's files belong to different owners.
    #[error(
        "the files of this folder belong to different owners\n  \
         hint: restore all four files from the same backup"
    )]
    MixedOwners,
    /// The folder belongs to nobody yet.
    #[error("this folder is not linked to an account\n  hint: coditect login")]
    NotBound,
    /// Another process syncs this folder.
    #[error("another process syncs this folder\n  hint: wait for it, or stop it")]
    Leased,
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
    /// The file system failed.
    #[error("'{}': {source}", .path.display())]
    Io {
        /// Path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Names the file that a driver error came from.
pub(crate) trait InFile<T> {
    /// Classifies the error.
    fn in_file(self, file: File) -> Result<T>;
}

impl<T> InFile<T> for rusqlite::Result<T> {
    fn in_file(self, file: File) -> Result<T> {
        self.map_err(|source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                Error::Busy(file)
            }
            _ => Error::Driver { file, source },
        })
    }
}
