//! The signing key of this moment and the public keys of its predecessors, as they lie in the
//! secrets folder; and how one follows the other.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{DecodingKey, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::keys::{SecretsError, io_error, read_base64, write_scratch};
use super::{ACCESS_TOKEN_SECONDS, SecretError};

const RETIRED: &str = "access-token.retired.json";
/// Clocks of servers that share the folder may differ by this much.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::seconds(60);

/// The keys of one moment.
pub(super) struct KeyRing {
    signing: EncodingKey,
    current: PublicKey,
    retired: Vec<PublicKey>,
    stamp: Stamp,
}

/// A public key that tokens are verified with.
pub(super) struct PublicKey {
    key_id: String,
    bytes: Vec<u8>,
    decoding: DecodingKey,
    /// Until when; none for the current key.
    until: Option<DateTime<Utc>>,
}

/// Which file it was: another one after each replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    bytes: u64,
}

/// A replaced key in its file.
#[derive(Debug, Serialize, Deserialize)]
struct Retired {
    public_key: String,
    verify_until: DateTime<Utc>,
}

impl Stamp {
    pub(super) fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            bytes: metadata.len(),
        })
    }
}

impl PublicKey {
    fn new(bytes: Vec<u8>, until: Option<DateTime<Utc>>) -> Self {
        Self {
            key_id: URL_SAFE_NO_PAD.encode(&Sha256::digest(&bytes)[..12]),
            decoding: DecodingKey::from_ed_der(&bytes),
            bytes,
            until,
        }
    }

    fn is_valid(&self, now: DateTime<Utc>) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Returns the key as a member of a JSON web key set.
    pub(super) fn jwk(&self) -> serde_json::Value {
        serde_json::json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
            "kid": self.key_id, "x": URL_SAFE_NO_PAD.encode(&self.bytes),
        })
    }
}

impl KeyRing {
    /// Reads the keys. The signing key comes first: a rotation writes it last, so that its
    /// predecessor is on the list already.
    pub(super) fn load(folder: &Path, path: &Path) -> Result<Self, SecretsError> {
        let stamp = Stamp::of(path).map_err(io_error(path))?;
        let damaged = |path: &Path| SecretsError::Damaged {
            path: path.to_owned(),
        };
        let pkcs8 = read_base64(path)?;
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| damaged(path))?;
        let current = PublicKey::new(pair.public_key().as_ref().to_vec(), None);
        let list = folder.join(RETIRED);
        let mut retired = Vec::new();
        if list.exists() {
            let text = fs::read(&list).map_err(io_error(&list))?;
            let entries: Vec<Retired> =
                serde_json::from_slice(&text).map_err(|_| damaged(&list))?;
            for entry in entries {
                let bytes = STANDARD.decode(&entry.public_key);
                let bytes = bytes.map_err(|_| damaged(&list))?;
                retired.push(PublicKey::new(bytes, Some(entry.verify_until)));
            }
        }
        // In the middle of a rotation the key is in both places.
        retired.retain(|key| key.key_id != current.key_id);
        Ok(Self {
            signing: EncodingKey::from_ed_der(&pkcs8),
            current,
            retired,
            stamp,
        })
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Returns the id of the signing key.
    pub(super) fn key_id(&self) -> &str {
        &self.current.key_id
    }

    pub(super) fn signing(&self) -> &EncodingKey {
        &self.signing
    }

    /// Returns the keys that tokens may be signed with at `now`, the current one first.
    pub(super) fn public_at(&self, now: DateTime<Utc>) -> impl Iterator<Item = &PublicKey> {
        let retired = self.retired.iter().filter(move |key| key.is_valid(now));
        std::iter::once(&self.current).chain(retired)
    }

    /// Returns the key of this id, if it is good at `now`.
    pub(super) fn verifying(&self, key_id: &str, now: DateTime<Utc>) -> Option<&DecodingKey> {
        let mut keys = self.public_at(now);
        keys.find(|key| key.key_id == key_id)
            .map(|key| &key.decoding)
    }
}

/// Makes a signing key (PKCS #8).
pub(crate) fn generate() -> Result<Vec<u8>, SecretError> {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
    Ok(document.map_err(|_| SecretError::Random)?.as_ref().to_vec())
}

/// Replaces the signing key in `path`. The old one verifies until the tokens that it signed have
/// expired, or is forgotten at once.
pub(super) fn rotate(
    folder: &Path,
    path: &Path,
    now: DateTime<Utc>,
    at_once: bool,
) -> Result<(), SecretsError> {
    // One at a time; the lock goes with the file, also when the process dies.
    let lock = File::open(folder).map_err(io_error(folder))?;
    lock.lock().map_err(io_error(folder))?;
    let old = KeyRing::load(folder, path)?;
    let lifetime = TimeDelta::seconds(ACCESS_TOKEN_SECONDS.cast_signed());
    let until = now + lifetime + CLOCK_TOLERANCE;
    let kept: Vec<Retired> = old
        .public_at(now)
        .filter(|_| !at_once)
        .map(|key| Retired {
            public_key: STANDARD.encode(&key.bytes),
            verify_until: key.until.unwrap_or(until),
        })
        .collect();
    let list = folder.join(RETIRED);
    let text = serde_json::to_string(&kept).map_err(|source| SecretsError::Io {
        path: list.clone(),
        source: source.into(),
    })?;
    replace(&list, &text, path)?;
    replace(path, &STANDARD.encode(generate()?), path)?;
    lock.sync_all().map_err(io_error(folder))
}

/// Puts a new file in the place of `path`, owned by whoever owns `like`: the operator may be
/// another user than the server.
fn replace(path: &Path, line: &str, like: &Path) -> Result<(), SecretsError> {
    let scratch = write_scratch(path, line)?;
    let placed = own_like(&scratch, like).and_then(|()| fs::rename(&scratch, path));
    placed.map_err(|source| {
        // It may hold a key that nobody will use.
        let _ = fs::remove_file(&scratch);
        io_error(path)(source)
    })
}

fn own_like(path: &Path, like: &Path) -> std::io::Result<()> {
    let (own, wanted) = (fs::metadata(path)?, fs::metadata(like)?);
    if (own.uid(), own.gid()) == (wanted.uid(), wanted.gid()) {
        return Ok(());
    }
    std::os::unix::fs::chown(path, Some(wanted.uid()), Some(wanted.gid()))
}
