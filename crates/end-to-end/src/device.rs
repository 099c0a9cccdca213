//! A device: a home folder and the program that works in it.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

use crate::{Dump, Server, Shell, program, read_dump};

/// One installation with its own home.
#[derive(Debug)]
pub struct Device {
    home: TempDir,
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Exit code; 128 and more for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    fn of(ran: Output) -> Self {
        Self {
            code: ran.status.code().unwrap_or(128),
            stdout: String::from_utf8(ran.stdout).unwrap(),
            stderr: String::from_utf8_lossy(&ran.stderr).into_owned(),
        }
    }
}

impl Device {
    /// Makes an empty home.
    #[must_use]
    pub fn new() -> Self {
        Self {
            home: tempfile::Builder::new()
                .prefix("coditect-device-")
                .tempdir()
                .unwrap(),
        }
    }

    /// Makes a home that is logged in with a licence key.
    #[must_use]
    pub fn linked(server: &Server, license: &str) -> Self {
        let device = Self::new();
        device.login(server, license);
        device
    }

    /// Makes a home that is logged in at an address, such as a proxy's.
    #[must_use]
    pub fn linked_at(url: &str, license: &str) -> Self {
        let device = Self::new();
        device.login_at(url, license, &[]);
        device
    }

    /// Copies the home, as moving to another machine by copying files does. No program may
    /// write to it meanwhile.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        copy_folder(self.home(), copy.home());
        copy
    }

    /// Copies one database with what SQLite keeps beside it. No program may write to it
    /// meanwhile.
    ///
    /// # Panics
    /// When the system refuses.
    #[must_use]
    pub fn save_database(&self, file: &str) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in database_files(file) {
            let from = self.database(file).with_file_name(&name);
            if from.exists() {
                std::fs::copy(from, folder.path().join(&name)).unwrap();
            }
        }
        folder
    }

    /// Puts a saved database back, as restoring one file from a backup does.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn restore_database(&self, file: &str, saved: &TempDir) {
        for name in database_files(file) {
            let to = self.database(file).with_file_name(&name);
            let _ = std::fs::remove_file(&to);
            let from = saved.path().join(&name);
            if from.exists() {
                std::fs::copy(from, to).unwrap();
            }
        }
    }

    /// Logs in with a licence key, given on standard input.
    ///
    /// # Panics
    /// When it fails.
    pub fn login(&self, server: &Server, license: &str) {
        self.login_with(server, license, &[]);
    }

    /// Logs in with a licence key and further arguments.
    ///
    /// # Panics
    /// When it fails.
    pub fn login_with(&self, server: &Server, license: &str, further: &[&str]) {
        self.login_at(server.url(), license, further);
    }

    fn login_at(&self, url: &str, license: &str, further: &[&str]) {
        let words = ["login", "--server", url, "--license", "-", "--yes"];
        let mut child = self
            .command(&[&words, further].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{license}").unwrap();
        let ran = child.wait_with_output().unwrap();
        assert!(
            ran.status.success(),
            "login: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
    }

    /// Runs the program.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let ran = self
            .command(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ran::of(ran)
    }

    /// Runs the program with a text as its standard input.
    ///
    /// # Panics
    /// When it does not read all of it.
    #[must_use]
    pub fn run_fed(&self, arguments: &[&str], input: &str) -> Ran {
        fed(&mut self.command(arguments), input)
    }

    /// Runs the program through another one, which gets it and its arguments behind its own:
    /// `env`, `prlimit`, a shell.
    ///
    /// # Panics
    /// When there is no such program.
    #[must_use]
    pub fn run_through(&self, wrapper: &[&str], arguments: &[&str]) -> Ran {
        let ran = Command::new(wrapper[0])
            .args(&wrapper[1..])
            .arg(program("coditect"))
            .args(arguments)
            .env("CODITECT_HOME", self.home())
            .env("HOME", self.home())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ran::of(ran)
    }

    /// Runs the program with further variables of the environment.
    #[must_use]
    pub fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied());
        let ran = command.stdin(Stdio::null()).output().unwrap();
        Ran::of(ran)
    }

    /// Runs the program with `--json` and returns what it printed.
    ///
    /// # Panics
    /// When it fails or prints no JSON.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        let parsed = serde_json::from_str(&ran.stdout);
        parsed.unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", ran.stdout))
    }

    /// Syncs and returns the report.
    ///
    /// # Panics
    /// When it fails.
    pub fn sync(&self) -> Value {
        self.json(&["sync"])
    }

    /// Syncs and asserts that both sides say they are equal.
    ///
    /// # Panics
    /// When they are not.
    pub fn converge(&self) -> Value {
        let report = self.sync();
        let status = self.json(&["status"]);
        assert_eq!(status["converged"], true, "{report} {status}");
        assert_eq!(status["queue_depth"], 0, "{status}");
        report
    }

    /// Syncs devices one after the other, twice, so that each has what the others had, and
    /// asserts that all say that both sides are equal.
    ///
    /// # Panics
    /// When one is not.
    pub fn converge_all(devices: &[&Self]) {
        for _ in 0..2 {
            for device in devices {
                let _ = device.sync();
            }
        }
        for device in devices {
            let _ = device.converge();
        }
    }

    /// Starts the program and does not wait for it.
    #[must_use]
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Starts the program, whose standard output the caller reads.
    #[must_use]
    pub fn command_piped(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Runs SQL on one of the databases with the `sqlite3` program, as another tool would.
    ///
    /// # Panics
    /// When it fails.
    pub fn sql(&self, file: &str, statements: &str) -> String {
        let ran = self.try_sql(file, statements);
        assert_eq!(ran.code, 0, "{statements}: {}", ran.stderr);
        ran.stdout
    }

    /// Like [`Device::sql`], for statements that may be refused.
    #[must_use]
    pub fn try_sql(&self, file: &str, statements: &str) -> Ran {
        let mut sqlite = Command::new("sqlite3");
        sqlite
            .args(["-bail", "-cmd", ".timeout 10000"])
            .arg(self.database(file));
        fed(&mut sqlite, statements)
    }

    /// Opens the `sqlite3` program on one of the databases and keeps it open.
    #[must_use]
    pub fn shell(&self, file: &str) -> Shell {
        Shell::sqlite(&self.database(file))
    }

    /// Returns the device's id.
    ///
    /// # Panics
    /// When `status` does not tell.
    #[must_use]
    pub fn id(&self) -> String {
        self.json(&["status"])["device_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Returns the device's id and its rows.
    #[must_use]
    pub fn dump(&self) -> (Option<String>, Dump) {
        let ran = self.run(&["dump", "--canonical"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        read_dump(&ran.stdout)
    }

    /// Returns the path of a database.
    #[must_use]
    pub fn database(&self, file: &str) -> PathBuf {
        self.home()
            .join(format!(".coditect-data/context-storage/{file}.db"))
    }

    /// Returns the home folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Returns the program with its arguments, not yet started.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("coditect"));
        command
            .args(arguments)
            .env("CODITECT_HOME", self.home())
            .env("HOME", self.home());
        command
    }
}

impl Default for Device {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs a command with a text as its standard input.
fn fed(command: &mut Command, input: &str) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    Ran::of(child.wait_with_output().unwrap())
}

/// Returns a database and what SQLite keeps beside it.
fn database_files(file: &str) -> [String; 3] {
    ["", "-wal", "-shm"].map(|end| format!("{file}.db{end}"))
}

/// Copies what is in a folder, with owners and modes.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success(), "cannot copy {}", from.display());
}
