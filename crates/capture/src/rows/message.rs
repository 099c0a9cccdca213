//! One transcript record as a message.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::NamedRow;
use super::columns::Columns;

/// One `user`, `assistant` or `system` record. A fact: it never changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MessageRow {
    /// Identity of the record, the same on every device and in every copy (PROTOCOL 5).
    pub message_id: String,
    /// Session the record names, or the file's name when it names none.
    pub session_id: String,
    /// `user`, `assistant` or `system`.
    pub role: String,
    /// The record's type, as written.
    pub message_type: String,
    /// Subtype of a system record; `prompt`, `command` or `tool_result` for a user record.
    pub subtype: Option<String>,
    /// Readable text of all blocks.
    pub content: String,
    /// The blocks as written, redacted.
    pub content_blocks: Value,
    /// When it was written, RFC 3339 UTC with microseconds.
    pub timestamp: Option<String>,
    /// Agent program, such as `claude`.
    pub agent: String,
    /// Id of the subagent that wrote it.
    pub agent_id: Option<String>,
    /// Identity of the record before it.
    pub parent_id: Option<String>,
    /// Id of the API answer that this record is a part of.
    pub api_message_id: Option<String>,
    /// Id of the API request.
    pub request_id: Option<String>,
    /// Model that answered.
    pub llm_model: Option<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// Git branch.
    pub git_branch: Option<String>,
    /// What it was read from; none for a line of a transcript.
    pub source_type: Option<String>,
    /// Name of the file without its folders.
    pub source_file: String,
    /// Position among the messages of its file, from 1.
    pub sequence: u64,
    /// Written by the agent program for the model, not by a person.
    pub is_meta: bool,
    /// Belongs to a subagent.
    pub is_sidechain: bool,
    /// No model output: a placeholder or an error of the API.
    pub is_synthetic: bool,
    /// Summary that replaces what was compacted.
    pub is_compact_summary: bool,
    /// Remaining small facts about the record.
    pub metadata: Value,
}

impl MessageRow {
    /// Returns the row under the catalogue's names.
    pub fn into_row(self) -> NamedRow {
        let row = Columns::default()
            .text("message_id", self.message_id)
            .text("session_id", self.session_id)
            .text("role", self.role)
            .text("message_type", self.message_type)
            .text("subtype", self.subtype)
            .text("content", self.content)
            .json("content_blocks", self.content_blocks)
            .text("timestamp", self.timestamp)
            .text("agent", self.agent)
            .text("agent_id", self.agent_id)
            .text("parent_id", self.parent_id)
            .text("api_message_id", self.api_message_id)
            .text("request_id", self.request_id)
            .text("llm_model", self.llm_model)
            .text("cwd", self.cwd)
            .text("git_branch", self.git_branch)
            .text(
                "source_type",
                self.source_type.unwrap_or_else(|| "jsonl".to_owned()),
            )
            .text("source_file", self.source_file)
            .integer("sequence", self.sequence)
            .boolean("is_meta", self.is_meta)
            .boolean("is_sidechain", self.is_sidechain)
            .boolean("is_synthetic", self.is_synthetic)
            .boolean("is_compact_summary", self.is_compact_summary)
            .json("metadata", self.metadata);
        ("context_messages", row.finish())
    }
}
