//! How often agents, skills, commands and tools of MCP servers were used, counted from the stored
//! calls. Counting again counts the same, however often transcripts were imported.

use coditect_protocol::catalogue::File;
use rusqlite::params;

use crate::LocalStore;
use crate::error::{InFile as _, Result};

/// Calls of this device that used one component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComponentUse {
    /// `agent:NAME`, `skill:NAME`, `command:NAME` or `mcp:SERVER/TOOL`.
    pub component: String,
    /// Calls.
    pub calls: u64,
    /// Those that worked.
    pub successes: u64,
    /// Those that failed.
    pub errors: u64,
    /// What all of them took, in milliseconds.
    pub duration_ms: u64,
    /// Time of the last one.
    pub last_used_at: Option<String>,
}

/// Calls that the index of tool names finds: those of tools that run a component, and those of MCP
/// servers. A call that another device sent first counts there.
const COUNT: &str = "
    with used as (
      select case when t.tool_name < 'mcp__' or t.tool_name >= 'mcp_`'
          then json_extract(t.metadata, '$.component')
          else 'mcp:' || replace(substr(t.tool_name, 6), '__', '/') end as component,
        t.success, t.duration_ms, t.timestamp
      from tool_analytics t
      left join sync_base b on b.table_name = 'context_tool_analytics' and b.scope = t.scope
        and b.id = t.id
      where (t.tool_name in ('Task', 'Agent', 'Skill', 'SlashCommand')
          or (t.tool_name >= 'mcp__' and t.tool_name < 'mcp_`'))
        and (b.origin is null or b.origin = ?1)
        and not exists (select 1 from sync_foreign f
          where f.table_name = 'context_tool_analytics' and f.scope = t.scope and f.id = t.id))
    select component, count(*), total(success = 1), total(success = 0),
      total(max(coalesce(duration_ms, 0), 0)), max(timestamp)
    from used where component is not null group by component order by component";

impl LocalStore {
    /// Returns how often this device used each component, in the order of their names.
    ///
    /// # Errors
    /// When the database fails.
    pub fn component_use(&self) -> Result<Vec<ComponentUse>> {
        let connection = self.read(File::Sessions)?;
        let count = || -> rusqlite::Result<Vec<ComponentUse>> {
            let mut statement = connection.prepare_cached(COUNT)?;
            let rows = statement.query_map(params![self.device.to_string()], |row| {
                // Sums of whole numbers, exact far beyond what a device can do.
                let sum = |at: usize| row.get(at).map(|sum: f64| sum as u64);
                Ok(ComponentUse {
                    component: row.get(0)?,
                    calls: row.get::<_, i64>(1)?.max(0).cast_unsigned(),
                    successes: sum(2)?,
                    errors: sum(3)?,
                    duration_ms: sum(4)?,
                    last_used_at: row.get(5)?,
                })
            })?;
            rows.collect()
        };
        count().in_file(File::Sessions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;
    use coditect_protocol::wire::Row;
    use serde_json::{Value, json};

    fn call(id: &str, tool: &str, component: Option<&str>, success: bool) -> Row {
        let mut row = json!({"tool_name": tool, "session_id": "s", "tool_use_id": id,
            "success": success, "duration_ms": 20,
            "timestamp": format!("2026-02-03T03:51:0{}.000000Z", id.len())});
        if let Some(component) = component {
            row["metadata"] = json!({ "component": component });
        }
        let Value::Object(row) = row else {
            unreachable!()
        };
        row
    }

    #[test]
    fn only_calls_that_use_a_component_count_each_once() {
        let mut store = LocalStore::in_memory(0, Random::Seeded(1)).unwrap();
        let calls = || {
            vec![
                call("a", "Task", Some("agent:Explore"), true),
                call("bb", "Task", Some("agent:Explore"), false),
                call("c", "Skill", Some("skill:review"), true),
                call("d", "mcp__git__log", None, true),
                call("e", "mcp_odd", None, true),
                call("f", "Bash", None, true),
                call("g", "Task", None, true),
            ]
        };
        for _ in 0..2 {
            let calls = calls().into_iter();
            let rows = calls.map(|row| ("context_tool_analytics", row)).collect();
            store.ingest(File::Sessions, rows, None, 1).unwrap();
        }
        let uses = store.component_use().unwrap();
        let short: Vec<_> = uses
            .iter()
            .map(|one| (one.component.as_str(), one.calls, one.successes, one.errors))
            .collect();
        let expected = [
            ("agent:Explore", 2, 1, 1),
            ("mcp:git/log", 1, 1, 0),
            ("skill:review", 1, 1, 0),
        ];
        assert_eq!(short, expected);
        assert_eq!(uses[0].duration_ms, 40);
        let last = uses[0].last_used_at.as_deref();
        assert_eq!(last, Some("2026-02-03T03:51:02.000000Z"));
    }

    #[test]
    fn a_call_that_another_device_sent_first_counts_there() {
        let mut store = LocalStore::in_memory(0, Random::Seeded(1)).unwrap();
        let rows = vec![
            (
                "context_tool_analytics",
                call("a", "Skill", Some("skill:x"), true),
            ),
            (
                "context_tool_analytics",
                call("b", "Skill", Some("skill:x"), true),
            ),
        ];
        store.ingest(File::Sessions, rows, None, 1).unwrap();
        let connection = store.read(File::Sessions).unwrap();
        let base = "insert into sync_base (table_name, scope, id, version, device, origin, hash,
               fingerprint, created_at)
             select 'context_tool_analytics', scope, id, 1, ?1, ?1, zeroblob(32), 1, ''
             from tool_analytics where tool_use_id = 'a'";
        let other = coditect_protocol::DeviceId::new(uuid::Uuid::from_u128(9));
        connection.execute(base, [other.to_string()]).unwrap();
        assert_eq!(store.component_use().unwrap()[0].calls, 1);
    }
}
