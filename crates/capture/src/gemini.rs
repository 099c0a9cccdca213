//! Transcripts of Gemini CLI, below `tmp/<project>/chats`: one document per session, or lines: a
//! head, messages, changes of the head (`$set`), steps back (`$rewindTo`).
//!
//! Each message is brought into the form that a record of Claude Code has. A call and its result
//! stand in one message there; the result becomes a record of its own. Where a session was is not
//! told: the folder's name is a hash.

use serde_json::{Map, Value, json};

use crate::claude::message;
use crate::claude::parser::Work;
use crate::claude::record::{Record, text, timestamp};
use crate::claude::session::session;
use crate::rows::TokenRow;

/// Reads a whole document.
pub(crate) fn read_document(work: &mut Work<'_>, bytes: &[u8]) {
    let document = match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(document)) => document,
        Ok(_) => return work.damaged(bytes, 0, 0, "not a JSON object".to_owned()),
        Err(error) => return work.damaged(bytes, 0, 0, error.to_string()),
    };
    let mut head = document;
    let messages = head.remove("messages");
    read(work, head);
    work.chunk.records += 1;
    if let Some(Value::Array(messages)) = messages {
        for message in messages {
            if let Value::Object(message) = message {
                work.chunk.records += 1;
                read(work, message);
            } else {
                work.no_row("message");
            }
        }
    }
}

/// Reads one record: of a line, or of a document.
pub(crate) fn read(work: &mut Work<'_>, record: Record) {
    if record.contains_key("sessionId") && !record.contains_key("content") {
        return head(work, &record);
    }
    if let Some(sign) = record.keys().find(|key| key.starts_with('$')) {
        return work.no_row(&sign.clone());
    }
    match text(&record, "type") {
        Some("user") => said(work, record, "user"),
        Some("gemini") => said(work, record, "assistant"),
        Some("info" | "error" | "warning") => said(work, record, "system"),
        kind => work.no_row(kind.unwrap_or("")),
    }
}

fn head(work: &mut Work<'_>, record: &Record) {
    work.no_row("session");
    if work.state.gemini_session.is_some() {
        return;
    }
    let id = text(record, "sessionId").unwrap_or("").to_owned();
    work.state.gemini_session = Some(id.clone());
    let time = |key: &str| {
        let value = record.get(key)?.clone();
        timestamp(&Record::from_iter([("timestamp".to_owned(), value)]))
    };
    let row = &mut session(work, &id).row;
    row.start_time = time("startTime");
    row.end_time = time("lastUpdated").or_else(|| row.start_time.clone());
}

fn session_id(work: &Work<'_>) -> String {
    let named = work.state.gemini_session.clone();
    named.unwrap_or_else(|| work.state.stem().to_owned())
}

fn said(work: &mut Work<'_>, mut record: Record, role: &str) {
    let own_id = text(&record, "id").map(str::to_owned);
    let at = record.remove("timestamp");
    let model = text(&record, "model").map(str::to_owned);
    let subtype = text(&record, "type").unwrap_or("").to_owned();
    let tokens = record.remove("tokens");
    let calls = match record.remove("toolCalls") {
        Some(Value::Array(calls)) => calls,
        _ => Vec::new(),
    };
    let mut blocks = thoughts(record.remove("thoughts"));
    let content = record.remove("content").unwrap_or(Value::Null);
    let content = match content {
        Value::String(text) if role != "assistant" => Value::String(text),
        other => {
            blocks.extend(parts(other));
            blocks.extend(calls.iter().filter_map(Value::as_object).map(call));
            Value::Array(blocks)
        }
    };
    let mut shaped = shape(work, role, content, at.clone(), own_id.as_deref());
    if role == "system" {
        shaped.insert("subtype".to_owned(), Value::String(subtype));
    }
    if let (Some(model), Some(inner)) = (&model, shaped.get_mut("message")) {
        inner["model"] = json!(model);
    }
    message::read(work, shaped, role);
    let message_id = work.chunk.messages.last().map(|row| row.message_id.clone());
    if let (Some(tokens), Some(message_id)) = (tokens, message_id) {
        count(work, &tokens, own_id.as_deref(), message_id, model);
    }
    for call in calls.iter().filter_map(Value::as_object) {
        result(work, call, at.as_ref());
    }
}

fn shape(
    work: &Work<'_>,
    role: &str,
    content: Value,
    at: Option<Value>,
    id: Option<&str>,
) -> Record {
    let record = json!({
        "uuid": id,
        "sessionId": session_id(work),
        "timestamp": at,
        "message": { "role": role, "content": content },
    });
    match record {
        Value::Object(record) => record,
        _ => Map::new(),
    }
}

fn thoughts(thoughts: Option<Value>) -> Vec<Value> {
    let Some(Value::Array(thoughts)) = thoughts else {
        return Vec::new();
    };
    let thought = |thought: &Value| {
        let field = |key: &str| thought.get(key).and_then(Value::as_str).unwrap_or("");
        let both = [field("subject"), field("description")].join("\n");
        json!({ "type": "thinking", "thinking": both.trim() })
    };
    thoughts.iter().map(thought).collect()
}

/// A message's content: text, one part, or several.
fn parts(content: Value) -> Vec<Value> {
    let part = |part: Value| match &part {
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(json!({ "type": "text", "text": text })),
        Value::Object(fields) => match fields.get("text") {
            Some(text) => Some(json!({ "type": "text", "text": text })),
            None if fields.contains_key("inlineData") => Some(json!({ "type": "image" })),
            None => Some(part),
        },
        _ => None,
    };
    match content {
        Value::Array(all) => all.into_iter().filter_map(part).collect(),
        other => part(other).into_iter().collect(),
    }
}

fn call(call: &Record) -> Value {
    json!({
        "type": "tool_use",
        "id": call.get("id"),
        "name": text(call, "name").unwrap_or("unknown"),
        "input": call.get("args"),
    })
}

/// A call that is still asked about has no result.
fn result(work: &mut Work<'_>, call: &Record, at: Option<&Value>) {
    let status = text(call, "status").unwrap_or("");
    let shown = call.get("result").map(shown).unwrap_or_default();
    let has_ended = matches!(status, "success" | "error" | "cancelled") || !shown.is_empty();
    let (Some(id), true) = (text(call, "id"), has_ended) else {
        return;
    };
    let block = json!({
        "type": "tool_result", "tool_use_id": id, "content": shown,
        "is_error": matches!(status, "error" | "cancelled"),
    });
    let at = call.get("timestamp").or(at).cloned();
    let own_id = format!("{id}:result");
    let record = shape(work, "user", json!([block]), at, Some(&own_id));
    message::read(work, record, "user");
}

fn shown(result: &Value) -> String {
    let answer = |part: &Value| {
        let response = part.get("functionResponse")?.get("response")?.clone();
        let said = ["output", "error"]
            .iter()
            .find_map(|key| response.get(*key)?.as_str().map(str::to_owned));
        Some(said.unwrap_or_else(|| response.to_string()))
    };
    match result {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(answer);
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

fn count(
    work: &mut Work<'_>,
    tokens: &Value,
    id: Option<&str>,
    message_id: String,
    llm_model: Option<String>,
) {
    let number = |key: &str| tokens.get(key).and_then(Value::as_u64).unwrap_or(0);
    let session_id = session_id(work);
    let timestamp = work
        .chunk
        .messages
        .last()
        .and_then(|row| row.timestamp.clone());
    work.add_tokens(TokenRow {
        api_message_id: id.map_or_else(|| message_id.clone(), str::to_owned),
        session_id,
        message_id,
        llm_model,
        timestamp,
        // `input` counts what came from the cache, too; thoughts are paid as output.
        input_tokens: number("input").saturating_sub(number("cached")),
        output_tokens: number("output") + number("thoughts"),
        cache_read_input_tokens: number("cached"),
        ..TokenRow::default()
    });
}
