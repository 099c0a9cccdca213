//! Files in the repository that are made from the code, so that they cannot fall behind it.
//!
//! Owns the pages; what they say comes from `protocol`. `--check` writes nothing and fails when a
//! file is not what it would become.

mod errors;
mod permissions;
mod tables;

use std::path::Path;

use anyhow::{Context, bail};

/// Path of a generated file and its contents.
type Generated = (&'static str, String);

fn files() -> Vec<Generated> {
    vec![
        ("docs/TABLES.md", tables::page()),
        ("docs/ERRORS.md", errors::page()),
        ("docs/PERMISSIONS.md", permissions::page()),
    ]
}

/// Writes every generated file below `root`; returns the paths that changed.
///
/// # Errors
///
/// When a file cannot be written.
pub(crate) fn write(root: &Path) -> anyhow::Result<Vec<&'static str>> {
    let stale = stale_files(root);
    for (path, text) in &stale {
        let full = root.join(path);
        let folder = full.parent().context("a generated file has a folder")?;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder of {path}"))?;
        std::fs::write(&full, text).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(stale.into_iter().map(|(path, _)| path).collect())
}

/// Checks that every generated file is up to date.
///
/// # Errors
///
/// Names the files that are not.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let paths: Vec<_> = stale_files(root)
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    if !paths.is_empty() {
        bail!(
            "not up to date: {}\n  hint: cargo xtask generate",
            paths.join(", ")
        );
    }
    Ok(())
}

fn stale_files(root: &Path) -> Vec<Generated> {
    let is_stale = |(path, text): &Generated| {
        std::fs::read_to_string(root.join(path)).map_or(true, |found| found != *text)
    };
    files().into_iter().filter(is_stale).collect()
}
