//! A private PostgreSQL in a folder: found, made, started, watched, stopped.
//!
//! Listens on a unix socket only, in a folder that nobody else may enter. Knows nothing of what
//! is stored in it; roles and tables are the business of [`crate::roles`] and
//! [`crate::migrations`]. All functions block; call them outside the async runtime's threads.

mod archiving;
mod binaries;
mod cluster;
mod guarded;
mod os;
mod process;
mod reach;
mod recovered;
mod recovery;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use archiving::{ArchiveRecord, Archiving, Spool, SpoolLock, SpoolSize, Waiting};
pub use binaries::{Binaries, BinarySearch, find as find_binaries};
use cluster::{Layout, PORT, SUPERUSER};
use process::{Launch, Supervised};
pub use recovered::Recovered;
pub use recovery::{Reached, Site};

/// The program that makes base backups.
const BASE_BACKUP: &str = "pg_basebackup";
const ATTACH_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether commits survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Every commit is on the disk before it is answered.
    Full,
    /// Nothing is forced to the disk: only for data that may be lost, as in tests.
    None,
}

/// How long the server lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the [`EmbeddedPostgres`]; it is started again when it dies.
    Supervised,
    /// Until somebody stops it; the next start of the same folder joins it.
    Detached,
}

/// What an embedded PostgreSQL is started with.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Folder for the cluster, its socket and its log; made when missing, closed to others.
    pub folder: PathBuf,
    /// Where to look for the programs.
    pub search: BinarySearch,
    /// Whether commits survive a power cut.
    pub durability: Durability,
    /// How long the server lives.
    pub lifetime: Lifetime,
    /// Most connections at a time.
    pub connections_max: u32,
    /// Whether the write-ahead log is kept for an archive.
    pub archiving: Archiving,
    /// Further settings of the server, each `name=value`.
    pub settings: Vec<String>,
}

impl EmbeddedOptions {
    /// Returns the options of a durable, supervised server in `folder` with 100 connections.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            search: BinarySearch::default(),
            durability: Durability::Full,
            lifetime: Lifetime::Supervised,
            connections_max: 100,
            archiving: Archiving::AsBefore,
            settings: Vec::new(),
        }
    }
}

/// A running embedded PostgreSQL. Dropping a supervised one stops it.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    layout: Layout,
    has_vector: bool,
    binaries: Binaries,
    /// Whether this process started the server, rather than having joined a running one.
    started: bool,
    supervised: Option<Supervised>,
    /// Keeps a second supervisor out while this one lives.
    _lock: Option<File>,
}

impl EmbeddedPostgres {
    /// Starts the server, making the cluster first when the folder has none.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Locked`] when another process supervises the folder; see the other
    /// variants for what else can be wrong.
    pub fn start(options: &EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let layout = Layout::prepare(&options.folder)?;
        let lock = lock_folder(&layout, false)?;
        Self::start_locked(options, layout, lock)
    }

    /// Joins the server that runs on the folder, or starts it like [`EmbeddedPostgres::start`].
    ///
    /// A server that was joined is not stopped on drop.
    ///
    /// # Errors
    ///
    /// As [`EmbeddedPostgres::start`], and [`EmbeddedError::Start`] when the other process does
    /// not get its server ready within a minute.
    pub fn start_or_attach(options: &EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let layout = Layout::prepare(&options.folder)?;
        let deadline = Instant::now() + ATTACH_TIMEOUT;
        let wait = options.lifetime == Lifetime::Detached;
        loop {
            match lock_folder(&layout, wait) {
                Ok(lock) => return Self::start_locked(options, layout, lock),
                Err(EmbeddedError::Locked { .. }) if process::accepts(&layout.socket()) => {
                    return Self::attached(options, layout);
                }
                Err(EmbeddedError::Locked { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn attached(options: &EmbeddedOptions, layout: Layout) -> Result<Self, EmbeddedError> {
        let binaries = find_binaries(&options.search, layout.major())?;
        Ok(Self {
            layout,
            has_vector: binaries.has_vector,
            binaries,
            started: false,
            supervised: None,
            _lock: None,
        })
    }

    fn start_locked(
        options: &EmbeddedOptions,
        layout: Layout,
        lock: File,
    ) -> Result<Self, EmbeddedError> {
        let detached = options.lifetime == Lifetime::Detached;
        if detached && process::running_pid(&layout).is_some() && process::accepts(&layout.socket())
        {
            return Self::attached(options, layout);
        }
        let binaries = find_binaries(&options.search, layout.major())?;
        let has_vector = binaries.has_vector;
        if layout.major().is_none() {
            layout.initialise(&binaries)?;
        }
        process::clear_orphan(&layout)?;
        archiving::apply(&layout.root, archiving_of(options, &binaries))?;
        let launch = Launch {
            layout: layout.clone(),
            binaries: binaries.clone(),
            options: options.clone(),
        };
        if detached {
            process::start_and_wait_ready(&launch, os::Tie::Detached)?;
            return Ok(Self {
                layout,
                has_vector,
                binaries,
                started: true,
                supervised: None,
                _lock: None,
            });
        }
        let supervised = Some(Supervised::start(launch)?);
        Ok(Self {
            layout,
            has_vector,
            binaries,
            started: true,
            supervised,
            _lock: Some(lock),
        })
    }

    /// Returns the connection string of the cluster's superuser for `database`.
    #[must_use]
    pub fn superuser_url(&self, database: &str) -> String {
        self.url(SUPERUSER, database)
    }

    /// Returns the connection string of `role` for `database`.
    #[must_use]
    pub fn url(&self, role: &str, database: &str) -> String {
        let folder = self.layout.socket_dir.display().to_string();
        let folder = folder.replace('\\', "\\\\").replace('\'', "\\'");
        format!("host='{folder}' port={PORT} user={role} dbname={database}")
    }

    /// Returns the archive that the write-ahead log is kept for.
    #[must_use]
    pub fn archive(&self) -> Option<ArchiveRecord> {
        ArchiveRecord::of(&self.layout.root)
    }

    /// Returns what waits for that archive.
    #[must_use]
    pub fn spool(&self) -> Spool {
        Spool::of(&self.layout.root)
    }

    /// Returns the folder of the cluster, its socket and its log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.layout.root
    }

    /// Returns what makes base backups of the server.
    #[must_use]
    pub fn base_backup(&self) -> BaseBackup {
        let program = self.binaries.program(BASE_BACKUP);
        BaseBackup::new(program, self.superuser_url("postgres"), self.binaries.major)
    }

    /// Returns whether pgvector is installed beside the server.
    #[must_use]
    pub fn has_vector(&self) -> bool {
        self.has_vector
    }

    /// Returns the process id of the server, `None` while it is down.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.supervised {
            Some(supervised) => supervised.pid(),
            None => process::running_pid(&self.layout).map(i32::cast_unsigned),
        }
    }

    /// Returns whether this call started the server, rather than joining a running one.
    #[must_use]
    pub fn was_started(&self) -> bool {
        self.started
    }

    /// Returns whether this process supervises the server, rather than having joined it.
    #[must_use]
    pub fn is_supervisor(&self) -> bool {
        self.supervised.is_some()
    }

    /// Returns a signal that turns true when the server died too often to be started again,
    /// or `None` when this process does not supervise it.
    #[must_use]
    pub fn given_up(&self) -> Option<watch::Receiver<bool>> {
        self.supervised.as_ref().map(Supervised::given_up)
    }

    /// Stops a supervised server and returns when it has ended; blocks up to some ten seconds.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for EmbeddedPostgres {
    fn drop(&mut self) {
        if let Some(supervised) = &mut self.supervised {
            supervised.stop();
            self.layout.remove_outside();
        }
    }
}

/// What makes base backups of a running server.
#[derive(Debug, Clone)]
pub struct BaseBackup {
    program: PathBuf,
    url: String,
    /// Major version of the server.
    pub major: u32,
}

impl BaseBackup {
    /// Names the program, the superuser's connection string and the server's major version.
    #[must_use]
    pub fn new(program: PathBuf, url: String, major: u32) -> Self {
        Self {
            program,
            url,
            major,
        }
    }

    /// Returns the command that writes a base backup as a tar to its standard output, at most
    /// `kib_per_second`. It ends once the write-ahead log that the backup needs was handed over.
    #[must_use]
    pub fn command(&self, kib_per_second: u32) -> Command {
        let mut command = Command::new(&self.program);
        cluster::clean_environment(&mut command);
        command.args(["-d", &self.url]);
        command.args(["-D", "-", "-Ft", "-X", "none", "-c", "fast", "-w"]);
        command.args(["-r", &kib_per_second.to_string()]);
        command
    }
}

/// Returns what is done about an archive: none where nothing would ever be recovered from it.
fn archiving_of(options: &EmbeddedOptions, binaries: &Binaries) -> Archiving {
    let wanted = options.archiving;
    if matches!(wanted, Archiving::Off) || binaries.program(BASE_BACKUP).is_file() {
        return wanted;
    }
    if let Archiving::On { .. } = wanted {
        tracing::warn!(
            folder = %binaries.folder.display(),
            "the database itself is not archived: there is no pg_basebackup beside postgres"
        );
        return Archiving::Off;
    }
    wanted
}

/// Stops the server of a folder that nobody supervises, for instance a detached one.
///
/// # Errors
///
/// [`EmbeddedError::Locked`] when another process supervises it, [`EmbeddedError::Orphan`] when
/// it does not end.
pub fn stop_detached(folder: &Path) -> Result<(), EmbeddedError> {
    if !folder.join("data").is_dir() {
        return Ok(());
    }
    let layout = Layout::prepare(folder)?;
    let _lock = lock_folder(&layout, false)?;
    process::clear_orphan(&layout)
}

fn lock_folder(layout: &Layout, wait: bool) -> Result<File, EmbeddedError> {
    let path = layout.root.join("supervisor.lock");
    let file = guarded::file(&path).map_err(EmbeddedError::io("open", &path))?;
    if wait {
        file.lock().map_err(EmbeddedError::io("lock", &path))?;
        return Ok(file);
    }
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EmbeddedError::Locked {
            folder: layout.root.clone(),
        }),
        Err(TryLockError::Error(error)) => Err(EmbeddedError::io("lock", &path)(error)),
    }
}

/// What keeps an embedded PostgreSQL from running.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No folder has both programs.
    #[error(
        "no postgresql programs found in {}\nhint: run scripts/bootstrap, or set \
         CODITECT_POSTGRES_BIN to a folder with postgres and initdb",
        list(looked_in)
    )]
    NoBinaries {
        /// The folders that were looked into.
        looked_in: Vec<PathBuf>,
    },
    /// The data folder was made by another major version.
    #[error(
        "the data folder belongs to postgresql {wanted}, found only {found:?}\nhint: install \
         postgresql {wanted}, or set CODITECT_POSTGRES_BIN to its bin folder"
    )]
    WrongMajor {
        /// Major version of the data folder.
        wanted: u32,
        /// Major versions of the programs that were found.
        found: Vec<u32>,
    },
    /// The user that PostgreSQL runs as may not pass through a folder above the data, and the
    /// system has no `/proc/self/fd` by which it could do without.
    #[error(
        "postgresql runs as user id {uid}, which cannot enter {} above {}\nhint: use a data \
         folder such as /var/lib/coditect, or chmod a+x that folder",
        parent.display(),
        root.display()
    )]
    Unreachable {
        /// The folder that was asked for.
        root: PathBuf,
        /// The folder above it that is closed.
        parent: PathBuf,
        /// The user id that PostgreSQL runs as.
        uid: u32,
    },
    /// Another process supervises the folder.
    #[error("another process already runs the postgresql in {}", folder.display())]
    Locked {
        /// The folder in question.
        folder: PathBuf,
    },
    /// A server that lost its supervisor does not stop.
    #[error("the postgresql process {pid} of an earlier run does not stop")]
    Orphan {
        /// Its process id.
        pid: i32,
    },
    /// `initdb` failed.
    #[error("initdb failed: {detail}")]
    Initdb {
        /// What it printed.
        detail: String,
    },
    /// The server ended before it accepted connections, or took too long.
    #[error("postgresql did not start: {detail}")]
    Start {
        /// The end of its log.
        detail: String,
    },
    /// A recovery did not come as far as it was to.
    #[error("postgresql did not recover: {detail}")]
    Replay {
        /// The end of its log.
        detail: String,
    },
    /// The file system refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl EmbeddedError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

fn list(folders: &[PathBuf]) -> String {
    let names: Vec<String> = folders
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    names.join(", ")
}
