//! What a device is told when the account that its data belongs to was erased.

use crate::{OrganizationId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Name under which a problem of code `account_erased` carries the notice.
pub const NOTICE: &str = "erasure";

/// A signed statement that an account was erased, with all that it had on the server. A device of
/// the account removes its copies, if the signature is that of the key it was given at its login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureNotice {
    /// Which erasure it was.
    pub id: Uuid,
    /// Organisation of the account.
    pub tenant_id: OrganizationId,
    /// The account. Its id is never given to another one.
    pub user_id: UserId,
    /// When the erasure was asked for, milliseconds since 1970.
    pub erased_at_ms: i64,
    /// The public key (Ed25519), base64.
    pub public_key: String,
    /// The signature over [`ErasureNotice::text`], base64.
    pub signature: String,
}

impl ErasureNotice {
    /// Returns the text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let Self {
            id,
            tenant_id,
            user_id,
            erased_at_ms,
            ..
        } = self;
        format!("coditect erasure notice 1\n{id}\n{tenant_id}\n{user_id}\n{erased_at_ms}\n")
    }
}
