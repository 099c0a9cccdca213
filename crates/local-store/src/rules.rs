//! Where new rows go by themselves: those of a project with a rule to the rule's scope, and what
//! belongs to a shared session to where the session is. Applied when our process first sees a
//! row, never in a trigger.
//!
//! A rule is part of the owner's own record of a project (`metadata.sharing`), so that all of the
//! owner's machines have it and nobody else's record shares the owner's rows.

use coditect_protocol::catalogue::{File, Table};
use coditect_protocol::scope::LOCAL_USER;
use coditect_protocol::wire::Row;
use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::LocalStore;
use crate::error::{InFile as _, Result};
use crate::moves::is_movable;
use crate::work::Work;

/// Key of a project's metadata under which its rule is.
pub const RULE: &str = "sharing";

/// Says where new rows of a project go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The project, as `project_id` of its rows.
    #[serde(default)]
    pub project_id: String,
    /// Scope, as the files store it.
    pub to: String,
    /// Cloud names of the tables.
    pub tables: Vec<String>,
}

/// Returns whether a rule can be about the table: one whose rows are of projects, and shared one
/// by one.
#[must_use]
pub fn can_have_rule(table: &Table) -> bool {
    table.file == File::Org && is_movable(table) && table.column("project_id").is_some()
}

impl LocalStore {
    /// Returns the rules of the owner's projects.
    ///
    /// # Errors
    /// When the database fails.
    pub fn rules(&self) -> Result<Vec<Rule>> {
        read(self.read(File::Projects)?).in_file(File::Projects)
    }

    /// Returns the rules that a transaction of the file has to follow; none where the projects'
    /// file is not open.
    pub(crate) fn rules_for(&self, file: File) -> Result<Vec<Rule>> {
        match (file, self.read(File::Projects)) {
            (File::Org, Ok(connection)) => read(connection).in_file(File::Projects),
            _ => Ok(Vec::new()),
        }
    }
}

fn read(connection: &Connection) -> rusqlite::Result<Vec<Rule>> {
    let mut statement = connection.prepare_cached(
        "select project_id, metadata from projects
         where scope = 'user' and metadata like '%\"sharing\"%' order by seq",
    )?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    let mut rules = Vec::new();
    for row in rows {
        let (project_id, metadata) = row?;
        // What somebody wrote there that is no rule is none.
        let metadata: Option<Value> = serde_json::from_str(&metadata).ok();
        let rule = metadata.and_then(|it| serde_json::from_value(it.get(RULE)?.clone()).ok());
        if let Some(rule) = rule {
            rules.push(Rule { project_id, ..rule });
        }
    }
    Ok(rules)
}

impl Work<'_> {
    /// Returns the scope that a new row of the owner's goes to by a rule.
    pub(crate) fn ruled_scope(&self, table: &Table, row: &Row) -> Result<Option<String>> {
        let project = row.get("project_id").and_then(Value::as_str);
        let Some(project) = project.filter(|_| can_have_rule(table)) else {
            return Ok(None);
        };
        let applies = |rule: &&Rule| {
            rule.project_id == project && rule.tables.iter().any(|name| name == table.cloud)
        };
        let Some(rule) = self.rules.iter().find(applies) else {
            return Ok(None);
        };
        let Some(to) = self.normal_scope(&rule.to) else {
            return Ok(None);
        };
        // Where the owner does not belong any more, nothing goes.
        let follows = to.starts_with("org:")
            || self
                .tx
                .prepare_cached("select 1 from sync_scope where scope = ?1")
                .and_then(|mut statement| statement.exists([&to]))
                .in_file(self.file)?;
        Ok(follows.then_some(to))
    }

    /// Returns the scope that what an importer reads belongs to: that of its session, where the
    /// owner has shared the session.
    pub(crate) fn session_scope(&self, table: &Table, row: &Row) -> Result<String> {
        let own = || Ok(LOCAL_USER.to_owned());
        let session = row.get("session_id").and_then(Value::as_str);
        let Some((session, owner)) = session.zip(self.owner).filter(|_| is_movable(table)) else {
            return own();
        };
        if self.file != File::Sessions {
            return own();
        }
        // Scopes of others sort before `user`; mostly there are none.
        let shared = "select scope from sessions
            where scope < 'user' and exists (select 1 from sessions where scope < 'user')
            and session_id = ?1 and user_id = ?2 limit 1";
        let found: Option<String> = self
            .tx
            .prepare_cached(shared)
            .and_then(|mut statement| {
                let user = owner.user.to_string();
                statement
                    .query_row([session, &user], |row| row.get(0))
                    .optional()
            })
            .in_file(self.file)?;
        found.map_or_else(own, Ok)
    }
}
