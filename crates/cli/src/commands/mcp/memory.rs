//! The local databases as the memory that agents ask.

use std::sync::{Mutex, MutexGuard};

use coditect_client::{Paths, SyncState};
use coditect_local_store::{Hit, LocalStore, RowFilter, RowView, SearchQuery};
use coditect_mcp::{
    ContextSource, Entry, Kind, NewRecord, Query, SourceError, Status, TaskQuery, TimelineQuery,
};
use coditect_protocol::catalogue::{File, Table, by_cloud_name};
use coditect_protocol::scope::LOCAL_USER;
use coditect_protocol::wire::Row;
use serde_json::Value;

use crate::clock;
use crate::commands::project;
use crate::commands::records::{self, text};
use crate::context::Context;
use crate::names;

/// Hits that are fetched for each one shown when they are filtered by time afterwards.
const SINCE_FACTOR: u32 = 20;
/// Rows of a table that a list looks at.
const ROWS_MAX: u32 = 2_000;
/// Shortest beginning of an id that is looked up.
const ID_CHARS_MIN: usize = 4;
/// Messages of a session that are shown, and the characters of each.
const MESSAGES_MAX: u32 = 1_000;
const MESSAGE_CHARS_MAX: usize = 4_000;
/// What a task that is done is called by the agents that we read.
const DONE: &[&str] = &["completed", "done", "deleted", "cancelled", "canceled"];

/// The databases of one profile, and the project of one folder.
pub(super) struct Memory {
    store: Mutex<LocalStore>,
    paths: Paths,
    linked: bool,
    project: Option<String>,
}

impl Memory {
    /// Opens the databases, making what is missing.
    pub(super) fn open(context: &Context) -> anyhow::Result<Self> {
        let store = context.store()?;
        let project = match context.folder() {
            Ok(folder) => project::of_path(&store, &folder)?,
            // A folder that went away is in no project.
            Err(_) => None,
        };
        Ok(Self {
            linked: store.owner_of_folder().is_some(),
            store: Mutex::new(store),
            paths: context.paths.clone(),
            project,
        })
    }

    fn store(&self) -> MutexGuard<'_, LocalStore> {
        // A call that panicked left no half-done statement: SQLite rolled it back.
        self.store
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn failed(error: impl std::fmt::Display) -> SourceError {
    SourceError::Failed(error.to_string())
}

const fn table_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Message => "context_messages",
        Kind::Decision => "org_decisions",
        Kind::Learning => "org_skill_learnings",
        Kind::Error => "org_error_solutions",
        Kind::Task => "context_task_tracking",
        Kind::Session => "context_sessions",
    }
}

fn kind_of(table: &str) -> Option<Kind> {
    let mut all = Kind::SEARCHED.into_iter();
    all.find(|kind| table_of(*kind) == table)
}

fn table(kind: Kind) -> Result<&'static Table, SourceError> {
    let name = table_of(kind);
    by_cloud_name(name).ok_or_else(|| failed(format!("there is no table {name}")))
}

/// Returns a time that compares with those of rows.
fn moment(given: Option<&str>) -> Result<Option<String>, SourceError> {
    let read = |text| {
        records::since(text).map_err(|_| {
            SourceError::Invalid(format!("'{text}' is no time; write 2026-02-03 or RFC 3339"))
        })
    };
    given.map(read).transpose()
}

/// Returns what is set, the first of the columns that is.
fn first(row: &Row, columns: &[&str]) -> Option<String> {
    let mut values = columns.iter().map(|name| text(row, name));
    values.find(|value| !value.is_empty())
}

/// What an entry is made from.
struct Found<'a> {
    kind: Kind,
    id: &'a str,
    scope: &'a str,
    user: Option<&'a str>,
    created: Option<&'a str>,
    row: &'a Row,
}

fn entry(store: &LocalStore, found: &Found<'_>, shown: String) -> Entry {
    let own = store.owner_of_folder().map(|owner| owner.user.to_string());
    let author = match (found.user, own) {
        (None, _) => "you".to_owned(),
        (Some(user), Some(own)) if user == own => "you".to_owned(),
        (Some(user), _) => format!("user {}", names::short_id(user)),
    };
    let row = found.row;
    Entry {
        kind: found.kind,
        id: found.id.to_owned(),
        time: first(row, &["timestamp", "end_time", "start_time"])
            .or_else(|| found.created.map(str::to_owned)),
        author: Some(author),
        scope: match found.scope {
            LOCAL_USER => LOCAL_USER.to_owned(),
            other => names::scope_label(store, other),
        },
        project: first(row, &["project_id", "project_path", "cwd"]),
        branch: first(row, &["git_branch"]),
        session: first(row, &["session_id"]),
        mark: first(
            row,
            &["status", "role", "language", "skill_name", "category"],
        ),
        text: shown,
    }
}

fn of_view(store: &LocalStore, kind: Kind, view: &RowView, shown: String) -> Entry {
    let found = Found {
        kind,
        id: view.id.as_deref().unwrap_or_default(),
        scope: &view.scope,
        user: view.user_id.as_deref(),
        created: view.created_at.as_deref(),
        row: &view.row,
    };
    entry(store, &found, shown)
}

fn of_hit(store: &LocalStore, kind: Kind, hit: &Hit) -> Entry {
    let found = Found {
        kind,
        id: &hit.id,
        scope: &hit.scope,
        user: hit.user_id.as_deref(),
        created: hit.created_at.as_deref(),
        row: &hit.row,
    };
    // What somebody concluded is short; of what was said only the place that was found is shown.
    let shown = match kind {
        Kind::Message => hit.snippet.clone(),
        kind => headline(kind, &hit.row),
    };
    entry(store, &found, shown)
}

/// Returns what says in a line what a row is.
fn headline(kind: Kind, row: &Row) -> String {
    let columns: &[&str] = match kind {
        Kind::Message => &["content"],
        Kind::Decision => &["title"],
        Kind::Learning => &["skill_name", "learning"],
        Kind::Error => &["error_pattern", "solution"],
        Kind::Task => &["description"],
        Kind::Session => &["title", "summary", "session_id"],
    };
    let parts: Vec<String> = columns.iter().map(|name| text(row, name)).collect();
    let mut parts = parts.into_iter().filter(|part| !part.is_empty());
    if kind == Kind::Session {
        return parts.next().unwrap_or_default();
    }
    parts.collect::<Vec<_>>().join(" → ")
}

/// Returns all that is known of a row, column by column.
fn details(kind: Kind, row: &Row) -> String {
    if kind == Kind::Message {
        return text(row, "content");
    }
    let lines = row.iter().map(|(name, value)| match value {
        Value::String(value) => format!("{name}: {value}"),
        value => format!("{name}: {value}"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns what was said in a session.
fn conversation(store: &LocalStore, session: &Row) -> Result<String, SourceError> {
    let id = text(session, "session_id");
    let filter = RowFilter {
        equals: vec![("session_id".to_owned(), id.into())],
        oldest_first: true,
        limit: MESSAGES_MAX,
        ..RowFilter::default()
    };
    let messages = store.list("context_messages", &filter).map_err(failed)?;
    let mut out = details(Kind::Session, session);
    for message in &messages {
        let content: String = text(&message.row, "content")
            .chars()
            .take(MESSAGE_CHARS_MAX)
            .collect();
        if !content.is_empty() {
            let (time, role) = (text(&message.row, "timestamp"), text(&message.row, "role"));
            out.push_str(&format!("\n\n[{time}] {role}: {content}"));
        }
    }
    Ok(out)
}

impl ContextSource for Memory {
    fn search(&self, query: &Query) -> Result<Vec<Entry>, SourceError> {
        let mut store = self.store();
        let since = moment(query.since.as_deref())?;
        let project = query.project.as_deref();
        let project = project.map(|name| project::named(&store, name));
        let wanted = SearchQuery {
            text: query.text.clone(),
            tables: query
                .kinds
                .iter()
                .map(|kind| table_of(*kind).to_owned())
                .collect(),
            project_id: project.transpose().map_err(failed)?,
            limit: match since {
                Some(_) => query.limit.saturating_mul(SINCE_FACTOR),
                None => query.limit,
            },
            ..SearchQuery::default()
        };
        let hits = store.search(&wanted, clock::now_ms()).map_err(failed)?;
        let entries = hits.iter().filter_map(|hit| {
            let entry = of_hit(&store, kind_of(hit.table)?, hit);
            let fits = since.is_none() || entry.time >= since;
            fits.then_some(entry)
        });
        Ok(entries.take(query.limit as usize).collect())
    }

    fn get(&self, id: &str) -> Result<Entry, SourceError> {
        let store = self.store();
        let id = id.trim();
        if id.chars().count() < ID_CHARS_MIN {
            let text = format!("'{id}' is too short for an id: {ID_CHARS_MIN} characters at least");
            return Err(SourceError::Invalid(text));
        }
        let mut found = Vec::new();
        for kind in Kind::SEARCHED.into_iter().chain([Kind::Session]) {
            let by_id = RowFilter {
                id_prefix: Some(id.to_owned()),
                limit: 2,
                ..RowFilter::default()
            };
            let mut rows = store.list(table_of(kind), &by_id).map_err(failed)?;
            if kind == Kind::Session && rows.is_empty() {
                // Agents know sessions by their own ids.
                let by_name = RowFilter {
                    equals: vec![("session_id".to_owned(), id.into())],
                    limit: 2,
                    ..RowFilter::default()
                };
                rows = store.list(table_of(kind), &by_name).map_err(failed)?;
            }
            found.extend(rows.into_iter().map(|row| (kind, row)));
        }
        match found.as_slice() {
            [] => Err(SourceError::NotFound(format!(
                "there is nothing with the id '{id}'"
            ))),
            [(kind, view)] => {
                let shown = match kind {
                    Kind::Session => conversation(&store, &view.row)?,
                    kind => details(*kind, &view.row),
                };
                Ok(of_view(&store, *kind, view, shown))
            }
            _ => Err(SourceError::NotFound(format!(
                "several ids begin with '{id}'; give more of it"
            ))),
        }
    }

    fn timeline(&self, query: &TimelineQuery) -> Result<Vec<Entry>, SourceError> {
        let store = self.store();
        let (since, until) = (
            moment(query.since.as_deref())?,
            moment(query.until.as_deref())?,
        );
        let project = query.project.as_deref();
        let project = project.map(|name| project::named(&store, name));
        let project = project.transpose().map_err(failed)?;
        let kinds: &[Kind] = match query.kinds.as_slice() {
            [] => &[Kind::Decision, Kind::Learning, Kind::Error, Kind::Session],
            kinds => kinds,
        };
        let mut entries = Vec::new();
        for kind in kinds {
            let mut filter = RowFilter {
                limit: ROWS_MAX,
                ..RowFilter::default()
            };
            match (&project, table(*kind)?.column("project_id")) {
                (Some(project), Some(_)) => {
                    filter.equals = vec![("project_id".to_owned(), project.as_str().into())];
                }
                (Some(_), None) => continue,
                (None, _) => {}
            }
            let rows = store.list(table_of(*kind), &filter).map_err(failed)?;
            entries.extend(rows.iter().filter_map(|view| {
                let entry = of_view(&store, *kind, view, headline(*kind, &view.row));
                let fits = (since.is_none() || entry.time >= since)
                    && (until.is_none() || entry.time <= until);
                fits.then_some(entry)
            }));
        }
        entries.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.id.cmp(&b.id)));
        entries.truncate(query.limit as usize);
        Ok(entries)
    }

    fn tasks(&self, query: &TaskQuery) -> Result<Vec<Entry>, SourceError> {
        let store = self.store();
        let mut filter = RowFilter {
            limit: ROWS_MAX,
            ..RowFilter::default()
        };
        if let Some(name) = &query.project {
            let id = project::named(&store, name).map_err(failed)?;
            filter.equals.push(("project_id".to_owned(), id.into()));
        }
        if let Some(status) = &query.status {
            let status = ("status".to_owned(), status.as_str().into());
            filter.equals.push(status);
        }
        let mut rows = store.list(table_of(Kind::Task), &filter).map_err(failed)?;
        rows.retain(|view| {
            query.status.is_some() || !DONE.contains(&text(&view.row, "status").as_str())
        });
        rows.sort_by(|a, b| {
            b.updated_at
                .cmp(&a.updated_at)
                .then_with(|| a.id.cmp(&b.id))
        });
        rows.truncate(query.limit as usize);
        let shown = rows.iter().map(|view| {
            let headline = headline(Kind::Task, &view.row);
            of_view(&store, Kind::Task, view, headline)
        });
        Ok(shown.collect())
    }

    fn record(&self, record: &NewRecord) -> Result<Entry, SourceError> {
        let (kind, fields) = match record {
            NewRecord::Decision {
                title,
                rationale,
                status,
            } => (
                Kind::Decision,
                vec![
                    ("title", Some(title.clone())),
                    ("rationale", rationale.clone()),
                    (
                        "status",
                        Some(status.clone().unwrap_or_else(|| "accepted".to_owned())),
                    ),
                ],
            ),
            NewRecord::Learning {
                skill,
                learning,
                category,
            } => (
                Kind::Learning,
                vec![
                    ("skill_name", Some(skill.clone())),
                    ("learning", Some(learning.clone())),
                    ("category", category.clone()),
                ],
            ),
            NewRecord::ErrorSolution {
                pattern,
                solution,
                language,
            } => (
                Kind::Error,
                vec![
                    ("error_pattern", Some(pattern.clone())),
                    ("solution", Some(solution.clone())),
                    ("language", language.clone()),
                ],
            ),
        };
        let fields = fields
            .into_iter()
            .chain([("project_id", self.project.clone())]);
        let row = fields.filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
        let mut store = self.store();
        let inserted = store.insert(table_of(kind), LOCAL_USER, row.collect(), clock::now_ms());
        let id = inserted.map_err(failed)?.to_string();
        let stored = store.get(table_of(kind), &id).map_err(failed)?;
        let view = stored.ok_or_else(|| failed("what was kept is gone again"))?;
        Ok(of_view(&store, kind, &view, headline(kind, &view.row)))
    }

    fn status(&self) -> Result<Status, SourceError> {
        let store = self.store();
        let (mut queued, mut parked, mut conflicts) = (0, 0, 0);
        for file in File::ALL {
            let state = store.queue_state(file).map_err(failed)?;
            queued += state.queued;
            parked += state.parked;
            conflicts += store.conflicts(file, false).map_err(failed)?.len() as u64;
        }
        Ok(Status {
            linked: self.linked,
            queued,
            parked,
            conflicts,
            last_sync_at: SyncState::load(&self.paths.state_file()).last_sync_at,
            project: self.project.clone(),
        })
    }
}
