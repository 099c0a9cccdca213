//! Putting copies back: into a database that is in use, by one transaction of it; or into the
//! place of one that is gone.
//!
//! A transaction is what makes a crash harmless, and what programs that have the file open
//! notice: a renamed file would let them go on writing to one that nobody reads any more.

use coditect_core::canonical;
use coditect_protocol::catalogue::File;
use rusqlite::Connection;
use rusqlite::backup::Backup;
use std::fs;
use std::path::{Path, PathBuf};

use super::copy::{self, BUSY_TIMEOUT};
use super::manifest::{Kind, Manifest};
use super::sync_folder;
use super::{BackupProgress, BackupResult, Backups, UNFINISHED, exists, failed};
use crate::database::{Database, set_meta};
use crate::error::InFile as _;
use crate::profile::{make_private_file, make_private_folder, path_of};
use crate::{Lease, Owner};

/// Key of the note that says which backup a file was put back from.
const RESTORED: &str = "restored";

/// What was put back.
#[derive(Clone, Debug)]
pub struct PutBack {
    /// The backup.
    pub from: Manifest,
    /// The files.
    pub files: Vec<File>,
    /// The backup of what was there before; none when nothing was.
    pub undo: Option<Manifest>,
}

/// A copy that is made ready beside the databases; removed when dropped.
struct Stage(PathBuf);

impl Drop for Stage {
    fn drop(&mut self) {
        // What stays is swept by the next backup.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Backups {
    /// Puts copies back. The backup is verified first; what is there is backed up while nobody
    /// can write; each file changes in one transaction, so that a crash leaves the old or the
    /// new one. The next sync treats a file as any that was set back: nothing is lost that the
    /// server has. The lease says that nobody syncs meanwhile.
    ///
    /// # Errors
    /// [`super::BackupError`]; then nothing was changed, unless the system failed between two
    /// files.
    pub fn put_back(
        &self,
        databases: &Path,
        lease: &Lease,
        owner: Option<Owner>,
        (id, files): (&str, &[File]),
        now_ms: i64,
        mut observe: impl FnMut(BackupProgress),
    ) -> BackupResult<PutBack> {
        let _ = lease;
        let _held = self.hold()?;
        self.sweep()?;
        let manifest = self.verify(id)?;
        manifest.suits(owner, files)?;
        let stage = self.stage(&manifest, files, now_ms)?;
        let there: Vec<File> = files
            .iter()
            .copied()
            .filter(|file| exists(databases, *file))
            .collect();
        let mut undo = None;
        let mut before = || -> BackupResult<()> {
            if !there.is_empty() {
                undo = Some(self.take_held(databases, &there, Kind::Undo, now_ms, &mut |_| {})?);
            }
            Ok(())
        };
        swap(databases, &stage.0, &there, &mut before, &mut observe)?;
        for file in files.iter().filter(|file| !there.contains(file)) {
            place(databases, &stage.0, *file)?;
        }
        // The one that was put back from must not be the one that goes.
        self.prune()?;
        Ok(PutBack {
            from: manifest,
            files: files.to_vec(),
            undo,
        })
    }

    /// Copies what is put back, brings it to today's schema and notes where it comes from.
    fn stage(&self, from: &Manifest, files: &[File], now_ms: i64) -> BackupResult<Stage> {
        let stage = Stage(self.path(&format!("{}.staged{UNFINISHED}", from.id)));
        make_private_folder(&stage.0)?;
        for file in files {
            let (kept, path) = (
                path_of(&self.path(&from.id), *file),
                path_of(&stage.0, *file),
            );
            make_private_file(&path)?;
            fs::copy(&kept, &path).map_err(failed(&path))?;
            let database = Database::open(&stage.0, *file)?;
            let note = format!("{} at {}", from.id, canonical::time_from_ms(now_ms));
            set_meta(&database.connection, RESTORED, &note).in_file(*file)?;
            let how = "pragma journal_mode = delete";
            database
                .connection
                .query_row(how, [], |_| Ok(()))
                .in_file(*file)?;
            drop(database);
            fs::File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(failed(&path))?;
        }
        Ok(stage)
    }
}

/// Locks the databases one after the other, does what is to be done before, and fills them.
fn swap(
    databases: &Path,
    stage: &Path,
    files: &[File],
    before: &mut dyn FnMut() -> BackupResult<()>,
    observe: &mut dyn FnMut(BackupProgress),
) -> BackupResult<()> {
    let Some((file, rest)) = files.split_first() else {
        return before();
    };
    let file = *file;
    let source = copy::open(&path_of(stage, file), file)?;
    let mut live = Connection::open(path_of(databases, file)).in_file(file)?;
    live.busy_timeout(BUSY_TIMEOUT).in_file(file)?;
    live.pragma_update(None, "synchronous", "full")
        .in_file(file)?;
    // SQLite knows only after a look that there is a log to write to.
    live.query_row("select count(*) from sqlite_master", [], |_| Ok(()))
        .in_file(file)?;
    let backup = Backup::new(&source, &mut live).in_file(file)?;
    // A step of no pages takes the lock; dropping it before the last step undoes all.
    copy::step(&backup, 0, file)?;
    swap(databases, stage, rest, before, observe)?;
    copy::steps(&backup, 1_024, file, observe)?;
    drop(backup);
    // Where somebody reads, the log stays as it is.
    let _ = live.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()));
    Ok(())
}

/// Puts a copy into the place of a database that is gone. What SQLite kept beside that one does
/// not belong to the copy.
fn place(databases: &Path, stage: &Path, file: File) -> BackupResult<()> {
    make_private_folder(databases)?;
    let path = path_of(databases, file);
    for end in ["-wal", "-shm"] {
        let mut beside = path.clone().into_os_string();
        beside.push(end);
        let beside = PathBuf::from(beside);
        if beside.exists() {
            fs::remove_file(&beside).map_err(failed(&beside))?;
        }
    }
    fs::rename(path_of(stage, file), &path).map_err(failed(&path))?;
    sync_folder(databases)
}
