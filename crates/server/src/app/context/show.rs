//! From stored rows to what the views print. Pure.

use coditect_core::canonical;
use coditect_protocol::wire::context::{DecisionView, LearningView, MessageView, TaskView};
use coditect_protocol::wire::{Row, Stored};
use coditect_protocol::{OrganizationId, UserId};
use serde_json::{Map, Value};

/// Reads columns of a stored row. A value that did not fit its column stands in `extra` as text.
struct Columns<'a>(Option<&'a Row>);

impl Columns<'_> {
    fn value(&self, name: &str) -> Option<&Value> {
        let row = self.0?;
        row.get(name).or_else(|| row.get("extra")?.get(name))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.value(name)?.as_str().map(str::to_owned)
    }

    fn text_or_empty(&self, name: &str) -> String {
        self.text(name).unwrap_or_default()
    }

    fn integer(&self, name: &str) -> i64 {
        self.value(name).and_then(Value::as_i64).unwrap_or(0)
    }

    fn real(&self, name: &str) -> Option<f64> {
        self.value(name)?.as_f64()
    }
}

/// Returns a message. Messages that agents' transcripts gave have no metadata of this form: they
/// get session and time.
///
/// `shared` says who contributed it.
pub(super) fn message(stored: Stored, shared: bool) -> MessageView {
    let columns = Columns(stored.row.as_ref());
    let role = columns.text_or_empty("role");
    let mut metadata = match columns.value("metadata") {
        Some(Value::Object(metadata)) => metadata.clone(),
        _ => Map::new(),
    };
    for (name, column) in [("source", "session_id"), ("timestamp", "timestamp")] {
        let value = columns.text(column).filter(|text| !text.is_empty());
        if let Some(value) = value.filter(|_| !metadata.contains_key(name)) {
            metadata.insert(name.to_owned(), Value::String(value));
        }
    }
    let said = columns.text("timestamp");
    let said = said.and_then(|text| canonical::time(&text));
    MessageView {
        id: stored.id,
        contributed_by: stored.user_id.filter(|_| shared),
        kind: columns.text("message_type").unwrap_or_else(|| role.clone()),
        content: columns.text_or_empty("content"),
        content_hash: stored.hash,
        metadata,
        created_at: said.unwrap_or(stored.created_at),
        role,
    }
}

/// Returns a task; `caller` is the author of rows that name none.
pub(super) fn task(stored: Stored, tenant: OrganizationId, caller: UserId) -> TaskView {
    let columns = Columns(stored.row.as_ref());
    TaskView {
        id: stored.id,
        tenant_id: tenant,
        user_id: stored.user_id.unwrap_or(caller),
        task_id: columns.text_or_empty("task_id"),
        description: columns.text_or_empty("description"),
        active_form: columns.text_or_empty("active_form"),
        session_id: columns.text_or_empty("session_id"),
        project_id: columns.text_or_empty("project_id"),
        status: columns.text_or_empty("status"),
        outcome: columns.text_or_empty("outcome"),
        outcome_score: columns.real("outcome_score"),
        tool_success_count: columns.integer("tool_success_count"),
        tool_error_count: columns.integer("tool_error_count"),
        user_corrections: columns.integer("user_corrections"),
        started_at: columns.text("started_at"),
        completed_at: columns.text("completed_at"),
        client_version: columns.text_or_empty("client_version"),
        hardware_id: columns.text_or_empty("hardware_id"),
        synced_at: stored.created_at,
        updated_at: stored.updated_at,
        content_hash: stored.hash,
        sync_cursor: stored.cursor,
    }
}

/// Returns a decision.
pub(super) fn decision(stored: Stored) -> DecisionView {
    let columns = Columns(stored.row.as_ref());
    DecisionView {
        id: stored.id,
        decision_id: columns.text("decision_id"),
        title: columns.text_or_empty("title"),
        rationale: columns.text("rationale"),
        status: columns.text("status"),
        message_id: columns.text("message_id"),
        project_id: columns.text("project_id"),
        created_at: stored.created_at,
        updated_at: stored.updated_at,
    }
}

/// Returns a learning.
pub(super) fn learning(stored: Stored) -> LearningView {
    let columns = Columns(stored.row.as_ref());
    LearningView {
        id: stored.id,
        skill_name: columns.text_or_empty("skill_name"),
        learning: columns.text_or_empty("learning"),
        category: columns.text("category"),
        confidence: columns.real("confidence"),
        usage_count: columns.integer("usage_count"),
        created_at: stored.created_at,
    }
}
