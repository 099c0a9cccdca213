//! What becomes of the steps that the reading thread tells: rows into the databases, bytes into
//! the archive, nothing of projects that do not want it.

use std::path::{Path, PathBuf};

use coditect_capture::claude::{Chunk, FileState};
use coditect_capture::raw::RawPiece;
use coditect_capture::{Format, Origin};
use coditect_protocol::catalogue::File;

use super::pipeline::{self, Step, WAITING_MAX, Work};
use super::{ImportError, Importer, Progress, ROWS_PER_INDEX, Result, load_state};
use crate::archive::{Archive, ArchiveError, CHUNK_BYTES};
use crate::hooks::{is_opted_out, is_origin_opted_out};
use crate::usage;

/// The transcript that is being stored.
#[derive(Debug, Default)]
pub(super) struct Current {
    source: String,
    agent: &'static str,
    is_document: bool,
    is_left_out: bool,
    /// What waits to become a chunk of the archive.
    raw: RawPiece,
}

impl Importer<'_> {
    /// Returns what is to be read of a transcript that may hold something new, or that is not
    /// archived as far as it was read; none if there is nothing.
    pub(super) fn work(&mut self, path: PathBuf) -> Result<Option<Work>> {
        let source = path.to_string_lossy().into_owned();
        let archive = self.archive.as_ref();
        let archived = archive.map(|archive| archive.end(&source)).transpose()?;
        let Some(earlier) = load_state(self.store, &source)? else {
            return Ok(Some(Work {
                earlier: FileState::of_format(source, Format::of(&path)),
                path,
                archived,
            }));
        };
        let looks_alike =
            std::fs::metadata(&path).is_ok_and(|metadata| earlier.is_current(&metadata));
        let is_archived = archived.is_none_or(|archived| archived == earlier.offset);
        let is_done = looks_alike && is_archived;
        Ok((!is_done).then_some(Work {
            path,
            earlier,
            archived,
        }))
    }

    /// Reads transcripts in a thread of its own and stores what they hold.
    pub(super) fn store_all(
        &mut self,
        work: Vec<Work>,
        observe: &mut impl FnMut(Progress),
    ) -> Result<()> {
        if !work.is_empty() {
            let (tell, steps) = std::sync::mpsc::sync_channel(WAITING_MAX);
            std::thread::scope(|scope| {
                scope.spawn(move || pipeline::read_all(work, &tell));
                for step in steps {
                    self.step(step)?;
                    observe(self.progress);
                }
                Ok::<_, ImportError>(())
            })?;
        }
        self.title_by_summaries()?;
        self.pair_tools()?;
        self.store.index_new(File::Sessions, 1)?;
        self.graph.records(self.store, false, self.now_ms)?;
        usage::count_if_due(self.store, self.has_used, self.is_whole, self.now_ms)?;
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Opened { source, format } => {
                self.summary.files_read += 1;
                let origin = Origin::of(Path::new(&source));
                let is_left_out =
                    origin.is_some_and(|origin| is_origin_opted_out(&origin, &self.ignored));
                self.current = Current {
                    source,
                    is_left_out,
                    agent: format.agent(),
                    is_document: format.is_document(),
                    ..Current::default()
                };
            }
            Step::Restarted | Step::Missing(_) if self.current.is_left_out => {}
            Step::Restarted => {
                let archive = self.archive.as_ref();
                let source = &self.current.source;
                match (archive, self.current.is_document) {
                    // It is written anew whenever something is added, so nothing is lost.
                    (Some(archive), true) => archive.forget(source)?,
                    (Some(archive), false) => archive.restart(source)?,
                    (None, _) => {}
                }
            }
            Step::Missing(raw) => self.keep_raw(raw)?,
            Step::Piece(piece) => {
                self.progress.bytes += piece.bytes;
                if self.leaves_out(&piece.chunk) {
                    return Ok(());
                }
                self.summary.bytes += piece.bytes;
                self.piece(piece.chunk, piece.state)?;
                self.store.index_new(File::Sessions, ROWS_PER_INDEX)?;
                self.keep_raw(piece.raw)?;
            }
            Step::Unreadable(reason) => self.summary.unreadable.push(reason),
            Step::Ended(state, tail) => {
                if self.current.is_left_out {
                    self.summary.left_out += 1;
                    return Ok(());
                }
                self.archive_waiting()?;
                if let Some(archive) = &self.archive {
                    archive.set_tail(&self.current.source, self.current.agent, tail)?;
                }
                self.write(Vec::new(), Some(&state))?;
                self.states.insert(state.path.clone(), *state);
            }
        }
        Ok(())
    }

    /// Returns whether nothing of the transcript is stored from here on, because it tells about
    /// a project that does not want to be recorded.
    fn leaves_out(&mut self, chunk: &Chunk) -> bool {
        let of_messages = chunk.messages.iter().filter_map(|row| row.cwd.as_ref());
        let sessions = chunk.sessions.iter();
        let of_sessions = sessions.filter_map(|row| row.project_path.as_ref());
        for folder in of_messages.chain(of_sessions) {
            if self.current.is_left_out {
                break;
            }
            let known = self.is_ignored.get(folder).copied();
            self.current.is_left_out = known.unwrap_or_else(|| {
                let is_ignored = is_opted_out(Path::new(folder), &self.ignored);
                self.is_ignored.insert(folder.clone(), is_ignored);
                is_ignored
            });
        }
        self.current.is_left_out
    }

    fn keep_raw(&mut self, raw: RawPiece) -> Result<()> {
        if self.archive.is_some() && raw.end > raw.start {
            self.current.raw.append(raw);
        }
        if self.current.raw.content.len() >= CHUNK_BYTES {
            self.archive_waiting()?;
        }
        Ok(())
    }

    fn archive_waiting(&mut self) -> Result<()> {
        let raw = std::mem::take(&mut self.current.raw);
        if let Some(archive) = &self.archive
            && raw.end > raw.start
        {
            match archive.append(&self.current.source, self.current.agent, raw) {
                // Another import is at the same transcript and archived other pieces meanwhile.
                // The next one catches up with what lacks, from the transcript itself.
                Err(ArchiveError::Gap { path, end, start }) => {
                    tracing::debug!(path, end, start, "another import archives the transcript");
                }
                done => done?,
            }
        }
        Ok(())
    }
}

/// The archive is beside the folder with the databases.
pub(super) fn archive_of(databases: Option<&Path>) -> Option<Archive> {
    Some(Archive::new(databases?.parent()?))
}
