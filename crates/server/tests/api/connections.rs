//! What needs a connection: headers, proxies, the order of stopping.

use std::net::SocketAddr;

use axum::http::Request;
use coditect_protocol::ErrorCode;
use coditect_server::config::HttpConfig;
use coditect_server::layers::Peer;
use coditect_server::server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{Reply, TestApp, get, http};

async fn ask(app: &TestApp, peer: &str, headers: &[(&'static str, &str)]) -> Reply {
    let mut request: Request<_> = get("/health/live");
    let peer: SocketAddr = format!("{peer}:4000").parse().unwrap();
    request.extensions_mut().insert(Peer(peer));
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    app.send(request).await
}

#[tokio::test]
async fn other_machines_need_https_through_a_trusted_proxy() {
    let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    let app = TestApp::start_with(HttpConfig {
        trusted_proxies,
        ..http()
    })
    .await;
    assert_eq!(ask(&app, "127.0.0.1", &[]).await.status, 200);
    let forwarded = [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "8.8.8.8"),
    ];
    assert_eq!(ask(&app, "10.1.2.3", &forwarded).await.status, 200);
    // Anybody can write the headers; only the proxy's count.
    ask(&app, "9.9.9.9", &forwarded)
        .await
        .problem(ErrorCode::PermissionDenied);
    ask(&app, "9.9.9.9", &[])
        .await
        .problem(ErrorCode::PermissionDenied);
    let plain = [
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "8.8.8.8"),
    ];
    ask(&app, "10.1.2.3", &plain)
        .await
        .problem(ErrorCode::PermissionDenied);
}

#[tokio::test]
async fn operator_may_ask_for_plain_http() {
    let app = TestApp::start_with(HttpConfig {
        insecure_listen: true,
        ..http()
    })
    .await;
    assert_eq!(ask(&app, "9.9.9.9", &[]).await.status, 200);
}

struct Listening {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn listen(app: &TestApp) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = app.router.clone();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        server::serve(listener, None, router, &http(), async {
            stopped.await.unwrap();
        })
        .await;
    });
    Listening {
        address,
        stop,
        task,
    }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn request_in_flight_finishes_when_the_server_stops() {
    let app = TestApp::start().await;
    let server = listen(&app).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let body = "{\"license_key\":\"x\"}";
    let head = format!(
        "POST /api/v1/auth/license/ HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // "100 Continue" comes when the handler reads the body: the request is in flight.
    let mut continued = [0; 25];
    stream.read_exact(&mut continued).await.unwrap();
    assert!(continued.starts_with(b"HTTP/1.1 100"));
    server.stop.send(()).unwrap();
    // No more connections once the listener is gone.
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(body.as_bytes()).await.unwrap();
    let reply = read_all(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 401"), "{reply}");
    server.task.await.unwrap();
}

#[tokio::test]
async fn oversized_headers_are_refused() {
    let app = TestApp::start().await;
    let server = listen(&app).await;
    let long = format!("x-long: {}\r\n", "x".repeat(64 * 1024));
    let many: String = (0..100).map(|n| format!("x-{n}: 1\r\n")).collect();
    for headers in [long, many] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let text = format!("GET /health/live HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        // The server may close before it has read everything.
        let _ = stream.write_all(text.as_bytes()).await;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 431");
    }
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
}
