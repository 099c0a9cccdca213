//! Settings that every crate must have and that Cargo does not pass on by itself.

use super::Problem;

/// Crates whose public items are all documented.
const DOCUMENTED: &[&str] = &["protocol", "core", "local-store", "server-store"];

/// Returns what a manifest or the root of a library lacks.
pub(crate) fn check(path: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    if path.ends_with("/Cargo.toml") && !text.contains("[lints]\nworkspace = true") {
        let message = "lacks `[lints] workspace = true`: the workspace's lints do not apply";
        problems.push(Problem::new(path, 0, message));
    }
    let documented = DOCUMENTED
        .iter()
        .any(|name| path == format!("crates/{name}/src/lib.rs"));
    if documented && !text.contains("#![warn(missing_docs)]") {
        problems.push(Problem::new(path, 0, "lacks `#![warn(missing_docs)]`"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_without_the_lints_is_found() {
        assert_eq!(check("crates/core/Cargo.toml", "[package]\n").len(), 1);
        assert_eq!(
            check("crates/core/Cargo.toml", "[lints]\nworkspace = true\n"),
            []
        );
        assert_eq!(check("Cargo.toml", "[workspace]\n"), []);
    }

    #[test]
    fn library_without_required_documentation_is_found() {
        assert_eq!(check("crates/core/src/lib.rs", "//! Core.\n").len(), 1);
        assert_eq!(
            check("crates/core/src/lib.rs", "#![warn(missing_docs)]\n"),
            []
        );
        assert_eq!(check("crates/cli/src/lib.rs", "//! Commands.\n"), []);
    }
}
