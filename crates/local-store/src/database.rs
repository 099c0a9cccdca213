//! One of the four files: opening it without harm to what is not ours, and the transaction in
//! which all our writes happen.

use coditect_protocol::catalogue::File;
use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, InFile as _, Result};
use crate::migrations::{self, STEPS};
use crate::profile::{make_private_file, path_of};
use crate::schema::{APPLICATION_ID, position};

/// How long a statement waits for another writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Statements kept prepared per file.
const STATEMENTS_MAX: usize = 256;

/// An open file.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) file: File,
    pub(crate) connection: Connection,
}

impl Database {
    /// Opens a file of the folder, makes or migrates it where needed.
    pub(crate) fn open(folder: &Path, file: File) -> Result<Self> {
        let path = path_of(folder, file);
        check(&path, file)?;
        make_private_file(&path)?;
        let connection = Connection::open(&path).in_file(file)?;
        Self::prepare(connection, file, Some(folder))
    }

    /// Makes a file in memory: a copy of an empty one, because a simulation makes thousands and
    /// reading pages is faster than reading SQL.
    pub(crate) fn in_memory(file: File) -> Result<Self> {
        static EMPTY: Mutex<[Option<Connection>; 4]> = Mutex::new([const { None }; 4]);
        let mut made = EMPTY.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut made[position(file)];
        let empty = match slot {
            Some(empty) => empty,
            None => {
                let connection = Connection::open_in_memory().in_file(file)?;
                slot.insert(Self::prepare(connection, file, None)?.connection)
            }
        };
        let mut connection = Connection::open_in_memory().in_file(file)?;
        Backup::new(empty, &mut connection)
            .and_then(|backup| backup.step(-1))
            .in_file(file)?;
        drop(made);
        Self::prepare(connection, file, None)
    }

    fn prepare(mut connection: Connection, file: File, folder: Option<&Path>) -> Result<Self> {
        connection.busy_timeout(BUSY_TIMEOUT).in_file(file)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        if folder.is_some() {
            // The transcripts can be imported again; what people wrote cannot.
            let synchronous = if file == File::Org { "full" } else { "normal" };
            let journal: String = connection
                .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
                .in_file(file)?;
            tracing::trace!(file = %file, journal, "opened");
            connection
                .pragma_update(None, "synchronous", synchronous)
                .in_file(file)?;
        }
        connection
            .pragma_update(None, "foreign_keys", false)
            .in_file(file)?;
        migrations::run(&mut connection, file, folder, STEPS)?;
        Ok(Self { file, connection })
    }

    /// Returns a value of the file's own notes.
    pub(crate) fn meta(&self, key: &str) -> Result<Option<String>> {
        meta(&self.connection, key).in_file(self.file)
    }

    /// Starts a transaction that holds the write lock from the start. The triggers see nothing
    /// of what happens in it.
    pub(crate) fn begin(&mut self) -> Result<Transaction<'_>> {
        let tx = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .in_file(self.file)?;
        set_applying(&tx, true).in_file(self.file)?;
        Ok(tx)
    }
}

/// Ends a transaction of [`Database::begin`].
pub(crate) fn commit(tx: Transaction<'_>, file: File) -> Result<()> {
    set_applying(&tx, false).in_file(file)?;
    tx.commit().in_file(file)
}

/// Returns a value of the file's own notes.
pub(crate) fn meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("select value from sync_meta where key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

/// Writes a value of the file's own notes.
pub(crate) fn set_meta(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "insert into sync_meta (key, value) values (?1, ?2)
             on conflict (key) do update set value = excluded.value",
        )?
        .execute([key, value])?;
    Ok(())
}

fn set_applying(tx: &Transaction<'_>, on: bool) -> rusqlite::Result<()> {
    let changed = tx
        .prepare_cached("update sync_flag set applying = ?1")?
        .execute([on])?;
    if changed == 0 && on {
        tx.execute("insert into sync_flag (applying) values (1)", [])?;
    }
    Ok(())
}

/// Looks at a file without writing to it, not even by a checkpoint.
fn check(path: &Path, file: File) -> Result<()> {
    let failed = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if metadata.is_file() && metadata.len() == 0 {
        return Ok(());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).in_file(file)?;
    connection.busy_timeout(BUSY_TIMEOUT).in_file(file)?;
    let found = match inspect(&connection) {
        Ok(found) => found,
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            return Err(Error::NotADatabase(path.to_owned()));
        }
        Err(error) => return Err(error).in_file(file),
    };
    if found.tables == 0 && found.application_id == 0 && found.version == 0 {
        return Ok(());
    }
    if found.application_id != APPLICATION_ID {
        return Err(Error::NotOurs(path.to_owned()));
    }
    let known = migrations::latest(STEPS);
    if found.version > known {
        return Err(Error::TooNew {
            path: path.to_owned(),
            found: found.version,
            known,
        });
    }
    match meta(&connection, "file").in_file(file)? {
        Some(name) if name != file.as_str() => Err(Error::WrongFile {
            path: path.to_owned(),
            expected: file,
            found: name,
        }),
        _ => Ok(()),
    }
}

struct Found {
    tables: i64,
    application_id: i32,
    version: i64,
}

fn inspect(connection: &Connection) -> rusqlite::Result<Found> {
    let count = "select count(*) from sqlite_master";
    Ok(Found {
        tables: connection.query_row(count, [], |row| row.get(0))?,
        application_id: connection.pragma_query_value(None, "application_id", |row| row.get(0))?,
        version: migrations::version(connection)?,
    })
}
