//! Where backups are kept, and how the job that writes them is woken.

use std::sync::Arc;

use coditect_backup::Storage;
use tokio::sync::Notify;

/// The place for archives; cheap to clone.
#[derive(Clone, Debug)]
pub struct Backups {
    /// The archives.
    pub storage: Storage,
    /// Most bytes of rows, before packing, that a backup reads in a second; without a limit none.
    pub bytes_per_second: Option<u64>,
    wake: Arc<Notify>,
}

impl Backups {
    /// Uses the storage.
    #[must_use]
    pub fn new(storage: Storage) -> Self {
        Self {
            storage,
            bytes_per_second: None,
            wake: Arc::new(Notify::new()),
        }
    }

    /// Holds the job to so many megabytes a second; 0 is no limit.
    #[must_use]
    pub const fn with_limit(mut self, mb_per_second: usize) -> Self {
        self.bytes_per_second = match mb_per_second {
            0 => None,
            limit => Some(limit as u64 * 1_000_000),
        };
        self
    }

    /// Has the job look for work at once.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until somebody has work.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
}
