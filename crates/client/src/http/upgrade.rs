//! Turning a request into a WebSocket's connection.

use coditect_core::sync::Failure;
use reqwest::header::{CONNECTION, HeaderValue, UPGRADE};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Http, outcome};

/// A connection that speaks WebSocket from now on.
pub(crate) type Upgraded = reqwest::Upgraded;

impl Http {
    /// Asks for a WebSocket and returns its connection.
    ///
    /// # Errors
    /// [`Failure`] as for a post; a server that answers with anything but a WebSocket counts as
    /// offline.
    pub(crate) async fn upgrade(
        &self,
        path: &str,
        token: Option<&str>,
    ) -> Result<Upgraded, Failure> {
        let key = generate_key();
        let mut request = self
            .client
            .get(format!("{}{path}", self.server()))
            .header(CONNECTION, HeaderValue::from_static("upgrade"))
            .header(UPGRADE, HeaderValue::from_static("websocket"))
            .header("sec-websocket-version", HeaderValue::from_static("13"))
            .header("sec-websocket-key", &key);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request
            .send()
            .await
            .map_err(|error| outcome::unreachable_server(&error))?;
        if response.status().as_u16() != 101 {
            let reply = self.read(response).await?;
            outcome::check(reply)?;
            let reason = "the server, or a proxy before it, does not speak WebSocket";
            return Err(Failure::Offline(reason.to_owned()));
        }
        let accept = response.headers().get("sec-websocket-accept");
        if accept.map(HeaderValue::as_bytes) != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            let reason = "something else than a WebSocket server answered";
            return Err(Failure::Offline(reason.to_owned()));
        }
        response
            .upgrade()
            .await
            .map_err(|error| outcome::unreachable_server(&error))
    }
}
