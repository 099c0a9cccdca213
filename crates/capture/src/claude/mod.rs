//! Claude Code transcripts: JSON lines below `<agent's folder>/projects`.
//!
//! Owns the format and its oddities. The parser is pure: bytes and the state of the file in, rows
//! out; in whatever pieces a file is fed, the rows joined are the same. The format belongs to its
//! vendor and changes, so nothing unknown is an error: it is counted, or named as damaged.

mod chunk;
mod discover;
mod lines;
mod message;
mod parser;
mod reader;
mod record;
mod render;
mod rowset;
mod session;
mod state;
mod tasks;
mod tools;
mod usage;

pub use chunk::{Chunk, DamagedLine, Summary};
pub use discover::discover;
pub use parser::{Parser, Rewritten};
pub use reader::{ReadError, TranscriptReader};
pub use rowset::RowSet;
pub use state::{FileState, SessionState};
pub use tools::pair_open_tools;

/// Name of the agent in rows and identities.
pub const AGENT: &str = "claude";
