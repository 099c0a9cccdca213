//! Where the programs and the shared data are.

use std::path::PathBuf;

/// Returns the path of a program of this workspace, built beside the running test; or in the
/// folder that `CODITECT_TEST_PROGRAMS` names, such as `target/release`.
///
/// # Panics
/// When it is not there: `make test` builds both programs first.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "another build is asked for by the environment; no program reads this"
)]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let beside = test.ancestors().nth(2).unwrap();
    let folder = std::env::var_os("CODITECT_TEST_PROGRAMS").map(PathBuf::from);
    let path = folder.as_deref().unwrap_or(beside).join(name);
    assert!(
        path.is_file(),
        "{} is not built: run cargo build --bins",
        path.display()
    );
    path
}

/// Returns a folder of the real data beside the checkout; none, with a line that says so, when
/// it is absent.
#[must_use]
pub fn shared_data(folder: &str) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.ancestors().nth(3)?.join("shared/data").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    #[expect(
        clippy::print_stderr,
        reason = "a skipped part says so in the test's output"
    )]
    {
        eprintln!("skipped: no real data at shared/data/{folder} beside the checkout");
    }
    None
}

/// Returns how many rounds are asked for by an environment variable, such as `KILL_ROUNDS`.
///
/// # Panics
/// When it is no number.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "a long run is asked for by the environment; no program reads this"
)]
pub fn rounds_asked_for(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap())
}
