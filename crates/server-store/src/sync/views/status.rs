//! Figures of a stream and of its owner's devices.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use coditect_protocol::{DeviceId, Epoch, Scope};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::list::View;
use crate::db::{Param, Statement, TenantTx};
use crate::sync::SyncError;
use crate::sync::access::{self, Question};

const STREAM: &str = "select n, byte_count from streams where tenant_id = $1 and scope_id = $2";
const ROWS: &str = "select table_name, rows from stream_digests
    where tenant_id = $1 and scope_id = $2 and table_name = any ($3)";
const DEVICES: &str = "select d.id, d.last_seen_at, c.epoch, c.n, c.last_push_at, c.last_pull_at
    from devices d
    left join device_cursors c
    on c.tenant_id = d.tenant_id and c.device_id = d.id and c.scope_id = $3
    where d.tenant_id = $1 and d.user_id = $2 and d.revoked_at is null
    order by d.id";

/// Figures of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Life of the database.
    pub epoch: Epoch,
    /// The stream's counter.
    pub cursor: i64,
    /// Live messages.
    pub messages: i64,
    /// Live tasks.
    pub tasks: i64,
    /// Live decisions.
    pub decisions: i64,
    /// Live learnings.
    pub learnings: i64,
    /// Encoded bytes of the live rows.
    pub bytes: i64,
    /// The caller's devices that are not locked out.
    pub devices: Vec<DeviceFigures>,
    /// When one of them pushed last.
    pub last_push_at: Option<DateTime<Utc>>,
    /// When one of them pulled last, as far as it was noted.
    pub last_pull_at: Option<DateTime<Utc>>,
}

/// Figures of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFigures {
    /// Its id.
    pub id: DeviceId,
    /// When it was heard of last.
    pub last_seen_at: DateTime<Utc>,
    /// How far it has read in this epoch, as far as it was noted.
    pub cursor: Option<i64>,
}

/// Returns the figures of the scope's stream, for `device` of the caller. The transaction must
/// be a snapshot.
///
/// # Errors
///
/// [`SyncError::ScopeNotFound`], [`SyncError::DeviceUnknown`], those of the database.
pub async fn figures(
    tx: &mut TenantTx,
    scope: Scope,
    device: DeviceId,
) -> Result<Figures, SyncError> {
    let caller = tx.caller().clone();
    let question = Question::new(&caller, device);
    let (tenant, user, scope_id) = (tx.tenant().get(), caller.user_id().get(), scope.id());
    let names = View::names();
    let names = names.as_slice();
    let mut statements = Vec::from(question.statements());
    let stream = || -> Vec<Param<'_>> { vec![(&tenant, Type::UUID), (&scope_id, Type::UUID)] };
    let mut of_tables = stream();
    of_tables.push((&names, Type::TEXT_ARRAY));
    statements.push(Statement {
        sql: STREAM,
        params: stream(),
    });
    statements.push(Statement {
        sql: ROWS,
        params: of_tables,
    });
    statements.push(Statement {
        sql: DEVICES,
        params: vec![
            (&tenant, Type::UUID),
            (&user, Type::UUID),
            (&scope_id, Type::UUID),
        ],
    });
    let answers = tx.pipeline(&statements).await?;
    let access = question.read(&answers[..access::STATEMENTS])?;
    access.read(scope)?;
    let [stream, tables, devices] = &answers[access::STATEMENTS..] else {
        return Err(crate::StoreError::NotFound.into());
    };
    let (cursor, bytes) = match stream.first() {
        Some(row) => (row.try_get(0)?, row.try_get(1)?),
        None => (0, 0),
    };
    let counts = counts(tables)?;
    let of = |view: View| counts.get(view.table().cloud).copied().unwrap_or(0);
    let mut figures = Figures {
        epoch: access.life.epoch,
        cursor,
        messages: of(View::Messages),
        tasks: of(View::Tasks),
        decisions: of(View::Decisions),
        learnings: of(View::Learnings),
        bytes,
        devices: Vec::new(),
        last_push_at: None,
        last_pull_at: None,
    };
    for row in devices {
        figures.add_device(row)?;
    }
    Ok(figures)
}

fn counts(rows: &[Row]) -> Result<BTreeMap<&str, i64>, SyncError> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row.try_get(0)?).or_default() += row.try_get::<_, i64>(1)?;
    }
    Ok(counts)
}

impl Figures {
    /// Adds what is known of a device and one of its files; rows of one device follow each other.
    fn add_device(&mut self, row: &Row) -> Result<(), SyncError> {
        let id = DeviceId::new(row.try_get::<_, Uuid>(0)?);
        let epoch: Option<&str> = row.try_get(2)?;
        let n: Option<i64> = row.try_get(3)?;
        // Nothing is read at 0, and positions of another life of the database mean nothing.
        let current = epoch.is_some_and(|epoch| epoch == self.epoch.to_string());
        let n = n.filter(|n| *n > 0 && current);
        match self.devices.last_mut().filter(|device| device.id == id) {
            Some(device) => device.cursor = device.cursor.max(n),
            None => self.devices.push(DeviceFigures {
                id,
                last_seen_at: row.try_get(1)?,
                cursor: n,
            }),
        }
        self.last_push_at = self.last_push_at.max(row.try_get(4)?);
        self.last_pull_at = self.last_pull_at.max(row.try_get(5)?);
        Ok(())
    }
}
