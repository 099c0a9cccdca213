//! The local databases as the memory that agents ask.

use std::sync::{Mutex, MutexGuard};

use coditect_client::{Paths, SyncState};
use coditect_local_store::{
    self as store, Hit, LocalStore, Moment, Origin, RowFilter, RowView, SearchQuery, Which,
};
use coditect_mcp::{
    ContextSource, Entry, Filter, Kind, NewRecord, Query, SourceError, Status, TaskQuery,
    TimelineQuery,
};
use coditect_protocol::catalogue::{File, Table, by_cloud_name};
use coditect_protocol::scope::LOCAL_USER;
use coditect_protocol::wire::Row;
use serde_json::Value;

use crate::clock;
use crate::commands::project;
use crate::commands::recall::{self, Filters};
use crate::commands::records::{self, text};
use crate::context::{Context, take_in_spool};

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

    /// Returns the store with what hooks have said until now.
    fn store(&self) -> MutexGuard<'_, LocalStore> {
        // A call that panicked left no half-done statement: SQLite rolled it back.
        let mut store = self
            .store
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        take_in_spool(&self.paths, &mut store);
        store
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
        Kind::Commit => "org_kg_nodes",
    }
}

fn kind_of(table: &str) -> Option<Kind> {
    let mut all = Kind::ALL.into_iter();
    all.find(|kind| table_of(*kind) == table)
}

fn table(kind: Kind) -> Result<&'static Table, SourceError> {
    let name = table_of(kind);
    by_cloud_name(name).ok_or_else(|| failed(format!("there is no table {name}")))
}

/// Returns a time that compares with those of rows.
fn moment(
    given: Option<&str>,
    read: fn(&str) -> Result<String, String>,
) -> Result<Option<String>, SourceError> {
    let read = |text| {
        read(text).map_err(|_| {
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

/// Returns which rows a question means.
fn which(store: &LocalStore, filter: &Filter, role: Option<&str>) -> Result<Which, SourceError> {
    let filters = Filters {
        project: filter.project.clone(),
        session: filter.session.clone(),
        agent: filter.agent.clone(),
        author: match filter.author.as_deref() {
            None => None,
            Some(author) => Some(recall::author(author).map_err(SourceError::Invalid)?),
        },
        since: moment(filter.since.as_deref(), records::since)?,
        until: moment(filter.until.as_deref(), recall::until)?,
    };
    filters.which(store, role).map_err(failed)
}

fn of_moment(store: &LocalStore, moment: &Moment, shown: String) -> Option<Entry> {
    let kind = kind_of(moment.table)?;
    let id = moment.view.id.clone().unwrap_or_default();
    Some(entry(
        store,
        kind,
        id,
        &moment.view.scope,
        &moment.view.row,
        &moment.origin,
        shown,
    ))
}

fn entry(
    store: &LocalStore,
    kind: Kind,
    id: String,
    scope: &str,
    row: &Row,
    origin: &Origin,
    shown: String,
) -> Entry {
    let told = origin.agent.is_some() || origin.session_id.is_some();
    Entry {
        kind,
        id,
        time: origin.time.clone(),
        source: told.then(|| recall::source_label(origin)),
        author: Some(recall::author_label(store, origin)),
        scope: recall::scope_label(store, scope),
        project: origin.project.clone(),
        branch: origin.branch.clone(),
        session: origin.session_id.clone(),
        mark: first(
            row,
            &["status", "role", "language", "skill_name", "category"],
        ),
        text: shown,
    }
}

fn of_view(
    store: &LocalStore,
    kind: Kind,
    view: &RowView,
    shown: String,
) -> Result<Entry, SourceError> {
    let moment = store.moment(table(kind)?, view.clone()).map_err(failed)?;
    let entry = of_moment(store, &moment, shown);
    entry.ok_or_else(|| failed("there is no such kind"))
}

fn of_hit(store: &LocalStore, kind: Kind, hit: &Hit) -> Entry {
    // What somebody concluded is short; of what was said only the place that was found is shown.
    let shown = match kind {
        Kind::Message => hit.snippet.clone(),
        _ => recall::headline(hit.table, &hit.row),
    };
    entry(
        store,
        kind,
        hit.id.clone(),
        &hit.scope,
        &hit.row,
        &hit.origin,
        shown,
    )
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

/// Returns what has an id that begins so, whatever it is.
fn by_id(store: &LocalStore, id: &str) -> Result<Vec<(Kind, RowView)>, SourceError> {
    let mut found = Vec::new();
    for kind in Kind::ALL {
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
        // The graph knows files and tools as well, which are nothing to read.
        rows.retain(|view| kind != Kind::Commit || text(&view.row, "node_type") == "commit");
        found.extend(rows.into_iter().map(|row| (kind, row)));
    }
    Ok(found)
}

/// Returns the time that a time or an id stands for.
fn time_of(store: &LocalStore, given: &str) -> Result<String, SourceError> {
    if let Ok(time) = records::since(given)
        && !time.is_empty()
    {
        return Ok(time);
    }
    let (kind, view) = by_id(store, given)?
        .into_iter()
        .next()
        .ok_or_else(|| SourceError::NotFound(format!("'{given}' is no time and no id")))?;
    let moment = store.moment(table(kind)?, view).map_err(failed)?;
    let time = moment.origin.time;
    time.ok_or_else(|| SourceError::NotFound(format!("nobody knows when '{given}' was")))
}

impl ContextSource for Memory {
    fn search(&self, query: &Query) -> Result<Vec<Entry>, SourceError> {
        let mut store = self.store();
        let tables = query.kinds.iter().map(|kind| table_of(*kind).to_owned());
        let wanted = SearchQuery {
            text: query.text.clone(),
            tables: tables.collect(),
            which: which(&store, &query.filter, query.role.as_deref())?,
            limit: query.limit,
        };
        let hits = store.search(&wanted, clock::now_ms()).map_err(failed)?;
        let entries = hits
            .iter()
            .filter_map(|hit| Some(of_hit(&store, kind_of(hit.table)?, hit)));
        Ok(entries.collect())
    }

    fn get(&self, id: &str) -> Result<Entry, SourceError> {
        let store = self.store();
        let id = id.trim();
        if id.chars().count() < ID_CHARS_MIN {
            let text = format!("'{id}' is too short for an id: {ID_CHARS_MIN} characters at least");
            return Err(SourceError::Invalid(text));
        }
        let found = by_id(&store, id)?;
        match found.as_slice() {
            [] => Err(SourceError::NotFound(format!(
                "there is nothing with the id '{id}'"
            ))),
            [(kind, view)] => {
                let shown = match kind {
                    Kind::Session => conversation(&store, &view.row)?,
                    kind => details(*kind, &view.row),
                };
                of_view(&store, *kind, view, shown)
            }
            _ => Err(SourceError::NotFound(format!(
                "several ids begin with '{id}'; give more of it"
            ))),
        }
    }

    fn timeline(&self, query: &TimelineQuery) -> Result<Vec<Entry>, SourceError> {
        let store = self.store();
        let kinds: &[Kind] = match query.kinds.as_slice() {
            [] => &[
                Kind::Decision,
                Kind::Learning,
                Kind::Error,
                Kind::Session,
                Kind::Commit,
            ],
            kinds => kinds,
        };
        let around = match query.around.as_deref() {
            None => None,
            Some(given) => Some(time_of(&store, given)?),
        };
        let wanted = store::TimelineQuery {
            tables: kinds
                .iter()
                .map(|kind| table_of(*kind).to_owned())
                .collect(),
            which: which(&store, &query.filter, None)?,
            around,
            limit: query.limit,
        };
        let moments = store.timeline(&wanted).map_err(failed)?;
        let entries = moments.iter().filter_map(|moment| {
            let shown = recall::headline(moment.table, &moment.view.row);
            of_moment(&store, moment, shown)
        });
        Ok(entries.collect())
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
            let headline = recall::headline(table_of(Kind::Task), &view.row);
            of_view(&store, Kind::Task, view, headline)
        });
        shown.collect()
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
        of_view(
            &store,
            kind,
            &view,
            recall::headline(table_of(kind), &view.row),
        )
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
