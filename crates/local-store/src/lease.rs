//! The lease: one process at a time syncs a folder. Writing to the databases needs none.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};
use crate::profile::make_private_file;

/// The right to sync a folder; ends when dropped, also by a crash.
#[derive(Debug)]
pub struct Lease {
    _lock: Option<File>,
}

impl Lease {
    /// Takes the lease of a folder; one in memory always gets it.
    ///
    /// # Errors
    /// [`Error::Leased`] when another process holds it.
    pub(crate) fn take(folder: Option<&Path>) -> Result<Self> {
        let Some(folder) = folder else {
            return Ok(Self { _lock: None });
        };
        let path = folder.join("sync.lock");
        make_private_file(&path)?;
        let failed = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let file = File::options().write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _lock: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(Error::Leased),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}
