//! Reads every stored row once a day: claims a tenant whose turn it is, reads the rows that are
//! due, and looks again at what was found before. What is found and cannot be mended here is named
//! to the devices that may hold the bytes.

use std::time::Duration;

use coditect_protocol::OrganizationId;
use coditect_server_store::sync::scrub::{self, Slice};
use coditect_server_store::{Db, StoreError};

use crate::state::{AppState, Clock};

/// How often the job looks for rows that are due.
const TICK: Duration = Duration::from_secs(10);
/// Longest rest between two transactions.
const REST_MAX: Duration = Duration::from_secs(1);

/// Reads what is due, and waits for more, until the server stops.
pub async fn run(state: AppState) {
    loop {
        if let Err(error) = run_pending(&state).await {
            tracing::warn!(%error, "cannot read the stored rows; goes on later");
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Reads the slices of all tenants that are due; returns the number of rows.
///
/// # Errors
/// Those of the database. What was read before is noted.
pub async fn run_pending(state: &AppState) -> Result<u64, StoreError> {
    let mut rows = 0;
    while let Some(mut round) = scrub::claim(&state.db, state.clock.now()).await? {
        let due = round.due(state.clock.now());
        let now = || state.clock.now();
        let slice = scrub::slice(&state.db, &mut round, due, now, REST_MAX).await?;
        let tenant = round.tenant();
        scrub::release(&state.db, round, slice.finished, state.clock.now()).await?;
        let mended = scrub::recheck(&state.db, tenant, state.clock.now()).await?;
        tell(tenant, slice, mended);
        rows += slice.rows;
    }
    Ok(rows)
}

/// What a whole round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Rows that were read.
    pub rows: u64,
    /// Faults that were found, mended ones included.
    pub found: u64,
    /// Earlier findings whose rows are right by now.
    pub mended: u64,
}

/// Reads all rows of a tenant at once, as fast as it goes; none while another server reads them.
///
/// # Errors
/// Those of the database.
pub async fn run_now(
    db: &Db,
    clock: &Clock,
    tenant: OrganizationId,
) -> Result<Option<Whole>, StoreError> {
    let mended = scrub::recheck(db, tenant, clock.now()).await?;
    let Some(mut round) = scrub::claim_now(db, tenant, clock.now()).await? else {
        return Ok(None);
    };
    let slice = scrub::slice(db, &mut round, u64::MAX, || clock.now(), Duration::ZERO).await?;
    scrub::release(db, round, slice.finished, clock.now()).await?;
    tell(tenant, slice, mended);
    let Slice { rows, found, .. } = slice;
    Ok(Some(Whole {
        rows,
        found,
        mended,
    }))
}

/// Says what was read; figures for whoever counts are the fields.
fn tell(tenant: OrganizationId, slice: Slice, mended: u64) {
    let Slice {
        rows,
        found,
        finished,
    } = slice;
    if found > 0 {
        tracing::error!(
            tenant.id = %tenant, scrub.rows = rows, scrub.found = found, scrub.mended = mended,
            "stored rows or their sums are damaged\nhint: coditect-server admin findings"
        );
    } else if finished || mended > 0 {
        tracing::info!(
            tenant.id = %tenant, scrub.rows = rows, scrub.found = found, scrub.mended = mended,
            scrub.finished = finished, "read stored rows"
        );
    }
}
