//! Repair: comparing ranges of bases with the server's sums, and mending the rows that differ.
//! Every row is looked at again in the transaction that changes it; one with an edit of its own
//! is left to the push.

use coditect_core::hash;
use coditect_core::sync::{Comparison, Plan, TableRepair, Wanted};
use coditect_protocol::catalogue::{Direction, File, Table};
use coditect_protocol::wire::descent::{Descended, Descent, Divided, NamedRows, OwnPart, Range};
use coditect_protocol::wire::{Op, Stored};
use coditect_protocol::{RowId, Scope, Version};
use rusqlite::{Connection, params};
use std::collections::BTreeMap;

use crate::LocalStore;
use crate::base::Base;
use crate::conflicts::{Kind, NewConflict};
use crate::database::{meta, set_meta};
use crate::error::{InFile as _, Result};
use crate::marks;
use crate::reconcile::requeue;
use crate::statements::{self, LocalRow};
use crate::work::Work;

/// Rows mended in one transaction.
const CHUNK_ROWS: usize = 100;
/// Rows that one range of a reply may turn out to lack: the rest waits for the next run.
const EXTRA_ROWS_MAX: usize = 2_000;
/// Rows that were found damaged and are read again in one run.
const SUSPECTS_MAX: usize = 500;
/// Repairs without effect after which everything is read again, once.
const REREAD_AFTER: i64 = 3;
/// First and longest pause after repairs without effect, in milliseconds.
const PAUSE_MS: i64 = 60_000;
const PAUSE_MS_MAX: i64 = 6 * 3_600_000;

/// What looking at a range closely came to.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) repairs: Vec<TableRepair>,
    /// Whether a digest of this side was counted anew.
    pub(crate) recounted: bool,
}

impl LocalStore {
    /// Returns what a run shall repair: the tables whose digests differ, and rows that a scrub
    /// found damaged. Where repairs had no effect before, there are pauses between them.
    ///
    /// # Errors
    /// [`crate::Error::NotBound`] before the first login, or when a database fails.
    pub fn plan_repair(&mut self, heads: &[Comparison], now_ms: i64) -> Result<Plan> {
        self.scrub(now_ms)?;
        let failures = self.repair_number("repair_failures")?;
        let not_before_ms = self.repair_number("repair_not_before_ms")?;
        let equal = heads.iter().all(Comparison::equal);
        if equal && failures > 0 {
            self.note_repair(true, now_ms)?;
        }
        // A clock that was set back does not prolong the pause.
        let paused = not_before_ms > now_ms && not_before_ms - now_ms <= PAUSE_MS_MAX;
        if !equal && paused {
            return Ok(Plan::default());
        }
        let mut plan = Plan {
            wanted: Vec::new(),
            reread: !equal && failures == REREAD_AFTER,
        };
        for head in heads.iter().filter(|_| !plan.reread) {
            let ranges = head
                .streams()
                .filter(|stream| stream.local != stream.server)
                .map(|stream| Range::whole(&stream.server.table, stream.server.count));
            plan.wanted.push(Wanted {
                scope: head.scope,
                file: head.file,
                descent: Descent {
                    ranges: ranges.collect(),
                    rows: self.suspects(head.file, head.scope)?,
                },
            });
        }
        plan.wanted.retain(|wanted| !wanted.descent.is_empty());
        Ok(plan)
    }

    /// Notes whether a repair helped. After one that did not, the next waits, longer each time.
    ///
    /// # Errors
    /// When the database fails.
    pub fn note_repair(&mut self, helped: bool, now_ms: i64) -> Result<()> {
        let failures = match helped {
            true => 0,
            false => self.repair_number("repair_failures")? + 1,
        };
        let doubled = PAUSE_MS << (failures - 1).clamp(0, 16);
        let pause_ms = if helped { 0 } else { doubled.min(PAUSE_MS_MAX) };
        self.write(File::Org, |work| {
            let note = || -> rusqlite::Result<()> {
                set_meta(work.tx, "repair_failures", &failures.to_string())?;
                let until_ms = if helped {
                    0
                } else {
                    now_ms.saturating_add(pause_ms)
                };
                set_meta(work.tx, "repair_not_before_ms", &until_ms.to_string())
            };
            note().in_file(File::Org)
        })
    }

    /// Ends the pause after repairs without effect: somebody asks for one now.
    ///
    /// # Errors
    /// When the database fails.
    pub fn forget_pause(&mut self) -> Result<()> {
        if self.repair_number("repair_failures")? > 0 {
            self.note_repair(true, 0)?;
        }
        Ok(())
    }

    fn repair_number(&self, key: &str) -> Result<i64> {
        let text = meta(self.read(File::Org)?, key).in_file(File::Org)?;
        Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    fn suspects(&self, file: File, scope: Scope) -> Result<Vec<NamedRows>> {
        let local = scope.to_local(self.owner()?.user.get());
        let connection = self.read(file)?;
        let list = || -> rusqlite::Result<Vec<(String, String)>> {
            let mut statement = connection.prepare_cached(
                "select table_name, id from sync_suspect where scope = ?1
                 order by table_name, id limit ?2",
            )?;
            let rows = statement.query_map(params![local, SUSPECTS_MAX as i64], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            rows.collect()
        };
        let mut named: BTreeMap<String, Vec<RowId>> = BTreeMap::new();
        for (table, id) in list().in_file(file)? {
            if let Ok(id) = id.parse() {
                named.entry(table).or_default().push(id);
            }
        }
        let named = named.into_iter();
        Ok(named.map(|(table, ids)| NamedRows { table, ids }).collect())
    }

    /// Compares the bases with the ranges of a reply. What differs is asked for in more detail,
    /// or read again; what the server lacks is queued.
    pub(crate) fn compare_ranges(
        &mut self,
        file: File,
        scope: Scope,
        descended: &Descended,
    ) -> Result<Found> {
        let local = scope.to_local(self.owner()?.user.get());
        let mut found = Found::default();
        let mut closer = Descent::default();
        for divided in &descended.ranges {
            let Some(table) = statements::table_in(file, &divided.table) else {
                continue;
            };
            let all = Range::whole(table.cloud, 0);
            let whole = (divided.first, divided.last) == (all.first, all.last);
            if divided.listed.is_none() {
                let unequal = self.unequal_parts(table, &local, divided)?;
                if whole && unequal.is_empty() {
                    found.recounted = true;
                    self.write(file, |work| recount(work.tx, table, &local).in_file(file))?;
                }
                closer.ranges.extend(unequal);
                continue;
            }
            let differing = self.differing(table, &local, divided)?;
            if whole && differing.is_empty() {
                found.recounted = true;
                self.write(file, |work| recount(work.tx, table, &local).in_file(file))?;
            }
            let mut repair = TableRepair::of(scope, table.cloud);
            let mut again = Vec::new();
            for chunk in differing.chunks(CHUNK_ROWS) {
                self.write(file, |work| {
                    for (id, server) in chunk {
                        if work.weigh(table, &local, &id.to_string(), *server, &mut repair)? {
                            again.push(*id);
                        }
                    }
                    Ok(())
                })?;
            }
            if !again.is_empty() {
                closer.rows.push(NamedRows {
                    table: table.cloud.to_owned(),
                    ids: again,
                });
            }
            found.repairs.push(repair);
        }
        if !closer.is_empty() {
            found.wanted.push(Wanted {
                scope,
                file,
                descent: closer,
            });
        }
        Ok(found)
    }

    /// Returns the parts of a range in which the bases have other sums.
    fn unequal_parts(
        &self,
        table: &'static Table,
        local: &str,
        divided: &Divided,
    ) -> Result<Vec<Range>> {
        let device = self.device.to_string();
        let connection = self.read(table.file)?;
        let scan = || -> rusqlite::Result<Vec<(i64, u64)>> {
            let mut sums = vec![(0_i64, 0_u64); divided.parts.len()];
            let ends: Vec<String> = divided.parts.iter().map(|it| it.last.to_string()).collect();
            let mut at = 0;
            let mut statement = connection.prepare_cached(BASES)?;
            let origin = (table.direction == Direction::Up).then_some(device);
            let (first, last) = (divided.first.to_string(), divided.last.to_string());
            let mut rows = statement.query(params![table.cloud, local, first, last, origin])?;
            while let Some(row) = rows.next()? {
                let id = row.get_ref(0)?.as_str()?;
                while ends.get(at).is_some_and(|end| id > end.as_str()) {
                    at += 1;
                }
                if let Some(sum) = sums.get_mut(at) {
                    sum.0 += 1;
                    sum.1 ^= row.get::<_, i64>(2)?.cast_unsigned();
                }
            }
            Ok(sums)
        };
        let sums = scan().in_file(table.file)?;
        let mut first = divided.first;
        let mut unequal = Vec::new();
        for (part, (count, xor)) in divided.parts.iter().zip(sums) {
            if (part.count, part.xor) != (count, xor) {
                unequal.push(Range {
                    table: table.cloud.to_owned(),
                    first,
                    last: part.last,
                    count: part.count,
                });
            }
            first = after(part.last);
        }
        Ok(unequal)
    }

    /// Returns the rows of a listed range that differ, with the version that the server has.
    fn differing(
        &self,
        table: &'static Table,
        local: &str,
        divided: &Divided,
    ) -> Result<Vec<(RowId, Option<Version>)>> {
        let device = self.device.to_string();
        let connection = self.read(table.file)?;
        let read = || -> rusqlite::Result<BTreeMap<RowId, u64>> {
            let mut statement = connection.prepare_cached(BASES)?;
            let origin = (table.direction == Direction::Up).then_some(device);
            let (first, last) = (divided.first.to_string(), divided.last.to_string());
            let mut rows = statement.query(params![table.cloud, local, first, last, origin])?;
            let mut bases = BTreeMap::new();
            while let Some(row) = rows.next()? {
                if let Ok(id) = row.get_ref(0)?.as_str()?.parse() {
                    bases.insert(id, row.get::<_, i64>(2)?.cast_unsigned());
                }
            }
            Ok(bases)
        };
        let mut bases = read().in_file(table.file)?;
        let mut differing = Vec::new();
        for listed in divided.listed.iter().flatten() {
            let own = bases.remove(&listed.id);
            if own != Some(listed.term) {
                differing.push((listed.id, Some(listed.version)));
            }
        }
        let extra = bases.into_keys().take(EXTRA_ROWS_MAX);
        differing.extend(extra.map(|id| (id, None)));
        Ok(differing)
    }
}

/// Bases of a range of ids in order; of one origin where only those are compared.
const BASES: &str = "select id, version, fingerprint from sync_base
     where table_name = ?1 and scope = ?2 and id between ?3 and ?4
       and (?5 is null or origin = ?5)
     order by id";

/// Returns the id behind another one.
fn after(id: RowId) -> RowId {
    RowId::new(uuid::Uuid::from_u128(id.get().as_u128().saturating_add(1)))
}

impl Work<'_> {
    /// Looks at a row that differs from the server's list, and queues it if this side has more.
    /// Returns whether the server's row shall be read.
    fn weigh(
        &mut self,
        table: &'static Table,
        scope: &str,
        id: &str,
        server: Option<Version>,
        repair: &mut TableRepair,
    ) -> Result<bool> {
        let live = statements::by_key(self.tx, table, scope, id).in_file(self.file)?;
        let Some(base) = self.base(table, scope, id)? else {
            return Ok(server.is_some());
        };
        if self.is_busy(table, scope, id, live.as_ref())? {
            repair.skipped += 1;
            return Ok(false);
        }
        match server {
            Some(version) => {
                let newer = base.version > version && holds(table, &base, live.as_ref());
                if !newer || table.direction == Direction::Down {
                    return Ok(true);
                }
                self.send_again(table, scope, id, &base)?;
                repair.queued += 1;
            }
            None if table.direction == Direction::Down || !has_content(&base, live.as_ref()) => {
                self.send_again(table, scope, id, &base)?;
                repair.removed += 1;
            }
            None => {
                self.send_again(table, scope, id, &base)?;
                repair.queued += 1;
            }
        }
        Ok(false)
    }

    /// Whether a row has an edit that is not acknowledged: the push settles it.
    pub(crate) fn is_busy(
        &self,
        table: &Table,
        scope: &str,
        id: &str,
        live: Option<&LocalRow>,
    ) -> Result<bool> {
        if !self.guards.repair_leaves_edits {
            return Ok(false);
        }
        let seq = live.map(|live| live.seq);
        let mark = marks::of_row(self.tx, table, scope, id, seq).in_file(self.file)?;
        Ok(mark.is_some() || self.may_be_stored(table, scope, id)?)
    }

    /// Queues a row under the version that it has; one without any content is dropped.
    fn send_again(
        &mut self,
        table: &'static Table,
        scope: &str,
        id: &str,
        base: &Base,
    ) -> Result<()> {
        let made_ms = i64::try_from(base.version.unix_ms()).unwrap_or(i64::MAX);
        requeue(self, table, scope, id, made_ms)
    }

    /// Mends the rows that were read again. `n` is the position up to which the stream was read.
    pub(crate) fn repair_rows(
        &mut self,
        scope: Scope,
        local: &str,
        n: i64,
        descended: &Descended,
    ) -> Result<Vec<TableRepair>> {
        let mut repairs = Vec::new();
        for stored in &descended.rows {
            let Some(table) = statements::table_in(self.file, &stored.table) else {
                continue;
            };
            let mut repair = TableRepair::of(scope, table.cloud);
            if stored.cursor <= n {
                self.repair_row(table, local, stored, &descended.parts, &mut repair)?;
                self.clear_suspect(table, local, &stored.id.to_string())?;
            }
            repairs.push(repair);
        }
        for named in &descended.absent {
            let Some(table) = statements::table_in(self.file, &named.table) else {
                continue;
            };
            let mut repair = TableRepair::of(scope, table.cloud);
            for id in named.ids.iter().map(ToString::to_string) {
                self.weigh(table, local, &id, None, &mut repair)?;
                self.clear_suspect(table, local, &id)?;
            }
            repairs.push(repair);
        }
        Ok(repairs)
    }

    /// Takes the server's row, unless this side has more, or the server's is damaged itself.
    fn repair_row(
        &mut self,
        table: &'static Table,
        scope: &str,
        stored: &Stored,
        parts: &[OwnPart],
        repair: &mut TableRepair,
    ) -> Result<()> {
        let id = stored.id.to_string();
        let live = statements::by_key(self.tx, table, scope, &id).in_file(self.file)?;
        if self.is_busy(table, scope, &id, live.as_ref())? {
            repair.skipped += 1;
            return Ok(());
        }
        let old = self.base(table, scope, &id)?;
        let hash_of = |row| hash::content(table, row).to_string();
        let sound = stored
            .row
            .as_ref()
            .is_none_or(|row| hash_of(row) == stored.hash);
        let own = old.as_ref().filter(|old| holds(table, old, live.as_ref()));
        let own = own.filter(|_| table.direction != Direction::Down);
        match own {
            Some(own) if !sound || own.version > stored.version => {
                let own = own.clone();
                self.send_again(table, scope, &id, &own)?;
                repair.queued += 1;
                return Ok(());
            }
            None if !sound => {
                repair.damaged += 1;
                return Ok(());
            }
            _ => {}
        }
        if let Some(live) = &live {
            self.keep_odd(table, scope, stored, live, old.as_ref())?;
        }
        let mut base = Base::of(self, table, stored, stored.row.as_ref(), old.as_ref())?;
        for (name, counter) in &mut base.counters {
            let same = |part: &&OwnPart| {
                (part.table.as_str(), part.id, &part.column) == (table.cloud, stored.id, name)
            };
            counter.own = parts.iter().find(same).map_or(0, |part| part.total);
        }
        self.set_base(table, scope, &id, &base)?;
        self.put_stored(table, scope, &id, stored, stored.row.as_ref())?;
        repair.fetched += 1;
        Ok(())
    }

    /// Keeps bytes that are neither what was acknowledged nor what the server has: damaged ones,
    /// or an edit whose mark somebody removed. Nobody can tell which, so nothing is thrown away.
    fn keep_odd(
        &self,
        table: &Table,
        scope: &str,
        stored: &Stored,
        live: &LocalRow,
        old: Option<&Base>,
    ) -> Result<()> {
        let row = live.canonical(table);
        let own = hash::content(table, &row);
        if own.to_string() == stored.hash || old.is_some_and(|old| old.hash == own) {
            return Ok(());
        }
        self.keep_conflict(&NewConflict {
            table,
            scope,
            id: &stored.id.to_string(),
            kind: Kind::Concurrent,
            op: Op::Upsert,
            version: old.map(|old| old.version),
            device: old.map(|old| old.device),
            kept_version: Some(stored.version),
            row: Some(&row),
            at_ms: i64::try_from(stored.version.unix_ms()).unwrap_or(i64::MAX),
        })
    }

    fn clear_suspect(&self, table: &Table, scope: &str, id: &str) -> Result<()> {
        self.tx
            .prepare_cached(
                "delete from sync_suspect where table_name = ?1 and scope = ?2 and id = ?3",
            )
            .and_then(|mut statement| statement.execute([table.cloud, scope, id]))
            .map(drop)
            .in_file(self.file)
    }
}

/// Whether this side has the bytes that were acknowledged.
pub(crate) fn holds(table: &Table, base: &Base, live: Option<&LocalRow>) -> bool {
    match live {
        None => base.deleted,
        Some(live) => !base.deleted && hash::content(table, &live.canonical(table)) == base.hash,
    }
}

const fn has_content(base: &Base, live: Option<&LocalRow>) -> bool {
    base.deleted || live.is_some()
}

/// Counts the digests of a table anew: its rows are equal to the server's and the digests are not.
fn recount(connection: &Connection, table: &Table, scope: &str) -> rusqlite::Result<()> {
    let mut sums: BTreeMap<String, (i64, i64, u64)> = BTreeMap::new();
    {
        let mut statement = connection.prepare_cached(
            "select origin, deleted, fingerprint from sync_base
             where table_name = ?1 and scope = ?2",
        )?;
        let mut rows = statement.query([table.cloud, scope])?;
        while let Some(row) = rows.next()? {
            let sum = sums.entry(row.get(0)?).or_default();
            sum.0 += i64::from(!row.get::<_, bool>(1)?);
            sum.1 += 1;
            sum.2 ^= row.get::<_, i64>(2)?.cast_unsigned();
        }
    }
    connection.execute(
        "delete from sync_digest where table_name = ?1 and scope = ?2",
        [table.cloud, scope],
    )?;
    let mut insert = connection.prepare_cached(
        "insert into sync_digest (table_name, scope, origin, rows, count, xor)
         values (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (origin, (rows, count, xor)) in sums {
        let xor = xor.cast_signed();
        insert.execute(params![table.cloud, scope, origin, rows, count, xor])?;
    }
    Ok(())
}
