//! The WebSocket over which the server says that streams moved: connecting through the HTTP
//! client, so that authorities, proxies and limits are the same, and again whenever it breaks.

use std::time::Duration;

use coditect_core::backoff;
use coditect_core::sync::Failure;
use coditect_local_store::Random;
use coditect_protocol::limits::HINT_PING_MS;
use coditect_protocol::wire::hints::{Hint, HintMessage};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::http::Upgraded;
use crate::transport::{HttpTransport, Transport as _};

const PATH: &str = "/api/v1/sync/hints";
/// Bytes of one message; the first names every stream.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// A connection is given up when it was silent for so long: two pings went missing.
const SILENCE_MAX: Duration = Duration::from_millis(HINT_PING_MS * 5 / 2);

/// What the connection brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HintEvent {
    /// It stands; the heads of all streams that hold anything.
    Connected(Vec<Hint>),
    /// Streams moved.
    Hints(Vec<Hint>),
    /// It broke, or could not be made; another try follows.
    Lost(String),
}

/// Keeps a connection for hints and tells `events` what it brings, until nobody listens any
/// more. After a failure it waits: longer each time, by a random share, and not at all when
/// only the token had expired.
pub async fn follow_hints(
    mut transport: HttpTransport,
    events: mpsc::Sender<HintEvent>,
    mut random: Random,
) {
    let mut attempt = 0;
    while !events.is_closed() {
        let failure = match connect(&mut transport).await {
            Ok(mut socket) => {
                let outcome = listen(&mut socket, &events, &mut attempt).await;
                let Err(reason) = outcome else { return };
                Failure::Offline(reason)
            }
            Err(failure) => failure,
        };
        let reason = crate::http::describe(&failure);
        tracing::info!(target: "coditect::hints", reason, "no connection for hints");
        if events.send(HintEvent::Lost(reason)).await.is_err() {
            return;
        }
        let wait_ms = match &failure {
            Failure::RateLimited(seconds, _) => seconds.saturating_mul(1_000),
            _ => backoff::delay_ms(attempt, random.bits()),
        };
        attempt = attempt.saturating_add(1);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            () = events.closed() => return,
        }
    }
}

type Socket = WebSocketStream<Upgraded>;

/// Connects; with a new token when the old one is not good any more.
async fn connect(transport: &mut HttpTransport) -> Result<Socket, Failure> {
    let stream = match transport.upgrade(PATH).await {
        Err(Failure::Unauthenticated(problem)) => {
            if !transport.authenticate().await {
                return Err(Failure::Unauthenticated(problem));
            }
            transport.upgrade(PATH).await?
        }
        upgraded => upgraded?,
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    Ok(WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await)
}

/// Reads until the connection ends: an error says why; none when nobody listens any more.
async fn listen(
    socket: &mut Socket,
    events: &mpsc::Sender<HintEvent>,
    attempt: &mut u32,
) -> Result<(), String> {
    let mut first = true;
    loop {
        let message = tokio::select! {
            message = tokio::time::timeout(SILENCE_MAX, socket.next()) => message,
            () = events.closed() => return Ok(()),
        };
        let message = message.map_err(|_| "the server has gone silent".to_owned())?;
        let message = message.ok_or_else(|| "the connection broke".to_owned())?;
        match message.map_err(|error| error.to_string())? {
            Message::Text(text) => {
                let message: HintMessage = serde_json::from_str(&text)
                    .map_err(|error| format!("the server's hint is not understood: {error}"))?;
                let event = if first {
                    HintEvent::Connected(message.hints)
                } else {
                    HintEvent::Hints(message.hints)
                };
                (first, *attempt) = (false, 0);
                if events.send(event).await.is_err() {
                    return Ok(());
                }
            }
            Message::Close(frame) => {
                let reason = frame.map(|frame| frame.reason.to_string());
                return Err(reason.unwrap_or_else(|| "the server closed".to_owned()));
            }
            _ => {}
        }
    }
}
