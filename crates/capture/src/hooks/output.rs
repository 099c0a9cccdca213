//! What a hook answers. Most answer nothing, which every host takes for "go on".

use serde_json::json;

/// Returns the answer that gives a session facts to begin with; all hosts read this form.
pub fn with_context(event: &str, text: &str) -> String {
    let answer = json!({
        "hookSpecificOutput": {"hookEventName": event, "additionalContext": text}
    });
    answer.to_string()
}
