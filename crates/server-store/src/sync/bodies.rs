//! Bodies: long values that are kept once per scope, packed, apart from the rows that name them
//! (ADR 0018). A row is stored only with its bodies there; they are read only through a row that
//! the caller may read.

mod collect;

pub use collect::{Collected, KEPT, collect, tenants};

use std::collections::{HashMap, HashSet};
use std::io::Read as _;

use coditect_core::body;
use coditect_core::hex::hex;
use coditect_protocol::catalogue::{Column, Table};
use coditect_protocol::limits::{BODIES_BYTES_TARGET, BODIES_NAMED_MAX, ROW_BYTES_MAX};
use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::bodies::{
    BodiesKnown, BodiesReply, BodiesRequest, Body, BodyName, BodyValue,
};
use coditect_protocol::wire::push::{Change, Status};
use coditect_protocol::wire::{Op, Row};
use tokio_postgres::Row as DbRow;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::guards::Guard;
use super::validate::{Refusal, Valid};
use super::{SyncError, access};
use crate::StoreError;
use crate::db::{Statement, SystemTx, TenantTx};

/// Level that costs a push little; what crosses the wire is packed anew, many bodies at once.
const PACK_LEVEL: i32 = 3;
const LINKED: &str = "select hash, byte_count from bodies b
    where tenant_id = $1 and scope_id = $2 and hash = any ($3) and exists (
        select from body_links l where l.tenant_id = $1 and l.scope_id = $2 and l.hash = b.hash)";
const PACKED: &str = "select hash, packed from bodies
    where tenant_id = $1 and scope_id = $2 and hash = any ($3)";
/// Locks what it returns: the collection waits, and leaves it alone then.
const HOLD: &str = "update bodies b set unused_since = null
    where tenant_id = $1 and scope_id = $2 and hash = any ($3) and exists (
        select from body_links l where l.tenant_id = $1 and l.scope_id = $2 and l.hash = b.hash)
    returning hash, packed";
/// `xmax` is 0 in a row that this statement made.
const KEEP: &str = "insert into bodies as b (tenant_id, scope_id, hash, byte_count, packed)
    select $1, $2, hash, byte_count, packed
    from unnest($3::bytea[], $4::bigint[], $5::bytea[]) as given (hash, byte_count, packed)
    on conflict (tenant_id, scope_id, hash) do update set unused_since = null
    returning case when xmax = 0 then byte_count else 0 end";
const LINK: &str = "insert into body_links (tenant_id, scope_id, hash, table_name, row_id)
    select $1, $2, hash, table_name, row_id
    from unnest($3::bytea[], $4::text[], $5::uuid[]) as given (hash, table_name, row_id)
    on conflict do nothing";
const UNLINK: &str = "delete from body_links
    where tenant_id = $1 and scope_id = $2 and table_name = any ($3) and row_id = any ($4)";
const COPY: &str = "insert into bodies (tenant_id, scope_id, hash, byte_count, packed)
    select $1, $3, b.hash, b.byte_count, b.packed from bodies b
    where b.tenant_id = $1 and b.scope_id = $2 and b.hash = any ($4)
    on conflict (tenant_id, scope_id, hash) do update set unused_since = null
    returning case when xmax = 0 then byte_count else 0 end";

/// The stream whose bodies are meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Tenant.
    pub(super) tenant: Uuid,
    /// Scope.
    pub(super) scope: Uuid,
}

/// Returns those of the hashes that a row names which the caller may read.
///
/// # Errors
///
/// [`SyncError::ScopeNotFound`], [`SyncError::DeviceUnknown`], [`SyncError::BadRequest`].
pub async fn known(tx: &mut TenantTx, request: &BodiesRequest) -> Result<BodiesKnown, SyncError> {
    let (place, hashes) = open(tx, request).await?;
    let linked = linked(tx, place, &hashes).await?;
    let known = request.hashes.iter();
    Ok(BodiesKnown {
        known: known
            .filter(|hash| linked.contains_key(*hash))
            .cloned()
            .collect(),
        numbers: request.numbers,
    })
}

/// Returns bodies that a row names which the caller may read, as many as fit.
///
/// # Errors
///
/// [`SyncError::ScopeNotFound`], [`SyncError::DeviceUnknown`], [`SyncError::BadRequest`].
pub async fn read(tx: &mut TenantTx, request: &BodiesRequest) -> Result<BodiesReply, SyncError> {
    let (place, hashes) = open(tx, request).await?;
    let linked = linked(tx, place, &hashes).await?;
    let mut reply = BodiesReply::default();
    let (mut wanted, mut bytes) = (Vec::new(), 0);
    for hash in &request.hashes {
        let Some(size) = linked.get(hash) else {
            reply.missing.push(hash.clone());
            continue;
        };
        bytes += *size;
        if !wanted.is_empty() && bytes > BODIES_BYTES_TARGET as i64 {
            break;
        }
        wanted.extend(digits(hash));
    }
    if !wanted.is_empty() {
        let rows = tx.query(PACKED, &place.params(&wanted)).await?;
        let mut texts = unpacked(&rows)?;
        for hash in wanted.iter().map(|hash| hex(hash)) {
            let Some(text) = texts.remove(&hash) else {
                continue;
            };
            add(&mut reply, request, hash, text);
        }
    }
    Ok(reply)
}

/// Adds a body in the form that packs tightest of those which the caller takes.
fn add(reply: &mut BodiesReply, request: &BodiesRequest, hash: String, text: String) {
    let numbered = request
        .numbers
        .then(|| body::as_numbered(&hash, &text, request.values));
    if let Some(numbered) = numbered.flatten() {
        reply.numbered.push(numbered);
        return;
    }
    match request.values.then(|| body::as_value(&text)).flatten() {
        Some(value) => reply.values.push(BodyValue { hash, value }),
        None => reply.bodies.push(Body { hash, text }),
    }
}

async fn open(
    tx: &mut TenantTx,
    request: &BodiesRequest,
) -> Result<(Place, Vec<Vec<u8>>), SyncError> {
    if request.hashes.len() > BODIES_NAMED_MAX {
        return Err(SyncError::BadRequest("a request names at most 1000 bodies"));
    }
    let hashes: Option<Vec<_>> = request.hashes.iter().map(|hash| digits(hash)).collect();
    let hashes = hashes.ok_or(SyncError::BadRequest("a body's hash is none"))?;
    access::require(tx, request.device, Permission::SyncPull, request.scope).await?;
    let place = Place {
        tenant: tx.tenant().get(),
        scope: request.scope.id(),
    };
    Ok((place, hashes))
}

async fn linked(
    tx: &mut TenantTx,
    place: Place,
    hashes: &Vec<Vec<u8>>,
) -> Result<HashMap<String, i64>, StoreError> {
    let rows = tx.query(LINKED, &place.params(hashes)).await?;
    let pair = |row: &DbRow| Ok((hex(row.try_get(0)?), row.try_get(1)?));
    rows.iter().map(pair).collect()
}

impl Place {
    fn params<'a>(&'a self, hashes: &'a Vec<Vec<u8>>) -> Vec<crate::db::Param<'a>> {
        vec![
            (&self.tenant as _, Type::UUID),
            (&self.scope as _, Type::UUID),
            (hashes as _, Type::BYTEA_ARRAY),
        ]
    }
}

/// Returns the bodies that rows name, for filling one row after the other.
fn wanted(table: &Table, row: &Row) -> Vec<(&'static Column, BodyName)> {
    body::names(table, row)
}

/// Puts a row's bodies into it.
///
/// # Errors
///
/// [`StoreError::Corrupt`] when one is not there.
pub(super) async fn fill(
    tx: &mut TenantTx,
    place: Place,
    table: &Table,
    row: &mut Row,
) -> Result<(), StoreError> {
    let names = wanted(table, row);
    if names.is_empty() {
        return Ok(());
    }
    let hashes: Vec<Vec<u8>> = names
        .iter()
        .filter_map(|(_, it)| digits(&it.hash))
        .collect();
    let rows = tx.query(PACKED, &place.params(&hashes)).await?;
    join(table, row, &names, &unpacked(&rows)?)
}

/// The same for a system task.
///
/// # Errors
///
/// [`StoreError::Corrupt`] when one is not there.
pub(super) async fn fill_as_system(
    tx: &mut SystemTx,
    place: Place,
    table: &Table,
    row: &mut Row,
) -> Result<(), StoreError> {
    fill_by(tx, PACKED, &place, table, row).await
}

/// The same with bodies that `sql` returns: their hashes are `$3`.
///
/// # Errors
///
/// [`StoreError::Corrupt`] when one is not there.
pub(super) async fn fill_by(
    tx: &mut SystemTx,
    sql: &str,
    place: &Place,
    table: &Table,
    row: &mut Row,
) -> Result<(), StoreError> {
    let names = wanted(table, row);
    if names.is_empty() {
        return Ok(());
    }
    let hashes: Vec<Vec<u8>> = names
        .iter()
        .filter_map(|(_, it)| digits(&it.hash))
        .collect();
    let rows = tx.query(sql, &place.params(&hashes)).await?;
    join(table, row, &names, &unpacked(&rows)?)
}

fn join(
    table: &Table,
    row: &mut Row,
    names: &[(&'static Column, BodyName)],
    texts: &HashMap<String, String>,
) -> Result<(), StoreError> {
    for (column, name) in names {
        let joined = texts
            .get(&name.hash)
            .is_some_and(|text| body::join(table, row, column, text));
        if !joined {
            return Err(StoreError::Corrupt {
                table: "bodies",
                row: name.hash.clone(),
            });
        }
    }
    Ok(())
}

/// Returns why a change cannot be stored: it names a body that is neither given in the batch nor
/// known by a row of this scope. One entry per change.
pub(super) async fn missing(
    tx: &mut TenantTx,
    place: Place,
    changes: &[&Valid<'_>],
) -> Result<Vec<Option<Refusal>>, StoreError> {
    if !Guard::BodyMissing.is_on() {
        return Ok(changes.iter().map(|_| None).collect());
    }
    let given: HashMap<&str, &str> = changes
        .iter()
        .flat_map(|valid| &valid.bodies)
        .map(|body| (body.hash.as_str(), body.text.as_str()))
        .collect();
    let named = |valid: &Valid<'_>| {
        let row = valid.change.row.as_ref();
        row.map_or_else(Vec::new, |row| body::names(valid.table, row))
    };
    let mut absent: HashSet<Vec<u8>> = HashSet::new();
    for (_, name) in changes.iter().flat_map(|valid| named(valid)) {
        if !given.contains_key(name.hash.as_str()) {
            absent.extend(digits(&name.hash));
        }
    }
    let absent: Vec<Vec<u8>> = absent.into_iter().collect();
    let held = match absent.is_empty() {
        true => HashMap::new(),
        false => {
            let hold = Guard::BodyVisible.sql(HOLD);
            unpacked(&tx.query(hold, &place.params(&absent)).await?)?
        }
    };
    let there = |column: &Column, name: &BodyName| {
        let text = given.get(name.hash.as_str()).copied();
        let text = text.or_else(|| held.get(&name.hash).map(String::as_str));
        let fits = |text| body::name(column, text) == *name || !Guard::BodyBeginning.is_on();
        text.is_some_and(fits)
    };
    let refusal = |valid: &&Valid<'_>| {
        let lacking = named(valid)
            .into_iter()
            .find(|(column, name)| !there(column, name));
        lacking.map(|(column, _)| {
            let reason = format!("{} is not here; send the row with its value", column.name);
            Refusal::new(coditect_protocol::ErrorCode::BodyMissing, reason)
        })
    };
    Ok(changes.iter().map(refusal).collect())
}

/// What a write does to bodies: rows that name them, and rows that are gone.
#[derive(Debug, Default)]
pub(super) struct Links<'a> {
    hashes: Vec<Vec<u8>>,
    tables: Vec<&'static str>,
    rows: Vec<Uuid>,
    gone_tables: Vec<&'static str>,
    gone_rows: Vec<Uuid>,
    texts: HashMap<&'a str, &'a str>,
}

/// Returns whether storing the change stores or links a body.
pub(super) fn is_named_by(valid: &Valid<'_>) -> bool {
    let row = valid.change.row.as_ref();
    !valid.bodies.is_empty() || row.is_some_and(|row| !body::names(valid.table, row).is_empty())
}

impl<'a> Links<'a> {
    /// Notes what became of a pushed change.
    pub(super) fn note(&mut self, valid: &'a Valid<'_>, status: Status) {
        if valid.table.body_names().is_none() {
            return;
        }
        let change: &Change = &valid.change;
        let written = !matches!(status, Status::Rejected | Status::Duplicate);
        match (&change.row, change.op) {
            (Some(row), Op::Upsert) if written => {
                self.row(valid.table, change.id.get(), row);
                let texts = valid.bodies.iter();
                self.texts
                    .extend(texts.map(|body| (body.hash.as_str(), body.text.as_str())));
            }
            (_, Op::Delete) if matches!(status, Status::Applied | Status::Merged) => {
                self.gone(valid.table, change.id.get());
            }
            _ => {}
        }
    }

    /// Notes a parted row that is stored.
    pub(super) fn row(&mut self, table: &'static Table, id: Uuid, row: &Row) {
        for (_, name) in body::names(table, row) {
            self.hashes.extend(digits(&name.hash));
            self.tables.push(table.cloud);
            self.rows.push(id);
        }
    }

    /// Notes the texts of a stored row.
    pub(super) fn texts(&mut self, bodies: &'a [Body]) {
        let texts = bodies.iter();
        self.texts
            .extend(texts.map(|body| (body.hash.as_str(), body.text.as_str())));
    }

    /// Notes a row that is deleted.
    pub(super) fn gone(&mut self, table: &'static Table, id: Uuid) {
        if table.body_names().is_some() && Guard::BodyUnlinked.is_on() {
            self.gone_tables.push(table.cloud);
            self.gone_rows.push(id);
        }
    }

    /// Stores texts and links; returns the bytes of the bodies that were not there.
    pub(super) async fn write(self, tx: &mut TenantTx, place: Place) -> Result<i64, StoreError> {
        let (mut hashes, mut counts, mut packed) = (Vec::new(), Vec::new(), Vec::new());
        for (hash, text) in &self.texts {
            hashes.extend(digits(hash));
            counts.push(text.len() as i64);
            packed.push(pack(text)?);
        }
        let mut statements = Vec::new();
        if !self.gone_rows.is_empty() {
            let mut params = place.params(&hashes);
            params.truncate(2);
            params.push((&self.gone_tables, Type::TEXT_ARRAY));
            params.push((&self.gone_rows, Type::UUID_ARRAY));
            statements.push(Statement {
                sql: UNLINK,
                params,
            });
        }
        if !self.hashes.is_empty() {
            let mut params = place.params(&self.hashes);
            params.push((&self.tables, Type::TEXT_ARRAY));
            params.push((&self.rows, Type::UUID_ARRAY));
            statements.push(Statement { sql: LINK, params });
        }
        let keeps = !hashes.is_empty();
        if keeps {
            let mut params = place.params(&hashes);
            params.push((&counts, Type::INT8_ARRAY));
            params.push((&packed, Type::BYTEA_ARRAY));
            let sql = Guard::BodyKept.sql(KEEP);
            statements.push(Statement { sql, params });
        }
        if statements.is_empty() {
            return Ok(0);
        }
        let answers = tx.pipeline(&statements).await?;
        sum(answers.last().filter(|_| keeps))
    }
}

/// Gives bodies of one scope to another, for rows that move there; returns the bytes of those
/// that were not there.
pub(super) async fn copy(
    tx: &mut TenantTx,
    from: Place,
    to: Uuid,
    links: &Links<'_>,
) -> Result<i64, StoreError> {
    if links.hashes.is_empty() {
        return Ok(0);
    }
    let params = [
        (&from.tenant as _, Type::UUID),
        (&from.scope as _, Type::UUID),
        (&to as _, Type::UUID),
        (&links.hashes as _, Type::BYTEA_ARRAY),
    ];
    sum(Some(&tx.query(COPY, &params).await?))
}

fn sum(rows: Option<&Vec<DbRow>>) -> Result<i64, StoreError> {
    let rows = rows.into_iter().flatten();
    rows.map(|row| Ok(row.try_get::<_, i64>(0)?)).sum()
}

fn unpacked(rows: &[DbRow]) -> Result<HashMap<String, String>, StoreError> {
    let mut texts = HashMap::with_capacity(rows.len());
    for row in rows {
        let hash: &[u8] = row.try_get(0)?;
        let text = unpack(row.try_get(1)?).filter(|text| body::hash(text).0 == *hash);
        let text = text.ok_or_else(|| StoreError::Corrupt {
            table: "bodies",
            row: hex(hash),
        })?;
        texts.insert(hex(hash), text);
    }
    Ok(texts)
}

fn pack(text: &str) -> Result<Vec<u8>, StoreError> {
    zstd::bulk::compress(text.as_bytes(), PACK_LEVEL).map_err(|_| StoreError::Corrupt {
        table: "bodies",
        row: "packing".to_owned(),
    })
}

fn unpack(packed: &[u8]) -> Option<String> {
    let mut bytes = Vec::new();
    let decoder = zstd::stream::read::Decoder::with_buffer(packed).ok()?;
    let limit = ROW_BYTES_MAX as u64 + 1;
    decoder.take(limit).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

fn digits(hash: &str) -> Option<Vec<u8>> {
    let hash: coditect_core::hash::ContentHash = hash.parse().ok()?;
    Some(hash.0.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_and_damage_is_noticed() {
        let text = "Zürich \u{0}".repeat(2_000);
        let packed = pack(&text).unwrap();
        assert!(packed.len() < 200);
        assert_eq!(unpack(&packed), Some(text));
        assert_eq!(unpack(&packed[..packed.len() - 3]), None);
        assert_eq!(unpack(b"no frame"), None);
    }

    #[test]
    fn hashes_read_back() {
        let hash = body::hash("a").to_string();
        assert_eq!(hex(&digits(&hash).unwrap()), hash);
        assert_eq!(digits("short"), None);
    }
}
