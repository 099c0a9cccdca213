//! The parser: bytes in, rows out, state carried over.

use std::collections::{BTreeMap, BTreeSet};

use coditect_core::hex::hex;
use coditect_core::redact::redact_text;
use sha2::{Digest, Sha256};

use super::chunk::{Chunk, DamagedLine};
use super::record::{Record, text};
use super::state::FileState;
use super::{lines, message, session};
use crate::format::Format;
use crate::rows::TokenRow;

/// Longest line that is read; of a longer one only the archive has the rest.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What is kept of a damaged line, in bytes.
const RAW_BYTES_MAX: usize = 64 * 1024;

/// The bytes before the remembered offset are no longer those that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the part of the transcript that was already read has changed")]
pub struct Rewritten;

/// Reads one transcript file piece by piece.
#[derive(Debug, Clone)]
pub struct Parser {
    state: FileState,
    hasher: Sha256,
}

impl Parser {
    /// Returns a parser at the start of a file.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            state: FileState::new(path),
            hasher: Sha256::new(),
        }
    }

    /// Returns a parser that goes on at `state.offset`; `hasher` has taken in the bytes before it.
    ///
    /// # Errors
    /// [`Rewritten`] when those bytes are not the ones that were read; begin again with
    /// [`Parser::new`] then.
    pub fn resume(state: FileState, hasher: Sha256) -> Result<Self, Rewritten> {
        if state.offset > 0 && hex(&hasher.clone().finalize()) != state.prefix_sha256 {
            return Err(Rewritten);
        }
        Ok(Self { state, hasher })
    }

    /// Reads the whole lines in `bytes`, which start at the state's offset. A rest without a
    /// newline is not taken: the next piece must start with it. The offset tells.
    pub fn feed(&mut self, bytes: &[u8]) -> Chunk {
        let mut work = Work::new(&mut self.state);
        let mut consumed = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(content) = line.strip_suffix(b"\n") else {
                break;
            };
            work.line(content);
            consumed += line.len();
            work.state.offset += line.len() as u64;
            work.state.line += 1;
        }
        let chunk = work.finish();
        if consumed > 0 {
            self.hasher.update(&bytes[..consumed]);
            self.state.prefix_sha256 = hex(&self.hasher.clone().finalize());
        }
        chunk
    }

    /// Takes in bytes of a line that is too long to be read, from its start or further on, at
    /// most up to its end. The line is named when it begins, and becomes no row.
    pub fn feed_long(&mut self, bytes: &[u8]) -> Chunk {
        let mut work = Work::new(&mut self.state);
        if work.state.long_line_bytes == 0 {
            let reason = format!("longer than {} MiB", LINE_BYTES_MAX / 1024 / 1024);
            work.damaged(bytes, 0, 0, reason);
        }
        let state = &mut work.state;
        state.offset += bytes.len() as u64;
        if bytes.ends_with(b"\n") {
            state.long_line_bytes = 0;
            state.line += 1;
        } else {
            state.long_line_bytes += bytes.len() as u64;
        }
        let chunk = work.finish();
        self.hasher.update(bytes);
        self.state.prefix_sha256 = hex(&self.hasher.clone().finalize());
        chunk
    }

    /// Reads a whole file that is one document.
    pub fn feed_document(&mut self, bytes: &[u8]) -> Chunk {
        let mut work = Work::new(&mut self.state);
        match work.state.format {
            Format::GeminiDocument => crate::gemini::read_document(&mut work, bytes),
            _ => crate::text::read(&mut work, bytes),
        }
        work.state.offset = bytes.len() as u64;
        let chunk = work.finish();
        self.hasher = Sha256::new();
        self.hasher.update(bytes);
        self.state.prefix_sha256 = hex(&self.hasher.clone().finalize());
        chunk
    }

    /// Reads a last line that has no newline yet, if it is one whole record. The state does not
    /// move: the line is read again when it is complete, and gives the same rows.
    pub fn peek_tail(&self, tail: &[u8]) -> Chunk {
        let line = lines::read(tail);
        if line.damage.is_some() || line.objects.is_empty() {
            return Chunk::default();
        }
        let mut state = self.state.clone();
        let mut work = Work::new(&mut state);
        work.line(tail);
        Chunk {
            provisional: true,
            ..work.finish()
        }
    }

    /// Returns the state after what was fed.
    pub fn state(&self) -> &FileState {
        &self.state
    }

    /// Returns the state for changes that do not concern the parser, such as size and inode.
    pub fn state_mut(&mut self) -> &mut FileState {
        &mut self.state
    }
}

/// The piece that is being read: the state and what has been found so far.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub(crate) state: &'a mut FileState,
    pub(crate) chunk: Chunk,
    tokens: BTreeMap<(String, String), TokenRow>,
    sessions: BTreeSet<String>,
    tasks: BTreeSet<(String, String)>,
}

impl<'a> Work<'a> {
    pub(super) fn new(state: &'a mut FileState) -> Self {
        Self {
            state,
            chunk: Chunk::default(),
            tokens: BTreeMap::new(),
            sessions: BTreeSet::new(),
            tasks: BTreeSet::new(),
        }
    }

    fn line(&mut self, bytes: &[u8]) {
        let line = lines::read(bytes);
        self.chunk.repaired += u64::from(line.repaired);
        if let Some(damage) = line.damage {
            let objects = line.objects.len() as u64;
            self.damaged(bytes, damage.at as u64, objects, damage.reason);
        }
        for object in line.objects {
            self.record(object);
        }
    }

    /// Names a line that is damaged. The archive has it whole.
    pub(crate) fn damaged(&mut self, bytes: &[u8], damage_at: u64, objects: u64, reason: String) {
        let start = &bytes[..bytes.len().min(RAW_BYTES_MAX)];
        let raw = String::from_utf8_lossy(start);
        let raw = redact_text(&raw, &mut self.chunk.report).into_owned();
        self.chunk.damaged.push(DamagedLine {
            file: self.state.path.clone(),
            line: self.state.line + 1,
            byte_offset: self.state.offset,
            damage_at,
            objects,
            reason,
            raw,
        });
    }

    /// Counts a record that becomes no row.
    pub(crate) fn no_row(&mut self, kind: &str) {
        *self.chunk.raw_counts.entry(kind.to_owned()).or_default() += 1;
    }

    fn record(&mut self, record: Record) {
        self.chunk.records += 1;
        match self.state.format {
            Format::Codex => return crate::codex::read(self, record),
            Format::Gemini => return crate::gemini::read(self, record),
            Format::Claude | Format::GeminiDocument | Format::Text => {}
        }
        let kind = text(&record, "type").unwrap_or("").to_owned();
        match kind.as_str() {
            "user" | "assistant" | "system" => message::read(self, record, &kind),
            _ => {
                session::read_state_record(self, &record, &kind);
                *self.chunk.raw_counts.entry(kind).or_default() += 1;
            }
        }
    }

    pub(crate) fn add_tokens(&mut self, row: TokenRow) {
        let key = (row.session_id.clone(), row.api_message_id.clone());
        match self.tokens.get_mut(&key) {
            Some(known) => known.merge(row),
            None => {
                self.tokens.insert(key, row);
            }
        }
    }

    pub(crate) fn touch_session(&mut self, session_id: &str) {
        if !self.sessions.contains(session_id) {
            self.sessions.insert(session_id.to_owned());
        }
    }

    pub(super) fn touch_task(&mut self, session_id: &str, task_id: &str) {
        self.tasks
            .insert((session_id.to_owned(), task_id.to_owned()));
    }

    pub(super) fn finish(self) -> Chunk {
        let mut chunk = self.chunk;
        chunk.tokens = self.tokens.into_values().collect();
        let sessions = &self.state.sessions;
        chunk.sessions = self
            .sessions
            .iter()
            .filter_map(|id| Some(sessions.get(id)?.row.clone()))
            .collect();
        let task =
            |(session, task): &(String, String)| sessions.get(session)?.tasks.get(task).cloned();
        chunk.tasks = self.tasks.iter().filter_map(task).collect();
        chunk
    }
}
