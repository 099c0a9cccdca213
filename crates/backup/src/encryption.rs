//! Encryption of archives at rest.
//!
//! An encrypted archive is a head (16 bytes that name the format, 8 that name the key, 32 of
//! salt) and segments of 64 KiB, each sealed by ChaCha20-Poly1305 (RFC 8439). Every archive has a
//! key of its own, made from the named one and the salt by HKDF-SHA256 (RFC 5869), so that
//! counting nonces never meet. The last segment's nonce says that it is the last (the STREAM
//! construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015): segments that are altered, moved
//! or missing at the end are found.

use std::fmt;
use std::sync::Arc;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

/// First bytes of every encrypted archive; none of gzip's.
const MAGIC: &[u8; 16] = b"coditect-sealed1";
const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 8;
const SALT_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC.len() + KEY_ID_BYTES + SALT_BYTES;
/// Bytes of a segment before it is sealed.
const SEGMENT_BYTES: usize = 64 * 1024;
const SEALED_BYTES: usize = SEGMENT_BYTES + MAX_TAG_LEN;

/// Returns whether what begins so is an encrypted archive.
#[must_use]
pub fn is_encrypted(beginning: &[u8]) -> bool {
    beginning.starts_with(MAGIC)
}

/// Why archives cannot be encrypted or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncryptionError {
    /// A line of the key file is no key.
    #[error("line {line} of the key file is no key\nhint: a key is 64 hexadecimal digits")]
    Key {
        /// Its number, from 1.
        line: usize,
    },
    /// The key file holds no key.
    #[error("the key file holds no key\nhint: coditect-server admin backup-key FILE makes one")]
    NoKey,
    /// The archive was encrypted with a key that is not among ours.
    #[error(
        "the archive was encrypted with the key {0}, which is not in the key file\n\
         hint: keep former keys in the file, below the one that is in use"
    )]
    KeyMissing(String),
    /// Bytes were altered, moved or cut off.
    #[error("the encrypted archive was altered, or is not complete")]
    Damaged,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// The keys of a key file: the first encrypts, all decrypt. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<Vec<Key>>);

struct Key {
    id: [u8; KEY_ID_BYTES],
    secret: [u8; KEY_BYTES],
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.0.iter().map(|key| hex(&key.id));
        f.debug_list().entries(ids).finish()
    }
}

impl Keys {
    /// Reads the text of a key file: a key of 64 hexadecimal digits on each line, the one in use
    /// first; empty lines and those that begin with `#` do not count.
    ///
    /// # Errors
    /// [`EncryptionError::Key`], [`EncryptionError::NoKey`].
    pub fn parse(text: &str) -> Result<Self, EncryptionError> {
        let lines = text.lines().enumerate();
        let lines = lines.map(|(number, line)| (number + 1, line.trim()));
        let keys = lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(line, text)| {
                let secret = from_hex(text).ok_or(EncryptionError::Key { line })?;
                let id = Sha256::new().chain_update(b"coditect backup key id");
                let id = id.chain_update(secret).finalize();
                let mut short = [0; KEY_ID_BYTES];
                short.copy_from_slice(&id[..KEY_ID_BYTES]);
                Ok(Key { id: short, secret })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(EncryptionError::NoKey);
        }
        Ok(Self(Arc::new(keys)))
    }

    /// Returns a fresh key as a line of a key file.
    ///
    /// # Errors
    /// [`EncryptionError::Random`].
    pub fn fresh() -> Result<String, EncryptionError> {
        Ok(hex(&random::<KEY_BYTES>()?))
    }

    /// Returns the name of the key in use, 16 hexadecimal digits; it tells nothing of the key.
    #[must_use]
    pub fn current_id(&self) -> String {
        hex(&self.0[0].id)
    }

    /// Begins to encrypt an archive with the key in use.
    ///
    /// # Errors
    /// [`EncryptionError::Random`].
    pub(crate) fn encryptor(&self) -> Result<Encryptor, EncryptionError> {
        let (key, salt) = (&self.0[0], random::<SALT_BYTES>()?);
        let mut out = Vec::with_capacity(SEALED_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&key.id);
        out.extend_from_slice(&salt);
        Ok(Encryptor {
            segments: Segments::new(key, &salt),
            plain: Vec::with_capacity(SEGMENT_BYTES),
            out,
        })
    }

    fn find(&self, id: &[u8]) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }
}

/// Nonces that count, under a key that one archive has for itself.
struct Segments {
    key: LessSafeKey,
    count: u64,
}

impl Segments {
    fn new(key: &Key, salt: &[u8]) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, salt);
        let secret = salt.extract(&key.secret);
        let unbound = secret
            .expand(&[b"coditect archive"], &CHACHA20_POLY1305)
            .map(UnboundKey::from);
        Self {
            key: LessSafeKey::new(unbound.expect("one key is no longer than HKDF gives")),
            count: 0,
        }
    }

    fn nonce(&mut self, is_last: bool) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[3..11].copy_from_slice(&self.count.to_be_bytes());
        nonce[11] = u8::from(is_last);
        self.count += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&mut self, mut plain: Vec<u8>, is_last: bool) -> Vec<u8> {
        let nonce = self.nonce(is_last);
        let sealed = self
            .key
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut plain);
        sealed.expect("a segment is far below the longest that can be sealed");
        plain
    }

    fn open(&mut self, mut sealed: Vec<u8>, is_last: bool) -> Result<Vec<u8>, EncryptionError> {
        let nonce = self.nonce(is_last);
        let opened = self.key.open_in_place(nonce, Aad::empty(), &mut sealed);
        let length = opened.map_err(|_| EncryptionError::Damaged)?.len();
        sealed.truncate(length);
        Ok(sealed)
    }
}

/// Encrypts an archive piece by piece.
pub(crate) struct Encryptor {
    segments: Segments,
    plain: Vec<u8>,
    out: Vec<u8>,
}

impl Encryptor {
    /// Takes bytes and returns what is encrypted by now; may be empty.
    pub(crate) fn feed(&mut self, mut piece: &[u8]) -> Vec<u8> {
        while !piece.is_empty() {
            // A full segment waits until it is known not to be the last.
            if self.plain.len() == SEGMENT_BYTES {
                let full = std::mem::replace(&mut self.plain, Vec::with_capacity(SEALED_BYTES));
                self.out.extend(self.segments.seal(full, false));
            }
            let room = (SEGMENT_BYTES - self.plain.len()).min(piece.len());
            self.plain.extend_from_slice(&piece[..room]);
            piece = &piece[room..];
        }
        std::mem::take(&mut self.out)
    }

    /// Returns the last bytes.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let last = std::mem::take(&mut self.plain);
        self.out.extend(self.segments.seal(last, true));
        self.out
    }
}

/// Reads an archive, encrypted or not, piece by piece.
pub(crate) struct Decryptor {
    keys: Option<Keys>,
    state: State,
}

enum State {
    Head(Vec<u8>),
    Plain,
    Sealed {
        segments: Box<Segments>,
        held: Vec<u8>,
    },
}

impl Decryptor {
    pub(crate) fn new(keys: Option<Keys>) -> Self {
        Self {
            keys,
            state: State::Head(Vec::new()),
        }
    }

    /// Takes stored bytes and returns the archive's; may be empty.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Result<Vec<u8>, EncryptionError> {
        match &mut self.state {
            State::Plain => Ok(piece.to_vec()),
            State::Sealed { segments, held } => {
                held.extend_from_slice(piece);
                let mut out = Vec::new();
                // What may be the last segment waits for the end.
                while held.len() > SEALED_BYTES {
                    let rest = held.split_off(SEALED_BYTES);
                    let full = std::mem::replace(held, rest);
                    out.extend(segments.open(full, false)?);
                }
                Ok(out)
            }
            State::Head(head) => {
                head.extend_from_slice(piece);
                let known = head.len().min(MAGIC.len());
                if head[..known] != MAGIC[..known] {
                    let plain = std::mem::take(head);
                    self.state = State::Plain;
                    return Ok(plain);
                }
                if head.len() < HEAD_BYTES {
                    return Ok(Vec::new());
                }
                let rest = head.split_off(HEAD_BYTES);
                let (id, salt) = head[MAGIC.len()..].split_at(KEY_ID_BYTES);
                let key = self.keys.as_ref().and_then(|keys| keys.find(id));
                let key = key.ok_or_else(|| EncryptionError::KeyMissing(hex(id)))?;
                self.state = State::Sealed {
                    segments: Box::new(Segments::new(key, salt)),
                    held: Vec::new(),
                };
                self.feed(&rest)
            }
        }
    }

    /// Ends the archive; returns its last bytes.
    pub(crate) fn finish(self) -> Result<Vec<u8>, EncryptionError> {
        match self.state {
            State::Plain => Ok(Vec::new()),
            State::Head(head) if head.starts_with(MAGIC) => Err(EncryptionError::Damaged),
            State::Head(head) => Ok(head),
            State::Sealed { mut segments, held } => segments.open(held, true),
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], EncryptionError> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| EncryptionError::Random)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; KEY_BYTES]> {
    if text.len() != 2 * KEY_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; KEY_BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encrypt(keys: &Keys, plain: &[u8], piece: usize) -> Vec<u8> {
        let mut encryptor = keys.encryptor().unwrap();
        let mut out: Vec<u8> = plain
            .chunks(piece)
            .flat_map(|piece| encryptor.feed(piece))
            .collect();
        out.extend(encryptor.finish());
        out
    }

    fn decrypt(
        keys: Option<&Keys>,
        stored: &[u8],
        piece: usize,
    ) -> Result<Vec<u8>, EncryptionError> {
        let mut decryptor = Decryptor::new(keys.cloned());
        let mut out = Vec::new();
        for piece in stored.chunks(piece) {
            out.extend(decryptor.feed(piece)?);
        }
        out.extend(decryptor.finish()?);
        Ok(out)
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|n| (n * 31 % 251) as u8).collect()
    }

    #[test]
    fn every_length_comes_back_in_pieces_of_any_size() {
        let keys = Keys::parse(&Keys::fresh().unwrap()).unwrap();
        for length in [
            0,
            1,
            15,
            SEGMENT_BYTES - 1,
            SEGMENT_BYTES,
            SEGMENT_BYTES + 1,
            200_000,
        ] {
            for piece in [7, SEGMENT_BYTES, 150_000] {
                let stored = encrypt(&keys, &bytes(length), piece);
                assert!(decrypt(Some(&keys), &stored, piece).unwrap() == bytes(length));
            }
        }
    }

    #[test]
    fn what_was_never_encrypted_is_read_as_it_is() {
        for plain in [
            &b""[..],
            b"c",
            b"coditect",
            b"\x1f\x8bgzip and more of it than a head has",
        ] {
            for keys in [None, Some(&Keys::parse(&"ab".repeat(32)).unwrap())] {
                assert_eq!(decrypt(keys, plain, 3).unwrap(), plain);
            }
        }
    }

    #[test]
    fn altered_moved_and_missing_bytes_are_found() {
        let keys = Keys::parse(&Keys::fresh().unwrap()).unwrap();
        let stored = encrypt(&keys, &bytes(3 * SEGMENT_BYTES), 100_000);
        // A flipped bit in each part, but for the key's name and the format's, which have their
        // own errors.
        for at in [
            30,
            HEAD_BYTES,
            HEAD_BYTES + SEALED_BYTES + 5,
            stored.len() - 1,
        ] {
            let mut bad = stored.clone();
            bad[at] ^= 4;
            assert_eq!(
                decrypt(Some(&keys), &bad, 50_000),
                Err(EncryptionError::Damaged)
            );
        }
        for length in [
            HEAD_BYTES - 1,
            HEAD_BYTES,
            HEAD_BYTES + SEALED_BYTES,
            stored.len() - 1,
        ] {
            let cut = decrypt(Some(&keys), &stored[..length], 50_000);
            assert_eq!(cut, Err(EncryptionError::Damaged), "{length}");
        }
        let mut moved = stored[..HEAD_BYTES].to_vec();
        moved.extend_from_slice(&stored[HEAD_BYTES + SEALED_BYTES..]);
        assert_eq!(
            decrypt(Some(&keys), &moved, 50_000),
            Err(EncryptionError::Damaged)
        );
    }

    #[test]
    fn former_keys_still_read_and_a_missing_one_is_named() {
        let (old, new) = ("11".repeat(32), "22".repeat(32));
        let before = Keys::parse(&old).unwrap();
        let stored = encrypt(&before, b"secret", 10);
        let rotated = Keys::parse(&format!("# since May\n{new}\n\n{old}\n")).unwrap();
        assert_ne!(rotated.current_id(), before.current_id());
        assert_eq!(decrypt(Some(&rotated), &stored, 10).unwrap(), b"secret");
        let missing = EncryptionError::KeyMissing(before.current_id());
        for keys in [None, Some(&Keys::parse(&new).unwrap())] {
            assert_eq!(decrypt(keys, &stored, 10), Err(missing.clone()));
        }
        assert!(!format!("{rotated:?}").contains("1111"));
    }

    #[test]
    fn a_key_file_is_read_strictly() {
        assert_eq!(
            Keys::parse("# nothing\n").unwrap_err(),
            EncryptionError::NoKey
        );
        for line in ["11", &"1".repeat(65), &"zz".repeat(32), &"é".repeat(32)] {
            let read = Keys::parse(&format!("\n{line}"));
            assert_eq!(read.unwrap_err(), EncryptionError::Key { line: 2 });
        }
    }
}
