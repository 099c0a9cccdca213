//! Shared by the test files: reading whole files and reading in pieces.

#![expect(dead_code, reason = "each test file uses its own part")]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

use std::path::{Path, PathBuf};

use coditect_capture::claude::{FileState, Parser, RowSet, TranscriptReader, pair_open_tools};

/// Returns a path below the real transcripts, if they are beside the checkout.
pub(crate) fn real(path: &str) -> Option<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/transcripts");
    Some(data.join(path)).filter(|path| path.exists())
}

pub(crate) fn skip(what: &str) {
    eprintln!("skipped: no real transcripts beside the checkout ({what})");
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

pub(crate) struct Reading {
    pub(crate) state: FileState,
    pub(crate) started_over: bool,
}

/// Reads a file from where `state` ended.
pub(crate) fn read_on(path: &Path, state: Option<FileState>, rows: &mut RowSet) -> Reading {
    let mut reader = TranscriptReader::open(path, state).unwrap();
    while let Some(chunk) = reader.next_chunk(64 * 1024).unwrap() {
        rows.add(chunk);
    }
    Reading {
        started_over: reader.started_over(),
        state: reader.into_state(),
    }
}

/// Reads files one after the other, then pairs what was cut between them.
pub(crate) fn read_files(files: &[PathBuf]) -> (RowSet, Vec<FileState>) {
    let mut rows = RowSet::default();
    let mut states: Vec<_> = files
        .iter()
        .map(|file| read_on(file, None, &mut rows).state)
        .collect();
    rows.add_tools(pair_open_tools(&mut states.iter_mut().collect::<Vec<_>>()));
    (rows, states)
}

/// Reads bytes as a file that grows: at each cut the state goes through JSON, and what is there
/// so far, a torn last line too, is read.
pub(crate) fn in_pieces(bytes: &[u8], cuts: &[usize]) -> (RowSet, FileState) {
    let mut rows = RowSet::default();
    let mut state = FileState::new("session-of-file.jsonl");
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let offset = usize::try_from(state.offset).unwrap();
        if end < offset {
            continue;
        }
        let mut hasher = sha2::Sha256::default();
        sha2::Digest::update(&mut hasher, &bytes[..offset]);
        let mut parser = Parser::resume(state, hasher).unwrap();
        rows.add(parser.feed(&bytes[offset..end]));
        let rest = usize::try_from(parser.state().offset).unwrap();
        rows.add(parser.peek_tail(&bytes[rest..end]));
        let json = serde_json::to_string(parser.state()).unwrap();
        state = serde_json::from_str(&json).unwrap();
    }
    (rows, state)
}
