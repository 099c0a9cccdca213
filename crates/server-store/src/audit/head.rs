//! The end of a trail's chain, signed, as it is kept outside the database.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use coditect_protocol::OrganizationId;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::credential::{SecretsError, make_missing, new_ed25519, prepare_folder, read_base64};

const KEY: &str = "audit-head.key";

/// The last block of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// Whose trail it is.
    pub tenant_id: OrganizationId,
    /// The block's number; blocks count from 1.
    pub block: i64,
    /// Entries of this block and all before it.
    pub entries: i64,
    /// When the block was closed.
    pub closed_at: DateTime<Utc>,
    /// Its hash, 64 hexadecimal digits.
    pub hash: String,
}

impl Tip {
    /// Returns the bytes that are signed.
    fn bytes(&self) -> Vec<u8> {
        let Self {
            tenant_id,
            block,
            entries,
            closed_at,
            hash,
        } = self;
        let at = closed_at.timestamp_micros();
        format!("coditect audit head 1\n{tenant_id}\n{block}\n{entries}\n{at}\n{hash}\n")
            .into_bytes()
    }
}

/// A tip with a signature, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// What is signed.
    #[serde(flatten)]
    pub tip: Tip,
    /// The public key (Ed25519), base64: for whoever checks it without this program.
    pub public_key: String,
    /// The signature, base64.
    pub signature: String,
}

/// What is kept outside is not what this installation has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the head is not signed with this installation's key")]
pub struct NotSigned;

/// The key that signs heads; all servers of an installation share its file.
#[derive(Debug)]
pub struct HeadKey(Ed25519KeyPair);

impl HeadKey {
    /// Loads the key from `folder`; makes it (mode 0600) when it is missing.
    ///
    /// # Errors
    ///
    /// [`SecretsError::Damaged`] for a file that holds no key: it is never replaced.
    pub fn load_or_create(folder: &Path) -> Result<Self, SecretsError> {
        prepare_folder(folder)?;
        make_missing(&folder.join(KEY), new_ed25519)?;
        Self::load(folder)
    }

    /// Loads the key from `folder`.
    ///
    /// # Errors
    ///
    /// [`SecretsError::Io`] when it is missing, [`SecretsError::Damaged`].
    pub fn load(folder: &Path) -> Result<Self, SecretsError> {
        let path = folder.join(KEY);
        let pair = Ed25519KeyPair::from_pkcs8(&read_base64(&path)?);
        pair.map(Self).map_err(|_| SecretsError::Damaged { path })
    }

    /// Returns the public key, base64.
    #[must_use]
    pub fn public_key(&self) -> String {
        STANDARD.encode(self.0.public_key())
    }

    /// Signs a text whose first line says what it is, so that it is taken for nothing else;
    /// returns the signature, base64.
    #[must_use]
    pub fn sign_text(&self, text: &str) -> String {
        STANDARD.encode(self.0.sign(text.as_bytes()))
    }

    /// Returns whether this key has signed the text.
    #[must_use]
    pub fn has_signed(&self, text: &str, signature: &str) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.0.public_key());
        let signature = STANDARD.decode(signature);
        signature.is_ok_and(|signature| key.verify(text.as_bytes(), &signature).is_ok())
    }

    /// Signs a tip.
    #[must_use]
    pub fn sign(&self, tip: Tip) -> Head {
        Head {
            signature: STANDARD.encode(self.0.sign(&tip.bytes())),
            public_key: self.public_key(),
            tip,
        }
    }

    /// Returns what a head says, if this key has signed it.
    ///
    /// # Errors
    ///
    /// [`NotSigned`].
    pub fn check(&self, head: Head) -> Result<Tip, NotSigned> {
        let signature = STANDARD.decode(&head.signature).map_err(|_| NotSigned)?;
        let key = UnparsedPublicKey::new(&ED25519, self.0.public_key());
        match key.verify(&head.tip.bytes(), &signature) {
            Ok(()) => Ok(head.tip),
            Err(_) => Err(NotSigned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_what_was_signed() {
        let folder = tempfile::tempdir().unwrap();
        let key = HeadKey::load_or_create(folder.path()).unwrap();
        let again = HeadKey::load_or_create(folder.path()).unwrap();
        let tip = Tip {
            tenant_id: "00000000-0000-4000-8000-000000000001".parse().unwrap(),
            block: 3,
            entries: 2_500,
            closed_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            hash: "5e".repeat(32),
        };
        let head = key.sign(tip.clone());
        let text = serde_json::to_string(&head).unwrap();
        let read: Head = serde_json::from_str(&text).unwrap();
        assert_eq!(again.check(read), Ok(tip));
        for change in [
            |head: &mut Head| head.tip.block -= 1,
            |head: &mut Head| head.tip.hash = "5f".repeat(32),
            |head: &mut Head| head.tip.entries = 1,
            |head: &mut Head| head.signature = "AAAA".to_owned(),
        ] {
            let mut forged = head.clone();
            change(&mut forged);
            assert_eq!(key.check(forged), Err(NotSigned));
        }
        let other = tempfile::tempdir().unwrap();
        let other = HeadKey::load_or_create(other.path()).unwrap();
        assert_eq!(other.check(head), Err(NotSigned));
    }
}
