//! The keys in the secrets folder: made when missing, readable by the server's user only.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};

use super::access_token::Checked;
use super::key_ring::{self, KeyRing, Stamp};
use super::{SecretError, random_bytes, random_uuid};

const SIGNING_KEY: &str = "access-token.key";
const FILE_TOKEN_KEY: &str = "file-token.key";

/// The server's keys. Clones share them; all servers of an installation share their folder.
///
/// The signing key may be replaced while servers run: each looks at the file before it signs or
/// verifies, so that all of them change at the same moment.
#[derive(Clone)]
pub struct Secrets {
    folder: PathBuf,
    ring: Arc<RwLock<Arc<KeyRing>>>,
    /// Access tokens whose signatures were checked.
    pub(super) checked: Checked,
    file_token_key: [u8; 32],
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Secrets")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// What keeps the keys from being used.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The file system refused something.
    #[error("cannot use the secrets in {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key file is not what it should be.
    #[error("the key file {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A new key could not be made.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl Secrets {
    /// Loads the keys from `folder`; makes the folder (mode 0700) and the keys (0600) when they
    /// are missing.
    ///
    /// # Errors
    ///
    /// [`SecretsError::Damaged`] for a file that holds no key; a damaged key is never replaced.
    pub fn load_or_create(folder: &Path) -> Result<Self, SecretsError> {
        prepare_folder(folder)?;
        make_missing(&folder.join(SIGNING_KEY), key_ring::generate)?;
        make_missing(&folder.join(FILE_TOKEN_KEY), || {
            Ok(random_bytes::<32>()?.to_vec())
        })?;
        Self::load(folder)
    }

    /// Loads the keys from `folder` and makes none.
    ///
    /// # Errors
    ///
    /// [`SecretsError::Io`] when a key is missing, [`SecretsError::Damaged`] as above.
    pub fn load(folder: &Path) -> Result<Self, SecretsError> {
        let ring = KeyRing::load(folder, &folder.join(SIGNING_KEY))?;
        let token_path = folder.join(FILE_TOKEN_KEY);
        let file_token_key = read_base64(&token_path)?
            .try_into()
            .map_err(|_| SecretsError::Damaged { path: token_path })?;
        Ok(Self {
            folder: folder.to_owned(),
            ring: Arc::new(RwLock::new(Arc::new(ring))),
            checked: Checked::default(),
            file_token_key,
        })
    }

    /// Returns the public keys that tokens may be signed with at `now` as a JSON web key set:
    /// the current one, and those that were replaced lately.
    #[must_use]
    pub fn jwks(&self, now: DateTime<Utc>) -> serde_json::Value {
        let ring = self.ring();
        let keys: Vec<_> = ring.public_at(now).map(key_ring::PublicKey::jwk).collect();
        serde_json::json!({ "keys": keys })
    }

    /// Replaces the signing key and returns the new one's id. Tokens signed with the old one
    /// stay valid until their time is over, unless `at_once` ends them now: for a key that
    /// leaked.
    ///
    /// All servers that share the folder notice; refresh tokens are not touched.
    ///
    /// # Errors
    ///
    /// [`SecretsError`] when a file cannot be written; the old key then goes on.
    pub fn rotate(&self, now: DateTime<Utc>, at_once: bool) -> Result<String, SecretsError> {
        key_ring::rotate(&self.folder, &self.folder.join(SIGNING_KEY), now, at_once)?;
        Ok(self.ring().key_id().to_owned())
    }

    /// Returns the keys of this moment: reads them again when the file was replaced.
    pub(super) fn ring(&self) -> Arc<KeyRing> {
        let ring = Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner));
        let path = self.folder.join(SIGNING_KEY);
        if Stamp::of(&path).is_ok_and(|stamp| stamp == ring.stamp()) {
            return ring;
        }
        match KeyRing::load(&self.folder, &path) {
            Ok(new) => {
                let new = Arc::new(new);
                tracing::info!(key.id = new.key_id(), "the signing key was replaced");
                let mut held = self.ring.write().unwrap_or_else(PoisonError::into_inner);
                *held = Arc::clone(&new);
                new
            }
            // Whoever is logged in can go on working until the file is back.
            Err(error) => {
                tracing::error!(%error, "cannot read the signing key again, the old one goes on");
                ring
            }
        }
    }

    /// Returns the key that signs the tokens of device files (HMAC-SHA-256).
    #[must_use]
    pub fn file_token_key(&self) -> &[u8; 32] {
        &self.file_token_key
    }
}

pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> SecretsError {
    let path = path.to_owned();
    move |source| SecretsError::Io { path, source }
}

/// Makes the folder, for its owner alone.
pub(crate) fn prepare_folder(folder: &Path) -> Result<(), SecretsError> {
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(io_error(folder))
}

/// Makes `path`, whole or not at all, when it is missing.
pub(crate) fn make_missing(
    path: &Path,
    make: impl FnOnce() -> Result<Vec<u8>, SecretError>,
) -> Result<(), SecretsError> {
    if path.exists() {
        return Ok(());
    }
    let scratch = write_scratch(path, &STANDARD.encode(make()?))?;
    // Another process may have been faster: then its key is the one.
    let linked = fs::hard_link(&scratch, path);
    fs::remove_file(&scratch).map_err(io_error(&scratch))?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io_error(path)(error)),
        _ => Ok(()),
    }
}

/// Writes a line beside `path`, readable by the owner only, and returns the scratch file.
pub(super) fn write_scratch(path: &Path, line: &str) -> Result<PathBuf, SecretsError> {
    let scratch = path.with_extension(random_uuid()?.simple().to_string());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&scratch)
        .map_err(io_error(&scratch))?;
    file.write_all(format!("{line}\n").as_bytes())
        .map_err(io_error(&scratch))?;
    file.sync_all().map_err(io_error(&scratch))?;
    Ok(scratch)
}

/// Reads a file of one base64 line.
pub(crate) fn read_base64(path: &Path) -> Result<Vec<u8>, SecretsError> {
    let text = fs::read_to_string(path).map_err(io_error(path))?;
    STANDARD
        .decode(text.trim())
        .map_err(|_| SecretsError::Damaged {
            path: path.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_private() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("secrets");
        let first = Secrets::load_or_create(&folder).unwrap();
        let second = Secrets::load_or_create(&folder).unwrap();
        assert_eq!(first.ring().key_id(), second.ring().key_id());
        assert_eq!(first.file_token_key, second.file_token_key);
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(
                entry.metadata().unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn key_ids(secrets: &Secrets, now: DateTime<Utc>) -> Vec<String> {
        let jwks = secrets.jwks(now);
        let keys = jwks["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn rotation_is_noticed_by_all_and_keeps_the_old_key_for_a_while() {
        let temp = tempfile::tempdir().unwrap();
        let one = Secrets::load_or_create(temp.path()).unwrap();
        let other = Secrets::load_or_create(temp.path()).unwrap();
        let old = key_ids(&one, now());
        let new = Secrets::load(temp.path())
            .unwrap()
            .rotate(now(), false)
            .unwrap();
        for server in [&one, &other] {
            assert_eq!(key_ids(server, now()), [new.clone(), old[0].clone()]);
            assert_eq!(server.ring().key_id(), new);
        }
        // A second rotation keeps both, each for its own time.
        let later = now() + chrono::TimeDelta::minutes(10);
        let newest = other.rotate(later, false).unwrap();
        let ids = key_ids(&one, later);
        assert_eq!(ids, [newest.clone(), new.clone(), old[0].clone()]);
        let over = now() + chrono::TimeDelta::seconds(16 * 60);
        assert_eq!(key_ids(&one, over), [newest.clone(), new]);
        let mut modes = fs::read_dir(temp.path()).unwrap().map(|entry| {
            let metadata = entry.unwrap().metadata().unwrap();
            metadata.permissions().mode() & 0o777
        });
        assert!(modes.all(|mode| mode == 0o600));
        let only = one.rotate(later, true).unwrap();
        assert_eq!(key_ids(&other, later), [only]);
    }

    #[test]
    fn key_that_cannot_be_read_again_leaves_the_old_one_in_use() {
        let temp = tempfile::tempdir().unwrap();
        let secrets = Secrets::load_or_create(temp.path()).unwrap();
        let old = key_ids(&secrets, now());
        fs::write(temp.path().join(SIGNING_KEY), "broken!").unwrap();
        assert_eq!(key_ids(&secrets, now()), old);
        assert!(matches!(
            secrets.rotate(now(), false),
            Err(SecretsError::Damaged { .. })
        ));
        assert!(Secrets::load(&temp.path().join("none")).is_err());
    }

    #[test]
    fn damaged_key_is_reported_and_kept() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(SIGNING_KEY);
        fs::write(&path, "broken!").unwrap();
        let error = Secrets::load_or_create(temp.path()).unwrap_err();
        assert!(matches!(error, SecretsError::Damaged { .. }));
        assert_eq!(fs::read_to_string(&path).unwrap(), "broken!");
    }
}
