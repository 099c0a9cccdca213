//! From a task event to the columns of `context_task_tracking`. Pure; redacts.

use coditect_core::canonical;
use coditect_core::redact::{Report, redact_text};
use coditect_protocol::limits::INTEGER_MAX;
use coditect_protocol::wire::Row;
use coditect_protocol::wire::context::TaskEvent;
use serde_json::Value;

use crate::error::AppError;

/// State of a task that nobody gave one.
const STATUS_DEFAULT: &str = "pending";
const COUNTS: [&str; 3] = ["tool_success_count", "tool_error_count", "user_corrections"];

/// What an event sets, checked and redacted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Edit {
    key: Row,
    /// Columns to set, and with null those to clear.
    columns: Row,
}

impl Edit {
    /// Checks an event.
    pub(super) fn of(event: &TaskEvent) -> Result<Self, AppError> {
        Self::read(event).map_err(AppError::BadRequest)
    }

    fn read(event: &TaskEvent) -> Result<Self, String> {
        if event.task_id.is_empty() {
            return Err("task_id is empty".to_owned());
        }
        let mut key = Row::new();
        let session = event.session_id.as_deref().unwrap_or_default();
        key.insert("task_id".to_owned(), clean(&event.task_id));
        key.insert("session_id".to_owned(), clean(session));
        let mut columns = Row::new();
        for (name, text) in [
            ("description", &event.description),
            ("active_form", &event.active_form),
            ("project_id", &event.project_id),
            ("status", &event.status),
            ("outcome", &event.outcome),
            ("client_version", &event.client_version),
            ("hardware_id", &event.hardware_id),
        ] {
            if let Some(text) = text {
                let value = if text.is_empty() {
                    Value::Null
                } else {
                    clean(text)
                };
                columns.insert(name.to_owned(), value);
            }
        }
        for (name, time) in [
            ("started_at", &event.started_at),
            ("completed_at", &event.completed_at),
        ] {
            let value = match time.as_deref() {
                None => continue,
                Some("") => Value::Null,
                Some(time) => {
                    let time = canonical::time(time);
                    Value::String(time.ok_or_else(|| format!("{name} is no RFC 3339 time"))?)
                }
            };
            columns.insert(name.to_owned(), value);
        }
        let counts = [
            event.tool_success_count,
            event.tool_error_count,
            event.user_corrections,
        ];
        for (name, count) in COUNTS.into_iter().zip(counts) {
            let Some(count) = count else { continue };
            if !(0..=INTEGER_MAX).contains(&count) {
                return Err(format!("{name} is out of range"));
            }
            columns.insert(name.to_owned(), Value::from(count));
        }
        if let Some(score) = event.outcome_score {
            columns.insert("outcome_score".to_owned(), Value::from(score));
        }
        Ok(Self { key, columns })
    }

    /// Returns the columns that identify the task.
    pub(super) const fn key(&self) -> &Row {
        &self.key
    }

    /// Returns the columns to store over those that are stored, if any are.
    pub(super) fn apply(&self, stored: Option<&Row>) -> Row {
        let mut row = stored.cloned().unwrap_or_default();
        for (name, value) in &self.columns {
            if value.is_null() {
                row.remove(name);
            } else {
                row.insert(name.clone(), value.clone());
            }
        }
        row.extend(self.key.clone());
        if !row.contains_key("status") {
            row.insert("status".to_owned(), Value::from(STATUS_DEFAULT));
        }
        for name in COUNTS {
            row.entry(name).or_insert_with(|| Value::from(0));
        }
        row
    }
}

fn clean(text: &str) -> Value {
    Value::String(redact_text(text, &mut Report::default()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn edit(event: Value) -> Result<Edit, String> {
        Edit::read(&serde_json::from_value(event).unwrap())
    }

    #[test]
    fn a_new_task_has_state_and_counts() {
        let row = edit(json!({"task_id": "A.1"})).unwrap().apply(None);
        let expected = json!({"task_id": "A.1", "session_id": "", "status": "pending",
            "tool_success_count": 0, "tool_error_count": 0, "user_corrections": 0});
        assert_eq!(Value::Object(row), expected);
    }

    #[test]
    fn a_field_left_out_stays_and_an_empty_text_clears() {
        let stored = edit(
            json!({"task_id": "A.1", "description": "d", "outcome": "success",
            "project_id": "p", "started_at": "2026-01-01T00:00:00Z"}),
        );
        let mut stored = stored.unwrap().apply(None);
        stored.insert("details".to_owned(), json!("kept"));
        let event = json!({"task_id": "A.1", "outcome": "", "started_at": "", "status": "",
            "tool_error_count": 2});
        let row = edit(event).unwrap().apply(Some(&stored));
        let expected = json!({"task_id": "A.1", "session_id": "", "status": "pending",
            "description": "d", "project_id": "p", "details": "kept",
            "tool_success_count": 0, "tool_error_count": 2, "user_corrections": 0});
        assert_eq!(Value::Object(row), expected);
    }

    #[test]
    fn mistakes_name_the_field() {
        for (event, expected) in [
            (json!({"task_id": ""}), "task_id"),
            (
                json!({"task_id": "1", "completed_at": "soon"}),
                "completed_at",
            ),
            (
                json!({"task_id": "1", "user_corrections": -1}),
                "user_corrections",
            ),
            (
                json!({"task_id": "1", "tool_error_count": 9_007_199_254_740_993_i64}),
                "tool_error_count",
            ),
        ] {
            let detail = edit(event.clone()).unwrap_err();
            assert!(detail.starts_with(expected), "{event}: {detail}");
        }
    }

    #[test]
    fn secrets_are_gone() {
        let key = format!("{}{}", "ghp_", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        let edit = edit(json!({"task_id": key, "session_id": key, "description": key}));
        let text = Value::Object(edit.unwrap().apply(None)).to_string();
        assert!(
            !text.contains(&key) && text.contains("[REDACTED:"),
            "{text}"
        );
    }
}
