//! Where the programs and the shared data are.

use std::path::PathBuf;

/// Returns the path of a program of this workspace, built beside the running test.
///
/// # Panics
/// When it is not there: `make test` builds both programs first.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join(name);
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

/// Returns how many rounds of `kill -9` are asked for by `KILL_ROUNDS`.
///
/// # Panics
/// When that is no number.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "a long run is asked for by the environment; no program reads this"
)]
pub fn kill_rounds() -> Option<u64> {
    let text = std::env::var("KILL_ROUNDS").ok()?;
    Some(text.parse().unwrap())
}
