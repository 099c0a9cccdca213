//! A home, the program run in it, and what its databases hold.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Returns a number that the environment asks for.
#[expect(
    clippy::disallowed_methods,
    reason = "a long run is asked for by the environment; no program reads this"
)]
pub(crate) fn asked_for(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

#[expect(
    clippy::disallowed_methods,
    reason = "another build is asked for by the environment; no program reads this"
)]
fn program() -> PathBuf {
    match std::env::var_os("CODITECT_TEST_PROGRAMS") {
        Some(folder) => workspace().join(folder).join("coditect"),
        None => env!("CARGO_BIN_EXE_coditect").into(),
    }
}

fn workspace() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    crates.parent().unwrap().to_owned()
}

/// User and group of nobody.
#[cfg(unix)]
const NOBODY: u32 = 65_534;

/// A home of its own.
#[derive(Debug)]
pub(crate) struct Machine(tempfile::TempDir);

impl Machine {
    /// Makes a home with databases.
    pub(crate) fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        machine.ok(&["status"]);
        machine
    }

    /// Makes a home that root may not read everything in: its programs run as nobody there, because
    /// root reads what it must not. Others run them as they are.
    #[cfg(unix)]
    pub(crate) fn of_nobody() -> Self {
        use std::os::unix::fs::{MetadataExt as _, chown};

        let home = tempfile::tempdir().unwrap();
        if home.path().metadata().unwrap().uid() == 0 {
            // Somebody who may not enter the folder that the program was built in.
            std::fs::copy(program(), home.path().join("coditect")).unwrap();
            chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Self(home)
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let own = self.path("coditect");
        let mut command = if own.exists() {
            Command::new(&own)
        } else {
            Command::new(program())
        };
        #[cfg(unix)]
        if own.exists() {
            use std::os::unix::process::CommandExt as _;
            command.uid(NOBODY).gid(NOBODY);
        }
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.0.path())
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command that must go well and returns what it says.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.command(arguments).output().unwrap();
        assert!(ran.status.success(), "{arguments:?}: {ran:?}");
        String::from_utf8(ran.stdout).unwrap()
    }

    /// Calls a hook as an agent does.
    pub(crate) fn hook(&self, input: &str) -> Output {
        let mut hook = self.command(&["hook"]);
        let mut child = hook.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path(".coditect-data/context-storage/sessions.db")
    }

    /// Asserts that a session's transcript comes back out of the archive as it is.
    pub(crate) fn assert_archived(&self, session: &str, original: &Path) {
        let out = self.path("exported.jsonl");
        let words = [
            "session",
            "export",
            session,
            "--out",
            &out.to_string_lossy(),
        ];
        self.ok(&words);
        let is_same = std::fs::read(&out).unwrap() == std::fs::read(original).unwrap();
        assert!(is_same, "the transcript of {session} is another one");
        std::fs::remove_file(&out).unwrap();
    }

    /// Returns the numbers that a statement over sessions.db gives.
    pub(crate) fn numbers(&self, sql: &str) -> Vec<u64> {
        let shell = Command::new("sqlite3")
            .arg("-readonly")
            .args(["-cmd", ".timeout 10000"])
            .arg(self.database())
            .arg(sql)
            .output()
            .unwrap();
        assert!(shell.status.success(), "{shell:?}");
        let text = String::from_utf8(shell.stdout).unwrap();
        let numbers = text.trim().split('|').map(|number| number.parse().unwrap());
        numbers.collect()
    }
}
