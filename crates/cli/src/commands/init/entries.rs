//! What is written for each agent: which events, in which form, into which file.

use std::path::Path;

use coditect_capture::hooks::Agent;
use serde_json::{Value, json};

use super::jsonc::{self, Malformed};

/// Time that a host gives a hook, in seconds; ours needs milliseconds.
const TIMEOUT_S: u64 = 5;

/// Returns the events that are worth a call, as the agent names them.
pub(crate) const fn events(agent: Agent) -> &'static [&'static str] {
    match agent {
        Agent::Claude => &[
            "SessionStart",
            "UserPromptSubmit",
            "PostToolUse",
            "PostToolUseFailure",
            "TaskCreated",
            "TaskCompleted",
            "SubagentStop",
            "PreCompact",
            "Stop",
            "SessionEnd",
        ],
        Agent::Codex => &[
            "SessionStart",
            "UserPromptSubmit",
            "PostToolUse",
            "PreCompact",
            "Stop",
        ],
        Agent::Gemini => &[
            "SessionStart",
            "BeforeAgent",
            "AfterTool",
            "AfterAgent",
            "PreCompress",
            "SessionEnd",
        ],
    }
}

/// Returns the entry of one event.
pub(crate) fn entry(agent: Agent, program: &Path, profile: Option<&str>, event: &str) -> Value {
    let program = program.to_string_lossy();
    let mut words = vec!["hook", event];
    if agent != Agent::Claude {
        words.extend(["--agent", agent.name()]);
    }
    if let Some(profile) = profile {
        words.extend(["--profile", profile]);
    }
    let handler = match agent {
        Agent::Claude => json!({
            "type": "command", "command": program, "args": words, "timeout": TIMEOUT_S
        }),
        Agent::Codex => json!({
            "type": "command", "command": shell(&program, &words), "timeout": TIMEOUT_S
        }),
        // Its time is in milliseconds.
        Agent::Gemini => json!({
            "name": "coditect", "type": "command", "command": shell(&program, &words),
            "timeout": TIMEOUT_S * 1_000
        }),
    };
    json!({ "hooks": [handler] })
}

/// Returns a text with all entries, and with those of other versions or places taken out; the
/// same text when nothing is to do.
///
/// # Errors
/// [`Malformed`] when the text is no JSON object.
pub(crate) fn put(
    text: &str,
    agent: Agent,
    program: &Path,
    profile: Option<&str>,
) -> Result<String, Malformed> {
    let wanted: Vec<(&str, Value)> = events(agent)
        .iter()
        .map(|event| (*event, entry(agent, program, profile, event)))
        .collect();
    let present = ours(text)?;
    let same = present.len() == wanted.len()
        && present.iter().all(|found| {
            wanted
                .iter()
                .any(|(event, entry)| found.event == *event && found.entry == *entry)
        });
    if same {
        return Ok(text.to_owned());
    }
    let mut text = take_out(text)?;
    for (event, entry) in &wanted {
        text = jsonc::append(&text, &["hooks", event], entry)?;
    }
    Ok(text)
}

/// Returns a text without our entries, and without what is empty because of that.
///
/// # Errors
/// [`Malformed`] when the text is no JSON object.
pub(crate) fn take_out(text: &str) -> Result<String, Malformed> {
    let mut text = text.to_owned();
    let mut any = false;
    while let Some(found) = ours(&text)?.into_iter().next() {
        any = true;
        let path = ["hooks", found.event.as_str()];
        text = match found.handler {
            // Somebody has put a call of ours beside one of theirs.
            Some(handler) => jsonc::remove_nested(&text, &path, found.index, handler)?,
            None => jsonc::remove(&text, &path, found.index)?,
        };
        let left = jsonc::read(&text)?.value(&text);
        if left["hooks"][&found.event]
            .as_array()
            .is_some_and(Vec::is_empty)
            && let Some(index) = jsonc::position(&text, &["hooks"], &found.event)
        {
            text = jsonc::remove(&text, &["hooks"], index)?;
        }
    }
    let left = jsonc::read(&text)?.value(&text);
    if any
        && left["hooks"]
            .as_object()
            .is_some_and(serde_json::Map::is_empty)
        && let Some(index) = jsonc::position(&text, &[], "hooks")
    {
        text = jsonc::remove(&text, &[], index)?;
    }
    Ok(text)
}

/// Returns a text with the server of our tools under `mcpServers`.
///
/// # Errors
/// [`Malformed`] when the text is no JSON object.
pub(crate) fn put_server(
    text: &str,
    program: &Path,
    profile: Option<&str>,
) -> Result<String, Malformed> {
    let mut words = vec!["mcp"];
    words.extend(profile.into_iter().flat_map(|name| ["--profile", name]));
    let server = json!({"command": program.to_string_lossy(), "args": words});
    let present = jsonc::read(text)?.value(text);
    if present["mcpServers"]["coditect"] == server {
        return Ok(text.to_owned());
    }
    jsonc::set(text, &["mcpServers", "coditect"], &server)
}

/// Returns a text without the server of our tools.
///
/// # Errors
/// [`Malformed`] when the text is no JSON object.
pub(crate) fn take_out_server(text: &str) -> Result<String, Malformed> {
    let Some(index) = jsonc::position(text, &["mcpServers"], "coditect") else {
        return Ok(text.to_owned());
    };
    let text = jsonc::remove(text, &["mcpServers"], index)?;
    let left = jsonc::read(&text)?.value(&text);
    let empty = left["mcpServers"]
        .as_object()
        .is_some_and(serde_json::Map::is_empty);
    match jsonc::position(&text, &[], "mcpServers").filter(|_| empty) {
        Some(index) => jsonc::remove(&text, &[], index),
        None => Ok(text),
    }
}

/// An entry of ours.
struct Found {
    event: String,
    /// Place in the event's list.
    index: usize,
    /// Place among the handlers of the entry, when others stand beside it.
    handler: Option<usize>,
    entry: Value,
}

fn ours(text: &str) -> Result<Vec<Found>, Malformed> {
    let value = jsonc::read(text)?.value(text);
    let mut found = Vec::new();
    let Some(events) = value.get("hooks").and_then(Value::as_object) else {
        return Ok(found);
    };
    for (event, list) in events {
        for (index, entry) in list.as_array().into_iter().flatten().enumerate() {
            let handlers = entry.get("hooks").and_then(Value::as_array);
            let handlers = handlers.map(Vec::as_slice).unwrap_or_default();
            if let Some(handler) = handlers.iter().position(is_ours) {
                found.push(Found {
                    event: event.clone(),
                    index,
                    handler: (handlers.len() > 1).then_some(handler),
                    entry: entry.clone(),
                });
            }
        }
    }
    Ok(found)
}

/// Returns whether a handler calls this program's hooks, wherever the program lies.
fn is_ours(handler: &Value) -> bool {
    let Some(command) = handler.get("command").and_then(Value::as_str) else {
        return false;
    };
    let (program, rest) = match handler.get("args").and_then(Value::as_array) {
        Some(words) => (command, words.first().and_then(Value::as_str).unwrap_or("")),
        None => first_word(command),
    };
    let name = program.rsplit(['/', '\\']).next().unwrap_or("");
    let is_program = matches!(name, "coditect" | "coditect.exe");
    is_program && rest.split(' ').next() == Some("hook")
}

fn first_word(command: &str) -> (&str, &str) {
    let command = command.trim();
    let quote = command
        .chars()
        .next()
        .filter(|letter| matches!(letter, '\'' | '"'));
    let split = match quote {
        Some(quote) => command[1..].split_once(quote),
        None => command.split_once(' '),
    };
    let (word, rest) = split.unwrap_or((command, ""));
    (word, rest.trim_start())
}

fn shell(program: &str, words: &[&str]) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+".contains(letter);
    let program = if program.chars().all(plain) {
        program.to_owned()
    } else {
        format!("'{}'", program.replace('\'', "'\\''"))
    };
    format!("{program} {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: &str = "{\n  \"model\": \"opus\", // best\n  \"hooks\": {\n    \"Stop\": [\n      \
        {\"hooks\": [{\"type\": \"command\", \"command\": \"say done\"}]}\n    ]\n  },\n  \
        \"env\": {\"A\": \"b\"}\n}\n";

    #[test]
    fn putting_twice_is_putting_once_and_taking_out_gives_the_file_back() {
        for agent in Agent::ALL {
            for text in [MINE, "{}", "{\n}\n", "{\"a\": 1}"] {
                let program = Path::new("/opt/co di/coditect");
                let once = put(text, agent, program, None).unwrap();
                assert_eq!(put(&once, agent, program, None).unwrap(), once);
                let found = ours(&once).unwrap();
                assert_eq!(found.len(), events(agent).len(), "{once}");
                let moved = put(&once, agent, Path::new("/usr/bin/coditect"), Some("p")).unwrap();
                assert_eq!(ours(&moved).unwrap().len(), events(agent).len());
                assert!(!moved.contains("/opt/co di"), "{moved}");
                let out = take_out(&moved).unwrap();
                let value = |text: &str| jsonc::read(text).unwrap().value(text);
                assert_eq!(value(&out), value(text), "{out}");
            }
            let program = Path::new("/usr/bin/coditect");
            assert_eq!(
                take_out(&put(MINE, agent, program, None).unwrap()).unwrap(),
                MINE
            );
        }
    }

    #[test]
    fn the_server_of_our_tools_comes_and_goes() {
        let text = "{\n  \"mcpServers\": {\n    \"theirs\": {}\n  }\n}\n";
        let program = Path::new("/usr/bin/coditect");
        let once = put_server(text, program, None).unwrap();
        assert_eq!(put_server(&once, program, None).unwrap(), once);
        assert_eq!(take_out_server(&once).unwrap(), text);
        let alone = put_server("{}", program, Some("work")).unwrap();
        assert!(alone.contains("--profile") && take_out_server(&alone).unwrap() == "{}");
    }

    #[test]
    fn only_calls_of_our_hooks_are_ours() {
        let is = |handler: Value| is_ours(&handler);
        assert!(is(
            json!({"command": "/x/coditect", "args": ["hook", "Stop"]})
        ));
        assert!(is(json!({"command": "'/a b/coditect' hook Stop"})));
        assert!(is(json!({"command": "coditect hook Stop --agent codex"})));
        assert!(!is(json!({"command": "coditect sync"})));
        assert!(!is(json!({"command": "/x/coditect", "args": ["sync"]})));
        assert!(!is(json!({"command": "mycoditect hook Stop"})));
        assert!(!is(json!({"command": "echo coditect hook"})));
        assert!(!is(json!({"url": "http://x"})));
    }

    #[test]
    fn a_call_of_ours_beside_one_of_theirs_goes_alone() {
        let text = "{\"hooks\": {\"Stop\": [{\"hooks\": [{\"command\": \"coditect hook Stop\"}, \
                    {\"command\": \"theirs\"}]}]}}";
        let out = take_out(text).unwrap();
        assert!(out.contains("theirs") && !out.contains("coditect"), "{out}");
        assert!(jsonc::read(&out).is_ok());
    }
}
