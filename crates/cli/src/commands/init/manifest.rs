//! What init has written on this machine, so that uninstall finds all of it again, and gives a
//! file back byte for byte where nobody has changed it since.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use coditect_client::Paths;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::places::{self, Change};

/// The files that init has changed, by path.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Manifest {
    /// By path.
    pub(crate) files: BTreeMap<PathBuf, Written>,
}

/// What init did to a file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Written {
    /// It was not there before.
    pub(crate) created: bool,
    /// Folders that were made for it, the innermost first.
    #[serde(default)]
    pub(crate) folders: Vec<PathBuf>,
    /// SHA-256 of what was written, in hexadecimal.
    pub(crate) sha256: String,
}

impl Manifest {
    /// Returns where it lies.
    pub(crate) fn path(paths: &Paths) -> PathBuf {
        paths.config_file().with_file_name("init.json")
    }

    /// Reads it; a missing one is empty.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let Some(text) = places::read(path)? else {
            return Ok(Self::default());
        };
        serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Writes it.
    pub(crate) fn store(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            coditect_local_store::make_private_folder(folder)?;
        }
        places::write(path, &serde_json::to_string_pretty(self)?, None)
    }

    /// Notes a change that is about to be made.
    pub(crate) fn note(&mut self, change: &Change) -> anyhow::Result<()> {
        let path = change.place.path.clone();
        let above = path.ancestors().skip(1);
        let folders: Vec<PathBuf> = above
            .take_while(|folder| !folder.exists())
            .map(Path::to_owned)
            .collect();
        let sha256 = hash(change.after.as_deref().unwrap_or(""));
        match self.files.get_mut(&path) {
            Some(known) => known.sha256 = sha256,
            None => {
                let created = change.before.is_none();
                let written = Written {
                    created,
                    folders,
                    sha256,
                };
                self.files.insert(path, written);
            }
        }
        Ok(())
    }
}

/// Returns where what was in a file before is kept.
pub(crate) fn backup_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".before-coditect");
    PathBuf::from(name)
}

/// Returns the SHA-256 of a text in hexadecimal.
pub(crate) fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
