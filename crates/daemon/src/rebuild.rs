//! Filling an empty `sessions.db` from the archive: the same rows under the same ids as the
//! transcripts made the first time, so that a server recognises them.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use coditect_local_store::LocalStore;

use crate::archive::{Archive, ArchiveError};
use crate::files::{make_folder, private};
use crate::importer::{ImportError, Importer};

/// Why a rebuild ended early. What was imported stays.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The import failed.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The archive's lists cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A transcript cannot be laid out for reading.
    #[error("'{}': {source}", path.display())]
    Io {
        /// Path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What was brought back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Transcripts that were read: those that are still there themselves, else their archived
    /// parts.
    pub transcripts: u64,
    /// Rows that are new.
    pub rows: u64,
    /// Archived transcripts that are damaged.
    pub damaged: u64,
}

/// Imports every archived transcript.
///
/// # Errors
/// [`RebuildError`].
pub fn run(
    store: &mut LocalStore,
    data: &Path,
    ignored: &[String],
    now_ms: i64,
) -> Result<Rebuilt, RebuildError> {
    let archive = Archive::new(data);
    let place = data.join("rebuild");
    let mut rebuilt = Rebuilt::default();
    for manifest in archive.manifests()? {
        let path = PathBuf::from(&manifest.path);
        let is_there = path.is_file();
        let path = match is_there {
            true => path,
            false => match archive.restore(&manifest.path) {
                Ok(Some(restored)) => lay_out(&place, &path, &restored.content)?,
                Ok(None) => continue,
                Err(ArchiveError::Chunk { .. }) => {
                    rebuilt.damaged += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            },
        };
        let importer = Importer::new(store, now_ms)?.leaving_out(ignored.to_vec());
        let summary = importer.run_some(std::slice::from_ref(&path))?;
        rebuilt.transcripts += 1;
        rebuilt.rows += summary
            .tables
            .values()
            .map(|done| done.inserted)
            .sum::<u64>();
        if !is_there && let Ok(path) = path.canonicalize() {
            // It is archived under its own name already.
            archive.forget(&path.to_string_lossy())?;
        }
    }
    match fs::remove_dir_all(&place) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(RebuildError::Io {
            path: place,
            source,
        }),
        _ => Ok(rebuilt),
    }
}

/// Writes an archived transcript below a folder, under its whole path: names of files and folders
/// say what wrote it.
fn lay_out(place: &Path, path: &Path, content: &[u8]) -> Result<PathBuf, RebuildError> {
    let plain = path
        .components()
        .filter(|part| matches!(part, std::path::Component::Normal(_)));
    let to = place.join(plain.collect::<PathBuf>());
    let write = || -> std::io::Result<()> {
        make_folder(to.parent().unwrap_or(place))?;
        let mut options = OpenOptions::new();
        private(options.write(true).create(true).truncate(true))
            .open(&to)?
            .write_all(content)
    };
    match write() {
        Ok(()) => Ok(to),
        Err(source) => Err(RebuildError::Io { path: to, source }),
    }
}
