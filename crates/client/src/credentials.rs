//! Tokens of one profile, in a file that only its owner can read.

use std::fmt;
use std::path::{Path, PathBuf};

use coditect_protocol::wire::auth::LoginReply;
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// Tokens for one server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Address of the server that issued them; they are sent nowhere else.
    pub server: String,
    /// Bearer token.
    pub access_token: String,
    /// Token for the next pair, good for one use; none for a token that was given in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// Public key (Ed25519, base64) that the server named at the login: what it has not signed
    /// erases nothing here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erasure_key: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Credentials")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Returns the tokens of a login at `server`.
    #[must_use]
    pub fn from_login(server: &str, reply: &LoginReply) -> Self {
        Self {
            server: server.to_owned(),
            access_token: reply.access_token.clone(),
            refresh_token: Some(reply.refresh_token.clone()),
            erasure_key: reply.erasure_key.clone(),
        }
    }
}

/// The file of one profile.
#[derive(Clone, Debug)]
pub struct CredentialFile {
    path: PathBuf,
}

/// Keeps other processes from renewing the tokens until it is dropped.
#[derive(Debug)]
pub struct RenewalLock {
    _file: std::fs::File,
}

impl CredentialFile {
    /// Names the file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the tokens; none when there are none.
    ///
    /// # Errors
    /// [`FileError`] when the file is there and cannot be read.
    pub fn load(&self) -> Result<Option<Credentials>, FileError> {
        files::read_json(&self.path)
    }

    /// Writes the tokens.
    ///
    /// # Errors
    /// [`FileError`] when that fails.
    pub fn store(&self, credentials: &Credentials) -> Result<(), FileError> {
        files::write_json(&self.path, credentials)
    }

    /// Finds out whether new tokens could be written. A refresh token is good for one use: with
    /// a full disk it is better not to use it.
    ///
    /// # Errors
    /// [`FileError`] when they could not.
    pub fn probe(&self) -> Result<(), FileError> {
        match self.load()? {
            Some(credentials) => self.store(&credentials),
            None => Ok(()),
        }
    }

    /// Removes the tokens; says whether there were any.
    ///
    /// # Errors
    /// [`FileError`] when that fails.
    pub fn delete(&self) -> Result<bool, FileError> {
        files::remove(&self.path)
    }

    /// Waits until no other process renews the tokens. A refresh token is good for one use: two
    /// processes that send the same one would end the session.
    ///
    /// # Errors
    /// [`FileError`] when the lock cannot be taken.
    pub fn lock(&self) -> Result<RenewalLock, FileError> {
        let path = self.path.with_extension("lock");
        let file = files::open_lock(&path)?;
        file.lock()
            .map_err(|source| files::io("lock", &path, source))?;
        Ok(RenewalLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back_and_are_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let file = CredentialFile::new(folder.path().join("credentials").join("default.json"));
        assert_eq!(file.load().unwrap(), None);
        let tokens = Credentials {
            server: "http://localhost".to_owned(),
            access_token: "top-secret".to_owned(),
            refresh_token: Some("another".to_owned()),
            erasure_key: None,
        };
        file.store(&tokens).unwrap();
        assert_eq!(file.load().unwrap().as_ref(), Some(&tokens));
        assert!(!format!("{tokens:?}").contains("secret"));
        assert!(!format!("{tokens:?}").contains("another"));
        drop(file.lock().unwrap());
        assert!(file.delete().unwrap());
        assert!(!file.delete().unwrap());
    }
}
