//! Removes old versions and settled conflicts once a day: claims a tenant whose turn it is, removes
//! what its retention and its devices let go, and says in the trail how much that was (ADR 0037).

use std::time::Duration;

use coditect_protocol::OrganizationId;
use coditect_server_store::history::{self, Purged};
use coditect_server_store::{Db, StoreError};

use crate::state::{AppState, Clock};

/// How often the job looks for a tenant whose round is due; being late costs only room.
const TICK: Duration = Duration::from_secs(10 * 60);
/// Longest rest between two transactions.
const REST_MAX: Duration = Duration::from_secs(1);

/// Purges what is due now and then, until the server stops. `server` is the days of the server's
/// configuration: 0 for good, none where plans decide.
pub async fn run(state: AppState, server: Option<u32>) {
    loop {
        tokio::time::sleep(TICK).await;
        if let Err(error) = run_pending(&state, server).await {
            tracing::warn!(%error, "cannot remove old versions; goes on later");
        }
    }
}

/// Carries out the rounds of all tenants that are due; returns what they removed.
///
/// # Errors
/// Those of the database. What was removed before is removed.
pub async fn run_pending(state: &AppState, server: Option<u32>) -> Result<Purged, StoreError> {
    let mut all = Purged::default();
    while let Some(round) = history::claim(&state.db, server, state.clock.now()).await? {
        history::run(&state.db, &round, || state.clock.now(), REST_MAX).await?;
        let purged = history::release(&state.db, &round, state.clock.now()).await?;
        let Purged {
            versions,
            conflicts,
        } = purged;
        if purged != Purged::default() {
            tracing::info!(
                tenant.id = %round.tenant(), history.versions = versions,
                history.conflicts = conflicts, "removed old versions"
            );
        }
        let removed = (versions + conflicts).unsigned_abs();
        state.metrics.history_purged(removed);
        all.versions += versions;
        all.conflicts += conflicts;
    }
    Ok(all)
}

/// Carries out a tenant's round now, as fast as it goes; none while another server does, or while
/// the tenant is shut out.
///
/// # Errors
/// Those of the database.
pub async fn run_now(
    db: &Db,
    clock: &Clock,
    tenant: OrganizationId,
    server: Option<u32>,
) -> Result<Option<Purged>, StoreError> {
    let Some(round) = history::claim_now(db, tenant, server, clock.now()).await? else {
        return Ok(None);
    };
    history::run(db, &round, || clock.now(), Duration::ZERO).await?;
    history::release(db, &round, clock.now()).await.map(Some)
}
