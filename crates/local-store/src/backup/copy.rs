//! Copying one database while others write to it, and looking whether a copy is as it was.

use coditect_core::hex::hex;
use coditect_protocol::catalogue::File;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use super::content;
use super::manifest::{Manifest, Saved};
use super::{BackupError, BackupProgress, BackupResult, failed};
use crate::database::{self, meta};
use crate::error::{Error, InFile as _};
use crate::profile::{make_private_file, path_of};

/// Pages that are copied at a time.
const STEP_PAGES: i32 = 256;
/// How long a lock that another program holds is waited for, and how often it is looked at.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Copies a database as it is at one moment and notes what it holds. Writers are not stopped:
/// a reader's snapshot is what is copied, so their writes need no second beginning either.
///
/// The database is opened by SQLite alone: a process that opens and closes it in another way loses
/// the locks of all its connections, and its log may be removed under it. Whose it is, the copy
/// tells.
pub(super) fn one(
    databases: &Path,
    to: &Path,
    file: File,
    manifest: &mut Manifest,
    observe: &mut dyn FnMut(BackupProgress),
) -> BackupResult<()> {
    let path = path_of(databases, file);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(&path, flags).in_file(file)?;
    source.busy_timeout(BUSY_TIMEOUT).in_file(file)?;
    source.execute_batch("begin").in_file(file)?;
    let note = |key| meta(&source, key).in_file(file);
    manifest.device_id = manifest.device_id.take().or(note("device_id")?);
    manifest.tenant_id = manifest.tenant_id.take().or(note("tenant_id")?);
    manifest.user_id = manifest.user_id.take().or(note("user_id")?);
    let held = content::of(&source).in_file(file)?;
    let copy = path_of(to, file);
    make_private_file(&copy)?;
    pages(&source, &copy, file, observe)?;
    let bytes = fs::File::open(&copy)
        .and_then(|file| file.sync_all().and_then(|()| file.metadata()))
        .map_err(failed(&copy))?
        .len();
    manifest.files.push(Saved {
        file,
        bytes,
        sha256: checksum(&copy)?,
        digest: held.digest,
        tables: held.tables,
    });
    Ok(())
}

fn pages(
    source: &Connection,
    copy: &Path,
    file: File,
    observe: &mut dyn FnMut(BackupProgress),
) -> BackupResult<()> {
    let mut to = Connection::open(copy).in_file(file)?;
    // The copy is nobody's until it is whole, and is made last by one call at its end.
    to.execute_batch("pragma journal_mode = memory; pragma synchronous = off")
        .in_file(file)?;
    let backup = Backup::new(source, &mut to).in_file(file)?;
    steps(&backup, STEP_PAGES, file, observe)?;
    drop(backup);
    // One file without a log beside it, which can be read anywhere.
    let how = "pragma journal_mode = delete";
    to.query_row(how, [], |_| Ok(())).in_file(file)?;
    to.close().map_err(|(_, error)| error).in_file(file)?;
    Ok(())
}

/// Makes steps of so many pages until all are copied.
pub(super) fn steps(
    backup: &Backup<'_, '_>,
    pages: i32,
    file: File,
    observe: &mut dyn FnMut(BackupProgress),
) -> BackupResult<()> {
    while step(backup, pages, file)? == StepResult::More {
        let progress = backup.progress();
        let number = |pages: i32| u64::try_from(pages).unwrap_or(0);
        observe(BackupProgress {
            file,
            pages: number(progress.pagecount - progress.remaining),
            pages_total: number(progress.pagecount),
        });
    }
    Ok(())
}

/// Makes a step, and waits while another program holds the lock that it needs.
pub(super) fn step(backup: &Backup<'_, '_>, pages: i32, file: File) -> BackupResult<StepResult> {
    for _ in 0..BUSY_TIMEOUT.as_millis() / LOOK_EVERY.as_millis() {
        match backup.step(pages).in_file(file)? {
            StepResult::Busy | StepResult::Locked => std::thread::sleep(LOOK_EVERY),
            done => return Ok(done),
        }
    }
    Err(Error::Busy(file).into())
}

/// Looks whether a copy is as it was when it was made.
pub(super) fn verify(folder: &Path, id: &str, saved: &Saved) -> BackupResult<()> {
    let file = saved.file;
    let damaged = |reason: String| BackupError::Damaged {
        id: id.to_owned(),
        reason: format!("{file}.db {reason}"),
    };
    let path = path_of(folder, file);
    let bytes = fs::metadata(&path)
        .map_err(|error| damaged(error.to_string()))?
        .len();
    if bytes != saved.bytes || checksum(&path)? != saved.sha256 {
        return Err(damaged("is not what was written".to_owned()));
    }
    database::check(folder, file)?;
    let connection = open(&path, file)?;
    let problem: String = connection
        .query_row("pragma integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| damaged(error.to_string()))?;
    if problem != "ok" {
        return Err(damaged(format!(
            "was damaged when it was copied: {problem}"
        )));
    }
    let held = content::of(&connection).map_err(|error| damaged(error.to_string()))?;
    if (&held.tables, &held.digest) != (&saved.tables, &saved.digest) {
        return Err(damaged("holds other rows than were written".to_owned()));
    }
    Ok(())
}

/// Opens a copy, which nobody writes to, without making anything beside it.
pub(super) fn open(path: &Path, file: File) -> BackupResult<Connection> {
    Ok(database::look_into(path, false).in_file(file)?)
}

fn checksum(path: &Path) -> BackupResult<String> {
    const PIECE: usize = 1024 * 1024;
    let read = || -> std::io::Result<String> {
        let mut file = fs::File::open(path)?;
        let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE]);
        loop {
            let bytes = file.read(&mut piece)?;
            if bytes == 0 {
                return Ok(hex(&hash.finalize()));
            }
            hash.update(&piece[..bytes]);
        }
    };
    read().map_err(failed(path))
}
