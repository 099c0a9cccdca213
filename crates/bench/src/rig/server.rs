//! A `coditect-server up` on a folder of its own; stopped when dropped.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use super::postgres::Postgres;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) tenant: Uuid,
    pub(crate) postgres: Postgres,
    running: Running,
    folder: TempDir,
}

impl Server {
    /// Starts the program on a new folder.
    pub(crate) fn start(program: &Path) -> anyhow::Result<Self> {
        let folder = new_folder()?;
        let data = folder.path().join("data");
        let (running, _) = Running::start(program, &data)?;
        let file = data.join("bootstrap.json");
        let text = fs::read_to_string(&file).context("reading bootstrap.json")?;
        let made: Value = serde_json::from_str(&text)?;
        let tenant = made["tenant_id"].as_str().unwrap_or_default();
        Ok(Self {
            url: running.url.clone(),
            tenant: tenant.parse().context("no tenant in bootstrap.json")?,
            postgres: Postgres::find(&data)?,
            running,
            folder,
        })
    }

    /// Returns the server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Returns the folder that goes with the server, readable by PostgreSQL's user.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs an administration command and returns the JSON that it prints.
    pub(crate) fn admin(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let ran = Command::new(&self.running.program)
            .arg("admin")
            .args(arguments)
            .args(["--json", "--data-dir"])
            .arg(self.folder.path().join("data"))
            .output()
            .context("running the server program")?;
        if !ran.status.success() {
            bail!(
                "admin {arguments:?}: {}",
                String::from_utf8_lossy(&ran.stderr)
            );
        }
        Ok(serde_json::from_slice(&ran.stdout)?)
    }
}

/// A server process that said that it is ready.
#[derive(Debug)]
pub(crate) struct Running {
    program: PathBuf,
    child: Child,
    url: String,
}

impl Running {
    /// Starts the program on a folder and returns how long it took to get ready.
    pub(crate) fn start(program: &Path, data: &Path) -> anyhow::Result<(Self, Duration)> {
        let log = data.with_extension("log");
        let errors = fs::File::options().create(true).append(true).open(&log)?;
        let started = Instant::now();
        let mut child = Command::new(program)
            .arg("up")
            .arg("--data-dir")
            .arg(data)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let output = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(output).lines();
        let ready = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ready ").map(|url| url.trim().to_owned()));
        let took = started.elapsed();
        // The pipe is read to its end, so that the server never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        let Some(url) = ready else {
            let _ = child.wait();
            bail!(
                "not ready: {}",
                fs::read_to_string(&log).unwrap_or_default()
            );
        };
        let program = program.to_owned();
        Ok((
            Self {
                program,
                child,
                url,
            },
            took,
        ))
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-s", "TERM", &pid]).status();
        let _ = self.child.wait();
    }
}

/// Makes a folder that PostgreSQL's unprivileged user can reach.
pub(crate) fn new_folder() -> anyhow::Result<TempDir> {
    let folder = tempfile::Builder::new()
        .prefix("coditect-bench-")
        .tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}
