//! Joins pieces, as an importer does with what it has stored.

use std::collections::BTreeMap;

use coditect_core::redact::Report;

use super::chunk::{Chunk, DamagedLine};
use crate::rows::{MessageRow, SessionRow, TaskMessageRow, TaskRow, TokenRow, ToolRow};

/// All rows of several pieces or files, each under its natural key. Facts: the first one stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowSet {
    /// JSON objects read in complete lines.
    pub records: u64,
    /// By session.
    pub sessions: BTreeMap<String, SessionRow>,
    /// By message identity.
    pub messages: BTreeMap<String, MessageRow>,
    /// By session and API message.
    pub tokens: BTreeMap<(String, String), TokenRow>,
    /// By session and call.
    pub tools: BTreeMap<(String, String), ToolRow>,
    /// By session and task.
    pub tasks: BTreeMap<(String, String), TaskRow>,
    /// By session, task and message.
    pub task_messages: BTreeMap<(String, String, String), TaskMessageRow>,
    /// In the order of reading.
    pub damaged: Vec<DamagedLine>,
    /// Records that become no row, by type.
    pub raw_counts: BTreeMap<String, u64>,
    /// What was redacted.
    pub report: Report,
}

impl RowSet {
    /// Adds a piece.
    pub fn add(&mut self, chunk: Chunk) {
        self.damaged.extend(chunk.damaged);
        if !chunk.provisional {
            self.records += chunk.records;
            self.report.merge(&chunk.report);
            for (kind, count) in chunk.raw_counts {
                *self.raw_counts.entry(kind).or_default() += count;
            }
        }
        for row in chunk.messages {
            self.messages.entry(row.message_id.clone()).or_insert(row);
        }
        for row in chunk.task_messages {
            let key = (
                row.session_id.clone(),
                row.task_id.clone(),
                row.message_id.clone(),
            );
            self.task_messages.entry(key).or_insert(row);
        }
        self.add_tools(chunk.tools);
        for row in chunk.sessions {
            upsert(
                &mut self.sessions,
                row.session_id.clone(),
                row,
                SessionRow::merge,
            );
        }
        for row in chunk.tokens {
            if self.is_copy(&row.session_id, &row.message_id) {
                continue;
            }
            let key = (row.session_id.clone(), row.api_message_id.clone());
            upsert(&mut self.tokens, key, row, TokenRow::merge);
        }
        for row in chunk.tasks {
            let key = (row.session_id.clone(), row.task_id.clone());
            upsert(&mut self.tasks, key, row, TaskRow::merge);
        }
    }

    /// Adds calls, such as those of [`super::pair_open_tools`].
    pub fn add_tools(&mut self, rows: Vec<ToolRow>) {
        for row in rows {
            if self.is_copy(&row.session_id, &row.message_id) {
                continue;
            }
            let key = (row.session_id.clone(), row.tool_use_id.clone());
            self.tools.entry(key).or_insert(row);
        }
    }

    /// Returns whether a message belongs to another session: a fork repeats records of the session
    /// that it comes from, and they count there only.
    fn is_copy(&self, session_id: &str, message_id: &str) -> bool {
        let known = self.messages.get(message_id);
        known.is_some_and(|message| message.session_id != session_id)
    }
}

fn upsert<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, row: V, merge: impl FnOnce(&mut V, V)) {
    match map.entry(key) {
        std::collections::btree_map::Entry::Occupied(mut known) => merge(known.get_mut(), row),
        std::collections::btree_map::Entry::Vacant(free) => {
            free.insert(row);
        }
    }
}
