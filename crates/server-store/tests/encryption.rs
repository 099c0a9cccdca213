//! TLS to a PostgreSQL on another machine: a front that speaks it, before the tests' own.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use std::path::PathBuf;
use std::sync::Arc;

use coditect_server_store::{Db, DbSettings, migrations};
use coditect_testkit::TestDb;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_postgres::config::Host;
use tokio_rustls::TlsAcceptor;

/// What a client sends that asks for TLS: length 8, code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../server/tests/tls")
        .join(name)
}

/// Starts a front that takes connections by TLS only; returns its port.
async fn front(database: tokio_postgres::Config) -> u16 {
    let chain = CertificateDer::pem_file_iter(fixture("first.pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("first.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(relay(stream, acceptor.clone(), database.clone()));
        }
    });
    port
}

async fn relay(mut stream: TcpStream, acceptor: TlsAcceptor, database: tokio_postgres::Config) {
    let mut first = [0; 8];
    if stream.read_exact(&mut first).await.is_err() || first != SSL_REQUEST {
        return;
    }
    stream.write_all(b"S").await.unwrap();
    // A client that does not like the certificate leaves here.
    let Ok(mut outside) = acceptor.accept(stream).await else {
        return;
    };
    let port = database.get_ports().first().copied().unwrap_or(5432);
    let mut inside: Box<dyn Stream> = match &database.get_hosts()[0] {
        Host::Unix(folder) => {
            let socket = folder.join(format!(".s.PGSQL.{port}"));
            Box::new(UnixStream::connect(socket).await.unwrap())
        }
        Host::Tcp(host) => {
            let stream = TcpStream::connect((host.as_str(), port)).await;
            Box::new(stream.unwrap())
        }
    };
    // Either side may end it.
    let _ = copy_bidirectional(&mut outside, &mut inside).await;
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

#[tokio::test]
async fn connection_that_requires_tls_gets_it_verified() {
    let test = TestDb::new().await;
    let database: tokio_postgres::Config = test.settings().owner_url.parse().unwrap();
    let port = front(database.clone()).await;
    let (user, name) = (database.get_user().unwrap(), database.get_dbname().unwrap());
    let url =
        |host: &str, how: &str| format!("host={host} port={port} user={user} dbname={name} {how}");
    let connect = async |url: String| Db::connect(&DbSettings::new(url)).await;
    let file = fixture("authority.pem").display().to_string();
    let verified = format!("sslmode=verify-full sslrootcert={file}");
    let good = url("127.0.0.1", &verified);
    assert!(migrations::migrate(&good).await.unwrap().is_empty());
    // The owner is no member of the other roles, so each logs in by itself.
    let as_role = |role: &str| good.replace(&format!("user={user}"), &format!("user={role}"));
    let settings = DbSettings {
        app_url: Some(as_role("coditect_app")),
        system_url: Some(as_role("coditect_system")),
        ..DbSettings::new(good.clone())
    };
    Db::connect(&settings).await.unwrap().ping().await.unwrap();

    // Neither an authority that is not known, nor a certificate of somebody else.
    let other = format!(
        "sslmode=require sslrootcert={}",
        fixture("second.pem").display()
    );
    for wrong in [
        url("127.0.0.1", "sslmode=require"),
        url("127.0.0.1", &other),
        url("127.0.0.2", &verified),
        url("127.0.0.1", ""),
    ] {
        assert!(connect(wrong.clone()).await.is_err(), "{wrong}");
    }
}
