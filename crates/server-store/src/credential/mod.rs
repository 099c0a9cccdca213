//! Credentials: what proves who a caller is. The only module that makes a [`TenantId`].
//!
//! Secrets are stored as hashes; keys lie in a folder outside the database, so that a copy of
//! the database proves nothing.

mod access_token;
mod key_ring;
mod keys;
mod login;
mod opaque_key;
mod password;

use std::fmt;

use coditect_protocol::{DeviceId, OrganizationId, UserId};
use ring::rand::SecureRandom as _;
use uuid::Uuid;

use crate::identity::Role;
pub use access_token::{ACCESS_TOKEN_SECONDS, TokenError};
pub(crate) use key_ring::generate as new_ed25519;
pub use keys::{Secrets, SecretsError};
pub(crate) use keys::{make_missing, prepare_folder, read_base64};
pub use login::{
    LoginError, REFRESH_TOKEN_DAYS, TenantChoice, TokenPair, log_out, login_with_license,
    login_with_password, normal_email, refresh,
};
pub(crate) use opaque_key::{KeyKind, OpaqueKey};
pub(crate) use password::{generate_password, hash_password};

/// A tenant that a verified credential named, or a row that we wrote.
///
/// It has no public constructor and cannot be read from a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TenantId(Uuid);

impl TenantId {
    /// Makes the id from a verified credential or a row of ours.
    pub(crate) const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// Returns the UUID, for parameters and logs.
    #[must_use]
    pub const fn get(self) -> Uuid {
        self.0
    }

    /// Returns the id as it appears in replies.
    #[must_use]
    pub const fn organization(self) -> OrganizationId {
        OrganizationId::new(self.0)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Who makes a request, as a verified credential says. Made by this module only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    tenant: TenantId,
    user_id: UserId,
    device_id: DeviceId,
    role: Role,
    /// Whether the program itself decides what the caller may do; not so in the tests that show
    /// what row security does alone.
    checked: bool,
}

impl Caller {
    /// Makes the one in whose name a job is done, from the job's row: a verified caller asked for
    /// it. Whether the person and the device are still let in is looked at in every transaction.
    pub(crate) const fn of_job(
        tenant: TenantId,
        user_id: UserId,
        device_id: DeviceId,
        role: Role,
    ) -> Self {
        Self {
            tenant,
            user_id,
            device_id,
            role,
            checked: true,
        }
    }

    /// Makes the caller for whom the operator acts on the command line, without a device; no
    /// request gets here.
    pub(crate) const fn by_operator(tenant: TenantId, user_id: UserId, role: Role) -> Self {
        Self {
            tenant,
            user_id,
            device_id: DeviceId::new(Uuid::nil()),
            role,
            checked: true,
        }
    }

    /// Returns whether the program itself decides what the caller may do.
    pub(crate) const fn is_checked(&self) -> bool {
        self.checked
    }

    /// Returns the caller as a store with or without checks takes it.
    pub(crate) fn with_checks(&self, checked: bool) -> Self {
        Self {
            checked,
            ..self.clone()
        }
    }

    /// Returns the caller's tenant.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Returns the person.
    #[must_use]
    pub const fn user_id(&self) -> UserId {
        self.user_id
    }

    /// Returns the device that logged in.
    #[must_use]
    pub const fn device_id(&self) -> DeviceId {
        self.device_id
    }

    /// Returns the role in the organisation when the token was issued; the one of this moment
    /// is [`crate::TenantTx::current_role`].
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }
}

/// What can go wrong with secrets.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The system gives no random numbers.
    #[error("the system's random number generator failed")]
    Random,
    /// A password could not be hashed.
    #[error("hashing a password failed")]
    Hash,
    /// A token could not be signed.
    #[error("signing a token failed")]
    Sign,
}

/// Returns `N` random bytes from the operating system.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0_u8; N];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| SecretError::Random)?;
    Ok(bytes)
}

/// Returns a random UUID.
pub(crate) fn random_uuid() -> Result<Uuid, SecretError> {
    Ok(uuid::Builder::from_random_bytes(random_bytes()?).into_uuid())
}
