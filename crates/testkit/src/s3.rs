//! A server of the S3 API over a folder, for one test.

use std::path::PathBuf;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const ACCESS_KEY: &str = "AKIDFORTESTS";
const SECRET_KEY: &str = "secret-for-tests";

/// The server; it ends, and its folder goes, when this is dropped.
#[derive(Debug)]
pub struct S3 {
    endpoint: String,
    folder: TempDir,
    task: JoinHandle<()>,
}

impl S3 {
    /// Starts a server on a free port of this machine, with one bucket. Requests must be signed.
    pub async fn start(bucket: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(bucket)).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(serve_s3(listener, folder.path().to_owned()));
        Self {
            endpoint,
            folder,
            task,
        }
    }

    /// Returns what a client needs, under the names of the environment.
    #[must_use]
    pub fn options(&self) -> Vec<(String, String)> {
        s3_options(&self.endpoint)
    }

    /// Returns the folder whose folders are the buckets.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

/// Serves the S3 API over a folder whose folders are the buckets. Requests must be signed.
pub async fn serve_s3(listener: TcpListener, folder: PathBuf) {
    let mut service = S3ServiceBuilder::new(FileSystem::new(folder).unwrap());
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = service.build();
    while let Ok((socket, _)) = listener.accept().await {
        let service = service.clone();
        tokio::spawn(async move {
            let http = Builder::new(TokioExecutor::new());
            // A client that goes away is no error of the test.
            let _ = http.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

/// Returns what a client of [`serve_s3`] needs, under the names of the environment.
#[must_use]
pub fn s3_options(endpoint: &str) -> Vec<(String, String)> {
    [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_ENDPOINT", endpoint),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ALLOW_HTTP", "true"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.task.abort();
    }
}
