//! Fingerprints, computed anew over all rows each time (DESIGN 4, "Convergence proof").

use super::{Database, Kept, Key};
use coditect_protocol::catalogue::{Direction, File};
use coditect_protocol::wire::pull::TableDigest;
use coditect_protocol::{DeviceId, Scope};
use sha2::{Digest as _, Sha256};

/// Returns the digests of a file's tables as `reader` compares them: of an `up` table only the
/// rows that the reader was first to push.
pub(super) fn of_file(
    database: &Database,
    scope: Scope,
    file: File,
    reader: DeviceId,
) -> Vec<TableDigest> {
    let mut digests = Vec::new();
    for table in file.tables() {
        let counts = |kept: &Kept| table.direction != Direction::Up || kept.origin == reader;
        let (mut rows, mut count, mut xor) = (0, 0, 0);
        for (key, kept) in database.file_rows(scope, file) {
            if key.table == table.cloud && counts(kept) {
                rows += i64::from(kept.fields.is_some());
                count += 1;
                xor ^= fingerprint(key, kept);
            }
        }
        if count > 0 {
            let table = table.cloud.to_owned();
            let digest = format!("{xor:016x}");
            digests.push(TableDigest {
                table,
                rows,
                count,
                digest,
            });
        }
    }
    digests
}

/// First 64 bits of SHA-256 over (table with its length, id, version, device, content hash,
/// deleted).
pub(super) fn fingerprint(key: &Key, kept: &Kept) -> u64 {
    let mut bytes = Vec::new();
    bytes.extend((key.table.len() as u64).to_be_bytes());
    bytes.extend(key.table.bytes());
    bytes.extend(key.id.get().as_bytes());
    bytes.extend(kept.version.to_i64().to_be_bytes());
    bytes.extend(kept.device.get().as_bytes());
    bytes.extend(from_hex(&kept.hash));
    bytes.push(u8::from(kept.fields.is_none()));
    let digest = Sha256::digest(&bytes);
    digest[..8]
        .iter()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2).unwrap_or("0"), 16);
    (0..text.len())
        .step_by(2)
        .map(|at| digit(at).unwrap_or(0))
        .collect()
}
