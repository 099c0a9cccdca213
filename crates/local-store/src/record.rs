//! Recording what happens while it happens: a few rows and what must be remembered between two
//! events, read and written in one transaction, so that two processes do not undo each other.

use coditect_core::hash;
use coditect_protocol::RowId;
use coditect_protocol::catalogue::{File, Table};
use coditect_protocol::wire::Row;
use rusqlite::params;
use serde_json::Value;

use crate::LocalStore;
use crate::error::{Error, InFile as _, Result};
use crate::import_state::{self, ImportState};
use crate::rows::{Ingested, ingest_row, put_new};
use crate::statements;
use crate::work::Work;

/// States that one question returns at most.
const STATES_MAX: u32 = 1_000;

/// One write transaction of a file for whoever records events.
pub struct Recording<'a, 'tx> {
    work: &'a mut Work<'tx>,
    now_ms: i64,
    ingested: Ingested,
}

impl std::fmt::Debug for Recording<'_, '_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Recording")
            .field("ingested", &self.ingested)
            .finish_non_exhaustive()
    }
}

impl LocalStore {
    /// Runs `work` in one write transaction of a file; an error undoes all of it. Returns what
    /// `work` returned and what became of the rows. Keep it short: others wait.
    ///
    /// # Errors
    /// [`Error::Busy`] when another writer does not end in time, what `work` returns, or when the
    /// database fails.
    pub fn record<T>(
        &mut self,
        file: File,
        now_ms: i64,
        work: impl FnOnce(&mut Recording<'_, '_>) -> Result<T>,
    ) -> Result<(T, Ingested)> {
        self.write(file, |own| {
            let mut recording = Recording {
                work: own,
                now_ms,
                ingested: Ingested::default(),
            };
            let done = work(&mut recording)?;
            Ok((done, recording.ingested))
        })
    }

    /// Returns states whose source begins with `prefix`, in the order of their names; 1,000 at
    /// most.
    ///
    /// # Errors
    /// When the database fails.
    pub fn import_states(&self, prefix: &str) -> Result<Vec<ImportState>> {
        let connection = self.read(File::Sessions)?;
        let list = || -> rusqlite::Result<Vec<ImportState>> {
            let mut statement = connection.prepare_cached(
                "select source, bytes_read, prefix_hash, state from import_state
                 where source >= ?1 and source < ?1 || char(1114111)
                 order by source limit ?2",
            )?;
            let states = statement.query_map(params![prefix, STATES_MAX], |row| {
                let state: Option<String> = row.get(3)?;
                Ok(ImportState {
                    source: row.get(0)?,
                    bytes_read: row.get::<_, i64>(1)?.max(0).cast_unsigned(),
                    prefix_hash: row.get(2)?,
                    state: state
                        .and_then(|text| serde_json::from_str(&text).ok())
                        .unwrap_or(Value::Null),
                })
            })?;
            states.collect()
        };
        list().in_file(File::Sessions)
    }
}

impl Recording<'_, '_> {
    /// Returns the stored row of the same identity in the owner's own scope. For tables whose
    /// ids are derived; others have none to compare.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::MissingColumn`] for a row without its key, or when the
    /// database fails.
    pub fn stored(&self, name: &str, row: &Row) -> Result<Option<Row>> {
        let table = self.table(name)?;
        let derived = hash::derived_id(table, row, self.work.device);
        let id = derived.map_err(|missing| Error::MissingColumn {
            table: table.local,
            column: missing.0.to_owned(),
        })?;
        let Some(id) = id else { return Ok(None) };
        let own = coditect_protocol::scope::LOCAL_USER;
        let live = statements::by_key(self.work.tx, table, own, &id.to_string());
        let live = live.in_file(self.work.file)?;
        Ok(live.map(|live| live.canonical(table)))
    }

    /// Stores a row as [`LocalStore::ingest`] does.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::MissingColumn`], or when the database fails.
    pub fn put(&mut self, name: &str, row: Row) -> Result<()> {
        let table = self.table(name)?;
        ingest_row(self.work, table, row, self.now_ms, &mut self.ingested)
    }

    /// Stores a row under an id that the caller knows, made from what the row is about; one that
    /// is there, or was deleted, stays as it is. Returns whether it is new.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], or when the database fails.
    pub fn put_as(&mut self, name: &str, id: RowId, row: Row) -> Result<bool> {
        let table = self.table(name)?;
        let scope = coditect_protocol::scope::LOCAL_USER;
        let known = statements::by_key(self.work.tx, table, scope, &id.to_string());
        if known.in_file(self.work.file)?.is_some() {
            return Ok(false);
        }
        put_new(self.work, table, id, row, self.now_ms, &mut self.ingested)
    }

    /// Returns the state of a source; only in sessions.db.
    ///
    /// # Errors
    /// When the database fails.
    pub fn state(&self, source: &str) -> Result<Option<Value>> {
        import_state::get(self.work.tx, source).map(|found| found.map(|found| found.state))
    }

    /// Keeps a state; only in sessions.db.
    ///
    /// # Errors
    /// When the database fails.
    pub fn set_state(&mut self, source: &str, state: Value) -> Result<()> {
        let state = ImportState {
            source: source.to_owned(),
            state,
            ..ImportState::default()
        };
        import_state::put(self.work.tx, &state, self.now_ms)
    }

    /// Forgets a state if it is still `state`; only in sessions.db.
    ///
    /// # Errors
    /// When the database fails.
    pub fn forget_state(&mut self, source: &str, state: &Value) -> Result<bool> {
        if self.state(source)?.as_ref() != Some(state) {
            return Ok(false);
        }
        let removed = self
            .work
            .tx
            .prepare_cached("delete from import_state where source = ?1")
            .and_then(|mut statement| statement.execute([source]))
            .in_file(self.work.file)?;
        Ok(removed > 0)
    }

    fn table(&self, name: &str) -> Result<&'static Table> {
        let table = statements::table_in(self.work.file, name);
        table.ok_or_else(|| Error::UnknownTable(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;
    use serde_json::json;

    fn call(source: Option<&str>, tool: &str) -> Row {
        let mut row = json!({"tool_name": tool, "session_id": "s", "tool_use_id": "t"});
        if let Some(source) = source {
            row["metadata"] = json!({ "source": source });
        }
        row.as_object().unwrap().clone()
    }

    fn name_of_call(store: &LocalStore) -> String {
        let rows = store
            .list(
                "context_tool_analytics",
                &crate::RowFilter {
                    limit: 9,
                    ..Default::default()
                },
            )
            .unwrap();
        assert_eq!(rows.len(), 1);
        rows[0].row["tool_name"].as_str().unwrap().to_owned()
    }

    #[test]
    fn rows_and_states_are_one_transaction() {
        let mut store = LocalStore::in_memory(0, Random::Seeded(1)).unwrap();
        let failed = store.record(File::Sessions, 1, |recording| {
            recording.put("context_tool_analytics", call(None, "Bash"))?;
            recording.set_state("hook:a", json!(1))?;
            recording.put("org_decisions", Row::new())
        });
        assert!(matches!(failed, Err(Error::UnknownTable(_))));
        assert!(store.import_states("hook:").unwrap().is_empty());
        let (_, done) = store
            .record(File::Sessions, 1, |recording| {
                recording.put("context_tool_analytics", call(None, "Bash"))?;
                recording.set_state("hook:a", json!(1))?;
                recording.set_state("other", json!(2))
            })
            .unwrap();
        assert_eq!(done.inserted, 1);
        let states = store.import_states("hook:").unwrap();
        assert_eq!((states.len(), &states[0].state), (1, &json!(1)));
        store
            .record(File::Sessions, 1, |recording| {
                assert!(!recording.forget_state("hook:a", &json!(9))?);
                assert!(recording.forget_state("hook:a", &json!(1))?);
                Ok(())
            })
            .unwrap();
        assert!(store.import_states("hook:").unwrap().is_empty());
    }

    #[test]
    fn a_fact_that_only_a_hook_told_gives_way_to_the_transcript_and_no_other_does() {
        let mut store = LocalStore::in_memory(0, Random::Seeded(1)).unwrap();
        let mut put = |row: Row| {
            store.ingest(
                File::Sessions,
                vec![("context_tool_analytics", row)],
                None,
                1,
            )
        };
        put(call(Some("hook"), "first")).unwrap();
        put(call(Some("hook"), "again")).unwrap();
        assert_eq!(put(call(None, "better")).unwrap().updated, 1);
        assert_eq!(put(call(None, "other")).unwrap().unchanged, 1);
        assert_eq!(put(call(Some("hook"), "late")).unwrap().unchanged, 1);
        assert_eq!(name_of_call(&store), "better");
    }
}
