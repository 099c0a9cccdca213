//! What the commands of recall have in common, with each other and with what agents ask: which
//! rows are meant, and how a found one is named.

use clap::Args;
use coditect_core::canonical;
use coditect_local_store::{Author, LocalStore, OfProject, Origin, RowFilter, Which};
use coditect_protocol::scope::LOCAL_USER;
use coditect_protocol::wire::Row;

use super::project;
use super::records::{self, text};
use crate::names;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// Shortest beginning of a user's id.
const AUTHOR_CHARS_MIN: usize = 4;

/// Which rows are meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Filters {
    /// Only this project: its name, its id, a folder, or . for the current one
    #[arg(long, value_name = "PROJECT")]
    pub(crate) project: Option<String>,
    /// Only this session, by its id or the beginning of it
    #[arg(long, value_name = "SESSION")]
    pub(crate) session: Option<String>,
    /// Only what this agent wrote: claude, codex, gemini
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Only of this author: me, or the beginning of a user's id
    #[arg(long, value_name = "AUTHOR", value_parser = author)]
    pub(crate) author: Option<Author>,
    /// Only since then, such as 2026-02-03 or 2026-02-03T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = records::since)]
    pub(crate) since: Option<String>,
    /// Only until then; of a date, to its end
    #[arg(long, value_name = "TIME", value_parser = until)]
    pub(crate) until: Option<String>,
}

impl Filters {
    /// Returns what the store is asked for.
    pub(crate) fn which(&self, store: &LocalStore, role: Option<&str>) -> anyhow::Result<Which> {
        let project = self.project.as_deref();
        let project = project.map(|name| of_project(store, name)).transpose()?;
        let session_id = match self.session.as_deref() {
            None => None,
            // What is stored nowhere finds nothing.
            Some(given) => Some(store.session_named(given)?.unwrap_or(given.to_owned())),
        };
        Ok(Which {
            session_id,
            project,
            role: role.map(str::to_owned),
            agent: self.agent.clone(),
            author: self.author.clone(),
            since: self.since.clone(),
            until: self.until.clone(),
        })
    }
}

/// Reads an author.
pub(crate) fn author(given: &str) -> Result<Author, String> {
    match given.trim() {
        "me" | "you" => Ok(Author::Own),
        id if id.chars().count() >= AUTHOR_CHARS_MIN => Ok(Author::User(id.to_lowercase())),
        _ => Err("expected me, or at least 4 characters of a user's id".to_owned()),
    }
}

/// Reads the end of a time; a date is meant with all of its day.
pub(crate) fn until(given: &str) -> Result<String, String> {
    let time = records::since(given)?;
    if given.trim().len() != "2026-02-03".len() {
        return Ok(time);
    }
    let ms = canonical::ms_from_time(&time).unwrap_or(0);
    Ok(canonical::time_from_ms(ms + DAY_MS))
}

/// Returns a project by what people call it, with the folders that its sessions may be in.
/// Sessions name folders only, and another machine has other ones: a folder of the project's
/// name counts, wherever it is.
pub(crate) fn of_project(store: &LocalStore, name: &str) -> anyhow::Result<OfProject> {
    let folder = std::path::Path::new(name);
    if name.starts_with(['/', '.']) && folder.is_dir() {
        let folder = folder.canonicalize()?;
        let mut of = match project::of_path(store, &folder)? {
            Some(id) => of_project(store, &id)?,
            None => OfProject::default(),
        };
        of.folders.push(folder.display().to_string());
        return Ok(of);
    }
    let id = project::named(store, name)?;
    let filter = RowFilter {
        equals: vec![("project_id".to_owned(), id.as_str().into())],
        limit: 10,
        ..RowFilter::default()
    };
    let known = store.list("projects_projects", &filter)?;
    let mut folders: Vec<String> = known
        .iter()
        .flat_map(|view| [text(&view.row, "path"), text(&view.row, "name")])
        .filter(|folder| !folder.is_empty())
        .collect();
    if known.is_empty() {
        folders.push(name.trim_end_matches('/').to_owned());
    }
    folders.sort();
    folders.dedup();
    Ok(OfProject {
        ids: vec![id],
        folders,
    })
}

/// Returns what people call the rows of a table.
pub(crate) fn kind(table: &str) -> &'static str {
    match table {
        "context_messages" => "message",
        "context_sessions" => "session",
        "context_task_tracking" => "task",
        "context_checkpoints" => "checkpoint",
        "org_decisions" => "decision",
        "org_skill_learnings" => "learning",
        "org_error_solutions" => "error",
        "org_kg_nodes" => "commit",
        _ => "row",
    }
}

/// Returns what says in a line what a row is.
pub(crate) fn headline(table: &str, row: &Row) -> String {
    let columns: &[&str] = match table {
        "context_sessions" => &["title", "session_id"],
        "context_task_tracking" => &["description"],
        "context_checkpoints" => &["name"],
        "org_decisions" => &["title"],
        "org_skill_learnings" => &["skill_name", "learning"],
        "org_error_solutions" => &["error_pattern", "solution"],
        _ => &["content"],
    };
    let parts = columns.iter().map(|name| text(row, name));
    let mut parts = parts.filter(|part| !part.is_empty());
    if table == "context_sessions" {
        return parts.next().unwrap_or_default();
    }
    parts.collect::<Vec<_>>().join(" → ")
}

/// Returns who wrote it, for people.
pub(crate) fn author_label(store: &LocalStore, origin: &Origin) -> String {
    let own = store.owner_of_folder().map(|owner| owner.user.to_string());
    match &origin.user_id {
        Some(user) if Some(user) != own.as_ref() => format!("user {}", names::short_id(user)),
        _ => "you".to_owned(),
    }
}

/// Returns what told it, for people: the agent and its session, or that somebody wrote it down.
pub(crate) fn source_label(origin: &Origin) -> String {
    let session = origin.session_id.as_deref();
    let session: Option<String> = session.map(|id| id.chars().take(8).collect());
    match (&origin.agent, session) {
        (Some(agent), Some(session)) => format!("{agent} {session}"),
        (Some(agent), None) => agent.clone(),
        (None, Some(session)) => format!("session {session}"),
        (None, None) => "written down".to_owned(),
    }
}

/// Returns the last part of a project's name or folder: enough to tell it from others.
pub(crate) fn short_project(origin: &Origin) -> String {
    let project = origin.project.as_deref().unwrap_or("-");
    project
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(project)
        .to_owned()
}

/// Returns who sees a row, for people; nothing for its author alone.
pub(crate) fn scope_label(store: &LocalStore, scope: &str) -> String {
    match scope {
        LOCAL_USER => LOCAL_USER.to_owned(),
        other => names::scope_label(store, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_date_is_the_end_of_its_day() {
        let day = until("2026-02-28").unwrap();
        assert_eq!(day, "2026-03-01T00:00:00.000000Z");
        let exact = until("2026-02-28T10:00:00Z").unwrap();
        assert_eq!(exact, "2026-02-28T10:00:00.000000Z");
        assert!(until("soon").is_err());
    }

    #[test]
    fn authors_are_me_or_somebody_with_an_id() {
        assert_eq!(author("me"), Ok(Author::Own));
        assert_eq!(author("0198AB"), Ok(Author::User("0198ab".to_owned())));
        assert!(author("ab").is_err());
    }
}
