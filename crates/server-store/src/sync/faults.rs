//! Switches that take a guard out, for the tests that show what it is good for. Compiled with
//! the feature `fault-injection` only.

use tokio_postgres::types::Type;

use super::SyncError;
use crate::db::TenantTx;

const SLEEP: &str = "select pg_sleep($1)";

/// Guards to take out of a push, and delays to add.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Reads the stream's counter without locking its row.
    pub stream_lock_off: bool,
    /// Seconds to wait in the database between the last write and the commit.
    pub delay_s: f64,
}

impl Faults {
    pub(super) async fn delay(&self, tx: &mut TenantTx) -> Result<(), SyncError> {
        if self.delay_s > 0.0 {
            tx.query(SLEEP, &[(&self.delay_s, Type::FLOAT8)]).await?;
        }
        Ok(())
    }
}
