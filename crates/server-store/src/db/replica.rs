//! A read replica: a copy of the database that may lag, for reads that are checked against the
//! primary (ADR 0019). Nothing is decided on it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::Object;

use super::session::{Begin, Session, Slot};
use super::{Db, Door, Isolation, Retryable, TenantTx, finish};
use crate::StoreError;
use crate::credential::Caller;

/// How long a replica that failed is left alone.
const REST: Duration = Duration::from_secs(10);
/// Longest wait for a connection to it; the primary is always there as well.
pub(super) const WAIT: Duration = Duration::from_secs(2);

/// A replica and how it did.
#[derive(Debug, Clone)]
pub(super) struct Replica {
    pub(super) door: Door,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    resting_until: Mutex<Option<Instant>>,
    served: AtomicU64,
    passed_on: AtomicU64,
}

/// How often a replica was asked since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplicaCounts {
    /// Reads that it answered.
    pub served: u64,
    /// Reads that the primary had to answer, because the replica lagged or failed.
    pub passed_on: u64,
}

impl Replica {
    pub(super) fn new(door: Door) -> Self {
        Self {
            door,
            seen: Arc::default(),
        }
    }

    fn rests(&self) -> bool {
        let until = self.seen.resting_until.lock();
        let until = *until.unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn rest(&self) {
        let mut until = self.seen.resting_until.lock();
        let until = until.as_deref_mut();
        if let Ok(until) = until {
            *until = Some(Instant::now() + REST);
        }
    }

    async fn connection(&self) -> Result<Object, StoreError> {
        self.door.pool.get().await.map_err(|error| {
            tracing::warn!(%error, "the read replica does not answer; the primary does its work");
            self.rest();
            super::retry("the read replica does not answer")
        })
    }
}

impl Db {
    /// Returns whether there is a replica that is worth asking now.
    #[must_use]
    pub fn has_replica(&self) -> bool {
        self.replica
            .as_ref()
            .is_some_and(|replica| !replica.rests())
    }

    /// Returns how often the replica was asked.
    #[must_use]
    pub fn replica_counts(&self) -> ReplicaCounts {
        let seen = self.replica.as_ref().map(|replica| &replica.seen);
        let count =
            |of: fn(&Seen) -> &AtomicU64| seen.map_or(0, |seen| of(seen).load(Ordering::Relaxed));
        ReplicaCounts {
            served: count(|seen| &seen.served),
            passed_on: count(|seen| &seen.passed_on),
        }
    }

    /// Runs `work` once like [`Db::tenant_snapshot`], on the replica. `None` when there is none,
    /// it does not answer, or `work` says that what it has is too old: the primary has to be
    /// asked then, and says what is wrong if anything is.
    pub async fn replica_snapshot<T, E, F, Fut>(
        &self,
        label: &'static str,
        caller: &Caller,
        work: F,
    ) -> Option<T>
    where
        F: FnOnce(TenantTx) -> Fut,
        Fut: Future<Output = Result<Option<T>, E>>,
        E: From<StoreError> + Retryable + std::fmt::Display,
    {
        let replica = self.replica.as_ref().filter(|replica| !replica.rests())?;
        let outcome = async {
            let connection = replica.connection().await?;
            let _running = self.timing.start(label);
            let begin = Begin {
                isolation: Isolation::Snapshot,
                set_role: replica.door.set_role,
            };
            let slot = Slot::default();
            let session = Session::new(connection, begin);
            let tx = TenantTx::new(session, slot.clone(), caller.with_checks(self.checked));
            finish(work(tx).await, &slot, &self.announcer).await
        };
        let found = match outcome.await {
            Ok(found) => found,
            Err(error) => {
                // A replica that lags knows neither new members nor new devices: no fault.
                tracing::debug!(label, %error, "the read replica cannot answer");
                None
            }
        };
        let count = match found {
            Some(_) => &replica.seen.served,
            None => &replica.seen.passed_on,
        };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }
}
