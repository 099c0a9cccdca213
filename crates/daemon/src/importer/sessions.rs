//! What the importer remembers per session: the transcripts that tell about it, and titles that
//! other transcripts give it.

use std::collections::{BTreeMap, BTreeSet};

use coditect_capture::claude::Summary;
use coditect_local_store::{ImportState, LocalStore};
use coditect_protocol::catalogue::File;
use serde::{Deserialize, Serialize};

use super::Result;

/// Titles that wait for their message at most; they are rare, and the newest matter.
const WAITING_MAX: usize = 4_096;
/// Key of the titles that wait.
const WAITING: &str = "claude:summaries";

/// Memory about one session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Known {
    /// Transcripts that tell about it.
    pub(super) sources: BTreeSet<String>,
    /// Titles by the message that they name.
    pub(super) titles: BTreeMap<String, String>,
}

/// Memory about all sessions that this import touches.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    known: BTreeMap<String, Known>,
    touched: BTreeSet<String>,
    /// Messages of each session, those about to be stored included.
    counts: BTreeMap<String, u64>,
    /// Titles whose message is not stored yet.
    waiting: BTreeMap<String, String>,
}

impl Sessions {
    pub(super) fn load(store: &LocalStore) -> Result<Self> {
        let waiting = store.import_state(WAITING)?;
        let waiting = waiting.and_then(|stored| serde_json::from_value(stored.state).ok());
        Ok(Self {
            waiting: waiting.unwrap_or_default(),
            ..Self::default()
        })
    }

    /// Returns the sessions that this import has read something about.
    pub(super) fn touched(&self) -> &BTreeSet<String> {
        &self.touched
    }

    /// Returns what is known about a session.
    pub(super) fn known(&mut self, store: &LocalStore, session: &str) -> Result<&Known> {
        if !self.known.contains_key(session) {
            let stored = store.import_state(&key(session))?;
            let known = stored.and_then(|stored| serde_json::from_value(stored.state).ok());
            self.known
                .insert(session.to_owned(), known.unwrap_or_default());
        }
        Ok(&self.known[session])
    }

    pub(super) fn sources(
        &mut self,
        store: &LocalStore,
        session: &str,
    ) -> Result<BTreeSet<String>> {
        Ok(self.known(store, session)?.sources.clone())
    }

    /// Notes that a transcript tells about a session.
    pub(super) fn note_source(
        &mut self,
        store: &mut LocalStore,
        session: &str,
        source: &str,
        now_ms: i64,
    ) -> Result<()> {
        self.touched.insert(session.to_owned());
        let mut known = self.known(store, session)?.clone();
        if known.sources.insert(source.to_owned()) {
            self.keep(store, session, known, now_ms)?;
        }
        Ok(())
    }

    /// Returns the number of a session's messages, those about to be stored included.
    pub(super) fn count(&mut self, store: &LocalStore, session: &str) -> Result<u64> {
        if let Some(count) = self.counts.get(session) {
            return Ok(*count);
        }
        let count = store.count_messages(session)?;
        self.counts.insert(session.to_owned(), count);
        Ok(count)
    }

    /// Counts a message that is about to be stored.
    pub(super) fn add_message(&mut self, store: &LocalStore, session: &str) -> Result<()> {
        let count = self.count(store, session)?;
        self.counts.insert(session.to_owned(), count + 1);
        Ok(())
    }

    /// Keeps titles until their message is known.
    pub(super) fn note_summaries(
        &mut self,
        store: &mut LocalStore,
        summaries: &[Summary],
        now_ms: i64,
    ) -> Result<()> {
        let before = self.waiting.len();
        for summary in summaries {
            if self.waiting.len() < WAITING_MAX {
                let title = summary.title.clone();
                self.waiting
                    .entry(summary.leaf_message_id.clone())
                    .or_insert(title);
            }
        }
        if self.waiting.len() != before {
            self.keep_waiting(store, now_ms)?;
        }
        Ok(())
    }

    /// Hands titles to the sessions of their messages; returns those sessions.
    pub(super) fn settle_summaries(
        &mut self,
        store: &mut LocalStore,
        now_ms: i64,
    ) -> Result<BTreeSet<String>> {
        let mut titled = BTreeSet::new();
        for (leaf, title) in self.waiting.clone() {
            let Some(session) = store.session_of_message(&leaf)? else {
                continue;
            };
            let mut known = self.known(store, &session)?.clone();
            known.titles.insert(leaf.clone(), title);
            self.keep(store, &session, known, now_ms)?;
            self.waiting.remove(&leaf);
            titled.insert(session);
        }
        if !titled.is_empty() {
            self.keep_waiting(store, now_ms)?;
        }
        Ok(titled)
    }

    fn keep(
        &mut self,
        store: &mut LocalStore,
        session: &str,
        known: Known,
        now_ms: i64,
    ) -> Result<()> {
        put(store, key(session), &known, now_ms)?;
        self.known.insert(session.to_owned(), known);
        Ok(())
    }

    fn keep_waiting(&self, store: &mut LocalStore, now_ms: i64) -> Result<()> {
        put(store, WAITING.to_owned(), &self.waiting, now_ms)
    }
}

fn key(session: &str) -> String {
    format!("claude:session:{session}")
}

fn put<T: Serialize>(store: &mut LocalStore, source: String, value: &T, now_ms: i64) -> Result<()> {
    let state = ImportState {
        source,
        state: serde_json::to_value(value)?,
        ..ImportState::default()
    };
    store.ingest(File::Sessions, Vec::new(), Some(&state), now_ms)?;
    Ok(())
}
