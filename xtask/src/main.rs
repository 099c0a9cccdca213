//! The project's own tools: `cargo xtask tidy`, `cargo xtask generate`.
//!
//! Owns the checks that neither rustc, clippy nor cargo-deny can make, and the files that are made
//! from the code. Of the product it knows only `protocol`.

mod generate;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

const USAGE: &str = "usage: cargo xtask <command>

  tidy                check crate edges, database drivers, sizes, forbidden words, links
  generate            write the files that are made from the code
  generate --check    only say whether they are up to date";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tidy"] => run_tidy(&workspace_root()?),
        ["generate"] => {
            for path in generate::write(&workspace_root()?)? {
                report(&format!("generate: wrote {path}"));
            }
            Ok(())
        }
        ["generate", "--check"] => generate::check(&workspace_root()?),
        [] | ["help" | "--help" | "-h"] => {
            report(USAGE);
            Ok(())
        }
        _ => bail!("unknown command `{}`\n{USAGE}", arguments.join(" ")),
    }
}

fn run_tidy(root: &Path) -> anyhow::Result<()> {
    let outcome = tidy::check(root)?;
    for problem in &outcome.problems {
        report(&problem.to_string());
    }
    if outcome.problems.is_empty() {
        report(&format!(
            "tidy: {} files, nothing to complain about",
            outcome.files
        ));
        return Ok(());
    }
    bail!(
        "tidy: {} problems in {} files",
        outcome.problems.len(),
        outcome.files
    )
}

/// Returns the folder of the workspace: the parent of this crate's own.
fn workspace_root() -> anyhow::Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(own
        .parent()
        .context("this crate lies directly under the workspace")?
        .to_path_buf())
}

#[expect(clippy::print_stderr, reason = "the one place that prints")]
fn report(text: &str) {
    eprintln!("{text}");
}
