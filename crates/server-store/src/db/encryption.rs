//! Connection strings, and TLS to a PostgreSQL on another machine.
//!
//! The driver reads the string but for two things: `sslmode=verify-ca|verify-full`, which are
//! taken as `require`, and `sslrootcert=FILE`. What is required is verified: chain and host name,
//! against the system's authorities or those in the file.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::StoreError;

/// A connection string, read.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) config: Config,
    /// What shakes hands where the string requires TLS; plain connections otherwise.
    pub(crate) tls: Option<MakeRustlsConnect>,
}

/// Why connections cannot be encrypted as the string says.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    /// The file of authorities cannot be read, or holds none.
    #[error("cannot use the authorities in sslrootcert={}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The system knows no authorities.
    #[error("the system has no certificate authorities\nhint: name yours with sslrootcert=FILE")]
    NoAuthorities,
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Setup(#[from] rustls::Error),
}

/// Reads a connection string.
///
/// # Errors
///
/// [`StoreError::Driver`] for a string that is none, [`StoreError::Encryption`] for authorities
/// that cannot be used.
pub(crate) fn read(url: &str) -> Result<Target, StoreError> {
    let (text, file) = without_root_file(url);
    let config = Config::from_str(&text)?;
    let tls = match config.get_ssl_mode() {
        SslMode::Require => Some(MakeRustlsConnect::new(client_config(file)?)),
        _ => None,
    };
    Ok(Target { config, tls })
}

/// Returns the machine that a connection goes to in the clear although nobody asked for that: TLS
/// is neither required nor disabled, and the database is not on this machine.
pub(crate) fn plain_to(config: &Config) -> Option<&str> {
    if config.get_ssl_mode() != SslMode::Prefer {
        return None;
    }
    config.get_hosts().iter().find_map(|host| match host {
        Host::Tcp(host) if host == "localhost" => None,
        Host::Tcp(host) => match host.parse::<IpAddr>() {
            Ok(address) if address.is_loopback() => None,
            _ => Some(host.as_str()),
        },
        Host::Unix(_) => None,
    })
}

/// Returns the string as the driver reads it, and the file of authorities.
fn without_root_file(url: &str) -> (String, Option<PathBuf>) {
    let mut file = None;
    let mut keep = |part: &&str| match part.split_once('=') {
        Some(("sslrootcert", path)) => {
            file = Some(PathBuf::from(path));
            false
        }
        _ => true,
    };
    let driver_words = |part: &str| match part {
        "sslmode=verify-ca" | "sslmode=verify-full" => "sslmode=require".to_owned(),
        other => other.to_owned(),
    };
    let text = if let Some((head, query)) = url.split_once('?') {
        let parts = query.split('&').filter(&mut keep).map(driver_words);
        let query: Vec<String> = parts.collect();
        format!("{head}?{}", query.join("&"))
    } else if url.contains("://") || !(url.contains("sslrootcert") || url.contains("sslmode")) {
        // Nothing of ours in it; spaces may be quoted.
        url.to_owned()
    } else {
        let parts = url.split(' ').filter(&mut keep).map(driver_words);
        parts.collect::<Vec<_>>().join(" ")
    };
    (text, file)
}

fn client_config(file: Option<PathBuf>) -> Result<ClientConfig, EncryptionError> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(path) => {
            let read = CertificateDer::pem_file_iter(&path);
            let found = read.and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let found = found.and_then(|found| match found.is_empty() {
                true => Err(rustls::pki_types::pem::Error::NoItemsFound),
                false => Ok(found),
            });
            for authority in
                found.map_err(|source| EncryptionError::Authorities { path, source })?
            {
                roots.add(authority)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(EncryptionError::NoAuthorities);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_connections_to_other_machines_are_noticed() {
        let plain = |url: &str| {
            let target = read(url).unwrap();
            plain_to(&target.config).map(str::to_owned)
        };
        for (url, to) in [
            ("postgres://u@db.example/x", "db.example"),
            ("postgres://u@db.example/x?sslmode=prefer", "db.example"),
            ("host=localhost,10.0.0.5 user=u", "10.0.0.5"),
        ] {
            assert_eq!(plain(url).as_deref(), Some(to), "{url}");
        }
        for url in [
            "postgres://u@db.example/x?sslmode=disable",
            "postgres://u@localhost/x",
            "host=127.0.0.1 user=u",
            "host=::1 user=u",
            "host=/run/postgresql user=u",
        ] {
            assert_eq!(plain(url), None, "{url}");
        }
    }

    #[test]
    fn only_what_requires_tls_gets_it_and_both_forms_are_read() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../server/tests/tls/authority.pem"
        );
        for url in [
            format!("postgres://u@db/x?sslmode=verify-full&sslrootcert={file}"),
            format!("postgres://u@db/x?sslrootcert={file}&sslmode=require&application_name=a"),
            format!("host=db user=u sslmode=verify-ca sslrootcert={file}"),
        ] {
            let target = read(&url).unwrap();
            assert!(target.tls.is_some(), "{url}");
            assert_eq!(target.config.get_user(), Some("u"));
        }
        for url in [
            "postgres://u@db/x",
            "host=db user='u' application_name='a b'",
            "postgres://u@db/x?sslmode=disable",
        ] {
            assert!(read(url).unwrap().tls.is_none(), "{url}");
        }
        let none = read("host=db sslmode=require sslrootcert=/nowhere.pem");
        assert!(matches!(none, Err(StoreError::Encryption(_))));
    }
}
