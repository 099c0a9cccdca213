//! HTTPS by certificate files: encrypted, reloaded without dropping anybody, nothing but TLS.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::response::IntoResponse as _;
use axum::routing::get;
use coditect_server::layers::{Encrypted, Peer};
use coditect_server::server;
use coditect_server::tls::{Tls, TlsFiles};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::http;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/tls")
        .join(name)
}

/// A folder with the pair in service, as a program that renews certificates keeps it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(name: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.place(name);
        folder
    }

    fn files(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.0.path().join("tls.pem"),
            key: self.0.path().join("tls.key"),
        }
    }

    fn place(&self, name: &str) {
        let files = self.files();
        fs::copy(fixture(&format!("{name}.pem")), files.certificate).unwrap();
        fs::copy(fixture(&format!("{name}.key")), files.key).unwrap();
    }
}

struct Listening {
    address: SocketAddr,
    tls: Arc<Tls>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

/// Serves how each request came.
async fn listen(folder: &Folder) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Arc::new(Tls::load(folder.files()).unwrap());
    let router = axum::Router::new().route(
        "/",
        get(|request: axum::extract::Request| async move {
            assert!(request.extensions().get::<Peer>().is_some());
            match request.extensions().get::<Encrypted>() {
                Some(_) => "by tls".into_response(),
                None => "in the clear".into_response(),
            }
        }),
    );
    let (stop, stopped) = oneshot::channel();
    let served = Arc::clone(&tls);
    let task = tokio::spawn(async move {
        server::serve(listener, Some(served), router, &http(), async {
            stopped.await.unwrap();
        })
        .await;
    });
    Listening {
        address,
        tls,
        stop,
        task,
    }
}

async fn connect(address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(fixture("authority.pem")).unwrap();
    roots.add(authority).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Returns the certificate that the other end showed.
fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn certificate(name: &str) -> Vec<u8> {
    CertificateDer::from_pem_file(fixture(&format!("{name}.pem")))
        .unwrap()
        .to_vec()
}

/// Asks on an open connection, which stays open.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut reply = String::new();
    while !reply.ends_with("by tls") && !reply.ends_with("in the clear") {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        reply.push(char::from(byte[0]));
    }
    reply.rsplit("\r\n\r\n").next().unwrap().to_owned()
}

#[tokio::test]
async fn new_certificate_is_served_and_open_connections_go_on() {
    let folder = Folder::with("first");
    let server = listen(&folder).await;
    let mut old = connect(server.address).await.unwrap();
    assert_eq!(ask(&mut old).await, "by tls");
    assert_eq!(shown(&old), certificate("first"));

    folder.place("second");
    server.tls.reload().unwrap();
    let mut new = connect(server.address).await.unwrap();
    assert_eq!(shown(&new), certificate("second"));
    assert_eq!(ask(&mut new).await, "by tls");
    assert_eq!(ask(&mut old).await, "by tls", "the old connection goes on");

    // A pair that does not fit leaves the one in service.
    fs::copy(fixture("first.key"), folder.files().key).unwrap();
    assert!(server.tls.reload().is_err());
    let still = connect(server.address).await.unwrap();
    assert_eq!(shown(&still), certificate("second"));
    drop((old, new, still));
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
}

#[tokio::test]
async fn plain_http_gets_no_answer_and_hinders_nobody() {
    let folder = Folder::with("first");
    let server = listen(&folder).await;
    // One that says nothing, and one that speaks plain HTTP.
    let silent = TcpStream::connect(server.address).await.unwrap();
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    plain.write_all(request).await.unwrap();
    let mut reply = Vec::new();
    // The other end may close before everything was read.
    let _ = plain.read_to_end(&mut reply).await;
    assert!(!String::from_utf8_lossy(&reply).contains("HTTP/1.1"));
    let mut stream = connect(server.address).await.unwrap();
    assert_eq!(ask(&mut stream).await, "by tls");
    drop((silent, stream));
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
}
