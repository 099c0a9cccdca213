//! HTTP/1.1 over one connection, with as little work as possible: the load generator shares the
//! cores with what it measures. No compression, no redirects, no chunked replies.

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection that stays open.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    host: String,
    request: Vec<u8>,
    reply: Vec<u8>,
}

/// A reply that was read whole.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    /// HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: &'a [u8],
}

impl Reply<'_> {
    /// Returns the body of a success.
    pub(crate) fn ok(&self) -> anyhow::Result<&[u8]> {
        if self.status == 200 {
            return Ok(self.body);
        }
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]);
        bail!("the server answered {}: {text}", self.status)
    }
}

impl Connection {
    /// Connects to the server of a URL such as `http://127.0.0.1:7420`.
    pub(crate) async fn open(url: &str) -> anyhow::Result<Self> {
        let host = url.trim_start_matches("http://").trim_end_matches('/');
        let stream = TcpStream::connect(host)
            .await
            .with_context(|| format!("cannot connect to {host}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            host: host.to_owned(),
            request: Vec::new(),
            reply: Vec::new(),
        })
    }

    /// Posts a JSON body, given in pieces.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        access: Option<&str>,
        body: &[&[u8]],
    ) -> anyhow::Result<Reply<'_>> {
        let length: usize = body.iter().map(|piece| piece.len()).sum();
        let bearer = access.map(|token| format!("authorization: Bearer {token}\r\n"));
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{}\
             content-length: {length}\r\n\r\n",
            self.host,
            bearer.unwrap_or_default()
        );
        self.request.clear();
        self.request.extend_from_slice(head.as_bytes());
        for piece in body {
            self.request.extend_from_slice(piece);
        }
        self.stream.write_all(&self.request).await?;
        self.read().await
    }

    async fn read(&mut self) -> anyhow::Result<Reply<'_>> {
        self.reply.clear();
        let head = loop {
            if let Some(head) = Head::parse(&self.reply)? {
                break head;
            }
            self.more().await?;
        };
        let whole = head.bytes + head.content_length;
        self.reply.reserve(whole.saturating_sub(self.reply.len()));
        while self.reply.len() < whole {
            self.more().await?;
        }
        Ok(Reply {
            status: head.status,
            body: &self.reply[head.bytes..whole],
        })
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        self.reply.reserve(16 * 1024);
        let read = self.stream.read_buf(&mut self.reply).await?;
        if read == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }
}

/// What is needed of a reply's head.
#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    bytes: usize,
    content_length: usize,
}

impl Head {
    /// Reads the head; `None` while it is not whole.
    fn parse(bytes: &[u8]) -> anyhow::Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&bytes[..end]).context("a reply's head is no text")?;
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let wanted = name.eq_ignore_ascii_case("content-length");
            wanted.then(|| value.trim().parse().ok()).flatten()
        });
        Ok(Some(Self {
            status: status.context("a reply without status")?,
            bytes: end + 4,
            content_length: length.context("a reply without content-length")?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_read_once_it_is_whole() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nx: y\r\n\r\nbody";
        assert_eq!(Head::parse(&text[..40]).unwrap(), None);
        let head = Head::parse(text).unwrap().unwrap();
        assert_eq!((head.status, head.content_length), (200, 12));
        assert_eq!(&text[head.bytes..], b"body");
    }

    #[test]
    fn head_without_length_is_refused() {
        let text = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert!(Head::parse(text).is_err());
    }
}
