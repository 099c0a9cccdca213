//! `coditect graph`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use clap::{Args, Subcommand};
use coditect_local_store::{LocalStore, RowFilter, RowView};
use coditect_protocol::catalogue::File;
use serde_json::{Value, json};

use super::records::{self, text};
use crate::clock;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::names;
use crate::table::{Table, grouped, one_line};

const NODES: &str = "org_kg_nodes";
const EDGES: &str = "org_kg_edges";
/// Edges of one node that are followed.
const EDGES_MAX: u32 = 1_000;
/// Nodes that are looked through for a name.
const NODES_MAX: u32 = 1_000_000;
/// Nodes that one answer holds.
const SHOWN_MAX: usize = 500;

const HELP: &str = "\
The graph says what belongs together: which session edited a file, made a commit, met an error,
worked on a task, decided something, and which fix solved which error. It grows while transcripts
are imported, without any model. `coditect node` and `coditect edge` add to it by hand.

Examples:
  coditect graph show                          how much there is of everything
  coditect graph show file:app/src/main.rs     who read and edited it
  coditect graph show commit:1a2b3c4 --depth 2
  coditect graph show 198393f2 --json          a session, by the beginning of its id
  coditect graph rebuild                       once more from everything that is stored";

const SHOW_HELP: &str = "\
NODE is an id, TYPE:KEY, or a part of a key or of a content that no other node has.

--json without NODE: {nodes {type: count}, edges {type: count}}; with it: {node, nodes [{id,
node_type, node_key, content, metadata, distance}], edges [{id, from_node, to_node, edge_type,
weight}]}.";

/// Shows what belongs together.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(crate) enum Graph {
    /// Show a node with what is around it, or how much there is
    #[command(after_help = SHOW_HELP)]
    Show(Show),
    /// Go through everything that is stored, and add what the graph lacks
    Rebuild(Rebuild),
}

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The node
    #[arg(value_name = "NODE")]
    node: Option<String>,
    /// Steps from it
    #[arg(long, default_value_t = 1, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=5))]
    depth: u32,
}

/// Goes through everything.
#[derive(Debug, Args)]
pub(crate) struct Rebuild {}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Graph) -> anyhow::Result<Exit> {
    match command {
        Graph::Show(show) => match &show.node {
            Some(name) => around(context, name, show.depth),
            None => count(context),
        },
        Graph::Rebuild(_) => rebuild(context),
    }
}

fn rebuild(context: &Context) -> anyhow::Result<Exit> {
    let mut store = context.adopted_store(&[File::Org, File::Sessions])?;
    let mut sessions = 0;
    let written = coditect_daemon::graph::rebuild(&mut store, clock::now_ms(), |done| {
        sessions = done;
    })?;
    let document = json!({"sessions": sessions, "nodes": written.nodes, "edges": written.edges});
    context.printer.either(&document, |printer| {
        printer.line(&format!(
            "{} sessions gone through, {} nodes and {} edges added",
            grouped(sessions),
            grouped(written.nodes),
            grouped(written.edges)
        ))
    })?;
    Ok(Exit::Ok)
}

fn count(context: &Context) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[File::Org])?;
    let of = |table: &str, column: &str| -> anyhow::Result<BTreeMap<String, u64>> {
        let filter = RowFilter {
            limit: NODES_MAX,
            ..RowFilter::default()
        };
        let mut counts = BTreeMap::new();
        for view in store.list(table, &filter)? {
            *counts.entry(text(&view.row, column)).or_default() += 1;
        }
        Ok(counts)
    };
    let (nodes, edges) = (of(NODES, "node_type")?, of(EDGES, "edge_type")?);
    let document = json!({"nodes": nodes, "edges": edges});
    context.printer.either(&document, |printer| {
        if nodes.is_empty() {
            printer.note("the graph is empty");
            printer.hint("coditect import claude; or coditect graph rebuild");
            return Ok(());
        }
        let mut table = Table::new(&["what", "#count", "type"]);
        for (what, counts) in [("nodes", &nodes), ("edges", &edges)] {
            for (kind, count) in counts {
                table.row([what.to_owned(), grouped(*count), kind.clone()]);
            }
        }
        table.print(printer)
    })?;
    Ok(Exit::Ok)
}

/// A part of the graph, by the distance from where it was looked from.
struct Part {
    nodes: Vec<(u32, RowView)>,
    edges: Vec<RowView>,
    is_whole: bool,
}

fn around(context: &Context, name: &str, depth: u32) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[File::Org])?;
    let start = node(&store, name)?;
    let part = part(&store, &start, depth)?;
    let documents = part.nodes.iter().map(|(distance, view)| {
        let mut document = records::document(view);
        document["distance"] = json!(distance);
        document
    });
    let document = json!({
        "node": start.id,
        "nodes": documents.collect::<Vec<Value>>(),
        "edges": part.edges.iter().map(records::document).collect::<Vec<_>>(),
    });
    context.printer.either(&document, |printer| {
        printer.line(&label(&start))?;
        let by_id: BTreeMap<&str, &RowView> = part
            .nodes
            .iter()
            .filter_map(|(_, view)| Some((view.id.as_deref()?, view)))
            .collect();
        let mut table = Table::new(&["from", "edge", "to"]);
        for edge in &part.edges {
            let end = |column: &str| {
                let id = text(&edge.row, column);
                by_id
                    .get(id.as_str())
                    .map_or(names::short_id(&id), |view| short(view))
            };
            table.row([
                end("from_node"),
                text(&edge.row, "edge_type"),
                end("to_node"),
            ]);
        }
        if !table.is_empty() {
            table.print(printer)?;
        }
        if !part.is_whole {
            printer.note(&format!("only the nearest {SHOWN_MAX} nodes are shown"));
        }
        Ok(())
    })?;
    Ok(Exit::Ok)
}

/// Returns the nodes and edges that are so many steps away, and the edges between them.
fn part(store: &LocalStore, start: &RowView, depth: u32) -> anyhow::Result<Part> {
    let mut part = Part {
        nodes: vec![(0, start.clone())],
        edges: Vec::new(),
        is_whole: true,
    };
    let first = start.id.clone().unwrap_or_default();
    let mut seen = BTreeSet::from([first.clone()]);
    let mut known_edges = BTreeSet::new();
    let mut left = VecDeque::from([(first, 0)]);
    while let Some((id, distance)) = left.pop_front() {
        if distance == depth {
            continue;
        }
        for (own, other) in [("from_node", "to_node"), ("to_node", "from_node")] {
            let filter = RowFilter {
                equals: vec![(own.to_owned(), id.as_str().into())],
                oldest_first: true,
                limit: EDGES_MAX,
                ..RowFilter::default()
            };
            for edge in store.list(EDGES, &filter)? {
                let far = text(&edge.row, other);
                if !seen.contains(&far) {
                    if part.nodes.len() >= SHOWN_MAX {
                        part.is_whole = false;
                        continue;
                    }
                    // The other end may be in a scope that is not followed any more.
                    let Some(view) = store.get(NODES, &far)? else {
                        continue;
                    };
                    seen.insert(far.clone());
                    part.nodes.push((distance + 1, view));
                    left.push_back((far, distance + 1));
                }
                if known_edges.insert(edge.id.clone()) {
                    part.edges.push(edge);
                }
            }
        }
    }
    Ok(part)
}

/// Returns the node that a person means.
fn node(store: &LocalStore, name: &str) -> anyhow::Result<RowView> {
    if let Some((kind, key)) = name.split_once(':') {
        let filter = RowFilter {
            equals: vec![
                ("node_type".to_owned(), kind.into()),
                ("node_key".to_owned(), key.into()),
            ],
            limit: 1,
            ..RowFilter::default()
        };
        if let Some(view) = store.list(NODES, &filter)?.into_iter().next() {
            return Ok(view);
        }
    }
    let filter = RowFilter {
        limit: NODES_MAX,
        ..RowFilter::default()
    };
    let all = store.list(NODES, &filter)?;
    let (kind, part) = match name.split_once(':') {
        Some((kind, part)) if all.iter().any(|view| text(&view.row, "node_type") == kind) => {
            (Some(kind), part)
        }
        _ => (None, name),
    };
    let low = part.to_lowercase();
    let fits: [&dyn Fn(&RowView) -> bool; 4] = [
        &|view| view.id.as_deref().is_some_and(|id| id.starts_with(&low)),
        &|view| text(&view.row, "node_key") == part,
        &|view| text(&view.row, "node_key").to_lowercase().contains(&low),
        &|view| text(&view.row, "content").to_lowercase().contains(&low),
    ];
    for fits in fits {
        let of_kind =
            |view: &&RowView| kind.is_none_or(|kind| text(&view.row, "node_type") == kind);
        let found: Vec<&RowView> = all
            .iter()
            .filter(of_kind)
            .filter(|view| fits(view))
            .collect();
        match found.as_slice() {
            [] => {}
            [one] => return Ok((*one).clone()),
            several => {
                let shown = several.iter().take(6).map(|view| short(view));
                let shown = shown.collect::<Vec<_>>().join(", ");
                let message = format!("'{name}' fits {} nodes: {shown}", several.len());
                let error = CommandError::new(Exit::NotFound, message);
                return Err(error.hint("give TYPE:KEY").into());
            }
        }
    }
    let error = CommandError::new(Exit::NotFound, format!("the graph knows no '{name}'"));
    Err(error
        .hint("coditect graph show; coditect graph rebuild")
        .into())
}

fn short(view: &RowView) -> String {
    let (kind, key) = (text(&view.row, "node_type"), text(&view.row, "node_key"));
    // A key that is a hash or an id says nothing; what the node says does.
    let content = text(&view.row, "content");
    match kind.as_str() {
        "file" => format!("{kind}:{key}"),
        "commit" => format!("{kind}:{key} {}", one_line(&content)),
        _ if content.is_empty() => format!("{kind}:{key}"),
        _ => {
            let words: String = one_line(&content).chars().take(60).collect();
            let key: String = key.chars().take(8).collect();
            format!("{kind}:{key} {words}")
        }
    }
}

fn label(view: &RowView) -> String {
    let (kind, key) = (text(&view.row, "node_type"), text(&view.row, "node_key"));
    let content = one_line(&text(&view.row, "content"));
    let id = view.id.as_deref().unwrap_or_default();
    format!("{kind}:{key}  {id}  {content}")
        .trim_end()
        .to_owned()
}
