//! Leaving a scope: the server does not name it any more among those that the person may read,
//! so its rows leave the device, in the same run.
//!
//! What the person wrote and the server never got is not lost with it: it becomes private. A
//! scope that was not read since the server was set back stays, because then the membership may
//! be what the server lost.

use coditect_core::hash;
use coditect_protocol::catalogue::{File, Table};
use coditect_protocol::scope::LOCAL_USER;
use coditect_protocol::wire::Op;
use coditect_protocol::{Epoch, Scope};
use rusqlite::types::Value as Sql;
use rusqlite::{OptionalExtension as _, params};

use crate::LocalStore;
use crate::apply;
use crate::conflicts::{Kind, NewConflict};
use crate::error::{InFile as _, Result};
use crate::guards::FileGuard;
use crate::marks;
use crate::settle::drop_batch;
use crate::statements::{self, LocalRow};
use crate::work::Work;

/// Rows that leave in one transaction, so that other writers wait milliseconds only.
const CHUNK_ROWS: i64 = 200;

impl LocalStore {
    /// Leaves every scope that was read in this epoch and is not among the `readable` ones. The
    /// own scope and the platform's catalogue are never left.
    pub(crate) fn leave_others(&mut self, readable: &[Scope], epoch: Epoch) -> Result<()> {
        let owner = self.owner()?;
        let mut followed: Vec<Scope> = self.streams()?.into_iter().map(|it| it.0).collect();
        followed.dedup();
        for scope in followed {
            let stays = matches!(scope, Scope::User(_) | Scope::Platform);
            if stays || readable.contains(&scope) {
                continue;
            }
            let local = scope.to_local(owner.user.get());
            if self.was_read(&local, epoch)? || !FileGuard::LeftAfterSetBack.is_on() {
                self.leave(&local)?;
            }
        }
        Ok(())
    }

    fn was_read(&self, local: &str, epoch: Epoch) -> Result<bool> {
        for file in File::ALL {
            let cursor = apply::cursor(self.read(file)?, local).in_file(file)?;
            if cursor.is_some_and(|(cursor, _)| cursor.epoch == epoch) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes a scope's rows and all that is known about them. Calling it again completes it:
    /// each file's position goes last, and reads from the start meanwhile.
    fn leave(&mut self, local: &str) -> Result<()> {
        for file in File::ALL {
            self.write(file, |work| begin(work, local))?;
            for table in file.tables() {
                while self.write(file, |work| remove_rows(work, table, local))? {}
                while self.write(file, |work| remove_bases(work, table, local))? {}
            }
        }
        // The file that lists the scopes goes last.
        for file in File::ALL.into_iter().rev() {
            self.write(file, |work| end(work, local))?;
        }
        Ok(())
    }
}

fn begin(work: &mut Work<'_>, local: &str) -> Result<()> {
    let read_again = "update sync_cursor set n = 0, at_head = 0 where scope = ?1";
    work.tx.execute(read_again, [local]).in_file(work.file)?;
    let waiting: Option<String> = work
        .tx
        .query_row("select scope from sync_batch limit 1", [], |row| row.get(0))
        .optional()
        .in_file(work.file)?;
    if waiting.as_deref() == Some(local) {
        // Should the server have taken it before, its author has the rows twice: in the scope
        // that was left, and as private ones.
        drop_batch(work)?;
    }
    Ok(())
}

/// Removes some rows of a table; returns whether there may be more.
fn remove_rows(work: &mut Work<'_>, table: &'static Table, local: &str) -> Result<bool> {
    let some = vec![Sql::Text(local.to_owned()), Sql::Integer(CHUNK_ROWS)];
    let clause = "where scope = ?1 order by seq limit ?2";
    let rows = statements::select(work.tx, table, clause, some).in_file(work.file)?;
    let more = rows.len() as i64 == CHUNK_ROWS;
    for live in rows {
        if is_unsent(work, table, local, &live)? && FileGuard::LeftUnsent.is_on() {
            keep_private(work, table, local, live)?;
        } else {
            forget(work, table, local, &live)?;
        }
    }
    Ok(more)
}

/// Returns whether the folder's owner wrote what the row holds, and the server does not have it.
fn is_unsent(work: &Work<'_>, table: &Table, local: &str, live: &LocalRow) -> Result<bool> {
    let owner = work.owner.map(|owner| owner.user.to_string());
    if live.user_id.is_some() && live.user_id != owner {
        return Ok(false);
    }
    let id = live.id.clone().unwrap_or_default();
    let foreign = "select 1 from sync_foreign where table_name = ?1 and scope = ?2 and id = ?3";
    let foreign = work
        .tx
        .prepare_cached(foreign)
        .and_then(|mut statement| statement.exists([table.cloud, local, &id]))
        .in_file(work.file)?;
    if foreign {
        return Ok(false);
    }
    let mark = marks::of_row(work.tx, table, local, &id, Some(live.seq)).in_file(work.file)?;
    Ok(mark.is_some() || work.base(table, local, &id)?.is_none())
}

/// Makes the row a private one that waits to be sent. Where there is a private row of the same
/// identity already, that one stays and this version is put aside.
fn keep_private(
    work: &mut Work<'_>,
    table: &'static Table,
    local: &str,
    mut live: LocalRow,
) -> Result<()> {
    let id = live.id.clone().unwrap_or_default();
    let mark = marks::of_row(work.tx, table, local, &id, Some(live.seq)).in_file(work.file)?;
    let written = live.updated_at.as_deref();
    let written_ms = written.and_then(coditect_core::canonical::ms_from_time);
    let made_ms = mark.map_or(written_ms.unwrap_or(0), |mark| {
        mark.made_ms(written_ms.unwrap_or(0))
    });
    let row = live.canonical(table);
    let twin = statements::by_key(work.tx, table, LOCAL_USER, &id).in_file(work.file)?;
    if let Some(twin) = twin {
        let same = hash::content(table, &twin.canonical(table)) == hash::content(table, &row);
        if !same {
            work.keep_conflict(&NewConflict {
                table,
                scope: LOCAL_USER,
                id: &id,
                kind: Kind::Concurrent,
                op: Op::Upsert,
                version: None,
                device: Some(work.device),
                kept_version: twin.version.map(coditect_protocol::Version::from_i64),
                row: Some(&row),
                at_ms: made_ms,
            })?;
        }
        return forget(work, table, local, &live);
    }
    work.remove_base(table, local, &id)?;
    live.scope = LOCAL_USER.to_owned();
    // Like a row that was never adopted: nothing ties it to the scope that it comes from.
    live.version = None;
    live.content_hash = None;
    let raw = live.raw.clone();
    let seq = statements::write(work.tx, table, &live, &raw).in_file(work.file)?;
    forget_marks(work, table, local, &id, seq)?;
    let known = live.id.as_deref();
    work.put_mark(table, Some(seq), LOCAL_USER, known, "left", made_ms, false)?;
    Ok(())
}

fn forget(work: &mut Work<'_>, table: &Table, local: &str, live: &LocalRow) -> Result<()> {
    statements::remove(work.tx, table, live.seq).in_file(work.file)?;
    work.unindex(table, live.seq)?;
    let id = live.id.as_deref().unwrap_or_default();
    forget_marks(work, table, local, id, live.seq)
}

fn forget_marks(work: &Work<'_>, table: &Table, local: &str, id: &str, seq: i64) -> Result<()> {
    let forget = || -> rusqlite::Result<()> {
        let by_seq = "delete from sync_queue where table_name = ?1 and row_seq = ?2";
        work.tx
            .prepare_cached(by_seq)?
            .execute(params![table.cloud, seq])?;
        let by_key = "delete from sync_queue
             where table_name = ?1 and row_id = ?2 and row_scope = ?3";
        work.tx
            .prepare_cached(by_key)?
            .execute(params![table.cloud, id, local])?;
        Ok(())
    };
    forget().in_file(work.file)
}

/// Removes some bases of a table; returns whether there may be more.
fn remove_bases(work: &mut Work<'_>, table: &Table, local: &str) -> Result<bool> {
    let keys = || -> rusqlite::Result<Vec<String>> {
        let mut statement = work.tx.prepare_cached(
            "select id from sync_base where table_name = ?1 and scope = ?2 limit ?3",
        )?;
        let rows =
            statement.query_map(params![table.cloud, local, CHUNK_ROWS], |row| row.get(0))?;
        rows.collect()
    };
    let keys = keys().in_file(work.file)?;
    for id in &keys {
        work.remove_base(table, local, id)?;
    }
    Ok(keys.len() as i64 == CHUNK_ROWS)
}

/// What is left besides rows and bases; the position goes last.
fn end(work: &mut Work<'_>, local: &str) -> Result<()> {
    const REST: [&str; 7] = [
        "delete from sync_move where from_scope = ?1",
        "delete from sync_queue where row_scope = ?1 and table_name is not null",
        "delete from sync_digest where scope = ?1",
        "delete from sync_foreign where scope = ?1",
        "delete from sync_conflicts where scope = ?1",
        "delete from sync_cursor where scope = ?1",
        "delete from sync_scope where scope = ?1",
    ];
    for sql in REST {
        work.tx.execute(sql, [local]).in_file(work.file)?;
    }
    Ok(())
}
