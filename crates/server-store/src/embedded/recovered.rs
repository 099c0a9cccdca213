//! What a recovered cluster's folder says of its recovery, until a server has served it and the
//! trails say so.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{EmbeddedError, guarded};

const NAME: &str = "recovered.json";
/// It has a few hundred bytes; what is longer is none.
const BYTES_MAX: usize = 4 * 1024;

/// Where a cluster came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// Which recovery it was.
    pub id: Uuid,
    /// The archive.
    pub archive_id: Uuid,
    /// The base backup in it.
    pub base_id: String,
    /// The moment that was asked for; none for as far as there was log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_for: Option<DateTime<Utc>>,
    /// When the last transaction that is in it was committed; none when there was none in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<DateTime<Utc>>,
    /// The position in the write-ahead log.
    pub lsn: String,
    /// When the recovery was done.
    pub recovered_at: DateTime<Utc>,
}

impl Recovered {
    /// Leaves it in the cluster's folder.
    ///
    /// # Errors
    /// [`EmbeddedError::Io`].
    pub fn write(&self, folder: &Path) -> Result<(), EmbeddedError> {
        let path = folder.join(NAME);
        let write = || -> io::Result<()> {
            Self::forget(folder)?;
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            File::open(folder)?.sync_all()
        };
        write().map_err(EmbeddedError::io("write", &path))
    }

    /// Returns what the folder says; none of a cluster that was not recovered, or whose trails say
    /// so by now.
    #[must_use]
    pub fn read(folder: &Path) -> Option<Self> {
        let text = guarded::read(&folder.join(NAME));
        let text = text.get(..text.len().min(BYTES_MAX))?;
        serde_json::from_slice(text).ok()
    }

    /// Removes it.
    ///
    /// # Errors
    /// Those of the system.
    pub fn forget(folder: &Path) -> io::Result<()> {
        match fs::remove_file(folder.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let recovered = Recovered {
            id: Uuid::from_u128(1),
            archive_id: Uuid::from_u128(2),
            base_id: "20261121T140500Z-1".to_owned(),
            asked_for: None,
            as_of: DateTime::from_timestamp(1_800_000_000, 0),
            lsn: "0/3000000".to_owned(),
            recovered_at: DateTime::from_timestamp(1_800_000_060, 0).unwrap(),
        };
        assert_eq!(Recovered::read(folder.path()), None);
        recovered.write(folder.path()).unwrap();
        recovered.write(folder.path()).unwrap();
        assert_eq!(Recovered::read(folder.path()), Some(recovered));
        Recovered::forget(folder.path()).unwrap();
        Recovered::forget(folder.path()).unwrap();
        assert_eq!(Recovered::read(folder.path()), None);
    }
}
