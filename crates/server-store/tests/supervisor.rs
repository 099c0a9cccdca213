//! The embedded PostgreSQL through its life: first start, later starts, crashes, orphans.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]
#![expect(
    clippy::print_stdout,
    reason = "what is skipped, and a child's readiness"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use coditect_server_store::embedded::{
    Archiving, BinarySearch, EmbeddedError, EmbeddedOptions, EmbeddedPostgres, Lifetime, Spool,
    stop_detached,
};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// Where a test's cluster lies.
struct Place {
    temp: TempDir,
    /// The folder above the cluster's.
    base: PathBuf,
    /// The cluster's folder; made by the supervisor.
    folder: PathBuf,
}

impl Place {
    /// Returns a place that the unprivileged user may enter.
    fn open() -> Self {
        Self::with_modes(0o755)
    }

    /// Returns a place below folders that only root may enter, `None` when we are not root.
    fn closed() -> Option<Self> {
        let place = Self::with_modes(0o700);
        if fs::metadata(&place.base).unwrap().uid() == 0 {
            return Some(place);
        }
        println!("skipped: no user but root starts postgresql as somebody else");
        None
    }

    fn with_modes(mode: u32) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().join("base");
        fs::create_dir(&base).unwrap();
        for folder in [temp.path(), &base] {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        }
        let folder = base.join("postgres");
        Self { temp, base, folder }
    }
}

/// Runs each case in an open folder, and as root once more below a closed one.
macro_rules! in_open_and_closed_folders {
    ($($case:ident,)*) => {
        mod open_folder {
            $(#[test] fn $case() { super::$case(&super::Place::open()); })*
        }
        #[cfg(target_os = "linux")]
        mod closed_folder {
            $(#[test] fn $case() {
                if let Some(place) = super::Place::closed() { super::$case(&place); }
            })*
        }
    };
}

in_open_and_closed_folders! {
    data_is_there_after_a_stop_and_a_second_start,
    server_is_durable_and_listens_on_its_socket_only,
    killed_server_comes_back_with_what_was_committed,
    killed_session_leaves_the_others_data,
    settings_and_log_files_are_looked_after_while_it_runs,
    start_after_a_crash_of_everything_recovers,
    running_orphan_is_stopped_before_a_start,
    stale_process_id_of_another_program_is_no_obstacle,
    second_supervisor_is_refused_and_may_join,
    detached_server_is_joined_by_the_next_and_can_be_stopped,
    long_folder_works_through_a_short_socket,
    half_made_cluster_is_made_again,
    server_outlives_no_killed_supervisor,
    links_that_its_user_left_are_not_followed,
    log_is_handed_over_whole_and_in_order,
}

#[expect(clippy::disallowed_methods, reason = "the tests' own configuration")]
fn options(folder: &Path) -> EmbeddedOptions {
    let mut options = EmbeddedOptions::new(folder);
    let value = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    options.search = BinarySearch {
        explicit: value("CODITECT_POSTGRES_BIN").map(Into::into),
        home: value("HOME").map(Into::into),
        path: value("PATH"),
    };
    options
}

async fn try_connect(server: &EmbeddedPostgres) -> Result<Client, tokio_postgres::Error> {
    let url = server.superuser_url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Runs `work` with a connection, outside of any runtime that the caller may have.
fn with_client<T>(server: &EmbeddedPostgres, work: impl AsyncFnOnce(Client) -> T) -> T {
    with_runtime(async || work(try_connect(server).await.unwrap()).await)
}

fn with_runtime<T>(work: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work())
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

fn data_is_there_after_a_stop_and_a_second_start(place: &Place) {
    let server = EmbeddedPostgres::start(&options(&place.folder)).unwrap();
    with_client(&server, async |client| {
        client
            .batch_execute("create table kept (n int); insert into kept values (7)")
            .await
    })
    .unwrap();
    let pid = server.pid().unwrap();
    server.stop();
    assert!(!Path::new(&format!("/proc/{pid}/stat")).exists());
    for left in [
        "data/postmaster.pid",
        "run/.s.PGSQL.5432",
        "run/.s.PGSQL.5432.lock",
    ] {
        assert!(!place.folder.join(left).exists(), "{left} is left");
    }
    let server = EmbeddedPostgres::start(&options(&place.folder)).unwrap();
    let n: i32 = with_client(&server, async |client| {
        client
            .query_typed_one("select n from kept", &[])
            .await
            .unwrap()
            .get(0)
    });
    assert_eq!(n, 7);
}

fn log_is_handed_over_whole_and_in_order(place: &Place) {
    const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
    let mut wanted = options(&place.folder);
    wanted.archiving = Archiving::On { seconds: 600 };
    for start in 1..=2 {
        let server = EmbeddedPostgres::start(&wanted).unwrap();
        let Some(record) = server.archive() else {
            println!("skipped: no pg_basebackup beside postgres");
            return;
        };
        assert_eq!(record.seconds, 600);
        with_client(&server, async |client| {
            let sql = "create table if not exists kept (n int); insert into kept values (1)";
            client.batch_execute(sql).await.unwrap();
            client
                .batch_execute("select pg_switch_wal()")
                .await
                .unwrap();
            let count = "select archived_count from pg_stat_archiver";
            while client
                .query_typed_one(count, &[])
                .await
                .unwrap()
                .get::<_, i64>(0)
                == 0
            {}
        });
        // The start of a short command archives like the one before.
        wanted.archiving = Archiving::AsBefore;
        server.stop();
        let waiting = Spool::of(&place.folder).waiting().unwrap();
        assert!(waiting.len() >= start, "{waiting:?}");
        let names: Vec<&String> = waiting.iter().map(|one| &one.name).collect();
        assert!(names.is_sorted(), "{names:?}");
        for one in &waiting {
            assert_eq!(one.open().unwrap().1, SEGMENT_BYTES);
        }
    }
}

fn server_is_durable_and_listens_on_its_socket_only(place: &Place) {
    let server = EmbeddedPostgres::start(&options(&place.folder)).unwrap();
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
    let mode = fs::metadata(&place.folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

fn killed_server_comes_back_with_what_was_committed(place: &Place) {
    let server = EmbeddedPostgres::start(&options(&place.folder)).unwrap();
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

/// PostgreSQL ends all sessions then and recovers by itself, without a new start.
fn killed_session_leaves_the_others_data(place: &Place) {
    let server = EmbeddedPostgres::start(&options(&place.folder)).unwrap();
    let pid = server.pid();
    let session: i32 = with_client(&server, async |client| {
        let made = "create table kept (n int); insert into kept values (7)";
        client.batch_execute(made).await.unwrap();
        let session = client.query_typed_one("select pg_backend_pid()", &[]).await;
        let session = session.unwrap().get(0);
        kill(u32::try_from(session).unwrap());
        // Returns when the session is gone.
        client
            .batch_execute("select pg_sleep(600)")
            .await
            .unwrap_err();
        session
    });
    let log = || fs::read_to_string(place.folder.join("postgres.log")).unwrap();
    let n: i32 = with_runtime(async || {
        loop {
            // Still served until PostgreSQL notices, refused while the recovery lasts.
            if log().contains("automatic recovery in progress")
                && let Ok(client) = try_connect(&server).await
                && let Ok(row) = client.query_typed_one("select n from kept", &[]).await
            {
                return row.get(0);
            }
        }
    });
    assert_eq!((n, server.pid()), (7, pid));
    let log = log();
    assert!(
        log.contains(&format!("(PID {session}) was terminated by signal 9")),
        "{log}"
    );
}

/// What the server does by itself or on request, with files that it names in full or not.
fn settings_and_log_files_are_looked_after_while_it_runs(place: &Place) {
    let server = EmbeddedPostgres::start(&options(&place.folder)).unwrap();
    let (folder, pages) = with_client(&server, async |client| {
        client
            .batch_execute("create table kept (n int)")
            .await
            .unwrap();
        for _ in 0..6 {
            let round = [
                "insert into kept values (7)",
                "select pg_switch_wal()",
                "checkpoint",
            ];
            for statement in round {
                client.batch_execute(statement).await.unwrap();
            }
        }
        client.batch_execute("vacuum full kept").await.unwrap();
        client
            .batch_execute("alter system set work_mem = '7MB'")
            .await
            .unwrap();
        client
            .batch_execute("select pg_reload_conf()")
            .await
            .unwrap();
        loop {
            let row = client.query_typed_one("show work_mem", &[]).await.unwrap();
            if row.get::<_, &str>(0) == "7MB" {
                break;
            }
        }
        let folder = client
            .query_typed_one("show data_directory", &[])
            .await
            .unwrap();
        // Reads pg_control by its full path.
        let control = "select full_page_writes from pg_control_checkpoint()";
        let control = client.query_typed_one(control, &[]).await.unwrap();
        (folder.get::<_, String>(0), control.get::<_, bool>(0))
    });
    assert!(pages && folder.ends_with("/data"), "{folder}");
    let open = fs::metadata(&place.base).unwrap().mode() & 0o001 != 0;
    assert_eq!(
        Path::new(&folder).starts_with("/proc/self/fd"),
        !open,
        "{folder}"
    );
    let log = fs::read_to_string(place.folder.join("postgres.log")).unwrap();
    let recycled = log
        .lines()
        .filter_map(|line| line.split_once(" recycled;")?.0.rsplit_once(' '));
    let recycled: u32 = recycled
        .filter_map(|(_, number)| number.parse::<u32>().ok())
        .sum();
    assert!(recycled > 0, "{log}");
    assert!(
        !log.contains("ERROR") && !log.contains("could not"),
        "{log}"
    );
}

fn links_that_its_user_left_are_not_followed(place: &Place) {
    EmbeddedPostgres::start(&options(&place.folder))
        .unwrap()
        .stop();
    let folder = place.folder.canonicalize().unwrap();
    let (file, elsewhere) = (place.base.join("precious"), place.base.join("elsewhere"));
    fs::write(&file, "kept").unwrap();
    fs::create_dir(&elsewhere).unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o755)).unwrap();
    let before = fs::metadata(&elsewhere).unwrap();
    for (name, target) in [
        ("postgres.log", &file),
        ("supervisor.lock", &file),
        ("run", &elsewhere),
    ] {
        let (ours, aside) = (folder.join(name), folder.join("aside"));
        fs::rename(&ours, &aside).unwrap();
        std::os::unix::fs::symlink(target, &ours).unwrap();
        let started = EmbeddedPostgres::start(&options(&place.folder));
        assert!(matches!(started, Err(EmbeddedError::Io { .. })), "{name}");
        fs::remove_file(&ours).unwrap();
        fs::rename(&aside, &ours).unwrap();
    }
    assert_eq!(fs::read(&file).unwrap(), b"kept");
    let after = fs::metadata(&elsewhere).unwrap();
    assert_eq!((after.mode(), after.uid()), (before.mode(), before.uid()));
    EmbeddedPostgres::start(&options(&place.folder))
        .unwrap()
        .stop();
}

fn start_after_a_crash_of_everything_recovers(place: &Place) {
    let mut detached = options(&place.folder);
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
    assert!(place.folder.join("data/postmaster.pid").exists());
    let server = EmbeddedPostgres::start(&options(&place.folder)).unwrap();
    let n: i32 = with_client(&server, async |client| {
        client
            .query_typed_one("select n from kept", &[])
            .await
            .unwrap()
            .get(0)
    });
    assert_eq!(n, 7);
}

fn running_orphan_is_stopped_before_a_start(place: &Place) {
    let mut detached = options(&place.folder);
    detached.lifetime = Lifetime::Detached;
    let orphan = EmbeddedPostgres::start(&detached).unwrap();
    let orphan_pid = orphan.pid().unwrap();
    let server = EmbeddedPostgres::start(&options(&place.folder)).unwrap();
    assert_ne!(server.pid().unwrap(), orphan_pid);
    let log = fs::read_to_string(place.folder.join("postgres.log")).unwrap();
    assert!(log.contains("received fast shutdown request"), "{log}");
}

fn stale_process_id_of_another_program_is_no_obstacle(place: &Place) {
    EmbeddedPostgres::start(&options(&place.folder))
        .unwrap()
        .stop();
    let pid_file = place.folder.join("data/postmaster.pid");
    // Process 1 always runs and is never ours.
    fs::write(&pid_file, "1\n").unwrap();
    let server = EmbeddedPostgres::start(&options(&place.folder)).unwrap();
    assert!(server.pid().is_some());
}

fn second_supervisor_is_refused_and_may_join(place: &Place) {
    let first = EmbeddedPostgres::start(&options(&place.folder)).unwrap();
    let second = EmbeddedPostgres::start(&options(&place.folder));
    assert!(
        matches!(second, Err(EmbeddedError::Locked { .. })),
        "{second:?}"
    );
    let joined = EmbeddedPostgres::start_or_attach(&options(&place.folder)).unwrap();
    assert!(!joined.is_supervisor());
    assert_eq!(joined.pid(), first.pid());
    drop(joined);
    with_client(&first, async |client| {
        client.batch_execute("select 1").await
    })
    .unwrap();
}

fn detached_server_is_joined_by_the_next_and_can_be_stopped(place: &Place) {
    let mut detached = options(&place.folder);
    detached.lifetime = Lifetime::Detached;
    let pid = EmbeddedPostgres::start_or_attach(&detached).unwrap().pid();
    let next = EmbeddedPostgres::start_or_attach(&detached).unwrap();
    assert_eq!(next.pid(), pid);
    assert!(!next.was_started());
    stop_detached(&detached.folder).unwrap();
    assert_eq!(next.pid(), None);
}

fn long_folder_works_through_a_short_socket(place: &Place) {
    let mut options = options(&place.folder);
    options.folder = place.base.join("x".repeat(120)).join("postgres");
    let server = EmbeddedPostgres::start(&options).unwrap();
    with_client(&server, async |client| {
        client.batch_execute("select 1").await
    })
    .unwrap();
}

#[test]
fn folder_of_another_major_version_is_refused() {
    let place = Place::open();
    let data = place.folder.join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    let error = EmbeddedPostgres::start(&options(&place.folder)).unwrap_err();
    assert!(
        matches!(error, EmbeddedError::WrongMajor { wanted: 9, .. }),
        "{error}"
    );
}

fn half_made_cluster_is_made_again(place: &Place) {
    let half = place.folder.join("data.new/base");
    fs::create_dir_all(&half).unwrap();
    let server = EmbeddedPostgres::start(&options(&place.folder)).unwrap();
    assert!(server.pid().is_some() && !half.exists());
}

#[expect(
    clippy::disallowed_methods,
    reason = "tells the child process what it is"
)]
fn server_outlives_no_killed_supervisor(place: &Place) {
    const FOLDER: &str = "CODITECT_TEST_SUPERVISE";
    const NAME: &str = "open_folder::server_outlives_no_killed_supervisor";
    if let Some(folder) = std::env::var_os(FOLDER) {
        // The child: supervises until it is killed, and could not clean up then.
        fs::remove_dir_all(place.temp.path()).unwrap();
        let server = EmbeddedPostgres::start(&options(Path::new(&folder))).unwrap();
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
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(FOLDER, &place.folder)
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
    let server = EmbeddedPostgres::start(&options(&place.folder)).unwrap();
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
