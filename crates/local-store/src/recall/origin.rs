//! When something happened, and where it comes from.

use coditect_core::hash;
use coditect_protocol::catalogue::{File, Table, by_cloud_name};
use coditect_protocol::scope::LOCAL_USER;
use coditect_protocol::wire::Row;
use serde::Serialize;
use serde_json::json;

use crate::LocalStore;
use crate::error::{InFile as _, Result};
use crate::statements;

/// What can be said about every row that is shown: where it comes from, when, from whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// What told it, for people: the agent's name, or `you` for what a person wrote down.
    pub source: String,
    /// When it was said, made or done, as times are stored.
    pub time: Option<String>,
    /// Author's user id; none for what was written before the first login.
    pub user_id: Option<String>,
    /// Agent program.
    pub agent: Option<String>,
    /// Session, by the agent's own id.
    pub session_id: Option<String>,
    /// Name of the project where it is known, else its id or its folder.
    pub project: Option<String>,
    /// Branch of the repository.
    pub branch: Option<String>,
}

/// Columns that tell when, the best first. `metadata.` names a key of that column.
fn times(table: &Table) -> &'static [&'static str] {
    match table.cloud {
        "context_sessions" => &["end_time", "start_time"],
        "context_task_tracking" => &["completed_at", "started_at", "metadata.changed_at"],
        "context_checkpoints" => &["date"],
        "org_kg_nodes" => &["metadata.at"],
        _ if table.column("timestamp").is_some() => &["timestamp"],
        _ => &[],
    }
}

/// Returns the expression of SQL for when a row of `t` happened.
pub(super) fn time_sql(table: &Table) -> String {
    let mut parts: Vec<String> = Vec::new();
    for name in times(table) {
        parts.push(match name.strip_prefix("metadata.") {
            Some(key) => format!(
                "case when json_valid(t.metadata) then json_extract(t.metadata, '$.{key}') end"
            ),
            None => format!("t.{name}"),
        });
    }
    parts.push("t.created_at".to_owned());
    if let [only] = parts.as_slice() {
        return only.clone();
    }
    format!("coalesce({})", parts.join(", "))
}

/// Returns the expression of SQL for the session of a row of `t`; none where it has none.
pub(super) fn session_sql(table: &Table) -> Option<&'static str> {
    if table.cloud == "org_kg_nodes" {
        let of_metadata = "case when json_valid(t.metadata) \
                           then json_extract(t.metadata, '$.session_id') end";
        return Some(of_metadata);
    }
    table.column("session_id").map(|_| "t.session_id")
}

fn text(row: &Row, name: &str) -> Option<String> {
    let value = row.get(name)?.as_str()?;
    (!value.is_empty()).then(|| value.to_owned())
}

impl LocalStore {
    /// Returns where a row comes from. What it does not say itself, its session says.
    ///
    /// # Errors
    /// When a database fails.
    pub fn origin(
        &self,
        table: &Table,
        row: &Row,
        created_at: Option<&str>,
        user_id: Option<&str>,
    ) -> Result<Origin> {
        let of_metadata = || {
            let id = row.get("metadata")?.get("session_id")?.as_str()?;
            Some(id.to_owned())
        };
        let session_id = match table.column("session_id") {
            Some(_) => text(row, "session_id"),
            None => of_metadata(),
        };
        let session = match &session_id {
            Some(id) if table.cloud != "context_sessions" => self.session(id)?,
            _ => None,
        };
        let of_session = |name: &str| session.as_ref().and_then(|session| text(session, name));
        let first = |names: &[&str]| {
            let own = names.iter().find_map(|name| text(row, name));
            own.or_else(|| names.iter().find_map(|name| of_session(name)))
        };
        let said = times(table).iter().find_map(|name| {
            let metadata = row.get("metadata");
            match name.strip_prefix("metadata.") {
                Some(key) => metadata?.get(key)?.as_str().map(str::to_owned),
                None => text(row, name),
            }
        });
        let agent = first(&["agent"]);
        let project = match first(&["project_id"]) {
            Some(id) => Some(self.project_name(&id)?.unwrap_or(id)),
            None => first(&["project_path", "cwd"]),
        };
        Ok(Origin {
            source: agent.clone().unwrap_or_else(|| "you".to_owned()),
            time: said.or_else(|| created_at.map(str::to_owned)),
            user_id: user_id.map(str::to_owned),
            agent,
            session_id,
            project,
            branch: first(&["git_branch"]),
        })
    }

    /// Returns a session's row by the agent's own id, in whatever scope it is.
    fn session(&self, session_id: &str) -> Result<Option<Row>> {
        let Some(table) = by_cloud_name("context_sessions") else {
            return Ok(None);
        };
        let key = Row::from_iter([("session_id".to_owned(), json!(session_id))]);
        let Ok(Some(id)) = hash::derived_id(table, &key, self.device()) else {
            return Ok(None);
        };
        let connection = self.read(File::Sessions)?;
        let id = id.to_string();
        let own = statements::by_key(connection, table, LOCAL_USER, &id);
        let found = match own.in_file(File::Sessions)? {
            Some(live) => Some(live),
            None => statements::by_id(connection, table, &id).in_file(File::Sessions)?,
        };
        Ok(found.map(|live| live.raw))
    }

    /// Returns what people call a project.
    pub(super) fn project_name(&self, project_id: &str) -> Result<Option<String>> {
        // A process that opened one file only knows no names.
        let Ok(connection) = self.read(File::Projects) else {
            return Ok(None);
        };
        let find = || -> rusqlite::Result<Option<String>> {
            let sql = "select name from projects where project_id = ?1 order by scope = 'user' desc
                       limit 1";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([project_id])?;
            rows.next()?.map(|row| row.get(0)).transpose()
        };
        find().in_file(File::Projects)
    }
}
