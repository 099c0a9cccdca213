//! What was once said, decided or done, found again: the one place that says which rows a filter
//! means, when something happened and where it comes from. Search, timeline and statistics, for
//! people and for agents, ask here.

mod origin;
mod stats;
mod timeline;
mod usage;

use coditect_protocol::catalogue::{File, Table};
use rusqlite::Connection;
use rusqlite::types::Value as Sql;

use crate::LocalStore;
use crate::error::{InFile as _, Result};

pub use origin::Origin;
pub use stats::{Activity, TokenUse};
pub use timeline::{Moment, TimelineQuery};
pub use usage::ComponentUse;

/// A project, as rows may tell of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfProject {
    /// What `project_id` holds.
    pub ids: Vec<String>,
    /// Folders that it is in, and names of folders: what begins with `/` is a folder, with all
    /// below it; anything else is the name of one, wherever it is.
    pub folders: Vec<String>,
}

/// Who wrote a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Author {
    /// The owner of the folder, or nobody yet.
    Own,
    /// A user, by the id or the beginning of it.
    User(String),
}

/// Which rows are meant, whatever their table; all of them when nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// Only of this session.
    pub session_id: Option<String>,
    /// Only of this project.
    pub project: Option<OfProject>,
    /// Only messages of this role.
    pub role: Option<String>,
    /// Only what this agent program wrote, or a session of it.
    pub agent: Option<String>,
    /// Only of this author.
    pub author: Option<Author>,
    /// Only what happened at this time or later, as times are stored.
    pub since: Option<String>,
    /// Only what happened before this time, as times are stored.
    pub until: Option<String>,
}

/// A filter with what it takes to ask one table: the sessions that it means, as JSON lists.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    which: Which,
    of_project: Option<String>,
    of_agent: Option<String>,
    me: Option<String>,
}

/// A condition of SQL about the table `t`, beginning with ` and`.
#[derive(Debug, Default)]
pub(crate) struct Clause {
    pub(crate) sql: String,
    pub(crate) parameters: Vec<Sql>,
}

impl Clause {
    fn add(&mut self, sql: &str, values: impl IntoIterator<Item = String>) {
        self.sql.push_str(" and ");
        self.sql.push_str(sql);
        self.parameters.extend(values.into_iter().map(Sql::Text));
    }
}

impl LocalStore {
    /// Looks up what a filter needs of the sessions.
    pub(crate) fn resolve(&self, which: &Which) -> Result<Resolved> {
        let sessions = self.read(File::Sessions)?;
        let of_project = which.project.as_ref().map(|project| {
            let mut clause = Clause::default();
            of_place(&mut clause, project, true, Some("project_path"), None);
            session_ids(sessions, &clause)
        });
        let of_agent = which.agent.as_ref().map(|agent| {
            let mut clause = Clause::default();
            clause.add("t.agent = ?", [agent.clone()]);
            session_ids(sessions, &clause)
        });
        Ok(Resolved {
            of_project: of_project.transpose().in_file(File::Sessions)?,
            of_agent: of_agent.transpose().in_file(File::Sessions)?,
            me: self.owner_of_folder().map(|owner| owner.user.to_string()),
            which: which.clone(),
        })
    }

    /// Returns the first session whose id, the agent's own, is the text or begins with it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn session_named(&self, text: &str) -> Result<Option<String>> {
        let connection = self.read(File::Sessions)?;
        let find = || -> rusqlite::Result<Option<String>> {
            let mut statement = connection.prepare_cached(
                "select session_id from sessions where substr(session_id, 1, length(?1)) = ?1
                 order by length(session_id) limit 1",
            )?;
            let mut rows = statement.query([text])?;
            rows.next()?.map(|row| row.get(0)).transpose()
        };
        find().in_file(File::Sessions)
    }
}

impl Resolved {
    /// Returns the condition for a table; none when no row of it can be meant.
    pub(crate) fn clause(&self, table: &Table) -> Option<Clause> {
        let has = |name: &str| table.column(name).is_some();
        let session = origin::session_sql(table);
        let mut clause = Clause::default();
        if let Some(wanted) = &self.which.session_id {
            clause.add(&format!("{} = ?", session?), [wanted.clone()]);
        }
        if let Some(role) = &self.which.role {
            has("role").then_some(())?;
            clause.add("t.role = ?", [role.clone()]);
        }
        if let Some(project) = &self.which.project {
            let path = ["project_path", "cwd"].into_iter().find(|name| has(name));
            let sessions = self.of_project.clone().filter(|_| session.is_some());
            if path.is_none() && sessions.is_none() && !has("project_id") {
                return None;
            }
            let sessions = session.zip(sessions);
            of_place(&mut clause, project, has("project_id"), path, sessions);
        }
        if let Some(agent) = &self.which.agent {
            if has("agent") {
                clause.add("t.agent = ?", [agent.clone()]);
            } else {
                let list = format!("{} in (select value from json_each(?))", session?);
                clause.add(&list, self.of_agent.clone());
            }
        }
        match (&self.which.author, &self.me) {
            (None, _) => {}
            (Some(Author::Own), Some(me)) => {
                clause.add("(t.user_id is null or t.user_id = ?)", [me.clone()]);
            }
            (Some(Author::Own), None) => clause.add("t.user_id is null", []),
            (Some(Author::User(start)), _) => {
                let both = [start.clone(), start.clone()];
                clause.add("substr(t.user_id, 1, length(?)) = ?", both);
            }
        }
        let time = origin::time_sql(table);
        if let Some(since) = &self.which.since {
            clause.add(&format!("{time} >= ?"), [since.clone()]);
        }
        if let Some(until) = &self.which.until {
            clause.add(&format!("{time} < ?"), [until.clone()]);
        }
        Some(clause)
    }
}

/// Adds that a row is of a project: by its id, by its folder, or by its session.
fn of_place(
    clause: &mut Clause,
    project: &OfProject,
    has_id: bool,
    path: Option<&str>,
    sessions: Option<(&str, String)>,
) {
    let (mut parts, mut values) = (Vec::new(), Vec::new());
    if has_id {
        parts.push("t.project_id in (select value from json_each(?))".to_owned());
        values.push(serde_json::json!(project.ids).to_string());
    }
    for folder in path.iter().flat_map(|_| &project.folders) {
        let path = path.unwrap_or_default();
        if folder.starts_with('/') {
            let below = format!("{}/", folder.trim_end_matches('/'));
            parts.push(format!("substr(t.{path} || '/', 1, length(?)) = ?"));
            values.extend([below.clone(), below]);
        } else {
            parts.push(format!("instr(t.{path} || '/', ?) > 0"));
            values.push(format!("/{folder}/"));
        }
    }
    if let Some((session, sessions)) = sessions {
        parts.push(format!("{session} in (select value from json_each(?))"));
        values.push(sessions);
    }
    if parts.is_empty() {
        parts.push("false".to_owned());
    }
    clause.add(&format!("({})", parts.join(" or ")), values);
}

fn session_ids(connection: &Connection, clause: &Clause) -> rusqlite::Result<String> {
    let sql = format!(
        "select coalesce(json_group_array(t.session_id), '[]') from sessions t where true{}",
        clause.sql
    );
    connection.query_row(
        &sql,
        rusqlite::params_from_iter(clause.parameters.iter()),
        |row| row.get(0),
    )
}
