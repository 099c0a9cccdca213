//! A folder whose account was erased: its databases go, bytes and all, and until somebody begins
//! anew nothing is recorded there (ADR 0034).
//!
//! The note about it is written first and lies beside the folder. Whatever is cut off goes on the
//! next time that somebody wants to open the folder.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::LocalStore;
use crate::error::{Error, Result};

/// Bytes that are written over at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Longest note that is read, in bytes.
const NOTE_BYTES_MAX: usize = 64 * 1024;

impl LocalStore {
    /// Removes the four databases of a folder and all that lies beside them in it, after writing
    /// over them, and leaves `note` for people. Nothing is recorded in the folder until
    /// [`LocalStore::begin_anew`]. The caller holds its lease.
    ///
    /// # Errors
    /// When the system refuses; calling it again goes on.
    pub fn erase(folder: &Path, note: &str) -> Result<()> {
        let path = note_of(folder);
        write_note(&path, note).map_err(failed(&path))?;
        finish(folder)
    }

    /// Returns the note of a folder that was erased. Costs one look at a name.
    #[must_use]
    pub fn erased_note(folder: &Path) -> Option<String> {
        let note = fs::read(note_of(folder)).ok()?;
        let note = &note[..note.len().min(NOTE_BYTES_MAX)];
        Some(String::from_utf8_lossy(note).into_owned())
    }

    /// Lets a folder that was erased be used again, empty.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn begin_anew(folder: &Path) -> Result<()> {
        finish(folder)?;
        let path = note_of(folder);
        remove(&path).map_err(failed(&path))
    }

    /// Removes a folder or a file, after writing over all that is in it. What is not there is no
    /// error.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn shred(path: &Path) -> Result<()> {
        shred(path).map_err(failed(path))
    }
}

/// Refuses a folder that was erased, and removes what is left of it.
pub(crate) fn check(folder: &Path) -> Result<()> {
    if !is_erased(folder) {
        return Ok(());
    }
    finish(folder)?;
    Err(Error::Erased(folder.to_owned()))
}

/// Returns whether the folder was erased. Costs one look at a name.
pub(crate) fn is_erased(folder: &Path) -> bool {
    note_of(folder).exists()
}

fn finish(folder: &Path) -> Result<()> {
    let going = beside(folder, ".erased");
    // What an earlier attempt left, so that there is room for the name.
    shred(&going).map_err(failed(&going))?;
    match fs::rename(folder, &going) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        renamed => renamed.map_err(failed(folder))?,
    }
    shred(&going).map_err(failed(&going))
}

fn note_of(folder: &Path) -> PathBuf {
    beside(folder, ".erased.json")
}

fn beside(folder: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = folder.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    folder.with_file_name(name)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

fn write_note(path: &Path, note: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(note.as_bytes())?;
    file.sync_all()?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// What another process has removed meanwhile is no error: several may be at it.
fn shred(path: &Path) -> io::Result<()> {
    match shred_there(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Links are removed and never followed.
fn shred_there(path: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?.file_type();
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            shred(&entry?.path())?;
        }
        return fs::remove_dir(path);
    }
    if kind.is_file() {
        write_over(path)?;
    }
    remove(path)
}

/// A file system that writes elsewhere keeps the old bytes all the same; for those there is only
/// encryption of the disk.
fn write_over(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut left = file.metadata()?.len();
    let zeros = vec![0; PIECE_BYTES];
    while left > 0 {
        let piece = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        file.write_all(&zeros[..piece])?;
        left -= piece as u64;
    }
    file.sync_all()?;
    file.set_len(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;
    use coditect_protocol::catalogue::File as Database;
    use std::time::Duration;

    fn open(folder: &Path) -> Result<LocalStore> {
        LocalStore::open(folder, 1, Random::Seeded(7))
    }

    #[test]
    fn an_erased_folder_stays_empty_until_somebody_begins_anew() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("context-storage");
        let first = open(&folder).unwrap().device();
        LocalStore::erase(&folder, "why").unwrap();
        assert!(!folder.exists());
        assert_eq!(LocalStore::erased_note(&folder).as_deref(), Some("why"));
        assert!(matches!(open(&folder), Err(Error::Erased(_))));
        let one = LocalStore::open_one(&folder, Database::Org, Duration::ZERO, Random::System);
        assert!(matches!(one, Err(Error::Erased(_))));
        LocalStore::begin_anew(&folder).unwrap();
        assert_eq!(LocalStore::erased_note(&folder), None);
        let store = LocalStore::open(&folder, 2, Random::Seeded(8)).unwrap();
        assert_ne!(store.device(), first);
        assert!(store.owner_of_folder().is_none());
    }

    #[test]
    fn what_was_cut_off_goes_on() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("context-storage");
        drop(open(&folder).unwrap());
        let left = parent.path().join("context-storage.erased");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("org.db"), "of before").unwrap();
        // The note is there, nothing else was done yet.
        write_note(&note_of(&folder), "why").unwrap();
        assert!(matches!(open(&folder), Err(Error::Erased(_))));
        assert!(!folder.exists() && !left.exists());
    }

    #[test]
    fn bytes_are_written_over_before_a_file_goes() {
        let parent = tempfile::tempdir().unwrap();
        let (path, other) = (parent.path().join("a"), parent.path().join("b"));
        fs::write(&path, vec![7; PIECE_BYTES + 3]).unwrap();
        // Another name of the same bytes shows what becomes of them.
        fs::hard_link(&path, &other).unwrap();
        write_over(&path).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"");
        shred(parent.path()).unwrap();
        assert!(!parent.path().exists());
    }
}
