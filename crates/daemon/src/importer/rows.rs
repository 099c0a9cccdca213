//! From what a piece of a transcript says to the rows to store: joined with what other
//! transcripts and the store know, so that only news is written.

use std::collections::{BTreeMap, BTreeSet};

use coditect_capture::claude::Chunk;
use coditect_capture::graph::{Graph, Place};
use coditect_capture::rows::{NamedRow, SessionRow, TaskRow, TitleSource, ToolRow};
use coditect_core::hash;
use coditect_local_store::LocalStore;
use coditect_protocol::catalogue::{Merge, by_cloud_name};
use coditect_protocol::wire::Row;
use serde_json::Value;

use super::{Importer, Result};

impl Importer<'_> {
    /// Returns the rows of a piece, parents first.
    pub(super) fn rows(&mut self, chunk: Chunk) -> Result<Vec<NamedRow>> {
        // Of a message that occurs again, here or in another session (a fork), the first stays.
        let mut owners: BTreeMap<String, String> = BTreeMap::new();
        let mut messages = Vec::new();
        for message in chunk.messages {
            if owners.contains_key(&message.message_id) {
                continue;
            }
            let stored = self.store.session_of_message(&message.message_id)?;
            if stored.is_none() {
                self.sessions.add_message(self.store, &message.session_id)?;
            }
            let owner = stored.clone().unwrap_or_else(|| message.session_id.clone());
            owners.insert(message.message_id.clone(), owner);
            if stored.is_none() {
                messages.push(message.into_row());
            }
        }
        let mut rows = Vec::new();
        let ids: BTreeSet<String> = chunk
            .sessions
            .into_iter()
            .map(|row| row.session_id)
            .collect();
        for session_id in ids {
            rows.extend(self.session_row(&session_id)?);
        }
        rows.extend(messages);
        for task in chunk.tasks {
            rows.extend(self.task_row(task)?);
        }
        rows.extend(chunk.task_messages.into_iter().map(|row| row.into_row()));
        let mut tools = Vec::new();
        for tool in chunk.tools {
            if !self.is_copy(&owners, &tool.session_id, &tool.message_id)? {
                tools.push(self.tool_row(tool));
            }
        }
        rows.extend(tools);
        for token in chunk.tokens {
            if self.is_copy(&owners, &token.session_id, &token.message_id)? {
                continue;
            }
            let mut row = token.into_row();
            if let Some(stored) = stored(self.store, &row)? {
                leave_gaps_only(&mut row, &stored);
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// Returns what belongs together, by what a piece says.
    pub(super) fn found(&self, chunk: &Chunk) -> Graph {
        let mut graph = Graph::default();
        let place = |session_id: &str| {
            let mut sessions = chunk.sessions.iter();
            sessions.find(|row| row.session_id == session_id)
        };
        for row in &chunk.sessions {
            let place = Place {
                session_id: &row.session_id,
                project_path: row.project_path.as_deref(),
            };
            graph.session(&place, row.title.as_deref(), Some(&row.agent));
        }
        for message in &chunk.messages {
            let place = Place {
                session_id: &message.session_id,
                project_path: place(&message.session_id)
                    .and_then(|row| row.project_path.as_deref()),
            };
            let at = message.timestamp.as_deref();
            graph.message(&place, &message.content_blocks, at);
        }
        for task in &chunk.tasks {
            let place = Place {
                session_id: &task.session_id,
                project_path: None,
            };
            graph.task(&place, &task.task_id, task.description.as_deref());
        }
        graph
    }

    /// Returns rows of tool calls that were paired later.
    pub(super) fn tool_rows(&mut self, tools: Vec<ToolRow>) -> Result<Vec<NamedRow>> {
        let mut rows = Vec::new();
        for tool in tools {
            if !self.is_copy(&BTreeMap::new(), &tool.session_id, &tool.message_id)? {
                rows.push(self.tool_row(tool));
            }
        }
        Ok(rows)
    }

    /// Returns the row of a call; what it was for is stored beside it.
    fn tool_row(&mut self, tool: ToolRow) -> NamedRow {
        self.associations.extend(tool.association());
        self.has_used |= tool.component.is_some() || tool.tool_name.starts_with("mcp__");
        tool.into_row()
    }

    /// Returns a session's row, joined from all transcripts that tell about it, in the order of
    /// their names whatever the order of reading.
    pub(super) fn session_row(&mut self, session_id: &str) -> Result<Option<NamedRow>> {
        let known = self.sessions.known(self.store, session_id)?.clone();
        let mut joined: Option<SessionRow> = None;
        for source in &known.sources {
            let Some(state) = self.state_of(source)? else {
                continue;
            };
            let Some(session) = state.sessions.get(session_id) else {
                continue;
            };
            match &mut joined {
                Some(joined) => joined.merge(session.row.clone()),
                None => joined = Some(session.row.clone()),
            }
        }
        let Some(mut joined) = joined else {
            return Ok(None);
        };
        for title in known.titles.values() {
            joined.offer_title(title.clone(), TitleSource::Summary);
        }
        joined.message_count = self.sessions.count(self.store, session_id)?;
        let end_time = joined.end_time.clone();
        let mut row = joined.into_row();
        if let Some(stored) = stored(self.store, &row)? {
            // Another device may have seen more of the session; then only gaps are filled.
            let stored_end = stored.get("end_time").and_then(Value::as_str);
            if stored_end > end_time.as_deref() {
                leave_gaps_only(&mut row, &stored);
            }
        }
        Ok(Some(row))
    }

    /// Returns a task's row, joined from all transcripts of its session. Where the store knows a
    /// later or the same state, only gaps are filled: a person may have edited it since.
    fn task_row(&mut self, task: TaskRow) -> Result<Option<NamedRow>> {
        let mut joined = task;
        let sources = self.sessions.sources(self.store, &joined.session_id)?;
        for source in sources {
            let Some(state) = self.state_of(&source)? else {
                continue;
            };
            let session = state.sessions.get(&joined.session_id);
            let other = session.and_then(|session| session.tasks.get(&joined.task_id));
            if let Some(other) = other
                && *other != joined
            {
                joined.merge(other.clone());
            }
        }
        let changed_at = joined.changed_at.clone();
        let mut row = joined.into_row();
        if let Some(stored) = stored(self.store, &row)? {
            let stored_change = stored
                .get("metadata")
                .and_then(|value| value.get("changed_at"));
            if stored_change.and_then(Value::as_str) >= changed_at.as_deref() {
                leave_gaps_only(&mut row, &stored);
            }
        }
        Ok(Some(row))
    }

    /// Returns whether a message belongs to another session: a fork repeats records of the one
    /// that it comes from, and they count there only.
    fn is_copy(
        &self,
        owners: &BTreeMap<String, String>,
        session_id: &str,
        message_id: &str,
    ) -> Result<bool> {
        let owner = match owners.get(message_id) {
            Some(owner) => Some(owner.clone()),
            None => self.store.session_of_message(message_id)?,
        };
        Ok(owner.is_some_and(|owner| owner != session_id))
    }
}

/// Returns the stored row of the same identity.
fn stored(store: &LocalStore, (name, row): &NamedRow) -> Result<Option<Row>> {
    let Some(table) = by_cloud_name(name) else {
        return Ok(None);
    };
    // A row without its key is refused when it is stored, with a message that says which.
    let Ok(Some(id)) = hash::derived_id(table, row, store.device()) else {
        return Ok(None);
    };
    Ok(store.get(name, &id.to_string())?.map(|view| view.row))
}

/// Leaves out the register's columns that are stored already; the key and `max` columns stay.
pub(crate) fn leave_gaps_only((name, row): &mut NamedRow, stored: &Row) {
    let Some(table) = by_cloud_name(name) else {
        return;
    };
    let key = table.identity.columns();
    for column in table.columns_by(Merge::Lww) {
        if stored.contains_key(column.name) && !key.contains(&column.name) {
            row.remove(column.name);
        }
    }
}
