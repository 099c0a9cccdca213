//! The list of settings and where each value came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::{Bucket, ConfigError};

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Name in the file and in `config show`.
    pub name: &'static str,
    /// Environment variable.
    pub env: &'static str,
    /// Value when nobody says otherwise.
    pub default: Option<&'static str>,
    /// Whether the value is hidden.
    pub secret: bool,
    /// What it is for.
    pub about: &'static str,
}

const fn setting(
    name: &'static str,
    env: &'static str,
    default: Option<&'static str>,
    about: &'static str,
) -> Setting {
    Setting {
        name,
        env,
        default,
        secret: false,
        about,
    }
}

const fn secret(name: &'static str, env: &'static str, about: &'static str) -> Setting {
    Setting {
        name,
        env,
        default: None,
        secret: true,
        about,
    }
}

/// All settings. `docs/CONFIGURATION.md` explains them; a test compares the two.
pub const SETTINGS: &[Setting] = &[
    setting(
        "data_dir",
        "CODITECT_DATA_DIR",
        None,
        "folder of the embedded server",
    ),
    setting(
        "listen",
        "CODITECT_LISTEN",
        Some("127.0.0.1:7420"),
        "address and port of the API",
    ),
    setting(
        "metrics_listen",
        "CODITECT_METRICS_LISTEN",
        None,
        "address and port of the metrics; nobody serves them without",
    ),
    setting(
        "insecure_listen",
        "CODITECT_INSECURE_LISTEN",
        Some("false"),
        "serve plain HTTP to other machines",
    ),
    setting(
        "trusted_proxy",
        "CODITECT_TRUSTED_PROXY",
        None,
        "networks of proxies whose X-Forwarded-For and X-Forwarded-Proto count",
    ),
    setting(
        "tls_cert",
        "CODITECT_TLS_CERT",
        None,
        "certificate (PEM) to serve HTTPS with",
    ),
    setting("tls_key", "CODITECT_TLS_KEY", None, "its private key (PEM)"),
    secret(
        "database_url",
        "DATABASE_URL",
        "external PostgreSQL, as the schema's owner",
    ),
    secret(
        "database_app_url",
        "DATABASE_APP_URL",
        "the same as the app's role",
    ),
    secret(
        "database_system_url",
        "DATABASE_SYSTEM_URL",
        "the same as the system role",
    ),
    secret(
        "database_direct_url",
        "DATABASE_DIRECT_URL",
        "the same without a pooler in front, for news between servers",
    ),
    secret(
        "database_replica_url",
        "DATABASE_REPLICA_URL",
        "a read replica of it, for pulls that read much",
    ),
    setting(
        "database_connections_max",
        "CODITECT_DATABASE_CONNECTIONS_MAX",
        Some("32"),
        "database connections for requests",
    ),
    setting(
        "secrets_dir",
        "CODITECT_SECRETS_DIR",
        None,
        "folder of the signing keys",
    ),
    setting(
        "backup_url",
        "CODITECT_BACKUP_URL",
        None,
        "where backups are kept: an absolute folder, or a file://, s3://, gs:// or az:// URL",
    ),
    setting(
        "backup_key_file",
        "CODITECT_BACKUP_KEY_FILE",
        None,
        "file with the keys that backups are encrypted with, the one in use first",
    ),
    setting(
        "backup_mb_per_second",
        "CODITECT_BACKUP_MB_PER_SECOND",
        Some("50"),
        "most megabytes of rows that a backup reads in a second; 0 for no limit",
    ),
    setting(
        "backup_trial_hours",
        "CODITECT_BACKUP_TRIAL_HOURS",
        Some("24"),
        "hours between two restores of a random backup on trial; 0 for none",
    ),
    setting(
        "history_days",
        "CODITECT_HISTORY_DAYS",
        None,
        "days for which versions of records are kept; forever for good",
    ),
    setting(
        "database_archive_seconds",
        "CODITECT_DATABASE_ARCHIVE_SECONDS",
        Some("120"),
        "longest time that a change of the embedded PostgreSQL waits before it is archived; 0 for \
         no archive",
    ),
    setting(
        "postgres_bin",
        "CODITECT_POSTGRES_BIN",
        None,
        "folder with postgres and initdb",
    ),
    setting(
        "request_timeout_ms",
        "CODITECT_REQUEST_TIMEOUT_MS",
        Some("60000"),
        "one request",
    ),
    setting(
        "requests_max",
        "CODITECT_REQUESTS_MAX",
        Some("256"),
        "requests at work at a time",
    ),
    setting(
        "connections_max",
        "CODITECT_CONNECTIONS_MAX",
        Some("1024"),
        "open connections",
    ),
    setting(
        "stop_timeout_ms",
        "CODITECT_STOP_TIMEOUT_MS",
        Some("20000"),
        "time for requests in flight when the server stops",
    ),
    setting(
        "log_format",
        "CODITECT_LOG_FORMAT",
        Some("json"),
        "text or json",
    ),
    setting(
        "log_filter",
        "CODITECT_LOG",
        Some("info,tokio_postgres=warn"),
        "levels, such as info,coditect_server=debug",
    ),
];

/// Flags that every command takes. Secrets have none: a command line is visible to every user.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Configuration (also by environment and file: see config show)")]
pub struct SettingsArgs {
    /// JSON file with settings; also $CODITECT_CONFIG
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of the server: PostgreSQL, secrets, bootstrap.json
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Address to serve on; port 0 takes a free one [default: 127.0.0.1:7420]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Serve Prometheus metrics on an address of their own, to everybody who reaches it
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub metrics_listen: Option<String>,
    /// Serve plain HTTP to other machines; anyone on the way can read tokens and content
    #[arg(long, global = true)]
    pub insecure_listen: bool,
    /// Network of a TLS proxy in front, e.g. 10.0.0.0/8; its X-Forwarded-* headers are believed
    #[arg(long, global = true, value_name = "CIDR")]
    pub trusted_proxy: Vec<String>,
    /// Certificate (PEM) to serve HTTPS with; read again when it changes, and on SIGHUP
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// Private key (PEM) of the certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// Folder of the signing keys [default: DIR/secrets]
    #[arg(long, global = true, value_name = "DIR")]
    pub secrets_dir: Option<String>,
    /// Where backups are kept: an absolute folder, or a file://, s3://, gs:// or az:// URL
    /// [default: DIR/backups]
    #[arg(long, global = true, value_name = "URL")]
    pub backup_url: Option<String>,
    /// File with the keys that backups are encrypted with, the one in use first
    #[arg(long, global = true, value_name = "FILE")]
    pub backup_key_file: Option<String>,
    /// Folder with the programs postgres and initdb
    #[arg(long, global = true, value_name = "DIR")]
    pub postgres_bin: Option<String>,
    /// Form of the log lines on standard error [default: json]
    #[arg(long, global = true, value_name = "text|json")]
    pub log_format: Option<String>,
}

impl SettingsArgs {
    /// Returns the settings that were given as flags.
    #[must_use]
    pub fn given(&self) -> Vec<(&'static str, String)> {
        let texts = [
            ("data_dir", self.data_dir.clone()),
            ("listen", self.listen.clone()),
            ("metrics_listen", self.metrics_listen.clone()),
            (
                "insecure_listen",
                self.insecure_listen.then(|| "true".to_owned()),
            ),
            (
                "trusted_proxy",
                (!self.trusted_proxy.is_empty()).then(|| self.trusted_proxy.join(",")),
            ),
            ("tls_cert", self.tls_cert.clone()),
            ("tls_key", self.tls_key.clone()),
            ("secrets_dir", self.secrets_dir.clone()),
            ("backup_url", self.backup_url.clone()),
            ("backup_key_file", self.backup_key_file.clone()),
            ("postgres_bin", self.postgres_bin.clone()),
            ("log_format", self.log_format.clone()),
            (
                "config",
                self.config.as_ref().map(|path| path.display().to_string()),
            ),
        ];
        texts
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

/// Where a value came from; later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// The configuration file.
    File,
    /// An environment variable.
    Environment,
    /// The command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// A value and its source.
#[derive(Clone)]
pub struct Value {
    /// As written.
    pub text: String,
    /// Where it came from.
    pub source: Source,
}

impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Value(from {})", self.source)
    }
}

/// All settings that have a value.
#[derive(Debug, Clone)]
pub struct Values {
    values: BTreeMap<&'static str, Value>,
    home: Option<PathBuf>,
    path: Option<OsString>,
    bucket: Bucket,
}

impl Values {
    /// Resolves the settings of this process: flags, environment, file, defaults.
    ///
    /// # Errors
    /// [`ConfigError::File`] and [`ConfigError::Format`] for the configuration file.
    pub fn of_process(args: &SettingsArgs) -> Result<Self, ConfigError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that reads the environment"
        )]
        Self::resolve(&args.given(), &|name| std::env::var_os(name))
    }

    /// Resolves the settings from `flags` and what `environment` returns for a name.
    ///
    /// # Errors
    /// As [`Values::of_process`].
    pub fn resolve(
        flags: &[(&'static str, String)],
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let flag = |name: &str| {
            flags
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, v)| v.clone())
        };
        let from_environment = |name: &str| {
            environment(name)
                .map(|value| value.to_string_lossy().into_owned())
                .filter(|value| !value.is_empty())
        };
        let file = match flag("config").or_else(|| from_environment("CODITECT_CONFIG")) {
            Some(path) => read_file(Path::new(&path))?,
            None => BTreeMap::new(),
        };
        let mut values = BTreeMap::new();
        for setting in SETTINGS {
            let found = flag(setting.name)
                .map(|text| (text, Source::Flag))
                .or_else(|| Some((from_environment(setting.env)?, Source::Environment)))
                .or_else(|| Some((file.get(setting.name)?.clone(), Source::File)))
                .or_else(|| Some((setting.default?.to_owned(), Source::Default)));
            if let Some((text, source)) = found {
                values.insert(setting.name, Value { text, source });
            }
        }
        let home = from_environment("HOME").map(PathBuf::from);
        Ok(Self {
            values,
            home,
            path: environment("PATH"),
            bucket: Bucket::from_environment(environment),
        })
    }

    /// Returns the value and source of a setting, for `config show`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Returns where a setting's value came from.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<Source> {
        self.values.get(name).map(|value| value.source)
    }

    pub(super) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.values.get(name).map(|value| value.text.clone())
    }

    pub(super) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    pub(super) fn path(&self) -> Option<&OsString> {
        self.path.as_ref()
    }

    pub(super) fn wrong(&self, name: &'static str, reason: impl Into<String>) -> ConfigError {
        let origin = self.source(name).unwrap_or(Source::Default);
        ConfigError::Value {
            name,
            origin,
            reason: reason.into(),
        }
    }

    pub(super) fn checked<T>(&self, name: &'static str, text: &str) -> Result<T, ConfigError>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        text.parse()
            .map_err(|error: T::Err| self.wrong(name, format!("'{text}': {error}")))
    }

    pub(super) fn flag(&self, name: &'static str) -> Result<bool, ConfigError> {
        match self.text(name).as_deref() {
            Some("true" | "1" | "yes") => Ok(true),
            None | Some("false" | "0" | "no") => Ok(false),
            Some(_) => Err(self.wrong(name, "expected true or false")),
        }
    }

    pub(super) fn number(
        &self,
        name: &'static str,
        least: usize,
        most: usize,
    ) -> Result<usize, ConfigError> {
        let number: usize = self.checked(name, &self.text(name).unwrap_or_default())?;
        if (least..=most).contains(&number) {
            Ok(number)
        } else {
            Err(self.wrong(name, format!("expected {least} to {most}")))
        }
    }

    pub(super) fn milliseconds(
        &self,
        name: &'static str,
        least: usize,
        most: usize,
    ) -> Result<Duration, ConfigError> {
        Ok(Duration::from_millis(self.number(name, least, most)? as u64))
    }
}

/// Reads a JSON object of settings; unknown names are refused, so that a typing error shows.
fn read_file(path: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source,
    })?;
    let wrong = |reason: String| ConfigError::Format {
        path: path.to_owned(),
        reason,
    };
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let mut values = BTreeMap::new();
    for (name, value) in object {
        if !SETTINGS.iter().any(|setting| setting.name == name) {
            return Err(wrong(format!("there is no setting '{name}'")));
        }
        let text = plain_text(&value).ok_or_else(|| {
            wrong(format!(
                "'{name}' is neither text, number, true, false nor list"
            ))
        })?;
        values.insert(name, text);
    }
    Ok(values)
}

fn plain_text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(flag) => Some(flag.to_string()),
        serde_json::Value::Array(items) => {
            let texts: Option<Vec<String>> = items.iter().map(plain_text).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_wins_over_environment_over_file_over_default() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("server.json");
        std::fs::write(
            &file,
            r#"{"listen":"1:1","log_filter":"f","requests_max":9}"#,
        )
        .unwrap();
        let environment = |name: &str| match name {
            "CODITECT_LISTEN" => Some(OsString::from("2:2")),
            "CODITECT_LOG" => Some(OsString::from("e")),
            "CODITECT_CONFIG" => Some(file.clone().into_os_string()),
            _ => None,
        };
        let values = Values::resolve(&[("listen", "3:3".to_owned())], &environment).unwrap();
        let shown = |name| {
            let value = values.get(name).unwrap();
            (value.text.clone(), value.source)
        };
        assert_eq!(shown("listen"), ("3:3".to_owned(), Source::Flag));
        assert_eq!(shown("log_filter"), ("e".to_owned(), Source::Environment));
        assert_eq!(shown("requests_max"), ("9".to_owned(), Source::File));
        assert_eq!(
            shown("connections_max"),
            ("1024".to_owned(), Source::Default)
        );
    }

    #[test]
    fn unknown_name_in_the_file_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("server.json");
        std::fs::write(&file, r#"{"lisen":"1:1"}"#).unwrap();
        let flags = [("config", file.display().to_string())];
        let error = Values::resolve(&flags, &|_| None).unwrap_err();
        assert!(error.to_string().contains("'lisen'"), "{error}");
    }

    #[test]
    fn secrets_have_no_flag() {
        use clap::{Args as _, Command};
        let command = SettingsArgs::augment_args(Command::new("test"));
        for setting in SETTINGS.iter().filter(|setting| setting.secret) {
            assert!(
                command
                    .get_arguments()
                    .all(|arg| arg.get_id() != setting.name)
            );
        }
    }

    #[test]
    fn every_setting_is_documented_with_variable_and_default() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/CONFIGURATION.md");
        let page = std::fs::read_to_string(path).unwrap();
        let rows: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        for setting in SETTINGS {
            let row = rows
                .iter()
                .find(|row| row.starts_with(&format!("| `{}` ", setting.name)));
            let row = row.unwrap_or_else(|| panic!("{} is not in the page", setting.name));
            assert!(row.contains(&format!("`{}`", setting.env)), "{row}");
            assert!(row.contains(setting.default.unwrap_or_default()), "{row}");
        }
    }
}
