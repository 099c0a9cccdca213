//! From what agents say to their hooks to the store, by way of a file to whose end hooks write and
//! that whoever opens the store next takes in.
//!
//! Owns the folder `hooks` of a data folder: the spool, the log of events without a table, and
//! the place of the process that does what a hook has no time for.

mod apply;
mod kept;
mod opt_out;
mod spool;
mod worker;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use apply::apply;
pub use kept::keep;
pub use opt_out::{MARKER, is_opted_out, is_origin_opted_out};
pub use spool::{DrainPlace, Drained, SPOOL_BYTES_MAX, SpoolError};
pub use worker::{Place, Worked};

/// The folder `hooks` of a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Folder {
    /// Returns the folder below a profile's data folder. Nothing is made yet.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self(data.join("hooks"))
    }

    /// Returns where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Returns whether a file was written less than a time ago. A time in the future is one of a
/// clock that was set back.
fn is_younger(path: &Path, time: Duration) -> bool {
    let written = std::fs::metadata(path).and_then(|file| file.modified());
    written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < time))
}

#[cfg(test)]
mod tests;
