//! Content hashes and the ids that are made from natural keys.

use coditect_protocol::catalogue::{Identity, Table};
use coditect_protocol::wire::Row;
use coditect_protocol::{DeviceId, RowId};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

use crate::canonical::{EXTRA, json};

/// SHA-256 of a row's canonical register; 64 lowercase hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 32]);

/// A text that is no content hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a content hash has 64 lowercase hexadecimal digits")]
pub struct InvalidHash;

impl fmt::Display for ContentHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        out.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for ContentHash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(InvalidHash),
        };
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(InvalidHash);
        }
        let mut hash = [0; 32];
        for (slot, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
            *slot = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(hash))
    }
}

/// A natural key's column that the row lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key column '{0}' is missing or no text")]
pub struct MissingKey(pub &'static str);

/// Returns the content hash: SHA-256 over the RFC 8785 JSON of the register's columns
/// (PROTOCOL 7), in which a long value of a column with bodies stands as its hash and length
/// (ADR 0018). The row must be canonical.
#[must_use]
pub fn content(table: &Table, row: &Row) -> ContentHash {
    let hashed = |name: &str| name == EXTRA || table.column(name).is_some_and(|c| c.hashed());
    let mut register: BTreeMap<&str, Cow<'_, Value>> = row
        .iter()
        .filter(|(name, value)| hashed(name) && !value.is_null())
        .map(|(name, value)| (name.as_str(), Cow::Borrowed(value)))
        .collect();
    // A long value counts by its own hash, whether it is in the row or kept apart.
    for column in table.bodies() {
        if let Some(stands) = crate::body::hashed(table, row, column) {
            register.insert(column.name, Cow::Owned(stands));
        }
    }
    // Names of columns are ASCII, so the map's order is the canonical one.
    let mut bytes = Vec::with_capacity(1_024);
    let entries = register.iter().map(|(name, value)| (*name, &**value));
    json::write_entries(entries, &mut bytes);
    ContentHash(Sha256::digest(&bytes).into())
}

/// Returns the id that the row's natural key gives: a UUIDv8 of the first 128 bits of SHA-256
/// over the cloud table's name and the length-prefixed key (PROTOCOL 4). None for tables with
/// random ids.
///
/// # Errors
/// [`MissingKey`] names the key column that is absent or no text.
pub fn derived_id(table: &Table, row: &Row, device: DeviceId) -> Result<Option<RowId>, MissingKey> {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    part(table.cloud.as_bytes());
    match table.identity {
        Identity::Random => return Ok(None),
        Identity::Derived(_) => {}
        Identity::DerivedPerDevice(_) => part(device.get().as_bytes()),
    }
    for name in table.identity.columns() {
        part(
            row.get(*name)
                .and_then(Value::as_str)
                .ok_or(MissingKey(name))?
                .as_bytes(),
        );
    }
    let digest = hasher.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Ok(Some(RowId::new(
        uuid::Builder::from_custom_bytes(bytes).into_uuid(),
    )))
}

/// Returns the id of a row that another program wrote without one: a UUIDv7 of `made_ms`
/// (milliseconds since 1970) whose other bits are derived from whose row it is and what it holds.
/// Two copies of a folder give the same row the same id, and different rows different ones, also
/// if both copies wrote theirs under the same `seq`.
#[must_use]
pub fn adopted_id(
    table: &Table,
    device: DeviceId,
    seq: i64,
    made_ms: i64,
    content: ContentHash,
) -> Uuid {
    let mut hasher = Sha256::new();
    hasher.update(device.get().as_bytes());
    hasher.update(seq.to_be_bytes());
    hasher.update(made_ms.to_be_bytes());
    hasher.update(content.0);
    hasher.update(table.cloud.as_bytes());
    let digest = hasher.finalize();
    let mut bytes = [0; 10];
    bytes.copy_from_slice(&digest[..10]);
    random_id(made_ms.max(0) as u64, bytes)
}

/// Returns the id of a row that is known by what it is about, although its table's ids are random
/// (a project by its repository, a checkpoint by its name): every device makes the same row.
#[must_use]
pub fn named_id(table: &Table, parts: &[&str]) -> RowId {
    let mut hasher = Sha256::new();
    for part in std::iter::once(&table.cloud).chain(parts) {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let digest = hasher.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    RowId::new(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// Returns a UUIDv7 made from a time and random bytes, both given by the caller.
#[must_use]
pub fn random_id(unix_ms: u64, random: [u8; 10]) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical;
    use coditect_protocol::catalogue::by_cloud_name;
    use serde_json::json;

    fn row(table: &Table, value: Value) -> Row {
        let Value::Object(raw) = value else {
            panic!("a row is an object")
        };
        canonical::row(table, raw)
    }

    #[test]
    fn an_adopted_id_depends_on_whose_row_it_is_and_what_it_holds() {
        let table = by_cloud_name("org_decisions").unwrap();
        let device = DeviceId::new(Uuid::from_u128(1));
        let hash = |title: &str| content(table, &row(table, json!({"title": title})));
        let id = adopted_id(table, device, 10, 5_000, hash("a"));
        assert_eq!(id, adopted_id(table, device, 10, 5_000, hash("a")));
        assert_eq!(id.get_version_num(), 7);
        let other = DeviceId::new(Uuid::from_u128(2));
        for different in [
            adopted_id(table, other, 10, 5_000, hash("a")),
            adopted_id(table, device, 11, 5_000, hash("a")),
            adopted_id(table, device, 10, 5_001, hash("a")),
            adopted_id(table, device, 10, 5_000, hash("b")),
        ] {
            assert_ne!(id, different);
        }
    }

    #[test]
    fn only_the_register_is_hashed() {
        let table = by_cloud_name("org_skill_learnings").unwrap();
        let hash = |count: i64, learning: &str| {
            let value = json!({"skill_name": "s", "learning": learning, "usage_count": count});
            content(table, &row(table, value))
        };
        assert_eq!(hash(1, "a"), hash(2, "a"));
        assert_ne!(hash(1, "a"), hash(1, "b"));
    }

    #[test]
    fn hash_is_over_the_canonical_json() {
        let table = by_cloud_name("org_decisions").unwrap();
        let hash = content(
            table,
            &row(table, json!({"title": "Zürich", "confidence": 1.0})),
        );
        let expected = Sha256::digest("{\"confidence\":1,\"title\":\"Zürich\"}".as_bytes());
        assert_eq!(hash, ContentHash(expected.into()));
        assert_eq!(hash.to_string().parse(), Ok(hash));
    }

    #[test]
    fn derived_ids_depend_on_table_key_and_where_named_the_device() {
        let (one, two) = (
            DeviceId::new(Uuid::from_u128(1)),
            DeviceId::new(Uuid::from_u128(2)),
        );
        let tasks = by_cloud_name("context_task_tracking").unwrap();
        let id = |session: &str, task: &str, device| {
            let row = row(tasks, json!({"session_id": session, "task_id": task}));
            derived_id(tasks, &row, device).unwrap().unwrap()
        };
        assert_eq!(id("s", "1", one), id("s", "1", two));
        assert_ne!(id("s1", "", one), id("s", "1", one));
        assert_eq!(id("s", "1", one).get().get_version_num(), 8);

        let usage = by_cloud_name("platform_usage_stats").unwrap();
        let row = row(usage, json!({"component_id": "c"}));
        assert_ne!(derived_id(usage, &row, one), derived_id(usage, &row, two));
        assert_eq!(
            derived_id(usage, &Row::new(), one),
            Err(MissingKey("component_id"))
        );
    }
}
