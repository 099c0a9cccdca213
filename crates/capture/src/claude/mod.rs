//! Claude Code transcripts: JSON lines below `<agent's folder>/projects`.
//!
//! Owns the format and its oddities. The parser is pure: bytes and the state of the file in, rows
//! out; in whatever pieces a file is fed, the rows joined are the same. The format belongs to its
//! vendor and changes, so nothing unknown is an error: it is counted, or named as damaged.
//!
//! An importer stores a [`Chunk`] and the [`FileState`] after it in one transaction, so:
//!
//! - messages, tool calls, task links: facts. Insert; what is there stays. A call or a token row
//!   whose `message_id` is stored under another session comes from a fork and is left out.
//! - tokens: numbers by maximum, other columns only where they are NULL.
//! - sessions: [`crate::rows::SessionRow::merge`]; the message count from the stored messages.
//! - tasks: [`crate::rows::TaskRow::merge`]; a stored row whose `metadata.changed_at` is later
//!   keeps its status. Only tasks that the piece changed are returned, so that reading on does
//!   not undo what a person has edited since.
//! - summaries: a title for the session of the message they name, if that message is stored.
//!
//! [`RowSet`] does the same in memory. After several files, [`pair_open_tools`] joins calls and
//! results that were cut apart.

mod activity;
pub(crate) mod chunk;
mod discover;
pub(crate) mod lines;
pub(crate) mod message;
pub(crate) mod parser;
mod reader;
pub(crate) mod record;
mod render;
mod rowset;
pub(crate) mod session;
mod state;
mod task_memory;
mod tasks;
mod tools;
mod usage;

pub(crate) use activity::{component, uses_component};
pub use chunk::{Chunk, DamagedLine, Summary};
pub use discover::{Discovered, discover, discover_all};
pub(crate) use discover::{OTHER_FOLDERS, find_below};
pub use parser::{Parser, Rewritten};
pub use reader::{ReadError, TranscriptReader};
pub use rowset::RowSet;
pub use state::{FileState, SessionState};
pub use task_memory::{TaskCall, TaskMemory};
pub(crate) use tasks::is_task_tool;
pub use tools::pair_open_tools;

/// Name of the agent in rows and identities.
pub const AGENT: &str = "claude";
