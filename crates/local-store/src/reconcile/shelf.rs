//! Batches without an answer of epochs that ended. A server that is set back once more, to such an
//! epoch, may know the file by one of them: then it comes again, as after every lost reply, and the
//! file is no copy (PROTOCOL 25).

use coditect_core::sync::Outgoing;
use serde::{Deserialize, Serialize};

use crate::database::{meta, set_meta};
use crate::error::{InFile as _, Result};
use crate::outgoing::store_batch;
use crate::settle::batch_numbers;
use crate::work::Work;

/// Key of the file's note.
const KEY: &str = "shelved_batches";
/// Batches that are kept, the latest ones.
const KEPT_MAX: usize = 2;

/// A batch as it was sent, with the numbers of its marks.
#[derive(Debug, Serialize, Deserialize)]
struct Shelved {
    request: String,
    numbers: Vec<i64>,
}

fn shelved(work: &Work<'_>) -> Result<Vec<Shelved>> {
    let text = meta(work.tx, KEY).in_file(work.file)?;
    let read = text.and_then(|text| serde_json::from_str(&text).ok());
    Ok(read.unwrap_or_default())
}

fn keep(work: &Work<'_>, list: &[Shelved]) -> Result<()> {
    let text = serde_json::to_string(list).map_err(|_| work.corrupt(KEY))?;
    set_meta(work.tx, KEY, &text).in_file(work.file)
}

/// Keeps the stored batch, whose epoch has ended.
pub(super) fn put(work: &Work<'_>, batch: &Outgoing) -> Result<()> {
    if !work.guards.shelf || batch.request.epoch.is_none() {
        return Ok(());
    }
    let numbers = batch_numbers(work, batch.request.batch_id)?.unwrap_or_default();
    let mut list = shelved(work)?;
    list.push(Shelved {
        request: String::from_utf8_lossy(&batch.bytes).into_owned(),
        numbers,
    });
    let surplus = list.len().saturating_sub(KEPT_MAX);
    keep(work, &list[surplus..])
}

/// Makes the batch of an epoch that has come back the stored one.
pub(super) fn take(work: &Work<'_>, epoch: &str) -> Result<()> {
    let mut list = shelved(work)?;
    let of_epoch = |it: &Shelved| {
        let read: Option<coditect_protocol::wire::push::PushRequest> =
            serde_json::from_str(&it.request).ok();
        read.filter(|request| {
            let named = request.epoch.map(|named| named.to_string());
            named.as_deref() == Some(epoch) && request.device == work.device
        })
    };
    let Some((at, request)) = list
        .iter()
        .enumerate()
        .rev()
        .find_map(|(at, it)| Some((at, of_epoch(it)?)))
    else {
        return Ok(());
    };
    let taken = list.remove(at);
    keep(work, &list)?;
    if taken.numbers.len() != request.changes.len() {
        return Ok(());
    }
    let owner = work
        .owner
        .map_or(uuid::Uuid::nil(), |owner| owner.user.get());
    let local = request.scope.to_local(owner);
    let changes = request.changes.iter().zip(&taken.numbers);
    let sent: Vec<_> = changes
        .map(|(change, n)| (*n, change.table.clone(), change.id.to_string()))
        .collect();
    store_batch(work, &request, taken.request.as_bytes(), &local, &sent).in_file(work.file)
}

/// Forgets all of them: the file is another device now.
pub(super) fn clear(work: &Work<'_>) -> Result<()> {
    match meta(work.tx, KEY).in_file(work.file)? {
        Some(_) => keep(work, &[]),
        None => Ok(()),
    }
}
