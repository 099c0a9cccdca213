//! The scripts' own ledger: what must be there in the end.

use std::collections::BTreeMap;

/// What the stand-ins have said and done.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Records of transcripts that become messages.
    pub(crate) messages: u64,
    /// Calls of tools by Claude Code that were answered.
    pub(crate) calls: u64,
    /// State by session and text.
    pub(crate) tasks: BTreeMap<(String, String), String>,
    /// Sessions that were ended by a hook that lived.
    pub(crate) ended: u64,
    /// Calls of tools by Codex.
    pub(crate) codex_calls: u64,
    /// Hooks that were called.
    pub(crate) hooks: u64,
    /// Hooks that were killed.
    pub(crate) killed: u64,
    /// Lines that were written in halves.
    pub(crate) halves: u64,
}
