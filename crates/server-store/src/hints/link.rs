//! The connection between instances: `LISTEN` and `NOTIFY`, again and again.

use std::time::Duration;

use coditect_core::backoff;
use futures_util::stream::poll_fn;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::watch;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls};

use super::{Outbox, Sink, payload};
use crate::StoreError;
use crate::credential::random_bytes;
use crate::db::Param;
use crate::db::encryption::{self, Target};

const LISTEN: &str = "listen coditect_hints";
const NOTIFY: &str = "select pg_notify('coditect_hints', $1)";

/// What is known about the connection to the other instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// There is none now: news of others has to be looked for.
    Down,
    /// Others are heard. The number grows with every new connection: what was told in between
    /// was missed.
    Up(u64),
}

/// Tells other instances what `outbox` holds and gives `deliver` what they tell, until it is
/// dropped. A connection that breaks is made again, after delays that grow.
pub async fn follow(url: String, outbox: Outbox, deliver: Sink, link: watch::Sender<Link>) {
    let sender = match random_bytes::<8>() {
        Ok(bytes) => format!("{:016x}", u64::from_be_bytes(bytes)),
        Err(error) => {
            tracing::error!(%error, "no name for this instance: hints stay within it");
            return;
        }
    };
    let (mut attempt, mut connections) = (0, 0);
    loop {
        let up = || {
            connections += 1;
            link.send_replace(Link::Up(connections));
        };
        let ended = run(&url, &sender, &outbox, &deliver, up).await;
        let was_up = matches!(link.send_replace(Link::Down), Link::Up(_));
        attempt = if was_up { 0 } else { attempt + 1 };
        let error = ended.err().map(|error| error.to_string());
        tracing::warn!(error, "no connection for hints between instances");
        let random = random_bytes::<8>().map_or(0, u64::from_be_bytes);
        tokio::time::sleep(Duration::from_millis(backoff::delay_ms(attempt, random))).await;
    }
}

/// One connection, from its start to its end.
async fn run(
    url: &str,
    sender: &str,
    outbox: &Outbox,
    deliver: &Sink,
    up: impl FnOnce(),
) -> Result<(), StoreError> {
    let Target { mut config, tls } = encryption::read(url)?;
    config.application_name("coditect-server hints");
    match tls {
        Some(tls) => {
            let (client, connection) = config.connect(tls).await?;
            let talk = talk(&client, sender, outbox, up);
            both(talk, messages(connection), sender, deliver).await
        }
        None => {
            let (client, connection) = config.connect(NoTls).await?;
            let talk = talk(&client, sender, outbox, up);
            both(talk, messages(connection), sender, deliver).await
        }
    }
}

/// Returns the connection's messages; polling it is what moves its bytes.
fn messages<S, T>(
    mut connection: Connection<S, T>,
) -> impl Stream<Item = Result<AsyncMessage, tokio_postgres::Error>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    poll_fn(move |context| connection.poll_message(context))
}

/// Talks and hears until one of the two ends.
async fn both(
    talk: impl Future<Output = Result<(), StoreError>>,
    messages: impl Stream<Item = Result<AsyncMessage, tokio_postgres::Error>>,
    sender: &str,
    deliver: &Sink,
) -> Result<(), StoreError> {
    let hear = async {
        let mut messages = std::pin::pin!(messages);
        while let Some(message) = messages.next().await {
            if let AsyncMessage::Notification(told) = message? {
                let (from, heads) = payload::read(told.payload());
                if from != sender {
                    deliver(&heads);
                }
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = talk => ended,
        ended = hear => ended,
    }
}

async fn talk(
    client: &Client,
    sender: &str,
    outbox: &Outbox,
    up: impl FnOnce(),
) -> Result<(), StoreError> {
    client.batch_execute(LISTEN).await?;
    up();
    loop {
        // While a notification is out, further heads gather for the next one.
        let heads = outbox.take().await;
        for payload in payload::write(sender, &heads) {
            let params: [Param<'_>; 1] = [(&payload, Type::TEXT)];
            client.query_typed(NOTIFY, &params).await?;
        }
    }
}
