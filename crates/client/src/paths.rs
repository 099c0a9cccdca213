//! Where the client keeps its files.

use std::path::{Path, PathBuf};

/// Longest name of a profile, in bytes.
const PROFILE_BYTES_MAX: usize = 64;
/// Name under which the files of no profile are known.
const DEFAULT_PROFILE: &str = "default";

/// A profile's name is not usable as a folder's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no name for a profile: 1 to 64 letters, digits, '-' and '_'")]
pub struct InvalidProfile(pub String);

/// Folders and files of one profile below one home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    home: PathBuf,
    profile: Option<String>,
}

impl Paths {
    /// Returns the paths below `home`; `profile` is none (or `default`) for the ordinary one.
    ///
    /// # Errors
    /// [`InvalidProfile`] when the name could not be a folder's.
    pub fn new(home: impl Into<PathBuf>, profile: Option<&str>) -> Result<Self, InvalidProfile> {
        let profile = profile.filter(|name| *name != DEFAULT_PROFILE);
        if let Some(name) = profile {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            if name.is_empty() || name.len() > PROFILE_BYTES_MAX || !name.bytes().all(plain) {
                return Err(InvalidProfile(name.chars().take(80).collect()));
            }
        }
        Ok(Self {
            home: home.into(),
            profile: profile.map(str::to_owned),
        })
    }

    /// Returns the profile's name; none for the ordinary one.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// Returns the folder that everything lies below.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Returns the configuration file; one for all profiles.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.home.join(".coditect").join("config.json")
    }

    /// Returns the file with the profile's tokens.
    #[must_use]
    pub fn credentials_file(&self) -> PathBuf {
        let name = self.profile().unwrap_or(DEFAULT_PROFILE);
        let folder = self.home.join(".coditect").join("credentials");
        folder.join(format!("{name}.json"))
    }

    /// Returns the folder with the profile's data.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        let data = self.home.join(".coditect-data");
        match self.profile() {
            Some(name) => data.join("profiles").join(name),
            None => data,
        }
    }

    /// Returns the folder with the four databases.
    #[must_use]
    pub fn context_storage(&self) -> PathBuf {
        self.data_dir().join("context-storage")
    }

    /// Returns the folder with the backups of the databases.
    #[must_use]
    pub fn backups_dir(&self) -> PathBuf {
        self.data_dir().join("backups")
    }

    /// Returns the folder with the logs.
    #[must_use]
    pub fn logs_dir(&self) -> PathBuf {
        self.data_dir().join("logs")
    }

    /// Returns the file that remembers the last run of the engine.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.data_dir().join("sync-state.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_have_folders_of_their_own() {
        let plain = Paths::new("/h", None).unwrap();
        let work = Paths::new("/h", Some("work")).unwrap();
        assert_eq!(Paths::new("/h", Some("default")).unwrap(), plain);
        assert_eq!(
            plain.context_storage(),
            Path::new("/h/.coditect-data/context-storage")
        );
        assert_eq!(
            work.context_storage(),
            Path::new("/h/.coditect-data/profiles/work/context-storage")
        );
        assert_ne!(plain.credentials_file(), work.credentials_file());
        assert_eq!(plain.config_file(), work.config_file());
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in ["", "..", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(Paths::new("/h", Some(name)).is_err(), "{name}");
        }
    }
}
