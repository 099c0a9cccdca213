//! The server's configuration: flags over environment over file over defaults, read once.
//!
//! Owns the list of settings; the rest of the program receives values and never looks at the
//! environment itself.

mod bucket;
mod cidr;
mod settings;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use bucket::Bucket;
pub use cidr::{Cidr, InvalidCidr};
pub use settings::{SETTINGS, Setting, SettingsArgs, Source, Value, Values};

use coditect_server_store::embedded::BinarySearch;

use crate::tls::TlsFiles;

/// What the program was told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of the server on this machine.
    pub data_dir: PathBuf,
    /// Where the database is.
    pub target: Target,
    /// Folder with the signing keys, outside the database.
    pub secrets_dir: PathBuf,
    /// Where backups are kept, an absolute folder or a URL; without one in `backups` below the
    /// data folder.
    pub backup_url: Option<String>,
    /// File with the keys that backups are encrypted with.
    pub backup_key_file: Option<PathBuf>,
    /// Most megabytes of rows that a backup reads in a second; 0 for no limit.
    pub backup_mb_per_second: usize,
    /// Hours between two restores on trial; 0 for none.
    pub backup_trial_hours: usize,
    /// Days for which versions of records are kept where an organisation has no number of its own;
    /// 0 for good, none where its plan decides.
    pub history_days: Option<u32>,
    /// Longest time that a change of the embedded PostgreSQL waits before it is archived, in
    /// seconds; 0 for no archive of it.
    pub database_archive_seconds: u32,
    /// The variables that the tools of the buckets' vendors read: addresses and credentials.
    pub bucket: Bucket,
    /// Where to look for PostgreSQL's programs.
    pub postgres: BinarySearch,
    /// Most database connections for requests.
    pub database_connections_max: usize,
    /// The HTTP side.
    pub http: HttpConfig,
    /// Logs.
    pub log: LogConfig,
}

/// Which database to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The embedded PostgreSQL below the data folder.
    Embedded,
    /// A PostgreSQL that somebody else runs.
    External(DatabaseUrls),
}

/// Connection strings; they may hold passwords and are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrls {
    /// The owner's, or that of a role that may act as all three.
    pub owner: String,
    /// The app role's.
    pub app: Option<String>,
    /// The system role's.
    pub system: Option<String>,
    /// One that no pooler stands in front of, for hints between servers.
    pub direct: Option<String>,
    /// One of a read replica, whose role may act as the app's.
    pub replica: Option<String>,
}

impl std::fmt::Debug for DatabaseUrls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DatabaseUrls(hidden)")
    }
}

/// Listener and limits of the HTTP side.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the metrics are served.
    pub metrics_listen: Option<SocketAddr>,
    /// Whether plain HTTP is served to other machines.
    pub insecure_listen: bool,
    /// Proxies whose X-Forwarded-* headers are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// The certificate to serve HTTPS with; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// Longest time for one request.
    pub request_timeout: Duration,
    /// Most requests at work at a time.
    pub requests_max: usize,
    /// Most open connections.
    pub connections_max: usize,
    /// How long requests in flight may take when the server stops.
    pub stop_timeout: Duration,
}

/// Form and amount of the logs.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Whether a line is a JSON object.
    pub json: bool,
    /// Filter directives, such as `info` or `coditect_server=debug`.
    pub filter: String,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The value has the wrong form.
    #[error("setting {name} from {origin} is wrong: {reason}")]
    Value {
        /// Name of the setting.
        name: &'static str,
        /// Where it came from.
        origin: Source,
        /// What is wrong; never the value of a secret.
        reason: String,
    },
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration file is not what it should be.
    #[error("the configuration file {} is wrong: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Plain HTTP would be served to other machines without being asked for.
    #[error(
        "plain HTTP on {listen} could be read by others\nhint: listen on 127.0.0.1, give \
         --tls-cert and --tls-key, name the TLS proxy in front with --trusted-proxy, or ask for \
         it with --insecure-listen"
    )]
    InsecureListen {
        /// The address asked for.
        listen: SocketAddr,
    },
}

impl Config {
    /// Checks resolved settings and returns them in typed form.
    ///
    /// # Errors
    /// [`ConfigError::Value`] naming the first setting with a wrong value.
    pub fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let data_dir = data_dir(values);
        let target = match values.text("database_url") {
            Some(owner) if values.source("data_dir") != Some(Source::Flag) => {
                Target::External(DatabaseUrls {
                    owner,
                    app: values.text("database_app_url"),
                    system: values.text("database_system_url"),
                    direct: values.text("database_direct_url"),
                    replica: values.text("database_replica_url"),
                })
            }
            _ => Target::Embedded,
        };
        let secrets_dir = values.text("secrets_dir").map(PathBuf::from);
        Ok(Self {
            secrets_dir: secrets_dir.unwrap_or_else(|| data_dir.join("secrets")),
            backup_url: values.text("backup_url"),
            backup_key_file: values.text("backup_key_file").map(PathBuf::from),
            backup_mb_per_second: values.number("backup_mb_per_second", 0, 100_000)?,
            backup_trial_hours: values.number("backup_trial_hours", 0, 8_760)?,
            history_days: history_days(values)?,
            database_archive_seconds: values
                .number("database_archive_seconds", 0, 3_600)?
                .try_into()
                .unwrap_or(0),
            bucket: values.bucket().clone(),
            data_dir,
            target,
            postgres: BinarySearch {
                explicit: values.text("postgres_bin").map(PathBuf::from),
                home: values.home().map(Path::to_owned),
                path: values.path().map(OsString::from),
            },
            database_connections_max: values.number("database_connections_max", 1, 1_000)?,
            http: HttpConfig::from_values(values)?,
            log: LogConfig::from_values(values)?,
        })
    }

    /// Checks that plain HTTP is not offered to other machines by accident.
    ///
    /// # Errors
    /// [`ConfigError::InsecureListen`].
    pub fn check_listen(&self) -> Result<(), ConfigError> {
        let http = &self.http;
        let safe = http.listen.ip().is_loopback()
            || http.tls.is_some()
            || http.insecure_listen
            || !http.trusted_proxies.is_empty();
        if safe {
            Ok(())
        } else {
            Err(ConfigError::InsecureListen {
                listen: http.listen,
            })
        }
    }
}

impl HttpConfig {
    fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let mut trusted_proxies = Vec::new();
        for part in values.text("trusted_proxy").unwrap_or_default().split(',') {
            if !part.trim().is_empty() {
                trusted_proxies.push(values.checked("trusted_proxy", part.trim())?);
            }
        }
        let address = |name: &'static str| {
            let text = values.text(name)?.replace("localhost:", "127.0.0.1:");
            Some(values.checked(name, &text))
        };
        let unnamed = || values.wrong("listen", "expected an address and a port");
        Ok(Self {
            listen: address("listen").ok_or_else(unnamed)??,
            metrics_listen: address("metrics_listen").transpose()?,
            insecure_listen: values.flag("insecure_listen")?,
            trusted_proxies,
            tls: tls_files(values)?,
            request_timeout: values.milliseconds("request_timeout_ms", 100, 600_000)?,
            requests_max: values.number("requests_max", 1, 100_000)?,
            connections_max: values.number("connections_max", 1, 100_000)?,
            stop_timeout: values.milliseconds("stop_timeout_ms", 0, 600_000)?,
        })
    }
}

impl LogConfig {
    fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let json = match values.text("log_format").as_deref() {
            Some("json") => true,
            Some("text") => false,
            _ => return Err(values.wrong("log_format", "expected text or json")),
        };
        Ok(Self {
            json,
            filter: values.text("log_filter").unwrap_or_default(),
        })
    }
}

/// Returns the files of the certificate; one without the other is a mistake.
fn tls_files(values: &Values) -> Result<Option<TlsFiles>, ConfigError> {
    match (values.text("tls_cert"), values.text("tls_key")) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles {
            certificate: certificate.into(),
            key: key.into(),
        })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(values.wrong("tls_cert", "it needs tls_key, too")),
        (None, Some(_)) => Err(values.wrong("tls_key", "it needs tls_cert, too")),
    }
}

/// Reads for how many days versions are kept: 0 for good, none where plans decide.
fn history_days(values: &Values) -> Result<Option<u32>, ConfigError> {
    const DAYS_MAX: usize = coditect_server_store::history::DAYS_MAX as usize;
    match values.text("history_days").as_deref() {
        None => Ok(None),
        Some("forever") => Ok(Some(0)),
        Some(_) => {
            let days = values.number("history_days", 0, DAYS_MAX)?;
            Ok(Some(u32::try_from(days).unwrap_or(0)))
        }
    }
}

/// Returns the data folder: as told, else where `make up` puts it.
fn data_dir(values: &Values) -> PathBuf {
    if let Some(folder) = values.text("data_dir") {
        return PathBuf::from(folder);
    }
    match values.home() {
        Some(home) if home != Path::new("/root") => home.join(".local/share/coditect/server"),
        _ => PathBuf::from("/var/lib/coditect"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flags: &[(&'static str, &str)], env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let env: Vec<(String, String)> = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let lookup = |name: &str| {
            env.iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| OsString::from(value))
        };
        let flags = flags
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect::<Vec<_>>();
        Config::from_values(&Values::resolve(&flags, &lookup)?)
    }

    #[test]
    fn data_dir_flag_wins_over_database_url() {
        let env = [("DATABASE_URL", "host=db")];
        let by_flag = config(&[("data_dir", "/d")], &env).unwrap();
        assert_eq!(by_flag.target, Target::Embedded);
        assert_eq!(by_flag.data_dir, Path::new("/d"));
        let by_env = config(&[], &env).unwrap();
        assert!(matches!(by_env.target, Target::External(urls) if urls.owner == "host=db"));
    }

    #[test]
    fn other_machines_get_no_plain_http_by_accident() {
        let open = [("listen", "0.0.0.0:80")];
        assert!(config(&open, &[]).unwrap().check_listen().is_err());
        assert!(
            config(&[("listen", "[::1]:0")], &[])
                .unwrap()
                .check_listen()
                .is_ok()
        );
        assert!(
            config(&[("listen", "localhost:0")], &[])
                .unwrap()
                .check_listen()
                .is_ok()
        );
        let asked = [open[0], ("insecure_listen", "true")];
        assert!(config(&asked, &[]).unwrap().check_listen().is_ok());
        let proxied = [open[0], ("trusted_proxy", "10.0.0.0/8, ::1")];
        let proxied = config(&proxied, &[]).unwrap();
        assert_eq!(proxied.http.trusted_proxies.len(), 2);
        assert!(proxied.check_listen().is_ok());
    }

    #[test]
    fn certificate_makes_other_addresses_safe_and_needs_its_key() {
        let open = ("listen", "0.0.0.0:443");
        let pair = [open, ("tls_cert", "/c.pem"), ("tls_key", "/c.key")];
        let served = config(&pair, &[]).unwrap();
        assert!(served.check_listen().is_ok());
        assert_eq!(served.http.tls.unwrap().key, Path::new("/c.key"));
        for half in [pair[1], pair[2]] {
            let error = config(&[half], &[]).unwrap_err().to_string();
            assert!(error.contains("needs tls_"), "{error}");
        }
    }

    #[test]
    fn wrong_value_names_setting_and_origin() {
        let error = config(&[], &[("CODITECT_LISTEN", "nowhere")]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("setting listen from environment is wrong")
        );
        let error = config(&[("requests_max", "0")], &[]).unwrap_err();
        assert!(error.to_string().contains("requests_max"), "{error}");
    }
}
