//! How requests reach a server. Two implementations: HTTP here, and the model of the server that
//! the simulation runs the engine against.

use std::future::Future;

use coditect_core::sync::Failure;
use coditect_local_store::Owner;
use coditect_protocol::wire::auth::LoginReply;
use coditect_protocol::wire::bodies::{BodiesKnown, BodiesReply, BodiesRequest, Body};
use coditect_protocol::wire::erasure::ErasureNotice;
use coditect_protocol::wire::moves::{MoveReply, MoveRequest};
use coditect_protocol::wire::pull::{PullReply, PullRequest};
use coditect_protocol::wire::push::PushReply;
use coditect_protocol::{ErrorCode, Problem};

use crate::auth;
use crate::credentials::{CredentialFile, Credentials};
use crate::erasure::{self, NotBelieved};
use crate::http::Http;

/// Carries pushes and pulls.
pub trait Transport {
    /// Sends a batch, byte for byte as it was stored.
    fn push(&mut self, body: &[u8]) -> impl Future<Output = Result<PushReply, Failure>> + Send;

    /// Asks for what happened.
    fn pull(
        &mut self,
        request: &PullRequest,
    ) -> impl Future<Output = Result<PullReply, Failure>> + Send;

    /// Asks for rows to be moved to another scope. A way that knows no moves refuses them.
    fn move_rows(
        &mut self,
        request: &MoveRequest,
    ) -> impl Future<Output = Result<MoveReply, Failure>> + Send {
        let detail = format!("cannot move rows to {}", request.to);
        let problem = Problem::new(ErrorCode::MethodNotAllowed, &detail);
        std::future::ready(Err(Failure::Refused(Box::new(problem))))
    }

    /// Fetches long values that rows lack. A server that keeps none apart has none.
    fn bodies(
        &mut self,
        request: &BodiesRequest,
    ) -> impl Future<Output = Result<BodiesReply, Failure>> + Send {
        let missing = request.hashes.clone();
        async move {
            Ok(BodiesReply {
                missing,
                ..BodiesReply::default()
            })
        }
    }

    /// Asks which long values need not be sent.
    fn known_bodies(
        &mut self,
        _request: &BodiesRequest,
    ) -> impl Future<Output = Result<BodiesKnown, Failure>> + Send {
        async { Ok(BodiesKnown::default()) }
    }

    /// Obtains a new access token; says whether that worked.
    fn authenticate(&mut self) -> impl Future<Output = bool> + Send;
}

/// A way to a new access token when the refresh token does not help.
#[derive(Clone, Default)]
pub struct Fallback {
    /// E-mail and password, when the program was given them.
    pub password: Option<coditect_protocol::wire::auth::PasswordLogin>,
}

impl std::fmt::Debug for Fallback {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Fallback {{ password: {} }}", self.password.is_some())
    }
}

/// Pushes and pulls over HTTP, with the tokens of one profile.
#[derive(Debug)]
pub struct HttpTransport {
    http: Http,
    credentials: Credentials,
    file: Option<CredentialFile>,
    fallback: Fallback,
    /// What the server said when the account turned out to be erased.
    erased: Option<Box<Problem>>,
}

impl HttpTransport {
    /// Makes a transport. New tokens are written to `file`; without one (a token from outside)
    /// they stay in memory.
    #[must_use]
    pub fn new(
        http: Http,
        credentials: Credentials,
        file: Option<CredentialFile>,
        fallback: Fallback,
    ) -> Self {
        Self {
            http,
            credentials,
            file,
            fallback,
            erased: None,
        }
    }

    /// Returns the notice that the owner's account was erased, if the server has given one that
    /// is signed with the key of this login; why it is not believed otherwise. None when there
    /// was none.
    #[must_use]
    pub fn erasure(&self, owner: Owner) -> Option<Result<ErasureNotice, NotBelieved>> {
        let problem = self.erased.as_ref()?;
        let key = self.credentials.erasure_key.as_deref();
        Some(erasure::believe(problem, key, owner))
    }

    /// Returns the client, for its counters.
    #[must_use]
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// Asks for a WebSocket with the profile's token.
    pub(crate) async fn upgrade(&self, path: &str) -> Result<crate::http::Upgraded, Failure> {
        let token = self.credentials.access_token.as_str();
        self.http.upgrade(path, Some(token)).await
    }

    /// Returns the access token of this moment, for requests beside the engine's.
    #[must_use]
    pub fn access_token(&self) -> &str {
        &self.credentials.access_token
    }

    /// Reads a document with the profile's token.
    pub(crate) async fn get<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<T, Failure> {
        let token = self.credentials.access_token.as_str();
        self.http.get(path, Some(token)).await
    }

    /// Posts a document and reads the answer, with the profile's token.
    pub(crate) async fn post_document<B: serde::Serialize, T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        let body = auth::encode(body)?;
        let token = self.credentials.access_token.as_str();
        self.http.post(path, &body, Some(token)).await
    }

    /// Puts a document, with the profile's token.
    pub(crate) async fn put_document<B: serde::Serialize>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<(), Failure> {
        let body = auth::encode(body)?;
        let token = self.credentials.access_token.as_str();
        self.http.put(path, &body, Some(token)).await
    }

    /// Deletes what a path names, with the profile's token.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failure> {
        let token = self.credentials.access_token.as_str();
        self.http.delete(path, Some(token)).await
    }

    async fn renew(&mut self) -> Result<bool, Failure> {
        // Another process may have renewed them while this one waited.
        let lock = self.file.as_ref().map(CredentialFile::lock);
        let _lock = match lock {
            Some(Ok(lock)) => Some(lock),
            Some(Err(error)) => {
                tracing::warn!(target: "coditect::auth", %error, "cannot lock the credentials");
                None
            }
            None => None,
        };
        let stored = self
            .file
            .as_ref()
            .and_then(|file| file.load().ok().flatten());
        if let Some(stored) = stored
            && stored.server == self.credentials.server
            && stored.access_token != self.credentials.access_token
        {
            self.credentials = stored;
            return Ok(true);
        }
        if let Some(token) = self.credentials.refresh_token.clone() {
            if let Some(Err(error)) = self.file.as_ref().map(CredentialFile::probe) {
                return Err(Failure::Offline(format!(
                    "the login cannot be renewed: {error}"
                )));
            }
            match auth::refresh(&self.http, &token).await {
                Ok(reply) => return Ok(self.keep(&reply)),
                Err(Failure::Refused(problem)) if problem.code == ErrorCode::AccountErased => {
                    self.erased = Some(problem);
                    return Ok(false);
                }
                Err(Failure::Unauthenticated(_) | Failure::Refused(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        let Some(login) = self.fallback.password.clone() else {
            return Ok(false);
        };
        let reply = auth::password(&self.http, &login).await?;
        Ok(self.keep(&reply))
    }

    fn keep(&mut self, reply: &LoginReply) -> bool {
        let first = self.credentials.erasure_key.take();
        self.credentials = Credentials::from_login(&self.credentials.server, reply);
        // The one of the login stays.
        self.credentials.erasure_key = first.or(self.credentials.erasure_key.take());
        if let Some(file) = &self.file
            && let Err(error) = file.store(&self.credentials)
        {
            // The session goes on with the new token; the next one will have to log in.
            tracing::error!(target: "coditect::auth", %error, "cannot write the new tokens");
        }
        true
    }
}

impl Transport for HttpTransport {
    async fn push(&mut self, body: &[u8]) -> Result<PushReply, Failure> {
        let token = Some(self.credentials.access_token.as_str());
        self.http.post("/api/v1/sync/push", body, token).await
    }

    async fn pull(&mut self, request: &PullRequest) -> Result<PullReply, Failure> {
        let body = auth::encode(request)?;
        let token = Some(self.credentials.access_token.as_str());
        self.http.post("/api/v1/sync/pull", &body, token).await
    }

    async fn move_rows(&mut self, request: &MoveRequest) -> Result<MoveReply, Failure> {
        let body = auth::encode(request)?;
        let token = Some(self.credentials.access_token.as_str());
        self.http.post("/api/v1/sync/move", &body, token).await
    }

    async fn bodies(&mut self, request: &BodiesRequest) -> Result<BodiesReply, Failure> {
        let mut reply: BodiesReply = self.post_document("/api/v1/sync/bodies", request).await?;
        // Hashes are checked over the text, however it came.
        let values = std::mem::take(&mut reply.values).into_iter();
        reply.bodies.extend(values.map(|body| Body {
            hash: body.hash,
            text: coditect_core::body::text_of(&body.value),
        }));
        let numbered = std::mem::take(&mut reply.numbered).into_iter();
        reply.bodies.extend(numbered.filter_map(|body| {
            let hash = body.hash.clone();
            let text = coditect_core::body::text_of_numbered(body)?;
            Some(Body { hash, text })
        }));
        Ok(reply)
    }

    async fn known_bodies(&mut self, request: &BodiesRequest) -> Result<BodiesKnown, Failure> {
        self.post_document("/api/v1/sync/bodies/known", request)
            .await
    }

    async fn authenticate(&mut self) -> bool {
        match self.renew().await {
            Ok(renewed) => {
                tracing::info!(target: "coditect::auth", renewed, "access token ended");
                renewed
            }
            Err(failure) => {
                let reason = crate::http::describe(&failure);
                tracing::warn!(target: "coditect::auth", reason, "cannot renew the access token");
                false
            }
        }
    }
}
