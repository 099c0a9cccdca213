//! `serve`: the API on an external PostgreSQL; and what `up` shares with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use coditect_server_store::Db;
use coditect_server_store::credential::Secrets;
use tokio::net::TcpListener;

use super::shutdown::Shutdown;
use super::{database, print};
use crate::config::Config;
use crate::state::{AppState, Clock};
use crate::{router, server};

pub(super) async fn run(config: &Config) -> anyhow::Result<()> {
    let mut shutdown = Shutdown::install()?;
    config.check_listen()?;
    let urls = database::require_external(config)?;
    let listener = listen(config).await?;
    let settings = database::external(urls, config.database_connections_max);
    let db = Db::connect(&settings)
        .await
        .context("cannot use DATABASE_URL")?;
    let state = state(config, db.clone())?;
    let url = url_of(listener.local_addr()?);
    tracing::info!(http.url = %url, "serving");
    print(&format!("ready {url}\n"))?;
    server::serve(
        listener,
        router::router(state),
        &config.http,
        shutdown.wait(),
    )
    .await;
    db.close();
    Ok(())
}

/// Takes the address before anything is started, so that a taken port costs nothing.
pub(super) async fn listen(config: &Config) -> anyhow::Result<TcpListener> {
    let address = config.http.listen;
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}\nhint: --listen 127.0.0.1:0 takes a free port")
    })
}

/// Puts together what the handlers work with.
pub(super) fn state(config: &Config, db: Db) -> anyhow::Result<AppState> {
    let secrets = Secrets::load_or_create(&config.secrets_dir)
        .with_context(|| format!("cannot use the keys in {}", config.secrets_dir.display()))?;
    Ok(AppState::new(
        db,
        secrets,
        Clock::system(),
        config.http.clone(),
    ))
}

/// Returns the URL under which programs of this machine reach the address.
pub(super) fn url_of(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_one_that_can_be_asked() {
        assert_eq!(url_of("0.0.0.0:80".parse().unwrap()), "http://127.0.0.1:80");
        assert_eq!(url_of("[::]:80".parse().unwrap()), "http://[::1]:80");
        assert_eq!(
            url_of("10.0.0.1:7420".parse().unwrap()),
            "http://10.0.0.1:7420"
        );
    }
}
