//! Does again what the ledger of erasures says, where the database does not know of it: after a
//! crash, and after the database was set back.

use std::time::Duration;

use chrono::TimeDelta;

use crate::erasure::{self, ErasureError, Ledger};
use crate::state::AppState;

/// How often the ledger's file is compared with the database.
const TICK: Duration = Duration::from_secs(60);
/// How many such looks there are between two at the storage.
const STORAGE_EVERY: u32 = 60;
/// How long an erasure is left to the command that began it.
const PATIENCE: TimeDelta = TimeDelta::minutes(10);

/// Looks until the server stops.
pub async fn run(state: AppState, ledger: Ledger) {
    let mut round = 0;
    loop {
        // What nobody is at when the server starts was cut off.
        let patience = match round {
            0 => TimeDelta::zero(),
            _ => PATIENCE,
        };
        let storage = round % STORAGE_EVERY == 0;
        if let Err(error) = look(&state, &ledger, storage, patience).await {
            tracing::warn!(%error, "cannot carry out what is to be erased");
        }
        round = round.wrapping_add(1);
        tokio::time::sleep(TICK).await;
    }
}

/// Carries out what is open; returns how many erasures that were.
async fn look(
    state: &AppState,
    ledger: &Ledger,
    storage: bool,
    patience: TimeDelta,
) -> Result<usize, ErasureError> {
    let known = match storage {
        true => ledger.read_all().await?,
        false => ledger.read_file()?,
    };
    if known.is_empty() {
        return Ok(0);
    }
    erasure::apply_again(&state.db, &state.clock, ledger, &known, patience).await
}
