//! What a hook has no time for: reading transcripts, and the sync after that. A hook starts a
//! process for it, one at a time and not too often, which ends by itself.

use std::fs::File as Handle;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coditect_capture::Format;
use coditect_capture::hooks::{Agent, Event};
use coditect_local_store::{ImportState, LocalStore};
use coditect_protocol::catalogue::File;
use serde_json::{Value, json};

use super::{Folder, is_younger, spool};
use crate::files::private;
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
        if is_younger(&stamp, every) || self.work_place().is_none() {
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
    /// nothing is left. What happened in the folders `ignored` is left out.
    ///
    /// # Errors
    /// When the store fails. What was not done waits for the next worker.
    pub fn work(
        &self,
        store: &mut LocalStore,
        ignored: &[String],
        clock: fn() -> i64,
    ) -> Result<Worked, ImportError> {
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
                let importer = Importer::new(store, clock())?.leaving_out(ignored.to_vec());
                let summary = importer.run_some(&paths)?;
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
    let agent = event.agent.parse().ok()?;
    let is_own = is_transcript(agent, Path::new(path), &event.session_id);
    let state = json!({"agent": event.agent, "path": path, "at_ms": event.at_ms});
    is_own.then(|| (format!("{REQUESTS}{}:{path}", event.agent), state))
}

/// Whatever calls a hook names a file; only one that is named as its session's transcript, or a
/// subagent's, is read.
fn is_transcript(agent: Agent, path: &Path, session_id: &str) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let (Some(stem), false) = (stem, session_id.is_empty()) else {
        return false;
    };
    match (agent, Format::of(path)) {
        (Agent::Claude, Format::Claude) => {
            let is_lines = path.extension().is_some_and(|ending| ending == "jsonl");
            is_lines && (stem == session_id || stem.starts_with("agent-"))
        }
        (Agent::Codex, Format::Codex) => stem.ends_with(session_id),
        // Its names have a time and only a part of the session's id.
        (Agent::Gemini, Format::Gemini | Format::GeminiDocument) => {
            path.parent().and_then(Path::file_name) == Some("chats".as_ref())
        }
        _ => false,
    }
}

/// Returns the transcript of a request, if it is still there.
fn transcript(request: &ImportState) -> Option<PathBuf> {
    let path = PathBuf::from(request.state.get("path")?.as_str()?);
    path.is_file().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_named_as_transcripts_are_read() {
        for (agent, path, is_one) in [
            (Agent::Claude, "/p/s1.jsonl", true),
            (Agent::Claude, "/p/s1/subagents/agent-a.jsonl", true),
            (Agent::Claude, "/p/s2.jsonl", false),
            (Agent::Claude, "/p/s1.json", false),
            (
                Agent::Codex,
                "/c/rollout-2026-02-03T03-51-03-s1.jsonl",
                true,
            ),
            (
                Agent::Codex,
                "/c/rollout-2026-02-03T03-51-03-s2.jsonl",
                false,
            ),
            (Agent::Codex, "/c/s1.jsonl", false),
            (Agent::Gemini, "/g/tmp/0/chats/session-2026-s1.json", true),
            (Agent::Gemini, "/g/tmp/0/chats/session-2026-s1.jsonl", true),
            (Agent::Gemini, "/etc/session-1.json", false),
        ] {
            assert_eq!(
                is_transcript(agent, Path::new(path), "s1"),
                is_one,
                "{path}"
            );
        }
        assert!(!is_transcript(
            Agent::Codex,
            Path::new("/c/rollout-1-.jsonl"),
            ""
        ));
    }
}
