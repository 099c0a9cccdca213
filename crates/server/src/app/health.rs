//! Whether the server can work.

use std::time::Duration;

use crate::state::AppState;

/// A probe must answer before its caller gives up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the server cannot work; the text is public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unhealthy {
    /// The database refuses or is gone.
    #[error("the database does not answer")]
    Database,
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
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            tracing::warn!(%error, "health: the database does not answer");
            Err(Unhealthy::Database)
        }
        Err(_) => Err(Unhealthy::Slow),
    }
}
