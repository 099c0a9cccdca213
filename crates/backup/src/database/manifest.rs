//! What an archive says about itself and about its base backups: small JSON files.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Lsn;

/// Name of the format, in every head and manifest.
pub const FORMAT: &str = "coditect-database";
/// Version of the format that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// A file that is no head or manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error("{path} is damaged, or no part of an archive")]
    Damaged {
        /// Where it lies.
        path: String,
    },
    /// A newer program wrote it.
    #[error("{path} has format {found}, this program reads {FORMAT_VERSION}")]
    Newer {
        /// Where it lies.
        path: String,
        /// Its version.
        found: u32,
    },
}

/// What an archive is: the WAL of one life of one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT`].
    pub format: String,
    /// Version of the format.
    pub format_version: u32,
    /// The archive's id.
    pub archive_id: Uuid,
    /// The archive that the database was recovered from, and whose WAL this one goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<Uuid>,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
}

impl Head {
    /// Makes the head of an archive that begins now.
    #[must_use]
    pub fn new(archive_id: Uuid, parent_id: Option<Uuid>, created_at: DateTime<Utc>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            archive_id,
            parent_id,
            created_at,
        }
    }
}

/// A base backup: all files of a database, which need the WAL from `start_lsn` to `end_lsn` to
/// fit together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// [`FORMAT`].
    pub format: String,
    /// Version of the format.
    pub format_version: u32,
    /// Its name in the archive: when it was begun.
    pub id: String,
    /// The archive.
    pub archive_id: Uuid,
    /// What PostgreSQL calls the database.
    pub system_identifier: u64,
    /// Major version of PostgreSQL.
    pub postgres_major: u32,
    /// The timeline.
    pub timeline: u32,
    /// Where recovery begins.
    pub start_lsn: Lsn,
    /// Where the files fit together.
    pub end_lsn: Lsn,
    /// When it was begun.
    pub started_at: DateTime<Utc>,
    /// When it was finished: the earliest moment that it leads to.
    pub finished_at: DateTime<Utc>,
    /// Bytes of the tar, unpacked.
    pub size_bytes: u64,
    /// SHA-256 of the tar, unpacked: `sha256:` and 64 hexadecimal digits.
    pub checksum: String,
}

/// Reads a head.
///
/// # Errors
/// [`ManifestError`], naming `path`.
pub fn parse_head(path: &str, text: &[u8]) -> Result<Head, ManifestError> {
    let head: Head = parse(path, text)?;
    checked(path, &head.format, head.format_version)?;
    Ok(head)
}

/// Reads the manifest of a base backup.
///
/// # Errors
/// [`ManifestError`], naming `path`.
pub fn parse_base(path: &str, text: &[u8]) -> Result<Base, ManifestError> {
    let base: Base = parse(path, text)?;
    checked(path, &base.format, base.format_version)?;
    Ok(base)
}

fn parse<T: for<'de> Deserialize<'de>>(path: &str, text: &[u8]) -> Result<T, ManifestError> {
    serde_json::from_slice(text).map_err(|_| ManifestError::Damaged {
        path: path.to_owned(),
    })
}

fn checked(path: &str, format: &str, version: u32) -> Result<(), ManifestError> {
    let path = || path.to_owned();
    match (format, version) {
        (FORMAT, 0..=FORMAT_VERSION) => Ok(()),
        (FORMAT, found) => Err(ManifestError::Newer {
            path: path(),
            found,
        }),
        _ => Err(ManifestError::Damaged { path: path() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_and_others_are_refused() {
        let head = Head::new(Uuid::from_u128(1), None, DateTime::<Utc>::UNIX_EPOCH);
        let text = serde_json::to_vec(&head).unwrap();
        assert_eq!(parse_head("p", &text).unwrap(), head);
        let newer = Head {
            format_version: 2,
            ..head.clone()
        };
        let newer = serde_json::to_vec(&newer).unwrap();
        let found = parse_head("p", &newer);
        let path = "p".to_owned();
        assert_eq!(found, Err(ManifestError::Newer { path, found: 2 }));
        let other = Head {
            format: "x".to_owned(),
            ..head
        };
        for odd in [serde_json::to_vec(&other).unwrap(), text[1..].to_vec()] {
            assert!(matches!(
                parse_head("p", &odd),
                Err(ManifestError::Damaged { .. })
            ));
        }
    }
}
