//! Calls of tools, paired with their results by the call's id.

use serde_json::Value;

use super::message::qualified;
use super::parser::Work;
use super::record::{Record, clip, elapsed_ms, text};
use super::session::session;
use super::state::{FileState, ORPHANS_MAX, OpenTool, ToolResult};
use super::{activity, render, tasks};
use crate::rows::{MessageRow, ToolRow};

/// Longest error text that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 2_000;

/// Where a call or a result stands.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) session_id: String,
    pub(super) agent_id: Option<String>,
    pub(super) message_id: String,
    /// The message with the call, as a result names it.
    pub(super) calling_message_id: Option<String>,
    pub(super) timestamp: Option<String>,
    pub(super) client_version: Option<String>,
}

impl Context {
    pub(super) fn new(record: &Record, row: &MessageRow) -> Self {
        let agent = row.agent_id.as_deref();
        let calling = text(record, "sourceToolAssistantUUID");
        Self {
            session_id: row.session_id.clone(),
            agent_id: row.agent_id.clone(),
            message_id: row.message_id.clone(),
            calling_message_id: calling.map(|id| qualified(&row.agent, &row.session_id, agent, id)),
            timestamp: row.timestamp.clone(),
            client_version: text(record, "version").map(str::to_owned),
        }
    }
}

/// Remembers the calls of an assistant record until their results come.
pub(super) fn note_calls(work: &mut Work<'_>, context: &Context, content: &Value) {
    for block in blocks(content, "tool_use") {
        let Some(call_id) = text(block, "id") else {
            continue;
        };
        let name = text(block, "name").unwrap_or("unknown");
        let input = block.get("input");
        let own = session(work, &context.session_id);
        let activity = activity::of_call(own, name, input);
        let call = OpenTool {
            name: name.to_owned(),
            message_id: context.message_id.clone(),
            agent_id: context.agent_id.clone(),
            timestamp: context.timestamp.clone(),
            input_bytes: input.map_or(0, |input| input.to_string().len() as u64),
            input: input.filter(|_| tasks::is_task_tool(name)).cloned(),
            component: activity::component(name, input),
            may_commit: activity.is_some() && activity::may_commit(input),
            activity,
        };
        if let Some(result) = own.orphan_results.remove(call_id) {
            let row = finished(&context.session_id, call_id, call, Some(result));
            work.chunk.tools.push(row);
        } else {
            own.open_tools.insert(call_id.to_owned(), call);
        }
    }
}

/// Pairs the results of a user record with their calls.
pub(super) fn note_results(
    work: &mut Work<'_>,
    context: &Context,
    content: &Value,
    tool_use_result: Option<&Value>,
) {
    let results: Vec<_> = blocks(content, "tool_result").collect();
    // The structured result belongs to the record: with several results it names none of them.
    let structured = tool_use_result.filter(|_| results.len() == 1);
    for block in results {
        let Some(call_id) = text(block, "tool_use_id") else {
            continue;
        };
        let result = result(block, context, structured);
        let own = session(work, &context.session_id);
        let call = own.open_tools.remove(call_id);
        if !result.is_error {
            tasks::apply(work, context, call.as_ref(), structured);
        }
        match call {
            Some(mut call) => {
                note_commit(&mut call, block);
                let row = finished(&context.session_id, call_id, call, Some(result));
                work.chunk.tools.push(row);
            }
            None => {
                let orphans = &mut session(work, &context.session_id).orphan_results;
                if orphans.len() < ORPHANS_MAX {
                    orphans.insert(call_id.to_owned(), result);
                }
            }
        }
    }
}

/// A call that made a commit is known by it.
fn note_commit(call: &mut OpenTool, block: &Record) {
    if call.may_commit
        && let Some(activity) = &mut call.activity
        && let Some(commit) = activity::commit(&render::tool_result(block))
    {
        activity.description = commit;
    }
}

/// Returns calls as unanswered once a person has gone on without their results.
pub(super) fn give_up_open(work: &mut Work<'_>, session_id: &str) {
    let own = session(work, session_id);
    let (given_up, kept) = std::mem::take(&mut own.open_tools)
        .into_iter()
        .partition(|(_, call)| call.agent_id.is_none());
    own.open_tools = kept;
    let given_up: std::collections::BTreeMap<String, OpenTool> = given_up;
    for (call_id, call) in given_up {
        work.chunk
            .tools
            .push(finished(session_id, &call_id, call, None));
    }
}

/// Pairs calls and results that are in different files of one session, and takes them out of
/// the states. For an importer that has read several files: the pieces of one session may have
/// been cut between a call and its result.
pub fn pair_open_tools(states: &mut [&mut FileState]) -> Vec<ToolRow> {
    let mut results = std::collections::BTreeMap::new();
    for state in states.iter_mut() {
        for (session_id, own) in &mut state.sessions {
            for (call_id, result) in &own.orphan_results {
                results.insert((session_id.clone(), call_id.clone()), result.clone());
            }
        }
    }
    let mut rows = Vec::new();
    for state in states.iter_mut() {
        for (session_id, own) in &mut state.sessions {
            own.open_tools.retain(|call_id, call| {
                let key = (session_id.clone(), call_id.clone());
                let Some(result) = results.get(&key) else {
                    return true;
                };
                rows.push(finished(
                    session_id,
                    call_id,
                    call.clone(),
                    Some(result.clone()),
                ));
                false
            });
        }
    }
    let paired = |session_id: &str, call_id: &str| {
        rows.iter()
            .any(|row| row.session_id == session_id && row.tool_use_id == call_id)
    };
    for state in states.iter_mut() {
        for (session_id, own) in &mut state.sessions {
            own.orphan_results
                .retain(|call_id, _| !paired(session_id, call_id));
        }
    }
    rows
}

fn blocks<'a>(content: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Record> {
    let all = content.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter()
        .filter_map(Value::as_object)
        .filter(move |block| text(block, "type") == Some(kind))
}

fn result(block: &Record, context: &Context, structured: Option<&Value>) -> ToolResult {
    let output = render::tool_result(block);
    let is_error = block
        .get("is_error")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    ToolResult {
        is_error,
        error: is_error.then(|| clip(&output, ERROR_BYTES_MAX).to_owned()),
        timestamp: context.timestamp.clone(),
        output_bytes: output.len() as u64,
        duration_ms: structured.and_then(reported_duration_ms),
    }
}

fn reported_duration_ms(structured: &Value) -> Option<u64> {
    let fields = structured.as_object()?;
    let ms = ["durationMs", "totalDurationMs"]
        .iter()
        .find_map(|key| fields.get(*key)?.as_f64());
    let seconds = || Some(fields.get("durationSeconds")?.as_f64()? * 1_000.0);
    let ms = ms
        .or_else(seconds)
        .filter(|ms| (0.0..9.0e15).contains(ms))?;
    // In range and not negative, as just checked.
    Some(ms.round() as u64)
}

fn finished(
    session_id: &str,
    call_id: &str,
    call: OpenTool,
    result: Option<ToolResult>,
) -> ToolRow {
    let mut row = ToolRow {
        tool_name: call.name,
        session_id: session_id.to_owned(),
        tool_use_id: call_id.to_owned(),
        message_id: call.message_id,
        agent_id: call.agent_id,
        timestamp: call.timestamp,
        input_bytes: call.input_bytes,
        component: call.component,
        activity: call.activity,
        ..ToolRow::default()
    };
    if let Some(result) = result {
        let waited = elapsed_ms(row.timestamp.as_deref(), result.timestamp.as_deref());
        row.duration_ms = result.duration_ms.or(waited);
        row.success = Some(!result.is_error);
        row.error_message = result.error;
        row.output_bytes = Some(result.output_bytes);
    }
    row
}
