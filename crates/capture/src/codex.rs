//! Transcripts of Codex CLI: lines `{timestamp, type, payload}` below `sessions/YYYY/MM/DD`, and
//! the older ones that are the payload itself.
//!
//! Each item is brought into the form that a record of Claude Code has, so that both become rows
//! by the same rules. Two logs are interleaved: what happened is read from `response_item`, of
//! `event_msg` only the token counts are. These are totals since the session began, so what an
//! answer took is the difference to the count before.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::claude::message;
use crate::claude::parser::Work;
use crate::claude::record::{Record, text, timestamp};
use crate::claude::session::session;
use crate::rows::TokenRow;

/// What must be remembered of a file besides what every format needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Memory {
    session: Option<String>,
    cwd: Option<String>,
    branch: Option<String>,
    version: Option<String>,
    model: Option<String>,
    totals: Totals,
    /// How often the totals have begun anew.
    restarts: u64,
}

/// Tokens since the session began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Totals {
    input: u64,
    cached: u64,
    output: u64,
}

/// Reads one line.
pub(crate) fn read(work: &mut Work<'_>, mut record: Record) {
    let at = record.get("timestamp").cloned();
    let kind = text(&record, "type").unwrap_or("").to_owned();
    let (kind, payload) = match record.remove("payload") {
        Some(Value::Object(payload)) => (kind, payload),
        Some(_) => return work.no_row(&kind),
        // Before October 2025 there was nothing around an item, nor a type on the first line.
        None if kind.is_empty() && record.contains_key("id") => ("session_meta".to_owned(), record),
        None if kind.is_empty() => return work.no_row("state"),
        None => ("response_item".to_owned(), record),
    };
    match kind.as_str() {
        "session_meta" => session_meta(work, &payload, at),
        "turn_context" => turn_context(work, &payload),
        "response_item" => return item(work, payload, at),
        "event_msg" if text(&payload, "type") == Some("token_count") => {
            token_count(work, &payload, at.as_ref());
        }
        "compacted" => return compacted(work, &payload, at),
        _ => {}
    }
    let part = text(&payload, "type").filter(|_| kind == "event_msg");
    work.no_row(&part.map_or(kind.clone(), |part| format!("{kind}:{part}")));
}

/// A session that goes on from another repeats that one's first record; its own comes first.
fn session_meta(work: &mut Work<'_>, payload: &Record, at: Option<Value>) {
    let memory = &mut work.state.codex;
    if memory.session.is_some() {
        return;
    }
    let own = |key: &str| text(payload, key).map(str::to_owned);
    memory.session = own("id");
    memory.cwd = own("cwd");
    memory.version = own("cli_version");
    let git = payload.get("git").and_then(Value::as_object);
    memory.branch = git.and_then(|git| text(git, "branch")).map(str::to_owned);
    let memory = memory.clone();
    let mut time = Record::new();
    time.extend(at.map(|at| ("timestamp".to_owned(), at)));
    let start = timestamp(payload).or_else(|| timestamp(&time));
    let id = session_id(work);
    let redact = |text: Option<String>| {
        let mut report = coditect_core::redact::Report::default();
        text.map(|text| coditect_core::redact::redact_text(&text, &mut report).into_owned())
    };
    let row = &mut session(work, &id).row;
    row.project_path = redact(memory.cwd);
    row.git_branch = redact(memory.branch);
    row.client_version = memory.version;
    row.start_time.clone_from(&start);
    row.end_time = start;
}

fn turn_context(work: &mut Work<'_>, payload: &Record) {
    let memory = &mut work.state.codex;
    for (field, key) in [(&mut memory.model, "model"), (&mut memory.cwd, "cwd")] {
        if let Some(value) = text(payload, key) {
            *field = Some(value.to_owned());
        }
    }
}

/// Returns the session's id: as its first record says, else as the file's name ends.
fn session_id(work: &Work<'_>) -> String {
    let stem = work.state.stem();
    let from_name = stem
        .len()
        .checked_sub(36)
        .and_then(|start| stem.get(start..));
    let from_name = from_name.filter(|id| uuid::Uuid::parse_str(id).is_ok());
    let named = work.state.codex.session.as_deref();
    named.or(from_name).unwrap_or(stem).to_owned()
}

fn item(work: &mut Work<'_>, mut payload: Record, at: Option<Value>) {
    let kind = text(&payload, "type").unwrap_or("").to_owned();
    let (role, content) = match kind.as_str() {
        "message" => return said(work, payload, at),
        "reasoning" => ("assistant", thought(&payload)),
        "function_call"
        | "custom_tool_call"
        | "local_shell_call"
        | "web_search_call"
        | "tool_search_call"
        | "image_generation_call" => ("assistant", call(&kind, &mut payload)),
        kind if kind.ends_with("_call_output") || kind == "tool_search_output" => {
            let (block, seconds) = output(&mut payload);
            let mut record = shaped(work, "user", json!([block]), at);
            record.extend(seconds.map(|seconds| {
                (
                    "toolUseResult".to_owned(),
                    json!({ "durationSeconds": seconds }),
                )
            }));
            return message::read(work, record, "user");
        }
        _ => return work.no_row(&format!("response_item:{kind}")),
    };
    let record = shaped(work, role, content, at);
    message::read(work, record, role);
}

/// Returns a record as Claude Code would have written it.
fn shaped(work: &Work<'_>, role: &str, content: Value, at: Option<Value>) -> Record {
    let memory = &work.state.codex;
    let mut inner = json!({ "role": role, "content": content });
    if role == "assistant" {
        inner["model"] = json!(memory.model);
    }
    let record = json!({
        "sessionId": session_id(work),
        "timestamp": at,
        "cwd": memory.cwd,
        "gitBranch": memory.branch,
        "version": memory.version,
        "message": inner,
    });
    match record {
        Value::Object(record) => record,
        _ => Map::new(),
    }
}

fn said(work: &mut Work<'_>, mut payload: Record, at: Option<Value>) {
    let role = text(&payload, "role").unwrap_or("assistant").to_owned();
    let parts = payload.remove("content").unwrap_or(Value::Null);
    let texts: Vec<Value> = match parts {
        Value::Array(parts) => parts.into_iter().map(part).collect(),
        other => vec![part(other)],
    };
    let kind = match role.as_str() {
        "user" | "assistant" => role.as_str(),
        _ => "system",
    };
    let only_text = match texts.as_slice() {
        [one] => one.get("text").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    let is_meta = only_text.as_deref().is_some_and(is_from_program);
    // What a person typed is text, as it is with Claude Code.
    let content = match only_text {
        Some(text) if kind == "user" => Value::String(text),
        _ => Value::Array(texts),
    };
    let mut record = shaped(work, kind, content, at);
    if is_meta || role == "developer" {
        record.insert("isMeta".to_owned(), Value::Bool(true));
    }
    if kind == "system" {
        record.insert("subtype".to_owned(), Value::String(role.clone()));
    }
    message::read(work, record, kind);
}

/// Texts that the program puts before the first prompt, in the person's name.
fn is_from_program(text: &str) -> bool {
    let starts = [
        "<environment_context>",
        "<user_instructions>",
        "<permissions instructions>",
        "<turn_aborted>",
        "# AGENTS.md instructions",
    ];
    starts
        .iter()
        .any(|start| text.trim_start().starts_with(start))
}

fn part(part: Value) -> Value {
    match &part {
        Value::String(text) => json!({ "type": "text", "text": text }),
        Value::Object(fields) => match (text(fields, "type"), fields.get("text")) {
            (Some("input_text" | "output_text" | "text"), Some(text)) => {
                json!({ "type": "text", "text": text })
            }
            (Some("input_image"), _) => json!({ "type": "image" }),
            _ => part,
        },
        _ => part,
    }
}

fn thought(payload: &Record) -> Value {
    let texts = |key: &str| {
        let parts = payload.get(key).and_then(Value::as_array);
        let parts = parts.map(Vec::as_slice).unwrap_or_default().iter();
        parts
            .filter_map(|part| part.get("text")?.as_str())
            .collect::<Vec<_>>()
    };
    let mut all = texts("summary");
    all.extend(texts("content"));
    json!([{ "type": "thinking", "thinking": all.join("\n\n") }])
}

fn call(kind: &str, payload: &mut Record) -> Value {
    let id = text(payload, "call_id")
        .or(text(payload, "id"))
        .map(str::to_owned);
    let name = text(payload, "name").unwrap_or(match kind {
        "local_shell_call" => "local_shell",
        "web_search_call" => "web_search",
        "image_generation_call" => "image_generation",
        _ => "unknown",
    });
    let name = name.to_owned();
    let input = ["arguments", "input", "action"]
        .iter()
        .find_map(|key| payload.remove(*key));
    // Arguments are JSON in a string; what is none is a command or a patch.
    let input = match input {
        Some(Value::String(text)) => match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(fields)) => Value::Object(fields),
            _ => json!({ "input": text }),
        },
        Some(other) => other,
        None => json!({}),
    };
    let mut block = json!({ "type": "tool_use", "name": name, "input": input });
    if let Some(id) = id {
        block["id"] = Value::String(id);
    }
    json!([block])
}

/// Returns the block of a result and how long the call took, in seconds.
fn output(payload: &mut Record) -> (Value, Option<f64>) {
    let id = text(payload, "call_id").unwrap_or("").to_owned();
    let output = payload.remove("output").unwrap_or(Value::Null);
    let mut failed = false;
    let mut seconds = None;
    let shown = match output {
        Value::String(text) => match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(fields)) if fields.contains_key("output") => {
                let facts = fields.get("metadata").and_then(Value::as_object);
                let number = |key: &str| facts.and_then(|facts| facts.get(key)?.as_f64());
                failed = number("exit_code").is_some_and(|code| code != 0.0);
                seconds = number("duration_seconds");
                fields.get("output").cloned().unwrap_or(Value::Null)
            }
            _ => {
                let head = |start: &str| {
                    text.lines()
                        .take(4)
                        .find_map(|line| line.strip_prefix(start))
                };
                let code = head("Exit code: ").or(head("Process exited with code "));
                failed = code.is_some_and(|code| code.trim() != "0");
                let time = head("Wall time: ").and_then(|time| time.split(' ').next());
                seconds = time.and_then(|time| time.parse().ok());
                Value::String(text)
            }
        },
        Value::Object(mut fields) => {
            failed = fields.get("success").and_then(Value::as_bool) == Some(false);
            fields.remove("content").unwrap_or(Value::Object(fields))
        }
        other => other,
    };
    let shown = match shown {
        Value::Array(parts) => Value::Array(parts.into_iter().map(part).collect()),
        Value::String(text) => Value::String(text),
        other => Value::String(other.to_string()),
    };
    let block = json!({
        "type": "tool_result", "tool_use_id": id, "content": shown, "is_error": failed,
    });
    (block, seconds)
}

fn compacted(work: &mut Work<'_>, payload: &Record, at: Option<Value>) {
    let summary = text(payload, "message").unwrap_or("").to_owned();
    let mut record = shaped(work, "user", Value::String(summary), at);
    record.insert("isCompactSummary".to_owned(), Value::Bool(true));
    message::read(work, record, "user");
}

fn token_count(work: &mut Work<'_>, payload: &Record, at: Option<&Value>) {
    let info = payload.get("info").and_then(Value::as_object);
    let Some(total) = info.and_then(|info| info.get("total_token_usage")?.as_object()) else {
        return;
    };
    let number = |key: &str| total.get(key).and_then(Value::as_u64).unwrap_or(0);
    let now = Totals {
        input: number("input_tokens"),
        cached: number("cached_input_tokens"),
        output: number("output_tokens"),
    };
    let id = session_id(work);
    let memory = &mut work.state.codex;
    let before = memory.totals;
    if now == before {
        return;
    }
    let began_anew =
        now.input < before.input || now.cached < before.cached || now.output < before.output;
    let from = if began_anew {
        Totals::default()
    } else {
        before
    };
    memory.restarts += u64::from(began_anew);
    memory.totals = now;
    let cached = now.cached - from.cached;
    let api_message_id = format!(
        "{}:{}-{}-{}",
        memory.restarts, now.input, now.cached, now.output
    );
    let llm_model = memory.model.clone();
    let mut time = Record::new();
    time.extend(at.map(|at| ("timestamp".to_owned(), at.clone())));
    let row = TokenRow {
        // What a copy of the session repeats has the same name, and counts once there.
        message_id: format!("codex:{id}:tokens:{api_message_id}"),
        session_id: id.clone(),
        api_message_id,
        llm_model,
        timestamp: timestamp(&time),
        input_tokens: (now.input - from.input).saturating_sub(cached),
        output_tokens: now.output - from.output,
        cache_read_input_tokens: cached,
        ..TokenRow::default()
    };
    work.touch_session(&id);
    work.add_tokens(row);
}
