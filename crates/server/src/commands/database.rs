//! Reaching the database of a command: the embedded one, running or not, or an external one.

use anyhow::{Context as _, bail};
use coditect_server_store::embedded::{Archiving, EmbeddedOptions, EmbeddedPostgres};
use coditect_server_store::{Db, DbSettings, migrations, roles};

use super::data_dir::DataDir;
use crate::config::{Config, DatabaseUrls, Target};

/// Connections of one short command.
const COMMAND_CONNECTIONS_MAX: usize = 2;

/// An open database, and the PostgreSQL that was started for it.
pub(super) struct Opened {
    pub(super) db: Db,
    postgres: Option<EmbeddedPostgres>,
}

impl Opened {
    /// Closes the database and stops what was started for it.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        self.db.close();
        match self.postgres {
            Some(postgres) => stop(postgres).await,
            None => Ok(()),
        }
    }
}

/// Opens the database for a short command: joins a running server's PostgreSQL, or starts it.
pub(super) async fn open_for_command(config: &Config) -> anyhow::Result<Opened> {
    if let Target::External(urls) = &config.target {
        let db = Db::connect(&external(urls, COMMAND_CONNECTIONS_MAX)).await;
        return Ok(Opened {
            db: db.context("cannot use DATABASE_URL")?,
            postgres: None,
        });
    }
    let folder = &config.data_dir;
    let never_started = || {
        anyhow::anyhow!(
            "no server was ever started in {}\nhint: coditect-server up --data-dir {}",
            folder.display(),
            folder.display()
        )
    };
    let data_dir = DataDir::open(folder).map_err(|_| never_started())?;
    if !data_dir.has_cluster() {
        return Err(never_started());
    }
    let postgres = start(config, &data_dir, Join::IfRunning, Archiving::AsBefore).await?;
    if postgres.is_supervisor() {
        prepare(&postgres).await?;
    }
    let db = connect(&postgres, COMMAND_CONNECTIONS_MAX).await?;
    Ok(Opened {
        db,
        postgres: Some(postgres),
    })
}

/// Whether a PostgreSQL that runs already is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    IfRunning,
    Never,
}

/// Starts the embedded PostgreSQL of a folder; one command at a time does so.
pub(super) async fn start(
    config: &Config,
    data_dir: &DataDir,
    join: Join,
    archiving: Archiving,
) -> anyhow::Result<EmbeddedPostgres> {
    let mut options = EmbeddedOptions::new(data_dir.postgres());
    options.search = config.postgres.clone();
    options.archiving = archiving;
    let data_dir = data_dir.clone();
    let started = tokio::task::spawn_blocking(move || {
        let _lock = data_dir.lock_start()?;
        let started = match join {
            Join::IfRunning => EmbeddedPostgres::start_or_attach(&options),
            Join::Never => EmbeddedPostgres::start(&options),
        };
        started.with_context(|| format!("no PostgreSQL in {}", data_dir.path().display()))
    });
    started
        .await
        .context("starting PostgreSQL was interrupted")?
}

/// Brings a started PostgreSQL's database up to this program's version.
pub(super) async fn prepare(postgres: &EmbeddedPostgres) -> anyhow::Result<Vec<i64>> {
    roles::ensure_database(&postgres.superuser_url("postgres"), roles::DATABASE)
        .await
        .context("cannot make the database")?;
    migrations::migrate(&postgres.superuser_url(roles::DATABASE))
        .await
        .context("cannot migrate the database")
}

/// Opens the database of an embedded PostgreSQL, each role by a login of its own.
pub(super) async fn connect(
    postgres: &EmbeddedPostgres,
    connections_max: usize,
) -> anyhow::Result<Db> {
    let settings = DbSettings {
        app_url: Some(postgres.url(roles::APP, roles::DATABASE)),
        system_url: Some(postgres.url(roles::SYSTEM, roles::DATABASE)),
        // The socket itself: no pooler stands in front of it.
        direct_url: Some(postgres.url(roles::APP, roles::DATABASE)),
        app_connections_max: connections_max,
        ..DbSettings::new(postgres.url(roles::OWNER, roles::DATABASE))
    };
    Db::connect(&settings)
        .await
        .context("cannot open the database")
}

/// Returns the settings of an external database.
pub(super) fn external(urls: &DatabaseUrls, connections_max: usize) -> DbSettings {
    DbSettings {
        app_url: urls.app.clone(),
        system_url: urls.system.clone(),
        direct_url: urls.direct.clone(),
        replica_url: urls.replica.clone(),
        app_connections_max: connections_max,
        ..DbSettings::new(urls.owner.clone())
    }
}

/// Returns the connection strings of the external database.
pub(super) fn require_external(config: &Config) -> anyhow::Result<&DatabaseUrls> {
    match &config.target {
        Target::External(urls) => Ok(urls),
        Target::Embedded => bail!(
            "DATABASE_URL is not set\nhint: set it, without --data-dir, or use \
             coditect-server up for a PostgreSQL of its own"
        ),
    }
}

/// Stops a PostgreSQL that this process started; one that was joined goes on.
pub(super) async fn stop(postgres: EmbeddedPostgres) -> anyhow::Result<()> {
    let stopped = tokio::task::spawn_blocking(move || postgres.stop());
    stopped.await.context("stopping PostgreSQL was interrupted")
}
