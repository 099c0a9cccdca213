//! The project's own tools: `cargo xtask tidy`, `cargo xtask generate`, `cargo xtask bench`,
//! `cargo xtask heavy-user`.
//!
//! Owns the checks that neither rustc, clippy nor cargo-deny can make, and the files that are made
//! from the code. Of the product it knows only `protocol`.

mod generate;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

const USAGE: &str = "usage: cargo xtask <command>

  tidy                check crate edges, database drivers, sizes, forbidden words, links
  generate            write the files that are made from the code
  generate --check    only say whether they are up to date
  heavy-user --scale F --out DIR
                      make a home with a device like that of the measured heavy user
  bench [OPTIONS]     build for release and measure; `bench --help` lists the options";

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
        ["heavy-user", options @ ..] => run_heavy_user(&workspace_root()?, options),
        ["bench", options @ ..] => run_bench(&workspace_root()?, options),
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

/// Builds the benchmark as it is shipped, and runs it.
fn run_bench(root: &Path, options: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["run", "--release", "--quiet", "--locked"])
        .args(["--package", "coditect-bench", "--"])
        .args(options)
        .current_dir(root)
        .status()
        .context("running cargo")?;
    if !status.success() {
        bail!("the benchmark failed");
    }
    Ok(())
}

/// Builds the maker of heavy users, and runs it.
fn run_heavy_user(root: &Path, options: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["run", "--release", "--quiet", "--locked"])
        .args([
            "--package",
            "coditect-end-to-end",
            "--example",
            "heavy_user",
            "--",
        ])
        .args(options)
        .current_dir(root)
        .status()
        .context("running cargo")?;
    if !status.success() {
        bail!("no heavy user was made");
    }
    Ok(())
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
