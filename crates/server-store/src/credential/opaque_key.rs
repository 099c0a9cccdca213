//! Licence keys and refresh tokens: an opaque text that carries the tenant and a secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{SecretError, random_bytes, random_uuid};

const SECRET_BYTES: usize = 32;
const KEY_BYTES: usize = 16 + 16 + SECRET_BYTES;

/// Which kind of key a text is; each has a prefix, so that leaked ones can be recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    License,
    Refresh,
    Invitation,
}

impl KeyKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::License => "cdl_",
            Self::Refresh => "cdr_",
            Self::Invitation => "cdi_",
        }
    }
}

/// A key's parts. The tenant in it lets the database look in one tenant only.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct OpaqueKey {
    pub(crate) tenant: Uuid,
    pub(crate) id: Uuid,
    secret: [u8; SECRET_BYTES],
}

impl OpaqueKey {
    /// Makes a key with a fresh id and secret.
    pub(crate) fn generate(tenant: Uuid) -> Result<Self, SecretError> {
        Ok(Self {
            tenant,
            id: random_uuid()?,
            secret: random_bytes()?,
        })
    }

    /// Reads a key; `None` when `text` is not one of this kind.
    pub(crate) fn parse(kind: KeyKind, text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim().strip_prefix(kind.prefix())?)
            .ok()?;
        let bytes: [u8; KEY_BYTES] = bytes.try_into().ok()?;
        Some(Self {
            tenant: Uuid::from_slice(&bytes[..16]).ok()?,
            id: Uuid::from_slice(&bytes[16..32]).ok()?,
            secret: bytes[32..].try_into().ok()?,
        })
    }

    /// Returns the text that the holder keeps.
    pub(crate) fn text(&self, kind: KeyKind) -> String {
        let bytes = [
            self.tenant.as_bytes().as_slice(),
            self.id.as_bytes(),
            &self.secret,
        ]
        .concat();
        format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Returns the SHA-256 of the secret, which is all that the database keeps.
    pub(crate) fn secret_hash(&self) -> Vec<u8> {
        Sha256::digest(self.secret).to_vec()
    }

    /// Returns whether `hash` belongs to the secret, in constant time.
    pub(crate) fn has_hash(&self, hash: &[u8]) -> bool {
        let own = self.secret_hash();
        let difference = own
            .iter()
            .zip(hash)
            .fold(0_u8, |sum, (left, right)| sum | (left ^ right));
        own.len() == hash.len() && difference == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_reads_back_and_knows_its_hash() {
        let key = OpaqueKey::generate(Uuid::from_u128(7)).unwrap();
        let text = key.text(KeyKind::License);
        let read = OpaqueKey::parse(KeyKind::License, &format!(" {text}\n")).unwrap();
        assert!(read == key && read.has_hash(&key.secret_hash()));
        assert!(!read.has_hash(&OpaqueKey::generate(key.tenant).unwrap().secret_hash()));
        assert!(!read.has_hash(&[]));
    }

    #[test]
    fn text_of_another_kind_or_length_is_no_key() {
        let key = OpaqueKey::generate(Uuid::from_u128(7)).unwrap();
        assert!(OpaqueKey::parse(KeyKind::Refresh, &key.text(KeyKind::License)).is_none());
        assert!(OpaqueKey::parse(KeyKind::License, "cdl_AAAA").is_none());
        assert!(OpaqueKey::parse(KeyKind::License, "").is_none());
    }
}
