//! Running the program.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Returns the program without any configuration from outside, but for PostgreSQL's place.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coditect-server"));
    for name in [
        "DATABASE_URL",
        "CODITECT_LISTEN",
        "CODITECT_DATA_DIR",
        "CODITECT_CONFIG",
    ] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What a finished run left.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn run(command: &mut Command) -> Done {
    let output = command.output().unwrap();
    Done {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A data folder that PostgreSQL's unprivileged user can reach when the tests run as root.
pub(crate) struct Folder {
    temp: TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::set_permissions(temp.path(), Permissions::from_mode(0o755)).unwrap();
        Self { temp }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.temp.path().join("data")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn bootstrap(&self) -> Value {
        serde_json::from_slice(&fs::read(self.file("bootstrap.json")).unwrap()).unwrap()
    }

    /// Returns the command `coditect-server WORDS --data-dir FOLDER`.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = program(words);
        command.arg("--data-dir").arg(self.path());
        command
    }

    /// Runs a command with --json that must succeed.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let done = run(self.command(words).arg("--json"));
        assert_eq!(done.code, Some(0), "{done:?}");
        assert_eq!(done.err, "", "a command that succeeds is quiet");
        serde_json::from_str(&done.out).unwrap()
    }

    /// Runs a command that must succeed and returns the lines that it printed.
    pub(crate) fn lines(&self, words: &[&str]) -> Vec<String> {
        let done = run(&mut self.command(words));
        assert_eq!(done.code, Some(0), "{done:?}");
        done.out.lines().map(str::to_owned).collect()
    }

    /// Returns the process id of the PostgreSQL that runs in the folder.
    pub(crate) fn postgres_pid(&self) -> Option<u32> {
        let text = fs::read_to_string(self.file("postgres/data/postmaster.pid")).ok()?;
        text.lines().next()?.parse().ok()
    }
}

/// A server that said that it is ready. Killed when dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn up(folder: &Folder) -> Self {
        Self::start(folder.command(&["up", "--listen", "127.0.0.1:0", "--log-format", "text"]))
    }

    pub(crate) fn start(mut command: Command) -> Self {
        let spawned = command
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let mut child = spawned.unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let url = line
            .strip_prefix("ready ")
            .and_then(|rest| rest.strip_suffix('\n'));
        let url = url
            .unwrap_or_else(|| panic!("the first line is '{line}'"))
            .to_owned();
        Self { url, child, out }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the next line that was printed.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Sends a signal and returns the exit code, when there is one, and what was printed after
    /// the first line.
    pub(crate) fn signal(mut self, signal: &str) -> (Option<i32>, String) {
        send_signal(self.pid(), signal);
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_as("", path, body)
    }

    /// Posts with an access token.
    pub(crate) fn post_as(&self, token: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        self.ask(&format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Posts a body that is packed already; the encoding comes with it.
    pub(crate) fn post_packed(&self, token: &str, path: &str, body: (&str, &[u8])) -> (u16, Value) {
        let (encoding, body) = body;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             content-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat())
    }

    fn ask(&self, request: &str) -> (u16, Value) {
        self.send(request.as_bytes())
    }

    fn send(&self, request: &[u8]) -> (u16, Value) {
        let reply = exchange(&self.url, request);
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap())
    }
}

/// Sends a request that ends its connection, and returns the reply as it came.
pub(crate) fn exchange(url: &str, request: &[u8]) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

impl Drop for Server {
    fn drop(&mut self) {
        // After a failed test; a server that ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn send_signal(pid: u32, signal: &str) {
    let status = Command::new("kill")
        .args(["-s", signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Returns whether a process of this number exists and is no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let listed = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output()
        .unwrap();
    let state = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
