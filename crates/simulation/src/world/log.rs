//! The event log: one line per event, and a hash over all of them that says whether two runs
//! were the same.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::collections::VecDeque;

/// Lines that a failure shows.
const LINES_MAX: usize = 400;

/// What happened in a run.
#[derive(Debug, Default)]
pub struct Log {
    lines: VecDeque<String>,
    hash: Sha256,
    counts: BTreeMap<&'static str, u64>,
    all: bool,
}

impl Log {
    /// Makes a log that keeps every line, for a replay.
    #[must_use]
    pub fn complete() -> Self {
        Self {
            all: true,
            ..Self::default()
        }
    }

    /// Notes an event.
    pub(super) fn event(&mut self, line: String) {
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
        if !self.all && self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Counts a fault, a conflict or another thing worth a line of the histogram.
    pub(super) fn count(&mut self, what: &'static str, times: u64) {
        *self.counts.entry(what).or_insert(0) += times;
    }

    /// Returns how often each thing happened.
    #[must_use]
    pub const fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// Returns the hash over all events, 64 hexadecimal digits.
    #[must_use]
    pub fn hash(&self) -> String {
        let digest = self.hash.clone().finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns the kept lines.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
