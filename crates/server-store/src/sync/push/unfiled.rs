//! Changes without a file: what the server makes of a request to a view.
//!
//! No client's database holds a token for them, so none is asked for and none is turned; a push
//! of a file cannot get here. Stream lock, numbers, merge, digests, history, statistics and
//! audit trail are those of any push.

use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::push::{Outcome, PushRequest};
use coditect_protocol::{DeviceId, Epoch, Scope};
use tokio_postgres::types::Type;

use super::{Batch, LOCK_STREAM, MAKE_STREAM, Sums, entry, note_head, store};
use crate::StoreError;
use crate::audit;
use crate::db::{Statement, TenantTx};
use crate::sync::SyncError;
use crate::sync::access::{self, Question};

/// A stream that is locked until the transaction ends.
#[derive(Clone, Copy, Debug)]
pub(in crate::sync) struct Opened {
    epoch: Epoch,
    pub(super) n: i64,
    /// Whether the role does not allow to delete checkpoints.
    keeps_checkpoints: bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Life of the database.
    pub epoch: Epoch,
    /// The stream's counter after the write.
    pub cursor: i64,
    /// What became of each change, in their order.
    pub outcomes: Vec<Outcome>,
}

/// Checks that the caller may write the scope with the device, and locks the stream.
pub(in crate::sync) async fn open(
    tx: &mut TenantTx,
    scope: Scope,
    device: DeviceId,
) -> Result<Opened, SyncError> {
    let caller = tx.caller().clone();
    let question = Question::new(&caller, device);
    let (tenant, scope_id) = (tx.tenant().get(), scope.id());
    let stream = || vec![(&tenant as _, Type::UUID), (&scope_id as _, Type::UUID)];
    let lock = || Statement {
        sql: LOCK_STREAM,
        params: stream(),
    };
    let mut statements = vec![lock()];
    statements.extend(question.statements());
    let mut answers = tx.pipeline(&statements).await?;
    let access = question.read(&answers[1..=access::STATEMENTS])?;
    access.require(Permission::SyncPush, scope)?;
    if answers[0].is_empty() {
        let make = Statement {
            sql: MAKE_STREAM,
            params: stream(),
        };
        answers = tx.pipeline(&[make, lock()]).await?.split_off(1);
    }
    let row = answers[0].first().ok_or(StoreError::NotFound)?;
    Ok(Opened {
        epoch: access.life.epoch,
        n: row.try_get(0)?,
        keeps_checkpoints: !access.may(Permission::CheckpointsDelete, scope),
    })
}

/// Stores the changes of a request that the server made, in the stream that is open.
pub(in crate::sync) async fn write(
    tx: &mut TenantTx,
    opened: Opened,
    request: &PushRequest,
) -> Result<Written, SyncError> {
    // The server's own request has the server's time.
    let batch = Batch {
        keeps_checkpoints: opened.keeps_checkpoints,
        ..Batch::new(tx, request, request.sent_at_ms)?
    };
    let (outcomes, totals) = store(tx, &batch, opened.n).await?;
    let sums = Sums::of(&batch, opened.epoch, &totals);
    tx.pipeline(&sums.statements(&batch, &totals)).await?;
    note_head(tx, request, opened.epoch, &totals);
    audit::record(tx, &entry(&batch, &outcomes)).await?;
    Ok(Written {
        epoch: opened.epoch,
        cursor: totals.head.max(opened.n),
        outcomes,
    })
}
