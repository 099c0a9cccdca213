//! Fetches the rows of a table that only goes up, of all devices (`coditect pull --table`). They
//! are stored beside the synced state: no marks, no cursor, no digest (PROTOCOL 28).

use coditect_core::sync::Failure;
use coditect_local_store::{self as local_store, LocalStore};
use coditect_protocol::API_VERSION;
use coditect_protocol::catalogue::Table;
use coditect_protocol::wire::pull::{Position, PullReply, PullRequest};

use crate::transport::Transport;

/// Pages that one fetch may take; more means that the server never reaches its head.
const PAGES_MAX: u32 = 1_000_000;

/// Why a fetch broke off.
#[derive(Debug, thiserror::Error)]
pub enum PullTableError {
    /// A local database failed.
    #[error(transparent)]
    Store(#[from] local_store::Error),
    /// The server does not answer, or refuses.
    #[error("{}", crate::http::describe(.0))]
    Request(Failure),
}

/// What a fetch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Rows that the server sent, own ones included.
    pub received: u64,
    /// Rows of other devices that were stored.
    pub stored: u64,
}

/// Fetches the table's rows in every scope that this device follows, from the start. `observe`
/// is told after every page.
///
/// # Errors
/// [`PullTableError`]; what was stored before stays.
pub async fn pull_table<T: Transport>(
    store: &mut LocalStore,
    transport: &mut T,
    table: &Table,
    mut observe: impl FnMut(Fetched),
) -> Result<Fetched, PullTableError> {
    let mut fetched = Fetched::default();
    let streams = store.streams()?;
    let mut positions: Vec<Position> = streams
        .into_iter()
        .filter(|(_, file)| *file == table.file)
        .map(|(scope, file)| Position {
            scope,
            file,
            cursor: None,
            token: None,
            descent: None,
        })
        .collect();
    for _ in 0..PAGES_MAX {
        if positions.is_empty() {
            break;
        }
        let request = PullRequest {
            api_version: API_VERSION.to_owned(),
            device: store.device(),
            positions,
            table: Some(table.cloud.to_owned()),
        };
        let reply = pull(transport, &request).await?;
        positions = Vec::new();
        for page in reply.pages {
            fetched.received += page.changes.len() as u64;
            fetched.stored += store.store_foreign(table.cloud, page.scope, &page.changes)?;
            if !page.at_head {
                positions.push(Position {
                    scope: page.scope,
                    file: page.file,
                    cursor: Some(page.cursor),
                    token: None,
                    descent: None,
                });
            }
        }
        observe(fetched);
    }
    Ok(fetched)
}

async fn pull<T: Transport>(
    transport: &mut T,
    request: &PullRequest,
) -> Result<PullReply, PullTableError> {
    let failure = match transport.pull(request).await {
        Ok(reply) => return Ok(reply),
        Err(failure) => failure,
    };
    if matches!(failure, Failure::Unauthenticated(_)) && transport.authenticate().await {
        let again = transport.pull(request).await;
        return again.map_err(PullTableError::Request);
    }
    Err(PullTableError::Request(failure))
}
