//! The archive of a whole database: base backups and the write-ahead log (WAL) between and behind
//! them, from which it can be recovered as of any moment.
//!
//! Owns names, paths and manifests, the packing, and the decision what a recovery needs and what
//! has had its time. Starts no program and knows no server.

mod expiry;
mod manifest;
mod names;
mod pack;
mod plan;
mod tar;

pub use expiry::{Expired, KEPT_DAYS, expired};
pub use manifest::{Base, FORMAT, FORMAT_VERSION, Head, ManifestError, parse_base, parse_head};
pub use names::{Lsn, NotAnLsn, SEGMENT_BYTES, WalName};
pub use pack::{Packer, Unpacker};
pub use plan::{History, Plan, PlanError, Until, plan};
pub use tar::{Entry, TarError, TarReader};

use uuid::Uuid;

/// Folder of all archives of databases in the storage.
pub const FOLDER: &str = "database";

/// Returns the folder of an archive.
#[must_use]
pub fn folder(archive: Uuid) -> String {
    format!("{FOLDER}/{archive}")
}

/// Returns the path of an archive's head.
#[must_use]
pub fn head_path(archive: Uuid) -> String {
    format!("{FOLDER}/{archive}/archive.json")
}

/// Returns the archive whose head lies at `path`; none where something else does.
#[must_use]
pub fn archive_of_head(path: &str) -> Option<Uuid> {
    let below = path.strip_prefix(FOLDER)?.strip_prefix('/')?;
    below.strip_suffix("/archive.json")?.parse().ok()
}

/// Returns the folder of an archive's base backups.
#[must_use]
pub fn bases_folder(archive: Uuid) -> String {
    format!("{FOLDER}/{archive}/base")
}

/// Returns the path of a base backup's manifest, which is written last: without it there is none.
#[must_use]
pub fn manifest_path(archive: Uuid, base: &str) -> String {
    format!("{FOLDER}/{archive}/base/{base}.json")
}

/// Returns the path of a base backup.
#[must_use]
pub fn base_path(archive: Uuid, base: &str) -> String {
    format!("{FOLDER}/{archive}/base/{base}.tar.zst")
}

/// Returns the folder of an archive's WAL.
#[must_use]
pub fn wal_folder(archive: Uuid) -> String {
    format!("{FOLDER}/{archive}/wal")
}

/// Returns the path of a file of the WAL.
#[must_use]
pub fn wal_path(archive: Uuid, name: &str) -> String {
    format!("{FOLDER}/{archive}/wal/{name}.zst")
}

/// Returns the name of the file of the WAL that lies at `path`; none where something else does.
#[must_use]
pub fn wal_of_path(path: &str) -> Option<&str> {
    path.rsplit('/').next()?.strip_suffix(".zst")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_back_to_what_lies_there() {
        let archive = Uuid::from_u128(7);
        assert_eq!(archive_of_head(&head_path(archive)), Some(archive));
        assert_eq!(archive_of_head(&manifest_path(archive, "b")), None);
        assert_eq!(archive_of_head("tenants/x/archive.json"), None);
        let name = "00000001000000000000000A";
        assert_eq!(wal_of_path(&wal_path(archive, name)), Some(name));
        assert!(wal_path(archive, name).starts_with(&wal_folder(archive)));
        assert!(base_path(archive, "b").starts_with(&bases_folder(archive)));
    }
}
