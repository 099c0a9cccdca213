//! An object store in a process of its own, so that a rig can end it: the S3 API over a folder.
//! Prints `ready PORT`; ends when its standard input does, that is with whoever started it.
//!
//!     object_store FOLDER PORT

use std::path::PathBuf;

use tokio::net::TcpListener;

#[tokio::main]
#[expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program of the rig: it says where it is, and a failure is the rig's"
)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap());
    let port: u16 = arguments.next().unwrap().parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    println!("ready {}", listener.local_addr().unwrap().port());
    std::thread::spawn(|| {
        let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(i32::from(ended.is_err()));
    });
    coditect_testkit::serve_s3(listener, folder).await;
}
