//! What an event changes in the store.

use coditect_capture::claude::TaskMemory;
use coditect_capture::hooks::Event;
use coditect_capture::rows::{NamedRow, TaskRow};
use coditect_local_store::{Ingested, LocalStore, Recording, Result};
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::Row;
use serde_json::{Value, json};

use super::worker;
use crate::importer::leave_gaps_only;

/// Applies events in their order, in one transaction. Applying one again changes nothing.
///
/// # Errors
/// When the store fails; nothing was stored then.
pub fn apply(store: &mut LocalStore, events: &[Event], now_ms: i64) -> Result<Ingested> {
    let (_, ingested) = store.record(File::Sessions, now_ms, |recording| {
        events.iter().try_for_each(|event| record(recording, event))
    })?;
    Ok(ingested)
}

fn record(recording: &mut Recording<'_, '_>, event: &Event) -> Result<()> {
    if event.session.is_some() {
        let key = Row::from_iter([("session_id".to_owned(), json!(event.session_id))]);
        let stored = recording.stored("context_sessions", &key)?;
        if let Some((table, row)) = event.session_row(stored.as_ref()) {
            recording.put(table, row)?;
        }
    }
    record_tasks(recording, event)?;
    if let Some((table, row)) = event.tool_row() {
        recording.put(table, row)?;
    }
    if event.read_transcript
        && let Some((source, state)) = worker::request(event)
    {
        recording.set_state(&source, state)?;
    }
    Ok(())
}

fn record_tasks(recording: &mut Recording<'_, '_>, event: &Event) -> Result<()> {
    let Some(call) = &event.task else {
        return Ok(());
    };
    let source = format!("hook:tasks:{}:{}", event.agent, event.session_id);
    let known = recording.state(&source)?;
    // A memory that this version cannot read is none: identities keep that harmless.
    let known = known.and_then(|known| serde_json::from_value::<TaskMemory>(known).ok());
    let mut memory = known.unwrap_or_default();
    let tasks = memory.apply(&event.session_id, call);
    if tasks.is_empty() {
        return Ok(());
    }
    for task in tasks {
        let (table, row) = joined(recording, task)?;
        recording.put(table, row)?;
    }
    let memory = serde_json::to_value(&memory).unwrap_or(Value::Null);
    recording.set_state(&source, memory)
}

/// Returns a task's row. Where the store knows a later state, only gaps are filled.
fn joined(recording: &Recording<'_, '_>, task: TaskRow) -> Result<NamedRow> {
    let changed_at = task.changed_at.clone();
    let mut row = task.into_row();
    if let Some(stored) = recording.stored(row.0, &row.1)? {
        let known = stored.get("metadata");
        let known = known.and_then(|metadata| metadata.get("changed_at")?.as_str());
        if known > changed_at.as_deref() {
            leave_gaps_only(&mut row, &stored);
        }
    }
    Ok(row)
}
