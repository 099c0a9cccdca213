//! Reads a transcript file in pieces, going on where an earlier reading ended.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::chunk::Chunk;
use super::parser::Parser;
use super::state::FileState;

/// Bytes that are read at a time.
const READ_BYTES: usize = 256 * 1024;

/// A transcript that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read {path}: {source}", path = path.display())]
pub struct ReadError {
    /// File or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl ReadError {
    pub(super) fn new(path: &Path, source: io::Error) -> Self {
        Self {
            path: path.to_owned(),
            source,
        }
    }
}

/// A transcript file that is being read.
#[derive(Debug)]
pub struct TranscriptReader {
    path: PathBuf,
    file: File,
    parser: Parser,
    pending: Vec<u8>,
    /// How much of `pending` is known to hold no newline.
    searched: usize,
    started_over: bool,
    done: bool,
}

impl TranscriptReader {
    /// Opens a file; with the state of an earlier reading it goes on there. When the part that
    /// was read has changed, it starts over.
    ///
    /// # Errors
    /// [`ReadError`] when the file cannot be opened or read.
    pub fn open(path: &Path, earlier: Option<FileState>) -> Result<Self, ReadError> {
        let failed = |source| ReadError::new(path, source);
        let mut file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let name = path.to_string_lossy().into_owned();
        let had_state = earlier.as_ref().is_some_and(|state| state.offset > 0);
        let resumed = match earlier {
            Some(state) if state.offset <= metadata.len() => {
                let hasher = hash_prefix(&mut file, state.offset).map_err(failed)?;
                Parser::resume(state, hasher).ok()
            }
            _ => None,
        };
        let started_over = had_state && resumed.is_none();
        let mut parser = resumed.unwrap_or_else(|| Parser::new(name.clone()));
        file.seek(SeekFrom::Start(parser.state().offset))
            .map_err(failed)?;
        let state = parser.state_mut();
        state.path = name;
        state.inode = inode(&metadata);
        state.size = metadata.len();
        state.modified_ns = modified_ns(&metadata);
        Ok(Self {
            path: path.to_owned(),
            file,
            parser,
            pending: Vec::new(),
            searched: 0,
            started_over,
            done: false,
        })
    }

    /// Returns whether an earlier state was given up because the file was rewritten.
    pub fn started_over(&self) -> bool {
        self.started_over
    }

    /// Returns the rows of the next piece of about `bytes_max` bytes, at least one line; none at
    /// the end. The last piece may hold a whole record that has no newline yet.
    ///
    /// # Errors
    /// [`ReadError`] when reading fails; what was returned before stays valid.
    pub fn next_chunk(&mut self, bytes_max: usize) -> Result<Option<Chunk>, ReadError> {
        if self.done {
            return Ok(None);
        }
        let more = self
            .fill(bytes_max)
            .map_err(|source| ReadError::new(&self.path, source))?;
        let before = self.parser.state().offset;
        let chunk = self.parser.feed(&self.pending);
        let consumed = usize::try_from(self.parser.state().offset - before).unwrap_or(usize::MAX);
        self.pending.drain(..consumed.min(self.pending.len()));
        self.searched = self.pending.len();
        if more || consumed > 0 {
            return Ok(Some(chunk));
        }
        self.done = true;
        let tail = self.parser.peek_tail(&self.pending);
        Ok((tail.records > 0).then_some(tail))
    }

    /// Returns the state to keep after the pieces returned so far.
    pub fn state(&self) -> &FileState {
        self.parser.state()
    }

    /// Returns the state to keep, ending the reading.
    pub fn into_state(mut self) -> FileState {
        std::mem::take(self.parser.state_mut())
    }

    /// Reads until there are `bytes_max` bytes and a newline among them; returns whether the end
    /// of the file was not reached.
    fn fill(&mut self, bytes_max: usize) -> io::Result<bool> {
        loop {
            let has_line = self.pending[self.searched..].contains(&b'\n');
            if has_line && self.pending.len() >= bytes_max {
                return Ok(true);
            }
            if !has_line {
                self.searched = self.pending.len();
            }
            let start = self.pending.len();
            let step = READ_BYTES.min(bytes_max.max(1));
            self.pending.resize(start + step, 0);
            let read = self.file.read(&mut self.pending[start..])?;
            self.pending.truncate(start + read);
            if read == 0 {
                return Ok(false);
            }
        }
    }
}

impl FileState {
    /// Returns whether the file looks the same as when it was last read, so that it need not be
    /// opened.
    pub fn is_current(&self, metadata: &Metadata) -> bool {
        self.size == metadata.len()
            && self.modified_ns == modified_ns(metadata)
            && self.inode == inode(metadata)
    }
}

fn hash_prefix(file: &mut File, bytes: u64) -> io::Result<Sha256> {
    let mut hasher = Sha256::new();
    let mut prefix = file.take(bytes);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = prefix.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher);
        }
        hasher.update(&buffer[..read]);
    }
}

fn modified_ns(metadata: &Metadata) -> i64 {
    let since = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since
        .and_then(|since| i64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Some(metadata.ino())
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> Option<u64> {
    None
}
