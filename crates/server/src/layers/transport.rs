//! Who may speak plain HTTP to us, and whose word counts about where a request came from.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use coditect_protocol::ErrorCode;

use super::RequestLog;
use crate::config::{Cidr, HttpConfig};
use crate::error::AppError;
use crate::state::AppState;

/// The other end of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Marks a request that came over TLS of ours.
#[derive(Debug, Clone, Copy)]
pub struct Encrypted;

/// Refuses plain HTTP from other machines, unless a trusted proxy took it as HTTPS or the
/// operator asked for it. Requests without a peer come from within the process.
pub(crate) async fn guard_transport(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let Some(Peer(peer)) = request.extensions().get::<Peer>().copied() else {
        return next.run(request).await;
    };
    let encrypted = request.extensions().get::<Encrypted>().is_some();
    let origin = origin(
        (peer.ip(), encrypted),
        request.headers(),
        &state.http.trusted_proxies,
    );
    if let Some(log) = request.extensions().get::<RequestLog>() {
        log.set_client(origin.client);
    }
    if !allowed(origin, &state.http) {
        let detail = "plain HTTP is served on this machine only: use https";
        return AppError::refused(ErrorCode::PermissionDenied, detail).into_response();
    }
    next.run(request).await
}

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Origin {
    client: IpAddr,
    /// Whether the way to us is encrypted, or inside this machine.
    private: bool,
}

/// X-Forwarded-* are read only from a trusted proxy; from anybody else they are just text.
fn origin((peer, encrypted): (IpAddr, bool), headers: &HeaderMap, trusted: &[Cidr]) -> Origin {
    let peer = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if !is_trusted(peer) {
        return Origin {
            client: peer,
            private: encrypted || peer.is_loopback(),
        };
    }
    let https = text("x-forwarded-proto").is_some_and(|proto| {
        // A chain of proxies writes a list; each of ours must have been reached by HTTPS.
        proto
            .split(',')
            .all(|part| part.trim().eq_ignore_ascii_case("https"))
    });
    // From the right: the last address that is not a proxy of ours is the client.
    let forwarded = text("x-forwarded-for").unwrap_or_default();
    let client = forwarded
        .rsplit(',')
        .map_while(|part| part.trim().parse::<IpAddr>().ok())
        .map(|address| address.to_canonical())
        .find(|address| !is_trusted(*address));
    let direct = client.is_none() && (encrypted || peer.is_loopback());
    Origin {
        client: client.unwrap_or(peer),
        private: https || direct,
    }
}

fn allowed(origin: Origin, http: &HttpConfig) -> bool {
    origin.private || http.insecure_listen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(forwarded_for: &str, proto: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !forwarded_for.is_empty() {
            headers.insert("x-forwarded-for", forwarded_for.parse().unwrap());
        }
        if !proto.is_empty() {
            headers.insert("x-forwarded-proto", proto.parse().unwrap());
        }
        headers
    }

    fn from(peer: &str, forwarded_for: &str, proto: &str) -> (String, bool) {
        let trusted: Vec<Cidr> = vec!["10.0.0.0/8".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let origin = origin(
            (peer.parse().unwrap(), false),
            &headers(forwarded_for, proto),
            &trusted,
        );
        (origin.client.to_string(), origin.private)
    }

    #[test]
    fn strangers_cannot_claim_https_or_another_address() {
        assert_eq!(
            from("8.8.8.8", "1.1.1.1", "https"),
            ("8.8.8.8".to_owned(), false)
        );
        assert_eq!(
            from("127.0.0.2", "1.1.1.1", "http"),
            ("127.0.0.2".to_owned(), true)
        );
    }

    #[test]
    fn trusted_proxy_names_client_and_scheme() {
        assert_eq!(
            from("10.1.1.1", "1.1.1.1", "https"),
            ("1.1.1.1".to_owned(), true)
        );
        assert_eq!(
            from("10.1.1.1", "1.1.1.1", "http"),
            ("1.1.1.1".to_owned(), false)
        );
        assert_eq!(
            from("10.1.1.1", "1.1.1.1", ""),
            ("1.1.1.1".to_owned(), false)
        );
        assert!(!from("10.1.1.1", "1.1.1.1", "https, http").1);
        // What the client itself put in front of the list is not believed.
        assert_eq!(
            from("10.1.1.1", "9.9.9.9, 1.1.1.1, 10.2.2.2", "https").0,
            "1.1.1.1"
        );
    }

    #[test]
    fn own_tls_is_private_and_a_proxy_still_says_how_it_was_reached() {
        let trusted: Vec<Cidr> = vec!["10.0.0.0/8".parse().unwrap()];
        let private =
            |peer: &str, headers| origin((peer.parse().unwrap(), true), &headers, &trusted).private;
        assert!(private("8.8.8.8", headers("", "")));
        assert!(private("10.1.1.1", headers("", "")));
        assert!(private("10.1.1.1", headers("8.8.8.8", "https")));
        assert!(!private("10.1.1.1", headers("8.8.8.8", "http")));
    }

    #[test]
    fn proxy_on_this_machine_does_not_make_others_local() {
        assert_eq!(
            from("127.0.0.1", "8.8.8.8", "http"),
            ("8.8.8.8".to_owned(), false)
        );
        assert_eq!(from("127.0.0.1", "", ""), ("127.0.0.1".to_owned(), true));
    }
}
