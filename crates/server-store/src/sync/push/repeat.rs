//! A batch whose reply was lost: it was carried out, so it is answered from what is stored.

use coditect_protocol::ErrorCode;
use coditect_protocol::catalogue::Class;
use coditect_protocol::wire::push::{Outcome, Status};

use super::apply;
use super::decide;
use super::moves;
use super::{Batch, Numbered, rejected};
use crate::db::TenantTx;
use crate::sync::SyncError;
use crate::sync::validate::{self, Refusal};

/// Answers every change as a duplicate of what is stored now. What was refused is refused again.
pub(super) async fn answer(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
) -> Result<Vec<Outcome>, SyncError> {
    let mut checked = Vec::new();
    for (position, change) in batch.request.changes.iter().enumerate() {
        let valid = validate::change(change, batch.request.file, batch.device);
        checked.push(valid.map(|valid| Numbered {
            position,
            cursor: 0,
            valid,
        }));
    }
    let valid: Vec<&Numbered<'_>> = checked.iter().filter_map(|it| it.as_ref().ok()).collect();
    let held = apply::stored(tx, batch, &valid).await?;
    let gone = moves::gone(tx, batch, &apply::buried(&valid, &held)).await?;
    let outcomes = checked.iter().map(|change| {
        let change = match change {
            Ok(change) => change,
            Err(refusal) => return rejected(refusal.clone()),
        };
        let table = change.valid.table;
        let Some(held) = held.get(&(table.cloud, change.valid.change.id)) else {
            let reason = "the database refused a value of this row";
            return rejected(Refusal::new(ErrorCode::MalformedRow, reason));
        };
        // An edit of somebody else's row was refused, unless it changed nothing.
        let status = if held.existing.hash == change.valid.hash {
            Status::Duplicate
        } else {
            Status::Superseded
        };
        if let Some(refusal) = decide::refusal(batch, change, held, status) {
            return rejected(refusal);
        }
        let stored = Some(held.reply_to(table, change.valid.change.row.as_ref()));
        // What was stored before the row moved away moved with it.
        let moved = gone.get(&(table.cloud, change.valid.change.id)).copied();
        let edits = table.class == Class::Record && status == Status::Superseded;
        Outcome {
            status: Status::Duplicate,
            code: None,
            reason: None,
            stored,
            loser: None,
            moved_to: moved.flatten().filter(|_| edits),
        }
    });
    Ok(outcomes.collect())
}
