//! A `coditect-server up` of a test's own.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

use crate::device::copy_folder;
use crate::shells::{self, Shell};
use crate::{Dump, program, read_dump};

/// How often PostgreSQL is asked while it is away; each attempt takes some milliseconds.
const ATTEMPTS_MAX: usize = 5_000;

/// A server with its own data folder on a port of its own; stopped when dropped.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    listen: String,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    child: Option<Child>,
    url: String,
}

impl Server {
    /// Starts a server on a free port.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server on a free port, with further arguments, which it keeps when it is
    /// restarted.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_in(arguments, &[])
    }

    /// Starts a server as [`Server::start_with`], with variables of the environment, which
    /// administration commands get, too.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn start_in(arguments: &[&str], variables: &[(String, String)]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("coditect-e2e-")
            .tempdir()
            .unwrap();
        // PostgreSQL runs as an unprivileged user when the test runs as root.
        open_to_all(folder.path());
        let (url, listen) = (String::new(), "127.0.0.1:0".to_owned());
        let mut server = Self {
            folder,
            listen,
            arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
            variables: variables.to_vec(),
            child: None,
            url,
        };
        server.restart();
        // A server that comes back keeps its address, because devices remember it.
        server.listen = server
            .url
            .trim_start_matches("https://")
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned();
        server
    }

    /// Starts the server again on its folder and address.
    ///
    /// # Panics
    /// When it is running, or does not get ready.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "the server is running");
        let errors = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("server.log"))
            .unwrap();
        let mut child = Command::new(program("coditect-server"))
            .arg("up")
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--listen", &self.listen])
            .args(&self.arguments)
            .envs(self.variables.iter().cloned())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ready ").map(|url| url.trim().to_owned()));
        let log = || std::fs::read_to_string(self.folder.path().join("server.log"));
        self.url = ready.unwrap_or_else(|| panic!("not ready: {}", log().unwrap_or_default()));
        self.child = Some(child);
        // The pipe is read to its end, so that the server never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
    }

    /// Stops the server as an operator does.
    pub fn stop(&mut self) {
        self.signal("TERM");
        self.wait();
    }

    /// Ends the server without a chance to clean up.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.wait();
    }

    /// Sends a signal to the server's process.
    pub fn signal(&self, signal: &str) {
        if let Some(child) = &self.child {
            send(child.id(), signal);
        }
    }

    /// Waits until the server's process has ended.
    pub fn wait(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Ends the embedded PostgreSQL's postmaster without a chance to clean up.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill_postgres(&self) {
        let pid = self.postgres_pid().unwrap();
        send(pid, "KILL");
    }

    /// Returns the postmaster's process id, from its pid file.
    #[must_use]
    pub fn postgres_pid(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.cluster().join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// Ends one process of PostgreSQL without a chance to clean up: all others start anew.
    pub fn kill_backend(&self, pid: u32) {
        send(pid, "KILL");
    }

    /// Runs a query as PostgreSQL's superuser and returns its lines, columns parted by `|`; none
    /// while PostgreSQL takes no connections.
    #[must_use]
    pub fn query(&self, sql: &str) -> Option<Vec<String>> {
        let (program, socket_dir) = self.postgres()?;
        let ran = shells::psql(&program, &socket_dir)
            .args(["-v", "ON_ERROR_STOP=1", "-c", sql])
            .output()
            .ok()?;
        let text = String::from_utf8(ran.stdout).ok()?;
        let lines = || text.lines().map(str::to_owned).collect();
        ran.status.success().then(lines)
    }

    /// Runs a query as [`Server::query`] and waits for PostgreSQL to come back if it is away.
    ///
    /// # Panics
    /// When it does not come back.
    #[must_use]
    pub fn ask(&self, sql: &str) -> Vec<String> {
        let answer = (0..ATTEMPTS_MAX).find_map(|_| {
            let answer = self.query(sql);
            if answer.is_none() {
                // Without its pid file an attempt takes no time at all.
                // tidy: may sleep: what is watched is another process
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            answer
        });
        answer.unwrap_or_else(|| panic!("PostgreSQL does not answer: {sql}"))
    }

    /// Opens a connection as PostgreSQL's superuser and keeps it open.
    ///
    /// # Panics
    /// When PostgreSQL is not running.
    #[must_use]
    pub fn shell(&self) -> Shell {
        let (program, socket_dir) = self.postgres().unwrap();
        Shell::postgres(&program, &socket_dir)
    }

    /// Returns the `psql` and the socket's folder of the running PostgreSQL.
    fn postgres(&self) -> Option<(PathBuf, PathBuf)> {
        let program = shells::psql_of(self.postgres_pid()?);
        let text = std::fs::read_to_string(self.cluster().join("postmaster.pid")).ok()?;
        Some((program, PathBuf::from(text.lines().nth(4)?)))
    }

    /// Copies PostgreSQL's folder. The server must be stopped: a copy of a running one is none.
    ///
    /// # Panics
    /// When the server is running.
    #[must_use]
    pub fn save_postgres(&self) -> TempDir {
        assert!(self.child.is_none(), "the server is running");
        let folder = tempfile::tempdir().unwrap();
        copy_folder(&self.cluster(), folder.path());
        folder
    }

    /// Puts a copy in the place of PostgreSQL's folder, as a restore from a backup does.
    ///
    /// # Panics
    /// When the server is running.
    pub fn restore_postgres(&self, saved: &TempDir) {
        assert!(self.child.is_none(), "the server is running");
        std::fs::remove_dir_all(self.cluster()).unwrap();
        std::fs::create_dir(self.cluster()).unwrap();
        copy_folder(saved.path(), &self.cluster());
    }

    fn cluster(&self) -> PathBuf {
        self.data_dir().join("postgres/data")
    }

    /// Returns how many pushes the server's log says were answered.
    #[must_use]
    pub fn answered_pushes(&self) -> usize {
        let log = std::fs::read_to_string(self.folder.path().join("server.log"));
        let answered = |line: &&str| line.contains("/sync/push") && line.contains("answered");
        log.unwrap_or_default().lines().filter(answered).count()
    }

    /// Returns the lines of the server's log that tell of a fault: errors, panics, 5xx.
    #[must_use]
    pub fn faults_in_log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join("server.log"));
        let faults = [
            "\"level\":\"ERROR\"",
            " ERROR ",
            "panick",
            "\"http.status\":5",
        ];
        let is_fault = |line: &&str| faults.iter().any(|fault| line.contains(fault));
        let log = log.unwrap_or_default();
        log.lines().filter(is_fault).map(str::to_owned).collect()
    }

    /// Returns the process id of the server.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Returns the server's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the server's data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns a field of the file that the first start wrote.
    ///
    /// # Panics
    /// When the file or the field is missing.
    #[must_use]
    pub fn bootstrap(&self, field: &str) -> String {
        let text = std::fs::read_to_string(self.data_dir().join("bootstrap.json")).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        value[field].as_str().unwrap().to_owned()
    }

    /// Runs an administration command with `--json` and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn admin(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.admin_text(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Runs an administration command like [`Server::admin`] that has to end with `code`.
    ///
    /// # Panics
    /// When it ends with another one.
    #[must_use]
    pub fn admin_with_code(&self, arguments: &[&str], code: i32) -> Value {
        let ran = self.run_admin(&[arguments, &["--json"]].concat());
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(
            ran.status.code(),
            Some(code),
            "admin {arguments:?}: {errors}"
        );
        serde_json::from_slice(&ran.stdout).unwrap()
    }

    /// Makes a user of a tenant and returns the id and a licence key.
    #[must_use]
    pub fn user(&self, tenant: &str, email: &str, role: &str) -> (String, String) {
        let created = self.admin(&[
            "user", "create", "--tenant", tenant, "--email", email, "--role", role,
        ]);
        let user = created["user_id"].as_str().unwrap().to_owned();
        let issued = self.admin(&["license", "issue", "--tenant", tenant, "--user", &user]);
        (user, issued["license_key"].as_str().unwrap().to_owned())
    }

    /// Returns all rows of a tenant.
    #[must_use]
    pub fn dump(&self, tenant: &str) -> Dump {
        read_dump(&self.admin_text(&["dump", "--tenant", tenant])).1
    }

    fn run_admin(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(program("coditect-server"))
            .arg("admin")
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data_dir())
            .envs(self.variables.iter().cloned())
            .output()
            .unwrap()
    }

    fn admin_text(&self, arguments: &[&str]) -> String {
        let ran = self.run_admin(arguments);
        let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success(), "admin {arguments:?}: {errors}");
        String::from_utf8(ran.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Sends a signal to a process, by the signal's name without `SIG`.
///
/// # Panics
/// When there is no such process.
pub fn signal(child: &Child, signal: &str) {
    send(child.id(), signal);
}

/// The standard library sends no signal but SIGKILL, and that only to children.
fn send(pid: u32, signal: &str) {
    let status = Command::new("kill")
        .args(["-s", signal, &pid.to_string()])
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "no process {pid}"
    );
}
