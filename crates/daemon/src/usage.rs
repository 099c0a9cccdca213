//! Keeps count of what this device used: agents, skills, commands, tools of MCP servers. The counts
//! are made from the stored calls, so importing a transcript again changes nothing, and one that
//! two devices import counts for the device that sent it first.

use std::collections::{BTreeMap, HashSet};

use coditect_local_store::{ComponentUse, ImportState, LocalStore, Result, RowFilter};
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::Row;
use serde_json::{Value, json};

const TABLE: &str = "platform_usage_stats";
/// Key of the note when it was counted last, and whether something came since.
const NOTE: &str = "usage:counted";
/// How long a count is good enough while transcripts grow, in milliseconds.
const GOOD_MS: i64 = 600_000;
/// Components that one device may have used.
const COMPONENTS_MAX: u32 = 100_000;
/// Kinds that are counted here. Other programs may keep count of more.
const KINDS: [&str; 4] = ["agent:", "skill:", "command:", "mcp:"];

/// What a count came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Components that were used.
    pub components: u64,
    /// Rows that are new or say something else now.
    pub changed: u64,
}

/// Counts now.
///
/// # Errors
/// When the store fails; counting again completes it.
pub fn count(store: &mut LocalStore, now_ms: i64) -> Result<Counted> {
    note(store, now_ms, false)?;
    let used = store.component_use()?;
    let device = store.device().to_string();
    let filter = RowFilter {
        limit: COMPONENTS_MAX,
        ..RowFilter::default()
    };
    let mut stored = store.list(TABLE, &filter)?;
    // Those of other devices may have been fetched.
    stored.retain(|view| view.device_id.as_ref().is_none_or(|by| *by == device));
    let component = |row: &Row| row.get("component_id")?.as_str().map(str::to_owned);
    let mut known = BTreeMap::new();
    for view in &stored {
        if let Some(id) = component(&view.row) {
            known.entry(id).or_insert(&view.row);
        }
    }
    let in_use: HashSet<&str> = used.iter().map(|one| one.component.as_str()).collect();
    let mut rows = Vec::new();
    for one in &used {
        let row = row(one);
        let says = |known: &Row| {
            row.iter()
                .all(|(name, value)| known.get(name) == Some(value))
        };
        if !known.get(&one.component).is_some_and(|known| says(known)) {
            rows.push((TABLE, row));
        }
    }
    for (id, stored) in known {
        let is_counted = KINDS.iter().any(|kind| id.starts_with(kind));
        let calls = stored.get("invocation_count").and_then(Value::as_i64);
        if is_counted && calls != Some(0) && !in_use.contains(id.as_str()) {
            let gone = ComponentUse {
                component: id,
                ..ComponentUse::default()
            };
            rows.push((TABLE, row(&gone)));
        }
    }
    let counted = Counted {
        components: used.len() as u64,
        changed: rows.len() as u64,
    };
    if !rows.is_empty() {
        store.ingest(File::Platform, rows, None, now_ms)?;
    }
    Ok(counted)
}

/// Counts if calls came since the last time, and that was long ago or `now` is asked for.
/// `is_news` says that calls came just now.
///
/// # Errors
/// As [`count`].
pub fn count_if_due(
    store: &mut LocalStore,
    is_news: bool,
    now: bool,
    now_ms: i64,
) -> Result<Counted> {
    let noted = store.import_state(NOTE)?.map(|noted| noted.state);
    let is_waiting = noted
        .as_ref()
        .is_some_and(|noted| noted["waiting"].as_bool() == Some(true));
    if !is_news && !is_waiting {
        return Ok(Counted::default());
    }
    let last_ms = noted.as_ref().and_then(|noted| noted["at_ms"].as_i64());
    // A clock that was set back does not put it off.
    let is_good = last_ms.is_some_and(|last_ms| (0..GOOD_MS).contains(&(now_ms - last_ms)));
    if now || !is_good {
        return count(store, now_ms);
    }
    if !is_waiting {
        note(store, last_ms.unwrap_or(0), true)?;
    }
    Ok(Counted::default())
}

fn note(store: &mut LocalStore, at_ms: i64, waiting: bool) -> Result<()> {
    let state = ImportState {
        source: NOTE.to_owned(),
        state: json!({"at_ms": at_ms, "waiting": waiting}),
        ..ImportState::default()
    };
    store
        .ingest(File::Sessions, Vec::new(), Some(&state), at_ms)
        .map(drop)
}

fn row(one: &ComponentUse) -> Row {
    let row = json!({
        "component_id": one.component,
        "invocation_count": one.calls,
        "success_count": one.successes,
        "error_count": one.errors,
        "total_duration_ms": one.duration_ms,
        "last_used_at": one.last_used_at,
    });
    let mut row = row.as_object().cloned().unwrap_or_default();
    row.retain(|_, value| !value.is_null());
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_local_store::Random;

    const NOW: i64 = 1_770_000_000_000;

    fn call(store: &mut LocalStore, id: &str) {
        let row = json!({"tool_name": "Skill", "session_id": "s", "tool_use_id": id,
            "success": true, "duration_ms": 5, "metadata": {"component": "skill:review"}});
        let rows = vec![("context_tool_analytics", row.as_object().unwrap().clone())];
        store.ingest(File::Sessions, rows, None, NOW).unwrap();
    }

    fn counts(store: &LocalStore) -> Vec<i64> {
        let filter = RowFilter {
            limit: 9,
            ..RowFilter::default()
        };
        let rows = store.list(TABLE, &filter).unwrap();
        let count = |row: &Row| row["invocation_count"].as_i64().unwrap();
        rows.iter().map(|view| count(&view.row)).collect()
    }

    #[test]
    fn counting_again_writes_nothing_and_what_is_gone_counts_no_more() {
        let mut store = LocalStore::in_memory(NOW, Random::Seeded(1)).unwrap();
        call(&mut store, "a");
        call(&mut store, "b");
        let first = count(&mut store, NOW).unwrap();
        assert_eq!((first.components, first.changed), (1, 1));
        assert_eq!(counts(&store), [2]);
        assert_eq!(count(&mut store, NOW).unwrap().changed, 0);
        let filter = RowFilter {
            limit: 9,
            ..RowFilter::default()
        };
        for view in store.list("context_tool_analytics", &filter).unwrap() {
            let id = view.id.unwrap();
            store
                .delete("context_tool_analytics", &view.scope, &id, NOW)
                .unwrap();
        }
        assert_eq!(count(&mut store, NOW).unwrap().changed, 1);
        assert_eq!(counts(&store), [0]);
        assert_eq!(count(&mut store, NOW).unwrap().changed, 0);
    }

    #[test]
    fn while_transcripts_grow_it_counts_now_and_then_and_forgets_nothing() {
        let mut store = LocalStore::in_memory(NOW, Random::Seeded(1)).unwrap();
        call(&mut store, "a");
        assert_eq!(
            count_if_due(&mut store, true, false, NOW).unwrap().changed,
            1
        );
        call(&mut store, "b");
        let soon = count_if_due(&mut store, true, false, NOW + 1_000).unwrap();
        assert_eq!((soon.changed, counts(&store)), (0, vec![1]));
        // Nothing came since, but something waits.
        let later = count_if_due(&mut store, false, false, NOW + GOOD_MS).unwrap();
        assert_eq!((later.changed, counts(&store)), (1, vec![2]));
        let idle = count_if_due(&mut store, false, true, NOW + 2 * GOOD_MS).unwrap();
        assert_eq!(idle, Counted::default());
    }
}
