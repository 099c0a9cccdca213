//! What a thousand idle connections for hints cost the server.
//!
//!     cargo run -p coditect-end-to-end --example idle_sockets
//!
//! Prints the server's resident memory before and after `IDLE_SOCKETS` (1,000) clients have
//! connected, and while a push is hinted to all of one person's.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a rig: it prints, or it fails"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use coditect_client::{CredentialFile, Paths};
use coditect_end_to_end::{Device, Server, process};

/// Connections of one person.
const PER_PERSON: usize = 50;

fn main() {
    let sockets = number("IDLE_SOCKETS", 1_000);
    let server = Server::start();
    let tenant = server.bootstrap("tenant_id");
    let people = sockets.div_ceil(PER_PERSON);
    let devices: Vec<Device> = (0..people)
        .map(|n| {
            let (_, license) = server.user(&tenant, &format!("{n}@idle.example"), "member");
            Device::linked(&server, &license)
        })
        .collect();
    let before = resident(&server);
    let mut open = Vec::new();
    for n in 0..sockets {
        open.push(connect(&server, &token(&devices[n / PER_PERSON])));
    }
    let after = resident(&server);
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    println!("server ({build}) before: {:.1} MB", megabytes(before));
    println!(
        "server with {sockets} idle clients: {:.1} MB",
        megabytes(after)
    );
    let each = (after.saturating_sub(before)) as f64 / sockets as f64;
    println!("each: {each:.1} KB");
    // One push to the organisation reaches all of them.
    let added = devices[0].run(&["decision", "add", "for all", "--scope", "org"]);
    assert_eq!(added.code, 0, "{}", added.stderr);
    devices[0].sync();
    for stream in &mut open {
        let text = frame(stream);
        assert!(text.contains("org:"), "{text}");
    }
    println!(
        "after one push was hinted to all: {:.1} MB",
        megabytes(resident(&server))
    );
}

fn token(device: &Device) -> String {
    let paths = Paths::new(device.home(), None).unwrap();
    let file = CredentialFile::new(paths.credentials_file());
    file.load().unwrap().unwrap().access_token
}

/// Opens a WebSocket and reads the first message.
fn connect(server: &Server, token: &str) -> TcpStream {
    let address = server.url().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "GET /api/v1/sync/hints HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(
        head.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&head)
    );
    frame(&mut stream);
    stream
}

/// Reads one text message; pings are passed over.
fn frame(stream: &mut TcpStream) -> String {
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut bytes = [0; 2];
                stream.read_exact(&mut bytes).unwrap();
                usize::from(u16::from_be_bytes(bytes))
            }
            short => usize::from(short),
        };
        let mut text = vec![0; length];
        stream.read_exact(&mut text).unwrap();
        if head[0] & 0x0f == 1 {
            return String::from_utf8(text).unwrap();
        }
    }
}

fn resident(server: &Server) -> u64 {
    let pid = server.pid().unwrap();
    process::status(pid, "VmRSS:").unwrap()
}

fn megabytes(kilobytes: u64) -> f64 {
    kilobytes as f64 / 1024.0
}

#[expect(clippy::disallowed_methods, reason = "the rig's own configuration")]
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}
