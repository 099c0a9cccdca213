//! The convergence proof: per stream, table and origin device a count and an XOR of one term
//! per row, tombstones included (DESIGN 4). It detects faults; it is no seal against a member
//! who forges.

use coditect_protocol::{DeviceId, RowId, Version};
use sha2::{Digest as _, Sha256};

use crate::hash::ContentHash;

/// Returns a row's term: the first 64 bits of SHA-256 over table, id, version, device, content
/// hash and whether it is a tombstone.
#[must_use]
pub fn term(
    cloud_table: &str,
    id: RowId,
    version: Version,
    device: DeviceId,
    hash: &ContentHash,
    deleted: bool,
) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update((cloud_table.len() as u64).to_be_bytes());
    hasher.update(cloud_table.as_bytes());
    hasher.update(id.get().as_bytes());
    hasher.update(version.to_i64().to_be_bytes());
    hasher.update(device.get().as_bytes());
    hasher.update(hash.0);
    hasher.update([u8::from(deleted)]);
    let digest = hasher.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

/// Fingerprint of a set of rows. Adding and removing terms in any order gives the same value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Rows that are no tombstones.
    pub rows: i64,
    /// Rows and tombstones.
    pub count: i64,
    /// XOR of the terms.
    pub xor: u64,
}

impl Digest {
    /// Adds a row's term.
    pub const fn add(&mut self, term: u64, deleted: bool) {
        self.rows += (!deleted) as i64;
        self.count += 1;
        self.xor ^= term;
    }

    /// Takes a row's term out.
    pub const fn remove(&mut self, term: u64, deleted: bool) {
        self.rows -= (!deleted) as i64;
        self.count -= 1;
        self.xor ^= term;
    }

    /// Joins another set of rows, or a difference of one.
    pub const fn join(&mut self, other: Self) {
        self.rows += other.rows;
        self.count += other.count;
        self.xor ^= other.xor;
    }

    /// Returns the XOR as it travels: 16 hexadecimal digits.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:016x}", self.xor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn sample(id: u128, version: u64, deleted: bool) -> u64 {
        let device = DeviceId::new(Uuid::from_u128(9));
        let id = RowId::new(Uuid::from_u128(id));
        term(
            "t",
            id,
            Version::from_parts(version, 0),
            device,
            &ContentHash([1; 32]),
            deleted,
        )
    }

    #[test]
    fn every_part_changes_the_term() {
        let terms = [
            sample(1, 1, false),
            sample(2, 1, false),
            sample(1, 2, false),
            sample(1, 1, true),
        ];
        for (at, term) in terms.iter().enumerate() {
            assert!(!terms[at + 1..].contains(term));
        }
    }

    #[test]
    fn order_does_not_matter_and_removal_undoes() {
        let (mut a, mut b) = (Digest::default(), Digest::default());
        a.add(sample(1, 1, false), false);
        a.add(sample(2, 1, true), true);
        b.add(sample(2, 1, true), true);
        b.add(sample(1, 1, false), false);
        assert_eq!(a, b);
        assert_eq!((a.rows, a.count), (1, 2));
        a.remove(sample(1, 1, false), false);
        a.remove(sample(2, 1, true), true);
        assert_eq!(a, Digest::default());
    }
}
