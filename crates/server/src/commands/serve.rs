//! `serve`: the API on an external PostgreSQL; and what `up` shares with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use coditect_backup::{Keys, Settings, Storage};
use coditect_server_store::Db;
use coditect_server_store::audit::head::HeadKey;
use coditect_server_store::credential::Secrets;
use tokio::net::TcpListener;

use super::shutdown::Shutdown;
use super::{database, print};
use crate::backups::Backups;
use crate::config::Config;
use crate::erasure::{self, Ledger};
use crate::jobs::audit::Heads;
use crate::state::{AppState, Clock};
use crate::tls::Tls;
use crate::{jobs, metrics, router, server};

pub(super) async fn run(config: &Config) -> anyhow::Result<()> {
    let mut shutdown = Shutdown::install()?;
    config.check_listen()?;
    let urls = database::require_external(config)?;
    let tls = tls(config)?;
    let listeners = listen(config).await?;
    let settings = database::external(urls, config.database_connections_max);
    let db = Db::connect(&settings)
        .await
        .context("cannot use DATABASE_URL")?;
    let state = state(config, db.clone())?;
    state.hints.follow_others(&db);
    respect_ledger(&state).await?;
    start_jobs(config, &state)?;
    let hints = state.hints.clone();
    let url = url_of(listeners.api.local_addr()?, tls.is_some());
    tracing::info!(http.url = %url, "serving");
    print(&format!("ready {url}\n"))?;
    let listener = listeners.serve_metrics(config, &state)?;
    let stop = async {
        shutdown.wait().await;
        hints.stop().await;
    };
    server::serve(listener, tls, router::router(state), &config.http, stop).await;
    db.close();
    Ok(())
}

/// Reads the certificate, where there is one, and goes on looking after its files.
pub(super) fn tls(config: &Config) -> anyhow::Result<Option<Arc<Tls>>> {
    let Some(files) = config.http.tls.clone() else {
        return Ok(None);
    };
    let tls = Tls::load(files).context("cannot serve HTTPS")?;
    let tls = Arc::new(tls);
    let watched = Arc::clone(&tls);
    tokio::spawn(async move {
        if let Err(error) = watched.watch().await {
            tracing::error!(%error, "the TLS certificate is not read again");
        }
    });
    Ok(Some(tls))
}

/// Takes the address before anything is started, so that a taken port costs nothing.
pub(super) async fn listen(config: &Config) -> anyhow::Result<Listeners> {
    let bind = async |address: SocketAddr, flag: &str| {
        TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}\nhint: {flag} 127.0.0.1:0 takes a free port")
        })
    };
    let http = &config.http;
    Ok(Listeners {
        api: bind(http.listen, "--listen").await?,
        metrics: match http.metrics_listen {
            Some(address) => Some(bind(address, "--metrics-listen").await?),
            None => None,
        },
    })
}

/// The addresses that were taken.
pub(super) struct Listeners {
    pub(super) api: TcpListener,
    metrics: Option<TcpListener>,
}

impl Listeners {
    /// Serves the metrics, where somebody asked for them, until the process ends; then returns
    /// the API's address.
    pub(super) fn serve_metrics(
        self,
        config: &Config,
        state: &AppState,
    ) -> anyhow::Result<TcpListener> {
        let Some(listener) = self.metrics else {
            return Ok(self.api);
        };
        let url = url_of(listener.local_addr()?, false) + "/metrics";
        tracing::info!(http.url = %url, "serving metrics");
        print(&format!("metrics {url}\n"))?;
        let router = metrics::router(state.clone(), config.data_dir.clone());
        let http = config.http.clone();
        tokio::spawn(async move {
            server::serve(listener, None, router, &http, std::future::pending()).await;
        });
        Ok(self.api)
    }
}

/// Puts together what the handlers work with.
pub(super) fn state(config: &Config, db: Db) -> anyhow::Result<AppState> {
    let secrets = Secrets::load_or_create(&config.secrets_dir)
        .with_context(|| format!("cannot use the keys in {}", config.secrets_dir.display()))?;
    let mut state = AppState::new(db, secrets, Clock::system(), config.http.clone());
    state.backups = backups(config)?;
    state.erasure_key = Some(head_key(config)?);
    state.ledger = ledger(config)?;
    Ok(state)
}

/// Opens the ledger of erasures: none where there is no place for backups.
pub(super) fn ledger(config: &Config) -> anyhow::Result<Option<Ledger>> {
    let Some(backups) = backups(config)? else {
        return Ok(None);
    };
    let key = head_key(config)?;
    Ok(Some(Ledger::new(&config.data_dir, backups.storage, key)))
}

/// Locks out whom the ledger names and the database knows again: it was set back. Before anybody
/// is served.
pub(super) async fn respect_ledger(state: &AppState) -> anyhow::Result<()> {
    let Some(ledger) = state.ledger.clone() else {
        return Ok(());
    };
    let locked = erasure::lock_out(&state.db, &state.clock, &ledger).await;
    locked.context("cannot do what the ledger of erasures says")?;
    tokio::spawn(jobs::erasure::run(state.clone(), ledger));
    Ok(())
}

/// Opens the place for backups. One that was named must be there; without the usual one the
/// server runs, and has no backups.
pub(super) fn backups(config: &Config) -> anyhow::Result<Option<Backups>> {
    let usual = config.data_dir.join("backups").display().to_string();
    let opened = Storage::open(Settings {
        address: config.backup_url.clone().unwrap_or(usual),
        options: config.bucket.variables().to_vec(),
        keys: config.backup_key_file.as_deref().map(keys).transpose()?,
    });
    match opened {
        Ok(storage) => Ok(Some(
            Backups::new(storage).with_limit(config.backup_mb_per_second),
        )),
        Err(error) if config.backup_url.is_none() => {
            tracing::warn!(%error, "no backups\nhint: name a place with --backup-url");
            Ok(None)
        }
        Err(error) => Err(error).context("cannot use the place for backups"),
    }
}

/// Reads the key file, which must be for the server's eyes only.
fn keys(file: &Path) -> anyhow::Result<Keys> {
    let failed = || format!("cannot use the key file {}", file.display());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(file).with_context(failed)?.permissions();
        anyhow::ensure!(
            mode.mode() & 0o077 == 0,
            "others may read the key file {0}\nhint: chmod 600 {0}",
            file.display()
        );
    }
    let text = std::fs::read_to_string(file).with_context(failed)?;
    Keys::parse(&text).with_context(failed)
}

/// Starts what the server does besides answering; it ends with the process.
///
/// # Errors
/// When the key of the audit trail cannot be used.
pub(super) fn start_jobs(config: &Config, state: &AppState) -> anyhow::Result<()> {
    if let Some(backups) = state.backups.clone() {
        let heads = heads(config, backups.storage.clone())?;
        tokio::spawn(jobs::audit::run(state.clone(), heads));
        if let hours @ 1.. = config.backup_trial_hours {
            let every = chrono::Duration::hours(hours.try_into().unwrap_or(i64::MAX));
            let storage = backups.storage.clone();
            tokio::spawn(jobs::trials::run(state.clone(), storage, every));
        }
        tokio::spawn(jobs::restores::run(state.clone(), backups.clone()));
        tokio::spawn(jobs::backups::run(state.clone(), backups));
    }
    tokio::spawn(jobs::scrub::run(state.clone()));
    tokio::spawn(jobs::bodies::run(state.clone()));
    tokio::spawn(jobs::history::run(state.clone(), config.history_days));
    Ok(())
}

/// Returns where the heads of audit trails are kept: beside the backups.
pub(super) fn heads(config: &Config, storage: Storage) -> anyhow::Result<Heads> {
    Ok(Heads::new(storage, head_key(config)?))
}

/// Loads the key that signs heads of audit trails, and what is about erasures.
fn head_key(config: &Config) -> anyhow::Result<Arc<HeadKey>> {
    let folder = &config.secrets_dir;
    let key = HeadKey::load_or_create(folder);
    let key = key.with_context(|| format!("cannot use the keys in {}", folder.display()))?;
    Ok(Arc::new(key))
}

/// Returns the URL under which programs of this machine reach the address.
pub(super) fn url_of(address: SocketAddr, tls: bool) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_one_that_can_be_asked() {
        assert_eq!(
            url_of("0.0.0.0:80".parse().unwrap(), false),
            "http://127.0.0.1:80"
        );
        assert_eq!(url_of("[::]:80".parse().unwrap(), false), "http://[::1]:80");
        assert_eq!(
            url_of("10.0.0.1:7420".parse().unwrap(), true),
            "https://10.0.0.1:7420"
        );
    }
}
