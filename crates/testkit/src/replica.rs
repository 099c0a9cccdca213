//! A PostgreSQL of a test's own with a streaming replica, whose replay can be held.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use coditect_server_store::DbSettings;
use coditect_server_store::embedded::{
    Durability, EmbeddedOptions, EmbeddedPostgres, find_binaries,
};
use coditect_server_store::roles;
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::TestDb;
use crate::postgres::{Cluster, search};

/// A database and its replica. Both servers end with the value.
#[derive(Debug)]
pub struct Replicated {
    /// The database, on the primary.
    pub db: TestDb,
    name: String,
    standby: Cluster,
    standby_server: Option<EmbeddedPostgres>,
    _primary: EmbeddedPostgres,
    _folder: TempDir,
}

impl Replicated {
    /// Starts a primary with a migrated database, and a standby that follows it. `None`, with a
    /// line that says so, where PostgreSQL's programs lack `pg_basebackup`.
    pub async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        open_to_all(folder.path());
        let (first, second) = (folder.path().join("primary"), folder.path().join("standby"));
        let started = tokio::task::spawn_blocking(move || {
            let primary = EmbeddedPostgres::start(&options(&first)).unwrap();
            if !copy(&primary, &first, &second) {
                return None;
            }
            let standby = EmbeddedPostgres::start(&options(&second)).unwrap();
            Some((primary, standby))
        });
        let (primary, standby) = started.await.unwrap()?;
        let of = |server: &EmbeddedPostgres| Cluster::Embedded {
            folder: server.url("{role}", "{database}"),
        };
        let (db, name) = TestDb::on(of(&primary), 8).await;
        let replicated = Self {
            db,
            name,
            standby: of(&standby),
            standby_server: Some(standby),
            _primary: primary,
            _folder: folder,
        };
        replicated.catch_up().await;
        Some(replicated)
    }

    /// Returns the settings of a server that reads from the replica as well.
    #[must_use]
    pub fn settings(&self) -> DbSettings {
        DbSettings {
            replica_url: Some(self.standby.url(Some(roles::APP), &self.name)),
            ..self.db.settings()
        }
    }

    /// Holds the replica at what it has.
    pub async fn hold(&self) {
        let client = self.standby().await;
        client
            .batch_execute("select pg_wal_replay_pause()")
            .await
            .unwrap();
        // Asked for is not held: replay ends its record first.
        let held = "select pg_get_wal_replay_pause_state() = 'paused'";
        until(&client, held).await;
    }

    /// Lets the replica go on, and waits until it has all that was written.
    pub async fn go_on(&self) {
        let client = self.standby().await;
        client
            .batch_execute("select pg_wal_replay_resume()")
            .await
            .unwrap();
        self.catch_up().await;
    }

    /// Ends the replica.
    pub fn stop_replica(&mut self) {
        drop(self.standby_server.take());
    }

    async fn catch_up(&self) {
        let primary = self.db.superuser_client().await;
        let row = primary
            .query_typed_one("select pg_current_wal_insert_lsn()::text", &[])
            .await;
        let written: String = row.unwrap().get(0);
        let there = format!("select pg_last_wal_replay_lsn() >= '{written}'::pg_lsn");
        until(&self.standby().await, &there).await;
    }

    async fn standby(&self) -> Client {
        self.standby.connect(None, "postgres").await
    }
}

/// Asks until the answer is yes; each answer takes a moment of its own.
async fn until(client: &Client, question: &str) {
    loop {
        let row = client.query_typed_one(question, &[]).await.unwrap();
        if row.get::<_, Option<bool>>(0) == Some(true) {
            return;
        }
        let pause = "select pg_sleep(0.01)";
        client.batch_execute(pause).await.unwrap();
    }
}

fn options(folder: &Path) -> EmbeddedOptions {
    EmbeddedOptions {
        search: search(),
        durability: Durability::None,
        ..EmbeddedOptions::new(folder)
    }
}

/// Copies the running primary's folder as the user that it runs as.
fn copy(primary: &EmbeddedPostgres, first: &Path, second: &Path) -> bool {
    let program = find_binaries(&search(), None)
        .unwrap()
        .program("pg_basebackup");
    if !program.is_file() {
        print_skipped(&program);
        return false;
    }
    let owner = std::fs::metadata(first.join("data")).unwrap();
    std::fs::create_dir(second).unwrap();
    std::os::unix::fs::chown(second, Some(owner.uid()), Some(owner.gid())).unwrap();
    let copied = Command::new(&program)
        .arg("-D")
        .arg(second.join("data"))
        .args([
            "--wal-method=stream",
            "--checkpoint=fast",
            "--write-recovery-conf",
            "--no-sync",
        ])
        .arg("-d")
        .arg(primary.superuser_url("postgres"))
        .env("LC_ALL", "C")
        .current_dir("/")
        .uid(owner.uid())
        .gid(owner.gid())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&copied.stderr);
    assert!(copied.status.success(), "{errors}");
    true
}

#[expect(clippy::print_stdout, reason = "what is skipped has to be seen")]
fn print_skipped(program: &Path) {
    println!("skipped: there is no {}", program.display());
}

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
