//! What makes the server refuse a change, and the change alone.

use super::{Kept, Key, Server};
use coditect_core::{canonical, hash};
use coditect_protocol::catalogue::{Direction, File, Identity, Table, by_cloud_name};
use coditect_protocol::wire::push::Change;
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{DeviceId, ErrorCode, Scope, UserId};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Who pushes, and where to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    pub(super) user: UserId,
    pub(super) device: DeviceId,
    pub(super) scope: Scope,
    pub(super) file: File,
}

type Refusal = (ErrorCode, &'static str);

impl Server {
    /// Returns the change's key, or why it is refused.
    pub(super) fn check(&self, sender: &Sender, change: &Change) -> Result<Key, Refusal> {
        let table = by_cloud_name(&change.table)
            .filter(|table| table.file == sender.file)
            .ok_or((ErrorCode::UnknownTable, "no table of this file"))?;
        let key = Key {
            scope: sender.scope,
            table: table.cloud,
            id: change.id,
        };
        let kept = self.database.rows.get(&key);
        if table.direction == Direction::Down {
            return Err((ErrorCode::DirectionRefused, "the table only comes down"));
        }
        let row = match (change.op, &change.row) {
            (Op::Delete, None) => return Ok(key),
            (Op::Upsert, Some(row)) => row,
            _ => return Err((ErrorCode::MalformedRow, "a row belongs to an upsert only")),
        };
        if canonical::row(table, row.clone()) != *row {
            return Err((ErrorCode::MalformedRow, "the row is not canonical"));
        }
        let misfits = row.get(canonical::EXTRA);
        let misfit = |name: &str| misfits.is_some_and(|misfits| misfits.get(name).is_some());
        let missing = |name: &str| !row.contains_key(name) && !misfit(name);
        if table
            .columns
            .iter()
            .any(|column| column.required && missing(column.name))
        {
            return Err((ErrorCode::MalformedRow, "a required column is missing"));
        }
        if self
            .refused_word
            .as_ref()
            .is_some_and(|word| contains(row, word))
        {
            return Err((ErrorCode::MalformedRow, "a word that this server refuses"));
        }
        if hash::content(table, row).to_string() != change.hash {
            return Err((ErrorCode::HashMismatch, "the hash is not the row's"));
        }
        let owner = kept.map_or(sender.device, |kept| kept.origin);
        if natural_id(table, row, owner).is_some_and(|id| id != change.id.get().as_bytes()[..]) {
            return Err((ErrorCode::KeyMismatch, "the id is not that of the key"));
        }
        Ok(key)
    }
}

/// Says why a change may not be made to what is stored: it is another device's or author's.
pub(super) fn refuse_direction(
    table: &Table,
    kept: Option<&Kept>,
    sender: &Sender,
) -> Result<(), Refusal> {
    let refused = match (table.direction, kept) {
        (Direction::Both, _) | (_, None) => false,
        (Direction::Down, _) => true,
        (Direction::Mirror, Some(kept)) => kept.user != sender.user,
        (Direction::Up, Some(kept)) => kept.origin != sender.device,
    };
    if refused {
        return Err((
            ErrorCode::DirectionRefused,
            "the table does not travel that way",
        ));
    }
    Ok(())
}

fn contains(row: &Row, word: &str) -> bool {
    row.values()
        .any(|value| value.as_str().is_some_and(|text| text.contains(word)))
}

/// The id of a natural key: the first 128 bits of SHA-256 over the length-prefixed table name,
/// device where it counts, and key; marked as UUIDv8.
fn natural_id(table: &Table, row: &Row, device: DeviceId) -> Option<[u8; 16]> {
    let mut bytes = Vec::new();
    let mut part = |part: &[u8]| {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part);
    };
    part(table.cloud.as_bytes());
    match table.identity {
        Identity::Random => return None,
        Identity::Derived(_) => {}
        Identity::DerivedPerDevice(_) => part(device.get().as_bytes()),
    }
    for name in table.identity.columns() {
        part(
            row.get(*name)
                .and_then(Value::as_str)
                .unwrap_or("")
                .as_bytes(),
        );
    }
    let mut id: [u8; 16] = Sha256::digest(&bytes)[..16].try_into().ok()?;
    id[6] = (id[6] & 0x0f) | 0x80;
    id[8] = (id[8] & 0x3f) | 0x80;
    Some(id)
}
