//! What belongs together, by what transcripts say: the knowledge graph's nodes and edges, found
//! without any model. Every session gives the same ones on every device.

use std::collections::{BTreeMap, BTreeSet};

use coditect_core::hex::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Longest content of a node, in characters.
const CONTENT_CHARS_MAX: usize = 300;
/// Lines of one result that are looked at for commits.
const LINES_MAX: usize = 2_000;
/// Files that one patch may name.
const PATCH_FILES_MAX: usize = 200;

/// Type and key of a node.
pub type NodeKey = (&'static str, String);

/// A node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// What it says.
    pub content: Option<String>,
    /// What else is known.
    pub metadata: Option<Value>,
}

/// Nodes by type and key, and edges between them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// Nodes.
    pub nodes: BTreeMap<NodeKey, Node>,
    /// From, type, to.
    pub edges: BTreeSet<(NodeKey, &'static str, NodeKey)>,
}

/// Where a session was.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The agent's own id.
    pub session_id: &'a str,
    /// Folder that it began in.
    pub project_path: Option<&'a str>,
}

impl Graph {
    /// Returns whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.edges.is_empty()
    }

    /// Adds a node; one that is there keeps what it says.
    pub fn node(
        &mut self,
        kind: &'static str,
        key: &str,
        content: Option<&str>,
        metadata: Option<Value>,
    ) -> NodeKey {
        let id = (kind, key.to_owned());
        let node = self.nodes.entry(id.clone()).or_default();
        node.content = node.content.take().or_else(|| content.map(clip));
        node.metadata = node.metadata.take().or(metadata);
        id
    }

    /// Adds an edge.
    pub fn edge(&mut self, from: &NodeKey, kind: &'static str, to: &NodeKey) {
        self.edges.insert((from.clone(), kind, to.clone()));
    }

    /// Adds a session, by its title.
    pub fn session(
        &mut self,
        place: &Place<'_>,
        title: Option<&str>,
        agent: Option<&str>,
    ) -> NodeKey {
        let metadata = agent.map(|agent| json!({ "agent": agent }));
        self.node("session", place.session_id, title, metadata)
    }

    /// Adds a task of a session.
    pub fn task(&mut self, place: &Place<'_>, task_id: &str, description: Option<&str>) {
        let session = self.node("session", place.session_id, None, None);
        let key = format!("{}/{task_id}", place.session_id);
        let task = self.node("task", &key, description, None);
        self.edge(&session, "worked_on", &task);
    }

    /// Adds what the blocks of one message tell: files that were read or changed, commits,
    /// errors.
    pub fn message(&mut self, place: &Place<'_>, blocks: &Value, at: Option<&str>) {
        for block in blocks.as_array().into_iter().flatten() {
            let text = |key: &str| block.get(key).and_then(Value::as_str).unwrap_or("");
            match text("type") {
                "tool_use" => self.call(place, text("name"), block.get("input")),
                "tool_result" => {
                    let said = result_text(block.get("content"));
                    if block.get("is_error").and_then(Value::as_bool) == Some(true) {
                        self.error(place, &said);
                    } else {
                        self.commits(place, &said, at);
                    }
                }
                _ => {}
            }
        }
    }

    fn call(&mut self, place: &Place<'_>, tool: &str, input: Option<&Value>) {
        let Some(input) = input else { return };
        let kind = match tool {
            "Edit" | "Write" | "MultiEdit" | "NotebookEdit" | "write_file" | "replace" => "edited",
            "Read" | "NotebookRead" | "read_file" => "read",
            "apply_patch" => return self.patch(place, input),
            _ => return,
        };
        let names = ["file_path", "notebook_path", "absolute_path", "path"];
        let path = names.iter().find_map(|name| input.get(name)?.as_str());
        if let Some(path) = path {
            self.file(place, kind, path);
        }
    }

    /// A patch of Codex names its files in lines of its own.
    fn patch(&mut self, place: &Place<'_>, input: &Value) {
        let text = match input {
            Value::String(text) => text.as_str(),
            other => ["input", "patch"]
                .iter()
                .find_map(|name| other.get(name)?.as_str())
                .unwrap_or(""),
        };
        let heads = ["*** Update File: ", "*** Add File: ", "*** Delete File: "];
        let named = text
            .lines()
            .filter_map(|line| heads.iter().find_map(|head| line.strip_prefix(head)));
        for path in named.take(PATCH_FILES_MAX) {
            self.file(place, "edited", path.trim());
        }
    }

    fn file(&mut self, place: &Place<'_>, kind: &'static str, path: &str) {
        if path.is_empty() || path.chars().count() > CONTENT_CHARS_MAX {
            return;
        }
        let session = self.node("session", place.session_id, None, None);
        let file = self.node("file", &file_key(place, path), None, None);
        self.edge(&session, kind, &file);
    }

    fn error(&mut self, place: &Place<'_>, said: &str) {
        let Some(line) = telling_line(said) else {
            return;
        };
        let line = clip(line);
        let session = self.node("session", place.session_id, None, None);
        let error = self.node("error", &error_key(&line), Some(&line), None);
        self.edge(&session, "met", &error);
    }

    fn commits(&mut self, place: &Place<'_>, said: &str, at: Option<&str>) {
        if !said.contains('[') {
            return;
        }
        for (branch, hash, subject) in said.lines().take(LINES_MAX).filter_map(commit) {
            let session = self.node("session", place.session_id, None, None);
            let metadata = json!({"at": at, "branch": branch, "session_id": place.session_id});
            let commit = self.node("commit", hash, Some(subject), Some(metadata));
            self.edge(&session, "committed", &commit);
        }
    }
}

/// Returns what a file is known by on every machine: below the session's folder, the folder's
/// name and the way from there.
fn file_key(place: &Place<'_>, path: &str) -> String {
    let Some(root) = place.project_path.map(|root| root.trim_end_matches('/')) else {
        return path.to_owned();
    };
    let name = root.rsplit('/').next().unwrap_or("");
    let below = path
        .strip_prefix(root)
        .and_then(|rest| rest.strip_prefix('/'));
    match below {
        Some(below) if !name.is_empty() => format!("{name}/{below}"),
        None if !path.starts_with('/') && !name.is_empty() => {
            format!("{name}/{}", path.trim_start_matches("./"))
        }
        _ => path.to_owned(),
    }
}

/// Reads the line that git prints for a new commit: `[main 1a2b3c4] subject`.
pub(crate) fn commit(line: &str) -> Option<(&str, &str, &str)> {
    let (head, subject) = line.strip_prefix('[')?.split_once("] ")?;
    let (branch, hash) = head.rsplit_once(' ')?;
    let branch = branch.strip_suffix(" (root-commit)").unwrap_or(branch);
    let is_hash = (7..=40).contains(&hash.len())
        && hash
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_branch = branch == "detached HEAD" || !branch.is_empty() && !branch.contains(' ');
    (is_hash && is_branch && !subject.trim().is_empty()).then_some((branch, hash, subject.trim()))
}

/// Returns the first line of an error that says something. What a person refused is no error.
fn telling_line(said: &str) -> Option<&str> {
    let lines = said.lines().map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("<tool_use_error>").unwrap_or(line);
        line.strip_suffix("</tool_use_error>")
            .unwrap_or(line)
            .trim()
    });
    let mut telling = lines.filter(|line| !line.is_empty() && !line.starts_with("Exit code"));
    let first = telling.next()?;
    let refused = first.starts_with("The user doesn't want")
        || first.starts_with("[Request interrupted")
        || first.starts_with("Permission to use");
    (!refused).then_some(first)
}

/// Returns what an error is known by: its line without numbers, which differ from time to time.
fn error_key(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    for c in line.chars() {
        let c = if c.is_ascii_digit() { '#' } else { c };
        if c != '#' || !plain.ends_with('#') {
            plain.push(c);
        }
    }
    hex(&Sha256::digest(plain.as_bytes())[..12])
}

fn result_text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) => {
            let texts = blocks
                .iter()
                .filter_map(|block| block.get("text")?.as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

fn clip(text: &str) -> String {
    text.chars().take(CONTENT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place {
        session_id: "s",
        project_path: Some("/home/ann/app"),
    };

    fn edges(graph: &Graph) -> Vec<String> {
        let edge = |(from, kind, to): &(NodeKey, &str, NodeKey)| {
            format!("{} {kind} {}:{}", from.0, to.0, to.1)
        };
        graph.edges.iter().map(edge).collect()
    }

    #[test]
    fn calls_name_files_commits_and_errors() {
        let mut graph = Graph::default();
        let blocks = json!([
            {"type": "tool_use", "name": "Edit", "input": {"file_path": "/home/ann/app/src/a.rs"}},
            {"type": "tool_use", "name": "Read", "input": {"file_path": "/etc/hosts"}},
            {"type": "tool_use", "name": "Bash", "input": {"command": "git commit"}},
            {"type": "tool_use", "name": "apply_patch",
                "input": {"input": "*** Begin Patch\n*** Update File: src/b.rs\n+x"}},
            {"type": "tool_result", "content": "[main 1a2b3c4] mend it\n 1 file changed"},
            {"type": "tool_result", "is_error": true,
                "content": [{"type": "text", "text": "Exit code 2\nno such file: 17"}]},
        ]);
        graph.message(&PLACE, &blocks, Some("2026-02-03T03:51:03.000000Z"));
        let error = error_key("no such file: 99");
        let mut expected = vec![
            "session committed commit:1a2b3c4".to_owned(),
            "session edited file:app/src/a.rs".to_owned(),
            "session edited file:app/src/b.rs".to_owned(),
            format!("session met error:{error}"),
            "session read file:/etc/hosts".to_owned(),
        ];
        expected.sort();
        assert_eq!(edges(&graph), expected);
        let commit = &graph.nodes[&("commit", "1a2b3c4".to_owned())];
        assert_eq!(commit.content.as_deref(), Some("mend it"));
        let again = graph.clone();
        graph.message(&PLACE, &blocks, Some("2026-02-03T03:51:09.000000Z"));
        assert_eq!(graph, again, "the same told twice is the same");
    }

    #[test]
    fn what_only_looks_like_a_commit_or_an_error_is_none() {
        for line in [
            "[INFO] started",
            "[main nothash] x",
            "[a b 1a2b3c4] x",
            "x [main 1a2b3c4] y",
        ] {
            assert_eq!(commit(line), None, "{line}");
        }
        let first = commit("[main (root-commit) 1a2b3c4] begin");
        assert_eq!(first, Some(("main", "1a2b3c4", "begin")));
        assert_eq!(telling_line("The user doesn't want to proceed"), None);
        assert_eq!(telling_line("Exit code 1\n\n"), None);
        let wrapped = telling_line("<tool_use_error>File not found</tool_use_error>");
        assert_eq!(wrapped, Some("File not found"));
    }
}
