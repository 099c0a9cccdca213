//! Keeps the knowledge graph of org.db: what transcripts tell goes in while they are imported,
//! what people write down beside it, and all of it once more from the stored rows when asked.

use std::collections::HashSet;

use coditect_capture::graph::{Graph, Node, NodeKey, Place};
use coditect_core::hash;
use coditect_local_store::{ImportState, LocalStore, Result, RowFilter, RowView};
use coditect_protocol::RowId;
use coditect_protocol::catalogue::{File, by_cloud_name};
use coditect_protocol::wire::Row;
use serde_json::{Value, json};

/// Nodes and edges stored in one transaction.
const ROWS_PER_WRITE: usize = 200;
/// Records of people that are looked at in one go, and errors that a fix is compared with.
const RECORDS_MAX: u32 = 5_000;
/// Messages of a session that are read at a time.
const MESSAGES_PER_READ: u32 = 500;
/// Sessions that are gone through.
const SESSIONS_MAX: u32 = 1_000_000;
/// Shortest pattern of an error that is looked for in others.
const PATTERN_CHARS_MIN: usize = 8;
/// Key of the note how far people's records were taken in.
const NOTE: &str = "graph:records";

const NODES: &str = "org_kg_nodes";
const EDGES: &str = "org_kg_edges";

/// What was stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Nodes that are new or say something else now.
    pub nodes: u64,
    /// Edges that are new.
    pub edges: u64,
}

/// Writes graphs, and remembers what it wrote.
#[derive(Debug, Default)]
pub struct Writer {
    known: HashSet<RowId>,
    /// What was written so far.
    pub written: Written,
}

enum Entry {
    Node(RowId, Row),
    Edge(RowId, Row),
}

impl Writer {
    /// Stores what a graph has and the store lacks. Storing again changes nothing.
    ///
    /// # Errors
    /// When the store fails; what was stored before stays.
    pub fn store(&mut self, store: &mut LocalStore, graph: &Graph, now_ms: i64) -> Result<()> {
        let device = store.device();
        let (Some(nodes), Some(edges)) = (by_cloud_name(NODES), by_cloud_name(EDGES)) else {
            return Ok(());
        };
        let node_id = |key: &NodeKey| {
            let row = key_row(key);
            hash::derived_id(nodes, &row, device).ok().flatten()
        };
        let mut entries = Vec::new();
        for (key, node) in &graph.nodes {
            let Some(id) = node_id(key) else { continue };
            // A title may have changed; everything else is as it was.
            if node.content.is_some() || !self.known.contains(&id) {
                entries.push(Entry::Node(id, node_row(key, node)));
            }
        }
        for (from, kind, to) in &graph.edges {
            let (Some(from), Some(to)) = (node_id(from), node_id(to)) else {
                continue;
            };
            let (from, to) = (from.to_string(), to.to_string());
            let id = hash::named_id(edges, &[&from, &to, kind]);
            if !self.known.contains(&id) {
                let row = json!({"from_node": from, "to_node": to, "edge_type": kind,
                    "weight": 1.0});
                entries.push(Entry::Edge(
                    id,
                    row.as_object().cloned().unwrap_or_default(),
                ));
            }
        }
        for part in entries.chunks(ROWS_PER_WRITE) {
            let (written, _) = store.record(File::Org, now_ms, |recording| {
                let mut written = Written::default();
                for entry in part {
                    match entry {
                        Entry::Node(_, row) => {
                            let stored = recording.stored(NODES, row)?;
                            let Some(row) = news(row, stored.as_ref()) else {
                                continue;
                            };
                            recording.put(NODES, row)?;
                            written.nodes += 1;
                        }
                        Entry::Edge(id, row) => {
                            let is_new = recording.put_as(EDGES, *id, row.clone())?;
                            written.edges += u64::from(is_new);
                        }
                    }
                }
                Ok(written)
            })?;
            self.written.nodes += written.nodes;
            self.written.edges += written.edges;
            self.known.extend(part.iter().map(|entry| match entry {
                Entry::Node(id, _) | Entry::Edge(id, _) => *id,
            }));
        }
        Ok(())
    }

    /// Takes in decisions and fixes that people and agents wrote down since the last time.
    ///
    /// # Errors
    /// When the store fails.
    pub fn records(&mut self, store: &mut LocalStore, all: bool, now_ms: i64) -> Result<()> {
        let note = store.import_state(NOTE)?;
        let since = note.and_then(|note| Some(note.state.get("updated_at")?.as_str()?.to_owned()));
        let since = since.filter(|_| !all).unwrap_or_default();
        let mut newest = since.clone();
        let mut fresh = |rows: Vec<RowView>| -> Vec<RowView> {
            let mut rows = rows;
            rows.retain(|view| view.updated_at.as_deref().unwrap_or("") > since.as_str());
            for view in &rows {
                let at = view.updated_at.clone().unwrap_or_default();
                newest = newest.clone().max(at);
            }
            rows
        };
        let filter = RowFilter {
            limit: RECORDS_MAX,
            ..RowFilter::default()
        };
        let decisions = fresh(store.list("org_decisions", &filter)?);
        let fixes = fresh(store.list("org_error_solutions", &filter)?);
        if decisions.is_empty() && fixes.is_empty() {
            return Ok(());
        }
        let mut graph = Graph::default();
        for view in &decisions {
            let id = view.id.as_deref().unwrap_or_default();
            let decision = graph.node("decision", id, text(&view.row, "title"), None);
            link_session(&mut graph, &decision, "decided", &view.row);
        }
        let errors = RowFilter {
            equals: vec![("node_type".to_owned(), "error".into())],
            ..filter
        };
        let errors = if fixes.is_empty() {
            Vec::new()
        } else {
            store.list(NODES, &errors)?
        };
        for view in &fixes {
            let id = view.id.as_deref().unwrap_or_default();
            let fix = graph.node("solution", id, text(&view.row, "solution"), None);
            link_session(&mut graph, &fix, "solved", &view.row);
            let pattern = text(&view.row, "error_pattern")
                .unwrap_or("")
                .to_lowercase();
            if pattern.chars().count() < PATTERN_CHARS_MIN {
                continue;
            }
            for error in &errors {
                let said = text(&error.row, "content").unwrap_or("").to_lowercase();
                if said.contains(&pattern) {
                    let key = text(&error.row, "node_key").unwrap_or_default();
                    let error = graph.node("error", key, None, None);
                    graph.edge(&error, "solved_by", &fix);
                }
            }
        }
        self.store(store, &graph, now_ms)?;
        let state = ImportState {
            source: NOTE.to_owned(),
            state: json!({ "updated_at": newest }),
            ..ImportState::default()
        };
        store.ingest(File::Sessions, Vec::new(), Some(&state), now_ms)?;
        Ok(())
    }
}

/// Goes through all stored sessions, tasks, decisions and fixes, and stores what the graph lacks.
/// Nothing is removed. `observe` is told after every session how many there were.
///
/// # Errors
/// When the store fails; what was stored stays, and doing it again is harmless.
pub fn rebuild(
    store: &mut LocalStore,
    now_ms: i64,
    mut observe: impl FnMut(u64),
) -> Result<Written> {
    let mut writer = Writer::default();
    let filter = RowFilter {
        limit: SESSIONS_MAX,
        oldest_first: true,
        ..RowFilter::default()
    };
    for (at, session) in store.list("context_sessions", &filter)?.iter().enumerate() {
        let Some(session_id) = text(&session.row, "session_id") else {
            continue;
        };
        let place = Place {
            session_id,
            project_path: text(&session.row, "project_path"),
        };
        let mut graph = Graph::default();
        let (title, agent) = (text(&session.row, "title"), text(&session.row, "agent"));
        graph.session(&place, title, agent);
        let mut part = RowFilter {
            equals: vec![("session_id".to_owned(), session_id.into())],
            oldest_first: true,
            limit: MESSAGES_PER_READ,
            ..RowFilter::default()
        };
        for task in store.list(
            "context_task_tracking",
            &RowFilter {
                limit: RECORDS_MAX,
                ..part.clone()
            },
        )? {
            if let Some(id) = text(&task.row, "task_id") {
                graph.task(&place, id, text(&task.row, "description"));
            }
        }
        loop {
            let messages = store.list("context_messages", &part)?;
            for message in &messages {
                let blocks = message.row.get("content_blocks").unwrap_or(&Value::Null);
                graph.message(&place, blocks, text(&message.row, "timestamp"));
            }
            if messages.len() < MESSAGES_PER_READ as usize {
                break;
            }
            part.offset += MESSAGES_PER_READ;
        }
        writer.store(store, &graph, now_ms)?;
        observe(at as u64 + 1);
    }
    writer.records(store, true, now_ms)?;
    Ok(writer.written)
}

fn text<'a>(row: &'a Row, column: &str) -> Option<&'a str> {
    row.get(column)?.as_str().filter(|text| !text.is_empty())
}

fn link_session(graph: &mut Graph, to: &NodeKey, kind: &'static str, row: &Row) {
    if let Some(session) = text(row, "session_id") {
        let session = graph.node("session", session, None, None);
        graph.edge(&session, kind, to);
    }
}

fn key_row((kind, key): &NodeKey) -> Row {
    let row = json!({"node_type": kind, "node_key": key});
    row.as_object().cloned().unwrap_or_default()
}

fn node_row(key: &NodeKey, node: &Node) -> Row {
    let mut row = key_row(key);
    let content = node.content.clone().map(Value::String);
    for (name, value) in [("content", content), ("metadata", node.metadata.clone())] {
        if let Some(value) = value {
            row.insert(name.to_owned(), value);
        }
    }
    row
}

/// Returns what a node has to say that is not stored yet. A session's and a task's words follow
/// the transcript; of everything else the first ones stay.
fn news(row: &Row, stored: Option<&Row>) -> Option<Row> {
    let Some(stored) = stored else {
        return Some(row.clone());
    };
    let follows = matches!(
        text(row, "node_type"),
        Some("session" | "task" | "decision" | "solution")
    );
    let is_news = |name: &str| {
        let given = row.get(name);
        given.is_some() && (stored.get(name).is_none() || follows && given != stored.get(name))
    };
    let names: Vec<&str> = ["content", "metadata"]
        .into_iter()
        .filter(|name| is_news(name))
        .collect();
    if names.is_empty() {
        return None;
    }
    let mut fresh = row.clone();
    fresh.retain(|name, _| name.starts_with("node_") || names.contains(&name.as_str()));
    Some(fresh)
}
