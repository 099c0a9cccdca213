//! The list of one transcript: a line of JSON that says what it is, then one for each chunk.

use std::io::{self, Write as _};
use std::path::Path;

use coditect_capture::raw::Redaction;
use serde::{Deserialize, Serialize};

use super::{Result, SMALL_BYTES, failed, write_whole};
use crate::files::{make_folder, private};

/// Form of the lists that this version writes.
const VERSION: u32 = 1;
/// Longest list that is read, in bytes.
const LIST_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A piece of a transcript and where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Where it starts in the transcript, in bytes.
    pub start: u64,
    /// Where it ends there.
    pub end: u64,
    /// Its own bytes, after redaction.
    pub bytes: u64,
    /// Hash of these bytes, and the chunk's name.
    pub sha256: String,
    /// What was taken out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redactions: Vec<Redaction>,
    /// The transcript's last line, which had not ended: what comes next replaces it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_tail: bool,
}

/// What is stored about one transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Where the transcript is, or was.
    pub path: String,
    /// Agent that wrote it.
    pub agent: String,
    /// Its chunks, in order.
    pub chunks: Vec<Chunk>,
    /// Chunks of what the transcript was before the agent rewrote it.
    pub replaced: Vec<Chunk>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    version: u32,
    path: String,
    agent: String,
}

/// A line after the first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Chunk(Chunk),
    Restart { restart: bool },
}

impl Manifest {
    pub(super) fn new(path: &str, agent: &str) -> Self {
        Self {
            path: path.to_owned(),
            agent: agent.to_owned(),
            chunks: Vec::new(),
            replaced: Vec::new(),
        }
    }

    /// Returns how far the transcript is stored in whole lines, in bytes.
    #[must_use]
    pub fn end(&self) -> u64 {
        let end = |chunk: &Chunk| {
            if chunk.is_tail {
                chunk.start
            } else {
                chunk.end
            }
        };
        self.chunks.last().map_or(0, end)
    }

    /// Takes away the last line, if it had not ended.
    pub(super) fn drop_tail(&mut self) -> Option<Chunk> {
        self.chunks.pop_if(|chunk| chunk.is_tail)
    }

    /// Returns the chunks of the transcript as it is and as it was.
    pub fn all_chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.replaced.iter().chain(&self.chunks)
    }

    pub(super) fn small_at_end(&self) -> usize {
        let from_end = self.chunks.iter().rev();
        from_end
            .take_while(|chunk| chunk.bytes < SMALL_BYTES)
            .count()
    }

    pub(super) fn restart(&mut self) {
        self.replaced.append(&mut self.chunks);
    }
}

/// Reads a list; lines that a crash cut off, and all behind them, are left out.
pub(super) fn read(list: &Path) -> Result<Option<Manifest>> {
    let text = match std::fs::metadata(list) {
        Ok(metadata) if metadata.len() > LIST_BYTES_MAX => {
            let error = io::Error::other("it is larger than a list can be");
            return Err(failed("read", list, error));
        }
        Ok(_) => std::fs::read(list).map_err(|source| failed("read", list, source))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed("read", list, source)),
    };
    Ok(parse(&text))
}

/// Reads the bytes of a list; none when not even its first line is whole.
pub(super) fn parse(text: &[u8]) -> Option<Manifest> {
    let mut lines = text
        .split_inclusive(|byte| *byte == b'\n')
        .map_while(|line| line.strip_suffix(b"\n"));
    let head: Head = serde_json::from_slice(lines.next()?).ok()?;
    let mut manifest = Manifest::new(&head.path, &head.agent);
    for line in lines {
        match serde_json::from_slice(line) {
            Ok(Line::Chunk(chunk)) if chunk.start == manifest.end() && chunk.end > chunk.start => {
                manifest.chunks.push(chunk);
            }
            Ok(Line::Restart { restart: true }) => manifest.restart(),
            _ => break,
        }
    }
    Some(manifest)
}

/// Adds a chunk to a list that is as `manifest` says.
pub(super) fn append(list: &Path, manifest: &mut Manifest, chunk: Chunk) -> Result<()> {
    let expected = bytes(manifest);
    let is_whole = std::fs::metadata(list).is_ok_and(|file| file.len() == expected.len() as u64);
    manifest.chunks.push(chunk);
    if !is_whole {
        // It is new, or something was cut off at its end.
        return write(list, manifest);
    }
    let add = || -> io::Result<()> {
        if let Some(folder) = list.parent() {
            make_folder(folder)?;
        }
        let mut file = private(std::fs::OpenOptions::new().append(true)).open(list)?;
        let last = manifest
            .chunks
            .last()
            .map(|chunk| Line::Chunk(chunk.clone()));
        let mut line = serde_json::to_vec(&last).map_err(io::Error::other)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_data()
    };
    add().map_err(|source| failed("write", list, source))
}

/// Writes a whole list.
pub(super) fn write(list: &Path, manifest: &Manifest) -> Result<()> {
    write_whole(list, &bytes(manifest))
}

fn bytes(manifest: &Manifest) -> Vec<u8> {
    let head = Head {
        version: VERSION,
        path: manifest.path.clone(),
        agent: manifest.agent.clone(),
    };
    let mut out = Vec::new();
    let mut push = |line: serde_json::Result<Vec<u8>>| {
        // Plain structures always become JSON.
        out.extend(line.unwrap_or_default());
        out.push(b'\n');
    };
    push(serde_json::to_vec(&head));
    let mut replaced_end = 0;
    for chunk in &manifest.replaced {
        if chunk.start == 0 && replaced_end > 0 {
            push(serde_json::to_vec(&Line::Restart { restart: true }));
        }
        replaced_end = chunk.end;
        push(serde_json::to_vec(chunk));
    }
    if replaced_end > 0 {
        push(serde_json::to_vec(&Line::Restart { restart: true }));
    }
    for chunk in &manifest.chunks {
        push(serde_json::to_vec(chunk));
    }
    out
}
