//! What must be remembered about a file between two readings. Kept as JSON by the importer.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::format::Format;
use crate::rows::{Activity, SessionRow, TaskRow};

/// Records that late summaries may still refer to.
pub(super) const RECENT_LEAVES_MAX: usize = 64;
/// Early summaries that wait for their message.
pub(super) const SUMMARIES_MAX: usize = 256;
/// Results that wait for their call, per session.
pub(super) const ORPHANS_MAX: usize = 512;

/// State of one transcript file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileState {
    /// Path, as the importer names it.
    pub path: String,
    /// What its bytes are.
    pub format: Format,
    /// Inode, where the system has them.
    pub inode: Option<u64>,
    /// Size when it was last read, in bytes.
    pub size: u64,
    /// Time of the last change when it was last read, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// Bytes that were read and need not be read again: the end of the last whole line.
    pub offset: u64,
    /// SHA-256 of the bytes before `offset`, in hexadecimal; empty at 0.
    pub prefix_sha256: String,
    /// Whole lines before `offset`.
    pub line: u64,
    /// Messages before `offset`.
    pub messages: u64,
    /// Records without an id: how often (session, role, content) occurred.
    pub ordinals: BTreeMap<String, u64>,
    /// What is known about each session in the file.
    pub sessions: BTreeMap<String, SessionState>,
    /// Bytes of the line before `offset` that is too long to be read and has not ended.
    pub long_line_bytes: u64,
    /// What only Codex needs.
    pub(crate) codex: crate::codex::Memory,
    /// The session that a Gemini file is about, as its first record says.
    pub(crate) gemini_session: Option<String>,
    /// The last records, newest last: (uuid, session).
    pub(super) recent_leaves: VecDeque<(String, String)>,
    /// Summaries whose message has not come: uuid to title.
    pub(super) waiting_summaries: BTreeMap<String, String>,
}

/// State of one session within a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionState {
    /// The session's row so far.
    pub row: SessionRow,
    /// Tasks by id.
    pub tasks: BTreeMap<String, TaskRow>,
    /// The list that each agent (empty = the main one) wrote last.
    pub(super) lists: BTreeMap<String, Vec<ListItem>>,
    /// Calls without a result, by their id.
    pub(super) open_tools: BTreeMap<String, OpenTool>,
    /// Results without a call, by the call's id.
    pub(super) orphan_results: BTreeMap<String, ToolResult>,
}

/// An item of a to-do list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ListItem {
    pub(super) task_id: String,
    pub(super) text: String,
    pub(super) source_id: Option<String>,
}

/// A call that waits for its result.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct OpenTool {
    pub(super) name: String,
    pub(super) message_id: String,
    pub(super) agent_id: Option<String>,
    pub(super) timestamp: Option<String>,
    pub(super) input_bytes: u64,
    /// Kept only for the task tools.
    pub(super) input: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) component: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) activity: Option<Activity>,
    /// Whether its result may tell about a commit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) may_commit: bool,
}

/// What is kept of a result.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ToolResult {
    pub(super) is_error: bool,
    pub(super) error: Option<String>,
    pub(super) timestamp: Option<String>,
    pub(super) output_bytes: u64,
    pub(super) duration_ms: Option<u64>,
}

impl FileState {
    /// Returns the state of a file that was never read.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }

    /// Returns the number of calls that wait for a result.
    pub fn open_tools(&self) -> usize {
        self.sessions
            .values()
            .map(|session| session.open_tools.len())
            .sum()
    }

    /// Returns the state of a file of some format that was never read.
    pub fn of_format(path: impl Into<String>, format: Format) -> Self {
        Self {
            format,
            ..Self::new(path)
        }
    }

    /// Returns the name of the file without folders and ending.
    pub(crate) fn stem(&self) -> &str {
        let name = self.file_name();
        let endings = [".jsonl", ".json", ".txt", ".md"];
        endings
            .iter()
            .find_map(|ending| name.strip_suffix(ending))
            .unwrap_or(name)
    }

    /// Returns the name of the file without folders.
    pub(crate) fn file_name(&self) -> &str {
        self.path.rsplit(['/', '\\']).next().unwrap_or("")
    }
}
