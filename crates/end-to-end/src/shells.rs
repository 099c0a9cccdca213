//! The `psql` and `sqlite3` programs as another user of the databases: asked one statement at a
//! time, so that a transaction of theirs can stand open while something else happens.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What a shell prints behind an answer.
const END: &str = "--end-of-answer--";

/// A shell that stays open; killed when dropped, which ends its transaction.
#[derive(Debug)]
pub struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Statement that prints [`END`].
    end: &'static str,
}

impl Shell {
    /// Opens a SQLite file. Statements wait ten seconds for other writers.
    pub(crate) fn sqlite(database: &Path) -> Self {
        let mut command = Command::new("sqlite3");
        command.args(["-cmd", ".timeout 10000"]).arg(database);
        Self::start(command, ".print --end-of-answer--")
    }

    /// Opens the product's database as PostgreSQL's superuser, by the socket in `socket_dir`.
    pub(crate) fn postgres(program: &Path, socket_dir: &Path) -> Self {
        let mut command = psql(program, socket_dir);
        command.args(["-v", "ON_ERROR_STOP=0"]);
        Self::start(command, "\\echo --end-of-answer--")
    }

    fn start(mut command: Command, end: &'static str) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self {
            child,
            input,
            output: BufReader::new(output),
            end,
        }
    }

    /// Runs statements and returns the lines of their answer; none when the shell has ended.
    pub fn ask(&mut self, statements: &str) -> Option<Vec<String>> {
        self.begin(statements)?;
        self.finish()
    }

    /// Sends statements and does not wait for their answer, which [`Shell::finish`] returns;
    /// none when the shell has ended.
    pub fn begin(&mut self, statements: &str) -> Option<()> {
        writeln!(self.input, "{statements}\n{}", self.end).ok()?;
        self.input.flush().ok()
    }

    /// Returns the lines of an answer whose statements were sent; none when the shell has ended.
    pub fn finish(&mut self) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end() {
                END => return Some(lines),
                line => lines.push(line.to_owned()),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the command of `psql` on the product's database: unaligned, nothing but rows.
pub(crate) fn psql(program: &Path, socket_dir: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(["-X", "-q", "-A", "-t", "-U", "postgres", "-d", "coditect"])
        .args(["-p", "5432", "-h"])
        .arg(socket_dir);
    for name in ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGOPTIONS"] {
        command.env_remove(name);
    }
    command
}

/// Returns the `psql` beside a running PostgreSQL's program, else the one on the path.
pub(crate) fn psql_of(pid: u32) -> PathBuf {
    let beside = std::fs::read_link(format!("/proc/{pid}/exe"))
        .ok()
        .map(|program| program.with_file_name("psql"))
        .filter(|program| program.is_file());
    beside.unwrap_or_else(|| PathBuf::from("psql"))
}
