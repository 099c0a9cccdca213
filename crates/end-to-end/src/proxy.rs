//! A TCP proxy between devices and a server that can stop an exchange at a chosen byte: what a
//! kill meets is then certain, not lucky. Knows just enough HTTP/1.1 to see where a request and
//! its reply end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Where an exchange stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// The server has all of the request but its last byte.
    RequestCut,
    /// The server has answered, the device has nothing of the answer.
    ReplyHeld,
    /// The device has half of the answer.
    ReplyCut,
    /// Nowhere: the whole answer was handed over just now.
    ReplyDelivered,
}

/// A proxy on a port of its own, for as long as the process lives.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    armed: Armed,
    requests: Requests,
}

/// What devices have sent, request by request.
type Requests = Arc<Mutex<Option<Vec<Vec<u8>>>>>;

type Armed = Arc<Mutex<Option<Trap>>>;

/// A stop that waits for its exchange.
#[derive(Debug)]
struct Trap {
    path: &'static str,
    stop: Stop,
    reached: Sender<()>,
    released: Receiver<Option<Stop>>,
}

/// The test's side of a stop. Dropped, it ends the connection, as a network that breaks does.
#[derive(Debug)]
pub struct Held {
    reached: Receiver<()>,
    release: Sender<Option<Stop>>,
}

impl Proxy {
    /// Starts a proxy in front of a server's address, such as `http://127.0.0.1:8080`.
    ///
    /// # Panics
    /// When no port is free or the address is none.
    #[must_use]
    pub fn start(server: &str) -> Self {
        Self::start_with(server, None)
    }

    /// Starts a proxy that keeps what devices send.
    ///
    /// # Panics
    /// As [`Proxy::start`].
    #[must_use]
    pub fn start_recording(server: &str) -> Self {
        Self::start_with(server, Some(Vec::new()))
    }

    fn start_with(server: &str, requests: Option<Vec<Vec<u8>>>) -> Self {
        let server: SocketAddr = server.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let armed = Armed::default();
        let requests: Requests = Arc::new(Mutex::new(requests));
        let (shared, kept) = (Arc::clone(&armed), Arc::clone(&requests));
        thread::spawn(move || {
            for device in listener.incoming().map_while(Result::ok) {
                let (armed, requests) = (Arc::clone(&shared), Arc::clone(&kept));
                thread::spawn(move || {
                    // A connection that breaks is what this is for.
                    serve(device, server, &armed, &requests).unwrap_or_default();
                });
            }
        });
        Self {
            address,
            armed,
            requests,
        }
    }

    /// Returns the address for devices.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the requests that a recording proxy has carried, heads and bodies as they were
    /// sent.
    #[must_use]
    pub fn requests(&self) -> Vec<Vec<u8>> {
        let kept = self.requests.lock();
        let kept = kept.unwrap_or_else(PoisonError::into_inner);
        kept.clone().unwrap_or_default()
    }

    /// Stops the next exchange on a path; an earlier stop that met nothing is forgotten.
    #[must_use]
    pub fn arm(&self, path: &'static str, stop: Stop) -> Held {
        let (reached_sender, reached) = mpsc::channel();
        let (release, released) = mpsc::channel();
        *lock(&self.armed) = Some(Trap {
            path,
            stop,
            reached: reached_sender,
            released,
        });
        Held { reached, release }
    }
}

impl Held {
    /// Waits until the exchange is at its stop. Returns false when `alive` says that nobody is
    /// left who could get there.
    pub fn wait(&self, mut alive: impl FnMut() -> bool) -> bool {
        loop {
            match self.reached.recv_timeout(Duration::from_millis(20)) {
                Ok(()) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
                // It may have got there between the two questions.
                Err(RecvTimeoutError::Timeout) if !alive() => {
                    return self.reached.try_recv().is_ok();
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Lets the exchange go on to its end.
    pub fn forward(self) {
        // Nobody is there when the connection has broken meanwhile.
        let _ = self.release.send(None);
    }

    /// Lets the exchange go on to a later stop. A reply that never comes, because the server is
    /// gone, counts as one that is held.
    pub fn forward_to(&self, stop: Stop) {
        let _ = self.release.send(Some(stop));
    }
}

fn lock(armed: &Armed) -> MutexGuard<'_, Option<Trap>> {
    armed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries exchange after exchange until one side closes.
fn serve(
    device: TcpStream,
    server: SocketAddr,
    armed: &Armed,
    requests: &Requests,
) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    let result = carry(&device, &server, armed, requests);
    let _ = device.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
    result
}

fn carry(
    device: &TcpStream,
    server: &TcpStream,
    armed: &Armed,
    requests: &Requests,
) -> io::Result<()> {
    let (mut from_device, mut from_server) = (BufReader::new(device), BufReader::new(server));
    let (mut to_device, mut to_server) = (device, server);
    while let Some(request) = read_message(&mut from_device)? {
        let kept = requests.lock();
        if let Some(kept) = &mut *kept.unwrap_or_else(PoisonError::into_inner) {
            kept.push(request.clone());
        }
        let mut trap = take(armed, &request);
        let cut = usize::from(is_at(trap.as_ref(), Stop::RequestCut));
        let (most, last) = request.split_at(request.len() - cut);
        to_server.write_all(most)?;
        if cut == 1 && !stay(&mut trap) {
            return Ok(());
        }
        // A server that is gone takes nothing and answers nothing.
        let sent = to_server.write_all(last);
        let reply = sent.and_then(|()| read_message(&mut from_server));
        let Ok(Some(reply)) = reply else {
            stay(&mut trap);
            return Ok(());
        };
        let mut given = 0;
        while given < reply.len() || trap.is_some() {
            let until = match trap.as_ref().map(|trap| trap.stop) {
                Some(Stop::ReplyHeld) => given,
                Some(Stop::ReplyCut) => given.max(reply.len() / 2),
                _ => reply.len(),
            };
            to_device.write_all(&reply[given..until])?;
            given = until;
            if !stay(&mut trap) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn is_at(trap: Option<&Trap>, stop: Stop) -> bool {
    trap.is_some_and(|trap| trap.stop == stop)
}

/// Says that the stop is reached, if there is one, and waits; false when the connection shall
/// end. The trap is left with its next stop, if it has one.
fn stay(trap: &mut Option<Trap>) -> bool {
    let Some(set) = trap else { return true };
    if set.reached.send(()).is_err() {
        return false;
    }
    let Ok(next) = set.released.recv() else {
        return false;
    };
    match next {
        Some(stop) => set.stop = stop,
        None => *trap = None,
    }
    true
}

/// Takes the trap if it is for this request.
fn take(armed: &Armed, request: &[u8]) -> Option<Trap> {
    let line = request.split(|byte| *byte == b'\r').next()?;
    let path = std::str::from_utf8(line).ok()?.split(' ').nth(1)?;
    lock(armed).take_if(|trap| trap.path == path)
}

/// Reads a request or a reply with its body; none at the end of the connection.
fn read_message(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    let (mut body_bytes, mut chunked) = (0, false);
    loop {
        let start = message.len();
        if from.read_until(b'\n', &mut message)? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&message[start..]).to_ascii_lowercase();
        if line.trim().is_empty() {
            break;
        }
        if let Some(length) = line.strip_prefix("content-length:") {
            body_bytes = length.trim().parse().map_err(io::Error::other)?;
        }
        chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
    }
    if !chunked {
        append(from, &mut message, body_bytes)?;
        return Ok(Some(message));
    }
    loop {
        let start = message.len();
        if from.read_until(b'\n', &mut message)? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&message[start..]).into_owned();
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        append(from, &mut message, size + 2)?;
        if size == 0 {
            return Ok(Some(message));
        }
    }
}

/// Appends exactly so many bytes.
fn append(from: &mut impl BufRead, message: &mut Vec<u8>, bytes: usize) -> io::Result<()> {
    let read = from.take(bytes as u64).read_to_end(message)?;
    if read == bytes {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every request with its length, in chunks.
    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut from = BufReader::new(&connection);
                    while let Ok(Some(request)) = read_message(&mut from) {
                        let text = request.len().to_string();
                        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked";
                        let body = format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
                        let reply = format!("{head}\r\n\r\n{body}");
                        (&connection).write_all(reply.as_bytes()).unwrap();
                    }
                });
            }
        });
        address
    }

    const REQUEST: &[u8] = b"POST /here HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc";

    #[test]
    fn exchange_stops_where_it_is_told_and_goes_on_or_ends() {
        let proxy = Proxy::start(&format!("http://{}", server()));
        for stop in [Stop::RequestCut, Stop::ReplyHeld, Stop::ReplyCut] {
            for forward in [true, false] {
                let connection = TcpStream::connect(proxy.address).unwrap();
                let mut from = BufReader::new(&connection);
                // Another path passes.
                let held = proxy.arm("/here", stop);
                let other = b"GET /there HTTP/1.1\r\n\r\n";
                (&connection).write_all(other).unwrap();
                let reply = read_message(&mut from).unwrap().unwrap();
                assert!(String::from_utf8_lossy(&reply).contains("\r\n23\r\n"));
                (&connection).write_all(REQUEST).unwrap();
                assert!(held.wait(|| true), "{stop:?}");
                if forward {
                    held.forward_to(Stop::ReplyDelivered);
                    assert!(held.wait(|| true), "{stop:?}");
                    held.forward();
                    let reply = read_message(&mut from).unwrap().unwrap();
                    assert!(String::from_utf8_lossy(&reply).contains("\r\n45\r\n"));
                } else {
                    drop(held);
                    let mut rest = Vec::new();
                    let _ = from.read_to_end(&mut rest);
                    assert_eq!(rest.is_empty(), stop != Stop::ReplyCut, "{stop:?}");
                    assert!(!rest.ends_with(b"\r\n\r\n0"), "{stop:?}");
                }
            }
        }
    }
}
