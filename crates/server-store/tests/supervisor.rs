//! The embedded PostgreSQL through its life: first start, later starts, crashes, orphans.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use coditect_server_store::embedded::{
    BinarySearch, EmbeddedError, EmbeddedOptions, EmbeddedPostgres, Lifetime, stop_detached,
};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// Returns a temporary folder that the unprivileged user may enter.
fn folder() -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    temp
}

#[expect(clippy::disallowed_methods, reason = "the tests' own configuration")]
fn options(temp: &TempDir) -> EmbeddedOptions {
    let mut options = EmbeddedOptions::new(temp.path().join("postgres"));
    let value = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    options.search = BinarySearch {
        explicit: value("CODITECT_POSTGRES_BIN").map(Into::into),
        home: value("HOME").map(Into::into),
        path: value("PATH"),
    };
    options
}

async fn connect(server: &EmbeddedPostgres) -> Client {
    let url = server.superuser_url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Runs `work` with a connection, outside of any runtime that the caller may have.
fn with_client<T>(server: &EmbeddedPostgres, work: impl AsyncFnOnce(Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { work(connect(server).await).await })
}

fn kill(pid: u32) {
    assert!(
        Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn data_is_there_after_a_stop_and_a_second_start() {
    let temp = folder();
    let server = EmbeddedPostgres::start(&options(&temp)).unwrap();
    with_client(&server, async |client| {
        client
            .batch_execute("create table kept (n int); insert into kept values (7)")
            .await
    })
    .unwrap();
    let pid = server.pid().unwrap();
    server.stop();
    assert!(!Path::new(&format!("/proc/{pid}/stat")).exists());
    let server = EmbeddedPostgres::start(&options(&temp)).unwrap();
    let n: i32 = with_client(&server, async |client| {
        client
            .query_typed_one("select n from kept", &[])
            .await
            .unwrap()
            .get(0)
    });
    assert_eq!(n, 7);
}

#[test]
fn server_is_durable_and_listens_on_its_socket_only() {
    let temp = folder();
    let server = EmbeddedPostgres::start(&options(&temp)).unwrap();
    let settings: Vec<String> = with_client(&server, async |client| {
        let names = [
            "fsync",
            "full_page_writes",
            "synchronous_commit",
            "listen_addresses",
        ];
        let mut values = Vec::new();
        for name in names {
            let row = client
                .query_typed_one(&format!("show {name}"), &[])
                .await
                .unwrap();
            values.push(row.get(0));
        }
        values
    });
    assert_eq!(settings, ["on", "on", "on", ""]);
    let mode = fs::metadata(temp.path().join("postgres"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn killed_server_comes_back_with_what_was_committed() {
    let temp = folder();
    let server = EmbeddedPostgres::start(&options(&temp)).unwrap();
    with_client(&server, async |client| {
        client
            .batch_execute("create table kept (n int); insert into kept values (7)")
            .await
    })
    .unwrap();
    let killed = server.pid().unwrap();
    kill(killed);
    // The supervisor notices by itself; it is the one that the second start waits for.
    while server.pid().is_none_or(|pid| pid == killed) {
        std::thread::yield_now();
    }
    let n: i32 = with_client(&server, async |client| {
        client
            .query_typed_one("select n from kept", &[])
            .await
            .unwrap()
            .get(0)
    });
    assert_eq!(n, 7);
    assert!(!*server.given_up().unwrap().borrow());
}

#[test]
fn start_after_a_crash_of_everything_recovers() {
    let temp = folder();
    let mut detached = options(&temp);
    detached.lifetime = Lifetime::Detached;
    let server = EmbeddedPostgres::start(&detached).unwrap();
    with_client(&server, async |client| {
        client
            .batch_execute("create table kept (n int); insert into kept values (7)")
            .await
    })
    .unwrap();
    // Nobody supervises it, so that nothing cleans up behind this.
    kill(server.pid().unwrap());
    assert!(temp.path().join("postgres/data/postmaster.pid").exists());
    let server = EmbeddedPostgres::start(&options(&temp)).unwrap();
    let n: i32 = with_client(&server, async |client| {
        client
            .query_typed_one("select n from kept", &[])
            .await
            .unwrap()
            .get(0)
    });
    assert_eq!(n, 7);
}

#[test]
fn running_orphan_is_stopped_before_a_start() {
    let temp = folder();
    let mut detached = options(&temp);
    detached.lifetime = Lifetime::Detached;
    let orphan = EmbeddedPostgres::start(&detached).unwrap();
    let orphan_pid = orphan.pid().unwrap();
    let server = EmbeddedPostgres::start(&options(&temp)).unwrap();
    assert_ne!(server.pid().unwrap(), orphan_pid);
    let log = fs::read_to_string(temp.path().join("postgres/postgres.log")).unwrap();
    assert!(log.contains("received fast shutdown request"), "{log}");
}

#[test]
fn stale_process_id_of_another_program_is_no_obstacle() {
    let temp = folder();
    EmbeddedPostgres::start(&options(&temp)).unwrap().stop();
    let pid_file = temp.path().join("postgres/data/postmaster.pid");
    // Process 1 always runs and is never ours.
    fs::write(&pid_file, "1\n").unwrap();
    let server = EmbeddedPostgres::start(&options(&temp)).unwrap();
    assert!(server.pid().is_some());
}

#[test]
fn second_supervisor_is_refused_and_may_join() {
    let temp = folder();
    let first = EmbeddedPostgres::start(&options(&temp)).unwrap();
    let second = EmbeddedPostgres::start(&options(&temp));
    assert!(
        matches!(second, Err(EmbeddedError::Locked { .. })),
        "{second:?}"
    );
    let joined = EmbeddedPostgres::start_or_attach(&options(&temp)).unwrap();
    assert!(!joined.is_supervisor());
    assert_eq!(joined.pid(), first.pid());
    drop(joined);
    with_client(&first, async |client| {
        client.batch_execute("select 1").await
    })
    .unwrap();
}

#[test]
fn detached_server_is_joined_by_the_next_and_can_be_stopped() {
    let temp = folder();
    let mut detached = options(&temp);
    detached.lifetime = Lifetime::Detached;
    let pid = EmbeddedPostgres::start_or_attach(&detached).unwrap().pid();
    let next = EmbeddedPostgres::start_or_attach(&detached).unwrap();
    assert_eq!(next.pid(), pid);
    assert!(!next.was_started());
    stop_detached(&detached.folder).unwrap();
    assert_eq!(next.pid(), None);
}

#[test]
fn long_folder_works_through_a_short_socket() {
    let temp = folder();
    let mut options = options(&temp);
    options.folder = temp.path().join("x".repeat(120)).join("postgres");
    let server = EmbeddedPostgres::start(&options).unwrap();
    with_client(&server, async |client| {
        client.batch_execute("select 1").await
    })
    .unwrap();
}

#[test]
fn folder_of_another_major_version_is_refused() {
    let temp = folder();
    let data = temp.path().join("postgres/data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    let error = EmbeddedPostgres::start(&options(&temp)).unwrap_err();
    assert!(
        matches!(error, EmbeddedError::WrongMajor { wanted: 9, .. }),
        "{error}"
    );
}

#[test]
fn half_made_cluster_is_made_again() {
    let temp = folder();
    let half = temp.path().join("postgres/data.new/base");
    fs::create_dir_all(&half).unwrap();
    let server = EmbeddedPostgres::start(&options(&temp)).unwrap();
    assert!(server.pid().is_some() && !half.exists());
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "tells the child process what it is"
)]
fn server_outlives_no_killed_supervisor() {
    const FOLDER: &str = "CODITECT_TEST_SUPERVISE";
    const NAME: &str = "server_outlives_no_killed_supervisor";
    if let Some(folder) = std::env::var_os(FOLDER) {
        // The child: supervises until it is killed.
        let mut child_options = options(&tempfile::tempdir().unwrap());
        child_options.folder = folder.into();
        let server = EmbeddedPostgres::start(&child_options).unwrap();
        with_client(&server, async |client| {
            client
                .batch_execute("create table kept (n int); insert into kept values (7)")
                .await
        })
        .unwrap();
        println!("\nready {}", server.pid().unwrap());
        loop {
            std::thread::park();
        }
    }
    let temp = folder();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(FOLDER, temp.path().join("postgres"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let pid: u32 = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("ready ")?.parse().ok())
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let server = EmbeddedPostgres::start(&options(&temp)).unwrap();
    assert_ne!(server.pid(), Some(pid));
    let n: i32 = with_client(&server, async |client| {
        client
            .query_typed_one("select n from kept", &[])
            .await
            .unwrap()
            .get(0)
    });
    assert_eq!(n, 7);
}
