//! The one PostgreSQL that all test processes share.
//!
//! Started by the first test, in `target/test-postgres`, without fsync; joined by all others and
//! by the next run; stopped by a small watcher when no test has used it for a quarter of an hour.
//! `CODITECT_TEST_DATABASE` (a superuser's connection string) takes its place when it is set.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr as _;

use coditect_server_store::embedded::{
    BinarySearch, Durability, EmbeddedError, EmbeddedOptions, EmbeddedPostgres, Lifetime,
    stop_detached,
};
use coditect_server_store::{DbSettings, migrations, roles};
use std::os::unix::process::CommandExt as _;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

/// Stops the server `$1` when the file `$2` has not been touched for a quarter of an hour.
const WATCHER: &str = r#"while kill -0 "$1" 2>/dev/null; do
    sleep 20
    if [ -z "$(find "$2" -mmin -15 2>/dev/null)" ]; then kill -INT "$1"; exit 0; fi
done"#;

/// Where the tests' databases are.
#[derive(Debug, Clone)]
pub(crate) enum Cluster {
    /// Our own server: every role may log in through its socket.
    Embedded { folder: String },
    /// A server that the environment names, reached as its superuser.
    External { url: String },
}

impl Cluster {
    /// Starts or joins the cluster; blocks.
    pub(crate) fn open() -> Self {
        if let Some(url) = environment("CODITECT_TEST_DATABASE") {
            return Self::External { url };
        }
        let folder = target_folder().join("test-postgres");
        let server = match start(&folder) {
            // A checkout below a closed home folder, as root.
            Err(EmbeddedError::Unreachable { .. }) => {
                let name = folder.display().to_string().replace('/', "-");
                start(&std::env::temp_dir().join(format!("coditect{name}")))
            }
            // The programs that made it are gone; tests need nothing of what is in it.
            Err(EmbeddedError::WrongMajor { .. }) => {
                stop_detached(&folder).unwrap();
                fs::remove_dir_all(&folder).unwrap();
                start(&folder)
            }
            outcome => outcome,
        };
        let server = server.unwrap_or_else(|error| panic!("cannot start postgresql: {error}"));
        let url = server.url("{role}", "{database}");
        Self::Embedded { folder: url }
    }

    /// Returns the connection string of `role` (none: the superuser) for `database`.
    pub(crate) fn url(&self, role: Option<&str>, database: &str) -> String {
        match self {
            Self::Embedded { folder } => folder
                .replace("{role}", role.unwrap_or("postgres"))
                .replace("{database}", database),
            Self::External { url } => with_database(url, database),
        }
    }

    /// Returns settings that log in by role where the cluster lets every role in.
    pub(crate) fn settings(&self, database: &str) -> DbSettings {
        let mut settings = DbSettings::new(self.url(Some(roles::OWNER), database));
        settings.direct_url = Some(settings.owner_url.clone());
        if matches!(self, Self::Embedded { .. }) {
            settings.app_url = Some(self.url(Some(roles::APP), database));
            settings.system_url = Some(self.url(Some(roles::SYSTEM), database));
        }
        settings
    }

    /// Connects as `role` (none: the superuser).
    pub(crate) async fn connect(&self, role: Option<&str>, database: &str) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(role, database), NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        if let (Self::External { .. }, Some(role)) = (self, role) {
            client
                .batch_execute(&format!("set role {role}"))
                .await
                .unwrap();
        }
        client
    }

    /// Makes the database `name`, migrated, from the template; makes that first when missing.
    pub(crate) async fn create_database(&self, name: &str) {
        let admin = self.connect(None, "postgres").await;
        let template = format!("template_{}", migrations::fingerprint());
        roles::ensure(&admin).await.unwrap();
        // Held by whoever makes the template; all others wait for it once.
        admin
            .batch_execute("select pg_advisory_lock(7310890)")
            .await
            .unwrap();
        drop_abandoned(&admin).await;
        if !exists(&admin, &template).await {
            let draft = format!("{template}_draft");
            run(
                &admin,
                &format!("drop database if exists {draft} with (force)"),
            )
            .await;
            run(
                &admin,
                &format!("create database {draft} owner {}", roles::OWNER),
            )
            .await;
            let owner = self.url(Some(roles::OWNER), &draft);
            migrations::migrate(&owner).await.unwrap();
            run(
                &admin,
                &format!("alter database {draft} rename to {template}"),
            )
            .await;
        }
        admin
            .batch_execute("select pg_advisory_unlock(7310890)")
            .await
            .unwrap();
        let owner = roles::OWNER;
        run(
            &admin,
            &format!("create database {name} template {template} owner {owner}"),
        )
        .await;
    }

    /// Drops the database `name`, whoever is connected to it.
    pub(crate) async fn drop_database(&self, name: &str) {
        let admin = self.connect(None, "postgres").await;
        run(
            &admin,
            &format!("drop database if exists {name} with (force)"),
        )
        .await;
    }
}

#[expect(clippy::zombie_processes, reason = "the watcher outlives this process")]
fn start(folder: &Path) -> Result<EmbeddedPostgres, EmbeddedError> {
    let mut options = EmbeddedOptions::new(folder);
    options.search = search();
    options.durability = Durability::None;
    options.lifetime = Lifetime::Detached;
    options.connections_max = 400;
    let used = folder.with_extension("used");
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).unwrap();
    }
    fs::write(&used, b"").unwrap();
    let server = EmbeddedPostgres::start_or_attach(&options)?;
    if let (true, Some(pid)) = (server.was_started(), server.pid()) {
        let mut watcher = Command::new("sh");
        watcher
            .args(["-c", WATCHER, "sh", &pid.to_string()])
            .arg(&used)
            .current_dir("/");
        watcher
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        watcher.process_group(0).spawn().unwrap();
    }
    Ok(server)
}

/// Returns where tests look for PostgreSQL's programs, as the server would.
pub(crate) fn search() -> BinarySearch {
    BinarySearch {
        explicit: environment("CODITECT_POSTGRES_BIN").map(PathBuf::from),
        home: environment("HOME").map(PathBuf::from),
        path: environment("PATH").map(Into::into),
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests' own configuration")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns cargo's target folder, which holds the running test program.
fn target_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let marked = program
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked.map_or_else(std::env::temp_dir, Path::to_owned)
}

/// Returns `url` with another database; both forms that the driver reads.
fn with_database(url: &str, database: &str) -> String {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return format!("{url} dbname={database}");
    }
    tokio_postgres::Config::from_str(url).unwrap();
    let (head, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = head.split_once("://").unwrap();
    let authority = rest.split('/').next().unwrap();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{scheme}://{authority}/{database}{mark}{query}")
}

/// Drops the databases of test processes that ended without doing so.
async fn drop_abandoned(admin: &Client) {
    const TEST_DATABASES: &str = r"select datname from pg_database where datname like 'test\_%'";
    for row in admin.query_typed(TEST_DATABASES, &[]).await.unwrap() {
        let name: String = row.get(0);
        let pid = name.split('_').nth(1).unwrap_or_default();
        let alive = if Path::new("/proc/self").exists() {
            Path::new("/proc").join(pid).exists()
        } else {
            Command::new("kill")
                .args(["-0", pid])
                .status()
                .is_ok_and(|status| status.success())
        };
        if !alive {
            run(
                admin,
                &format!("drop database if exists {name} with (force)"),
            )
            .await;
        }
    }
}

async fn exists(admin: &Client, database: &str) -> bool {
    let query = format!("select exists (select from pg_database where datname = '{database}')");
    admin.query_typed_one(&query, &[]).await.unwrap().get(0)
}

/// Runs a statement about a database, again while somebody's connection to it is still closing.
async fn run(admin: &Client, statement: &str) {
    loop {
        match admin.batch_execute(statement).await {
            Ok(()) => return,
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            Err(error) => panic!("{statement}: {error}: {:?}", error.as_db_error()),
        }
    }
}
