//! Records that become messages.

use coditect_core::hex::hex;
use coditect_core::redact::redact_value;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::parser::Work;
use super::record::{Record, clean, flag, id, text, timestamp, unreadable_time};
use super::{render, session, tools, usage};
use crate::rows::MessageRow;

/// Fields of a system record that have columns of their own or say nothing.
const COMMON_FIELDS: [&str; 18] = [
    "agentId",
    "content",
    "cwd",
    "gitBranch",
    "isMeta",
    "isSidechain",
    "message",
    "parentUuid",
    "requestId",
    "sessionId",
    "slug",
    "subtype",
    "timestamp",
    "type",
    "userType",
    "uuid",
    "version",
    "entrypoint",
];

/// Field in which a reader of other formats says what a record comes from.
pub(crate) const SOURCE_TYPE: &str = "coditectSourceType";

/// Reads one `user`, `assistant` or `system` record.
pub(crate) fn read(work: &mut Work<'_>, mut record: Record, kind: &str) {
    let mut message = match record.remove("message") {
        Some(Value::Object(message)) => message,
        _ => Map::new(),
    };
    let content = message
        .remove("content")
        .or_else(|| record.remove("content"));
    let mut content = content.unwrap_or(Value::Null);
    redact_value(&mut content, &mut work.chunk.report);
    let tool_use_result = record.remove("toolUseResult");

    let mut row = base_row(work, &record, kind);
    row.source_type = text(&record, SOURCE_TYPE).map(str::to_owned);
    row.role = text(&message, "role").unwrap_or(kind).to_owned();
    row.content = render::text(&content);
    row.api_message_id = text(&message, "id").map(str::to_owned);
    row.is_synthetic =
        flag(&record, "isApiErrorMessage") || text(&message, "model") == Some("<synthetic>");
    if !row.is_synthetic {
        row.llm_model = text(&message, "model").map(str::to_owned);
    }
    row.subtype = subtype(&record, kind, &content, &row);
    row.metadata = metadata(work, &record, &message, kind);
    row.message_id = identity(work, &record, &row);

    session::note_message(work, &record, &row);
    if kind == "assistant"
        && let Some(tokens) = usage::row(&message, &row)
    {
        work.add_tokens(tokens);
    }
    let context = tools::Context::new(&record, &row);
    match kind {
        "assistant" => tools::note_calls(work, &context, &content),
        "user" => tools::note_results(work, &context, &content, tool_use_result.as_ref()),
        _ => {}
    }
    if is_prompt(&row) {
        tools::give_up_open(work, &row.session_id);
    }
    if content.is_array() {
        render::bound(&mut content);
        row.content_blocks = content;
    }
    work.chunk.messages.push(row);
}

fn base_row(work: &mut Work<'_>, record: &Record, kind: &str) -> MessageRow {
    work.state.messages += 1;
    let sequence = work.state.messages;
    let session_id = text(record, "sessionId")
        .unwrap_or(work.state.stem())
        .to_owned();
    let from_name = work.state.stem().strip_prefix("agent-").map(str::to_owned);
    let agent_id = text(record, "agentId").map(str::to_owned).or(from_name);
    let parent = text(record, "parentUuid").or(text(record, "logicalParentUuid"));
    MessageRow {
        parent_id: parent.map(|source| {
            let agent = work.state.format.agent();
            qualified(agent, &session_id, agent_id.as_deref(), source)
        }),
        message_type: kind.to_owned(),
        timestamp: timestamp(record),
        agent: work.state.format.agent().to_owned(),
        request_id: text(record, "requestId").map(str::to_owned),
        cwd: clean(record, "cwd", &mut work.chunk.report),
        git_branch: clean(record, "gitBranch", &mut work.chunk.report),
        source_file: work.state.file_name().to_owned(),
        sequence,
        is_meta: flag(record, "isMeta"),
        is_sidechain: flag(record, "isSidechain"),
        is_compact_summary: flag(record, "isCompactSummary"),
        session_id,
        agent_id,
        ..MessageRow::default()
    }
}

/// Returns whether a person wrote the record in the main conversation.
pub(super) fn is_prompt(row: &MessageRow) -> bool {
    row.subtype.as_deref() == Some("prompt") && !row.is_meta && !row.is_sidechain
}

fn subtype(record: &Record, kind: &str, content: &Value, row: &MessageRow) -> Option<String> {
    if kind != "user" {
        return text(record, "subtype").map(str::to_owned);
    }
    let is_result =
        |block: &Value| block.get("type").and_then(Value::as_str) == Some("tool_result");
    let origin = record
        .get("origin")
        .and_then(|origin| origin.get("kind")?.as_str());
    let wrappers = [
        "<command-name>",
        "<command-message>",
        "<local-command-",
        "<bash-",
    ];
    let name = if content
        .as_array()
        .is_some_and(|blocks| blocks.iter().any(is_result))
    {
        "tool_result"
    } else if row.is_compact_summary {
        "compact_summary"
    } else if wrappers
        .iter()
        .any(|start| row.content.trim_start().starts_with(start))
    {
        "command"
    } else {
        origin
            .filter(|origin| *origin != "human")
            .unwrap_or("prompt")
    };
    Some(name.to_owned())
}

/// Returns small facts without a column: for a system record all its own fields.
fn metadata(work: &mut Work<'_>, record: &Record, message: &Record, kind: &str) -> Value {
    let mut facts = Map::new();
    match kind {
        "system" => {
            facts = record.clone();
            facts.retain(|key, _| !COMMON_FIELDS.contains(&key.as_str()));
        }
        "assistant" => {
            for (name, key) in [
                ("stop_reason", "stop_reason"),
                ("stop_sequence", "stop_sequence"),
            ] {
                facts.extend(
                    message
                        .get(key)
                        .cloned()
                        .map(|value| (name.to_owned(), value)),
                );
            }
            facts.extend(
                record
                    .get("error")
                    .cloned()
                    .map(|value| ("error".to_owned(), value)),
            );
        }
        _ => {
            for (name, key) in [("permission_mode", "permissionMode"), ("origin", "origin")] {
                facts.extend(
                    record
                        .get(key)
                        .cloned()
                        .map(|value| (name.to_owned(), value)),
                );
            }
        }
    }
    facts.retain(|_, value| !value.is_null());
    if let Some(unreadable) = unreadable_time(record) {
        facts.insert("timestamp".to_owned(), unreadable.clone());
    }
    let mut facts = Value::Object(facts);
    redact_value(&mut facts, &mut work.chunk.report);
    render::bound(&mut facts);
    if facts.as_object().is_some_and(Map::is_empty) {
        Value::Null
    } else {
        facts
    }
}

/// Returns the record's identity (PROTOCOL 5).
fn identity(work: &mut Work<'_>, record: &Record, row: &MessageRow) -> String {
    if let Some(source) = id(record, &["uuid"]) {
        let agent = work.state.format.agent();
        return qualified(agent, &row.session_id, row.agent_id.as_deref(), &source);
    }
    let mut hasher = Sha256::new();
    for part in [&row.role, &row.content] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let hash = hex(&hasher.finalize()[..16]);
    let key = format!("{}:{hash}", row.session_id);
    let ordinal = work.state.ordinals.entry(key).or_default();
    *ordinal += 1;
    let agent = work.state.format.agent();
    format!("{agent}:{}:{hash}:{ordinal}", row.session_id)
}

/// Returns the identity that a source id stands for: a UUID is one by itself, anything else is
/// qualified by session and subagent.
pub(super) fn qualified(
    program: &str,
    session_id: &str,
    agent_id: Option<&str>,
    source: &str,
) -> String {
    if source.len() == 36
        && let Ok(uuid) = Uuid::parse_str(source)
    {
        return format!("{program}:{uuid}");
    }
    match agent_id {
        Some(agent) => format!("{program}:{session_id}:{agent}:{source}"),
        None => format!("{program}:{session_id}:{source}"),
    }
}
