//! What can go wrong in the store, classified once.

use tokio_postgres::error::SqlState;

/// An error of the store. The texts are for operators; they hold no content of rows.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The row does not exist, or the caller may not know that it does.
    #[error("not found")]
    NotFound,
    /// A unique key, foreign key or exclusion constraint was hit.
    #[error("constraint {constraint} violated")]
    Conflict {
        /// Name of the constraint.
        constraint: String,
    },
    /// The database cannot hold a value (class 22, NOT NULL, CHECK, size limits).
    #[error("the database refuses a value ({sqlstate})")]
    Refused {
        /// The SQLSTATE, five characters.
        sqlstate: String,
    },
    /// A passing condition: serialization failure, deadlock, lock timeout, full pool. The
    /// transaction did nothing and may be run again.
    #[error("try again: {reason}")]
    Retry {
        /// Which condition.
        reason: &'static str,
    },
    /// The user is not an active member of the tenant, or the tenant is suspended.
    #[error("the user is not an active member of the tenant")]
    NotMember,
    /// The device that the caller logged in on was locked out.
    #[error("the device is revoked")]
    DeviceRevoked,
    /// Row security, or a grant, refuses a statement. The program decides before, so it means
    /// that the two disagree.
    #[error("the database refuses what the role may not do")]
    Forbidden,
    /// The transaction continued after a failed statement and was rolled back.
    #[error("the transaction failed earlier and was rolled back")]
    Aborted,
    /// A stored value is not what the code can read.
    #[error("corrupt row {row} in {table}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// Which row, by key.
        row: String,
    },
    /// The database has migrations that this program does not know.
    #[error("the database is newer than this program (migration {version} is unknown)")]
    UnknownMigration {
        /// The version that is unknown.
        version: i64,
    },
    /// A migration that was applied differs from the one in this program.
    #[error("migration {version} was changed after it was applied")]
    ChangedMigration {
        /// The version in question.
        version: i64,
    },
    /// The database lacks migrations that this program needs.
    #[error("the database lacks migration {version}\nhint: run coditect-server migrate")]
    MissingMigration {
        /// The first version that is missing.
        version: i64,
    },
    /// A role is missing and the connection may not make it.
    #[error("cannot prepare the database roles\nhint: as a superuser run: {statement}")]
    Roles {
        /// The statement that failed.
        statement: String,
        /// Why.
        source: Box<StoreError>,
    },
    /// Connections cannot be encrypted as the connection string says.
    #[error(transparent)]
    Encryption(#[from] crate::db::EncryptionError),
    /// Signing, hashing or reading a secret failed.
    #[error(transparent)]
    Secret(#[from] crate::credential::SecretError),
    /// Anything else the driver reports; the outcome of a commit is then unknown.
    #[error("database error")]
    Driver(#[source] tokio_postgres::Error),
}

/// SQLSTATE that `enter` raises for a user who is not an active member.
pub(crate) const NOT_MEMBER: &str = "CO001";
/// SQLSTATE that `enter` raises for a device that was locked out.
pub(crate) const DEVICE_REVOKED: &str = "CO003";

impl StoreError {
    /// Returns whether the transaction may simply be run again.
    #[must_use]
    pub fn is_retry(&self) -> bool {
        matches!(self, Self::Retry { .. })
    }
}

impl StoreError {
    /// Turns the loss of the connection into [`StoreError::Retry`]: right wherever no commit was
    /// sent, because then nothing happened.
    pub(crate) fn without_commit(self) -> Self {
        match self {
            Self::Driver(error) if is_lost(&error) => Self::Retry {
                reason: "the connection to the database was lost",
            },
            other => other,
        }
    }
}

/// Returns whether `error` says that the server went away, or is not there yet.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    let gone = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
    ];
    let source = std::error::Error::source(error);
    let io = source.is_some_and(|source| source.is::<std::io::Error>());
    io || error.is_closed() || error.code().is_some_and(|code| gone.contains(code))
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            return Self::Driver(error);
        };
        let code = db.code();
        let retry = |reason| Self::Retry { reason };
        match code {
            code if *code == SqlState::T_R_SERIALIZATION_FAILURE => retry("serialization failure"),
            code if *code == SqlState::T_R_DEADLOCK_DETECTED => retry("deadlock"),
            code if *code == SqlState::LOCK_NOT_AVAILABLE => retry("lock timeout"),
            code if *code == SqlState::UNIQUE_VIOLATION
                || *code == SqlState::FOREIGN_KEY_VIOLATION
                || *code == SqlState::EXCLUSION_VIOLATION =>
            {
                Self::Conflict {
                    constraint: db.constraint().unwrap_or_default().to_owned(),
                }
            }
            code if *code == SqlState::NOT_NULL_VIOLATION
                || *code == SqlState::CHECK_VIOLATION
                || code.code().starts_with("22")
                || code.code().starts_with("54") =>
            {
                Self::Refused {
                    sqlstate: code.code().to_owned(),
                }
            }
            code if *code == SqlState::INSUFFICIENT_PRIVILEGE => Self::Forbidden,
            code if code.code() == NOT_MEMBER => Self::NotMember,
            code if code.code() == DEVICE_REVOKED => Self::DeviceRevoked,
            code if *code == SqlState::IN_FAILED_SQL_TRANSACTION => Self::Aborted,
            _ => Self::Driver(error),
        }
    }
}
