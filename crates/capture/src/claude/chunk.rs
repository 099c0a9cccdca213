//! What one piece of a transcript yields.

use std::collections::BTreeMap;

use coditect_core::redact::Report;

use crate::rows::{MessageRow, SessionRow, TaskMessageRow, TaskRow, TokenRow, ToolRow};

/// Rows of one piece of a file. Messages, tool calls and task links are new ones; sessions and
/// tasks are the state after the piece; tokens are what the piece alone says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chunk {
    /// The piece is a last line without newline: its rows will be returned once more, and the
    /// same, when the line is complete, so it must not be added to counts.
    pub provisional: bool,
    /// JSON objects read, of every type.
    pub records: u64,
    /// One per `user`, `assistant` and `system` record.
    pub messages: Vec<MessageRow>,
    /// Sessions that the piece touched, as far as the whole file tells up to here.
    pub sessions: Vec<SessionRow>,
    /// One per API answer in the piece; join with stored ones by maximum.
    pub tokens: Vec<TokenRow>,
    /// Calls that were answered or given up in the piece.
    pub tools: Vec<ToolRow>,
    /// Tasks that the piece created or changed, as far as the whole file tells up to here.
    pub tasks: Vec<TaskRow>,
    /// Links made in the piece.
    pub task_messages: Vec<TaskMessageRow>,
    /// Lines that are not exactly one JSON object.
    pub damaged: Vec<DamagedLine>,
    /// Lines that needed a repair of their text (cut escapes, invalid UTF-8) and lost nothing else.
    pub repaired: u64,
    /// Records that become no row, by type.
    pub raw_counts: BTreeMap<String, u64>,
    /// Summaries for messages that this file does not hold (or not yet).
    pub summaries: Vec<Summary>,
    /// What was redacted.
    pub report: Report,
}

/// A line that is not exactly one JSON object. Whole objects in it have become rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedLine {
    /// Path as given to the parser.
    pub file: String,
    /// Number of the line, from 1.
    pub line: u64,
    /// Where the line starts in the file.
    pub byte_offset: u64,
    /// Byte in the line after the last whole object at its start.
    pub damage_at: u64,
    /// Whole objects that were read from the line.
    pub objects: u64,
    /// What is wrong.
    pub reason: String,
    /// The beginning of the line, redacted; the archive has all of it.
    pub raw: String,
}

/// A title for the session that a message belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Identity of the message.
    pub leaf_message_id: String,
    /// The title.
    pub title: String,
}
