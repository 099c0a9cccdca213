//! What is remembered of a session's tasks between two hooks: the same state, and the same rules,
//! that reading the transcript follows, so that both name a task alike.

use coditect_core::redact::{Report, redact_value};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::parser::Work;
use super::record::{Record, id};
use super::state::{FileState, OpenTool, SessionState};
use super::tasks;
use super::tools::Context;
use crate::rows::TaskRow;

/// A call of a task tool that has ended, or what the agent program tells about a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskCall {
    /// Name of the tool, or of the event (`TaskCreated`, `TaskCompleted`).
    pub tool: String,
    /// Input of the tool, or fields of the event.
    pub input: Value,
    /// Structured result; null when there is none.
    pub response: Value,
    /// Subagent that called.
    pub agent_id: Option<String>,
    /// When it ended, RFC 3339 UTC with microseconds.
    pub at: Option<String>,
}

/// Tasks of one session and the lists that its agents wrote last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskMemory(SessionState);

impl TaskMemory {
    /// Applies a call and returns the tasks that it changed, as they are now. A call that comes
    /// late, after a later one of the same task, fills gaps only.
    pub fn apply(&mut self, session_id: &str, call: &TaskCall) -> Vec<TaskRow> {
        let before = self.0.tasks.clone();
        let mut state = FileState::new("");
        let own = std::mem::take(&mut self.0);
        state.sessions.insert(session_id.to_owned(), own);
        let mut work = Work::new(&mut state);
        run(&mut work, session_id, call);
        let changed = work.finish().tasks;
        self.0 = state.sessions.remove(session_id).unwrap_or_default();
        let settle = |mut row: TaskRow| {
            let late = before
                .get(&row.task_id)
                .filter(|known| known.changed_at > call.at);
            if let Some(known) = late {
                row.changed_at.clone_from(&call.at);
                let mut joined = known.clone();
                joined.merge(row);
                row = joined;
                self.0.tasks.insert(row.task_id.clone(), row.clone());
            }
            row
        };
        changed.into_iter().map(settle).collect()
    }
}

fn run(work: &mut Work<'_>, session_id: &str, call: &TaskCall) {
    let mut report = Report::default();
    let mut input = call.input.clone();
    redact_value(&mut input, &mut report);
    let context = Context {
        session_id: session_id.to_owned(),
        agent_id: call.agent_id.clone(),
        message_id: String::new(),
        calling_message_id: None,
        timestamp: call.at.clone(),
        client_version: None,
    };
    let status = match call.tool.as_str() {
        "TaskCreated" => None,
        "TaskCompleted" => Some("completed"),
        _ => {
            let open = OpenTool {
                name: call.tool.clone(),
                input: Some(input),
                ..OpenTool::default()
            };
            let structured = call.response.is_object().then_some(&call.response);
            tasks::apply(work, &context, Some(&open), structured);
            return;
        }
    };
    let empty = Record::new();
    let fields = input.as_object().unwrap_or(&empty);
    if let Some(task_id) = id(fields, &["task_id", "taskId", "id"]) {
        tasks::announced(work, &context, &task_id, fields, status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(tool: &str, second: u32, input: Value, response: Value) -> TaskCall {
        TaskCall {
            tool: tool.to_owned(),
            input,
            response,
            agent_id: None,
            at: Some(format!("2026-02-03T03:51:{second:02}.000000Z")),
        }
    }

    #[test]
    fn a_renamed_item_keeps_its_task_over_a_restart() {
        let todo = |text: &str| {
            json!({"todos": [
            {"content": "first", "status": "pending"}, {"content": text, "status": "pending"}]})
        };
        let mut memory = TaskMemory::default();
        let made = memory.apply("s", &call("TodoWrite", 1, todo("second"), Value::Null));
        assert_eq!(made.len(), 2);
        let text = serde_json::to_string(&memory).unwrap();
        let mut memory: TaskMemory = serde_json::from_str(&text).unwrap();
        let renamed = memory.apply("s", &call("TodoWrite", 2, todo("2nd"), Value::Null));
        assert_eq!(renamed.len(), 1);
        let second = |row: &&TaskRow| row.description.as_deref() == Some("second");
        let second = made.iter().find(second).unwrap();
        assert_eq!(renamed[0].task_id, second.task_id);
        assert_eq!(renamed[0].description.as_deref(), Some("2nd"));
    }

    #[test]
    fn the_same_call_again_changes_nothing() {
        let create = call(
            "TaskCreate",
            1,
            json!({"subject": "write", "description": "all of it"}),
            json!({"task": {"id": "7", "subject": "write"}}),
        );
        let mut memory = TaskMemory::default();
        let first = memory.apply("s", &create);
        assert_eq!((first.len(), first[0].task_id.as_str()), (1, "7"));
        assert_eq!(memory.apply("s", &create), []);
    }

    #[test]
    fn a_late_call_fills_gaps_and_reopens_nothing() {
        let update = |second, fields| call("TaskUpdate", second, fields, Value::Null);
        let mut memory = TaskMemory::default();
        memory.apply(
            "s",
            &update(9, json!({"taskId": "7", "status": "completed"})),
        );
        let late = json!({"taskId": "7", "status": "in_progress", "owner": "ann"});
        let row = memory.apply("s", &update(5, late)).remove(0);
        assert_eq!(row.status.as_deref(), Some("completed"));
        assert_eq!(row.owner.as_deref(), Some("ann"));
        assert!(row.completed_at.is_some());
    }

    #[test]
    fn the_agent_programs_word_makes_and_ends_tasks() {
        let told = json!({"task_id": "3", "task_subject": "ship", "task_description": "v1"});
        let mut memory = TaskMemory::default();
        let made = memory.apply("s", &call("TaskCreated", 1, told.clone(), Value::Null));
        assert_eq!(made[0].status.as_deref(), Some("pending"));
        assert_eq!(made[0].description.as_deref(), Some("ship"));
        let done = memory.apply("s", &call("TaskCompleted", 2, told, Value::Null));
        assert_eq!(done[0].status.as_deref(), Some("completed"));
    }
}
