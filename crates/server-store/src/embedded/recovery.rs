//! Recovers a cluster from a base backup and the write-ahead log (WAL) behind it.
//!
//! The caller unpacks both into the folder of a cluster that nobody runs; here PostgreSQL is
//! started on it, replays the WAL as far as it was told, begins a timeline of its own, and is
//! stopped again.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_postgres::NoTls;
use tokio_postgres::types::Type;

use super::archiving::ArchiveRecord;
use super::cluster::{Layout, PORT, SUPERUSER};
use super::os::{self, Tie};
use super::process::{self, Launch};
use super::{BinarySearch, EmbeddedError, EmbeddedOptions, find_binaries, guarded};

/// Longest replay: far beyond what a day's WAL takes.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(600);
/// Where the caller puts the WAL, below the cluster's folder.
const RESTORE: &str = "restore";

const REACHED: &str = "select pg_last_xact_replay_timestamp(), pg_last_wal_replay_lsn()::text,
    (select timeline_id from pg_control_checkpoint()),
    (select system_identifier from pg_control_system())";

/// The folder of a cluster that is being put together.
#[derive(Debug)]
pub struct Site {
    layout: Layout,
}

/// How far a recovery came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// When the last transaction that was replayed was committed; none when there was none.
    pub last_transaction: Option<DateTime<Utc>>,
    /// The position in the WAL.
    pub lsn: String,
    /// The timeline that was begun.
    pub timeline: u32,
    /// What PostgreSQL calls the database.
    pub system_identifier: u64,
}

impl Site {
    /// Prepares an empty folder for a cluster: it is made, given to the user that PostgreSQL runs
    /// as, and closed to everybody else.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub fn prepare(folder: &Path) -> Result<Self, EmbeddedError> {
        let layout = Layout::prepare(folder)?;
        for folder in [&layout.data, &layout.root.join(RESTORE)] {
            guarded::own(folder, layout.account)
                .map_err(EmbeddedError::io("make and own", folder))?;
        }
        Ok(Self { layout })
    }

    /// Returns the folder for the files of the base backup.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.layout.data
    }

    /// Returns the folder for the files of the WAL.
    #[must_use]
    pub fn wal(&self) -> PathBuf {
        self.layout.root.join(RESTORE)
    }

    /// Replays the WAL up to `until`, or all of it, and keeps what is written from then on for the
    /// archive of `record`. Blocks.
    ///
    /// # Errors
    /// [`EmbeddedError::Replay`] when PostgreSQL refuses what it is given, or the WAL ends before
    /// `until`.
    pub fn replay(
        &self,
        search: &BinarySearch,
        record: &ArchiveRecord,
        until: Option<DateTime<Utc>>,
    ) -> Result<Reached, EmbeddedError> {
        let layout = &self.layout;
        let signal = layout.data.join("recovery.signal");
        fs::write(&signal, "").map_err(EmbeddedError::io("write", &signal))?;
        for folder in [&layout.data, &self.wal()] {
            give(folder, layout).map_err(EmbeddedError::io("give away", folder))?;
        }
        record.write(&layout.root)?;
        let mut options = EmbeddedOptions::new(&layout.root);
        options.search = search.clone();
        options.settings = settings(until);
        let launch = Launch {
            layout: layout.clone(),
            binaries: find_binaries(search, layout.major())?,
            options,
        };
        // Linux ends PostgreSQL with the thread that started it: this one stays until it has ended.
        let mut child = process::spawn(&launch, Tie::DiesWithThread)?;
        let reached = wait_promoted(layout, &mut child).and_then(|()| reached(layout));
        let stopped = stop(layout, &mut child);
        let reached = reached?;
        stopped?;
        let wal = self.wal();
        fs::remove_dir_all(&wal).map_err(EmbeddedError::io("remove", &wal))?;
        Ok(reached)
    }

    /// Forces everything in the folder to the disk.
    ///
    /// # Errors
    /// [`EmbeddedError::Io`].
    pub fn sync(&self) -> Result<(), EmbeddedError> {
        let root = &self.layout.root;
        let folder = fs::File::open(root).map_err(EmbeddedError::io("open", root))?;
        os::sync_file_system(&folder).map_err(EmbeddedError::io("sync", root))
    }
}

fn settings(until: Option<DateTime<Utc>>) -> Vec<String> {
    let mut settings = vec![
        // Ready means: recovered. Nobody reads before.
        "hot_standby=off".to_owned(),
        format!("restore_command=cp ../{RESTORE}/%f \"%p\""),
        "recovery_target_timeline=latest".to_owned(),
        "recovery_target_action=promote".to_owned(),
    ];
    if let Some(until) = until {
        // Names of time zones, also Z, are not known yet when the setting is read.
        let until = until.format("%Y-%m-%d %H:%M:%S%.6f+00");
        settings.push(format!("recovery_target_time={until}"));
    }
    settings
}

/// Gives everything below a folder, and the folder, to PostgreSQL's user, closed to all others.
fn give(folder: &Path, layout: &Layout) -> std::io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
                continue;
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            if let Some(account) = layout.account {
                lchown(&path, Some(account.uid), Some(account.gid))?;
            }
        }
        guarded::own(&folder, layout.account)?;
    }
    Ok(())
}

/// Waits until PostgreSQL notes that it takes connections. Asking it would fill its log.
fn wait_promoted(layout: &Layout, child: &mut Child) -> Result<(), EmbeddedError> {
    let deadline = Instant::now() + REPLAY_TIMEOUT;
    loop {
        let ended = child.try_wait();
        let ended = ended.map_err(EmbeddedError::io("watch", &layout.data))?;
        if ended.is_some() || Instant::now() > deadline {
            let detail = layout.log_tail();
            return Err(EmbeddedError::Replay { detail });
        }
        let notes = guarded::read(&layout.pid_file());
        let notes = String::from_utf8_lossy(&notes).into_owned();
        if notes.lines().nth(7).is_some_and(|it| it.trim() == "ready") {
            return Ok(());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn reached(layout: &Layout) -> Result<Reached, EmbeddedError> {
    let failed = |error: tokio_postgres::Error| EmbeddedError::Replay {
        detail: error.to_string(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(EmbeddedError::io("start a runtime in", Path::new("/")))?;
    runtime.block_on(async {
        let folder = layout.socket_dir.display().to_string();
        let mut config = tokio_postgres::Config::new();
        config
            .host(folder)
            .port(PORT)
            .user(SUPERUSER)
            .dbname("postgres");
        let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
        let connection = tokio::spawn(connection);
        let none: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 0] = [];
        let row = client
            .query_typed_one(REACHED, &none)
            .await
            .map_err(failed)?;
        let number: i64 = row.try_get(3).map_err(failed)?;
        let timeline: i32 = row.try_get(2).map_err(failed)?;
        let reached = Reached {
            last_transaction: row.try_get(0).map_err(failed)?,
            lsn: row.try_get(1).map_err(failed)?,
            timeline: timeline.cast_unsigned(),
            system_identifier: number.cast_unsigned(),
        };
        drop(client);
        connection.abort();
        Ok(reached)
    })
}

fn stop(layout: &Layout, child: &mut Child) -> Result<(), EmbeddedError> {
    let watch = || EmbeddedError::io("watch", &layout.data);
    let deadline = Instant::now() + STOP_TIMEOUT;
    let mut signal = libc::SIGINT;
    while child.try_wait().map_err(watch())?.is_none() {
        if Instant::now() > deadline {
            signal = libc::SIGQUIT;
        }
        // It may end between the look and the signal, which is what we want.
        let _ = os::send_signal(child.id().cast_signed(), signal);
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}
