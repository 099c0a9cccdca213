//! Checks of the whole source tree, one module per subject.
//!
//! Every check is a function from text to a list of problems, so that its tests need no files.

mod edges;
mod habits;
mod lexer;
mod links;
mod lockfile;
mod size;
mod words;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// One finding: where it is and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Path relative to the workspace, or the name of a crate.
    pub(crate) place: String,
    /// Line in the file, counted from 1; 0 where no line applies.
    pub(crate) line: usize,
    /// What is wrong, and the rule it breaks.
    pub(crate) message: String,
}

impl Problem {
    fn new(place: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            place: place.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(formatter, "{}: {}", self.place, self.message),
            line => write!(formatter, "{}:{line}: {}", self.place, self.message),
        }
    }
}

/// What a run looked at and what it found.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Number of files that were read.
    pub(crate) files: usize,
    /// All findings, in the order of the files.
    pub(crate) problems: Vec<Problem>,
}

/// Runs every check on the workspace at `root`.
///
/// # Errors
///
/// When git or cargo cannot be asked, or a file cannot be read.
pub(crate) fn check(root: &Path) -> anyhow::Result<Outcome> {
    let mut problems = edges::check(&cargo_metadata(root)?)?;
    let mut files = 0;
    let paths = source_paths(root)?;
    for path in &paths {
        // A file that is deleted but not committed yet is still listed.
        let Ok(bytes) = std::fs::read(root.join(path)) else {
            continue;
        };
        // Pictures and archives have no lines.
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        files += 1;
        problems.extend(check_file(path, &text));
        if path.ends_with(".md") {
            problems.extend(links::check(path, &text, &paths));
        }
    }
    Ok(Outcome { files, problems })
}

fn check_file(path: &str, text: &str) -> Vec<Problem> {
    let mut problems = words::check_text(path, text);
    problems.extend(habits::check(path, text));
    if path == "Cargo.lock" {
        problems.extend(lockfile::check(path, text));
    }
    if path.ends_with(".rs") {
        let code = lexer::blank(text);
        problems.extend(words::check_code(path, text, &code));
        problems.extend(size::check(path, text, &code));
    }
    problems
}

fn cargo_metadata(root: &Path) -> anyhow::Result<serde_json::Value> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--locked"];
    let text = output_of(root, cargo, &arguments)?;
    serde_json::from_str(&text).context("cargo metadata did not print JSON")
}

/// Returns the paths of all files that are or would be under version control.
fn source_paths(root: &Path) -> anyhow::Result<BTreeSet<String>> {
    let arguments = [
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ];
    let text = output_of(root, "git", &arguments)?;
    Ok(text
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect())
}

fn output_of(folder: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let shown = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed no UTF-8"))
}
