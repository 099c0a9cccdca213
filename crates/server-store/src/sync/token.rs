//! File tokens: proof that a push continues where the file's last acknowledgement ended.
//!
//! A token is signed with a key outside the database, so that one which is ahead of the database
//! shows that the database was set back, and one which is behind shows a copied or restored file
//! (PROTOCOL 25). Pure: the row that it is held against comes from the caller.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coditect_protocol::catalogue::File;
use coditect_protocol::{BatchId, DeviceId, Epoch};
use ring::hmac;
use uuid::Uuid;

const NONCE_BYTES: usize = 16;
const PAYLOAD_BYTES: usize = 8 + 8 + 8 + NONCE_BYTES;
const SIGNATURE_BYTES: usize = 32;
const CONTEXT: &[u8] = b"coditect file token 1";

/// Signs and verifies file tokens with HMAC-SHA-256.
#[derive(Debug)]
pub struct TokenKey(hmac::Key);

impl TokenKey {
    /// Makes the key from its secret bytes.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Returns the tag of a text that begins with a context of its own.
    pub(super) fn tag(&self, text: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut tag = [0; SIGNATURE_BYTES];
        tag.copy_from_slice(hmac::sign(&self.0, text).as_ref());
        tag
    }
}

/// Whose token it is. Part of the signature, not of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) tenant: Uuid,
    pub(super) device: DeviceId,
    pub(super) file: File,
}

/// One life of the database and when it began, which orders lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) epoch: Epoch,
    pub(super) since_us: i64,
}

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) life: Life,
    pub(super) counter: i64,
    pub(super) nonce: [u8; NONCE_BYTES],
}

/// What the database has about the tokens of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Epoch in which the current one was given out.
    pub(super) epoch: Epoch,
    pub(super) counter: i64,
    pub(super) nonce: Vec<u8>,
    /// The one before it, none when the current one is the first of its epoch.
    pub(super) previous: Option<(i64, Vec<u8>)>,
    /// Batch that the current one acknowledged.
    pub(super) batch: Option<BatchId>,
}

/// What a push's token means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// The push continues where the file stopped.
    Current,
    /// The reply to this batch was lost; it is answered again.
    Repeated,
    /// The token is of another life of the database.
    OtherEpoch,
    /// The database was set back.
    DatabaseBehind,
    /// The file is a copy or was restored.
    Fenced,
}

impl Token {
    /// Returns the signed text.
    pub(super) fn sign(&self, key: &TokenKey, holder: Holder) -> String {
        let payload = self.payload();
        let mut bytes = payload.to_vec();
        bytes.extend_from_slice(hmac::sign(&key.0, &signed(holder, &payload)).as_ref());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token; `None` when we did not sign it for this holder.
    pub(super) fn verify(text: &str, key: &TokenKey, holder: Holder) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        if bytes.len() != PAYLOAD_BYTES + SIGNATURE_BYTES {
            return None;
        }
        let (payload, signature) = bytes.split_at(PAYLOAD_BYTES);
        hmac::verify(&key.0, &signed(holder, payload), signature).ok()?;
        let number = |from: usize| {
            Some(u64::from_be_bytes(
                payload.get(from..from + 8)?.try_into().ok()?,
            ))
        };
        let life = Life {
            epoch: Epoch(number(0)?),
            since_us: number(8)?.cast_signed(),
        };
        let nonce = payload[24..].try_into().ok()?;
        Some(Self {
            life,
            counter: number(16)?.cast_signed(),
            nonce,
        })
    }

    fn payload(&self) -> [u8; PAYLOAD_BYTES] {
        let mut payload = [0; PAYLOAD_BYTES];
        payload[..8].copy_from_slice(&self.life.epoch.0.to_be_bytes());
        payload[8..16].copy_from_slice(&self.life.since_us.to_be_bytes());
        payload[16..24].copy_from_slice(&self.counter.to_be_bytes());
        payload[24..].copy_from_slice(&self.nonce);
        payload
    }
}

/// Returns what the signature covers; every part but the last has a fixed length or a known end.
fn signed(holder: Holder, payload: &[u8]) -> Vec<u8> {
    let mut bytes = CONTEXT.to_vec();
    bytes.extend_from_slice(holder.tenant.as_bytes());
    bytes.extend_from_slice(holder.device.get().as_bytes());
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(holder.file.as_str().as_bytes());
    bytes
}

/// As [`check`], for a push that may name the epoch that its file follows. In its own epoch a
/// token of an earlier one counts as none. A push of another epoch is not carried out, and its
/// file is no copy for it; only a token that is ahead says that this database is the older one.
pub(super) fn check_push(
    named: Option<Epoch>,
    sent: Option<&Token>,
    batch: BatchId,
    known: Option<&Known>,
    life: Life,
) -> Check {
    match named {
        None => check(sent, batch, known, life),
        Some(named) if named == life.epoch => {
            let sent = sent.filter(|sent| sent.life.epoch == named);
            check(sent, batch, known, life)
        }
        Some(_) => match sent.map(|sent| check(Some(sent), batch, known, life)) {
            Some(Check::DatabaseBehind) => Check::DatabaseBehind,
            _ => Check::OtherEpoch,
        },
    }
}

/// Holds a push's token, `None` when it sent none, against what the database knows.
pub(super) fn check(
    sent: Option<&Token>,
    batch: BatchId,
    known: Option<&Known>,
    life: Life,
) -> Check {
    // What was known in an earlier epoch proves nothing in this one.
    let known = known.filter(|known| known.epoch == life.epoch);
    let Some(sent) = sent else {
        return match known {
            None => Check::Current,
            Some(known) if known.previous.is_none() && known.batch == Some(batch) => {
                Check::Repeated
            }
            Some(_) => Check::Fenced,
        };
    };
    if sent.life.epoch != life.epoch {
        let later = sent.life.since_us > life.since_us;
        return if later {
            Check::DatabaseBehind
        } else {
            Check::OtherEpoch
        };
    }
    let Some(known) = known else {
        return Check::DatabaseBehind;
    };
    if sent.counter > known.counter {
        return Check::DatabaseBehind;
    }
    if sent.counter == known.counter && sent.nonce == *known.nonce {
        return Check::Current;
    }
    let is_previous = known
        .previous
        .as_ref()
        .is_some_and(|(counter, nonce)| sent.counter == *counter && sent.nonce == **nonce);
    if is_previous && known.batch == Some(batch) {
        Check::Repeated
    } else {
        Check::Fenced
    }
}

/// Holds a pull's token against what the database knows. A pull names no batch: the token before
/// the current one may be that of a lost reply as well as that of a copy, and the file's next
/// push shows which.
pub(super) fn check_reader(sent: &Token, known: Option<&Known>, life: Life) -> Check {
    let batch = known.and_then(|known| known.batch);
    check(
        Some(sent),
        batch.unwrap_or(BatchId::new(Uuid::nil())),
        known,
        life,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Life = Life {
        epoch: Epoch(7),
        since_us: 1_000,
    };
    const BATCH: BatchId = BatchId::new(Uuid::from_u128(5));
    const OTHER_BATCH: BatchId = BatchId::new(Uuid::from_u128(6));

    fn token(counter: i64) -> Token {
        Token {
            life: LIFE,
            counter,
            nonce: [counter as u8; 16],
        }
    }

    fn known(counter: i64) -> Known {
        let previous = (counter > 1).then(|| (counter - 1, vec![(counter - 1) as u8; 16]));
        let nonce = vec![counter as u8; 16];
        Known {
            epoch: LIFE.epoch,
            counter,
            nonce,
            previous,
            batch: Some(BATCH),
        }
    }

    fn holder(device: u128, file: File) -> Holder {
        Holder {
            tenant: Uuid::from_u128(1),
            device: DeviceId::new(Uuid::from_u128(device)),
            file,
        }
    }

    #[test]
    fn a_token_is_read_by_its_holder_only() {
        let key = TokenKey::new(&[3; 32]);
        let text = token(9).sign(&key, holder(2, File::Org));
        assert_eq!(
            Token::verify(&text, &key, holder(2, File::Org)),
            Some(token(9))
        );
        assert_eq!(Token::verify(&text, &key, holder(3, File::Org)), None);
        assert_eq!(Token::verify(&text, &key, holder(2, File::Sessions)), None);
        assert_eq!(
            Token::verify(&text, &TokenKey::new(&[4; 32]), holder(2, File::Org)),
            None
        );
        assert_eq!(Token::verify("", &key, holder(2, File::Org)), None);
    }

    #[test]
    fn the_current_token_and_a_resent_batch_pass() {
        assert_eq!(check(None, BATCH, None, LIFE), Check::Current);
        assert_eq!(
            check(Some(&token(4)), OTHER_BATCH, Some(&known(4)), LIFE),
            Check::Current
        );
        assert_eq!(
            check(Some(&token(3)), BATCH, Some(&known(4)), LIFE),
            Check::Repeated
        );
        assert_eq!(check(None, BATCH, Some(&known(1)), LIFE), Check::Repeated);
    }

    #[test]
    fn a_copy_is_fenced() {
        let mut forked = token(4);
        forked.nonce = [99; 16];
        for sent in [Some(&token(3)), Some(&token(1)), Some(&forked), None] {
            assert_eq!(
                check(sent, OTHER_BATCH, Some(&known(4)), LIFE),
                Check::Fenced
            );
        }
        assert_eq!(
            check(Some(&token(2)), BATCH, Some(&known(4)), LIFE),
            Check::Fenced
        );
    }

    #[test]
    fn a_push_that_follows_another_life_is_told_so_and_no_copy() {
        let told = |named, sent: Option<&Token>| {
            check_push(Some(Epoch(named)), sent, OTHER_BATCH, Some(&known(4)), LIFE)
        };
        let mut earlier = token(9);
        earlier.life = Life {
            epoch: Epoch(6),
            since_us: 500,
        };
        for sent in [None, Some(&token(4)), Some(&token(1)), Some(&earlier)] {
            assert_eq!(told(8, sent), Check::OtherEpoch);
        }
        assert_eq!(told(8, Some(&token(5))), Check::DatabaseBehind);
        assert_eq!(told(7, Some(&token(4))), Check::Current);
        assert_eq!(told(7, Some(&earlier)), Check::Fenced);
        let fresh = check_push(Some(Epoch(7)), Some(&earlier), BATCH, None, LIFE);
        assert_eq!(fresh, Check::Current);
        let silent = check_push(None, Some(&token(4)), OTHER_BATCH, Some(&known(4)), LIFE);
        assert_eq!(silent, Check::Current);
    }

    #[test]
    fn a_token_ahead_shows_that_the_database_was_set_back() {
        assert_eq!(
            check(Some(&token(5)), BATCH, Some(&known(4)), LIFE),
            Check::DatabaseBehind
        );
        assert_eq!(
            check(Some(&token(5)), BATCH, None, LIFE),
            Check::DatabaseBehind
        );
        let mut later = token(1);
        later.life = Life {
            epoch: Epoch(8),
            since_us: 2_000,
        };
        assert_eq!(
            check(Some(&later), BATCH, Some(&known(4)), LIFE),
            Check::DatabaseBehind
        );
    }

    #[test]
    fn a_reader_is_a_copy_from_the_second_token_behind_on() {
        let told = |counter| check_reader(&token(counter), Some(&known(4)), LIFE);
        assert_eq!(told(4), Check::Current);
        assert_eq!(told(3), Check::Repeated);
        assert_eq!(told(2), Check::Fenced);
        assert_eq!(told(5), Check::DatabaseBehind);
        let mut forked = token(4);
        forked.nonce = [99; 16];
        assert_eq!(check_reader(&forked, Some(&known(4)), LIFE), Check::Fenced);
        assert_eq!(check_reader(&forked, None, LIFE), Check::DatabaseBehind);
    }

    #[test]
    fn tokens_of_an_earlier_epoch_are_told_so_and_start_again() {
        let mut earlier = token(9);
        earlier.life = Life {
            epoch: Epoch(6),
            since_us: 500,
        };
        assert_eq!(
            check(Some(&earlier), BATCH, Some(&known(4)), LIFE),
            Check::OtherEpoch
        );
        let mut of_before = known(4);
        of_before.epoch = Epoch(6);
        assert_eq!(check(None, BATCH, Some(&of_before), LIFE), Check::Current);
    }
}
