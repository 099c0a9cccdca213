//! Transcripts, kept without their secrets: compressed, named by their content, and there when
//! the agent has long removed its own.
//!
//! ```text
//! archive/files/<name>.jsonl     one per transcript: what it is, and its chunks in order
//! archive/chunks/ab/<sha256>.zst  bytes of a piece, after redaction
//! ```
//!
//! A chunk is on the disk before its line in the file's list is, and the line before the import
//! goes on; a line that a crash cut off is dropped when the list is read. What is stored of a
//! transcript always is a beginning of it.
//!
//! Several processes may import at once. Who changes a list holds `archive/lock` from reading it
//! to having written it, so that no chunk is listed twice, and none is removed that somebody is
//! about to list.

mod chunks;
mod manifest;
mod scrub;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use coditect_capture::raw::{RawPiece, Redaction};
use coditect_core::hex::hex;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::files::{make_folder, open_lock, private};
use chunks::Chunks;
pub use manifest::{Chunk, Manifest};
pub use scrub::Scrubbed;

/// Bytes that become one chunk when there are that many.
pub(crate) const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// A chunk below this is small; tailing a growing file makes many.
const SMALL_BYTES: u64 = 256 * 1024;
/// So many small chunks at the end of a file become one.
const SMALL_MAX: usize = 32;

/// Why the archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file of it cannot be read or written.
    #[error("could not {doing} {}: {source}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A chunk is missing or is not what its name says.
    #[error("the archive's chunk {name} is damaged: {reason}")]
    Chunk {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A piece does not follow what is stored.
    #[error("the archive of {path} ends at {end}, not at {start}")]
    Gap {
        /// The transcript.
        path: String,
        /// Where what is stored ends.
        end: u64,
        /// Where the piece starts.
        start: u64,
    },
}

/// Result of the archive.
pub type Result<T, E = ArchiveError> = std::result::Result<T, E>;

/// The archive of a data folder.
#[derive(Clone, Debug)]
pub struct Archive {
    folder: PathBuf,
    chunks: Chunks,
}

/// What an archive holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Space {
    /// Transcripts.
    pub files: u64,
    /// Chunks of all of them.
    pub chunks: u64,
    /// Bytes of the transcripts.
    pub bytes_original: u64,
    /// Bytes on the disk.
    pub bytes_stored: u64,
    /// Secrets that were taken out.
    pub redactions: u64,
}

/// A transcript as it comes out of the archive.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Its bytes, with markers in the places of secrets.
    pub content: Vec<u8>,
    /// What was taken out.
    pub redactions: Vec<Redaction>,
}

impl Archive {
    /// Returns the archive below a profile's data folder. Nothing is made yet.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        let folder = data.join("archive");
        Self {
            chunks: Chunks::new(folder.join("chunks")),
            folder,
        }
    }

    /// Returns where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns how far a transcript is archived, in bytes.
    ///
    /// # Errors
    /// When its list cannot be read.
    pub fn end(&self, path: &str) -> Result<u64> {
        Ok(self.manifest(path)?.map_or(0, |manifest| manifest.end()))
    }

    /// Returns what is stored about a transcript.
    ///
    /// # Errors
    /// When its list cannot be read.
    pub fn manifest(&self, path: &str) -> Result<Option<Manifest>> {
        manifest::read(&self.list(path))
    }

    /// Appends a piece that starts where the archived part ends; what is archived already is
    /// left out.
    ///
    /// # Errors
    /// [`ArchiveError::Gap`] when it starts elsewhere; [`ArchiveError::File`] when it cannot be
    /// written.
    pub fn append(&self, path: &str, agent: &str, piece: RawPiece) -> Result<()> {
        let _held = self.hold()?;
        let list = self.list(path);
        let known = manifest::read(&list)?;
        let end = known.as_ref().map_or(0, Manifest::end);
        if piece.end <= end {
            return Ok(());
        }
        if piece.start != end {
            return Err(ArchiveError::Gap {
                path: path.to_owned(),
                end,
                start: piece.start,
            });
        }
        let mut manifest = known.unwrap_or_else(|| Manifest::new(path, agent));
        let chunk = self.store(&piece)?;
        if let Some(tail) = manifest.drop_tail() {
            manifest.chunks.push(chunk);
            manifest::write(&list, &manifest)?;
            return self.remove_unused(BTreeSet::from([tail.sha256]));
        }
        if manifest.small_at_end() + 1 < SMALL_MAX {
            return manifest::append(&list, &mut manifest, chunk);
        }
        manifest.chunks.push(chunk);
        self.merge_small(&list, manifest)
    }

    /// Keeps the transcript's last line, which has not ended; none when there is none now.
    ///
    /// # Errors
    /// As [`Archive::append`].
    pub fn set_tail(&self, path: &str, agent: &str, tail: Option<RawPiece>) -> Result<()> {
        let _held = self.hold()?;
        let list = self.list(path);
        let known = manifest::read(&list)?;
        let mut manifest = known.unwrap_or_else(|| Manifest::new(path, agent));
        let old = manifest.drop_tail();
        let end = manifest.end();
        let new = match tail {
            Some(tail) if tail.start == end && tail.end > end => Some(Chunk {
                is_tail: true,
                ..self.store(&tail)?
            }),
            _ => None,
        };
        if old == new {
            return Ok(());
        }
        manifest.chunks.extend(new);
        manifest::write(&list, &manifest)?;
        let old = old.map(|chunk| chunk.sha256);
        if let Some(old) = old {
            return self.remove_unused(BTreeSet::from([old]));
        }
        Ok(())
    }

    /// Forgets a transcript.
    ///
    /// # Errors
    /// When the archive cannot be read or written.
    pub fn forget(&self, path: &str) -> Result<()> {
        let _held = self.hold()?;
        let list = self.list(path);
        let Some(manifest) = manifest::read(&list)? else {
            return Ok(());
        };
        std::fs::remove_file(&list).map_err(|source| failed("remove", &list, source))?;
        let chunks = manifest.all_chunks().map(|chunk| chunk.sha256.clone());
        self.remove_unused(chunks.collect())
    }

    /// Begins a transcript anew, because the agent has rewritten it. The chunks of what it was
    /// stay in the list, marked as replaced.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn restart(&self, path: &str) -> Result<()> {
        let _held = self.hold()?;
        let list = self.list(path);
        let Some(mut manifest) = manifest::read(&list)? else {
            return Ok(());
        };
        manifest.restart();
        manifest::write(&list, &manifest)
    }

    /// Returns the archived part of a transcript.
    ///
    /// # Errors
    /// [`ArchiveError::Chunk`] when a chunk is missing or damaged.
    pub fn restore(&self, path: &str) -> Result<Option<Restored>> {
        let Some(manifest) = self.manifest(path)? else {
            return Ok(None);
        };
        let mut content = Vec::new();
        let mut redactions = Vec::new();
        for chunk in &manifest.chunks {
            content.extend(self.chunks.read(&chunk.sha256, chunk.bytes)?);
            redactions.extend(chunk.redactions.iter().cloned());
        }
        Ok(Some(Restored {
            content,
            redactions,
        }))
    }

    /// Returns the lists of all transcripts.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn manifests(&self) -> Result<Vec<Manifest>> {
        let folder = self.folder.join("files");
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed("read", &folder, source)),
        };
        let mut all = Vec::new();
        for entry in entries.flatten() {
            if entry
                .path()
                .extension()
                .is_some_and(|ending| ending == "jsonl")
            {
                all.extend(manifest::read(&entry.path())?);
            }
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    /// Counts what is stored.
    ///
    /// # Errors
    /// When a list cannot be read.
    pub fn space(&self) -> Result<Space> {
        let mut space = Space::default();
        for manifest in self.manifests()? {
            space.files += 1;
            let end = manifest.chunks.last().map_or(0, |chunk| chunk.end);
            space.bytes_original += end;
            space.chunks += manifest.chunks.len() as u64;
            let redactions = manifest.chunks.iter().map(|chunk| chunk.redactions.len());
            space.redactions += redactions.sum::<usize>() as u64;
        }
        space.bytes_stored = self.chunks.bytes_stored();
        Ok(space)
    }

    /// Reads every chunk and compares it with its name; returns what is wrong, in words.
    ///
    /// # Errors
    /// When a list cannot be read.
    pub fn verify(&self) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let mut seen = BTreeSet::new();
        for manifest in self.manifests()? {
            let mut end = 0;
            for chunk in &manifest.chunks {
                if chunk.start != end {
                    wrong.push(format!(
                        "{}: bytes {end} to {} are missing",
                        manifest.path, chunk.start
                    ));
                }
                end = chunk.end;
            }
            for chunk in manifest.all_chunks() {
                if seen.insert(chunk.sha256.clone())
                    && let Err(error) = self.chunks.read(&chunk.sha256, chunk.bytes)
                {
                    wrong.push(format!("{}: {error}", manifest.path));
                }
            }
        }
        Ok(wrong)
    }

    /// Keeps other processes from changing a list until what is returned is dropped, also by a
    /// crash. Nobody holds it for longer than a chunk takes to be written, but for a scrub.
    fn hold(&self) -> Result<std::fs::File> {
        let path = self.folder.join("lock");
        let take = || {
            let file = open_lock(&path)?;
            file.lock().map(|()| file)
        };
        take().map_err(|source| failed("lock", &path, source))
    }

    fn list(&self, path: &str) -> PathBuf {
        let name = hex(&Sha256::digest(path.as_bytes())[..16]);
        self.folder.join("files").join(format!("{name}.jsonl"))
    }

    fn store(&self, piece: &RawPiece) -> Result<Chunk> {
        Ok(Chunk {
            start: piece.start,
            end: piece.end,
            bytes: piece.content.len() as u64,
            sha256: self.chunks.write(&piece.content)?,
            redactions: piece.redactions.clone(),
            is_tail: false,
        })
    }

    /// Makes one chunk of the small ones at the end of a list.
    fn merge_small(&self, list: &Path, mut manifest: Manifest) -> Result<()> {
        let from = manifest.chunks.len() - manifest.small_at_end();
        let small = manifest.chunks.split_off(from);
        let mut piece = RawPiece::default();
        for chunk in &small {
            piece.append(RawPiece {
                start: chunk.start,
                end: chunk.end,
                content: self.chunks.read(&chunk.sha256, chunk.bytes)?,
                redactions: chunk.redactions.clone(),
            });
        }
        manifest.chunks.push(self.store(&piece)?);
        manifest::write(list, &manifest)?;
        self.remove_unused(small.into_iter().map(|chunk| chunk.sha256).collect())
    }

    /// Removes those of the named chunks that no list names; copies of a transcript share them.
    fn remove_unused(&self, mut names: BTreeSet<String>) -> Result<()> {
        for manifest in self.manifests()? {
            for chunk in manifest.all_chunks() {
                names.remove(&chunk.sha256);
            }
        }
        for name in names {
            self.chunks.remove(&name)?;
        }
        Ok(())
    }
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// Writes a file beside its place and moves it there, so that it is whole or not there.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let make = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut file = private(
            std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true),
        )
        .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        std::fs::rename(&beside, path)
    };
    make().map_err(|source| failed("write", path, source))
}
