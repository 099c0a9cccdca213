//! Keeps the write-ahead log (WAL) of a cluster for an archive: PostgreSQL hands every segment to
//! a spool beside its data, whence somebody else fetches it.
//!
//! The spool has a folder for each start of PostgreSQL. So a segment that was written twice,
//! because an older copy of the data was put back between, never meets its namesake, and who
//! fetches them sees which came first. `archive.json` beside the data names the archive; where it
//! is, every start archives, so that no segment is left out, and where it is not, none does.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::os::Account;
use super::{EmbeddedError, guarded};
use crate::credential::random_uuid;

const RECORD: &str = "archive.json";
const SPOOL: &str = "spool";
const RECORD_BYTES_MAX: usize = 4096;

/// Whether a start keeps the WAL for an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archiving {
    /// As the start before.
    AsBefore,
    /// From now on. After a time without, it is another archive.
    On {
        /// Longest time that a change waits in a segment that is not full, in seconds.
        seconds: u32,
    },
    /// No more.
    Off,
}

/// The archive that a cluster's WAL belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveRecord {
    /// Its id.
    pub archive_id: Uuid,
    /// The one that the database was recovered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<Uuid>,
    /// Those that this cluster's WAL belonged to before, and that nobody goes on with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<Uuid>,
    /// Longest time that a change waits in a segment that is not full, in seconds; 0 while no WAL
    /// is kept.
    pub seconds: u32,
}

impl ArchiveRecord {
    /// Makes the record of an archive that begins now.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn fresh(parent_id: Option<Uuid>, seconds: u32) -> Result<Self, EmbeddedError> {
        let id = random_uuid().map_err(|error| io::Error::other(error.to_string()));
        Ok(Self {
            archive_id: id.map_err(EmbeddedError::io("take random numbers for", Path::new("/")))?,
            parent_id,
            former: Vec::new(),
            seconds,
        })
    }

    /// Makes the record of the archive that takes this one's place, without going on from it.
    ///
    /// # Errors
    /// As [`ArchiveRecord::fresh`].
    pub fn replaced(&self) -> Result<Self, EmbeddedError> {
        let mut next = Self::fresh(None, self.seconds)?;
        next.former.clone_from(&self.former);
        next.former.push(self.archive_id);
        Ok(next)
    }

    /// Returns the record of the cluster below `folder`, if its WAL is kept.
    #[must_use]
    pub fn of(folder: &Path) -> Option<Self> {
        Self::last(folder).filter(|record| record.seconds > 0)
    }

    /// Returns the record of the cluster below `folder`, also of a time when its WAL was kept.
    #[must_use]
    pub fn last(folder: &Path) -> Option<Self> {
        let text = guarded::read(&folder.join(RECORD));
        let text = text.get(..text.len().min(RECORD_BYTES_MAX))?;
        serde_json::from_slice(text).ok()
    }

    /// Has every start of the cluster below `folder` keep its WAL for this archive.
    ///
    /// # Errors
    /// [`EmbeddedError::Io`].
    pub fn write(&self, folder: &Path) -> Result<(), EmbeddedError> {
        let path = folder.join(RECORD);
        let scratch = folder.join(".archive.json.new");
        let write = || -> io::Result<()> {
            match fs::remove_file(&scratch) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&scratch)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&scratch, &path)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(EmbeddedError::io("write", &path))
    }
}

/// Brings the record below `folder` to what was asked for.
pub(super) fn apply(folder: &Path, wanted: Archiving) -> Result<(), EmbeddedError> {
    let last = ArchiveRecord::last(folder);
    let next = match (wanted, last) {
        (Archiving::AsBefore, _) | (Archiving::Off, None) => return Ok(()),
        (Archiving::Off, Some(last)) => ArchiveRecord { seconds: 0, ..last },
        (Archiving::On { seconds }, None) => ArchiveRecord::fresh(None, seconds)?,
        (Archiving::On { seconds }, Some(last)) => match last.seconds {
            // What was written meanwhile is in no archive.
            0 => ArchiveRecord {
                seconds,
                ..last.replaced()?
            },
            same if same == seconds => return Ok(()),
            _ => ArchiveRecord { seconds, ..last },
        },
    };
    next.write(folder)
}

/// Makes the spool's folder for a start that is to come and returns what PostgreSQL is told.
///
/// The command copies a segment under another name, forces it to the disk, and only then gives it
/// its own; PostgreSQL runs it in its data folder. A segment that is there already was handed over
/// by a start that was cut off before it could note that; then it must be the same.
pub(super) fn settings(
    folder: &Path,
    account: Option<Account>,
    record: &ArchiveRecord,
) -> Result<Vec<String>, EmbeddedError> {
    let spool = Spool::of(folder);
    let number = spool.starts().last().map_or(1, |last| last + 1);
    let start = format!("{number:08}");
    for folder in [spool.folder.clone(), spool.folder.join(&start)] {
        guarded::own(&folder, account).map_err(EmbeddedError::io("make and own", &folder))?;
    }
    let to = format!("../{SPOOL}/{start}");
    let command = format!(
        "if test -e {to}/%f; then cmp -s \"%p\" {to}/%f; else \
         dd if=\"%p\" of={to}/.%f bs=1048576 conv=fsync 2>/dev/null && \
         mv {to}/.%f {to}/%f && sync {to}; fi"
    );
    Ok(vec![
        "archive_mode=on".to_owned(),
        format!("archive_timeout={}", record.seconds),
        format!("archive_command={command}"),
    ])
}

/// What PostgreSQL handed over and nobody fetched yet.
#[derive(Debug, Clone)]
pub struct Spool {
    folder: PathBuf,
}

/// A file of the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its name: that of a segment, a history or a label.
    pub name: String,
    /// Where it lies.
    path: PathBuf,
}

/// How much is waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpoolSize {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// When the oldest was handed over.
    pub oldest: Option<SystemTime>,
}

/// Keeps others from fetching; ends with its owner.
#[derive(Debug)]
pub struct SpoolLock(#[expect(dead_code, reason = "held, never read")] File);

impl Spool {
    /// Returns the spool of the cluster below `folder`.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self {
            folder: folder.join(SPOOL),
        }
    }

    /// Takes the place of the one who fetches; none while another has it.
    ///
    /// # Errors
    /// [`EmbeddedError::Io`].
    pub fn lock(&self) -> Result<Option<SpoolLock>, EmbeddedError> {
        let path = self.folder.join("fetch.lock");
        let file = guarded::file(&path).map_err(EmbeddedError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(SpoolLock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(EmbeddedError::io("lock", &path)(error)),
        }
    }

    /// Returns what is waiting, in the order in which it was handed over. Folders of earlier starts
    /// that are empty go.
    ///
    /// # Errors
    /// [`EmbeddedError::Io`].
    pub fn waiting(&self) -> Result<Vec<Waiting>, EmbeddedError> {
        let (mut all, starts) = (Vec::new(), self.starts());
        for (at, start) in starts.iter().enumerate() {
            let folder = self.folder.join(format!("{start:08}"));
            let mut found = files(&folder).map_err(EmbeddedError::io("read", &folder))?;
            if found.is_empty() && at + 1 < starts.len() {
                // What was cut off while it was copied is handed over again by the next start.
                let _ = fs::remove_dir_all(&folder);
            }
            found.sort_by(|left, right| left.name.cmp(&right.name));
            all.append(&mut found);
        }
        Ok(all)
    }

    /// Returns how much is waiting; nothing where there is no spool.
    #[must_use]
    pub fn size(&self) -> SpoolSize {
        let mut size = SpoolSize::default();
        for start in self.starts() {
            let found = files(&self.folder.join(format!("{start:08}")));
            for one in found.unwrap_or_default() {
                let Ok(about) = fs::symlink_metadata(&one.path) else {
                    continue;
                };
                size.files += 1;
                size.bytes += about.len();
                let modified = about.modified().ok();
                size.oldest = match (size.oldest, modified) {
                    (Some(oldest), Some(modified)) => Some(oldest.min(modified)),
                    (oldest, modified) => oldest.or(modified),
                };
            }
        }
        size
    }

    /// Returns the numbers of the starts whose folders are there, in order.
    fn starts(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let mut starts: Vec<u64> = entries.filter_map(number).collect();
        starts.sort_unstable();
        starts
    }
}

/// Returns the whole files of a start.
fn files(folder: &Path) -> io::Result<Vec<Waiting>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().filter(|it| !it.starts_with('.')) {
            found.push(Waiting {
                name: name.to_owned(),
                path: entry.path(),
            });
        }
    }
    Ok(found)
}

impl Waiting {
    /// Opens the file, which belongs to PostgreSQL's user, for reading; returns its bytes, too.
    ///
    /// # Errors
    /// [`EmbeddedError::Io`] when it is no plain file.
    pub fn open(&self) -> Result<(File, u64), EmbeddedError> {
        guarded::open(&self.path).map_err(EmbeddedError::io("read", &self.path))
    }

    /// Removes the file, which is kept elsewhere by now.
    ///
    /// # Errors
    /// [`EmbeddedError::Io`].
    pub fn remove(&self) -> Result<(), EmbeddedError> {
        fs::remove_file(&self.path).map_err(EmbeddedError::io("remove", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_lasts_until_it_is_turned_off() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        let record = || ArchiveRecord::of(folder);
        apply(folder, Archiving::AsBefore).unwrap();
        apply(folder, Archiving::Off).unwrap();
        assert_eq!(record(), None);
        apply(folder, Archiving::On { seconds: 60 }).unwrap();
        let first = record().unwrap();
        apply(folder, Archiving::AsBefore).unwrap();
        assert_eq!(record().unwrap(), first);
        apply(folder, Archiving::On { seconds: 90 }).unwrap();
        let slower = record().unwrap();
        assert_eq!((slower.archive_id, slower.seconds), (first.archive_id, 90));
        for _ in 0..2 {
            apply(folder, Archiving::Off).unwrap();
            assert_eq!(record(), None);
        }
        apply(folder, Archiving::On { seconds: 60 }).unwrap();
        let second = record().unwrap();
        assert_ne!(second.archive_id, first.archive_id);
        assert_eq!(second.former, [first.archive_id]);
    }

    #[test]
    fn starts_follow_each_other_and_empty_ones_go() {
        let temp = tempfile::tempdir().unwrap();
        let record = ArchiveRecord::fresh(None, 60).unwrap();
        let spool = Spool::of(temp.path());
        assert_eq!(spool.size(), SpoolSize::default());
        for _ in 0..3 {
            settings(temp.path(), None, &record).unwrap();
        }
        let at = |start: &str, name: &str| temp.path().join("spool").join(start).join(name);
        fs::write(at("00000001", "B"), "12").unwrap();
        fs::write(at("00000001", ".C"), "half").unwrap();
        fs::write(at("00000002", "A"), "3").unwrap();
        let waiting = spool.waiting().unwrap();
        let names: Vec<&str> = waiting.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["B", "A"]);
        assert_eq!((spool.size().files, spool.size().bytes), (2, 3));
        let (file, bytes) = waiting[0].open().unwrap();
        assert_eq!(
            (io::read_to_string(file).unwrap().as_str(), bytes),
            ("12", 2)
        );
        for one in &waiting {
            one.remove().unwrap();
        }
        assert!(spool.waiting().unwrap().is_empty());
        assert_eq!(spool.starts(), [3]);
        let next = settings(temp.path(), None, &record).unwrap();
        assert!(next[2].contains("../spool/00000004/%f"), "{next:?}");
    }

    #[test]
    fn one_at_a_time_fetches() {
        let temp = tempfile::tempdir().unwrap();
        let record = ArchiveRecord::fresh(None, 60).unwrap();
        settings(temp.path(), None, &record).unwrap();
        let spool = Spool::of(temp.path());
        let lock = spool.lock().unwrap();
        assert!(lock.is_some() && spool.lock().unwrap().is_none());
        drop(lock);
        assert!(spool.lock().unwrap().is_some());
    }
}
