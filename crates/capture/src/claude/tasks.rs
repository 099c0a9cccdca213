//! The agent's own task tools: TodoWrite in both shapes, TaskCreate and TaskUpdate.

use coditect_core::hex::hex;
use coditect_core::redact::redact_value;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::parser::Work;
use super::record::{Record, first_text, id, text};
use super::session::session;
use super::state::{ListItem, OpenTool};
use super::tools::Context;
use crate::rows::task::add_new;
use crate::rows::{TaskMessageRow, TaskRow};

const TODO_WRITE: &str = "TodoWrite";
const TASK_CREATE: &str = "TaskCreate";
const TASK_UPDATE: &str = "TaskUpdate";
/// The list of Codex: `plan[] {step, status}`.
const UPDATE_PLAN: &str = "update_plan";
/// The list of Gemini: `todos[] {description, status}`.
const WRITE_TODOS: &str = "write_todos";

/// Returns whether the input of a tool's call must be kept until its result.
pub(crate) fn is_task_tool(name: &str) -> bool {
    matches!(
        name,
        TODO_WRITE | TASK_CREATE | TASK_UPDATE | UPDATE_PLAN | WRITE_TODOS
    )
}

/// Applies a task tool's successful result. Without its call (which may be in another file) the
/// structured result tells which tool it was and most of what it did.
pub(super) fn apply(
    work: &mut Work<'_>,
    context: &Context,
    call: Option<&OpenTool>,
    structured: Option<&Value>,
) {
    let Some(tool) = call.map_or_else(
        || tool_by_shape(structured),
        |call| Some(call.name.as_str()),
    ) else {
        return;
    };
    if !is_task_tool(tool) {
        return;
    }
    let mut result = structured.cloned().unwrap_or(Value::Null);
    redact_value(&mut result, &mut work.chunk.report);
    let empty = Record::new();
    let result = result.as_object().unwrap_or(&empty);
    let input = call
        .and_then(|call| call.input.as_ref()?.as_object())
        .unwrap_or(&empty);
    let from_call = call.map(|call| call.message_id.clone());
    let change = Change {
        session_id: &context.session_id,
        message_id: from_call
            .or(context.calling_message_id.clone())
            .unwrap_or_else(|| context.message_id.clone()),
        at: context.timestamp.clone(),
        client_version: context.client_version.clone(),
        tool,
    };
    match tool {
        TODO_WRITE | UPDATE_PLAN | WRITE_TODOS => {
            let list = result
                .get("newTodos")
                .or(input.get("todos"))
                .or(input.get("plan"))
                .and_then(Value::as_array);
            let agent = context.agent_id.as_deref().unwrap_or("");
            write_list(
                work,
                &change,
                agent,
                list.map(Vec::as_slice).unwrap_or_default(),
            );
        }
        TASK_CREATE => create(work, &change, input, result),
        _ => update(work, &change, input, result),
    }
}

/// Applies what the agent program itself tells about a task: that it was made (`status` is none)
/// or that it has another status now. What a tool's call has said stays.
pub(super) fn announced(
    work: &mut Work<'_>,
    context: &Context,
    task_id: &str,
    input: &Record,
    status: Option<&str>,
) {
    let change = Change {
        session_id: &context.session_id,
        message_id: context.message_id.clone(),
        at: context.timestamp.clone(),
        client_version: None,
        tool: TASK_UPDATE,
    };
    touch(work, &change, task_id, |row| {
        if row.description.is_none() {
            set(&mut row.description, text(input, "task_subject"));
        }
        if row.details.is_none() {
            set(&mut row.details, text(input, "task_description"));
        }
        if let Some(status) = status {
            set_status(row, status, change.at.as_deref());
        } else if row.status.is_none() {
            set_status(row, "pending", change.at.as_deref());
            row.source = Some(TASK_CREATE.to_owned());
        }
    });
}

fn tool_by_shape(structured: Option<&Value>) -> Option<&'static str> {
    let result = structured?.as_object()?;
    let has = |key: &str| result.contains_key(key);
    let task_has_id = result
        .get("task")
        .is_some_and(|task| task.get("id").is_some());
    if has("newTodos") {
        Some(TODO_WRITE)
    } else if has("taskId") && (has("updatedFields") || has("statusChange")) {
        Some(TASK_UPDATE)
    } else if task_has_id && result.len() == 1 {
        Some(TASK_CREATE)
    } else {
        None
    }
}

/// Who changes a task, and when.
#[derive(Debug)]
struct Change<'a> {
    session_id: &'a str,
    message_id: String,
    at: Option<String>,
    client_version: Option<String>,
    tool: &'a str,
}

fn create(work: &mut Work<'_>, change: &Change<'_>, input: &Record, result: &Record) {
    let empty = Record::new();
    let task = result
        .get("task")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let Some(task_id) = id(task, &["id", "taskId"]).or_else(|| id(result, &["taskId", "id"]))
    else {
        return;
    };
    let subject = text(task, "subject").or(text(input, "subject"));
    let details = text(input, "description").or(text(task, "description"));
    touch(work, change, &task_id, |row| {
        set(&mut row.description, subject);
        set(&mut row.details, details);
        set(
            &mut row.active_form,
            first_text(input, &["activeForm", "active_form"]),
        );
        set(&mut row.owner, text(input, "owner"));
        set_status(
            row,
            text(input, "status").unwrap_or("pending"),
            change.at.as_deref(),
        );
        row.source = Some(TASK_CREATE.to_owned());
    });
}

fn update(work: &mut Work<'_>, change: &Change<'_>, input: &Record, result: &Record) {
    if result.get("success").and_then(Value::as_bool) == Some(false) {
        return;
    }
    let from_input = id(input, &["taskId", "task_id", "id"]);
    let Some(task_id) = from_input.or_else(|| id(result, &["taskId"])) else {
        return;
    };
    let to = result
        .get("statusChange")
        .and_then(|status| status.get("to")?.as_str());
    touch(work, change, &task_id, |row| {
        if let Some(status) = text(input, "status").or(to) {
            set_status(row, status, change.at.as_deref());
        }
        set(&mut row.description, text(input, "subject"));
        set(&mut row.details, text(input, "description"));
        set(
            &mut row.active_form,
            first_text(input, &["activeForm", "active_form"]),
        );
        set(&mut row.owner, text(input, "owner"));
        add_new(&mut row.blocks, ids(input, &["addBlocks", "add_blocks"]));
        add_new(
            &mut row.blocked_by,
            ids(input, &["addBlockedBy", "add_blocked_by"]),
        );
    });
}

/// Applies a whole list. An item is the task whose text it has; one whose text changed in place
/// keeps its task when the list is otherwise the same. Items that are gone stay as they were.
fn write_list(work: &mut Work<'_>, change: &Change<'_>, agent: &str, list: &[Value]) {
    let old = session(work, change.session_id)
        .lists
        .remove(agent)
        .unwrap_or_default();
    let items: Vec<&Record> = list.iter().filter_map(Value::as_object).collect();
    let texts: Vec<&str> = items.iter().map(|item| item_text(item)).collect();
    let mut new: Vec<ListItem> = Vec::with_capacity(items.len());
    for (position, item) in items.iter().enumerate() {
        let content = texts[position];
        if content.is_empty() || texts[..position].contains(&content) {
            continue;
        }
        let source_id = id(item, &["id"]);
        let task_id = known_task(&old, content)
            .or_else(|| renamed_task(&old, &texts, position, source_id.as_deref()))
            .unwrap_or_else(|| todo_id(content));
        touch(work, change, &task_id, |row| {
            row.description = Some(content.to_owned());
            set(
                &mut row.active_form,
                first_text(item, &["activeForm", "active_form"]),
            );
            set(&mut row.priority, text(item, "priority"));
            set_status(
                row,
                text(item, "status").unwrap_or("pending"),
                change.at.as_deref(),
            );
            row.source.get_or_insert_with(|| change.tool.to_owned());
        });
        new.push(ListItem {
            task_id,
            text: content.to_owned(),
            source_id,
        });
    }
    session(work, change.session_id)
        .lists
        .insert(agent.to_owned(), new);
}

fn item_text(item: &Record) -> &str {
    first_text(item, &["content", "subject", "text", "step", "description"]).unwrap_or("")
}

fn known_task(old: &[ListItem], content: &str) -> Option<String> {
    old.iter()
        .find(|item| item.text == content)
        .map(|item| item.task_id.clone())
}

/// Returns the task at the same place, or with the same id in the list, if only its text differs
/// and every other item of a list of the same length is where it was.
fn renamed_task(
    old: &[ListItem],
    texts: &[&str],
    position: usize,
    source_id: Option<&str>,
) -> Option<String> {
    let before = old.get(position)?;
    let same_id = source_id.is_none() || before.source_id.as_deref() == source_id;
    let others_stay = old.len() == texts.len()
        && old.len() > 1
        && old
            .iter()
            .zip(texts)
            .enumerate()
            .all(|(at, (item, text))| at == position || item.text == *text);
    (same_id && others_stay).then(|| before.task_id.clone())
}

fn todo_id(first_text: &str) -> String {
    format!("todo-{}", hex(&Sha256::digest(first_text.as_bytes())[..8]))
}

/// Changes a task, and if that makes a difference, links it to the message.
fn touch(work: &mut Work<'_>, change: &Change<'_>, task_id: &str, edit: impl FnOnce(&mut TaskRow)) {
    let own = session(work, change.session_id);
    let is_new = !own.tasks.contains_key(task_id);
    let task = own
        .tasks
        .entry(task_id.to_owned())
        .or_insert_with(|| TaskRow {
            session_id: change.session_id.to_owned(),
            task_id: task_id.to_owned(),
            client_version: change.client_version.clone(),
            ..TaskRow::default()
        });
    let before = task.clone();
    edit(task);
    if !is_new && *task == before {
        return;
    }
    debug_assert!(is_task_tool(change.tool), "only task tools change tasks");
    task.touched += 1;
    task.changed_at = task.changed_at.take().max(change.at.clone());
    let sequence = task.touched;
    work.touch_task(change.session_id, task_id);
    work.chunk.task_messages.push(TaskMessageRow {
        session_id: change.session_id.to_owned(),
        task_id: task_id.to_owned(),
        message_id: change.message_id.clone(),
        sequence,
    });
}

fn set_status(row: &mut TaskRow, status: &str, at: Option<&str>) {
    if row.status.as_deref() == Some(status) {
        return;
    }
    row.status = Some(status.to_owned());
    match status {
        "in_progress" => {
            row.started_at = row.started_at.take().or(at.map(str::to_owned));
            row.completed_at = None;
        }
        "completed" => row.completed_at = at.map(str::to_owned),
        _ => row.completed_at = None,
    }
}

fn set(field: &mut Option<String>, value: Option<&str>) {
    if let Some(value) = value {
        *field = Some(value.to_owned());
    }
}

fn ids(input: &Record, keys: &[&str]) -> Vec<String> {
    let list = keys.iter().find_map(|key| input.get(*key)?.as_array());
    let as_text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    list.map(|list| list.iter().filter_map(as_text).collect())
        .unwrap_or_default()
}
