//! What comes in: pages of the server's streams, stored in cursor order, one transaction per
//! page with the cursor in it. Storing a page again changes nothing.

use coditect_core::sync::{Applied, Comparison, TableRepair};
use coditect_core::{body, canonical, hash};
use coditect_protocol::catalogue::{Direction, File, Table, by_cloud_name};
use coditect_protocol::wire::pull::{Page, Position, PullReply};
use coditect_protocol::wire::{Op, Row, Stored};
use coditect_protocol::{Cursor, DeviceId, Epoch, Scope};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::borrow::Cow;

use crate::base::{Base, Edit};
use crate::conflicts::{Kind, NewConflict};
use crate::database::{meta, set_meta};
use crate::digest;
use crate::error::{Error, InFile as _, Result};
use crate::guards::FileGuard;
use crate::marks::{self, RECONCILE};
use crate::reconcile::is_set_back;
use crate::statements::{self, LocalRow};
use crate::value;
use crate::work::Work;
use crate::{LocalStore, outgoing};

/// What storing one page did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageApplied {
    /// Rows of others that were stored.
    pub changes: u64,
    /// Rows that this device had sent itself.
    pub own_echoes: u64,
    /// Rows whose local edit goes first; only their base moved.
    pub dirty: u64,
    /// Rows of tables that this version does not know.
    pub unknown: u64,
    /// Rows that were read again and mended.
    pub repairs: Vec<TableRepair>,
    /// Digests of both sides, if the page reached the head.
    pub head: Option<Comparison>,
}

enum Step {
    Changed,
    Echo,
    Dirty,
}

impl LocalStore {
    /// Returns the device and the positions to pull from: the owner's scope and the
    /// organisation's, and all others that a pull has named, for every file; the platform's for
    /// its own file only.
    ///
    /// # Errors
    /// [`Error::NotBound`] before the first login, or when a database fails.
    pub fn positions(&self) -> Result<(DeviceId, Vec<Position>)> {
        let owner = self.owner()?;
        let mut positions = Vec::new();
        let mut said = Vec::new();
        for (scope, file) in self.streams()? {
            let local = scope.to_local(owner.user.get());
            let known = cursor(self.read(file)?, &local).in_file(file)?;
            // Read from the start, but say which epoch the file follows: a server that has gone
            // on to another one answers with that, not with pages that do not fit.
            let cursor = match known {
                Some((cursor, _)) => Some(cursor),
                None => follows(self.read(file)?)
                    .in_file(file)?
                    .map(|epoch| Cursor { epoch, n: 0 }),
            };
            // Once for each file: who only reads has to notice a copy and a set back, too.
            let token = if said.contains(&file) || !self.guards.token {
                None
            } else {
                said.push(file);
                outgoing::token_of_epoch(self.read(file)?).in_file(file)?
            };
            positions.push(Position {
                scope,
                file,
                cursor,
                token,
                descent: None,
            });
        }
        Ok((self.device, positions))
    }

    /// Returns every stream and file that this device follows.
    ///
    /// # Errors
    /// [`Error::NotBound`] before the first login, or when a database fails.
    pub fn streams(&self) -> Result<Vec<(Scope, File)>> {
        let owner = self.owner()?;
        let mut scopes = vec![
            Scope::User(owner.user.get()),
            Scope::Org(owner.tenant.get()),
            Scope::Platform,
        ];
        let connection = self.read(File::Org)?;
        let list = || -> rusqlite::Result<Vec<String>> {
            let sql = "select scope from sync_scope order by scope";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        };
        for text in list().in_file(File::Org)? {
            let scope = outgoing::from_local(File::Org, &text, owner)?;
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        let mut streams = Vec::new();
        for scope in scopes {
            let files: &[File] = match scope {
                Scope::Platform => &[File::Platform],
                _ => &File::ALL,
            };
            streams.extend(files.iter().map(|file| (scope, *file)));
        }
        Ok(streams)
    }

    /// Returns the position up to which a stream was read.
    ///
    /// # Errors
    /// [`Error::NotBound`] before the first login, or when the database fails.
    pub fn cursor(&self, file: File, scope: Scope) -> Result<Option<Cursor>> {
        let local = scope.to_local(self.owner()?.user.get());
        let found = cursor(self.read(file)?, &local).in_file(file)?;
        Ok(found.map(|(cursor, _)| cursor))
    }

    /// Stores all pages of a reply.
    ///
    /// # Errors
    /// As [`LocalStore::apply_page`].
    pub fn apply_reply(&mut self, reply: &PullReply) -> Result<Applied> {
        self.note_scopes(&reply.scopes)?;
        self.leave_others(&reply.scopes, reply.epoch)?;
        let mut applied = Applied::default();
        for page in &reply.pages {
            let stored = self.apply_page(page, reply.epoch)?;
            applied.pulled += stored.changes;
            applied.heads.extend(stored.head);
            applied.repairs.extend(stored.repairs);
            if let Some(descended) = page.descent.as_ref().filter(|_| page.at_head) {
                let found = self.compare_ranges(page.file, page.scope, descended)?;
                if let Some(head) = applied.heads.last_mut().filter(|_| found.recounted) {
                    let local = page.scope.to_local(self.owner()?.user.get());
                    head.local = digest::of(self.read(page.file)?, page.file, &local, self.device)
                        .in_file(page.file)?;
                }
                applied.wanted.extend(found.wanted);
                applied.repairs.extend(found.repairs);
            }
        }
        Ok(applied)
    }

    /// Stores a page: rows, bases, digests and the cursor in one transaction.
    ///
    /// # Errors
    /// [`Error::NotBound`] before the first login, [`Error::EpochMismatch`] when the file
    /// follows another epoch, or when the database fails.
    pub fn apply_page(&mut self, page: &Page, epoch: Epoch) -> Result<PageApplied> {
        let owner = self.owner()?;
        let local = page.scope.to_local(owner.user.get());
        let before = match self.guards.cursor_with_page {
            true => None,
            false => Some(self.write(page.file, |work| {
                let seen = seen(work, &local)?;
                let n = page.cursor.n.max(seen);
                set_cursor(work, &local, epoch, n, page.at_head)?;
                Ok(seen)
            })?),
        };
        self.write(page.file, |work| {
            enter_epoch(work, epoch)?;
            let seen = match before {
                Some(seen) => seen,
                None => seen(work, &local)?,
            };
            let mut applied = PageApplied::default();
            // A page that comes late must not set rows back.
            let from = if work.guards.late_page { seen } else { 0 };
            for stored in page.changes.iter().filter(|stored| stored.cursor > from) {
                let Some(table) = by_cloud_name(&stored.table).filter(|t| t.file == work.file)
                else {
                    applied.unknown += 1;
                    continue;
                };
                match work.apply(table, &local, stored)? {
                    Step::Changed => applied.changes += 1,
                    Step::Echo => applied.own_echoes += 1,
                    Step::Dirty => applied.dirty += 1,
                }
            }
            let n = page.cursor.n.max(seen);
            set_cursor(work, &local, epoch, n, page.at_head)?;
            if let Some(descended) = page.descent.as_ref().filter(|_| page.at_head) {
                applied.repairs = work.repair_rows(page.scope, &local, n, descended)?;
                work.note_damaged_there(&local, &descended.damaged)?;
            }
            if let Some(server) = page.digests.as_ref().filter(|_| page.at_head) {
                applied.head = Some(Comparison {
                    scope: page.scope,
                    file: page.file,
                    cursor: Cursor { epoch, n },
                    local: digest::of(work.tx, work.file, &local, work.device)
                        .in_file(work.file)?,
                    server: server.clone(),
                });
            }
            Ok(applied)
        })
    }

    fn note_scopes(&mut self, scopes: &[Scope]) -> Result<()> {
        let owner = self.owner()?;
        let known = self.streams()?;
        let new: Vec<String> = scopes
            .iter()
            .filter(|scope| !known.iter().any(|(known, _)| known == *scope))
            .map(|scope| scope.to_local(owner.user.get()))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        self.write(File::Org, |work| {
            for scope in &new {
                let sql = "insert into sync_scope (scope) values (?1) on conflict do nothing";
                work.tx.execute(sql, [scope]).in_file(File::Org)?;
            }
            Ok(())
        })
    }
}

/// Returns a stream's position and whether it was the head when it was read.
pub(crate) fn cursor(
    connection: &Connection,
    local: &str,
) -> rusqlite::Result<Option<(Cursor, bool)>> {
    let found = connection
        .prepare_cached("select epoch, n, at_head from sync_cursor where scope = ?1")?
        .query_row([local], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    // An epoch that does not read back means reading from the start, which mends it.
    Ok(found.and_then(|(epoch, n, at_head)| {
        let epoch = epoch.parse().ok()?;
        Some((Cursor { epoch, n }, at_head))
    }))
}

/// Returns the number up to which a stream was read.
fn seen(work: &Work<'_>, local: &str) -> Result<i64> {
    let seen = cursor(work.tx, local).in_file(work.file)?;
    Ok(seen.map_or(0, |(cursor, _)| cursor.n))
}

fn set_cursor(work: &Work<'_>, local: &str, epoch: Epoch, n: i64, at_head: bool) -> Result<()> {
    work.tx
        .prepare_cached(
            "insert into sync_cursor (scope, epoch, n, at_head) values (?1, ?2, ?3, ?4)
             on conflict (scope) do update set epoch = excluded.epoch, n = excluded.n,
               at_head = excluded.at_head",
        )
        .and_then(|mut statement| statement.execute(params![local, epoch.to_string(), n, at_head]))
        .in_file(work.file)?;
    Ok(())
}

/// Returns the epoch that a file follows; none before its first page.
pub(crate) fn follows(connection: &Connection) -> rusqlite::Result<Option<Epoch>> {
    Ok(meta(connection, "epoch")?.and_then(|text| text.parse().ok()))
}

/// Takes over the epoch of the first page; another one later needs a reconciliation.
fn enter_epoch(work: &Work<'_>, epoch: Epoch) -> Result<()> {
    match follows(work.tx).in_file(work.file)? {
        Some(known) if known == epoch => Ok(()),
        Some(expected) if work.guards.epoch => Err(Error::EpochMismatch {
            file: work.file,
            expected,
            found: epoch,
        }),
        _ => set_meta(work.tx, "epoch", &epoch.to_string()).in_file(work.file),
    }
}

impl Work<'_> {
    fn apply(&mut self, table: &'static Table, scope: &str, stored: &Stored) -> Result<Step> {
        let id = stored.id.to_string();
        let live = statements::by_key(self.tx, table, scope, &id).in_file(self.file)?;
        let seq = live.as_ref().map(|live| live.seq);
        let mut mark = marks::of_row(self.tx, table, scope, &id, seq).in_file(self.file)?;
        let old = self.base(table, scope, &id)?;
        self.forget_foreign(table, scope, &id)?;
        if let Some(live) = live
            .as_ref()
            .filter(|_| self.guards.unsent && mark.is_none() && table.comes_down())
            && self.is_unsent(table, live, old.as_ref())
        {
            // Somebody removed the mark since the adoption: what was written is still unsent.
            let made = live.updated_at.as_deref().and_then(canonical::ms_from_time);
            let made_ms = made.unwrap_or_else(|| stored.version.unix_ms() as i64);
            self.put_mark(table, seq, scope, Some(&id), "found", made_ms, false)?;
            mark = marks::of_row(self.tx, table, scope, &id, seq).in_file(self.file)?;
        }
        self.keep_overtaken(table, scope, stored, old.as_ref(), live.as_ref())?;
        if let Some(mark) = &mark {
            if self.guards.base {
                let old = match old {
                    Some(old) => Some(self.with_lost_edit(old, stored)?),
                    None => None,
                };
                self.move_base(table, scope, &id, stored, old, live)?;
                self.know_what_was_sent(table, scope, stored)?;
                self.readopt(mark.n)?;
                return Ok(Step::Dirty);
            }
            self.remove_mark(mark.n)?;
        }
        let older = |old: &Base| !self.guards.any_version && old.version > stored.version;
        if old.as_ref().is_some_and(older) {
            return Ok(Step::Echo);
        }
        // A live base without a row is no delete: the row comes back.
        if let Some(old) = old.as_ref().filter(|old| live.is_some() != old.deleted)
            && self.is_lost(old, stored)?
        {
            self.keep_newer(table, scope, &id, stored, old, live)?;
            return Ok(Step::Dirty);
        }
        let known = old.as_ref().is_some_and(|old| {
            (old.version, old.device, old.deleted)
                == (stored.version, stored.device, stored.op == Op::Delete)
                && live.is_some() != old.deleted
        });
        let base = Base::of(self, table, stored, stored.row.as_ref(), old.as_ref())?;
        // A row that a device gave back to a restored server has its old version, but the
        // counters' sums are those of the parts that are known again by then.
        let known = known
            && old
                .as_ref()
                .is_some_and(|old| old.counters == base.counters && old.maxima == base.maxima);
        self.set_base(table, scope, &id, &base)?;
        if known && mark.is_none() {
            return Ok(Step::Echo);
        }
        self.put_stored(table, scope, &id, stored, stored.row.as_ref())?;
        Ok(if stored.device == self.device {
            Step::Echo
        } else {
            Step::Changed
        })
    }

    /// Stores what the server has of a row outside of a page.
    pub(crate) fn apply_one(
        &mut self,
        table: &'static Table,
        scope: &str,
        stored: &Stored,
    ) -> Result<()> {
        self.apply(table, scope, stored).map(drop)
    }

    /// Returns whether an unmarked row has a content that the server never had.
    fn is_unsent(&self, table: &Table, live: &LocalRow, old: Option<&Base>) -> bool {
        let known = old.filter(|old| !old.deleted).map(|old| old.hash);
        let writable = table.direction != Direction::Down;
        writable && known != Some(hash::content(table, &live.canonical(table)))
    }

    /// Whether this file has a newer state of the row, which the server lost: it was set back, or
    /// lost the row alone and got an older one from a device that was behind. Within one life
    /// versions only rise.
    fn is_newer(&self, old: &Base, stored: &Stored) -> bool {
        let same = old.hash.to_string() == stored.hash
            && old.deleted == (stored.op == Op::Delete)
            && old.counters.is_empty()
            && old.maxima.is_empty();
        let unseen = !self.reconciling || old.generation < self.generation;
        self.guards.newer && unseen && old.version > stored.version && !same
    }

    /// Whether the server lost what this file has of the row.
    fn is_lost(&self, old: &Base, stored: &Stored) -> Result<bool> {
        Ok(self.is_newer(old, stored) || self.is_lost_delete(old, stored)?)
    }

    /// Whether the server lost a delete, and has what was deleted under a later version since:
    /// one who had not heard of the delete counted on it when the server was back. The content
    /// that was deleted is no new one (ADR 0020), whatever version it has.
    fn is_lost_delete(&self, old: &Base, stored: &Stored) -> Result<bool> {
        let deleted = old.deleted && stored.op == Op::Upsert;
        let unseen = self.reconciling && old.generation < self.generation;
        let same = deleted && unseen && old.hash.to_string() == stored.hash;
        Ok(same && self.guards.lost_delete && is_set_back(self.tx).in_file(self.file)?)
    }

    /// After the server was set back, what it has of a row may have been written by one who never
    /// saw the version that was lost. If that one was this device's, it is kept.
    fn keep_overtaken(
        &self,
        table: &Table,
        scope: &str,
        stored: &Stored,
        old: Option<&Base>,
        live: Option<&LocalRow>,
    ) -> Result<()> {
        let (Some(old), Some(live)) = (old, live) else {
            return Ok(());
        };
        let own = old.device == self.device && old.generation < self.generation && !old.deleted;
        let overtaken = old.version < stored.version && old.hash.to_string() != stored.hash;
        let kept = self.guards.overtaken && self.reconciling && own && overtaken;
        if !kept || !is_set_back(self.tx).in_file(self.file)? {
            return Ok(());
        }
        let row = live.canonical(table);
        if hash::content(table, &row) != old.hash {
            // Edited since: the push says what it was made from.
            return Ok(());
        }
        self.keep_conflict(&NewConflict {
            table,
            scope,
            id: &stored.id.to_string(),
            kind: Kind::Concurrent,
            op: Op::Upsert,
            version: Some(old.version),
            device: Some(old.device),
            kept_version: Some(stored.version),
            row: Some(&row),
            at_ms: stored.version.unix_ms() as i64,
        })
    }

    /// The server has what this file sent without ever hearing of it, and the row was edited on
    /// top of that: then that is what the edit was made from. A tombstone carries the hash of what
    /// was deleted: what was sent is no edit beside the delete any more, but the delete stays one
    /// that this device did not know.
    fn know_what_was_sent(&self, table: &Table, scope: &str, stored: &Stored) -> Result<()> {
        let id = stored.id.to_string();
        if !self.guards.sent || !self.was_sent(table, scope, &id, &stored.hash)? {
            return Ok(());
        }
        let Some(mut base) = self.base(table, scope, &id)? else {
            return Ok(());
        };
        if stored.op == Op::Upsert {
            base.edit = None;
            base.pulled = None;
        } else if let Some(edit) = &mut base.edit {
            // Another device may have written and deleted the same under a derived id.
            let fresh = edit.version.is_none() && table.identity.columns().is_empty();
            if edit.acknowledged().is_some() || fresh {
                edit.hash = stored.hash.parse().ok();
            }
        }
        self.set_base(table, scope, &id, &base)
    }

    /// Returns the base with a note that the server lost its content, if it did: what this file
    /// has of the row is then an edit of the register, even if only a counter was changed since.
    fn with_lost_edit(&self, mut old: Base, stored: &Stored) -> Result<Base> {
        if old.edit.is_none() && (old.lost || self.is_lost(&old, stored)?) {
            old.edit = Some(Edit {
                version: Some(old.version),
                hash: Some(old.hash),
                lost: true,
            });
        }
        Ok(old)
    }

    /// Queues the newer state under its old version; the base becomes what the server has.
    fn keep_newer(
        &mut self,
        table: &'static Table,
        scope: &str,
        id: &str,
        stored: &Stored,
        old: &Base,
        live: Option<LocalRow>,
    ) -> Result<()> {
        let seq = live.as_ref().map(|live| live.seq);
        let before = self.with_lost_edit(old.clone(), stored)?;
        self.move_base(table, scope, id, stored, Some(before), live)?;
        let made_ms = old.version.unix_ms() as i64;
        self.put_mark(table, seq, scope, Some(id), RECONCILE, made_ms, false)?;
        Ok(())
    }

    /// The row is dirty: only its base moves. What the edit was made from, and what came, are
    /// noted beside it; the push's reply settles the row.
    fn move_base(
        &mut self,
        table: &Table,
        scope: &str,
        id: &str,
        stored: &Stored,
        old: Option<Base>,
        live: Option<LocalRow>,
    ) -> Result<()> {
        let mut base = Base::of(self, table, stored, stored.row.as_ref(), old.as_ref())?;
        let same = old
            .as_ref()
            .is_some_and(|old| (old.version, old.device) == (stored.version, stored.device));
        base.edit = match &old {
            Some(old) if old.edit.is_some() || same => old.edit,
            Some(old) => Some(Edit {
                version: Some(old.version),
                hash: (!old.deleted).then_some(old.hash),
                lost: false,
            }),
            None => Some(Edit {
                version: None,
                hash: None,
                lost: false,
            }),
        };
        base.pulled = base.edit.map(|_| stored.clone());
        self.set_base(table, scope, id, &base)?;
        let Some(live) = live.filter(|_| self.guards.counter_shift) else {
            return Ok(());
        };
        self.shift_counters(table, live.seq, old.as_ref(), &base, &live.raw)
    }

    /// Keeps what was added here on top of the base's new value (PROTOCOL 16).
    pub(crate) fn shift_counters(
        &self,
        table: &Table,
        seq: i64,
        old: Option<&Base>,
        new: &Base,
        local: &Row,
    ) -> Result<()> {
        for (name, counter) in &new.counters {
            let before = value::integer(local, name);
            let total = match old {
                Some(old) => old.totals(local).get(name).copied().unwrap_or(before),
                None => before,
            };
            let value = counter.value.wrapping_add(total.wrapping_sub(counter.own));
            let sql = format!(
                "update \"{}\" set \"{name}\" = ?2 where seq = ?1",
                table.local
            );
            self.tx
                .prepare_cached(&sql)
                .and_then(|mut statement| statement.execute([seq, value]))
                .in_file(self.file)?;
        }
        Ok(())
    }

    /// Has a mark looked at again, because what it is compared with has changed.
    fn readopt(&self, n: i64) -> Result<()> {
        self.tx
            .prepare_cached("update sync_queue set adopted = 0 where n = ?1 and state = 'queued'")
            .and_then(|mut statement| statement.execute([n]))
            .in_file(self.file)?;
        Ok(())
    }

    /// Makes the local row what the server sent. Without columns only version, times and author
    /// are taken: the content is the same.
    pub(crate) fn put_stored(
        &mut self,
        table: &Table,
        scope: &str,
        id: &str,
        stored: &Stored,
        row: Option<&Row>,
    ) -> Result<()> {
        let live = statements::by_key(self.tx, table, scope, id).in_file(self.file)?;
        self.put_stored_over(table, (scope, id), stored, row, live.as_ref())
    }

    /// The same over the row that was read already.
    pub(crate) fn put_stored_over(
        &mut self,
        table: &Table,
        (scope, id): (&str, &str),
        stored: &Stored,
        row: Option<&Row>,
        live: Option<&LocalRow>,
    ) -> Result<()> {
        if stored.op == Op::Delete {
            if let Some(live) = live {
                statements::remove(self.tx, table, live.seq).in_file(self.file)?;
                self.unindex(table, live.seq)?;
            }
            return Ok(());
        }
        // Removed meanwhile; its own mark says so.
        if row.is_none() && live.is_none() {
            return Ok(());
        }
        let local = LocalRow {
            seq: live.map_or(0, |live| live.seq),
            id: Some(id.to_owned()),
            scope: scope.to_owned(),
            user_id: stored.user_id.map(|user| user.to_string()),
            device_id: Some(stored.device.to_string()),
            content_hash: Some(stored.hash.clone()),
            version: Some(stored.version.to_i64()),
            created_at: Some(stored.created_at.clone()),
            updated_at: Some(stored.updated_at.clone()),
            deleted_at: None,
            raw: Row::new(),
        };
        let Some(row) = row else {
            return statements::acknowledge(self.tx, table, &local).in_file(self.file);
        };
        let mut content = Cow::Borrowed(row);
        if let Some(live) = live
            && table.body_names().is_some()
            && !body::names(table, row).is_empty()
            && FileGuard::BodyKept.is_on()
        {
            body::keep_known(table, content.to_mut(), &live.canonical(table));
        }
        let seq = statements::write(self.tx, table, &local, &content).in_file(self.file)?;
        self.index(table, seq, &content)
    }
}
