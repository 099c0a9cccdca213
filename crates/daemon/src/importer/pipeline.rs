//! Reading ahead: a thread of its own reads, parses and redacts, while the importer stores. What
//! waits between them is bounded.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use coditect_capture::Format;
use coditect_capture::claude::{Chunk, FileState, TranscriptReader};
use coditect_capture::raw::{RawPiece, redact_lines, redact_whole};

/// Bytes of a transcript that become one piece.
const PIECE_BYTES: usize = 1024 * 1024;
/// Pieces that wait at most.
pub(super) const WAITING_MAX: usize = 3;
/// Bytes that are caught up with at a time.
const CATCH_UP_BYTES: usize = 4 * 1024 * 1024;
/// Bytes without a line's end that are taken as they are.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A transcript to read.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) path: PathBuf,
    pub(super) earlier: FileState,
    /// How far it is archived; none without an archive.
    pub(super) archived: Option<u64>,
}

/// What the reading thread tells about the transcript that it is at.
#[derive(Debug)]
pub(super) enum Step {
    /// It is open and has something new, or something to catch up with.
    Opened { source: String, format: Format },
    /// What is archived is not the beginning of it any more.
    Restarted,
    /// A part that was read earlier but is not archived.
    Missing(RawPiece),
    /// The next part.
    Piece(Box<Piece>),
    /// It could not be read, or not to its end.
    Unreadable(String),
    /// Nothing more comes of it; its last line, if that has not ended.
    Ended(Box<FileState>, Option<RawPiece>),
}

#[derive(Debug)]
pub(super) struct Piece {
    pub(super) chunk: Chunk,
    pub(super) state: FileState,
    pub(super) raw: RawPiece,
    pub(super) bytes: u64,
}

/// Reads transcripts one after the other; ends early when nobody listens any more.
pub(super) fn read_all(work: Vec<Work>, out: &SyncSender<Step>) {
    for one in work {
        if read_one(one, out).is_none() {
            return;
        }
    }
}

fn read_one(work: Work, out: &SyncSender<Step>) -> Option<()> {
    let tell = |step| out.send(step).ok();
    let had_state = work.earlier.offset;
    let mut reader = match TranscriptReader::open(&work.path, Some(work.earlier)) {
        Ok(reader) => reader,
        // It may have been removed since, or belong to somebody else; the others count.
        Err(error) => return tell(Step::Unreadable(error.to_string())),
    };
    tell(Step::Opened {
        source: reader.state().path.clone(),
        format: reader.state().format,
    })?;
    let is_document = reader.state().format.is_document();
    if let Some(archived) = work.archived {
        let from = reader.state().offset;
        if archived > from || (is_document && archived != had_state) {
            tell(Step::Restarted)?;
        } else if reader.started_over() || is_document {
            if archived > 0 {
                tell(Step::Restarted)?;
            }
        } else if archived < from {
            catch_up(&work.path, archived, from, out)?;
        }
    }
    loop {
        let start = reader.state().offset;
        let chunk = match reader.next_chunk(PIECE_BYTES) {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => {
                tell(Step::Unreadable(error.to_string()))?;
                break;
            }
        };
        let consumed = reader.consumed();
        let raw = match work.archived {
            None => RawPiece::default(),
            Some(_) if is_document => redact_whole(0, consumed),
            Some(_) => redact_lines(start, consumed, !chunk.report.is_empty()),
        };
        let bytes = consumed.len() as u64;
        tell(Step::Piece(Box::new(Piece {
            chunk,
            state: reader.state().clone(),
            raw,
            bytes,
        })))?;
    }
    let start = reader.state().offset;
    let tail = reader.tail();
    let has_tail = work.archived.is_some() && !is_document && !tail.is_empty();
    let tail = has_tail.then(|| redact_lines(start, tail, true));
    tell(Step::Ended(Box::new(reader.into_state()), tail))
}

/// Reads what is between the end of the archived part and where reading goes on.
fn catch_up(path: &Path, from: u64, to: u64, out: &SyncSender<Step>) -> Option<()> {
    let read = || -> io::Result<Option<()>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut rest = file.take(to - from);
        let (mut at, mut pending) = (from, Vec::new());
        loop {
            let before = pending.len();
            let limit = CATCH_UP_BYTES as u64;
            let read = rest.by_ref().take(limit).read_to_end(&mut pending)?;
            let end = pending
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map(|at| at + 1);
            let cut = match end {
                Some(end) => end,
                None if read == 0 || pending.len() >= LINE_BYTES_MAX => pending.len(),
                None => continue,
            };
            if cut == 0 && read == 0 && before == 0 {
                return Ok(Some(()));
            }
            let piece = redact_lines(at, &pending[..cut], true);
            at = piece.end;
            pending.drain(..cut);
            if out.send(Step::Missing(piece)).is_err() {
                return Ok(None);
            }
        }
    };
    match read() {
        Ok(done) => done,
        Err(error) => out
            .send(Step::Unreadable(format!(
                "could not read {}: {error}",
                path.display()
            )))
            .ok(),
    }
}
