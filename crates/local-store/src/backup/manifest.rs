//! What a backup says about itself. The file carries the checksum of what it says.

use coditect_core::canonical;
use coditect_core::hex::hex;
use coditect_protocol::catalogue::File;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::{BackupError, BackupResult, failed, sync_folder};
use crate::Owner;
use crate::profile::make_private_file;

const NAME: &str = "manifest.json";
/// Longest manifest that is read, in bytes.
const BYTES_MAX: u64 = 1024 * 1024;

/// Why a backup was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// By itself, once a day; the last seven are kept.
    Daily,
    /// By a person; kept until removed.
    Manual,
    /// Before something was put back; the last seven are kept.
    Undo,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Daily, Self::Manual, Self::Undo];

    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Manual => "manual",
            Self::Undo => "undo",
        }
    }

    /// Returns the kind that an id names; none for what is no id.
    pub(super) fn of(id: &str) -> Option<Self> {
        time_of(id)?;
        let mut parts = id.split('-').skip(1);
        let kind = parts.next()?;
        let number = parts.next();
        let is_number = |text: &str| {
            (2..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if number.is_some_and(|text| !is_number(text)) || parts.next().is_some() {
            return None;
        }
        Self::ALL.into_iter().find(|known| known.as_str() == kind)
    }
}

/// A backup's id: the time to the second, and why it was made.
pub(super) fn id(kind: Kind, now_ms: i64) -> String {
    let time = canonical::time_from_ms(now_ms);
    let whole = time.split('.').next().unwrap_or_default();
    let plain: String = whole.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{plain}Z-{}", kind.as_str())
}

/// Returns the time that an id names.
pub(super) fn time_of(id: &str) -> Option<i64> {
    let (time, _) = id.split_once("Z-")?;
    let (day, clock) = time.split_once('T')?;
    let digits =
        |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(day, 8) || !digits(clock, 6) {
        return None;
    }
    let (year, month, of_month) = (&day[..4], &day[4..6], &day[6..]);
    let (hour, minute, second) = (&clock[..2], &clock[2..4], &clock[4..]);
    canonical::ms_from_time(&format!(
        "{year}-{month}-{of_month}T{hour}:{minute}:{second}.000000Z"
    ))
}

/// What is known of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Which of the four it is.
    pub file: File,
    /// Bytes of the copy.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// SHA-256 over its tables and rows; that of the database at the moment of the copy.
    pub digest: String,
    /// Rows of each table.
    pub tables: BTreeMap<String, u64>,
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its id.
    pub id: String,
    /// Why it was made.
    pub kind: Kind,
    /// When, RFC 3339.
    pub created_at: String,
    /// Device of the folder.
    pub device_id: Option<String>,
    /// Organisation of the folder; none before the first login.
    pub tenant_id: Option<String>,
    /// Person of the folder; none before the first login.
    pub user_id: Option<String>,
    /// The copies.
    pub files: Vec<Saved>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    manifest: Manifest,
    sha256: String,
}

impl Manifest {
    pub(super) fn new(id: String, kind: Kind, created_at: String) -> Self {
        Self {
            id,
            kind,
            created_at,
            device_id: None,
            tenant_id: None,
            user_id: None,
            files: Vec::new(),
        }
    }

    /// Returns what is known of a file's copy.
    #[must_use]
    pub fn saved(&self, file: File) -> Option<&Saved> {
        self.files.iter().find(|saved| saved.file == file)
    }

    /// Tells whether these files of the backup may go to this owner.
    ///
    /// # Errors
    /// [`BackupError`] when it is of another account or lacks a file.
    pub fn suits(&self, owner: Option<Owner>, files: &[File]) -> BackupResult<()> {
        if let Some(missing) = files.iter().find(|file| self.saved(**file).is_none()) {
            let missing = format!("of {missing}.db in {}", self.id);
            return Err(BackupError::NotFound(missing));
        }
        let own = owner.map(|owner| (owner.tenant.to_string(), owner.user.to_string()));
        let of = self.tenant_id.clone().zip(self.user_id.clone());
        match (own, of) {
            (Some(own), Some(of)) if own != of => Err(BackupError::Foreign(self.id.clone())),
            _ => Ok(()),
        }
    }

    /// Returns the bytes of all copies.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|saved| saved.bytes).sum()
    }

    fn checksum(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        hex(&Sha256::digest(&text))
    }
}

/// Writes a manifest: whole or not at all, and behind what it describes.
pub(super) fn write(folder: &Path, manifest: &Manifest) -> BackupResult<()> {
    let unfinished = folder.join("manifest.unfinished");
    let written = Written {
        sha256: manifest.checksum(),
        manifest: manifest.clone(),
    };
    let text = serde_json::to_vec(&written).unwrap_or_default();
    make_private_file(&unfinished)?;
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::options()
            .write(true)
            .truncate(true)
            .open(&unfinished)?;
        file.write_all(&text)?;
        file.sync_all()
    };
    write().map_err(failed(&unfinished))?;
    let path = folder.join(NAME);
    fs::rename(&unfinished, &path).map_err(failed(&path))?;
    sync_folder(folder)
}

/// Reads a manifest and compares it with its checksum.
pub(super) fn read(folder: &Path, id: &str) -> BackupResult<Manifest> {
    let path = folder.join(NAME);
    let damaged = |reason: String| BackupError::Damaged {
        id: id.to_owned(),
        reason,
    };
    let bytes = fs::metadata(&path)
        .map_err(|error| damaged(format!("{NAME}: {error}")))?
        .len();
    if bytes > BYTES_MAX {
        return Err(damaged(format!("{NAME} has {bytes} bytes")));
    }
    let text = fs::read(&path).map_err(failed(&path))?;
    let written: Written =
        serde_json::from_slice(&text).map_err(|error| damaged(format!("{NAME}: {error}")))?;
    // A name that is wrong by a bit would be passed over: the bytes have to be those it was
    // written with.
    let as_written = serde_json::to_vec(&written).unwrap_or_default();
    let is_whole = written.manifest.checksum() == written.sha256 && as_written == text;
    if !is_whole || written.manifest.id != id {
        return Err(damaged(format!("{NAME} is not what was written")));
    }
    Ok(written.manifest)
}
