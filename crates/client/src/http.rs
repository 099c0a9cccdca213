//! Requests over HTTPS: bodies compressed, limits on time and size, and every way a request can
//! fail turned into the engine's [`Failure`].

mod outcome;
mod upgrade;

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coditect_core::sync::Failure;
use coditect_protocol::DeviceId;
use coditect_protocol::wire::DEVICE_TIME_HEADER;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue,
};
use reqwest::{Method, StatusCode, Url};
use serde::de::DeserializeOwned;

pub use outcome::describe;
pub(crate) use upgrade::Upgraded;

/// Bodies up to this many bytes are sent as they are.
const COMPRESS_BYTES_MIN: usize = 1024;
/// Level at which zstd costs less time than the bytes that it saves on a fast line.
const COMPRESSION_LEVEL: i32 = 3;
/// From this many bytes on a body is packed tighter; the server's work on it costs more anyway.
const LARGE_BYTES_MIN: usize = 256 * 1024;
/// Level for those.
const LARGE_LEVEL: i32 = 7;
/// How far back a large body may refer: 2 to the power of it, in bytes, as servers allow.
const WINDOW_LOG: u32 = 23;
/// Bytes of a reply, before and after decompression. A page has a target of 4 MiB and one row
/// may exceed it by 16 MiB.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Address of the server, such as `https://coditect.example.org`.
    pub server: String,
    /// Device that the requests come from.
    pub device: Option<DeviceId>,
    /// Whether plain HTTP may leave this machine.
    pub allow_plain_http: bool,
    /// File with authorities (PEM) that are trusted beside those of the system.
    pub ca_cert: Option<PathBuf>,
    /// The device's clock, in milliseconds since 1970. Each request says when it was sent, so
    /// that the server can measure how far the clock is off. A stored batch is sent again byte
    /// for byte, perhaps a day later, and cannot say that itself.
    pub clock: Option<fn() -> i64>,
    /// Milliseconds until a connection must stand.
    pub connect_timeout_ms: u64,
    /// Milliseconds that a server may be silent.
    pub read_timeout_ms: u64,
    /// Milliseconds that a request may take in all.
    pub request_timeout_ms: u64,
}

impl HttpOptions {
    /// Returns the ordinary limits for a server.
    #[must_use]
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            device: None,
            allow_plain_http: false,
            ca_cert: None,
            clock: None,
            connect_timeout_ms: 10_000,
            read_timeout_ms: 60_000,
            request_timeout_ms: 300_000,
        }
    }
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is none.
    #[error("'{address}' is no server address: {reason}")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Tokens would travel in the clear.
    #[error("{0} is plain http to another machine")]
    PlainHttp(String),
    /// The file of authorities cannot be read.
    #[error("cannot read the authority's certificate {}", path.display())]
    AuthorityFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of authorities holds none.
    #[error("{} holds no certificate of an authority (PEM)", .0.display())]
    NoAuthority(PathBuf),
    /// TLS could not be set up.
    #[error("cannot set up the HTTP client")]
    Setup(#[source] reqwest::Error),
}

/// Bytes of bodies, as they crossed the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of request bodies.
    pub sent: u64,
    /// Bytes of reply bodies.
    pub received: u64,
}

/// A client of one server.
#[derive(Debug)]
pub struct Http {
    client: reqwest::Client,
    base: Url,
    clock: Option<fn() -> i64>,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
}

/// The bytes of a client, readable while it works.
#[derive(Clone, Debug)]
pub struct Counters {
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
}

impl Counters {
    /// Returns the bytes so far.
    #[must_use]
    pub fn read(&self) -> Traffic {
        Traffic {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }
}

/// A reply that was read whole.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Whether the body says that it is JSON.
    pub json: bool,
    /// Seconds of `Retry-After`.
    pub retry_after: Option<u64>,
    /// The server's clock in `Date`, in milliseconds since 1970, to the second.
    pub date_ms: Option<i64>,
    /// Target of a redirect.
    pub location: Option<String>,
    /// The body, decompressed.
    pub body: Vec<u8>,
}

impl Http {
    /// Makes a client. Opens no connection.
    ///
    /// # Errors
    /// [`HttpError`] when the address is none, plain HTTP would leave the machine without being
    /// allowed to, or TLS cannot be set up.
    pub fn new(options: &HttpOptions) -> Result<Self, HttpError> {
        let base = parse_address(&options.server)?;
        let loopback = is_loopback(&base);
        if base.scheme() == "http" && !loopback && !options.allow_plain_http {
            return Err(HttpError::PlainHttp(options.server.clone()));
        }
        // Fails when a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("coditect/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers(options.device))
            .redirect(reqwest::redirect::Policy::none())
            .no_zstd()
            .connect_timeout(Duration::from_millis(options.connect_timeout_ms))
            .read_timeout(Duration::from_millis(options.read_timeout_ms))
            .timeout(Duration::from_millis(options.request_timeout_ms));
        if let Some(path) = &options.ca_cert {
            builder = builder.tls_certs_merge(authorities(path)?);
        }
        if loopback {
            builder = builder.no_proxy();
        }
        Ok(Self {
            client: builder.build().map_err(HttpError::Setup)?,
            base,
            clock: options.clock,
            sent: Arc::default(),
            received: Arc::default(),
        })
    }

    /// Returns the server's address in one spelling, without a slash at its end.
    #[must_use]
    pub fn server(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    /// Returns the bytes so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.counters().read()
    }

    /// Returns the counters of its bytes, to look at while it works.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            sent: Arc::clone(&self.sent),
            received: Arc::clone(&self.received),
        }
    }

    /// Posts a JSON body and reads a JSON reply.
    ///
    /// # Errors
    /// [`Failure`], as [`describe`] tells them apart.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &[u8],
        token: Option<&str>,
    ) -> Result<T, Failure> {
        let reply = self.send(path, body, token).await?;
        outcome::decode(&reply)
    }

    /// Posts a JSON body and returns a reply that is a success.
    ///
    /// # Errors
    /// [`Failure`] for every other reply, and for none.
    pub async fn send(
        &self,
        path: &str,
        body: &[u8],
        token: Option<&str>,
    ) -> Result<Reply, Failure> {
        let reply = self.exchange(Method::POST, path, Some(body), token).await?;
        outcome::check(reply)
    }

    /// Reads a JSON document.
    ///
    /// # Errors
    /// [`Failure`] as for a post.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        token: Option<&str>,
    ) -> Result<T, Failure> {
        let reply = self.exchange(Method::GET, path, None, token).await?;
        outcome::decode(&outcome::check(reply)?)
    }

    /// Reads what a path names, whatever it is.
    ///
    /// # Errors
    /// [`Failure`] for every reply that is no success, and for none.
    pub async fn fetch(&self, path: &str, token: Option<&str>) -> Result<Reply, Failure> {
        let reply = self.exchange(Method::GET, path, None, token).await?;
        outcome::check(reply)
    }

    /// Puts a JSON document at a path.
    ///
    /// # Errors
    /// [`Failure`] as for a post.
    pub async fn put(&self, path: &str, body: &[u8], token: Option<&str>) -> Result<(), Failure> {
        let reply = self.exchange(Method::PUT, path, Some(body), token).await?;
        outcome::check(reply).map(drop)
    }

    /// Deletes what a path names.
    ///
    /// # Errors
    /// [`Failure`] as for a post.
    pub async fn delete(&self, path: &str, token: Option<&str>) -> Result<(), Failure> {
        let reply = self.exchange(Method::DELETE, path, None, token).await?;
        outcome::check(reply).map(drop)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&[u8]>,
        token: Option<&str>,
    ) -> Result<Reply, Failure> {
        let url = format!("{}{path}", self.server());
        let mut request = self.client.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(clock) = self.clock {
            request = request.header(DEVICE_TIME_HEADER, clock());
        }
        if let Some(body) = body {
            let (body, compressed) = compress(body);
            self.sent.fetch_add(body.len() as u64, Ordering::Relaxed);
            request = request.header(CONTENT_TYPE, "application/json").body(body);
            if compressed {
                request = request.header(CONTENT_ENCODING, "zstd");
            }
        }
        tracing::trace!(target: "coditect::http", path, "sending");
        let reply = match request.send().await {
            Ok(response) => self.read(response).await,
            Err(error) => Err(outcome::unreachable_server(&error)),
        };
        log_request(path, &reply);
        reply
    }

    async fn read(&self, mut response: reqwest::Response) -> Result<Reply, Failure> {
        let text = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let content_type = text("content-type").unwrap_or_default();
        let encoding = text("content-encoding");
        let mut reply = Reply {
            status: response.status().as_u16(),
            json: content_type.contains("json"),
            retry_after: text("retry-after").and_then(|seconds| seconds.parse().ok()),
            date_ms: text("date").and_then(|date| {
                let date = chrono::DateTime::parse_from_rfc2822(&date).ok()?;
                Some(date.timestamp_millis())
            }),
            location: text("location"),
            body: Vec::new(),
        };
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| outcome::unreachable_server(&error))?
        {
            self.received
                .fetch_add(chunk.len() as u64, Ordering::Relaxed);
            if reply.body.len() + chunk.len() > REPLY_BYTES_MAX {
                return Err(Failure::Offline("the reply is too large".to_owned()));
            }
            reply.body.extend_from_slice(&chunk);
        }
        if encoding.as_deref() == Some("zstd") {
            reply.body = decompress(&reply.body)
                .map_err(|error| Failure::Offline(format!("the reply cannot be read: {error}")))?;
        }
        Ok(reply)
    }
}

fn log_request(path: &str, reply: &Result<Reply, Failure>) {
    match reply {
        Ok(reply) => {
            tracing::info!(
                target: "coditect::http", path, status = reply.status,
                body_bytes = reply.body.len(), "request"
            );
        }
        Err(failure) => {
            let reason = describe(failure);
            tracing::warn!(target: "coditect::http", path, reason, "request failed");
        }
    }
}

fn headers(device: Option<DeviceId>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json, application/problem+json");
    headers.insert(ACCEPT, json);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("zstd"));
    if let Some(device) = device.and_then(|id| HeaderValue::try_from(id.to_string()).ok()) {
        headers.insert("x-device-id", device);
    }
    headers
}

/// Reads the authorities in a PEM file.
fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, HttpError> {
    let text = std::fs::read(path).map_err(|source| HttpError::AuthorityFile {
        path: path.to_owned(),
        source,
    })?;
    match reqwest::Certificate::from_pem_bundle(&text) {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(HttpError::NoAuthority(path.to_owned())),
    }
}

fn parse_address(address: &str) -> Result<Url, HttpError> {
    let refuse = |reason: &str| HttpError::Address {
        address: address.to_owned(),
        reason: reason.to_owned(),
    };
    let url = Url::parse(address).map_err(|error| refuse(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("it must begin with https:// or http://"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(refuse("it names no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("it must not contain a name or password"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("it must end after the host and port"));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn compress(body: &[u8]) -> (Vec<u8>, bool) {
    if body.len() <= COMPRESS_BYTES_MIN {
        return (body.to_vec(), false);
    }
    let packed = if body.len() < LARGE_BYTES_MIN {
        zstd::bulk::compress(body, COMPRESSION_LEVEL)
    } else {
        compress_large(body)
    };
    match packed {
        Ok(compressed) if compressed.len() < body.len() => (compressed, true),
        _ => (body.to_vec(), false),
    }
}

/// Looks back over the whole body: conversations repeat what their tools read.
fn compress_large(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LARGE_LEVEL)?;
    encoder.set_pledged_src_size(Some(body.len() as u64))?;
    encoder.window_log(WINDOW_LOG)?;
    encoder.long_distance_matching(true)?;
    std::io::Write::write_all(&mut encoder, body)?;
    encoder.finish()
}

fn decompress(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let limit = REPLY_BYTES_MAX as u64;
    let mut out = Vec::new();
    let decoder = zstd::stream::read::Decoder::with_buffer(body)?;
    decoder.take(limit + 1).read_to_end(&mut out)?;
    if out.len() as u64 > limit {
        return Err(std::io::Error::other("it is too large"));
    }
    Ok(out)
}

/// Returns whether a status says that the server is there but cannot work now. A fault of the
/// server is no refusal of the rows: it must not park them.
pub(crate) fn is_absent(status: u16) -> bool {
    matches!(
        StatusCode::from_u16(status),
        Ok(StatusCode::REQUEST_TIMEOUT
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT)
    )
}

#[cfg(test)]
mod tests;
