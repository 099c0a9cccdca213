//! Live rows of one table of a stream, behind a position and in the order of the stream.

use std::collections::HashMap;

use coditect_protocol::catalogue::{Table, by_cloud_name};
use coditect_protocol::limits::PULL_BYTES_TARGET;
use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::Stored;
use coditect_protocol::{DeviceId, Epoch, Scope};
use tokio_postgres::Row as DbRow;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::db::{Statement, TenantTx};
use crate::sync::access::{self, Question};
use crate::sync::held::Held;
use crate::sync::{SyncError, bodies, escape, sql};

const COUNTER: &str = "select n from streams where tenant_id = $1 and scope_id = $2";
const MESSAGES: &str = "select cursor, id from context_messages
    where tenant_id = $1 and scope_id = $2 and cursor > $3 and deleted_at is null
    order by cursor limit $4";
const TASKS: &str = "select cursor, id from context_task_tracking
    where tenant_id = $1 and scope_id = $2 and cursor > $3 and deleted_at is null
    and ($5::text is null or status = $5) and ($6::text is null or project_id = $6)
    and ($7::text is null or session_id = $7) and ($8::text is null or task_id = $8)
    order by cursor limit $4";
const DECISIONS: &str = "select cursor, id from org_decisions
    where tenant_id = $1 and scope_id = $2 and cursor > $3 and deleted_at is null
    order by cursor limit $4";
const LEARNINGS: &str = "select cursor, id from org_skill_learnings
    where tenant_id = $1 and scope_id = $2 and cursor > $3 and deleted_at is null
    order by cursor limit $4";
/// Rows fetched at once.
const FETCH: usize = 64;

/// A table that can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// `context_messages`.
    Messages,
    /// `context_task_tracking`.
    Tasks,
    /// `org_decisions`.
    Decisions,
    /// `org_skill_learnings`.
    Learnings,
}

impl View {
    const ALL: [Self; 4] = [
        Self::Messages,
        Self::Tasks,
        Self::Decisions,
        Self::Learnings,
    ];

    const fn cloud(self) -> &'static str {
        match self {
            Self::Messages => "context_messages",
            Self::Tasks => "context_task_tracking",
            Self::Decisions => "org_decisions",
            Self::Learnings => "org_skill_learnings",
        }
    }

    const fn places(self) -> &'static str {
        match self {
            Self::Messages => MESSAGES,
            Self::Tasks => TASKS,
            Self::Decisions => DECISIONS,
            Self::Learnings => LEARNINGS,
        }
    }

    /// Returns the table's entry in the catalogue.
    #[must_use]
    pub fn table(self) -> &'static Table {
        by_cloud_name(self.cloud()).expect("a table of the catalogue")
    }

    /// Returns what it takes to list it.
    const fn permission(self) -> Permission {
        match self {
            Self::Messages => Permission::MessagesRead,
            Self::Tasks => Permission::TasksRead,
            Self::Decisions => Permission::DecisionsRead,
            Self::Learnings => Permission::LearningsRead,
        }
    }

    /// Returns the names of all tables that can be listed.
    pub(super) fn names() -> [&'static str; 4] {
        Self::ALL.map(Self::cloud)
    }
}

/// What tasks must have to be listed; other tables take none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// State.
    pub status: Option<String>,
    /// Project.
    pub project_id: Option<String>,
    /// Session.
    pub session_id: Option<String>,
    /// Name within the session.
    pub task_id: Option<String>,
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
    /// What tasks must have.
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
    let filter = [
        &listing.filter.status,
        &listing.filter.project_id,
        &listing.filter.session_id,
        &listing.filter.task_id,
    ]
    .map(|text| text.as_deref().map(escape::text));
    let mut params: Vec<crate::db::Param<'_>> = vec![
        (&tenant, Type::UUID),
        (&scope, Type::UUID),
        (&listing.cursor, Type::INT8),
        (&limit, Type::INT8),
    ];
    if listing.view == View::Tasks {
        params.extend(filter.iter().map(|text| (text as _, Type::TEXT)));
    }
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
