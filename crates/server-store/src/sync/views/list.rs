//! Live rows of one table of a stream, behind a position and in the order of the stream.

use std::collections::{BTreeMap, HashMap};

use coditect_protocol::limits::PULL_BYTES_TARGET;
use coditect_protocol::wire::Stored;
use coditect_protocol::{DeviceId, Epoch, Scope};
use tokio_postgres::Row as DbRow;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::view::View;
use crate::db::{Statement, TenantTx};
use crate::sync::access::{self, Question};
use crate::sync::held::Held;
use crate::sync::{SyncError, bodies, escape, sql};

const COUNTER: &str = "select n from streams where tenant_id = $1 and scope_id = $2";
/// Rows fetched at once.
const FETCH: usize = 64;

/// What rows must have to be listed: values of some of the columns of [`View::filters`]; a
/// column that is not among them is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter(BTreeMap<&'static str, String>);

impl Filter {
    /// Also asks for a value of a column, when there is one.
    #[must_use]
    pub fn with(mut self, column: &'static str, value: Option<String>) -> Self {
        if let Some(value) = value {
            self.0.insert(column, value);
        }
        self
    }

    /// Returns the values in the order in which the statement takes them.
    fn values(&self, view: View) -> Vec<Option<String>> {
        let asked = |column| {
            self.0
                .get(column)
                .map(|text| escape::text(text).into_owned())
        };
        view.filters().iter().map(asked).collect()
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The table.
    pub view: View,
    /// The stream.
    pub scope: Scope,
    /// The device that asks.
    pub device: DeviceId,
    /// Position after which to begin; 0 is the beginning.
    pub cursor: i64,
    /// Life of the database that the position is of, when the caller says so.
    pub epoch: Option<Epoch>,
    /// Most rows.
    pub limit: usize,
    /// What they must have.
    pub filter: Filter,
}

/// The rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Life of the database.
    pub epoch: Epoch,
    /// Rows with their columns.
    pub rows: Vec<Stored>,
    /// Position to ask for next.
    pub cursor: i64,
    /// Whether there are more rows behind it.
    pub has_more: bool,
}

/// Returns the rows that are asked for: at most `limit`, and as many as a page's bytes allow but
/// one at least. The transaction must be a snapshot ([`crate::Db::tenant_snapshot`]).
///
/// # Errors
///
/// [`SyncError::InvalidCursor`] for a position that the stream has not reached, or of another
/// epoch; [`SyncError::ScopeNotFound`], [`SyncError::DeviceUnknown`].
pub async fn list(tx: &mut TenantTx, listing: &Listing) -> Result<Listed, SyncError> {
    let (epoch, head, places) = places(tx, listing).await?;
    if listing.epoch.is_some_and(|wanted| wanted != epoch) {
        return Err(SyncError::InvalidCursor);
    }
    if listing.cursor < 0 || listing.cursor > head {
        return Err(SyncError::InvalidCursor);
    }
    let (page, rest) = places.split_at(listing.limit.min(places.len()));
    let mut rows = Vec::with_capacity(page.len());
    let mut bytes = 0;
    for chunk in page.chunks(FETCH) {
        let mut found = fetch(tx, listing, chunk).await?;
        for (_, id) in chunk {
            let Some((mut stored, size)) = found.remove(id) else {
                continue;
            };
            bytes += size + fill(tx, listing, &mut stored).await?;
            if bytes > PULL_BYTES_TARGET && !rows.is_empty() {
                return Ok(partial(epoch, rows, listing.cursor));
            }
            rows.push(stored);
        }
    }
    if rest.is_empty() {
        return Ok(Listed {
            epoch,
            rows,
            cursor: head,
            has_more: false,
        });
    }
    Ok(partial(epoch, rows, listing.cursor))
}

/// Puts the row's bodies into it and returns their bytes.
async fn fill(
    tx: &mut TenantTx,
    listing: &Listing,
    stored: &mut Stored,
) -> Result<usize, SyncError> {
    let table = listing.view.table();
    let Some(row) = stored.row.as_mut() else {
        return Ok(0);
    };
    let names = coditect_core::body::names(table, row);
    let bytes: u64 = names.iter().map(|(_, name)| name.bytes).sum();
    let place = bodies::Place {
        tenant: tx.tenant().get(),
        scope: listing.scope.id(),
    };
    bodies::fill(tx, place, table, row).await?;
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

fn partial(epoch: Epoch, rows: Vec<Stored>, start: i64) -> Listed {
    Listed {
        epoch,
        cursor: rows.last().map_or(start, |row| row.cursor),
        rows,
        has_more: true,
    }
}

/// A row's number and id.
type Place = (i64, Uuid);

/// Checks the caller and returns epoch, the stream's counter, and the places of the rows, one
/// more than asked for if there are.
async fn places(
    tx: &mut TenantTx,
    listing: &Listing,
) -> Result<(Epoch, i64, Vec<Place>), SyncError> {
    let caller = tx.caller().clone();
    let question = Question::new(&caller, listing.device);
    let (tenant, scope) = (tx.tenant().get(), listing.scope.id());
    let limit = listing.limit as i64 + 1;
    let filter = listing.filter.values(listing.view);
    let mut params: Vec<crate::db::Param<'_>> = vec![
        (&tenant, Type::UUID),
        (&scope, Type::UUID),
        (&listing.cursor, Type::INT8),
        (&limit, Type::INT8),
    ];
    params.extend(filter.iter().map(|text| (text as _, Type::TEXT)));
    let mut statements = Vec::from(question.statements());
    statements.push(Statement {
        sql: COUNTER,
        params: vec![(&tenant, Type::UUID), (&scope, Type::UUID)],
    });
    statements.push(Statement {
        sql: listing.view.places(),
        params,
    });
    let answers = tx.pipeline(&statements).await?;
    let access = question.read(&answers[..access::STATEMENTS])?;
    access.require(listing.view.permission(), listing.scope)?;
    let head = match answers[access::STATEMENTS].first() {
        Some(row) => row.try_get(0)?,
        None => 0,
    };
    let place = |row: &DbRow| Ok((row.try_get(0)?, row.try_get(1)?));
    let places: Result<_, SyncError> = answers[access::STATEMENTS + 1].iter().map(place).collect();
    Ok((access.life.epoch, head, places?))
}

/// Returns the rows at the places by id, with the bytes that each takes.
async fn fetch(
    tx: &mut TenantTx,
    listing: &Listing,
    places: &[Place],
) -> Result<HashMap<Uuid, (Stored, usize)>, SyncError> {
    let table = listing.view.table();
    let (tenant, scope) = (tx.tenant().get(), listing.scope.id());
    let ids: Vec<Uuid> = places.iter().map(|place| place.1).collect();
    let params = [
        (&tenant as _, Type::UUID),
        (&scope as _, Type::UUID),
        (&ids as _, Type::UUID_ARRAY),
    ];
    let mut found = HashMap::with_capacity(ids.len());
    for row in tx.query(&sql::of(table).fetch, &params).await? {
        let bytes = row.raw_size_bytes();
        let held = Held::read(table, &row)?;
        found.insert(held.id.get(), (held.into_stored(table), bytes));
    }
    Ok(found)
}
