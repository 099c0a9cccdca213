//! Where a profile's files lie, and who may read them.

use coditect_protocol::catalogue::File;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Paths of one profile's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    data: PathBuf,
}

impl Profile {
    /// Returns the profile below a home folder: `HOME/.coditect-data`, or
    /// `HOME/.coditect-data/profiles/NAME` when it has a name.
    #[must_use]
    pub fn new(home: &Path, name: Option<&str>) -> Self {
        let data = home.join(".coditect-data");
        Self {
            data: match name {
                Some(name) => data.join("profiles").join(name),
                None => data,
            },
        }
    }

    /// Returns whether a text may name a profile: 1 to 64 letters, digits, `-` and `_`.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=64).contains(&name.len()) && name.bytes().all(allowed)
    }

    /// Returns the profile's folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns the folder of the four databases.
    #[must_use]
    pub fn databases(&self) -> PathBuf {
        self.data.join("context-storage")
    }

    /// Returns the folder of the logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.data.join("logs")
    }
}

/// Returns the path of a file in a folder of databases.
pub(crate) fn path_of(folder: &Path, file: File) -> PathBuf {
    folder.join(format!("{file}.db"))
}

/// Makes a folder and those above it that are missing, readable by nobody else (0700).
///
/// # Errors
/// When the system refuses.
pub fn make_private_folder(folder: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|source| Error::Io {
        path: folder.to_owned(),
        source,
    })
}

/// Makes a file that is missing, readable by nobody else (0600), and takes the others' rights
/// from one that is there.
pub(crate) fn make_private_file(path: &Path) -> Result<()> {
    let failed = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let private = std::fs::Permissions::from_mode(mode & 0o700);
            file.set_permissions(private).map_err(failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_lie_below_the_home() {
        let home = Path::new("/home/ann");
        let plain = Profile::new(home, None);
        assert_eq!(
            plain.databases(),
            Path::new("/home/ann/.coditect-data/context-storage")
        );
        let work = Profile::new(home, Some("work"));
        assert_eq!(
            work.logs(),
            Path::new("/home/ann/.coditect-data/profiles/work/logs")
        );
    }

    #[test]
    fn a_profile_name_is_no_path() {
        assert!(Profile::is_name("work-2"));
        for name in ["", ".", "..", "a/b", "a b", "ü"] {
            assert!(!Profile::is_name(name), "{name}");
        }
    }
}
