//! Access tokens: JWT signed with EdDSA, valid for a quarter of an hour.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use coditect_protocol::{DeviceId, UserId};
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Caller, SecretError, Secrets, TenantId, random_uuid};
use crate::identity::Role;

/// How long an access token is valid, in seconds.
pub const ACCESS_TOKEN_SECONDS: u64 = 15 * 60;
const ISSUER: &str = "coditect-server";

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: Uuid,
    tenant_id: Uuid,
    device_id: Uuid,
    role: Role,
    iat: i64,
    exp: i64,
    jti: Uuid,
}

/// Why an access token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a token of this server.
    #[error("the access token is not valid")]
    Invalid,
    /// Its time is over.
    #[error("the access token has expired")]
    Expired,
}

/// Most tokens that are remembered.
const CHECKED_MAX: usize = 8_192;

/// Tokens whose signature and claims were checked, so that a device's next request costs no
/// curve arithmetic. Their key and their time are looked at every time.
#[derive(Debug, Clone, Default)]
pub(super) struct Checked(Arc<Mutex<HashMap<String, Known>>>);

#[derive(Debug, Clone)]
struct Known {
    key_id: String,
    caller: Caller,
    until: DateTime<Utc>,
}

impl Checked {
    fn get(&self, token: &str) -> Option<Known> {
        self.lock().get(token).cloned()
    }

    fn put(&self, token: &str, known: Known, now: DateTime<Utc>) {
        let mut tokens = self.lock();
        if tokens.len() >= CHECKED_MAX {
            tokens.retain(|_, known| known.until > now);
        }
        if tokens.len() >= CHECKED_MAX {
            tokens.clear();
        }
        tokens.insert(token.to_owned(), known);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Secrets {
    /// Returns an access token for `caller`, issued at `now`.
    pub(super) fn issue(&self, caller: &Caller, now: DateTime<Utc>) -> Result<String, SecretError> {
        let issued = now.timestamp();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: caller.user_id.get(),
            tenant_id: caller.tenant.get(),
            device_id: caller.device_id.get(),
            role: caller.role,
            iat: issued,
            exp: issued + ACCESS_TOKEN_SECONDS.cast_signed(),
            jti: random_uuid()?,
        };
        let ring = self.ring();
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(ring.key_id().to_owned());
        encode(&header, &claims, ring.signing()).map_err(|_| SecretError::Sign)
    }

    /// Returns who holds `token`, checked for signature, issuer and time.
    ///
    /// Says nothing about what happened since it was issued: that a member left is noticed by
    /// the transaction, that a device was revoked by [`crate::devices`].
    ///
    /// # Errors
    ///
    /// [`TokenError::Expired`] for a genuine token whose time is over, else
    /// [`TokenError::Invalid`].
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Caller, TokenError> {
        self.verify_until(token, now).map(|(caller, _)| caller)
    }

    /// Returns who holds `token` as [`Secrets::verify`] does, and until when: for a connection
    /// that outlives the request that opened it.
    ///
    /// # Errors
    ///
    /// As [`Secrets::verify`].
    pub fn verify_until(
        &self,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<(Caller, DateTime<Utc>), TokenError> {
        if let Some(known) = self.checked.get(token)
            && self.ring().verifying(&known.key_id, now).is_some()
        {
            if known.until <= now {
                return Err(TokenError::Expired);
            }
            return Ok((known.caller, known.until));
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        // The library would look at the system's clock; ours is a parameter.
        validation.validate_exp = false;
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        let key_id = header.kid.ok_or(TokenError::Invalid)?;
        let ring = self.ring();
        let key = ring.verifying(&key_id, now).ok_or(TokenError::Invalid)?;
        let claims = decode::<Claims>(token, key, &validation)
            .map_err(|_| TokenError::Invalid)?
            .claims;
        if claims.exp <= now.timestamp() {
            return Err(TokenError::Expired);
        }
        let caller = Caller {
            tenant: TenantId::new(claims.tenant_id),
            user_id: UserId::new(claims.sub),
            device_id: DeviceId::new(claims.device_id),
            role: claims.role,
            checked: true,
        };
        let until = DateTime::from_timestamp(claims.exp, 0).ok_or(TokenError::Invalid)?;
        let known = Known {
            key_id,
            caller: caller.clone(),
            until,
        };
        self.checked.put(token, known, now);
        Ok((caller, until))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn caller() -> Caller {
        Caller {
            tenant: TenantId::new(Uuid::from_u128(1)),
            user_id: UserId::new(Uuid::from_u128(2)),
            device_id: DeviceId::new(Uuid::from_u128(3)),
            role: Role::Member,
            checked: true,
        }
    }

    #[test]
    fn token_is_good_for_its_time_and_its_server() {
        let temp = tempfile::tempdir().unwrap();
        let ours = Secrets::load_or_create(&temp.path().join("ours")).unwrap();
        let other = Secrets::load_or_create(&temp.path().join("other")).unwrap();
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let token = ours.issue(&caller(), now).unwrap();
        assert_eq!(ours.verify(&token, now), Ok(caller()));
        let late = now + TimeDelta::seconds(ACCESS_TOKEN_SECONDS.cast_signed());
        assert_eq!(
            ours.verify(&token, late - TimeDelta::seconds(1)),
            Ok(caller())
        );
        assert_eq!(ours.verify(&token, late), Err(TokenError::Expired));
        assert_eq!(other.verify(&token, now), Err(TokenError::Invalid));
        assert_eq!(ours.verify("", now), Err(TokenError::Invalid));
    }

    #[test]
    fn token_of_a_replaced_key_lives_on_unless_the_key_leaked() {
        let temp = tempfile::tempdir().unwrap();
        let (one, other) = (
            Secrets::load_or_create(temp.path()).unwrap(),
            Secrets::load_or_create(temp.path()).unwrap(),
        );
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let before = one.issue(&caller(), now).unwrap();
        one.rotate(now, false).unwrap();
        let after = one.issue(&caller(), now).unwrap();
        let end = now + TimeDelta::seconds(ACCESS_TOKEN_SECONDS.cast_signed() - 1);
        for server in [&one, &other] {
            assert_eq!(server.verify(&before, end), Ok(caller()));
            assert_eq!(server.verify(&after, end), Ok(caller()));
        }
        other.rotate(now, true).unwrap();
        for token in [&before, &after] {
            assert_eq!(one.verify(token, now), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn changed_claims_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let secrets = Secrets::load_or_create(temp.path()).unwrap();
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut other = caller();
        other.tenant = TenantId::new(Uuid::from_u128(9));
        let own = secrets.issue(&caller(), now).unwrap();
        let foreign = secrets.issue(&other, now).unwrap();
        let (own, foreign): (Vec<_>, Vec<_>) =
            (own.split('.').collect(), foreign.split('.').collect());
        let mixed = format!("{}.{}.{}", own[0], foreign[1], own[2]);
        assert_eq!(secrets.verify(&mixed, now), Err(TokenError::Invalid));
    }
}
