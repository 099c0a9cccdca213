//! Agent transcripts and hook input, parsed into rows.
//!
//! Owns the reading of other programs' formats. Knows no database and no network: everything it
//! returns is already redacted and has the column names of the catalogue. (Checkpoints are
//! returned as they are; the store redacts what it is given.)

pub mod checkpoint;
pub mod claude;
mod codex;
mod format;
mod gemini;
pub mod graph;
pub mod hooks;
pub mod raw;
pub mod rows;
mod text;

pub use format::{Format, Origin, Root, find_transcripts};
