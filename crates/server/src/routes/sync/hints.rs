//! `GET /api/v1/sync/hints` (WebSocket)

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::response::Response;
use chrono::{DateTime, Utc};
use coditect_protocol::ErrorCode;
use coditect_protocol::limits::{HINT_CLIENT_BYTES_MAX, HINT_PING_MS};
use coditect_protocol::wire::hints::HintMessage;
use ring::rand::SecureRandom as _;
use tokio::time::{Duration, Instant, timeout};

use crate::app::hints::{self, Subscription, Woken};
use crate::auth::AuthenticatedUntil;
use crate::error::AppError;
use crate::openapi::{Operation, Reply};
use crate::state::AppState;

/// Bytes that a connection reads at once; clients send nothing but pongs.
const READ_BUFFER_BYTES: usize = 512;
/// Bytes that may wait for a client that does not read.
const WRITE_BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// Time in which a client must take a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// Pings that may go without a pong.
const SILENT_PINGS_MAX: u32 = 2;

pub(crate) const OPERATION: Operation = Operation {
    id: "hints",
    summary: "Say over a WebSocket how far the caller's streams have got, until the token expires",
    reply: Reply::Socket("HintMessage"),
    errors: &[ErrorCode::BadRequest, ErrorCode::RateLimited],
    ..Operation::AUTHENTICATED
};

/// A request that asks for a WebSocket; others are refused in the usual form.
pub(crate) struct Upgrade(WebSocketUpgrade);

impl FromRequestParts<AppState> for Upgrade {
    type Rejection = AppError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AppState,
    ) -> Result<Self, Self::Rejection> {
        let upgrade = WebSocketUpgrade::from_request_parts(parts, state).await;
        let upgrade = upgrade.map_err(|refused: WebSocketUpgradeRejection| {
            AppError::BadRequest(format!("this route speaks WebSocket: {refused}"))
        });
        upgrade.map(Self)
    }
}

pub(crate) async fn handle(
    State(state): State<AppState>,
    AuthenticatedUntil(caller, until): AuthenticatedUntil,
    Upgrade(upgrade): Upgrade,
) -> Result<Response, AppError> {
    let mut subscription = state.hints.subscribe(&caller)?;
    subscription.look(&state.db).await?;
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(HINT_CLIENT_BYTES_MAX)
        .max_frame_size(HINT_CLIENT_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let connection = Connection {
            socket,
            subscription,
            state,
            until,
            silent_pings: 0,
        };
        connection.run().await;
    }))
}

struct Connection {
    socket: WebSocket,
    subscription: Subscription,
    state: AppState,
    /// When the token expires.
    until: DateTime<Utc>,
    silent_pings: u32,
}

/// How a connection ends.
enum End {
    /// The client went away, or does not listen.
    Gone,
    /// We say why.
    Close(u16, &'static str),
}

impl Connection {
    async fn run(mut self) {
        let end = match self.serve().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        if let End::Close(code, reason) = end {
            let reason = reason.into();
            let close = Message::Close(Some(CloseFrame { code, reason }));
            // The client may be gone already.
            let _ = timeout(SEND_TIMEOUT, self.socket.send(close)).await;
        }
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        self.send_hints(true).await?;
        let mut ping_at = Instant::now() + Duration::from_millis(HINT_PING_MS);
        let mut look_at = Instant::now() + self.subscription.look_after(share());
        loop {
            let due = ping_at.min(look_at).min(self.expires_at());
            let woken = tokio::select! {
                message = self.socket.recv() => {
                    self.heard(message.and_then(Result::ok))?;
                    None
                }
                woken = self.subscription.woken() => Some(woken),
                () = tokio::time::sleep_until(due) => None,
            };
            match woken {
                Some(Woken::Hints) => self.send_hints(false).await?,
                Some(Woken::Look) => {
                    look_at = Instant::now() + self.subscription.look_delay(share());
                }
                Some(Woken::Stopping) => {
                    return Err(End::Close(close_code::AWAY, "the server is stopping"));
                }
                None => {}
            }
            self.check_token()?;
            let now = Instant::now();
            if now >= look_at {
                self.look().await?;
                look_at = Instant::now() + self.subscription.look_after(share());
            }
            if now >= ping_at {
                self.ping().await?;
                ping_at = Instant::now() + Duration::from_millis(HINT_PING_MS);
            }
        }
    }

    /// Returns when to look at the clock again because of the token.
    fn expires_at(&self) -> Instant {
        let left = self.until - self.state.clock.now();
        Instant::now()
            + left
                .to_std()
                .unwrap_or_default()
                .max(Duration::from_millis(50))
    }

    fn check_token(&self) -> Result<(), End> {
        if self.state.clock.now() < self.until {
            return Ok(());
        }
        Err(End::Close(
            close_code::POLICY,
            "the access token has expired",
        ))
    }

    fn heard(&mut self, message: Option<Message>) -> Result<(), End> {
        match message {
            Some(Message::Close(_)) | None => Err(End::Gone),
            Some(_) => {
                self.silent_pings = 0;
                Ok(())
            }
        }
    }

    async fn look(&mut self) -> Result<(), End> {
        match self.subscription.look(&self.state.db).await {
            Ok(()) => self.send_hints(false).await,
            Err(error) if hints::is_final(&error) => Err(End::Close(
                close_code::POLICY,
                "the credential is not valid any more",
            )),
            // The database is away; the next look may find it.
            Err(error) => {
                tracing::debug!(%error, "cannot look what a subscriber may read");
                Ok(())
            }
        }
    }

    async fn send_hints(&mut self, even_none: bool) -> Result<(), End> {
        let hints = self.subscription.take();
        if hints.is_empty() && !even_none {
            return Ok(());
        }
        let text = serde_json::to_string(&HintMessage { hints }).unwrap_or_default();
        self.send(Message::Text(text.into())).await
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.silent_pings >= SILENT_PINGS_MAX {
            return Err(End::Gone);
        }
        self.silent_pings += 1;
        self.send(Message::Ping(Default::default())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match timeout(SEND_TIMEOUT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Gone),
        }
    }
}

/// Returns a random share of 1. Without random numbers all look at once, which is only slower.
fn share() -> f64 {
    let mut byte = [0_u8];
    let _ = ring::rand::SystemRandom::new().fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
