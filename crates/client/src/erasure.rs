//! What a device does when the account of its folder was erased: it checks who says so, then
//! removes its copies (ADR 0034).
//!
//! An answer alone erases nothing. It must be signed with the key that the server named when the
//! device logged in, and name the folder's own account: an address that was taken over, a proxy in
//! between or a server that was set up anew cannot empty a device.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coditect_local_store::{Error, LocalStore, Owner};
use coditect_protocol::Problem;
use coditect_protocol::wire::erasure::{ErasureNotice, NOTICE};
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::paths::Paths;

/// Why a notice of an erasure is not believed; nothing was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotBelieved {
    /// The server sent none, or not one that can be read.
    #[error("it came without a notice")]
    NoNotice,
    /// This login is older than the server's key, or was given in as a token.
    #[error("this login knows no key of the server")]
    NoKey,
    /// Another key has signed it, or it was altered.
    #[error("it is not signed with the key that the server had at the login")]
    NotSigned,
    /// It is about somebody else.
    #[error("it is about another account")]
    Another,
}

/// Returns the notice that a problem of code `account_erased` carries, if it is signed with `key`
/// and about the folder's owner.
pub(crate) fn believe(
    problem: &Problem,
    key: Option<&str>,
    owner: Owner,
) -> Result<ErasureNotice, NotBelieved> {
    let notice = problem.extra.get(NOTICE).ok_or(NotBelieved::NoNotice)?;
    let notice: ErasureNotice =
        serde_json::from_value(notice.clone()).map_err(|_| NotBelieved::NoNotice)?;
    let key = key.ok_or(NotBelieved::NoKey)?;
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| NotBelieved::NotSigned);
    let signature = decode(&notice.signature)?;
    UnparsedPublicKey::new(&ED25519, decode(key)?)
        .verify(notice.text().as_bytes(), &signature)
        .map_err(|_| NotBelieved::NotSigned)?;
    if (notice.tenant_id, notice.user_id) != (owner.tenant, owner.user) {
        return Err(NotBelieved::Another);
    }
    Ok(notice)
}

/// Removes what the account has left on this machine: the databases with everything beside them,
/// their backups, what hooks have written down, the login. The archive of transcripts stays: it
/// never left the machine. The caller holds the folder's lease; calling it again goes on.
///
/// # Errors
/// When the system refuses.
pub fn carry_out(paths: &Paths, notice: &ErasureNotice) -> Result<(), Error> {
    let note = serde_json::json!(notice).to_string();
    LocalStore::erase(&paths.context_storage(), &note)?;
    finish(paths)
}

/// Removes what an erasure that was cut off has left; for a folder that has its note.
///
/// # Errors
/// As [`carry_out`].
pub fn finish(paths: &Paths) -> Result<(), Error> {
    LocalStore::shred(&paths.backups_dir())?;
    LocalStore::shred(&paths.data_dir().join("hooks"))?;
    LocalStore::shred(&paths.state_file())?;
    LocalStore::shred(&paths.credentials_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::{ErrorCode, OrganizationId, UserId};
    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use uuid::Uuid;

    fn key() -> Ed25519KeyPair {
        let random = SystemRandom::new();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap()
    }

    fn public(key: &Ed25519KeyPair) -> String {
        STANDARD.encode(key.public_key())
    }

    fn problem(key: &Ed25519KeyPair, user: u128) -> Problem {
        let mut notice = ErasureNotice {
            id: Uuid::from_u128(1),
            tenant_id: OrganizationId::new(Uuid::from_u128(2)),
            user_id: UserId::new(Uuid::from_u128(user)),
            erased_at_ms: 1_800_000_000_000,
            public_key: public(key),
            signature: String::new(),
        };
        notice.signature = STANDARD.encode(key.sign(notice.text().as_bytes()));
        let mut problem = Problem::new(ErrorCode::AccountErased, "gone");
        let notice = serde_json::to_value(notice).unwrap();
        problem.extra.insert(NOTICE.to_owned(), notice);
        problem
    }

    #[test]
    fn only_the_logins_key_and_the_own_account_are_believed() {
        let (ours, other) = (key(), key());
        let owner = Owner {
            tenant: OrganizationId::new(Uuid::from_u128(2)),
            user: UserId::new(Uuid::from_u128(3)),
        };
        let known = Some(public(&ours));
        let known = known.as_deref();
        assert!(believe(&problem(&ours, 3), known, owner).is_ok());
        let refused = |problem: &Problem, key: Option<&str>| believe(problem, key, owner).err();
        let by_another = problem(&other, 3);
        assert_eq!(refused(&by_another, known), Some(NotBelieved::NotSigned));
        let of_another = problem(&ours, 4);
        assert_eq!(refused(&of_another, known), Some(NotBelieved::Another));
        assert_eq!(refused(&problem(&ours, 3), None), Some(NotBelieved::NoKey));
        let mut altered = problem(&ours, 4);
        altered.extra[NOTICE]["user_id"] = Uuid::from_u128(3).to_string().into();
        assert_eq!(refused(&altered, known), Some(NotBelieved::NotSigned));
        let bare = Problem::new(ErrorCode::AccountErased, "gone");
        assert_eq!(refused(&bare, known), Some(NotBelieved::NoNotice));
    }
}
