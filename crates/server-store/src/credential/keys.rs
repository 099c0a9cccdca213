//! The keys in the secrets folder: made when missing, readable by the server's user only.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sha2::{Digest as _, Sha256};

use super::{SecretError, random_bytes, random_uuid};

const SIGNING_KEY: &str = "access-token.key";
const FILE_TOKEN_KEY: &str = "file-token.key";

/// The server's keys, loaded.
#[derive(Clone)]
pub struct Secrets {
    pub(super) signing: EncodingKey,
    pub(super) verifying: DecodingKey,
    /// Names the signing key in tokens.
    pub(super) key_id: String,
    public_key: Vec<u8>,
    file_token_key: [u8; 32],
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Secrets")
            .field("key_id", &self.key_id)
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
        fs::create_dir_all(folder).map_err(io_error(folder))?;
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(io_error(folder))?;
        let signing_path = folder.join(SIGNING_KEY);
        let pkcs8 = load_or_make(&signing_path, || {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
            Ok(document.map_err(|_| SecretError::Random)?.as_ref().to_vec())
        })?;
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8)
            .map_err(|_| SecretsError::Damaged { path: signing_path })?;
        let public_key = pair.public_key().as_ref().to_vec();
        let token_path = folder.join(FILE_TOKEN_KEY);
        let file_token_key = load_or_make(&token_path, || Ok(random_bytes::<32>()?.to_vec()))?
            .try_into()
            .map_err(|_| SecretsError::Damaged { path: token_path })?;
        Ok(Self {
            signing: EncodingKey::from_ed_der(&pkcs8),
            verifying: DecodingKey::from_ed_der(&public_key),
            key_id: URL_SAFE_NO_PAD.encode(&Sha256::digest(&public_key)[..12]),
            public_key,
            file_token_key,
        })
    }

    /// Returns the public keys as a JSON web key set, for publication.
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        serde_json::json!({ "keys": [{
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
            "kid": self.key_id, "x": URL_SAFE_NO_PAD.encode(&self.public_key),
        }] })
    }

    /// Returns the key that signs the tokens of device files (HMAC-SHA-256).
    #[must_use]
    pub fn file_token_key(&self) -> &[u8; 32] {
        &self.file_token_key
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> SecretsError {
    let path = path.to_owned();
    move |source| SecretsError::Io { path, source }
}

/// Returns the content of `path`; makes it first, whole or not at all, when it is missing.
fn load_or_make(
    path: &Path,
    make: impl FnOnce() -> Result<Vec<u8>, SecretError>,
) -> Result<Vec<u8>, SecretsError> {
    if !path.exists() {
        let scratch = path.with_extension(random_uuid()?.simple().to_string());
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&scratch)
            .map_err(io_error(&scratch))?;
        let text = format!("{}\n", STANDARD.encode(make()?));
        file.write_all(text.as_bytes())
            .map_err(io_error(&scratch))?;
        file.sync_all().map_err(io_error(&scratch))?;
        // Another process may have been faster: then its key is the one.
        let linked = fs::hard_link(&scratch, path);
        fs::remove_file(&scratch).map_err(io_error(&scratch))?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error(path)(error));
            }
            _ => {}
        }
    }
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
        assert_eq!(first.key_id, second.key_id);
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
