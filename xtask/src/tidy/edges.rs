//! Which crate may depend on which, and which may name a database driver.
//!
//! The list below is the architecture. Adding an edge is a design change: its own commit, with its
//! own reason.

use anyhow::Context;
use serde_json::Value;

use super::Problem;

/// A crate of the workspace and the crates of ours that it may name.
///
/// Client side (cli, daemon, client, local-store) and server side (server, server-store) never
/// name each other; they share the libraries around `core`. `protocol` is everybody's vocabulary
/// (ADR 0006).
const EDGES: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("core", &["protocol"]),
    ("licensing", &["protocol"]),
    ("capture", &["core", "protocol"]),
    ("git", &["core", "protocol"]),
    ("search", &["core", "protocol"]),
    ("backup", &["core", "protocol"]),
    ("mcp", &["core", "protocol"]),
    ("local-store", &["core", "search", "protocol"]),
    ("client", &["local-store", "core", "protocol"]),
    (
        "daemon",
        &["client", "capture", "local-store", "core", "protocol"],
    ),
    (
        "cli",
        &[
            "daemon",
            "mcp",
            "client",
            "capture",
            "local-store",
            "backup",
            "licensing",
            "core",
            "protocol",
        ],
    ),
    ("server-store", &["core", "search", "protocol"]),
    (
        "server",
        &[
            "server-store",
            "git",
            "mcp",
            "backup",
            "licensing",
            "search",
            "core",
            "protocol",
        ],
    ),
    ("testkit", &["server-store", "core", "protocol"]),
    // Seeded runs of the engine against a model: tests only.
    ("simulation", &["client", "local-store", "core", "protocol"]),
    // Measures both sides from outside; nothing may depend on it.
    (
        "bench",
        &["server-store", "local-store", "capture", "core", "protocol"],
    ),
    ("xtask", &["protocol"]),
];

/// Sees both sides, and nothing may depend on it.
const END_TO_END: &str = "end-to-end";
/// May be named by every crate, but only as a dev-dependency.
const TESTKIT: &str = "testkit";

/// A database driver and the crates that may name it.
const DRIVERS: &[(&str, &[&str])] = &[
    ("rusqlite", &["local-store", TESTKIT]),
    ("libsqlite3-sys", &["local-store", TESTKIT]),
    ("tokio-postgres", &["server-store", TESTKIT]),
    ("deadpool-postgres", &["server-store", TESTKIT]),
    ("postgres", &["server-store", TESTKIT]),
    ("postgres-types", &["server-store", TESTKIT]),
    ("postgres-protocol", &["server-store", TESTKIT]),
];

/// Returns the edges in `metadata` (of `cargo metadata --no-deps`) that the lists do not allow.
///
/// # Errors
///
/// When the metadata lack a field that every version of cargo writes.
pub(crate) fn check(metadata: &Value) -> anyhow::Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for package in array(metadata, "packages")? {
        let from = short_name(text(package, "name")?);
        if from != END_TO_END && allowed(from).is_none() {
            problems.push(Problem::new(
                from,
                0,
                "crate is not in the list of xtask tidy/edges.rs",
            ));
            continue;
        }
        for dependency in array(package, "dependencies")? {
            let name = text(dependency, "name")?;
            let is_dev = dependency["kind"].as_str() == Some("dev");
            let message = if dependency["path"].is_string() {
                refuse_edge(from, short_name(name), is_dev)
            } else {
                refuse_driver(from, name)
            };
            problems.extend(message.map(|message| Problem::new(from, 0, message)));
        }
    }
    Ok(problems)
}

fn refuse_edge(from: &str, to: &str, is_dev: bool) -> Option<String> {
    if to == TESTKIT {
        let wrong = !is_dev && from != END_TO_END;
        return wrong.then(|| "testkit is for tests: make it a dev-dependency".to_owned());
    }
    if to == END_TO_END {
        return Some("nothing may depend on the end-to-end tests".to_owned());
    }
    // A crate may name itself to switch on a feature for its own tests.
    let is_itself = from == to && is_dev;
    if from == END_TO_END || is_itself || allowed(from).is_some_and(|list| list.contains(&to)) {
        return None;
    }
    Some(format!(
        "may not depend on {to}: the edge is not in the list of xtask tidy/edges.rs"
    ))
}

fn refuse_driver(from: &str, name: &str) -> Option<String> {
    let (_, owners) = DRIVERS.iter().find(|(driver, _)| *driver == name)?;
    if owners.contains(&from) {
        return None;
    }
    Some(format!(
        "may not name the driver {name}: only {} may",
        owners.join(" and ")
    ))
}

fn allowed(name: &str) -> Option<&'static [&'static str]> {
    EDGES
        .iter()
        .find(|(from, _)| *from == name)
        .map(|(_, list)| *list)
}

/// Returns the folder name of a crate of ours: `coditect-core` is `core`, `coditect` is `cli`.
fn short_name(package: &str) -> &str {
    match package {
        "coditect" => "cli",
        _ => package.strip_prefix("coditect-").unwrap_or(package),
    }
}

fn array<'a>(value: &'a Value, key: &str) -> anyhow::Result<&'a Vec<Value>> {
    value[key]
        .as_array()
        .with_context(|| format!("cargo metadata without `{key}`"))
}

fn text<'a>(value: &'a Value, key: &str) -> anyhow::Result<&'a str> {
    value[key]
        .as_str()
        .with_context(|| format!("cargo metadata without `{key}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(name: &str, dependencies: Value) -> Vec<String> {
        let metadata = json!({ "packages": [{ "name": name, "dependencies": dependencies }] });
        check(&metadata)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn ours(name: &str, kind: Option<&str>) -> Value {
        json!([{ "name": name, "kind": kind, "path": "/somewhere" }])
    }

    #[test]
    fn listed_edge_is_accepted() {
        assert_eq!(
            problems("coditect-client", ours("coditect-local-store", None)),
            [""; 0]
        );
        assert_eq!(problems("coditect", ours("coditect-client", None)), [""; 0]);
    }

    #[test]
    fn edge_between_the_two_sides_is_refused() {
        for (from, to) in [
            ("coditect-client", "coditect-server-store"),
            ("coditect", "coditect-server"),
            ("coditect-server", "coditect-local-store"),
            ("coditect-server-store", "coditect-client"),
        ] {
            let found = problems(from, ours(to, None));
            assert_eq!(found.len(), 1, "{from} -> {to}");
            assert!(found[0].contains("may not depend on"), "{}", found[0]);
        }
    }

    #[test]
    fn upward_edge_is_refused_also_for_tests() {
        assert_eq!(
            problems("coditect-protocol", ours("coditect-core", None)).len(),
            1
        );
        assert_eq!(
            problems("coditect-core", ours("coditect-client", Some("dev"))).len(),
            1
        );
    }

    #[test]
    fn crate_may_name_itself_for_its_tests_only() {
        let (name, own) = ("coditect-core", |kind| ours("coditect-core", kind));
        assert_eq!(problems(name, own(Some("dev"))), [""; 0]);
        assert_eq!(problems(name, own(None)).len(), 1);
    }

    #[test]
    fn testkit_is_accepted_as_dev_dependency_only() {
        assert_eq!(
            problems("coditect-server", ours("coditect-testkit", Some("dev"))),
            [""; 0]
        );
        assert_eq!(
            problems("coditect-server", ours("coditect-testkit", None)).len(),
            1
        );
    }

    #[test]
    fn end_to_end_sees_both_sides_and_is_seen_by_nobody() {
        assert_eq!(
            problems("coditect-end-to-end", ours("coditect-server", None)),
            [""; 0]
        );
        assert_eq!(
            problems("coditect-end-to-end", ours("coditect-client", None)),
            [""; 0]
        );
        assert_eq!(
            problems("coditect-server", ours("coditect-end-to-end", None)).len(),
            1
        );
    }

    #[test]
    fn bench_sees_both_stores_and_is_seen_by_nobody() {
        for store in ["coditect-server-store", "coditect-local-store"] {
            assert_eq!(problems("coditect-bench", ours(store, None)), [""; 0]);
        }
        for (from, kind) in [("coditect-server", None), ("coditect", Some("dev"))] {
            assert_eq!(problems(from, ours("coditect-bench", kind)).len(), 1);
        }
    }

    #[test]
    fn driver_is_refused_outside_its_store() {
        let driver = json!([{ "name": "rusqlite", "kind": null, "path": null }]);
        assert_eq!(problems("coditect-local-store", driver.clone()), [""; 0]);
        assert_eq!(problems("coditect-testkit", driver.clone()), [""; 0]);
        assert_eq!(problems("coditect-client", driver.clone()).len(), 1);
        assert_eq!(problems("coditect-server-store", driver).len(), 1);
    }

    #[test]
    fn unknown_crate_is_refused() {
        assert_eq!(problems("coditect-utils", json!([])).len(), 1);
    }
}
