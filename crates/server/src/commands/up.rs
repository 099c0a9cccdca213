//! `up`: everything for one machine, from nothing to ready and back.

use anyhow::{Context as _, bail};
use coditect_protocol::OrganizationId;
use coditect_server_store::embedded::{Archiving, EmbeddedPostgres, Recovered, SpoolLock};
use coditect_server_store::identity::Role;
use coditect_server_store::{Db, admin};

use super::data_dir::{BootstrapFile, DataDir, Running};
use super::shutdown::Shutdown;
use super::{database, print, serve};
use crate::config::Config;
use crate::database_archive::Archive;
use crate::state::{AppState, Clock};
use crate::{jobs, router, server};

pub(super) async fn run(config: &Config) -> anyhow::Result<()> {
    let mut shutdown = Shutdown::install()?;
    config.check_listen()?;
    let data_dir = DataDir::prepare(&config.data_dir)?;
    let _lock = data_dir.lock_server()?;
    let tls = serve::tls(config)?;
    let listeners = serve::listen(config).await?;
    let url = serve::url_of(listeners.api.local_addr()?, tls.is_some());
    let started = tokio::select! {
        started = start(config, &data_dir, &url) => started?,
        // What was started meanwhile stops when it is dropped.
        () = shutdown.wait() => return Ok(()),
    };
    let Started { postgres, db } = started;
    let mut state = serve::state(config, db.clone())?;
    let archive = archive(&postgres, &state);
    state.database_archive.clone_from(&archive);
    let fetching = keep_archive(archive.as_ref(), &state.clock)?;
    serve::respect_ledger(&state).await?;
    serve::start_jobs(config, &state)?;
    state.hints.follow_others(&db);
    let hints = state.hints.clone();
    let running = Running {
        url: url.clone(),
        pid: std::process::id(),
        version: crate_version(),
    };
    data_dir.write_running(&running)?;
    tracing::info!(http.url = %url, "serving");
    print(&format!("ready {url}\n"))?;
    let listener = listeners.serve_metrics(config, &state)?;
    let mut lost = false;
    let stop = async {
        tokio::select! {
            () = shutdown.wait() => {}
            () = given_up(&postgres) => lost = true,
        }
        hints.stop().await;
    };
    server::serve(listener, tls, router::router(state), &config.http, stop).await;
    data_dir.remove_running();
    db.close();
    database::stop(postgres).await?;
    if let Some(archive) = archive {
        jobs::database::fetch_last(&archive, &Clock::system()).await;
    }
    drop(fetching);
    tracing::info!("stopped");
    if lost {
        bail!(
            "PostgreSQL ended too often\nhint: see {}/postgres.log",
            data_dir.postgres().display()
        );
    }
    Ok(())
}

struct Started {
    postgres: EmbeddedPostgres,
    db: Db,
}

async fn start(config: &Config, data_dir: &DataDir, url: &str) -> anyhow::Result<Started> {
    // Without a place to bring it to, the log would only grow.
    let archiving = match (config.database_archive_seconds, serve::backups(config)?) {
        (0, _) | (_, None) => Archiving::Off,
        (seconds, Some(_)) => Archiving::On { seconds },
    };
    let postgres = database::start(config, data_dir, database::Join::Never, archiving).await?;
    database::prepare(&postgres).await?;
    let db = database::connect(&postgres, config.database_connections_max).await?;
    tell_recovery(&db, data_dir).await?;
    first_start(&db, data_dir, url)
        .await
        .context("cannot make the first organisation")?;
    Ok(Started { postgres, db })
}

/// Has the trails say that the database was recovered, before anybody is served by it.
async fn tell_recovery(db: &Db, data_dir: &DataDir) -> anyhow::Result<()> {
    let folder = data_dir.postgres();
    let Some(recovered) = Recovered::read(&folder) else {
        return Ok(());
    };
    let noted = admin::note_recovery(db, &recovered, Clock::system().now()).await;
    noted.context("the audit trail cannot say that the database was recovered")?;
    tracing::warn!(
        archive.id = %recovered.archive_id, recovery.as_of = ?recovered.as_of,
        "the database was recovered from its archive"
    );
    Recovered::forget(&folder).context("cannot remove the note of the recovery")
}

/// Returns the archive of the PostgreSQL, where its log is kept and there is a place for it.
fn archive(postgres: &EmbeddedPostgres, state: &AppState) -> Option<Archive> {
    let storage = state.backups.as_ref()?.storage.clone();
    let folder = postgres.folder().to_owned();
    let record = postgres.archive()?;
    let program = postgres.base_backup();
    Some(Archive::new(
        storage,
        folder,
        program,
        record,
        state.clock.now(),
    ))
}

/// Starts to keep the archive; the lock says that nobody else does.
fn keep_archive(archive: Option<&Archive>, clock: &Clock) -> anyhow::Result<Option<SpoolLock>> {
    let Some(archive) = archive else {
        return Ok(None);
    };
    let lock = archive
        .spool
        .lock()
        .context("cannot archive the database")?;
    if lock.is_some() {
        tokio::spawn(jobs::database::run(archive.clone(), clock.clone()));
    }
    Ok(lock)
}

/// Resolves when the supervisor does not start PostgreSQL again.
async fn given_up(postgres: &EmbeddedPostgres) {
    if let Some(mut signal) = postgres.given_up()
        && signal.wait_for(|given_up| *given_up).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Makes organisation, owner and licence on the first start, and keeps the URL in
/// `bootstrap.json` current on later ones.
///
/// The database commits before the file is written. A marker tells a first start that was cut
/// short in between, whose password and key nobody has seen, from a file that was removed on
/// purpose.
async fn first_start(db: &Db, data_dir: &DataDir, url: &str) -> anyhow::Result<()> {
    if let Some(file) = data_dir.bootstrap()? {
        data_dir.unmark_bootstrap()?;
        if file.url != url {
            data_dir.write_bootstrap(&BootstrapFile {
                url: url.to_owned(),
                ..file
            })?;
        }
        return Ok(());
    }
    let cut_short = data_dir.bootstrap_was_cut_short();
    data_dir.mark_bootstrap()?;
    let file = match admin::bootstrap(db, Clock::system().now()).await? {
        Some(made) => Some(BootstrapFile {
            url: url.to_owned(),
            tenant_id: made.tenant_id.to_string(),
            user_id: made.user_id.to_string(),
            email: made.email,
            password: made.password,
            license_key: made.license_key,
        }),
        None if cut_short => Some(another_owner(db, url).await?),
        None => None,
    };
    if let Some(file) = file {
        data_dir.write_bootstrap(&file)?;
        tracing::info!(tenant.id = %file.tenant_id, "made the first organisation");
    }
    data_dir.unmark_bootstrap()
}

/// Adds an owner to the organisation of a first start that was cut short.
async fn another_owner(db: &Db, url: &str) -> anyhow::Result<BootstrapFile> {
    let now = Clock::system().now();
    let tenants = admin::list_tenants(db).await?;
    let Some(tenant) = tenants.first() else {
        bail!("the organisation is gone")
    };
    let tenant: OrganizationId = tenant.tenant_id;
    let mut number = 2;
    loop {
        let email = format!("owner-{number}@localhost");
        let created = admin::create_user(db, tenant, &email, Role::Owner, now).await;
        let Ok(created) = created else {
            number += 1;
            if number > 100 {
                created?;
            }
            continue;
        };
        let Some(password) = created.password else {
            bail!("{email} has a password already")
        };
        return Ok(BootstrapFile {
            url: url.to_owned(),
            tenant_id: tenant.to_string(),
            user_id: created.user_id.to_string(),
            email,
            password,
            license_key: admin::issue_license(db, tenant, created.user_id, now).await?,
        });
    }
}

fn crate_version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
