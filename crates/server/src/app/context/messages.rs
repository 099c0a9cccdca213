//! From the messages of a request to rows of `context_messages`. Pure; redacts.

use coditect_core::canonical;
use coditect_core::redact::{Report, redact_text, redact_value};
use coditect_protocol::limits::PUSH_CHANGES_MAX;
use coditect_protocol::wire::Row;
use coditect_protocol::wire::context::{ContextPush, NewMessage};
use coditect_server_store::sync::views::NewFact;
use ring::digest;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::AppError;

/// Who speaks when the message does not say.
const ROLE_DEFAULT: &str = "user";
/// Program that a message is of when its metadata names none.
const AGENT_DEFAULT: &str = "api";

/// Returns the rows of a push: of its messages, or of the one that it is.
pub(super) fn facts(push: ContextPush, now_ms: i64) -> Result<Vec<NewFact>, AppError> {
    let single = NewMessage {
        kind: push.kind,
        content: push.content,
        role: push.role,
        metadata: push.metadata,
    };
    let Some(messages) = push.messages else {
        return Ok(vec![fact(single, now_ms).map_err(AppError::BadRequest)?]);
    };
    if single != NewMessage::default() {
        let detail = "the fields of one message stand beside a list of messages";
        return Err(AppError::BadRequest(detail.to_owned()));
    }
    if messages.len() > PUSH_CHANGES_MAX {
        let detail = format!("a push has at most {PUSH_CHANGES_MAX} messages");
        return Err(AppError::BadRequest(detail));
    }
    let numbered = messages.into_iter().enumerate();
    numbered
        .map(|(index, message)| {
            let named = |detail| AppError::BadRequest(format!("messages[{index}]: {detail}"));
            fact(message, now_ms).map_err(named)
        })
        .collect()
}

fn fact(message: NewMessage, now_ms: i64) -> Result<NewFact, String> {
    if message.kind.is_none() && message.content.is_none() {
        return Err("type or content is needed".to_owned());
    }
    let mut report = Report::default();
    let mut metadata = Value::Object(message.metadata.unwrap_or_default());
    redact_value(&mut metadata, &mut report);
    let known = metadata.as_object().cloned().unwrap_or_default();
    let mut clean =
        |text: Option<String>| text.map(|text| redact_text(&text, &mut report).into_owned());
    let content = clean(message.content).unwrap_or_default();
    let kind = clean(message.kind);
    let role = clean(message.role).filter(|role| !role.is_empty());
    let role = role.unwrap_or_else(|| ROLE_DEFAULT.to_owned());
    let session = text(&known, "source")?.unwrap_or_default();
    let time = match text(&known, "timestamp")? {
        Some(time) => canonical::time(&time).ok_or("metadata.timestamp is no RFC 3339 time")?,
        None => canonical::time_from_ms(now_ms),
    };
    let agent = text(&known, "agent")?;
    let message_id = match text(&known, "source_id")?.filter(|id| !id.is_empty()) {
        Some(source) => by_source(agent.as_deref(), &session, &source),
        None => by_content(agent.as_deref(), &session, &role, &content),
    };
    let mut row = Row::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            row.insert(name.to_owned(), Value::String(value));
        }
    };
    put("message_id", Some(message_id));
    put("session_id", Some(session));
    put("role", Some(role));
    put("message_type", kind);
    put("content", Some(content));
    put("timestamp", Some(time.clone()));
    put("project_id", text(&known, "project_id")?);
    put("agent", agent);
    put("source_type", Some("api".to_owned()));
    if !known.is_empty() {
        row.insert("metadata".to_owned(), metadata);
    }
    Ok(NewFact {
        row,
        created_at: time,
    })
}

/// Returns a text of the metadata; null counts as absent.
fn text(metadata: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match metadata.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("metadata.{name} is no text")),
    }
}

/// Returns the identity that a source id gives: a UUID is one by itself, anything else is
/// qualified by the session (PROTOCOL 5).
fn by_source(agent: Option<&str>, session: &str, source: &str) -> String {
    let agent = agent.unwrap_or(AGENT_DEFAULT);
    match Uuid::parse_str(source) {
        Ok(uuid) if source.len() == 36 => format!("{agent}:{uuid}"),
        _ => format!("{agent}:{session}:{source}"),
    }
}

/// Returns the identity of a message without a source id: its session and the hash of role and
/// content, as the first such message (PROTOCOL 5).
fn by_content(agent: Option<&str>, session: &str, role: &str, content: &str) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in [role, content] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let hash = hash.finish();
    let half: [u8; 16] = std::array::from_fn(|at| hash.as_ref()[at]);
    let agent = agent.unwrap_or(AGENT_DEFAULT);
    format!("{agent}:{session}:{:032x}:1", u128::from_be_bytes(half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW_MS: i64 = 1_767_225_600_000;

    fn read(body: Value) -> Result<Vec<NewFact>, String> {
        let push = serde_json::from_value(body).unwrap();
        facts(push, NOW_MS).map_err(|error| match error {
            AppError::BadRequest(detail) => detail,
            other => panic!("{other:?}"),
        })
    }

    fn one(body: Value) -> Row {
        read(body).unwrap().remove(0).row
    }

    #[test]
    fn metadata_gives_session_time_and_identity() {
        let facts = read(json!({"messages": [{
            "type": "decision",
            "content": "Use PostgreSQL RLS",
            "metadata": {"source": "session-abc", "timestamp": "2025-12-30T11:00:00+01:00"},
        }]}));
        let fact = &facts.unwrap()[0];
        assert_eq!(fact.created_at, "2025-12-30T10:00:00.000000Z");
        assert_eq!(fact.row["session_id"], "session-abc");
        assert_eq!(fact.row["role"], "user");
        assert_eq!(fact.row["message_type"], "decision");
        let id = fact.row["message_id"].as_str().unwrap();
        assert!(
            id.starts_with("api:session-abc:") && id.ends_with(":1"),
            "{id}"
        );
    }

    #[test]
    fn identity_is_session_role_and_content() {
        let id = |body: Value| one(body)["message_id"].as_str().unwrap().to_owned();
        let message = |source: &str, role: &str, content: &str| {
            let metadata = json!({"source": source});
            json!({"content": content, "role": role, "metadata": metadata})
        };
        let first = id(message("s", "user", "a"));
        assert_eq!(
            first,
            id(json!({"type": "note", "content": "a",
            "metadata": {"source": "s", "timestamp": "2026-01-01"}}))
        );
        for other in [
            message("t", "user", "a"),
            message("s", "assistant", "a"),
            message("s", "user", "b"),
            message("s", "usera", ""),
        ] {
            assert_ne!(first, id(other.clone()), "{other}");
        }
        let uuid = "0190163d-8694-739b-aea5-966c26f8ad91";
        let by = |source: &str, session: &str, agent: &str| {
            id(json!({"content": "a", "metadata":
                {"source": session, "source_id": source, "agent": agent}}))
        };
        assert_eq!(by(uuid, "s", "claude"), format!("claude:{uuid}"));
        assert_eq!(by(uuid, "t", "claude"), format!("claude:{uuid}"));
        assert_eq!(by("7", "s", "claude"), "claude:s:7");
    }

    #[test]
    fn secrets_are_gone_before_anything_is_made_of_them() {
        let key = format!("{}{}", "ghp_", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        let row = one(json!({"content": format!("use {key}"),
            "metadata": {"source": "s", "note": key, "deep": [{"x": key}]}}));
        let text = Value::Object(row).to_string();
        assert!(
            !text.contains(&key) && text.contains("[REDACTED:"),
            "{text}"
        );
    }

    #[test]
    fn mistakes_name_the_message() {
        for (body, expected) in [
            (json!({}), "type or content is needed"),
            (
                json!({"messages": [{"content": "a"}, {}]}),
                "messages[1]: type or content",
            ),
            (json!({"messages": [], "content": "a"}), "beside a list"),
            (
                json!({"content": "a", "metadata": {"source": 5}}),
                "metadata.source is no text",
            ),
            (
                json!({"content": "a", "metadata": {"timestamp": "yesterday"}}),
                "metadata.timestamp is no RFC 3339 time",
            ),
        ] {
            let detail = read(body.clone()).unwrap_err();
            assert!(detail.contains(expected), "{body}: {detail}");
        }
        let many = vec![json!({"content": "a"}); PUSH_CHANGES_MAX + 1];
        assert!(
            read(json!({"messages": many}))
                .unwrap_err()
                .contains("at most 1000")
        );
        assert_eq!(read(json!({"messages": []})).unwrap(), []);
    }
}
