//! Small private files: read whole, written whole, never half.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A file of the client could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The content is not of the expected form.
    #[error("{} is not a valid file of this program: {source}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// Reads a JSON file; none when it does not exist.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io("read", path, source)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|source| FileError::Malformed {
            path: path.to_owned(),
            source,
        })
}

/// Writes a JSON file with mode 0600, its folder with 0700. A reader sees the old or the new
/// content, also after a crash.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| FileError::Malformed {
        path: path.to_owned(),
        source,
    })?;
    text.push(b'\n');
    let folder = path.parent().unwrap_or(Path::new("."));
    create_private_folder(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let scratch = folder.join(format!(".{name}.{}.new", std::process::id()));
    let written = write_private(&scratch, &text).and_then(|()| std::fs::rename(&scratch, path));
    written.map_err(|source| {
        // Half a file, or one that nobody looks for, would take the space that is missing.
        let _ = std::fs::remove_file(&scratch);
        io("write", path, source)
    })
}

/// Removes a file; says whether it was there.
pub(crate) fn remove(path: &Path) -> Result<bool, FileError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(io("remove", path, source)),
    }
}

/// Makes a folder and its missing parents with mode 0700.
pub(crate) fn create_private_folder(folder: &Path) -> Result<(), FileError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .map_err(|source| io("make the folder", folder, source))
}

/// Opens (and makes) a file that processes lock against each other.
pub(crate) fn open_lock(path: &Path) -> Result<std::fs::File, FileError> {
    if let Some(folder) = path.parent() {
        create_private_folder(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(path)
        .map_err(|source| io("open", path, source))
}

pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> FileError {
    FileError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

fn write_private(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text)?;
    file.sync_all()
}
