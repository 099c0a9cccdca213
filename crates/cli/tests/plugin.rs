//! The plugin keeps the vendor's rules for plugins, marketplaces, hooks and servers, and calls
//! what the program has.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use std::path::{Component, Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin")
}

fn json(path: &str) -> Value {
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[test]
fn the_manifest_has_a_name_and_only_known_fields() {
    let manifest = json(".claude-plugin/plugin.json");
    let known = [
        "name",
        "displayName",
        "version",
        "description",
        "author",
        "homepage",
        "repository",
        "license",
        "keywords",
        "metadata",
        "skills",
        "commands",
        "agents",
        "hooks",
        "mcpServers",
        "userConfig",
        "dependencies",
        "defaultEnabled",
    ];
    for field in manifest.as_object().unwrap().keys() {
        assert!(known.contains(&field.as_str()), "{field}");
    }
    assert!(is_name(manifest["name"].as_str().unwrap()));
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
    assert!(manifest["author"]["name"].is_string());
}

#[test]
fn only_the_two_descriptions_are_in_the_hidden_folder() {
    let hidden = std::fs::read_dir(root().join(".claude-plugin")).unwrap();
    let mut names: Vec<String> = hidden
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["marketplace.json", "plugin.json"]);
    let known = [
        ".claude-plugin",
        "skills",
        "commands",
        "agents",
        "hooks",
        ".mcp.json",
        "bin",
        "settings.json",
        "output-styles",
        "workflows",
        "monitors",
        "README.md",
    ];
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn the_marketplace_names_this_plugin_by_a_path_that_stays_inside() {
    let marketplace = json(".claude-plugin/marketplace.json");
    assert!(is_name(marketplace["name"].as_str().unwrap()));
    assert!(marketplace["owner"]["name"].is_string());
    let plugins = marketplace["plugins"].as_array().unwrap();
    assert_eq!(plugins.len(), 1);
    assert_eq!(
        plugins[0]["name"],
        json(".claude-plugin/plugin.json")["name"]
    );
    assert_eq!(plugins[0]["version"], env!("CARGO_PKG_VERSION"));
    let source = plugins[0]["source"].as_str().unwrap();
    assert!(source.starts_with("./"), "{source}");
    assert!(
        Path::new(source)
            .components()
            .all(|part| part != Component::ParentDir)
    );
}

#[test]
fn hooks_are_commands_in_the_plugins_own_folder() {
    let events = [
        "PreToolUse",
        "PostToolUse",
        "PostToolUseFailure",
        "PostToolBatch",
        "Notification",
        "UserPromptSubmit",
        "UserPromptExpansion",
        "SessionStart",
        "SessionEnd",
        "Stop",
        "StopFailure",
        "SubagentStart",
        "SubagentStop",
        "PreCompact",
        "PostCompact",
        "PermissionRequest",
        "PermissionDenied",
        "Setup",
        "TaskCreated",
        "TaskCompleted",
    ];
    let file = json("hooks/hooks.json");
    for (event, entries) in file["hooks"].as_object().unwrap() {
        assert!(events.contains(&event.as_str()), "{event}");
        for entry in entries.as_array().unwrap() {
            assert!(entry.get("matcher").is_none_or(Value::is_string));
            for handler in entry["hooks"].as_array().unwrap() {
                let known = [
                    "type",
                    "command",
                    "args",
                    "timeout",
                    "async",
                    "statusMessage",
                ];
                for field in handler.as_object().unwrap().keys() {
                    assert!(known.contains(&field.as_str()), "{field}");
                }
                // Before a session starts, only commands and tools of servers may run.
                assert_eq!(handler["type"], "command");
                let command = handler["command"].as_str().unwrap();
                let inside = command.strip_prefix("${CLAUDE_PLUGIN_ROOT}/").unwrap();
                assert!(
                    !inside.contains("..") && root().join(inside).is_file(),
                    "{inside}"
                );
                // The event is its own argument, and order matters: nothing runs beside.
                assert_eq!(handler["args"], serde_json::json!([event]));
                assert!(handler.get("async").is_none());
                assert!(handler["timeout"].as_u64().unwrap() <= 10);
            }
        }
    }
}

#[test]
fn the_server_is_listed_as_soon_as_the_program_has_it() {
    let ran = Command::new(env!("CARGO_BIN_EXE_coditect"))
        .args(["help", "mcp"])
        .output()
        .unwrap();
    let servers = json(".mcp.json");
    let listed = servers["mcpServers"].get("coditect");
    assert_eq!(ran.status.success(), listed.is_some(), "{servers}");
    if let Some(server) = listed {
        assert_eq!(server["args"][0], "mcp");
    }
}

#[cfg(unix)]
#[test]
fn the_hook_script_goes_on_without_the_program_and_calls_it_where_it_is() {
    use std::os::unix::fs::PermissionsExt as _;
    let script = root().join("bin/coditect-hook");
    assert_ne!(
        std::fs::metadata(&script).unwrap().permissions().mode() & 0o111,
        0
    );
    let home = tempfile::tempdir().unwrap();
    let run = |path: &Path| {
        let path = format!("{}:/usr/bin:/bin", path.display());
        let mut command = Command::new("/bin/sh");
        command
            .arg(&script)
            .arg("Stop")
            .env_clear()
            .env("HOME", home.path())
            .env("PATH", path);
        command.output().unwrap()
    };
    let without = run(home.path());
    assert!(without.status.success() && without.stdout.is_empty() && without.stderr.is_empty());
    let program = home.path().join("coditect");
    std::fs::write(&program, "#!/bin/sh\necho \"$@\"\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let with = run(home.path());
    assert_eq!(String::from_utf8(with.stdout).unwrap(), "hook Stop\n");
}

#[test]
fn a_command_of_the_plugin_has_a_description() {
    for entry in std::fs::read_dir(root().join("commands")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let head = text
            .strip_prefix("---\n")
            .and_then(|rest| rest.split("\n---\n").next());
        assert!(
            head.unwrap().contains("description: "),
            "{}",
            path.display()
        );
    }
}
