//! A person's erasure by the person, and what a device is told when the account that its data
//! belongs to was erased.

use std::collections::BTreeMap;

use crate::{OrganizationId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// Name under which a problem of code `account_erased` carries the notice.
pub const NOTICE: &str = "erasure";

/// `POST /api/v1/users/{id}/erase`: everything of the caller's own account goes, for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AccountErasure {
    /// The account's e-mail address, once more: nobody does this by mistake.
    pub email: String,
    /// Whether only to say what would go.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an erasure removed, or would remove.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccountErased {
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// All rows.
    pub rows: u64,
    /// Archives of the own scope.
    pub backups: u64,
    /// Rows of each table.
    pub tables: BTreeMap<String, u64>,
    /// The signed receipt; none of a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Value>,
}

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
