//! What a hook has no time for: reading transcripts, and the sync after that. A hook starts a
//! process for it, one at a time and not too often, which ends by itself.

use std::fs::File as Handle;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coditect_capture::hooks::Event;
use coditect_local_store::{ImportState, LocalStore};
use coditect_protocol::catalogue::File;
use serde_json::{Value, json};

use super::{Folder, private, spool};
use crate::importer::{ImportError, Importer};

/// Prefix of the states that say which transcripts are to be read.
const REQUESTS: &str = "hook:read:";
/// Rounds after which a worker ends though more came meanwhile; the next hook starts another.
const ROUNDS_MAX: u32 = 100;

/// The place of the one worker; free again when dropped, also by a crash.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held, not looked at")] Handle);

/// What a worker did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worked {
    /// Events that had waited in the spool.
    pub events: u64,
    /// Transcripts that were looked at.
    pub transcripts: u64,
    /// Messages that were new.
    pub messages: u64,
}

impl Folder {
    /// Returns whether a worker should be started now: none is at work, and the last one was
    /// started longer than `every` ago. Notes that it is started.
    #[must_use]
    pub fn claim_start(&self, every: Duration) -> bool {
        let stamp = self.file("worker.started");
        let age = std::fs::metadata(&stamp).and_then(|stamp| stamp.modified());
        // A time in the future is one of a clock that was set back.
        let recent = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < every));
        if recent || self.work_place().is_none() {
            return false;
        }
        let mut options = std::fs::OpenOptions::new();
        let stamped = private(options.write(true).create(true).truncate(true)).open(&stamp);
        stamped.is_ok_and(|file| file.set_len(0).is_ok())
    }

    /// Takes the worker's place; none when another process has it.
    #[must_use]
    pub fn work_place(&self) -> Option<Place> {
        spool::lock(&self.file("worker.lock"))
            .ok()
            .flatten()
            .map(Place)
    }

    /// Returns whether there is something to do for a worker.
    ///
    /// # Errors
    /// When the store fails.
    pub fn has_work(&self, store: &LocalStore) -> Result<bool, ImportError> {
        Ok(self.has_spooled() || !store.import_states(REQUESTS)?.is_empty())
    }

    /// Stores what waits in the spool and reads the transcripts that hooks have named, until
    /// nothing is left.
    ///
    /// # Errors
    /// When the store fails. What was not done waits for the next worker.
    pub fn work(&self, store: &mut LocalStore, clock: fn() -> i64) -> Result<Worked, ImportError> {
        let mut worked = Worked::default();
        for _ in 0..ROUNDS_MAX {
            let drained = self.drain_all(store, clock())?;
            worked.events += drained.events;
            let requests = store.import_states(REQUESTS)?;
            if requests.is_empty() && drained.events == 0 {
                break;
            }
            let paths: Vec<PathBuf> = requests.iter().filter_map(transcript).collect();
            if !paths.is_empty() {
                worked.transcripts += paths.len() as u64;
                let summary = Importer::new(store, clock())?.run_some(&paths)?;
                let messages = summary.tables.get("context_messages");
                worked.messages += messages.map_or(0, |messages| messages.inserted);
            }
            store.record(File::Sessions, clock(), |recording| {
                for request in &requests {
                    // One that was made again meanwhile stays.
                    recording.forget_state(&request.source, &request.state)?;
                }
                Ok(())
            })?;
        }
        Ok(worked)
    }
}

/// Returns the note that an event's transcript is to be read, and the name to keep it under.
pub(super) fn request(event: &Event) -> Option<(String, Value)> {
    let path = event.transcript.as_deref()?;
    let is_own = is_transcript(Path::new(path), &event.session_id);
    let state = json!({"agent": event.agent, "path": path, "at_ms": event.at_ms});
    is_own.then(|| (format!("{REQUESTS}{}:{path}", event.agent), state))
}

/// Whatever calls a hook names a file; only one that is named as its session's transcript, or a
/// subagent's, is read.
fn is_transcript(path: &Path, session_id: &str) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("");
    let stem = name.strip_suffix(".jsonl");
    stem.is_some_and(|stem| stem == session_id || stem.starts_with("agent-"))
}

/// Returns the transcript of a request; none when no reader of ours knows its form.
fn transcript(request: &ImportState) -> Option<PathBuf> {
    let of_claude = request.state.get("agent")?.as_str()? == coditect_capture::claude::AGENT;
    let path = PathBuf::from(request.state.get("path")?.as_str()?);
    (of_claude && path.is_file()).then_some(path)
}
