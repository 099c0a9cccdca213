//! From an event to rows. What a hook knows of a call is provisional: the transcript tells more,
//! and says the last word until the row was sent.

use coditect_core::canonical;
use coditect_protocol::wire::Row;
use serde_json::{Value, json};

use super::event::{Event, SessionChange};
use crate::rows::NamedRow;

/// `metadata.source` of rows that only a hook has told about.
pub const SOURCE: &str = "hook";

/// Returns whether a stored row is one that only a hook has told about.
pub fn is_provisional(row: &Row) -> bool {
    let source = row
        .get("metadata")
        .and_then(|metadata| metadata.get("source"));
    source.and_then(Value::as_str) == Some(SOURCE)
}

impl Event {
    /// Returns the row of the call that ended.
    pub fn tool_row(&self) -> Option<NamedRow> {
        let (name, mut row) = self.tool.clone()?.into_row();
        // Which message called is in the transcript only.
        row.remove("message_id");
        let mut metadata = json!({ "source": SOURCE });
        let known = row.get("metadata").and_then(|known| known.get("component"));
        if let Some(component) = known {
            metadata["component"] = component.clone();
        }
        row.insert("metadata".to_owned(), metadata);
        Some((name, row))
    }

    /// Returns what the event says about its session; `stored` is what is known. None when that
    /// is nothing new. The transcript's word counts more, so only gaps are filled, except for
    /// the status, which only hooks know. (When it ended, the transcript says: a later time here
    /// would make the importer take its own news for old.)
    pub fn session_row(&self, stored: Option<&Row>) -> Option<NamedRow> {
        let change = self.session.as_ref()?;
        let at = canonical::time_from_ms(self.at_ms);
        let mut row = Row::new();
        let mut offer = |name: &str, value: Option<&str>| {
            let known = stored.is_some_and(|stored| stored.contains_key(name));
            if let (false, Some(value)) = (known, value) {
                row.insert(name.to_owned(), value.into());
            }
        };
        offer("agent", Some(&self.agent));
        offer("project_path", self.cwd.as_deref());
        offer("start_time", Some(&at));
        if let SessionChange::Begun { model, title } = change {
            offer("llm_model", model.as_deref());
            offer("title", title.as_deref());
        }
        let text = |name: &str| stored.and_then(|stored| stored.get(name)?.as_str());
        let is_late = text("end_time").is_some_and(|end| end > at.as_str());
        let status = match change {
            SessionChange::Ended => "ended",
            SessionChange::Begun { .. } | SessionChange::Seen => "active",
        };
        if text("status") != Some(status) && (!is_late || text("status").is_none()) {
            row.insert("status".to_owned(), status.into());
        }
        if row.is_empty() {
            return None;
        }
        row.insert("session_id".to_owned(), self.session_id.clone().into());
        Some(("context_sessions", row))
    }
}
