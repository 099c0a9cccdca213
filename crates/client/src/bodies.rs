//! Long values apart from their rows: a push leaves out those that the server has, and after a
//! run those that rows lack are fetched, newest first. Rows come first, so that search works at
//! once; what is fetched is stored piece by piece, and the next run goes on from there.

use std::borrow::Cow;

use coditect_core::body;
use coditect_core::sync::{Failure, Outgoing};
use coditect_local_store::{LackingPlace, LackingRow, LocalStore};
use coditect_protocol::catalogue::by_cloud_name;
use coditect_protocol::limits::{BODIES_BYTES_TARGET, BODIES_NAMED_MAX};
use coditect_protocol::wire::bodies::BodiesRequest;
use coditect_protocol::{API_VERSION, DeviceId, Scope};

use crate::driver::{Progress, SyncError};
use crate::transport::Transport;

/// Bytes of long values in a batch from which on it is worth to ask which are there.
const ASK_BYTES_MIN: usize = 64 * 1024;

/// What fetching came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Rows that are whole now.
    pub rows: u64,
    /// Bodies that came.
    pub bodies: u64,
    /// Their bytes, unpacked.
    pub bytes: u64,
    /// Rows that still lack something when it ended.
    pub left: u64,
}

/// Returns the batch as it is to be sent: without the long values that the server has in this
/// scope, and without the numbers of lines if it puts them back. The answer is the same either way;
/// a batch that was carried out before is recognised by its id.
pub(crate) async fn without_known<'a, T: Transport>(
    transport: &mut T,
    batch: &'a Outgoing,
) -> Result<Cow<'a, [u8]>, Failure> {
    let whole = || Ok(Cow::Borrowed(batch.bytes.as_slice()));
    let mut parted = Vec::new();
    let (mut hashes, mut bytes) = (Vec::new(), 0);
    for (at, change) in batch.request.changes.iter().enumerate() {
        let Some(table) = by_cloud_name(&change.table) else {
            continue;
        };
        let row = change.row.as_ref();
        if let Some((row, bodies)) = row.and_then(|row| body::part(table, row)) {
            bytes += bodies.iter().map(|body| body.text.len()).sum::<usize>();
            let own: Vec<String> = bodies.into_iter().map(|body| body.hash).collect();
            hashes.extend(own.iter().cloned());
            parted.push((at, row, own));
        }
    }
    hashes.sort_unstable();
    hashes.dedup();
    hashes.truncate(BODIES_NAMED_MAX);
    if bytes < ASK_BYTES_MIN {
        return whole();
    }
    let request = request(batch.request.device, batch.request.scope, hashes);
    let known = match transport.known_bodies(&request).await {
        Ok(known) => known,
        // An older server has no such route, and takes whole rows.
        Err(Failure::Refused(_)) => return whole(),
        Err(failure) => return Err(failure),
    };
    if known.known.is_empty() && !known.numbers {
        return whole();
    }
    let mut lighter = batch.request.clone();
    for (at, row, own) in parted {
        if own.iter().all(|hash| known.known.contains(hash)) {
            lighter.changes[at].row = Some(row);
        }
    }
    if known.numbers {
        for change in &mut lighter.changes {
            if let (Some(table), Some(row)) = (by_cloud_name(&change.table), &mut change.row) {
                body::numbers::take_from_row(table, row);
            }
        }
    }
    Ok(serde_json::to_vec(&lighter).map_or(Cow::Borrowed(batch.bytes.as_slice()), Cow::Owned))
}

/// Fetches what rows lack, newest first, for as long as `go_on` says so. A server that does not
/// answer ends it; the next call goes on from there.
///
/// # Errors
/// When a local database fails.
pub async fn fetch_bodies<T: Transport>(
    store: &mut LocalStore,
    transport: &mut T,
    progress: &mut Progress,
    observe: &mut impl FnMut(Progress),
    go_on: &mut impl FnMut(&LocalStore) -> bool,
) -> Result<Fetched, SyncError> {
    let mut fetched = Fetched::default();
    let mut place = LackingPlace::default();
    let mut left = store.pending_bodies()?.down;
    if left == 0 {
        return Ok(fetched);
    }
    progress.bodies_left = left;
    loop {
        let rows =
            store.lacking_rows(&mut place, BODIES_BYTES_TARGET as u64, BODIES_NAMED_MAX / 2)?;
        if rows.is_empty() || !go_on(store) {
            break;
        }
        let Some(step) = fetch(store, transport, &rows).await? else {
            break;
        };
        fetched.rows += step.rows;
        fetched.bodies += step.bodies;
        fetched.bytes += step.bytes;
        left = left.saturating_sub(step.rows);
        progress.bodies += step.bodies;
        progress.body_bytes += step.bytes;
        progress.bodies_left = left;
        observe(*progress);
    }
    fetched.left = store.pending_bodies()?.down;
    progress.bodies_left = fetched.left;
    Ok(fetched)
}

/// Fetches what the given rows lack; none when the server does not answer.
///
/// # Errors
/// When a local database fails.
pub async fn fetch<T: Transport>(
    store: &mut LocalStore,
    transport: &mut T,
    rows: &[LackingRow],
) -> Result<Option<Fetched>, SyncError> {
    let mut fetched = Fetched::default();
    let mut scopes: Vec<Scope> = rows.iter().map(|row| row.scope).collect();
    scopes.sort_unstable_by_key(ToString::to_string);
    scopes.dedup();
    for scope in scopes {
        let of_scope: Vec<LackingRow> = rows
            .iter()
            .filter(|row| row.scope == scope)
            .cloned()
            .collect();
        let mut wanted: Vec<String> = Vec::new();
        for (hash, _) in of_scope.iter().flat_map(|row| &row.lacks) {
            if !wanted.contains(hash) {
                wanted.push(hash.clone());
            }
        }
        // A reply holds as many as fit, one at least, so each answer makes the rest shorter.
        while !wanted.is_empty() {
            let hashes: Vec<String> = wanted.iter().take(BODIES_NAMED_MAX).cloned().collect();
            let request = request(store.device(), scope, hashes);
            let reply = match transport.bodies(&request).await {
                Ok(reply) => reply,
                Err(Failure::Unauthenticated(_)) if transport.authenticate().await => {
                    match transport.bodies(&request).await {
                        Ok(reply) => reply,
                        Err(_) => return Ok(None),
                    }
                }
                Err(_) => return Ok(None),
            };
            if reply.bodies.is_empty() && reply.missing.is_empty() {
                break;
            }
            wanted.retain(|hash| {
                let came = reply.bodies.iter().any(|body| body.hash == *hash);
                !came && !reply.missing.contains(hash)
            });
            fetched.bodies += reply.bodies.len() as u64;
            fetched.bytes += reply
                .bodies
                .iter()
                .map(|body| body.text.len() as u64)
                .sum::<u64>();
            fetched.rows += store.put_bodies(&of_scope, &reply.bodies)?;
        }
    }
    Ok(Some(fetched))
}

fn request(device: DeviceId, scope: Scope, hashes: Vec<String>) -> BodiesRequest {
    BodiesRequest {
        api_version: API_VERSION.to_owned(),
        device,
        scope,
        hashes,
        values: true,
        numbers: true,
    }
}
