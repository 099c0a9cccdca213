//! Readable text of a message's content.

use serde_json::{Map, Value};

/// Longest text of a message, in bytes. The blocks keep more.
const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of blocks above which long strings in them are cut, so that a row stays storable.
const BLOCKS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Length to which strings are cut then, in bytes.
const CUT_STRING_BYTES: usize = 64 * 1024;

/// Returns the text of `content`: text as it is, calls as name and inputs, results as their text.
pub(super) fn text(content: &Value) -> String {
    let text = match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks
            .iter()
            .map(block)
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join("\n\n"),
        _ => String::new(),
    };
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    cut(&text, TEXT_BYTES_MAX)
}

/// Returns the text of a tool's result.
pub(super) fn tool_result(block: &Map<String, Value>) -> String {
    block.get("content").map(text).unwrap_or_default()
}

/// Shortens strings of blocks that would make a row too large.
pub(super) fn bound(blocks: &mut Value) {
    if string_bytes(blocks) > BLOCKS_BYTES_MAX {
        cut_strings(blocks);
    }
}

fn block(block: &Value) -> String {
    let Value::Object(fields) = block else {
        return block.as_str().unwrap_or("").to_owned();
    };
    let field = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or("");
    match field("type") {
        "text" => field("text").to_owned(),
        "thinking" => field("thinking").to_owned(),
        "tool_use" | "server_tool_use" => call(field("name"), fields.get("input")),
        "tool_result" => tool_result(fields),
        "redacted_thinking" => String::new(),
        other => format!("[{other}]"),
    }
}

fn call(name: &str, input: Option<&Value>) -> String {
    let mut text = format!("[{name}]");
    if let Some(Value::Object(fields)) = input {
        for (key, value) in fields {
            text.push_str(if fields.len() == 1 { " " } else { "\n" });
            text.push_str(key);
            text.push_str(": ");
            match value {
                Value::String(value) => text.push_str(value),
                other => text.push_str(&other.to_string()),
            }
        }
    }
    text
}

fn string_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(string_bytes).sum(),
        Value::Object(fields) => fields.values().map(string_bytes).sum(),
        _ => 0,
    }
}

fn cut_strings(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > CUT_STRING_BYTES => *text = cut(text, CUT_STRING_BYTES),
        Value::Array(items) => items.iter_mut().for_each(cut_strings),
        Value::Object(fields) => fields.values_mut().for_each(cut_strings),
        _ => {}
    }
}

fn cut(text: &str, bytes_max: usize) -> String {
    let kept = super::record::clip(text, bytes_max);
    format!("{kept}\n[{} bytes cut]", text.len() - kept.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_become_readable_text() {
        let content = json!([
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "name": "Bash", "input": {"command": "ls"}},
            {"type": "tool_result", "content": [{"type": "text", "text": "a"}, {"type": "image"}]},
        ]);
        assert_eq!(
            text(&content),
            "I look.\n\n[Bash] command: ls\n\na\n\n[image]"
        );
    }

    #[test]
    fn huge_blocks_are_cut_and_say_so() {
        let mut blocks = json!([{"type": "image", "data": "x".repeat(BLOCKS_BYTES_MAX + 1)}]);
        bound(&mut blocks);
        let data = blocks[0]["data"].as_str().unwrap();
        assert!(data.len() < CUT_STRING_BYTES + 40 && data.ends_with("bytes cut]"));
    }
}
