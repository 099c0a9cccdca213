//! Whether the server can work.

use std::time::Duration;

use coditect_server_store::StoreError;

use crate::state::AppState;

/// A probe must answer before its caller gives up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the server cannot work; the text is public.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// The database refuses or is gone.
    #[error("the database does not answer")]
    Database(#[source] StoreError),
    /// The database takes too long.
    #[error("the database does not answer in time")]
    Slow,
}

/// Asks the database.
///
/// # Errors
/// [`Unhealthy`] when it does not answer within three seconds.
pub async fn check(state: &AppState) -> Result<(), Unhealthy> {
    match tokio::time::timeout(ANSWER_TIMEOUT, state.db.ping()).await {
        Ok(answered) => answered.map_err(Unhealthy::Database),
        Err(_) => Err(Unhealthy::Slow),
    }
}
