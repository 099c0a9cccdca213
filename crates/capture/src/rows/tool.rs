//! One finished call of a tool.

use serde::{Deserialize, Serialize};
use serde_json::json;

use coditect_protocol::RowId;

use super::columns::Columns;
use super::{Activity, NamedRow};

/// A call and its result. A fact: it is returned once, when the call is answered or given up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRow {
    /// Tool.
    pub tool_name: String,
    /// Session.
    pub session_id: String,
    /// Id of the call.
    pub tool_use_id: String,
    /// Identity of the message that called.
    pub message_id: String,
    /// Subagent.
    pub agent_id: Option<String>,
    /// Time of the call.
    pub timestamp: Option<String>,
    /// As the tool reports it, else from call to result.
    pub duration_ms: Option<u64>,
    /// Whether it worked; none when a person went on without an answer.
    pub success: Option<bool>,
    /// Start of the error's text.
    pub error_message: Option<String>,
    /// Bytes of the input as compact JSON, redacted.
    pub input_bytes: u64,
    /// Bytes of the result's text, redacted.
    pub output_bytes: Option<u64>,
    /// Agent, skill or command that it used, such as `agent:Explore`.
    pub component: Option<String>,
    /// What it was for, where that is known.
    pub activity: Option<Activity>,
}

impl ToolRow {
    /// Returns the row that says what the call was for, with its id.
    #[must_use]
    pub fn association(&self) -> Option<(RowId, NamedRow)> {
        let activity = self.activity.as_ref()?;
        activity.row(&self.session_id, &self.tool_use_id)
    }

    /// Returns the row under the catalogue's names.
    pub fn into_row(self) -> NamedRow {
        let metadata = match (self.success.is_none(), self.component) {
            (false, None) => None,
            (true, None) => Some(json!({ "unanswered": true })),
            (false, Some(component)) => Some(json!({ "component": component })),
            (true, Some(component)) => Some(json!({ "component": component, "unanswered": true })),
        };
        let row = Columns::default()
            .text("tool_name", self.tool_name)
            .text("session_id", self.session_id)
            .text("tool_use_id", self.tool_use_id)
            .text("message_id", self.message_id)
            .text("agent_id", self.agent_id)
            .text("timestamp", self.timestamp)
            .integer("duration_ms", self.duration_ms)
            .boolean("success", self.success)
            .text("error_message", self.error_message)
            .integer("input_bytes", self.input_bytes)
            .integer("output_bytes", self.output_bytes)
            .json("metadata", metadata);
        ("context_tool_analytics", row.finish())
    }
}
