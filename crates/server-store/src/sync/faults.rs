//! Switches that take a guard out, for the tests that show what it is good for. Compiled with
//! the feature `fault-injection` only.

use std::sync::{Mutex, PoisonError};

use tokio_postgres::types::Type;

use super::SyncError;
use super::guards::Guard;
use crate::db::TenantTx;

const SLEEP: &str = "select pg_sleep($1)";

/// Guards to take out of a push, and delays to add.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Reads the stream's counter without locking its row.
    pub stream_lock_off: bool,
    /// Locks the streams of a joined transaction in the order in which their pushes came.
    pub joined_order_off: bool,
    /// How many of a hundred joined transactions are rolled back at their end.
    pub joined_fails_percent: u8,
    /// Seconds to wait in the database between the last write and the commit.
    pub delay_s: f64,
}

impl Faults {
    /// Fails when the joined transaction is one of those that shall be rolled back.
    pub(super) fn fail_joined(&self) -> Result<(), SyncError> {
        let random = crate::credential::random_bytes::<1>().map_err(crate::StoreError::from)?;
        if u32::from(random[0]) * 100 < u32::from(self.joined_fails_percent) * 256 {
            return Err(SyncError::BadRequest("rolled back by a test"));
        }
        Ok(())
    }

    pub(super) async fn delay(&self, tx: &mut TenantTx) -> Result<(), SyncError> {
        if self.delay_s > 0.0 {
            tx.query(SLEEP, &[(&self.delay_s, Type::FLOAT8)]).await?;
        }
        Ok(())
    }
}

/// Answers that were given before their transaction's commit, where the guard is out.
#[derive(Debug)]
pub(super) struct Early<T>(Mutex<Option<Vec<T>>>);

impl<T> Default for Early<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Early<T> {
    /// Keeps the answers that are given before the commit.
    pub(super) fn keep(&self, answers: Result<Vec<T>, SyncError>) -> Result<Vec<T>, SyncError> {
        if Guard::JoinedCommit.is_on() {
            return answers;
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answers?);
        Ok(Vec::new())
    }

    /// Returns what was answered, whatever became of the transaction.
    pub(super) fn or(&self, answers: Result<Vec<T>, SyncError>) -> Result<Vec<T>, SyncError> {
        let early = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        early.map_or(answers, Ok)
    }
}
