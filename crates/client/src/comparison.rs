//! Compares all rows on both sides by sums that are made at this moment, not by those that either
//! side keeps (`coditect verify --full`). Changes no row but by what a pull brings.

use std::collections::BTreeMap;

use coditect_core::digest::Digest;
use coditect_core::sync::Failure;
use coditect_local_store::LocalStore;
use coditect_protocol::catalogue::{Class, File};
use coditect_protocol::wire::descent::{Descended, Descent, Divided, NamedRows, Range};
use coditect_protocol::wire::pull::{Page, PullReply, PullRequest};
use coditect_protocol::{API_VERSION, Scope};

use crate::pull_table::PullTableError;
use crate::transport::Transport;

/// Positions in one request; each asks about all tables of its file.
const POSITIONS_AT_ONCE: usize = 200;
/// How often a stream is asked again that has more to read than a reply holds: twenty million
/// rows, which nobody writes in the time of one comparison.
const ATTEMPTS_MAX: u32 = 10_000;

/// A table of a stream, by the rows themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSums {
    /// Stream.
    pub scope: Scope,
    /// Cloud name of the table.
    pub table: String,
    /// Rows and tombstones here, and the XOR of their terms.
    pub local: (i64, u64),
    /// The same on the server.
    pub server: (i64, u64),
    /// What the server keeps of its rows is what they give.
    pub kept_right: bool,
}

impl TableSums {
    /// Returns whether both sides have the same rows.
    #[must_use]
    pub fn equal(&self) -> bool {
        self.local == self.server
    }
}

/// What comparing all rows came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Each table of which either side has rows.
    pub tables: Vec<TableSums>,
    /// Rows that the server found damaged on its side.
    pub damaged: Vec<(Scope, NamedRows)>,
    /// Streams that had ever more to read, so that their end was not reached.
    pub moving: Vec<(Scope, File)>,
}

/// Compares everything that this device follows. The caller holds the folder's lease, so that
/// nothing here moves meanwhile; what the server's side has new is read first.
///
/// # Errors
/// [`PullTableError`].
pub async fn compare_rows<T: Transport>(
    store: &mut LocalStore,
    transport: &mut T,
) -> Result<Compared, PullTableError> {
    let mut compared = Compared::default();
    let mut left = store.streams()?;
    for _ in 0..ATTEMPTS_MAX {
        let mut moved = Vec::new();
        for chunk in left.chunks(POSITIONS_AT_ONCE) {
            let request = questions(store, chunk)?;
            let reply = ask(transport, &request).await?;
            for mut page in reply.pages {
                let descended = page.descent.take();
                // Brings the rows here to the moment at which the server took its sums.
                store.apply_page(&page, reply.epoch)?;
                match descended.filter(|_| page.at_head) {
                    Some(descended) => compare(store, &page, descended, &mut compared)?,
                    None => moved.push((page.scope, page.file)),
                }
            }
        }
        left = moved;
        if left.is_empty() {
            break;
        }
    }
    compared.moving = left;
    Ok(compared)
}

fn questions(store: &LocalStore, streams: &[(Scope, File)]) -> Result<PullRequest, PullTableError> {
    let (device, mut positions) = store.positions()?;
    positions.retain(|position| streams.contains(&(position.scope, position.file)));
    for position in &mut positions {
        let of_platform = position.scope == Scope::Platform;
        let tables = position.file.tables();
        let tables = tables.filter(|table| (table.class == Class::Catalogue) == of_platform);
        position.descent = Some(Descent {
            // Said to be as large as can be, a range is one part.
            ranges: tables.map(|it| Range::whole(it.cloud, i64::MAX)).collect(),
            rows: Vec::new(),
        });
    }
    Ok(PullRequest {
        api_version: API_VERSION.to_owned(),
        device,
        positions,
        table: None,
    })
}

/// Compares the tables of a page that was stored.
fn compare(
    store: &LocalStore,
    page: &Page,
    descended: Descended,
    compared: &mut Compared,
) -> Result<(), PullTableError> {
    let rows = store.sums_of_rows(page.file, page.scope)?;
    let rows: BTreeMap<&str, Digest> = rows.into_iter().collect();
    for divided in &descended.ranges {
        let local = rows
            .get(divided.table.as_str())
            .copied()
            .unwrap_or_default();
        let server = sum(divided);
        if (local.count, server.0) == (0, 0) {
            continue;
        }
        let kept = page.digests.iter().flatten();
        let kept = kept.filter(|it| it.table == divided.table);
        let kept = kept.map(|it| (it.count, it.digest.clone())).next();
        let kept = kept.unwrap_or_else(|| (0, format!("{:016x}", 0)));
        compared.tables.push(TableSums {
            scope: page.scope,
            table: divided.table.clone(),
            local: (local.count, local.xor),
            server,
            kept_right: kept == (server.0, format!("{:016x}", server.1)),
        });
    }
    let damaged = descended.damaged.into_iter();
    compared.damaged.extend(damaged.map(|it| (page.scope, it)));
    Ok(())
}

/// Returns count and XOR of a range, however the server chose to say them.
fn sum(divided: &Divided) -> (i64, u64) {
    let parts = divided.parts.iter().map(|part| (part.count, part.xor));
    let rows = divided.listed.iter().flatten().map(|row| (1, row.term));
    parts
        .chain(rows)
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 ^ one.1))
}

async fn ask<T: Transport>(
    transport: &mut T,
    request: &PullRequest,
) -> Result<PullReply, PullTableError> {
    match transport.pull(request).await {
        Ok(reply) => Ok(reply),
        Err(Failure::Unauthenticated(_)) if transport.authenticate().await => {
            let again = transport.pull(request).await;
            again.map_err(PullTableError::Request)
        }
        Err(failure) => Err(PullTableError::Request(failure)),
    }
}
