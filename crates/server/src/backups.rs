//! Where backups are kept, and how the job that writes them is woken.

use std::sync::Arc;

use coditect_backup::Storage;
use tokio::sync::Notify;

/// The place for archives; cheap to clone.
#[derive(Clone, Debug)]
pub struct Backups {
    /// The archives.
    pub storage: Storage,
    wake: Arc<Notify>,
}

impl Backups {
    /// Uses the storage.
    #[must_use]
    pub fn new(storage: Storage) -> Self {
        Self {
            storage,
            wake: Arc::new(Notify::new()),
        }
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
