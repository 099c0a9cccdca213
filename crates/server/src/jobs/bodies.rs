//! Removes bodies that no row names any more: marks them, and removes what was marked before the
//! oldest backup that may be kept.

use std::time::Duration;

use coditect_server_store::StoreError;
use coditect_server_store::sync::bodies::{self, Collected};

use crate::state::AppState;

/// How often the job looks; being late costs only room.
const TICK: Duration = Duration::from_secs(6 * 60 * 60);

/// Collects now and then, until the server stops.
pub async fn run(state: AppState) {
    loop {
        tokio::time::sleep(TICK).await;
        if let Err(error) = run_pending(&state).await {
            tracing::warn!(%error, "cannot remove unused bodies; goes on later");
        }
    }
}

/// Marks and removes what is due, one tenant after the other; several servers may do so at once.
///
/// # Errors
/// Those of the database. What was removed before is removed.
pub async fn run_pending(state: &AppState) -> Result<Collected, StoreError> {
    let mut all = Collected::default();
    for tenant in bodies::tenants(&state.db).await? {
        let now = state.clock.now();
        let done = bodies::collect(&state.db, tenant, now, bodies::KEPT).await?;
        if done != Collected::default() {
            let Collected {
                marked,
                used_again,
                removed,
            } = done;
            tracing::info!(tenant.id = %tenant, marked, used_again, removed, "bodies collected");
        }
        all.marked += done.marked;
        all.used_again += done.used_again;
        all.removed += done.removed;
    }
    Ok(all)
}
