//! What the agents took: tokens per day, model and session, each answer of a model once.

use coditect_protocol::catalogue::{File, by_cloud_name};
use rusqlite::params_from_iter;
use serde::Serialize;

use super::Which;
use super::origin::time_sql;
use crate::LocalStore;
use crate::error::{Error, InFile as _, Result};

/// What the answers of one day, model, agent and project took together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TokenUse {
    /// Day (UTC), `YYYY-MM-DD`; none for answers without a time.
    pub day: Option<String>,
    /// Model; none where nobody says.
    pub model: Option<String>,
    /// Agent program of the session; none where the session is not here.
    pub agent: Option<String>,
    /// Project id of the session, else its folder.
    pub project: Option<String>,
    /// Answers, each once.
    pub answers: u64,
    /// Tokens sent, without those of the cache.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// Tokens written to the cache.
    pub cache_creation_input_tokens: u64,
    /// Tokens read from the cache.
    pub cache_read_input_tokens: u64,
    /// Cost that somebody told, in US dollars; none where nobody did.
    pub cost_usd: Option<f64>,
    /// Answers whose cost was told.
    pub answers_with_cost: u64,
}

/// How much there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Activity {
    /// Sessions.
    pub sessions: u64,
    /// Messages of every role.
    pub messages: u64,
    /// Finished calls of tools.
    pub tool_calls: u64,
    /// Those that failed.
    pub tool_failures: u64,
}

impl LocalStore {
    /// Returns what agents took, by day, model, agent and project; a role does not apply.
    ///
    /// An answer of a model counts once, by its own id: a resumed session repeats answers of
    /// the one that it comes from. Ids of Codex and Gemini are unique in their session only.
    ///
    /// # Errors
    /// When the database fails.
    pub fn token_use(&self, which: &Which) -> Result<Vec<TokenUse>> {
        let name = "context_token_economics";
        let table = by_cloud_name(name).ok_or_else(|| Error::UnknownTable(name.to_owned()))?;
        let Some(clause) = self.resolve(which)?.clause(table) else {
            return Ok(Vec::new());
        };
        let time = time_sql(table);
        let sql = format!(
            "with answer as (
               select min({time}) as time, max(t.llm_model) as model, min(s.agent) as agent,
                 coalesce(min(s.project_id), min(t.project_id), min(s.project_path)) as project,
                 max(t.input_tokens) as i, max(t.output_tokens) as o,
                 max(t.cache_creation_input_tokens) as w, max(t.cache_read_input_tokens) as r,
                 max(t.cost_usd) as cost
               from token_economics t
               left join (select session_id, min(agent) as agent, min(project_id) as project_id,
                   min(project_path) as project_path from sessions group by session_id) s
                 on s.session_id = t.session_id
               where true{}
               group by case when s.agent = 'claude' then '' else t.session_id end,
                 t.api_message_id)
             select substr(time, 1, 10), model, agent, project, count(*), sum(i), sum(o), sum(w),
               sum(r), sum(cost), count(cost)
             from answer group by 1, 2, 3, 4 order by 1, 2, 3, 4",
            clause.sql
        );
        let connection = self.read(File::Sessions)?;
        let list = || -> rusqlite::Result<Vec<TokenUse>> {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(&clause.parameters), |row| {
                let count = |at: usize| -> rusqlite::Result<u64> {
                    let value: Option<i64> = row.get(at)?;
                    Ok(value.unwrap_or(0).max(0).cast_unsigned())
                };
                Ok(TokenUse {
                    day: row.get(0)?,
                    model: row.get(1)?,
                    agent: row.get(2)?,
                    project: row.get(3)?,
                    answers: count(4)?,
                    input_tokens: count(5)?,
                    output_tokens: count(6)?,
                    cache_creation_input_tokens: count(7)?,
                    cache_read_input_tokens: count(8)?,
                    cost_usd: row.get(9)?,
                    answers_with_cost: count(10)?,
                })
            })?;
            rows.collect()
        };
        let mut uses = list().in_file(File::Sessions)?;
        for one in &mut uses {
            let id = one.project.take();
            let name = id.as_deref().map(|id| self.project_name(id)).transpose()?;
            one.project = name.flatten().or(id);
        }
        Ok(uses)
    }

    /// Returns how many sessions, messages and calls there were.
    ///
    /// # Errors
    /// When the database fails.
    pub fn activity(&self, which: &Which) -> Result<Activity> {
        let resolved = self.resolve(which)?;
        let connection = self.read(File::Sessions)?;
        let count = |name: &str, further: &str| -> Result<u64> {
            let table = by_cloud_name(name).ok_or_else(|| Error::UnknownTable(name.to_owned()))?;
            let Some(clause) = resolved.clause(table) else {
                return Ok(0);
            };
            let sql = format!(
                "select count(*) from \"{}\" t where true{}{further}",
                table.local, clause.sql
            );
            let count = connection.prepare_cached(&sql).and_then(|mut it| {
                it.query_row(params_from_iter(&clause.parameters), |r| r.get(0))
            });
            count.in_file(File::Sessions)
        };
        Ok(Activity {
            sessions: count("context_sessions", "")?,
            messages: count("context_messages", "")?,
            tool_calls: count("context_tool_analytics", "")?,
            tool_failures: count("context_tool_analytics", " and t.success = 0")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OfProject, Random};
    use coditect_protocol::wire::Row;
    use serde_json::{Value, json};

    fn put(store: &mut LocalStore, table: &str, row: Value) {
        let row: Row = row.as_object().unwrap().clone();
        store
            .ingest(File::Sessions, vec![(table, row)], None, 1)
            .unwrap();
    }

    fn answer(session: &str, id: &str, day: &str, output: u64) -> Value {
        json!({"session_id": session, "api_message_id": id, "llm_model": "model-1",
            "timestamp": format!("{day}T01:02:03.000000Z"), "input_tokens": 1,
            "output_tokens": output})
    }

    #[test]
    fn an_answer_counts_once_however_many_sessions_repeat_it() {
        let mut store = LocalStore::in_memory(0, Random::Seeded(1)).unwrap();
        for (session, agent, path) in [
            ("a", "claude", "/home/ann/app"),
            ("b", "claude", "/home/ann/app"),
            ("x", "codex", "/home/ann/other"),
            ("y", "codex", "/home/ann/other"),
        ] {
            let row = json!({"session_id": session, "agent": agent, "project_path": path});
            put(&mut store, "context_sessions", row);
        }
        let table = "context_token_economics";
        put(&mut store, table, answer("a", "msg_1", "2026-02-03", 10));
        // A fork repeats it, with more of the stream seen.
        put(&mut store, table, answer("b", "msg_1", "2026-02-03", 12));
        put(&mut store, table, answer("a", "msg_2", "2026-02-04", 5));
        // Names that are unique in their session only.
        put(&mut store, table, answer("x", "0:1-0-1", "2026-02-04", 7));
        put(&mut store, table, answer("y", "0:1-0-1", "2026-02-04", 7));
        let uses = store.token_use(&Which::default()).unwrap();
        let by = |uses: &[TokenUse]| -> Vec<(String, String, u64, u64)> {
            let line = |one: &TokenUse| {
                let day = one.day.clone().unwrap();
                (
                    day,
                    one.agent.clone().unwrap(),
                    one.answers,
                    one.output_tokens,
                )
            };
            uses.iter().map(line).collect()
        };
        let expected = [
            ("2026-02-03".to_owned(), "claude".to_owned(), 1, 12),
            ("2026-02-04".to_owned(), "claude".to_owned(), 1, 5),
            ("2026-02-04".to_owned(), "codex".to_owned(), 2, 14),
        ];
        assert_eq!(by(&uses), expected);
        let which = Which {
            project: Some(OfProject {
                folders: vec!["app".to_owned()],
                ..OfProject::default()
            }),
            since: Some("2026-02-04T00:00:00.000000Z".to_owned()),
            ..Which::default()
        };
        let uses = store.token_use(&which).unwrap();
        assert_eq!(by(&uses), expected[1..2]);
    }
}
