//! Starting anew with a server whose history is another one (a new epoch), or as another device
//! (a fenced file): everything is pulled from the start, then what did not come is pushed again
//! (PROTOCOL 16, 25, 26).
//!
//! A generation number in the file says which bases were seen since. The state is in the file,
//! so that a crash in between only delays the end.

use coditect_core::canonical;
use coditect_core::sync::Outgoing;
use coditect_protocol::catalogue::{Direction, File, Identity, Merge, Table, by_cloud_name};
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{DeviceId, Epoch, Version};
use rusqlite::{Connection, params};
use std::collections::BTreeMap;

mod shelf;

use crate::LocalStore;
use crate::apply;
use crate::base::{Base, Edit};
use crate::database::{meta, set_meta};
use crate::error::{InFile as _, Result};
use crate::marks::{self, RECONCILE};
use crate::outgoing::stored_batch;
use crate::settle::{TOKEN_EPOCH, drop_batch};
use crate::statements;
use crate::work::Work;

/// What a file's note `reconciling` says.
const AFTER_EPOCH: &str = "1";
const AFTER_FENCE: &str = "2";
/// Bases looked at in one transaction.
const CHUNK_BASES: usize = 500;

impl LocalStore {
    /// Forgets all positions and follows the epoch; notes from now on which rows come. Stored
    /// batches of another epoch go: their changes are sent anew. Tokens stay, because they are
    /// what shows a server that it was set back, to whichever epoch.
    ///
    /// # Errors
    /// When a database fails. Calling it again completes it.
    pub fn begin_reconcile(&mut self, epoch: Epoch) -> Result<()> {
        let whole = self.guards.epoch;
        for file in File::ALL {
            self.write(file, |work| {
                let text = epoch.to_string();
                let before = meta(work.tx, "epoch").in_file(file)?;
                set_meta(work.tx, "epoch", &text).in_file(file)?;
                if whole {
                    if work.guards.forget_batch {
                        end_batch(work, before.as_ref(), &text)?;
                    }
                    start(work, AFTER_EPOCH)
                } else {
                    let sql = "update sync_cursor set epoch = ?1";
                    work.tx.execute(sql, [text]).in_file(file)?;
                    Ok(())
                }
            })?;
        }
        Ok(())
    }

    /// Makes the folder another device: tokens and stored batches go, rows that were not
    /// acknowledged get the new id, counters start a new part, and all positions are forgotten.
    ///
    /// # Errors
    /// When a database fails. Opening the folder again completes it.
    pub fn fence(&mut self, device: DeviceId) -> Result<()> {
        // The critical file says who the folder is; the others follow, also after a crash.
        for file in File::ALL {
            self.write(file, |work| fence_file(work, device))?;
        }
        self.device = device;
        Ok(())
    }

    /// Returns whether a file waits for the end of a reconciliation.
    ///
    /// # Errors
    /// When the database fails.
    pub fn is_reconciling(&self, file: File) -> Result<bool> {
        let note = meta(self.read(file)?, "reconciling").in_file(file)?;
        Ok(note.is_some_and(|note| note != "0"))
    }

    /// Ends the reconciliation of every file: queues each row that did not come.
    ///
    /// # Errors
    /// When a database fails. Calling it again completes it.
    pub fn finish_reconcile(&mut self, now_ms: i64) -> Result<()> {
        File::ALL
            .into_iter()
            .try_for_each(|file| self.finish_reconcile_file(file, now_ms))
    }

    /// Ends a file's reconciliation if all its streams were read to their heads since it began:
    /// the run that began it may not have come to its end.
    pub(crate) fn finish_reconcile_at_head(&mut self, file: File, now_ms: i64) -> Result<()> {
        if !self.is_reconciling(file)? || !self.guards.reconcile_resumes {
            return Ok(());
        }
        let owner = self.owner()?;
        for (scope, _) in self.streams()?.into_iter().filter(|(_, of)| *of == file) {
            let local = scope.to_local(owner.user.get());
            let cursor = apply::cursor(self.read(file)?, &local).in_file(file)?;
            if !cursor.is_some_and(|(_, at_head)| at_head) {
                return Ok(());
            }
        }
        self.finish_reconcile_file(file, now_ms)
    }

    fn finish_reconcile_file(&mut self, file: File, now_ms: i64) -> Result<()> {
        if !self.is_reconciling(file)? {
            return Ok(());
        }
        let fenced = meta(self.read(file)?, "reconciling")
            .in_file(file)?
            .as_deref()
            == Some(AFTER_FENCE);
        for table in file.tables() {
            // A fence is no loss: the server has the `up` rows, under the former device.
            if fenced && table.direction == Direction::Up {
                continue;
            }
            loop {
                let done = self.write(file, |work| {
                    let unseen = unseen(work, table).in_file(file)?;
                    for (scope, id) in &unseen {
                        requeue(work, table, scope, id, now_ms)?;
                    }
                    Ok(unseen.len() < CHUNK_BASES)
                })?;
                if done {
                    break;
                }
            }
            let counts = table.columns_by(Merge::Counter).next().is_some();
            if !fenced && counts && self.guards.parts_again {
                self.write(file, |work| push_parts(work, table, now_ms))?;
            }
        }
        self.write(file, |work| {
            forget_sent(work, fenced)?;
            set_meta(work.tx, "reconciling", "0").in_file(file)
        })
    }
}

/// Returns whether the file is being reconciled with a server that was set back.
pub(crate) fn is_set_back(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(meta(connection, "reconciling")?.as_deref() == Some(AFTER_EPOCH))
}

/// Key of the file's note of what was sent and never answered, from when it began to read
/// everything again until the server says what it has of it.
const SENT: &str = "sent_unanswered";

/// Forgets the stored batch of another epoch: no server would carry it out. The token stays; in
/// the epoch that it is of it is still what the server knows the file by. A batch that names no
/// epoch was made before the first pull: it is what the server may know the file by.
fn end_batch(work: &Work<'_>, before: Option<&String>, epoch: &String) -> Result<()> {
    let Some(batch) = stored_batch(work.tx, work.file)? else {
        return shelf::take(work, epoch);
    };
    let of_token = meta(work.tx, TOKEN_EPOCH).in_file(work.file)?;
    let stays = match batch.request.epoch {
        Some(named) => named.to_string() == *epoch,
        None => batch.request.token.is_none() || of_token.as_ref().or(before) == Some(epoch),
    };
    if stays {
        return Ok(());
    }
    note_sent(work, &batch)?;
    shelf::put(work, &batch)?;
    drop_batch(work)?;
    shelf::take(work, epoch)
}

fn forget_token(work: &Work<'_>) -> Result<()> {
    if let Some(batch) = stored_batch(work.tx, work.file)? {
        note_sent(work, &batch)?;
    }
    shelf::clear(work)?;
    drop_batch(work)?;
    let sql = "delete from sync_token";
    work.tx.execute(sql, []).map(drop).in_file(work.file)
}

/// Notes the contents of a batch that is forgotten without an answer: the server may have them.
fn note_sent(work: &Work<'_>, batch: &Outgoing) -> Result<()> {
    let mut sent = sent(work)?;
    let owner = work
        .owner
        .map_or(uuid::Uuid::nil(), |owner| owner.user.get());
    let scope = batch.request.scope.to_local(owner);
    for change in batch
        .request
        .changes
        .iter()
        .filter(|it| it.op == Op::Upsert)
    {
        sent.insert(
            place(&change.table, &scope, &change.id.to_string()),
            change.hash.clone(),
        );
    }
    let text = serde_json::to_string(&sent).map_err(|_| work.corrupt(SENT))?;
    set_meta(work.tx, SENT, &text).in_file(work.file)
}

fn sent(work: &Work<'_>) -> Result<BTreeMap<String, String>> {
    let text = meta(work.tx, SENT).in_file(work.file)?;
    Ok(text
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default())
}

/// Forgets the notes of what was sent: a fence loses nothing, so the server has shown it. One that
/// was set back may have lost it, and others may bring it back.
fn forget_sent(work: &Work<'_>, fenced: bool) -> Result<()> {
    let mut sent = sent(work)?;
    if fenced {
        sent.clear();
    }
    for place in sent.keys().cloned().collect::<Vec<_>>() {
        let mut parts = place.split(' ');
        let table = parts.next().and_then(by_cloud_name);
        let (Some(table), Some(scope), Some(id)) = (table, parts.next(), parts.next()) else {
            continue;
        };
        if work.base(table, scope, id)?.is_some() {
            sent.remove(&place);
        }
    }
    let text = serde_json::to_string(&sent).map_err(|_| work.corrupt(SENT))?;
    set_meta(work.tx, SENT, &text).in_file(work.file)
}

fn place(table: &str, scope: &str, id: &str) -> String {
    format!("{table} {scope} {id}")
}

impl Work<'_> {
    /// Returns whether this file sent a row with that content, in a batch that was forgotten
    /// without an answer since the file began to read everything again.
    pub(crate) fn was_sent(
        &self,
        table: &Table,
        scope: &str,
        id: &str,
        hash: &str,
    ) -> Result<bool> {
        if !self.reconciling {
            return Ok(false);
        }
        let sent = sent(self)?;
        Ok(sent
            .get(&place(table.cloud, scope, id))
            .is_some_and(|known| known == hash))
    }

    /// Makes a base of a row that is gone here and was sent in a batch that was forgotten without
    /// an answer: others may have got it from a server that was set back since, and bring it back.
    /// Returns whether there was one; then its delete can be sent, ahead of them.
    pub(crate) fn remember_sent(
        &self,
        table: &Table,
        scope: &str,
        id: &str,
        made_ms: i64,
    ) -> Result<bool> {
        let place = place(table.cloud, scope, id);
        let hash = sent(self)?.get(&place).and_then(|hash| hash.parse().ok());
        let Some(hash) = hash.filter(|_| self.guards.sent) else {
            return Ok(false);
        };
        // Its version nobody has heard of, and none may be made up by this device's clock.
        let edit = Edit {
            version: None,
            hash: Some(hash),
            lost: true,
        };
        let base = Base {
            version: Version::from_i64(0),
            device: self.device,
            origin: self.device,
            hash,
            deleted: false,
            created_at: canonical::time_from_ms(made_ms),
            counters: BTreeMap::new(),
            maxima: Row::new(),
            generation: self.generation,
            lost: true,
            edit: Some(edit),
            pulled: None,
        };
        self.set_base(table, scope, id, &base)?;
        Ok(true)
    }
}

fn start(work: &mut Work<'_>, kind: &str) -> Result<()> {
    // A fence on the way through another epoch does not end what that began.
    let set_back = is_set_back(work.tx).in_file(work.file)?;
    let kind = if set_back { AFTER_EPOCH } else { kind };
    let begin = || -> rusqlite::Result<()> {
        work.tx.execute("delete from sync_cursor", [])?;
        set_meta(work.tx, "generation", &(work.generation + 1).to_string())?;
        set_meta(work.tx, "reconciling", kind)
    };
    begin().in_file(work.file)
}

/// Returns bases that were not seen and are not queued again yet.
fn unseen(work: &Work<'_>, table: &Table) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = work.tx.prepare_cached(
        "select scope, id from sync_base
         where table_name = ?1 and generation < ?2 and lost = 0 limit ?3",
    )?;
    let rows = statement.query_map(
        params![table.cloud, work.generation, CHUNK_BASES as i64],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    rows.collect()
}

/// Queues a row that the server lacks.
pub(crate) fn requeue(
    work: &mut Work<'_>,
    table: &'static Table,
    scope: &str,
    id: &str,
    now_ms: i64,
) -> Result<()> {
    let Some(mut base) = work.base(table, scope, id)? else {
        return Ok(());
    };
    let live = statements::by_key(work.tx, table, scope, id).in_file(work.file)?;
    if table.direction == Direction::Down || !work.guards.absence {
        // The catalogue is the server's: what it lacks is gone.
        if let Some(live) = live {
            statements::remove(work.tx, table, live.seq).in_file(work.file)?;
        }
        return work.remove_base(table, scope, id);
    }
    let seq = live.as_ref().map(|live| live.seq);
    let marked = marks::of_row(work.tx, table, scope, id, seq)
        .in_file(work.file)?
        .is_some();
    if !marked && live.is_none() && !base.deleted {
        // Neither side has its content.
        return work.remove_base(table, scope, id);
    }
    base.lost = true;
    work.set_base(table, scope, id, &base)?;
    if !marked {
        work.put_mark(table, seq, scope, Some(id), RECONCILE, now_ms, false)?;
    }
    Ok(())
}

/// A server that was set back may have a row and still lack this device's part of its counters:
/// each device says its own again.
fn push_parts(work: &mut Work<'_>, table: &'static Table, now_ms: i64) -> Result<()> {
    for (scope, id) in counted(work, table).in_file(work.file)? {
        let Some(base) = work.base(table, &scope, &id)? else {
            continue;
        };
        let live = statements::by_key(work.tx, table, &scope, &id).in_file(work.file)?;
        let Some(live) = live else { continue };
        let seq = Some(live.seq);
        let marked = marks::of_row(work.tx, table, &scope, &id, seq).in_file(work.file)?;
        if marked.is_none() && base.counters.values().any(|counter| counter.own != 0) {
            work.put_mark(table, seq, &scope, Some(&id), RECONCILE, now_ms, false)?;
        }
    }
    Ok(())
}

/// Gives one file the new device's identity. Doing it again changes nothing more.
pub(crate) fn fence_file(work: &mut Work<'_>, device: DeviceId) -> Result<()> {
    let file = work.file;
    forget_token(work)?;
    set_meta(work.tx, "device_id", &device.to_string()).in_file(file)?;
    for table in file.tables() {
        restamp(work.tx, table, device).in_file(file)?;
        if let Identity::DerivedPerDevice(_) = table.identity
            && work.guards.take_over
        {
            take_over(work, table)?;
        }
    }
    if work.guards.new_parts {
        new_parts(work)?;
    }
    work.device = device;
    start(work, AFTER_FENCE)
}

/// Rows that were not acknowledged are the new device's. They are adopted again.
fn restamp(tx: &Connection, table: &Table, device: DeviceId) -> rusqlite::Result<()> {
    let sql = format!(
        "update \"{}\" set device_id = ?2 where seq in (
           select row_seq from sync_queue where table_name = ?1 and row_seq is not null)",
        table.local
    );
    tx.execute(&sql, params![table.cloud, device.to_string()])?;
    tx.execute(
        "update sync_queue set adopted = 0, batch_id = null where table_name = ?1",
        [table.cloud],
    )?;
    Ok(())
}

/// Rows whose identity contains the device become rows of the new one; those of the former are
/// the server's only.
fn take_over(work: &mut Work<'_>, table: &'static Table) -> Result<()> {
    let keys = || -> rusqlite::Result<Vec<(String, String)>> {
        let sql = "select scope, id from sync_base where table_name = ?1";
        let mut statement = work.tx.prepare_cached(sql)?;
        let rows = statement.query_map([table.cloud], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    };
    for (scope, id) in keys().in_file(work.file)? {
        work.remove_base(table, &scope, &id)?;
    }
    let forget = || -> rusqlite::Result<()> {
        work.tx.execute(
            "delete from sync_queue where table_name = ?1",
            [table.cloud],
        )?;
        // Without base and mark they are found and adopted like new rows.
        let sql = format!(
            "update \"{0}\" set id = null, version = null, content_hash = null
             where not exists (select 1 from sync_foreign f where f.table_name = ?1
               and f.scope = \"{0}\".scope and f.id = \"{0}\".id)",
            table.local
        );
        work.tx.execute(&sql, [table.cloud])?;
        Ok(())
    };
    forget().in_file(work.file)
}

/// The former device's parts stay on the server; the new device has added nothing yet.
fn new_parts(work: &mut Work<'_>) -> Result<()> {
    for table in work.file.tables() {
        for (scope, id) in counted(work, table).in_file(work.file)? {
            let Some(mut base) = work.base(table, &scope, &id)? else {
                continue;
            };
            base.counters
                .values_mut()
                .for_each(|counter| counter.own = 0);
            work.set_base(table, &scope, &id, &base)?;
        }
    }
    Ok(())
}

/// Returns the keys of a table's bases that have counters.
fn counted(work: &Work<'_>, table: &Table) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = work.tx.prepare_cached(
        "select scope, id from sync_base where table_name = ?1 and counters is not null",
    )?;
    let rows = statement.query_map([table.cloud], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}
