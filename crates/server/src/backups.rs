//! Where backups are kept, how the job that writes them is woken, and how many restores from them
//! are at work at a time.

use std::sync::Arc;
use std::time::Duration;

use coditect_backup::Storage;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Restores that a server does at a time; each has its archives' rows on disk meanwhile.
const RESTORES_AT_ONCE: u32 = 4;

/// The place for archives; cheap to clone.
#[derive(Clone, Debug)]
pub struct Backups {
    /// The archives.
    pub storage: Storage,
    /// Most bytes of rows, before packing, that a backup reads in a second; without a limit none.
    pub bytes_per_second: Option<u64>,
    /// Longest time for which a request waits for its restore; without it nine tenths of the time
    /// that a request has.
    pub restore_wait: Option<Duration>,
    wake: Arc<Notify>,
    wake_restores: Arc<Notify>,
    restores: Arc<Semaphore>,
    restore_ended: Arc<Notify>,
}

impl Backups {
    /// Uses the storage.
    #[must_use]
    pub fn new(storage: Storage) -> Self {
        Self {
            storage,
            bytes_per_second: None,
            restore_wait: None,
            restores: Arc::new(Semaphore::new(RESTORES_AT_ONCE as usize)),
            restore_ended: Arc::new(Notify::new()),
            wake: Arc::new(Notify::new()),
            wake_restores: Arc::new(Notify::new()),
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

    /// Has the jobs look for work at once.
    pub fn wake(&self) {
        self.wake.notify_one();
        self.wake_restores.notify_one();
    }

    /// Waits until somebody has work for restores.
    pub async fn woken_for_restores(&self) {
        self.wake_restores.notified().await;
    }

    /// Waits until somebody has work for backups.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Waits for one of the places of restores at work; it is free again when the permit goes.
    pub async fn restore_place(&self) -> Option<OwnedSemaphorePermit> {
        let places = Arc::clone(&self.restores);
        // Closed never.
        places.acquire_owned().await.ok()
    }

    /// Returns whether a restore could begin at once.
    #[must_use]
    pub fn has_restore_place(&self) -> bool {
        self.restores.available_permits() > 0
    }

    /// Waits until no restore is at work in this server, and lets none begin until the permit goes.
    pub async fn hold_restores(&self) -> Option<OwnedSemaphorePermit> {
        let places = Arc::clone(&self.restores);
        places.acquire_many_owned(RESTORES_AT_ONCE).await.ok()
    }

    /// Says that an attempt of a restore has ended, to all who wait for one.
    pub fn say_restore_ended(&self) {
        self.restore_ended.notify_waiters();
    }

    /// Waits until the next attempt of a restore in this server has ended.
    pub fn restore_ended(&self) -> Notified<'_> {
        self.restore_ended.notified()
    }
}
