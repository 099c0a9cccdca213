//! The listener: accepts connections, bounds them, and stops in order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tower::ServiceExt as _;

use crate::config::HttpConfig;
use crate::layers::{Encrypted, Peer};
use crate::tls::Tls;

/// Time for a request's headers, and for the next request on an open connection.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Pause after the system refused a connection, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves, by HTTPS where `tls` is given, until `stop` resolves; then takes no more connections,
/// lets the requests in flight finish within the configured time, and returns.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    http: &HttpConfig,
    stop: impl Future<Output = ()>,
) {
    let (stopping, stop_seen) = watch::channel(false);
    // Every connection holds a sender: when all have gone, the receiver says so.
    let (open, mut all_gone) = mpsc::channel::<std::convert::Infallible>(1);
    let places = Arc::new(Semaphore::new(http.connections_max));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEADER_BYTES_MAX);
    let mut stop = std::pin::pin!(stop);
    loop {
        let (stream, peer, place) = tokio::select! {
            accepted = accept(&listener, &places) => match accepted {
                Some(accepted) => accepted,
                None => continue,
            },
            () = &mut stop => break,
        };
        let connection = Connection {
            peer,
            builder: builder.clone(),
            router: router.clone(),
            stopping: stop_seen.clone(),
        };
        let (tls, is_open) = (tls.clone(), open.clone());
        tokio::spawn(async move {
            connection.run(stream, tls).await;
            drop((place, is_open));
        });
    }
    drop(listener);
    let connections = open.strong_count() - 1;
    tracing::info!(connections, "stopping, requests in flight finish");
    drop(open);
    stopping.send_replace(true);
    let gone = tokio::time::timeout(http.stop_timeout, all_gone.recv());
    if gone.await.is_err() {
        tracing::warn!("requests in flight did not finish in time");
    }
}

/// What one connection needs.
struct Connection {
    peer: SocketAddr,
    builder: http1::Builder,
    router: Router,
    stopping: watch::Receiver<bool>,
}

impl Connection {
    /// Shakes hands where TLS is served, then answers requests until the other end leaves or
    /// the server stops.
    async fn run(self, stream: TcpStream, tls: Option<Arc<Tls>>) {
        let Some(tls) = tls else {
            return self.answer(TokioIo::new(stream), false).await;
        };
        let address = self.peer.ip();
        let shaken = tls.acceptor().accept(stream);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, shaken).await {
            Ok(Ok(stream)) => self.answer(TokioIo::new(stream), true).await,
            Ok(Err(error)) => {
                tracing::debug!(%error, client.address = %address, "no TLS");
            }
            Err(_) => tracing::debug!(client.address = %address, "no TLS in time"),
        }
    }

    /// Answers requests; one that turned into a WebSocket goes on by itself.
    async fn answer<I>(mut self, io: I, encrypted: bool)
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let service = service(&self.router, self.peer, encrypted);
        let connection = self.builder.serve_connection(io, service);
        let mut connection = std::pin::pin!(connection.with_upgrades());
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            _ = self.stopping.wait_for(|stopping| *stopping) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // Clients that go away are no fault of ours.
            tracing::debug!(%error, client.address = %self.peer.ip(), "connection ended");
        }
    }
}

/// Waits for a place, then for a connection.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Replies go out at once; failing that, only speed is lost.
            let _ = stream.set_nodelay(true);
            Some((stream, peer, place))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Returns the service of one connection: the router, told who is at the other end.
fn service(
    router: &Router,
    peer: SocketAddr,
    encrypted: bool,
) -> impl hyper::service::Service<
    hyper::Request<Incoming>,
    Response = axum::response::Response,
    Error = Infallible,
    Future: Send + 'static,
> + use<> {
    let router = router.clone();
    hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        if encrypted {
            request.extensions_mut().insert(Encrypted);
        }
        router.clone().oneshot(request)
    })
}
