//! What is asked of the server: some rows with the same way, once nothing of them waits to be
//! pushed.

use coditect_protocol::catalogue::{File, by_cloud_name};
use coditect_protocol::limits::MOVE_ROWS_MAX;
use coditect_protocol::wire::moves::{Move, MoveRequest};
use coditect_protocol::{API_VERSION, BatchId, Version};
use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::LocalStore;
use crate::adopt::row_id;
use crate::error::{InFile as _, Result};
use crate::outgoing::from_local;
use crate::work::Work;

/// Wishes that can be sent: those that were sent already, whatever happened since, and those of
/// rows that the server has as they are here.
const READY: &str = "from sync_move m where m.state = 'queued' and m.not_before_ms <= ?1
    and (m.batch_id is not null
      or exists (select 1 from sync_base b where b.table_name = m.table_name
            and b.scope = m.from_scope and b.id = m.id and b.deleted = 0)
        and not exists (select 1 from sync_queue q where q.table_name = m.table_name
            and q.row_id = m.id and q.row_scope = m.from_scope and q.state = 'queued'))
    order by m.batch_id is null, m.n";
/// Rows that are gone have no place to go to.
const GONE: &str = "delete from sync_move where state = 'queued' and batch_id is null
    and exists (select 1 from sync_base b where b.table_name = sync_move.table_name
        and b.scope = sync_move.from_scope and b.id = sync_move.id and b.deleted = 1)";

/// A wish.
struct Wish {
    n: i64,
    table: String,
    id: String,
    from: String,
    to: String,
    batch: Option<String>,
}

impl LocalStore {
    /// Returns a move to send: the one that was sent and not answered, with the same identity, or
    /// a new one. None when nothing waits that could be moved now.
    ///
    /// # Errors
    /// [`crate::Error::NotBound`] before the first login, or when the database fails.
    pub fn next_move(&mut self, file: File, now_ms: i64) -> Result<Option<MoveRequest>> {
        let owner = self.owner()?;
        // Looking needs no write lock; mostly there is nothing.
        let waits = "select 1 from sync_move where state = 'queued' limit 1";
        let waits = self.read(file)?.prepare_cached(waits);
        let waits = waits.and_then(|mut statement| statement.exists([]));
        if !waits.in_file(file)? {
            return Ok(None);
        }
        self.write(file, |work| {
            work.tx.execute(GONE, []).in_file(file)?;
            let wishes = ready(work.tx, now_ms, MOVE_ROWS_MAX).in_file(file)?;
            let Some(first) = wishes.first() else {
                return Ok(None);
            };
            let batch = match &first.batch {
                Some(batch) => batch.parse().map_err(|_| work.corrupt("move"))?,
                None => work.random.id(now_ms),
            };
            let way = |it: &Wish| (it.from.clone(), it.to.clone(), it.batch.clone());
            let (same, from, to) = (way(first), first.from.clone(), first.to.clone());
            let together = wishes.iter().filter(|wish| way(wish) == same);
            let moves = together.map(|wish| send(work, wish, batch));
            Ok(Some(MoveRequest {
                api_version: API_VERSION.to_owned(),
                device: work.device,
                batch_id: BatchId::new(batch),
                file,
                moves: moves.collect::<Result<_>>()?,
                from: from_local(file, &from, owner)?,
                to: from_local(file, &to, owner)?,
            }))
        })
    }
}

fn ready(connection: &Connection, now_ms: i64, limit: usize) -> rusqlite::Result<Vec<Wish>> {
    let sql = format!(
        "select m.n, m.table_name, m.id, m.from_scope, m.to_scope, m.batch_id {READY} limit ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![now_ms, limit as i64], |row| {
        Ok(Wish {
            n: row.get(0)?,
            table: row.get(1)?,
            id: row.get(2)?,
            from: row.get(3)?,
            to: row.get(4)?,
            batch: row.get(5)?,
        })
    })?;
    rows.collect()
}

/// Notes with which batch a wish goes out.
fn send(work: &Work<'_>, wish: &Wish, batch: Uuid) -> Result<Move> {
    work.tx
        .prepare_cached("update sync_move set batch_id = ?2 where n = ?1")
        .and_then(|mut statement| statement.execute(params![wish.n, batch.to_string()]))
        .in_file(work.file)?;
    let table = by_cloud_name(&wish.table).ok_or_else(|| work.corrupt("move"))?;
    let base = work.base(table, &wish.from, &wish.id)?;
    Ok(Move {
        table: wish.table.clone(),
        id: row_id(work, &wish.id)?,
        base: base.map_or(Version::from_i64(0), |base| base.version),
    })
}
