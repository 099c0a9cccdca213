//! A file that appears whole, or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// Bytes that wait for the disk at most. If all of a large archive waited for its end, the log of a
/// database on the same disk would have to wait with it.
const UNSYNCED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A file that is being written beside its place, under its name with `#` and a number. Dropped
/// before it is finished, nothing of it stays.
#[derive(Debug)]
pub(crate) struct Staged {
    place: PathBuf,
    /// Where it is written; none before the first byte, and once it is in its place.
    open: Option<(PathBuf, File)>,
    unsynced: usize,
}

impl Staged {
    /// Writes nothing yet.
    pub(crate) const fn new(place: PathBuf) -> Self {
        Self {
            place,
            open: None,
            unsynced: 0,
        }
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// Those of the system; the file cannot be finished then.
    pub(crate) async fn write(self, piece: Vec<u8>) -> io::Result<Self> {
        blocking(move || self.add(&piece)).await
    }

    /// Puts the file in its place, and waits until it is on the disk.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) async fn finish(self) -> io::Result<()> {
        blocking(move || {
            let mut staged = self.add(&[])?;
            if let Some((path, file)) = &staged.open {
                file.sync_all()?;
                fs::rename(path, &staged.place)?;
                staged.open = None;
            }
            sync_folder(&staged.place)
        })
        .await
    }

    fn add(mut self, piece: &[u8]) -> io::Result<Self> {
        if self.open.is_none() {
            self.open = Some(create(&self.place)?);
        }
        if let Some((_, file)) = &mut self.open {
            file.write_all(piece)?;
            self.unsynced += piece.len();
            if self.unsynced >= UNSYNCED_BYTES_MAX {
                file.sync_data()?;
                self.unsynced = 0;
            }
        }
        Ok(self)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some((path, _)) = self.open.take() {
            // What stays is found by the next look for unfinished files.
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes the file, and the folders above it.
fn create(place: &Path) -> io::Result<(PathBuf, File)> {
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    for number in 1_u32.. {
        let mut name = place.as_os_str().to_owned();
        name.push(format!("#{number}"));
        let path = PathBuf::from(name);
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

fn sync_folder(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await?
}
