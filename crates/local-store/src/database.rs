//! One of the four files: opening it without harm to what is not ours, and the transaction in
//! which all our writes happen.

use coditect_protocol::catalogue::File;
use rusqlite::backup::Backup;
use rusqlite::config::DbConfig;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior,
};
use std::cell::Cell;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, InFile as _, Result};
use crate::migrations::{self, STEPS};
use crate::profile::{make_private_file, path_of};
use crate::schema::{APPLICATION_ID, position};

/// How long a statement waits for another writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the emptying of a log waits for other readers and writers.
const SHORTEN_WAIT: Duration = Duration::from_millis(100);
/// Pages of the log that an ordinary and a bulk writer let come together; SQLite's own number.
const LOG_PAGES: i64 = 1_000;
const BULK_LOG_PAGES: i64 = 8_000;
/// Memory for pages, in KiB and negative as SQLite wants it; its own number and that of bulk.
const CACHE_KIB: i64 = -2_000;
const BULK_CACHE_KIB: i64 = -32_000;
/// Memory for pages while a long queue is sent: what a full batch of small rows touches, between
/// making it and settling it.
const SENDING_CACHE_KIB: i64 = -20_000;
/// Statements kept prepared per file.
const STATEMENTS_MAX: usize = 256;

/// An open file.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) file: File,
    pub(crate) connection: Connection,
    /// Whether the file's triggers run for this connection; for quick writes they need not even
    /// be compiled.
    has_triggers: bool,
    /// Whether a long queue is being sent.
    sends_much: Cell<bool>,
}

impl Database {
    /// Opens a file of the folder that was checked, makes or migrates it where needed.
    pub(crate) fn open(folder: &Path, file: File) -> Result<Self> {
        let path = path_of(folder, file);
        make_private_file(&path)?;
        let connection = Connection::open(&path).in_file(file)?;
        match Self::prepare(connection, file, Some(folder)) {
            // With a full disk even the shared memory of readers has no room. Alone, one can
            // still read.
            Err(Error::NoSpace { .. }) => {
                let connection = Connection::open(&path).in_file(file)?;
                connection
                    .pragma_update(None, "locking_mode", "exclusive")
                    .in_file(file)?;
                Self::prepare(connection, file, Some(folder))
            }
            prepared => prepared,
        }
    }

    /// Opens a file that is ours and of this version for a few quick writes; none when it has to
    /// be made or migrated. When it is closed, nothing is written back: whoever opens it next
    /// finds the log, and [`Database::shorten_log`] keeps it short. Triggers are off, so it must
    /// write nothing that needs them: new rows with marks of their own, but no bases.
    pub(crate) fn open_quickly(folder: &Path, file: File, wait: Duration) -> Result<Option<Self>> {
        let path = path_of(folder, file);
        match first_page(&path) {
            // No id yet: nothing, or somebody else's, or ours whose header is still in the log.
            Ok(FirstPage::Empty | FirstPage::Id(0)) => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { path, source }),
            Ok(FirstPage::NoDatabase) => return Err(Error::NotADatabase(path)),
            Ok(FirstPage::Id(id)) if id != APPLICATION_ID => return Err(Error::NotOurs(path)),
            Ok(FirstPage::Id(_)) => {}
        }
        let prepare = || -> rusqlite::Result<(Connection, i64)> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&path, flags)?;
            connection.busy_timeout(wait)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
            keep_plans(&connection)?;
            connection.pragma_update(None, "synchronous", synchronous(file))?;
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
            let version = migrations::version(&connection)?;
            Ok((connection, version))
        };
        let (connection, found) = prepare().in_file(file)?;
        let known = migrations::latest(STEPS);
        if found > known {
            return Err(Error::TooNew { path, found, known });
        }
        Ok((found == known).then_some(Self {
            file,
            connection,
            has_triggers: false,
            sends_much: Cell::new(false),
        }))
    }

    /// Writes the log of a file back and empties it, because whoever opens a file alone reads its
    /// whole log. Writers need not wait for the disk meanwhile. Returns whether it is empty: not
    /// while others read or write much, nor when the file has to be made or migrated.
    pub(crate) fn shorten_log(folder: &Path, file: File) -> Result<bool> {
        let Some(database) = Self::open_quickly(folder, file, SHORTEN_WAIT)? else {
            return Ok(false);
        };
        let connection = &database.connection;
        let shorten = || -> rusqlite::Result<bool> {
            // The long part holds no lock that a writer needs; the short one finds little left.
            let passive = "pragma wal_checkpoint(passive)";
            connection.query_row(passive, [], |_| Ok(()))?;
            let truncate = "pragma wal_checkpoint(truncate)";
            let is_busy: bool = connection.query_row(truncate, [], |row| row.get(0))?;
            if !is_busy {
                // The first write to an empty log waits for the disk: better here than in a hook.
                connection.execute("update sync_flag set applying = 0", [])?;
            }
            Ok(!is_busy)
        };
        match shorten() {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(false),
            done => done.in_file(file),
        }
    }

    /// Writes the log back and empties it; returns whether it is empty: not while others read.
    pub(crate) fn empty_log(&self) -> Result<bool> {
        let empty = || -> rusqlite::Result<bool> {
            self.connection.busy_timeout(SHORTEN_WAIT)?;
            let truncate = "pragma wal_checkpoint(truncate)";
            let is_busy = self.connection.query_row(truncate, [], |row| row.get(0));
            self.connection.busy_timeout(BUSY_TIMEOUT)?;
            is_busy.map(|is_busy: bool| !is_busy)
        };
        empty().in_file(self.file)
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
        keep_plans(&connection).in_file(file)?;
        if folder.is_some() {
            let journal: String = connection
                .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
                .in_file(file)?;
            tracing::trace!(file = %file, journal, "opened");
            connection
                .pragma_update(None, "synchronous", synchronous(file))
                .in_file(file)?;
            let how = secure_delete(file);
            connection
                .pragma_update_and_check(None, "secure_delete", how, |_| Ok(()))
                .in_file(file)?;
        }
        connection
            .pragma_update(None, "foreign_keys", false)
            .in_file(file)?;
        migrations::run(&mut connection, file, folder, STEPS)?;
        Ok(Self {
            file,
            connection,
            has_triggers: true,
            sends_much: Cell::new(false),
        })
    }

    /// Takes more memory and writes the log back more seldom while much is written.
    pub(crate) fn set_bulk(&self, on: bool) -> Result<()> {
        let cache = if on { BULK_CACHE_KIB } else { CACHE_KIB };
        self.set_pace(cache, on)
    }

    /// Does so while a long queue is sent, until [`Database::send_little`].
    pub(crate) fn send_much(&self) -> Result<()> {
        match self.sends_much.replace(true) {
            true => Ok(()),
            false => self.set_pace(SENDING_CACHE_KIB, true),
        }
    }

    /// Gives back what [`Database::send_much`] took, if it took anything.
    pub(crate) fn send_little(&self) -> Result<()> {
        match self.sends_much.replace(false) {
            true => self.set_pace(CACHE_KIB, false),
            false => Ok(()),
        }
    }

    fn set_pace(&self, cache_kib: i64, much: bool) -> Result<()> {
        let pages = if much { BULK_LOG_PAGES } else { LOG_PAGES };
        let set = || -> rusqlite::Result<()> {
            self.connection
                .pragma_update(None, "cache_size", cache_kib)?;
            self.connection
                .pragma_update(None, "wal_autocheckpoint", pages)?;
            if !much {
                self.connection.release_memory()?;
                let checkpoint = "pragma wal_checkpoint(passive)";
                self.connection.query_row(checkpoint, [], |_| Ok(()))?;
            }
            Ok(())
        };
        set().in_file(self.file)
    }

    /// Returns a value of the file's own notes.
    pub(crate) fn meta(&self, key: &str) -> Result<Option<String>> {
        meta(&self.connection, key).in_file(self.file)
    }

    /// Starts a transaction that holds the write lock from the start. The triggers see nothing
    /// of what happens in it.
    pub(crate) fn begin(&mut self, applying: bool) -> Result<Transaction<'_>> {
        let tx = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .in_file(self.file)?;
        if self.has_triggers {
            set_applying(&tx, applying).in_file(self.file)?;
        }
        Ok(tx)
    }
}

/// Plans statements without looking at their parameters: else SQLite makes some plans anew for
/// every new value, which costs more than running them.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map(drop)
}

/// The transcripts can be imported again; what people wrote cannot.
fn synchronous(file: File) -> &'static str {
    if file == File::Org { "full" } else { "normal" }
}

/// What is overwritten or deleted is gone from the file: another program may have written a secret
/// before this one sees the row. What goes into sessions.db is clean before it is written, except
/// by such programs; there only what costs no further write is overwritten.
fn secure_delete(file: File) -> &'static str {
    if file == File::Sessions { "fast" } else { "on" }
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
    // What is off already needs no write.
    let sql = if on {
        "update sync_flag set applying = 1"
    } else {
        "update sync_flag set applying = 0 where applying <> 0"
    };
    let changed = tx.prepare_cached(sql)?.execute([])?;
    if changed == 0 && on {
        tx.execute("insert into sync_flag (applying) values (1)", [])?;
    }
    Ok(())
}

/// Looks at a file without writing to it, not even by a checkpoint.
pub(crate) fn check(folder: &Path, file: File) -> Result<()> {
    let path = &path_of(folder, file);
    let failed = |source| Error::Io {
        path: path.clone(),
        source,
    };
    let ours = match first_page(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(FirstPage::Empty) => return Ok(()),
        Ok(FirstPage::NoDatabase) => return Err(Error::NotADatabase(path.clone())),
        // Another program's id says enough; its database is not even opened.
        Ok(FirstPage::Id(id)) if id != 0 && id != APPLICATION_ID => {
            return Err(Error::NotOurs(path.clone()));
        }
        Ok(FirstPage::Id(id)) => id == APPLICATION_ID,
    };
    let look = |shared| -> rusqlite::Result<Found> {
        let connection = look_into(path, shared)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        inspect(&connection)
    };
    let found = match look(ours) {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            return Err(Error::NotADatabase(path.clone()));
        }
        looked => looked.in_file(file),
    };
    let found = match found {
        // With a full disk there is no room for the shared memory of readers either.
        Err(Error::NoSpace { .. }) if ours => look(false).in_file(file)?,
        found => found?,
    };
    if found.tables == 0 && found.application_id == 0 && found.version == 0 {
        return Ok(());
    }
    if found.application_id != APPLICATION_ID {
        return Err(Error::NotOurs(path.clone()));
    }
    let known = migrations::latest(STEPS);
    if found.version > known {
        return Err(Error::TooNew {
            path: path.clone(),
            found: found.version,
            known,
        });
    }
    match found.file {
        Some(name) if name != file.as_str() => Err(Error::WrongFile {
            path: path.clone(),
            expected: file,
            found: name,
        }),
        _ => Ok(()),
    }
}

/// Opens a file for reading. Beside somebody else's that is not in use nothing appears: reading
/// a database in WAL mode would otherwise make two files.
pub(crate) fn look_into(path: &Path, shared: bool) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let in_use = std::fs::metadata(log).is_ok_and(|log| log.len() > 0);
    match path.to_str() {
        Some(text) if !shared && !in_use => {
            let escaped = text
                .replace('%', "%25")
                .replace('?', "%3f")
                .replace('#', "%23");
            let address = format!("file:{escaped}?immutable=1");
            Connection::open_with_flags(address, flags | OpenFlags::SQLITE_OPEN_URI)
        }
        _ => Connection::open_with_flags(path, flags),
    }
}

enum FirstPage {
    Empty,
    NoDatabase,
    /// The application id in SQLite's header.
    Id(i32),
}

/// Reads SQLite's header, which every database begins with.
fn first_page(path: &Path) -> std::io::Result<FirstPage> {
    const HEADER_BYTES: usize = 100;
    const MAGIC: &[u8] = b"SQLite format 3\0";
    let mut header = Vec::with_capacity(HEADER_BYTES);
    std::fs::File::open(path)?
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut header)?;
    Ok(match header.get(68..72).map(<[u8; 4]>::try_from) {
        _ if header.is_empty() => FirstPage::Empty,
        Some(Ok(id)) if header.len() == HEADER_BYTES && header.starts_with(MAGIC) => {
            FirstPage::Id(i32::from_be_bytes(id))
        }
        _ => FirstPage::NoDatabase,
    })
}

struct Found {
    tables: i64,
    application_id: i32,
    version: i64,
    /// Which of the four it says it is.
    file: Option<String>,
}

fn inspect(connection: &Connection) -> rusqlite::Result<Found> {
    let count = "select count(*) from sqlite_master";
    let application_id = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let file = match application_id {
        APPLICATION_ID => meta(connection, "file")?,
        _ => None,
    };
    Ok(Found {
        tables: connection.query_row(count, [], |row| row.get(0))?,
        application_id,
        version: migrations::version(connection)?,
        file,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_for_a_long_queue_is_given_back() {
        let database = Database::in_memory(File::Sessions).unwrap();
        let cache = || -> i64 {
            let connection = &database.connection;
            let read = connection.pragma_query_value(None, "cache_size", |row| row.get(0));
            read.unwrap()
        };
        let usual = cache();
        database.send_little().unwrap();
        assert_eq!(cache(), usual);
        for _ in 0..2 {
            database.send_much().unwrap();
            assert_eq!(cache(), SENDING_CACHE_KIB);
        }
        for _ in 0..2 {
            database.send_little().unwrap();
            assert_eq!(cache(), CACHE_KIB);
        }
    }
}
