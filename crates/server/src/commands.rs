//! The commands: one file each. Results go to standard output, everything else to standard
//! error.

mod admin;
mod config_show;
mod data_dir;
mod database;
mod migrate;
mod serve;
mod shutdown;
mod up;

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, ConfigCommand};
use crate::config::{Config, LogConfig, Source, Values};
use crate::openapi;

/// A failure with an exit code of its own.
#[derive(Debug)]
struct Exit {
    code: u8,
    text: String,
}

/// What commands log that only do one thing. The pool's own line is left out: it says that a
/// connection ended, which is how such a command stops its PostgreSQL.
const QUIET: &str = "warn,deadpool.postgres=off";

/// Exit code: a server runs on the data folder already.
const RUNS_ALREADY: u8 = 3;
/// Exit code: the organisation or person that was named does not exist.
const NO_SUCH_THING: u8 = 4;
/// Exit code: stored rows are damaged, and nobody has mended them yet.
const DAMAGED: u8 = 5;

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Exit {}

/// Runs a command and returns the program's exit code.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&format!("error: {error:#}"));
            match error.downcast_ref::<Exit>() {
                Some(exit) => ExitCode::from(exit.code),
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    if matches!(cli.command, Command::Openapi) {
        return print(openapi::text());
    }
    let values = Values::of_process(&cli.settings)?;
    if let Command::Config(ConfigCommand::Show { json }) = cli.command {
        return config_show::run(&values, json);
    }
    let config = Config::from_values(&values)?;
    let serves = matches!(cli.command, Command::Up | Command::Serve);
    // Short commands stay quiet unless they are asked to talk.
    let quiet = !serves && values.source("log_filter") == Some(Source::Default);
    start_logs(&config.log, if quiet { QUIET } else { &config.log.filter })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        match cli.command {
            Command::Up => up::run(&config).await,
            Command::Serve => serve::run(&config).await,
            Command::Migrate { json } => migrate::run(&config, json).await,
            Command::Admin(command) => admin::run(&config, command).await,
            Command::Config(_) | Command::Openapi => Ok(()),
        }
    })
}

/// Sends log lines to standard error.
fn start_logs(log: &LogConfig, filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(filter)
        .with_context(|| format!("the log filter '{filter}' is wrong"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = if log.json {
        builder
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_current_span(true)
            .try_init()
    } else {
        builder.with_ansi(false).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("cannot start the logs: {error}"))
}

/// Writes a result to standard output. A reader that went away is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// Writes a line for people to standard error.
fn report(line: &str) {
    // When standard error is closed there is nowhere left to complain to.
    let _ = writeln!(std::io::stderr(), "{line}");
}
