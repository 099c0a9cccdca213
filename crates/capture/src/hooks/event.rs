//! One event of an agent program: what of it concerns the store.

use coditect_core::canonical;
use coditect_core::redact::{Report, redact_text, redact_value};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::agent::Agent;
use super::input::{Fields, Unreadable};
use crate::claude::TaskCall;
use crate::claude::{component, is_task_tool, uses_component};
use crate::rows::ToolRow;

/// Longest id that is taken for one, in bytes.
const ID_BYTES_MAX: usize = 256;
/// Longest error text that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 2_000;
/// Longest field of an event without a table of its own that is kept, in bytes.
const KEPT_BYTES_MAX: usize = 4_096;
/// Fields that are kept of one event.
const KEPT_FIELDS_MAX: usize = 64;

/// Fields with content that the transcript has as well.
const IN_TRANSCRIPT: &[&str] = &[
    "prompt",
    "tool_input",
    "tool_response",
    "tool_calls",
    "last_assistant_message",
    "compact_summary",
    "llm_request",
    "llm_response",
];

/// Fields that say who and where; they are read, so they need not be kept.
const READ: &[&str] = &[
    "session_id",
    "transcript_path",
    "cwd",
    "hook_event_name",
    "agent_id",
    "tool_name",
    "tool_use_id",
    "duration_ms",
    "agent_transcript_path",
];

/// Other documented fields of the events that have a table.
const DOCUMENTED: &[&str] = &[
    "prompt_id",
    "scratchpad_dir",
    "permission_mode",
    "effort",
    "agent_type",
    "source",
    "model",
    "session_title",
    "seconds_since_last_response",
    "context_tokens",
    "prompt_cache_likely_expired",
    "estimated_cache_write_usd",
    "mcp_server",
    "mcp_context",
    "error",
    "is_interrupt",
    "stop_hook_active",
    "background_tasks",
    "session_crons",
    "task_id",
    "task_subject",
    "task_description",
    "teammate_name",
    "team_name",
    "trigger",
    "custom_instructions",
    "reason",
    "timestamp",
    "turn_id",
];

/// Events whose content becomes rows, or whose session is read from its transcript.
const WITH_ROWS: &[&str] = &[
    "SessionStart",
    "SessionEnd",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "PostToolBatch",
    "Stop",
    "SubagentStop",
    "PreCompact",
    "TaskCreated",
    "TaskCompleted",
    "BeforeModel",
    "AfterModel",
    "MessageDisplay",
];

/// What became of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum SessionChange {
    /// It began, or goes on after a pause.
    Begun {
        /// Model, as the agent names it.
        model: Option<String>,
        /// Title.
        title: Option<String>,
    },
    /// Somebody works in it.
    Seen,
    /// It ended.
    Ended,
}

/// One event. Not redacted: what is written into rows is redacted by the store, everything else
/// by [`Event::redact`] before it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Agent program.
    pub agent: String,
    /// Name of the event, as Claude Code calls it.
    pub name: String,
    /// When it was heard, in milliseconds since 1970.
    pub at_ms: i64,
    /// Session.
    pub session_id: String,
    /// Folder that the agent works in.
    pub cwd: Option<String>,
    /// Transcript of the session, or of the subagent that stopped.
    pub transcript: Option<String>,
    /// Whether the transcript should be read now: a turn, a subagent or the session ended.
    #[serde(default)]
    pub read_transcript: bool,
    /// What became of the session.
    pub session: Option<SessionChange>,
    /// The call that ended.
    pub tool: Option<ToolRow>,
    /// What became of tasks.
    pub task: Option<TaskCall>,
    /// What has no table: an unknown event, unknown fields, a notification.
    pub kept: Option<Value>,
}

impl Event {
    /// Reads what a hook was given. `name` is what the hook was installed for; the input's own
    /// word counts more.
    ///
    /// # Errors
    /// [`Unreadable`] when the input is no JSON object. One without a session is no error: it is
    /// only kept.
    pub fn read(
        agent: Agent,
        name: Option<&str>,
        bytes: &[u8],
        now_ms: i64,
    ) -> Result<Self, Unreadable> {
        let fields = Fields::read(bytes)?;
        let said = fields.text("hook_event_name");
        let name = said.as_deref().or(name).unwrap_or("");
        let name = agent.event(clip(name, ID_BYTES_MAX));
        let mut event = Self {
            agent: agent.name().to_owned(),
            at_ms: now_ms,
            session_id: id(&fields, "session_id").unwrap_or_default(),
            cwd: fields.text("cwd"),
            transcript: fields.text("transcript_path"),
            read_transcript: false,
            session: None,
            tool: None,
            task: None,
            kept: kept(&name, &fields),
            name,
        };
        if !event.session_id.is_empty() {
            event.fill(&fields);
        }
        Ok(event)
    }

    /// Returns whether it changes the store.
    pub fn has_rows(&self) -> bool {
        self.session.is_some() || self.tool.is_some() || self.task.is_some() || self.read_transcript
    }

    /// Returns whether its place among the session's events matters.
    pub fn is_ordered(&self) -> bool {
        self.task.is_some() || self.session.is_some()
    }

    /// Returns whether others look for what it says at once: a task's change, the end of a turn.
    pub fn is_urgent(&self) -> bool {
        self.task.is_some() || self.read_transcript
    }

    /// Returns whether the agent waits for an answer.
    pub fn wants_answer(&self) -> bool {
        matches!(self.session, Some(SessionChange::Begun { .. }))
    }

    /// Replaces the secrets in all texts except ids.
    pub fn redact(&mut self, report: &mut Report) {
        let mut clean = |text: &mut Option<String>| {
            if let Some(text) = text {
                *text = redact_text(text, report).into_owned();
            }
        };
        clean(&mut self.cwd);
        if let Some(SessionChange::Begun { model, title }) = &mut self.session {
            clean(model);
            clean(title);
        }
        if let Some(tool) = &mut self.tool {
            clean(&mut tool.error_message);
            tool.tool_name = redact_text(&tool.tool_name, report).into_owned();
        }
        if let Some(task) = &mut self.task {
            redact_value(&mut task.input, report);
            redact_value(&mut task.response, report);
        }
        if let Some(kept) = &mut self.kept {
            redact_value(kept, report);
        }
    }

    fn fill(&mut self, fields: &Fields) {
        match self.name.as_str() {
            "SessionStart" => {
                self.session = Some(SessionChange::Begun {
                    model: fields.text("model"),
                    title: fields.text("session_title"),
                });
            }
            "UserPromptSubmit" => self.session = Some(SessionChange::Seen),
            "SessionEnd" => {
                self.session = Some(SessionChange::Ended);
                self.read_transcript = true;
            }
            "Stop" | "PreCompact" => self.read_transcript = true,
            "SubagentStop" => {
                let own = fields.text("agent_transcript_path");
                self.transcript = own.or_else(|| self.transcript.take());
                self.read_transcript = true;
            }
            "PostToolUse" | "PostToolUseFailure" => self.fill_tool(fields),
            "TaskCreated" | "TaskCompleted" => {
                let mut input = Map::new();
                for name in ["task_id", "task_subject", "task_description"] {
                    if let Some(text) = fields.text(name) {
                        input.insert(name.to_owned(), text.into());
                    }
                }
                let tool = self.name.clone();
                self.task = Some(self.task_call(fields, tool, Value::Object(input), Value::Null));
            }
            _ => {}
        }
        self.read_transcript &= self.transcript.is_some();
    }

    fn fill_tool(&mut self, fields: &Fields) {
        let failed = self.name == "PostToolUseFailure";
        let name = fields.text("tool_name").unwrap_or_default();
        if is_task_tool(&name) && !failed {
            let input = fields.value("tool_input").unwrap_or(Value::Null);
            let response = fields.value("tool_response").unwrap_or(Value::Null);
            self.task = Some(self.task_call(fields, name.clone(), input, response));
        }
        // A call without an id of its own has nothing that the transcript could be compared by.
        let (Some(tool_use_id), false) = (id(fields, "tool_use_id"), name.is_empty()) else {
            return;
        };
        let duration_ms = fields.number("duration_ms");
        let ago = duration_ms
            .and_then(|ms| i64::try_from(ms).ok())
            .unwrap_or(0);
        let began_ms = self.at_ms.saturating_sub(ago);
        let error = if failed { fields.text("error") } else { None };
        self.tool = Some(ToolRow {
            tool_name: clip(&name, ID_BYTES_MAX).to_owned(),
            session_id: self.session_id.clone(),
            tool_use_id,
            message_id: String::new(),
            agent_id: id(fields, "agent_id"),
            timestamp: Some(canonical::time_from_ms(began_ms)),
            duration_ms,
            success: Some(!failed),
            // Redacted before it is cut: half a secret might not be known for one.
            error_message: error.map(|error| {
                let clean = redact_text(&error, &mut Report::default()).into_owned();
                clip(&clean, ERROR_BYTES_MAX).to_owned()
            }),
            input_bytes: fields.bytes("tool_input").unwrap_or(0),
            output_bytes: fields.bytes("tool_response"),
            component: component_of(&name, fields),
            activity: None,
        });
    }

    fn task_call(&self, fields: &Fields, tool: String, input: Value, response: Value) -> TaskCall {
        TaskCall {
            tool,
            input,
            response,
            agent_id: id(fields, "agent_id"),
            at: Some(canonical::time_from_ms(self.at_ms)),
        }
    }
}

/// Returns what no row takes: of an event with rows the fields that nobody has documented, of
/// any other everything.
fn kept(name: &str, fields: &Fields) -> Option<Value> {
    let known = WITH_ROWS.contains(&name);
    let wanted = |field: &&str| {
        !READ.contains(field)
            && !(known && (DOCUMENTED.contains(field) || IN_TRANSCRIPT.contains(field)))
    };
    let names: Vec<&str> = fields
        .names()
        .filter(wanted)
        .take(KEPT_FIELDS_MAX)
        .collect();
    if known && names.is_empty() {
        return None;
    }
    let mut kept = Map::new();
    for name in names {
        let Some(mut value) = fields.value(name) else {
            continue;
        };
        redact_value(&mut value, &mut Report::default());
        let text = value.to_string();
        if text.len() > KEPT_BYTES_MAX {
            value = json!({"bytes": text.len(), "start": clip(&text, KEPT_BYTES_MAX)});
        }
        kept.insert(clip(name, ID_BYTES_MAX).to_owned(), value);
    }
    Some(Value::Object(kept))
}

fn id(fields: &Fields, name: &str) -> Option<String> {
    fields.text(name).filter(|id| id.len() <= ID_BYTES_MAX)
}

/// Returns the component that a call used. The input of any other call is not read.
fn component_of(tool: &str, fields: &Fields) -> Option<String> {
    if !uses_component(tool) {
        return None;
    }
    let used = component(tool, fields.value("tool_input").as_ref())?;
    Some(redact_text(&used, &mut Report::default()).into_owned())
}

fn clip(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
