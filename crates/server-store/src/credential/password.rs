//! Passwords: Argon2id with the crate's default costs (19 MiB, two passes).

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};

use super::{SecretError, random_bytes};

/// Letters and digits that people do not mix up; 32 of them, five bits each.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Returns a random password of 24 characters (120 bits) in groups of six.
pub(crate) fn generate_password() -> Result<String, SecretError> {
    let bytes: [u8; 24] = random_bytes()?;
    let letters: Vec<char> = bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect();
    let groups: Vec<String> = letters
        .chunks(6)
        .map(|group| group.iter().collect())
        .collect();
    Ok(groups.join("-"))
}

/// Returns the hash of `password` as a PHC string; takes tens of milliseconds, on another thread.
pub(crate) async fn hash_password(password: String) -> Result<String, SecretError> {
    let salt: [u8; 16] = random_bytes()?;
    let hashed = tokio::task::spawn_blocking(move || {
        let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
        hash.map(|hash: argon2::password_hash::phc::PasswordHash| hash.to_string())
    });
    hashed
        .await
        .map_err(|_| SecretError::Hash)?
        .map_err(|_| SecretError::Hash)
}

/// Returns whether `password` belongs to `hash`. Without a hash it works as long and says no,
/// so that the time does not tell whether an e-mail is known.
pub(super) async fn verify_password(
    password: String,
    hash: Option<String>,
) -> Result<bool, SecretError> {
    let Some(hash) = hash else {
        hash_password(password).await?;
        return Ok(false);
    };
    let verified = tokio::task::spawn_blocking(move || {
        let parsed = PasswordHash::new(&hash).map_err(|_| SecretError::Hash)?;
        Ok(Argon2::default()
            .verify_password(password.as_bytes(), &parsed)
            .is_ok())
    });
    verified.await.map_err(|_| SecretError::Hash)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_verifies() {
        let password = generate_password().unwrap();
        assert_eq!(password.len(), 27);
        let hash = hash_password(password.clone()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(
            verify_password(password.clone(), Some(hash.clone()))
                .await
                .unwrap()
        );
        assert!(
            !verify_password("wrong".to_owned(), Some(hash))
                .await
                .unwrap()
        );
        assert!(!verify_password(password, None).await.unwrap());
    }
}
