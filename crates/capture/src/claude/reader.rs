//! Reads a transcript file in pieces, going on where an earlier reading ended.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::chunk::Chunk;
use super::parser::{LINE_BYTES_MAX, Parser};
use super::state::FileState;
use crate::format::Format;

/// Bytes that are read at a time.
const READ_BYTES: usize = 256 * 1024;

/// Bytes of a line that is too long that are taken at a time.
const LONG_PIECE_BYTES: usize = 4 * 1024 * 1024;
/// How far back from the end of such a piece a good place to cut it is looked for.
const CUT_BYTES: usize = 64 * 1024;
/// Largest file that is read as one document, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 128 * 1024 * 1024;

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
    /// Bytes that the last piece was read from.
    consumed: Vec<u8>,
}

/// Why reading into the buffer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    Lines,
    LongLine,
    End,
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
        if !metadata.is_file() {
            return Err(failed(io::Error::other("it is no file")));
        }
        let name = path.to_string_lossy().into_owned();
        let format = earlier.as_ref().map(|state| state.format);
        let format = format.unwrap_or_else(|| Format::of(path));
        let had_state = earlier.as_ref().is_some_and(|state| state.offset > 0);
        let resumed = match earlier {
            Some(state) if state.offset <= metadata.len() => {
                let hasher = hash_prefix(&mut file, state.offset).map_err(failed)?;
                Parser::resume(state, hasher).ok()
            }
            _ => None,
        };
        let started_over = had_state && resumed.is_none();
        let mut parser = resumed.unwrap_or_else(|| {
            let mut parser = Parser::new(name.clone());
            parser.state_mut().format = format;
            parser
        });
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
            consumed: Vec::new(),
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
        let failed = |source| ReadError::new(&self.path, source);
        if self.parser.state().format.is_document() {
            self.done = true;
            return Self::document(&mut self.file, &mut self.parser, &mut self.consumed)
                .map_err(failed);
        }
        let filled = self.fill(bytes_max);
        let filled = filled.map_err(|source| ReadError::new(&self.path, source))?;
        let before = self.parser.state().offset;
        let is_long = self.parser.state().long_line_bytes > 0 || filled == Filled::LongLine;
        let chunk = if is_long && !self.pending.is_empty() {
            let cut = cut_long(&self.pending, filled == Filled::End);
            self.parser.feed_long(&self.pending[..cut])
        } else {
            self.parser.feed(&self.pending)
        };
        let consumed = usize::try_from(self.parser.state().offset - before).unwrap_or(usize::MAX);
        let consumed = consumed.min(self.pending.len());
        self.consumed.clear();
        self.consumed.extend(self.pending.drain(..consumed));
        self.searched = if is_long { 0 } else { self.pending.len() };
        if filled != Filled::End || consumed > 0 {
            return Ok(Some(chunk));
        }
        self.done = true;
        let tail = self.parser.peek_tail(&self.pending);
        Ok((tail.records > 0).then_some(tail))
    }

    fn document(
        file: &mut File,
        parser: &mut Parser,
        consumed: &mut Vec<u8>,
    ) -> io::Result<Option<Chunk>> {
        let size = file.metadata()?.len();
        if size > DOCUMENT_BYTES_MAX {
            let limit = DOCUMENT_BYTES_MAX / 1024 / 1024;
            return Err(io::Error::other(format!("it is larger than {limit} MiB")));
        }
        if parser.state().offset == size && size > 0 {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(0))?;
        consumed.clear();
        file.take(DOCUMENT_BYTES_MAX).read_to_end(consumed)?;
        Ok(Some(parser.feed_document(consumed)))
    }

    /// Returns what follows the state's offset: the last line, if it has not ended.
    pub fn tail(&self) -> &[u8] {
        &self.pending
    }

    /// Returns the bytes that the last piece was read from; they end where the state's offset is.
    pub fn consumed(&self) -> &[u8] {
        &self.consumed
    }

    /// Returns the state to keep after the pieces returned so far.
    pub fn state(&self) -> &FileState {
        self.parser.state()
    }

    /// Returns the state to keep, ending the reading.
    pub fn into_state(mut self) -> FileState {
        std::mem::take(self.parser.state_mut())
    }

    /// Reads until there are `bytes_max` bytes and a newline among them, or too many without one.
    fn fill(&mut self, bytes_max: usize) -> io::Result<Filled> {
        let in_long_line = self.parser.state().long_line_bytes > 0;
        loop {
            let has_line = self.pending[self.searched..].contains(&b'\n');
            if in_long_line && (has_line || self.pending.len() >= LONG_PIECE_BYTES) {
                return Ok(Filled::LongLine);
            }
            if has_line && self.pending.len() >= bytes_max {
                return Ok(Filled::Lines);
            }
            if !has_line {
                self.searched = self.pending.len();
                if self.pending.len() >= LINE_BYTES_MAX {
                    return Ok(Filled::LongLine);
                }
            }
            let start = self.pending.len();
            let step = READ_BYTES.min(bytes_max.max(1));
            self.pending.resize(start + step, 0);
            let read = self.file.read(&mut self.pending[start..])?;
            self.pending.truncate(start + read);
            if read == 0 {
                return Ok(Filled::End);
            }
        }
    }
}

/// Returns where a piece of a line that is too long is cut: behind its newline; at the end of
/// what there is; else between two words, so that no secret is torn.
fn cut_long(pending: &[u8], is_end: bool) -> usize {
    if let Some(newline) = pending.iter().position(|byte| *byte == b'\n') {
        return newline + 1;
    }
    if is_end {
        return pending.len();
    }
    let from = pending.len().saturating_sub(CUT_BYTES);
    let is_gap = |byte: &u8| matches!(byte, b' ' | b',' | b'\t' | b'\r');
    let gap = pending[from..].iter().rposition(is_gap);
    let mut cut = gap.map_or(pending.len(), |gap| from + gap + 1);
    // Never within a character.
    while cut > from && pending.get(cut).is_some_and(|byte| byte & 0xC0 == 0x80) {
        cut -= 1;
    }
    cut.max(1)
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
