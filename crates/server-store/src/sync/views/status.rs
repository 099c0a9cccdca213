//! Figures of a stream and of its owner's devices.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use coditect_protocol::catalogue::File;
use coditect_protocol::permissions::Permission;
use coditect_protocol::{DeviceId, Epoch, Scope};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::view::View;
use crate::db::{Param, Statement, TenantTx};
use crate::sync::SyncError;
use crate::sync::access::{self, Question};

const STREAM: &str = "select n, byte_count, head_platform, head_org, head_sessions, head_projects
    from streams where tenant_id = $1 and scope_id = $2";
/// Files in the order of their heads in [`STREAM`].
const FILES: [File; 4] = [File::Platform, File::Org, File::Sessions, File::Projects];
const ROWS: &str = "select table_name, rows from stream_digests
    where tenant_id = $1 and scope_id = $2 and table_name = any ($3)";
const DEVICES: &str = "select d.id, d.last_seen_at, c.epoch, c.n, c.last_push_at, c.last_pull_at,
    c.file
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
    /// The position up to which it was given everything, in this epoch; `None` while it has not
    /// read.
    pub cursor: Option<i64>,
}

/// Where a stream ends, as a whole and in each file.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    n: i64,
    of_files: [i64; 4],
}

/// What is noted of a device's reading in this epoch.
#[derive(Clone, Copy, Debug, Default)]
struct Noted {
    files: [Option<i64>; 4],
    view: Option<i64>,
}

impl Noted {
    /// Returns the position up to which nothing is missing: that of the file which is furthest
    /// behind its head. A view counts where no file was read.
    fn cursor(&self, head: &Head) -> Option<i64> {
        if self.files.iter().all(Option::is_none) {
            return self.view.map(|n| n.min(head.n));
        }
        let behind = self
            .files
            .iter()
            .zip(head.of_files)
            .map(|(n, head)| (n.unwrap_or(0), head))
            .filter(|(n, head)| n < head)
            .map(|(n, _)| n)
            .min();
        Some(behind.unwrap_or(head.n))
    }
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
    let names = View::counted();
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
    access.require(Permission::SyncPull, scope)?;
    let [stream, tables, devices] = &answers[access::STATEMENTS..] else {
        return Err(crate::StoreError::NotFound.into());
    };
    let (mut head, mut bytes) = (Head::default(), 0);
    if let Some(row) = stream.first() {
        head.n = row.try_get(0)?;
        bytes = row.try_get(1)?;
        for (index, of_file) in head.of_files.iter_mut().enumerate() {
            *of_file = row.try_get(index + 2)?;
        }
    }
    let counts = counts(tables)?;
    let of = |view: View| counts.get(view.table().cloud).copied().unwrap_or(0);
    let mut figures = Figures {
        epoch: access.life.epoch,
        cursor: head.n,
        messages: of(View::Messages),
        tasks: of(View::Tasks),
        decisions: of(View::Decisions),
        learnings: of(View::Learnings),
        bytes,
        devices: Vec::new(),
        last_push_at: None,
        last_pull_at: None,
    };
    let mut noted = Vec::new();
    for row in devices {
        figures.add_device(row, &mut noted)?;
    }
    for (device, noted) in figures.devices.iter_mut().zip(&noted) {
        device.cursor = noted.cursor(&head);
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
    fn add_device(&mut self, row: &Row, noted: &mut Vec<Noted>) -> Result<(), SyncError> {
        let id = DeviceId::new(row.try_get::<_, Uuid>(0)?);
        if self.devices.last().is_none_or(|device| device.id != id) {
            self.devices.push(DeviceFigures {
                id,
                last_seen_at: row.try_get(1)?,
                cursor: None,
            });
            noted.push(Noted::default());
        }
        let pulled_at: Option<DateTime<Utc>> = row.try_get(5)?;
        let epoch: Option<&str> = row.try_get(2)?;
        // Positions of another life of the database mean nothing, nor does what a push left.
        let current = epoch.is_some_and(|epoch| epoch == self.epoch.to_string());
        if let (Some(noted), true, true) = (noted.last_mut(), current, pulled_at.is_some()) {
            let (n, file): (Option<i64>, Option<&str>) = (row.try_get(3)?, row.try_get(6)?);
            let index = FILES.iter().position(|known| Some(known.as_str()) == file);
            match index {
                Some(index) => noted.files[index] = n,
                None => noted.view = n,
            }
        }
        self.last_push_at = self.last_push_at.max(row.try_get(4)?);
        self.last_pull_at = self.last_pull_at.max(pulled_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_as_far_as_the_file_that_is_furthest_behind() {
        let head = Head {
            n: 9,
            of_files: [0, 9, 7, 0],
        };
        let read = |org, sessions| Noted {
            files: [None, org, sessions, None],
            view: Some(5),
        };
        assert_eq!(read(None, None).cursor(&head), Some(5));
        assert_eq!(read(Some(9), Some(7)).cursor(&head), Some(9));
        assert_eq!(read(Some(9), Some(3)).cursor(&head), Some(3));
        assert_eq!(read(Some(2), Some(3)).cursor(&head), Some(2));
        assert_eq!(read(Some(9), None).cursor(&head), Some(0));
        assert_eq!(Noted::default().cursor(&head), None);
    }
}
