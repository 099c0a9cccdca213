//! How long transactions take, told to whoever counts it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Is told what a transaction was for and how long it took, from the connection at hand to its
/// end. It must not wait for anything.
pub type Timer = Arc<dyn Fn(&'static str, Duration) + Send + Sync>;

/// Who is told about the transactions of a [`crate::Db`]. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Timing(Arc<OnceLock<Timer>>);

impl Timing {
    /// Has `timer` told from now on. The first one stays.
    pub(super) fn set(&self, timer: Timer) {
        // A second one would count every transaction of the same database twice.
        let _ = self.0.set(timer);
    }

    /// Starts a measurement, which tells when it is dropped: of transactions that failed, too.
    pub(super) fn start(&self, label: &'static str) -> Running<'_> {
        Running {
            timing: self,
            label,
            started: Instant::now(),
        }
    }
}

impl fmt::Debug for Timing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Timing")
    }
}

/// A transaction that runs.
#[derive(Debug)]
pub(super) struct Running<'a> {
    timing: &'a Timing,
    label: &'static str,
    started: Instant,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(timer) = self.timing.0.get() {
            timer(self.label, self.started.elapsed());
        }
    }
}
