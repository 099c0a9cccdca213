//! The program under test, run to its end.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Returns the program, to be run with this home and nothing else of the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the program finds git where the tests find it"
)]
pub(crate) fn coditect(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coditect"));
    command.env_clear().env("CODITECT_HOME", home);
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

/// Runs the command with the input until it ends.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that looks at nothing may end before all is written.
    let _ = child.stdin.take().unwrap().write_all(input);
    let ran = child.wait_with_output().unwrap();
    Ran {
        code: ran.status.code().unwrap(),
        stdout: String::from_utf8(ran.stdout).unwrap(),
        stderr: String::from_utf8(ran.stderr).unwrap(),
    }
}
