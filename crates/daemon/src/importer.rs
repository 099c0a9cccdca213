//! Brings transcripts into the local store: what is new since the last time, in short
//! transactions, so that importing again, in other pieces or in another order changes nothing.
//!
//! Beside each transcript's state it keeps, per session, which transcripts tell about it: a
//! session's row is always joined from all of them.

mod pipeline;
mod rows;
mod sessions;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coditect_capture::claude::{Chunk, DamagedLine, FileState, ReadError, pair_open_tools};
use coditect_capture::rows::NamedRow;
use coditect_capture::{Format, find_transcripts};
use coditect_core::redact::Report;
use coditect_local_store::{self as local_store, ImportState, Ingested, LocalStore};
use coditect_protocol::RowId;
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::Row;

use crate::archive::{Archive, ArchiveError};
use crate::graph;
pub(crate) use rows::leave_gaps_only;
use sessions::Sessions;
use steps::{Current, archive_of};

/// Rows stored in one transaction: at first, at least and at most. How many is found by how long
/// they take, so that other writers do not notice; hooks do not wait for them at all.
const ROWS_FIRST: usize = 100;
const ROWS_RANGE: std::ops::RangeInclusive<usize> = 20..=5_000;
/// How long a transaction should take.
const WRITE_TARGET: Duration = Duration::from_millis(40);

/// Cloud name of the table that says what calls were for.
const ASSOCIATIONS: &str = "context_activity_associations";

/// Rows that wait at most before they are indexed for search together.
const ROWS_PER_INDEX: i64 = 1_000;

/// Why an import ended early. What was stored stays, and the next one goes on there.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The agent's folder cannot be read.
    #[error("cannot open {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no readable folder of transcripts.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A database failed.
    #[error(transparent)]
    Store(#[from] local_store::Error),
    /// The archive cannot be read or written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A transcript's state could not be written down.
    #[error("cannot write down the state of a transcript")]
    State(#[from] serde_json::Error),
}

/// Result of the importer.
type Result<T, E = ImportError> = std::result::Result<T, E>;

/// What an import did.
#[derive(Debug, Default)]
pub struct Summary {
    /// Transcripts found.
    pub files: u64,
    /// Transcripts that had something new.
    pub files_read: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Records of every type in what was read.
    pub records: u64,
    /// What became of the rows, by cloud name of their table.
    pub tables: BTreeMap<&'static str, Ingested>,
    /// Records that become no row, by type.
    pub other_records: BTreeMap<String, u64>,
    /// Lines that are not exactly one record.
    pub damaged: Vec<DamagedLine>,
    /// Transcripts that could not be read, with the reason.
    pub unreadable: Vec<String>,
    /// Transcripts of projects that do not want to be recorded.
    pub left_out: u64,
    /// Secrets replaced, by kind.
    pub redacted: Report,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Bytes of the transcripts to read.
    pub bytes_total: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Rows that were stored or known.
    pub rows: u64,
}

/// An import of one agent folder.
#[derive(Debug)]
pub struct Importer<'a> {
    store: &'a mut LocalStore,
    now_ms: i64,
    sessions: Sessions,
    /// States of the transcripts that were read or that a session needs, by source.
    states: BTreeMap<String, FileState>,
    progress: Progress,
    summary: Summary,
    /// Rows stored in one transaction now.
    rows_per_write: usize,
    /// Where transcripts are kept; none when the databases are in no folder.
    archive: Option<Archive>,
    /// Folders that a setting leaves out, and what was found about those that were met.
    ignored: Vec<String>,
    is_ignored: BTreeMap<String, bool>,
    current: Current,
    graph: graph::Writer,
    /// Rows about calls that are stored next, before the calls themselves.
    associations: Vec<(RowId, NamedRow)>,
    /// Whether calls came that used a component.
    has_used: bool,
    /// Whether all transcripts of a folder are gone through.
    is_whole: bool,
}

impl<'a> Importer<'a> {
    /// Makes an importer that stamps its rows with `now_ms`.
    pub fn new(store: &'a mut LocalStore, now_ms: i64) -> Result<Self> {
        let archive = archive_of(store.folder());
        Ok(Self {
            sessions: Sessions::load(store)?,
            store,
            now_ms,
            states: BTreeMap::new(),
            progress: Progress::default(),
            summary: Summary::default(),
            rows_per_write: ROWS_FIRST,
            archive,
            ignored: Vec::new(),
            is_ignored: BTreeMap::new(),
            current: Current::default(),
            graph: graph::Writer::default(),
            associations: Vec::new(),
            has_used: false,
            is_whole: false,
        })
    }

    /// Leaves out what happened in these folders or below them.
    #[must_use]
    pub fn leaving_out(mut self, folders: Vec<String>) -> Self {
        self.ignored = folders;
        self
    }

    /// Imports what transcripts of a folder hold that are known to have changed; those that are
    /// no transcripts of it, or look as they did, are left alone.
    ///
    /// # Errors
    /// As [`Importer::run`].
    pub fn run_some(mut self, paths: &[PathBuf]) -> Result<Summary> {
        let mut work = Vec::new();
        for path in paths {
            // A link could lead to any file; an import of everything looks where it does.
            let is_link = std::fs::symlink_metadata(path).is_ok_and(|file| file.is_symlink());
            let Ok(path) = path.canonicalize() else {
                continue;
            };
            self.summary.files += 1;
            if !is_link {
                work.extend(self.work(path)?);
            }
        }
        self.store_all(work, &mut |_| {})?;
        Ok(self.summary)
    }

    /// Imports what the folder's transcripts of Claude Code hold; `observe` is told after every
    /// piece.
    ///
    /// # Errors
    /// When there is no folder of transcripts, or the store fails. What was stored stays, and
    /// the next import goes on there.
    pub fn run(self, folder: &Path, observe: impl FnMut(Progress)) -> Result<Summary> {
        self.run_format(Format::Claude, folder, observe)
    }

    /// Imports what the transcripts of an agent hold, or a text that was exported; `observe` is
    /// told after every piece.
    ///
    /// # Errors
    /// As [`Importer::run`].
    pub fn run_format(
        mut self,
        format: Format,
        folder: &Path,
        observe: impl FnMut(Progress),
    ) -> Result<Summary> {
        self.is_whole = true;
        self.store.set_bulk(true)?;
        let done = self.read_all(format, folder, observe);
        self.store.set_bulk(false)?;
        done.map(|()| self.summary)
    }

    fn read_all(
        &mut self,
        format: Format,
        folder: &Path,
        mut observe: impl FnMut(Progress),
    ) -> Result<()> {
        let folder = folder
            .canonicalize()
            .map_err(|source| ImportError::Folder {
                path: folder.to_owned(),
                source,
            })?;
        let found = find_transcripts(format, &folder)?;
        self.summary.files = found.files.len() as u64;
        self.summary.unreadable = found.left_out;
        let mut work = Vec::new();
        for path in found.files {
            if let Some(mut one) = self.work(path)? {
                if format == Format::Text {
                    one.earlier.format = Format::Text;
                }
                self.progress.bytes_total += left(&one.path, &one.earlier);
                work.push(one);
            }
        }
        observe(self.progress);
        self.store_all(work, &mut observe)
    }

    fn piece(&mut self, chunk: Chunk, state: FileState) -> Result<()> {
        if !chunk.provisional {
            self.summary.records += chunk.records;
            self.summary.redacted.merge(&chunk.report);
            for (kind, count) in &chunk.raw_counts {
                *self.summary.other_records.entry(kind.clone()).or_default() += count;
            }
        }
        self.summary.damaged.extend(chunk.damaged.iter().cloned());
        // What the rows need later goes first: a crash in between costs nothing then.
        self.keep_damaged(&chunk.damaged)?;
        self.sessions
            .note_summaries(self.store, &chunk.summaries, self.now_ms)?;
        for session in &chunk.sessions {
            let id = &session.session_id;
            self.sessions
                .note_source(self.store, id, &state.path, self.now_ms)?;
        }
        self.states.insert(state.path.clone(), state.clone());
        let found = self.found(&chunk);
        let rows = self.rows(chunk)?;
        // The other file goes first: what a crash leaves undone there is done again.
        self.graph.store(self.store, &found, self.now_ms)?;
        self.write_associations()?;
        self.write(rows, Some(&state))
    }

    /// Stores what is known of calls about to be stored. What a crash leaves undone is done again,
    /// because the transcript's state goes with the last of its rows.
    fn write_associations(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.associations);
        for part in rows.chunks(self.rows_per_write) {
            let part = part
                .iter()
                .map(|(id, (table, row))| (*id, *table, row.clone()))
                .collect();
            let done = self.store.ingest_as(File::Sessions, part, self.now_ms)?;
            self.add_up(ASSOCIATIONS, &done);
        }
        self.progress.rows += rows.len() as u64;
        Ok(())
    }

    fn add_up(&mut self, table: &'static str, done: &Ingested) {
        let sum = self.summary.tables.entry(table).or_default();
        sum.inserted += done.inserted;
        sum.updated += done.updated;
        sum.unchanged += done.unchanged;
        sum.kept_out += done.kept_out;
    }

    /// Stores rows, and with the last of them the transcript's state.
    fn write(&mut self, rows: Vec<(&'static str, Row)>, state: Option<&FileState>) -> Result<()> {
        let state = state.map(import_state).transpose()?;
        let mut left = rows.as_slice();
        loop {
            let (now, later) = left.split_at(left.len().min(self.rows_per_write));
            let began = Instant::now();
            let last = if later.is_empty() {
                state.as_ref()
            } else {
                None
            };
            self.write_some(now, last)?;
            if now.len() == self.rows_per_write {
                self.rows_per_write = next_size(now.len(), began.elapsed());
            }
            left = later;
            if left.is_empty() {
                return Ok(());
            }
        }
    }

    /// The store counts per call; one call per run of rows of a table says which table's.
    fn write_some(
        &mut self,
        rows: &[(&'static str, Row)],
        state: Option<&ImportState>,
    ) -> Result<()> {
        let runs: Vec<_> = rows.chunk_by(|a, b| a.0 == b.0).collect();
        for (at, run) in runs.iter().enumerate() {
            let last = if at + 1 == runs.len() { state } else { None };
            let table = run[0].0;
            let rows = run
                .iter()
                .map(|(table, row)| (*table, row.clone()))
                .collect();
            let done = self.store.ingest(File::Sessions, rows, last, self.now_ms)?;
            self.add_up(table, &done);
            self.progress.rows += run.len() as u64;
        }
        if runs.is_empty() && state.is_some() {
            self.store
                .ingest(File::Sessions, Vec::new(), state, self.now_ms)?;
        }
        Ok(())
    }

    /// Damaged lines are kept (redacted) until somebody looks at them.
    fn keep_damaged(&mut self, damaged: &[DamagedLine]) -> Result<()> {
        for line in damaged {
            let state = ImportState {
                source: format!("claude:damaged:{}:{}", line.file, line.byte_offset),
                state: serde_json::json!({
                    "line": line.line,
                    "damage_at": line.damage_at,
                    "objects": line.objects,
                    "reason": line.reason,
                    "raw": line.raw,
                }),
                ..ImportState::default()
            };
            self.store
                .ingest(File::Sessions, Vec::new(), Some(&state), self.now_ms)?;
        }
        Ok(())
    }

    /// Gives sessions the titles that other transcripts' summaries name, now that their messages
    /// are stored.
    fn title_by_summaries(&mut self) -> Result<()> {
        let titled = self.sessions.settle_summaries(self.store, self.now_ms)?;
        let mut rows = Vec::new();
        for session_id in titled {
            rows.extend(self.session_row(&session_id)?);
        }
        self.write(rows, None)
    }

    /// Joins calls and results of one session that are in different transcripts.
    fn pair_tools(&mut self) -> Result<()> {
        let read: BTreeSet<String> = self.sessions.touched().clone();
        for session_id in read {
            let sources = self.sessions.sources(self.store, &session_id)?;
            if sources.len() < 2 {
                continue;
            }
            let mut states = Vec::new();
            for source in &sources {
                states.extend(self.state_of(source)?);
            }
            let before = states.clone();
            let tools = pair_open_tools(&mut states.iter_mut().collect::<Vec<_>>());
            if tools.is_empty() {
                continue;
            }
            let rows = self.tool_rows(tools)?;
            self.write_associations()?;
            self.write(rows, None)?;
            for (state, before) in states.into_iter().zip(before) {
                if state != before {
                    self.write(Vec::new(), Some(&state))?;
                    self.states.insert(state.path.clone(), state);
                }
            }
        }
        Ok(())
    }

    /// Returns the state of a transcript, read by this import or an earlier one.
    fn state_of(&mut self, source: &str) -> Result<Option<FileState>> {
        if let Some(state) = self.states.get(source) {
            return Ok(Some(state.clone()));
        }
        let state = load_state(self.store, source)?;
        if let Some(state) = &state {
            self.states.insert(source.to_owned(), state.clone());
        }
        Ok(state)
    }
}

/// Returns how many rows to store in the next transaction, when so many took so long.
fn next_size(rows: usize, took: Duration) -> usize {
    let fits = rows as f64 * WRITE_TARGET.as_secs_f64() / took.as_secs_f64().max(1e-6);
    // Half way, because one transaction tells little.
    let next = (rows + fits.min(1e6) as usize) / 2;
    next.clamp(*ROWS_RANGE.start(), *ROWS_RANGE.end())
}

/// Returns the transcripts that tell about a session, by what imports remember.
///
/// # Errors
/// When the store cannot be read.
pub fn sources_of_session(store: &LocalStore, session: &str) -> Result<Vec<String>> {
    let mut sessions = Sessions::load(store)?;
    Ok(sessions.sources(store, session)?.into_iter().collect())
}

fn import_state(state: &FileState) -> Result<ImportState> {
    Ok(ImportState {
        source: state.path.clone(),
        bytes_read: state.offset,
        prefix_hash: Some(state.prefix_sha256.clone()),
        state: serde_json::to_value(state)?,
    })
}

/// A state that this version cannot read is none: the transcript is read again from its start,
/// and identities keep that harmless.
fn load_state(store: &LocalStore, source: &str) -> Result<Option<FileState>> {
    let stored = store.import_state(source)?;
    Ok(stored.and_then(|stored| serde_json::from_value(stored.state).ok()))
}

fn left(path: &Path, earlier: &FileState) -> u64 {
    let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    size.checked_sub(earlier.offset).unwrap_or(size)
}

#[cfg(test)]
mod tests;
