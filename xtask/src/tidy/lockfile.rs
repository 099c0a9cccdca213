//! What the lock file may not contain, for those who build without cargo-deny.

use super::Problem;

const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A package that must not be in the build, and the reason.
const FORBIDDEN: &[(&str, &str)] = &[
    ("aws-lc-rs", "TLS is rustls with ring"),
    ("aws-lc-sys", "TLS is rustls with ring"),
    ("openssl", "TLS is rustls with ring"),
    ("openssl-sys", "TLS is rustls with ring"),
    ("native-tls", "TLS is rustls with ring"),
    (
        "sqlx",
        "its named statements mix up clients behind a pooler",
    ),
    (
        "sqlx-core",
        "its named statements mix up clients behind a pooler",
    ),
];

/// Returns the forbidden packages and sources in the text of a lock file.
pub(crate) fn check(path: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(name) = quoted(line, "name = ")
            && let Some((_, reason)) = FORBIDDEN.iter().find(|(forbidden, _)| *forbidden == name)
        {
            problems.push(Problem::new(
                path,
                index + 1,
                format!("{name} is forbidden: {reason}"),
            ));
        }
        if let Some(source) = quoted(line, "source = ")
            && source != SOURCE
        {
            let message = format!("package from {source}: only crates.io is allowed");
            problems.push(Problem::new(path, index + 1, message));
        }
    }
    problems
}

fn quoted<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_package_is_found_with_its_line() {
        let found = check(
            "Cargo.lock",
            "[[package]]\nname = \"aws-lc-sys\"\nversion = \"1\"\n",
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 2);
    }

    #[test]
    fn dependency_lists_and_other_packages_are_left_alone() {
        let text = format!("name = \"ring\"\nsource = \"{SOURCE}\"\n \"openssl-probe\",\n");
        assert_eq!(check("Cargo.lock", &text), []);
    }

    #[test]
    fn package_from_git_is_found() {
        let found = check(
            "Cargo.lock",
            "name = \"x\"\nsource = \"git+https://example.org/x\"\n",
        );
        assert_eq!(found.len(), 1);
    }
}
