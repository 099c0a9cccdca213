//! Copies of a device's databases: taken while others write, verified, put back in one
//! transaction per file. It knows neither what a command looks like nor when a copy is due.
//!
//! ```text
//! backups/lock                     held by whoever makes, removes or puts back
//! backups/<id>/org.db …            the copies, each a whole database
//! backups/<id>/manifest.json       what they hold; written last
//! backups/<id>.unfinished/         what a crash left; the next backup removes it
//! ```
//!
//! A file that was put back is one with an older token: the server notices at the next push or
//! pull and the device reconciles (PROTOCOL 25), as after any other copy.

mod compare;
mod content;
mod copy;
mod manifest;
mod restore;
mod salvage;

use coditect_core::canonical;
use coditect_protocol::catalogue::File;
use std::fs::{self, File as Handle, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::profile::{make_private_file, make_private_folder};

pub use compare::Difference;
pub use manifest::{Kind, Manifest, Saved};
pub use restore::PutBack;
pub use salvage::Salvaged;

/// Backups that are kept of each kind that is made by itself.
pub const KEPT: usize = 7;
/// Time between two daily backups, in milliseconds; a little less than a day, so that whoever
/// works at the same hours each day has one each day.
const DAY_MS: i64 = 20 * 3_600_000;
const UNFINISHED: &str = ".unfinished";

/// Why a backup cannot be made, read or put back. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A database failed.
    #[error(transparent)]
    Store(#[from] Error),
    /// A file or folder cannot be read or written.
    #[error("'{}': {source}", path.display())]
    Io {
        /// Path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no such backup, or none of that file.
    #[error("there is no backup {0}")]
    NotFound(String),
    /// It is not what was written: cut off, or changed in places.
    #[error("backup {id} is damaged: {reason}")]
    Damaged {
        /// Its id.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// It is of another account.
    #[error("backup {0} is of another account")]
    Foreign(String),
    /// Another process makes, removes or puts back one.
    #[error("another process works on the backups in '{}'", .0.display())]
    InUse(PathBuf),
}

/// Result of working on backups.
pub type BackupResult<T> = Result<T, BackupError>;

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupProgress {
    /// The file that is copied.
    pub file: File,
    /// Pages that were copied.
    pub pages: u64,
    /// Pages of the file.
    pub pages_total: u64,
}

/// One backup, as a list shows it.
#[derive(Debug)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// What it holds, or why that cannot be read.
    pub manifest: BackupResult<Manifest>,
}

/// A folder of backups.
#[derive(Clone, Debug)]
pub struct Backups {
    folder: PathBuf,
}

/// The right to change a folder of backups; ends when dropped, also by a crash.
#[derive(Debug)]
struct Held(#[expect(dead_code, reason = "held, not looked at")] Handle);

impl Backups {
    /// Returns the backups of a folder. Nothing is made yet.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Returns where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Copies databases while others go on writing, verifies the copies, and forgets what need
    /// not be kept any longer. Files that do not exist are left out. `observe` is told after
    /// every few pages.
    ///
    /// # Errors
    /// [`BackupError`]; then there is no new backup.
    pub fn take(
        &self,
        databases: &Path,
        files: &[File],
        kind: Kind,
        now_ms: i64,
        mut observe: impl FnMut(BackupProgress),
    ) -> BackupResult<Manifest> {
        let _held = self.hold()?;
        self.sweep()?;
        let manifest = self.take_held(databases, files, kind, now_ms, &mut observe)?;
        self.prune()?;
        Ok(manifest)
    }

    /// Backs up the critical file, unless that was done less than a day ago or somebody is at it.
    /// Two looks at names when there is nothing to do.
    ///
    /// # Errors
    /// As [`Backups::take`].
    pub fn take_daily(&self, databases: &Path, now_ms: i64) -> BackupResult<Option<Manifest>> {
        let last_ms = self.last_daily_ms()?;
        // A clock that was put back must not end the daily backups.
        let is_young = |at: i64| (0..DAY_MS).contains(&(now_ms - at));
        if last_ms.is_some_and(is_young) || !databases.join("org.db").exists() {
            return Ok(None);
        }
        match self.take(databases, &[File::Org], Kind::Daily, now_ms, |_| {}) {
            Err(BackupError::InUse(_)) => Ok(None),
            taken => taken.map(Some),
        }
    }

    /// Returns when the last daily backup was made, by its name.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn last_daily_ms(&self) -> BackupResult<Option<i64>> {
        let daily = |id: &String| Kind::of(id) == Some(Kind::Daily);
        Ok(self
            .ids()?
            .iter()
            .rev()
            .find(|id| daily(id))
            .and_then(|id| manifest::time_of(id)))
    }

    /// Returns all backups, oldest first, without reading the copies.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> BackupResult<Vec<Listed>> {
        let listed = |id: String| Listed {
            manifest: self.manifest(&id),
            id,
        };
        Ok(self.ids()?.into_iter().map(listed).collect())
    }

    /// Reads a backup whole: the bytes, each copy's structure, its rows, all against what was
    /// written down when it was made.
    ///
    /// # Errors
    /// [`BackupError::Damaged`] when something is not as it was.
    pub fn verify(&self, id: &str) -> BackupResult<Manifest> {
        let manifest = self.manifest(id)?;
        for saved in &manifest.files {
            copy::verify(&self.path(id), id, saved)?;
        }
        Ok(manifest)
    }

    /// Removes a backup.
    ///
    /// # Errors
    /// [`BackupError::NotFound`] when there is none.
    pub fn remove(&self, id: &str) -> BackupResult<()> {
        let _held = self.hold()?;
        self.known(id)?;
        self.remove_held(id)
    }

    /// Returns the newest backup with a file that is as it was written; damaged ones are passed
    /// over.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn newest_good(&self, file: File) -> BackupResult<Option<Manifest>> {
        for id in self.ids()?.into_iter().rev() {
            let has = |manifest: &Manifest| manifest.saved(file).is_some();
            if self.manifest(&id).is_ok_and(|manifest| has(&manifest))
                && let Ok(manifest) = self.verify(&id)
            {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }

    /// Returns the names of finished backups, oldest first.
    fn ids(&self) -> BackupResult<Vec<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed(&self.folder)(source)),
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let names = names.filter_map(|name| name.into_string().ok());
        let mut ids: Vec<String> = names.filter(|name| Kind::of(name).is_some()).collect();
        ids.sort();
        Ok(ids)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    fn known(&self, id: &str) -> BackupResult<()> {
        if Kind::of(id).is_some() && self.path(id).is_dir() {
            return Ok(());
        }
        Err(BackupError::NotFound(id.to_owned()))
    }

    fn manifest(&self, id: &str) -> BackupResult<Manifest> {
        self.known(id)?;
        manifest::read(&self.path(id), id)
    }

    fn hold(&self) -> BackupResult<Held> {
        make_private_folder(&self.folder)?;
        let path = self.folder.join("lock");
        make_private_file(&path)?;
        let file = Handle::options()
            .write(true)
            .open(&path)
            .map_err(failed(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Held(file)),
            Err(TryLockError::WouldBlock) => Err(BackupError::InUse(self.folder.clone())),
            Err(TryLockError::Error(source)) => Err(failed(&path)(source)),
        }
    }

    /// Removes what a crash left.
    fn sweep(&self) -> BackupResult<()> {
        let entries = fs::read_dir(&self.folder).map_err(failed(&self.folder))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
                fs::remove_dir_all(&path).map_err(failed(&path))?;
            }
        }
        Ok(())
    }

    /// Removes the oldest ones of each kind that is made by itself.
    fn prune(&self) -> BackupResult<()> {
        for kind in [Kind::Daily, Kind::Undo] {
            let ids = self.ids()?;
            let of_kind: Vec<_> = ids.iter().filter(|id| Kind::of(id) == Some(kind)).collect();
            for id in of_kind.iter().rev().skip(KEPT) {
                self.remove_held(id)?;
            }
        }
        Ok(())
    }

    /// A crash in between must not leave half a backup under its name.
    fn remove_held(&self, id: &str) -> BackupResult<()> {
        let (path, gone) = (self.path(id), self.path(&format!("{id}{UNFINISHED}")));
        fs::rename(&path, &gone).map_err(failed(&path))?;
        fs::remove_dir_all(&gone).map_err(failed(&gone))
    }

    fn take_held(
        &self,
        databases: &Path,
        files: &[File],
        kind: Kind,
        now_ms: i64,
        observe: &mut dyn FnMut(BackupProgress),
    ) -> BackupResult<Manifest> {
        let id = self.free_id(kind, now_ms);
        let unfinished = self.path(&format!("{id}{UNFINISHED}"));
        make_private_folder(&unfinished)?;
        let mut made = || -> BackupResult<Manifest> {
            let created_at = canonical::time_from_ms(now_ms);
            let mut manifest = Manifest::new(id.clone(), kind, created_at);
            for file in files.iter().filter(|file| exists(databases, **file)) {
                copy::one(databases, &unfinished, *file, &mut manifest, observe)?;
            }
            if manifest.files.is_empty() {
                return Err(BackupError::NotFound(
                    "of databases that do not exist".to_owned(),
                ));
            }
            for saved in &manifest.files {
                copy::verify(&unfinished, &id, saved)?;
            }
            manifest::write(&unfinished, &manifest)?;
            let path = self.path(&id);
            fs::rename(&unfinished, &path).map_err(failed(&path))?;
            sync_folder(&self.folder)?;
            Ok(manifest)
        };
        let made = made();
        if made.is_err() {
            // The error of making it says more than one of cleaning up.
            let _ = fs::remove_dir_all(&unfinished);
        }
        made
    }

    fn free_id(&self, kind: Kind, now_ms: i64) -> String {
        let plain = manifest::id(kind, now_ms);
        let numbered = (2..).map(|n| format!("{plain}-{n:02}"));
        let free = |id: &String| !self.path(id).exists();
        std::iter::once(plain.clone())
            .chain(numbered)
            .find(free)
            .unwrap_or(plain)
    }
}

fn exists(databases: &Path, file: File) -> bool {
    let path = crate::profile::path_of(databases, file);
    fs::metadata(path).is_ok_and(|found| found.len() > 0)
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> BackupError + '_ {
    |source| BackupError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Makes what was renamed in a folder last.
fn sync_folder(folder: &Path) -> BackupResult<()> {
    #[cfg(unix)]
    Handle::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed(folder))?;
    Ok(())
}
