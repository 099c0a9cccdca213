//! Pull: what happened in the caller's streams since a position, on one snapshot.

mod cache;
mod damaged;
mod descent;
mod digests;
mod encode;
mod gate;
mod page;
mod pulled;
mod tokens;

use std::collections::HashMap;
use std::ops::Range;

use coditect_protocol::catalogue::{Class, Direction, File, Table, by_cloud_name};
use coditect_protocol::limits::{PULL_BYTES_TARGET, PULL_CURSORS_MAX};
use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::pull::{Page, Position, PullReply, PullRequest};
use coditect_protocol::{Cursor, Epoch, Scope};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::SyncError;
use super::access::{self, Access, Question};
use super::guards::Guard;
use super::token::TokenKey;
use crate::db::{Statement, TenantTx};
pub use cache::{Lookups, PageCache};
pub use gate::{Gate, Looked, look};
use pulled::Changes;
pub use pulled::Pulled;
use tokens::Said;

const HEADS: &str = "select scope_id, head_platform, head_org, head_sessions, head_projects
    from streams where tenant_id = $1 and scope_id = any ($2)";
const PLATFORM_HEAD: &str = "select n from platform_stream";

/// Returns a page for each position asked whose scope the caller may read; those of others are
/// left out, and the reply's list of scopes says so. The transaction must be a snapshot
/// ([`crate::Db::tenant_snapshot`]), so that heads, rows and digests are of one moment.
///
/// # Errors
///
/// [`SyncError::EpochChanged`] for a cursor of another epoch, [`SyncError::InvalidCursor`] for
/// one beyond the head; for a token [`SyncError::EpochBehind`] and [`SyncError::Fenced`], as for
/// a push.
pub async fn pull(
    tx: &mut TenantTx,
    request: &PullRequest,
    key: &TokenKey,
    cache: &PageCache,
) -> Result<Pulled, SyncError> {
    let wanted = check(request)?;
    let opened = open(tx, request, key).await?;
    read(tx, request, wanted, opened, cache).await
}

/// Refuses what is too much or unknown; returns the one `up` table that is asked for.
fn check(request: &PullRequest) -> Result<Option<&'static Table>, SyncError> {
    if request.positions.len() > PULL_CURSORS_MAX {
        return Err(SyncError::BadRequest("a pull has at most 1024 positions"));
    }
    let wanted = wanted_table(request)?;
    for position in &request.positions {
        if let Some(descent) = &position.descent {
            descent::check(descent, position.scope, position.file)?;
        }
    }
    Ok(wanted)
}

/// What has to be known before rows are read.
#[derive(Debug)]
struct Opened {
    access: Access,
    heads: Heads,
    /// What the database says about digests.
    digests: Vec<Vec<Row>>,
}

/// Reads what the caller may do and how far the streams are, and judges the tokens.
async fn open(
    tx: &mut TenantTx,
    request: &PullRequest,
    key: &TokenKey,
) -> Result<Opened, SyncError> {
    let caller = tx.caller().clone();
    let question = Question::new(&caller, request.device);
    let tenant = tx.tenant().get();
    let scopes: Vec<Uuid> = request
        .positions
        .iter()
        .map(|position| position.scope.id())
        .collect();
    let mut statements = Vec::from(question.statements());
    statements.push(Statement {
        sql: HEADS,
        params: vec![(&tenant, Type::UUID), (&scopes, Type::UUID_ARRAY)],
    });
    let asks = |scope| {
        let mut positions = request.positions.iter();
        positions.any(|position| position.scope == scope)
    };
    let platform = asks(Scope::Platform).then_some(Statement {
        sql: PLATFORM_HEAD,
        params: vec![],
    });
    let asked = digests::Asked::new(tenant, request);
    let said = Said::new(tenant, request);
    let (with_platform, with_tokens) = (platform.is_some(), said.statement());
    let with_digests = if request.table.is_none() {
        asked.statements()
    } else {
        Vec::new()
    };
    let tokens = usize::from(with_tokens.is_some());
    statements.extend(platform);
    statements.extend(with_tokens);
    statements.extend(with_digests);
    let mut answers = tx.pipeline(&statements).await?;
    let access = question.read(&answers[..access::STATEMENTS])?;
    let mut rest = answers.split_off(access::STATEMENTS).into_iter();
    let streams = rest.next().unwrap_or_default();
    let platform = match with_platform {
        true => rest.next().unwrap_or_default(),
        false => Vec::new(),
    };
    let heads = Heads::read(&streams, &platform)?;
    // Before the cursors: those of a life that the database forgot cannot be told from others.
    let known: Vec<Row> = rest.by_ref().take(tokens).flatten().collect();
    said.check(&known, key, access.life)?;
    Ok(Opened {
        access,
        heads,
        digests: rest.collect(),
    })
}

/// Reads the pages.
async fn read(
    tx: &mut TenantTx,
    request: &PullRequest,
    wanted: Option<&'static Table>,
    opened: Opened,
    cache: &PageCache,
) -> Result<Pulled, SyncError> {
    let Opened { access, heads, .. } = opened;
    let epoch = access.life.epoch;
    let mut pages = Vec::with_capacity(request.positions.len());
    let mut changes = Vec::with_capacity(request.positions.len());
    let mut budget = Budget::default();
    let readable = |position: &&Position| access.may(Permission::SyncPull, position.scope);
    for position in request.positions.iter().filter(readable) {
        let head = heads.of(position);
        let from = start(position, epoch, head)?;
        let (mut page, rows) = match wanted {
            Some(_) => {
                let tables = tables(position, wanted);
                page::read(tx, position, &tables, epoch, from..head, &mut budget).await?
            }
            None => cached(tx, position, epoch, from..head, &mut budget, cache).await?,
        };
        if let Some(descent) = position.descent.as_ref().filter(|_| page.at_head) {
            let stream = (position.scope, position.file);
            let answer = descent::answer(tx, descent, stream, request.device, &mut budget);
            page.descent = Some(answer.await?);
        }
        pages.push(page);
        changes.push(rows);
    }
    if wanted.is_none() {
        digests::add(tx, request, &opened.digests, &mut pages).await?;
    }
    let reply = PullReply {
        epoch,
        scopes: access.scopes(),
        pages,
    };
    Ok(Pulled { reply, changes })
}

/// Reads a page, or takes it from the cache. The caller was found to be allowed to pull the scope,
/// and the head that the page is known by was read as the caller, in this transaction.
async fn cached(
    tx: &mut TenantTx,
    position: &Position,
    epoch: Epoch,
    range: Range<i64>,
    budget: &mut Budget,
    cache: &PageCache,
) -> Result<(Page, Changes), SyncError> {
    let (tenant, head) = (tx.tenant().get(), range.end);
    let key = PageCache::key(tenant, position.scope, position.file, epoch, &range);
    if let Some(kept) = key.as_ref().and_then(|key| cache.find(key))
        && budget.bytes > kept.json.len()
    {
        budget.take(kept.json.len());
        return Ok((empty(position, epoch, head, true), Changes::clone(&kept)));
    }
    let tables = tables(position, None);
    let (page, changes) = page::read(tx, position, &tables, epoch, range, budget).await?;
    if let Some(key) = key.filter(|_| page.at_head) {
        cache.keep(key, &changes);
    }
    Ok((page, changes))
}

/// Bytes that a change takes besides its columns' values.
const OVERHEAD_BYTES: usize = 450;

/// What the reply may still hold.
#[derive(Debug)]
struct Budget {
    bytes: usize,
    /// Whether a change is in the reply already; the first one goes in whatever its size.
    used: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: PULL_BYTES_TARGET,
            used: false,
        }
    }
}

impl Budget {
    /// Takes the bytes of a change; false when the reply has to end before it.
    fn take(&mut self, bytes: usize) -> bool {
        if self.used && bytes > self.bytes && Guard::PageBytes.is_on() {
            self.bytes = 0;
            return false;
        }
        self.used = true;
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

/// Returns the one `up` table that is asked for, if one is.
fn wanted_table(request: &PullRequest) -> Result<Option<&'static Table>, SyncError> {
    let Some(name) = &request.table else {
        return Ok(None);
    };
    let table = by_cloud_name(name).filter(|table| table.direction == Direction::Up);
    let table = table.ok_or(SyncError::UnknownTable)?;
    if request
        .positions
        .iter()
        .any(|position| position.file != table.file)
    {
        return Err(SyncError::UnknownTable);
    }
    Ok(Some(table))
}

/// Returns the tables whose rows a page of the position has. The platform's catalogue has its
/// own scope, and no other table is there.
fn tables(position: &Position, wanted: Option<&'static Table>) -> Vec<&'static Table> {
    let of_platform = position.scope == Scope::Platform;
    position
        .file
        .tables()
        .filter(|table| (table.class == Class::Catalogue) == of_platform)
        .filter(|table| match wanted {
            Some(wanted) => wanted.cloud == table.cloud,
            None => table.comes_down(),
        })
        .collect()
}

fn start(position: &Position, epoch: Epoch, head: i64) -> Result<i64, SyncError> {
    match position.cursor {
        None => Ok(0),
        Some(cursor) if cursor.epoch != epoch => Err(SyncError::EpochChanged { epoch }),
        Some(cursor) if cursor.n > head => Err(SyncError::InvalidCursor),
        Some(cursor) => Ok(cursor.n),
    }
}

/// Heads of the asked streams per file.
#[derive(Debug)]
struct Heads {
    streams: HashMap<Uuid, [i64; 4]>,
    platform: i64,
}

impl Heads {
    fn read(streams: &[Row], platform: &[Row]) -> Result<Self, SyncError> {
        let mut heads = Self {
            streams: HashMap::new(),
            platform: 0,
        };
        for row in streams {
            let of_files = [
                row.try_get(1)?,
                row.try_get(2)?,
                row.try_get(3)?,
                row.try_get(4)?,
            ];
            heads.streams.insert(row.try_get(0)?, of_files);
        }
        if let Some(row) = platform.first() {
            heads.platform = row.try_get(0)?;
        }
        Ok(heads)
    }

    fn of(&self, position: &Position) -> i64 {
        if position.scope == Scope::Platform {
            let of_catalogue = position.file == File::Platform;
            return if of_catalogue { self.platform } else { 0 };
        }
        let index = match position.file {
            File::Platform => 0,
            File::Org => 1,
            File::Sessions => 2,
            File::Projects => 3,
        };
        self.streams
            .get(&position.scope.id())
            .map_or(0, |heads| heads[index])
    }
}

/// Returns a page without changes.
fn empty(position: &Position, epoch: Epoch, n: i64, at_head: bool) -> Page {
    Page {
        scope: position.scope,
        file: position.file,
        changes: Vec::new(),
        cursor: Cursor { epoch, n },
        at_head,
        digests: None,
        descent: None,
    }
}
