//! PostgreSQL's own programs on the server's database: `psql` and `pgbench`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::cpu::family_seconds;

const DATABASE: &str = "coditect";
/// The role of requests, which row security binds.
pub(crate) const APP: &str = "coditect_app";
/// The superuser of an embedded server.
pub(crate) const SUPERUSER: &str = "postgres";
const SEPARATOR: &str = "\x1f";

/// The running PostgreSQL of a server.
#[derive(Clone, Debug)]
pub(crate) struct Postgres {
    pub(crate) pid: u32,
    programs: PathBuf,
    socket_dir: String,
    port: String,
}

/// What a run of `pgbench` did in its window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw {
    /// Transactions a second.
    pub(crate) rate: f64,
    /// Transactions for a second of PostgreSQL's processor time.
    pub(crate) per_cpu_second: f64,
}

impl Postgres {
    /// Finds the PostgreSQL that a server runs on its data folder.
    pub(crate) fn find(data: &Path) -> anyhow::Result<Self> {
        let file = find_file(data, "postmaster.pid").context("PostgreSQL does not run")?;
        let text = fs::read_to_string(&file)?;
        let line = |number: usize| text.lines().nth(number).unwrap_or_default().trim();
        let pid: u32 = line(0).parse().context("no process id")?;
        let program = fs::read_link(format!("/proc/{pid}/exe"))?;
        Ok(Self {
            pid,
            programs: program
                .parent()
                .context("postgres has a folder")?
                .to_owned(),
            port: line(3).to_owned(),
            socket_dir: line(4).to_owned(),
        })
    }

    /// Runs a statement as a role and returns its rows.
    pub(crate) fn query(&self, role: &str, sql: &str) -> anyhow::Result<Vec<Vec<String>>> {
        let ran = self
            .command("psql", role)
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-F",
                SEPARATOR,
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                sql,
            ])
            .output()
            .context("running psql")?;
        if !ran.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&ran.stderr).trim());
        }
        let text = String::from_utf8_lossy(&ran.stdout);
        let rows = text.lines().filter(|line| !line.is_empty());
        Ok(rows
            .map(|line| line.split(SEPARATOR).map(str::to_owned).collect())
            .collect())
    }

    /// Runs a statement as the superuser.
    pub(crate) fn run(&self, sql: &str) -> anyhow::Result<()> {
        self.query(SUPERUSER, sql).map(drop)
    }

    /// Returns the first value that a statement of the superuser returns.
    pub(crate) fn value(&self, sql: &str) -> anyhow::Result<String> {
        let rows = self.query(SUPERUSER, sql)?;
        Ok(rows.into_iter().flatten().next().unwrap_or_default())
    }

    /// Runs scripts, one of them for each transaction, for a second and then for `seconds` that
    /// are measured, as the app's role with settings of its session.
    pub(crate) fn bench(
        &self,
        scripts: &[PathBuf],
        connections: usize,
        seconds: u64,
        settings: &[(String, String)],
    ) -> anyhow::Result<Raw> {
        let options: Vec<String> = settings
            .iter()
            .map(|(name, value)| format!("-c {name}={value}"))
            .collect();
        let mut command = self.command("pgbench", APP);
        command
            .env("PGOPTIONS", options.join(" "))
            .args(["--no-vacuum", "--protocol=simple", "--progress=1"])
            .args(["--client", &connections.to_string()])
            .args(["--jobs", &connections.min(2).to_string()])
            .args(["--time", &(seconds + 2).to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        for script in scripts {
            command.arg("--file").arg(script);
        }
        let mut child = command.arg(DATABASE).spawn().context("running pgbench")?;
        let errors = child.stderr.take().context("no standard error")?;
        let (mut rates, mut cpu, mut said) = (Vec::new(), Vec::new(), String::new());
        for line in BufReader::new(errors).lines() {
            let line = line?;
            match progress(&line) {
                // The first second is the warming up; the last line may be of a part of one.
                Some(rate) if cpu.len() <= seconds as usize => {
                    rates.push(rate);
                    cpu.push(family_seconds(self.pid)?);
                }
                Some(_) => {}
                None => said.push_str(&line),
            }
        }
        let status = child.wait()?;
        if !status.success() || cpu.len() <= seconds as usize {
            bail!("pgbench: {said}");
        }
        let transactions: f64 = rates[1..].iter().sum();
        let used = cpu[cpu.len() - 1] - cpu[0];
        Ok(Raw {
            rate: transactions / seconds as f64,
            per_cpu_second: transactions / used.max(0.01),
        })
    }

    /// Returns a program of the same PostgreSQL, connected as a role.
    fn command(&self, program: &str, role: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .env("PGHOST", &self.socket_dir)
            .env("PGPORT", &self.port)
            .env("PGUSER", role)
            .env("PGDATABASE", DATABASE);
        command
    }
}

/// Returns the transactions a second of a line such as
/// `progress: 2.0 s, 1234.5 tps, lat 1.2 ms stddev 0.3, 0 failed`.
fn progress(line: &str) -> Option<f64> {
    let rest = line.strip_prefix("progress: ")?;
    let part = rest
        .split(", ")
        .find_map(|part| part.strip_suffix(" tps"))?;
    part.parse().ok()
}

fn find_file(folder: &Path, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if entry.file_name() == name {
            return Some(path);
        }
        if path.is_dir()
            && let Some(found) = find_file(&path, name)
        {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_of_pgbench_is_read() {
        let line = "progress: 2.0 s, 1234.5 tps, lat 1.220 ms stddev 0.3, 0 failed";
        assert_eq!(progress(line), Some(1234.5));
        assert_eq!(progress("pgbench: error: client 1 aborted"), None);
    }
}
