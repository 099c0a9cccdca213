//! Tasks of an agent, and which message touched which.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::NamedRow;
use super::columns::Columns;

/// A task as far as one file tells about it: what is unknown is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskRow {
    /// Session.
    pub session_id: String,
    /// The tool's id, or one made from a list item's first text.
    pub task_id: String,
    /// What is to be done.
    pub description: Option<String>,
    /// The same while it is being done.
    pub active_form: Option<String>,
    /// Longer description.
    pub details: Option<String>,
    /// `pending`, `in_progress`, `completed` or `deleted`, as the agent says.
    pub status: Option<String>,
    /// Priority, in old lists.
    pub priority: Option<String>,
    /// Owner.
    pub owner: Option<String>,
    /// When it was first in progress.
    pub started_at: Option<String>,
    /// When it was completed; none once it is open again.
    pub completed_at: Option<String>,
    /// Ids of tasks that wait for this one.
    pub blocks: Vec<String>,
    /// Ids of tasks that this one waits for.
    pub blocked_by: Vec<String>,
    /// Tool that made it, if that was seen.
    pub source: Option<String>,
    /// Version of the agent program.
    pub client_version: Option<String>,
    /// Time of the last change.
    pub changed_at: Option<String>,
    /// Number of messages that created or changed it so far.
    pub touched: u64,
}

impl TaskRow {
    /// Joins what another file says: the later change wins, unknown never overwrites known.
    pub fn merge(&mut self, other: Self) {
        let (mut newer, older) = if other.changed_at >= self.changed_at {
            (other, self.clone())
        } else {
            (self.clone(), other)
        };
        let completed = newer.status.as_deref().or(older.status.as_deref()) == Some("completed");
        fill(&mut newer.description, older.description);
        fill(&mut newer.active_form, older.active_form);
        fill(&mut newer.details, older.details);
        fill(&mut newer.status, older.status);
        fill(&mut newer.priority, older.priority);
        fill(&mut newer.owner, older.owner);
        fill(&mut newer.source, older.source);
        fill(&mut newer.client_version, older.client_version);
        newer.started_at = match (newer.started_at.take(), older.started_at) {
            (Some(mine), Some(theirs)) => Some(mine.min(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
        if completed {
            fill(&mut newer.completed_at, older.completed_at);
        }
        add_new(&mut newer.blocks, older.blocks);
        add_new(&mut newer.blocked_by, older.blocked_by);
        newer.touched = newer.touched.max(older.touched);
        *self = newer;
    }

    /// Returns the row under the catalogue's names. `metadata.changed_at` tells an importer
    /// whether a stored row is older.
    pub fn into_row(self) -> NamedRow {
        let row = Columns::default()
            .text("task_id", self.task_id)
            .text("session_id", self.session_id)
            .text("description", self.description)
            .text("active_form", self.active_form)
            .text("details", self.details)
            .text("status", self.status)
            .text("priority", self.priority)
            .text("owner", self.owner)
            .text("started_at", self.started_at)
            .text("completed_at", self.completed_at)
            .list("blocks", self.blocks)
            .list("blocked_by", self.blocked_by)
            .text("source", self.source)
            .text("client_version", self.client_version)
            .json(
                "metadata",
                self.changed_at.map(|at| json!({ "changed_at": at })),
            );
        ("context_task_tracking", row.finish())
    }
}

/// Which message created or changed which task. A fact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMessageRow {
    /// Session.
    pub session_id: String,
    /// Task.
    pub task_id: String,
    /// Identity of the message with the tool's call.
    pub message_id: String,
    /// Position among the messages of the task in its file, from 1.
    pub sequence: u64,
}

impl TaskMessageRow {
    /// Returns the row under the catalogue's names.
    pub fn into_row(self) -> NamedRow {
        let row = Columns::default()
            .text("session_id", self.session_id)
            .text("task_id", self.task_id)
            .text("message_id", self.message_id)
            .integer("sequence", self.sequence);
        ("context_task_messages", row.finish())
    }
}

fn fill(mine: &mut Option<String>, theirs: Option<String>) {
    if mine.is_none() {
        *mine = theirs;
    }
}

/// Appends the items that are not in the list yet.
pub(crate) fn add_new(list: &mut Vec<String>, items: Vec<String>) {
    for item in items {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}
