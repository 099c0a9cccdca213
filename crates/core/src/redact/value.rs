//! Redaction of JSON: every string, and what stands under a telling key.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::engine::{class_of_key, redact_text};
use super::{MARKER_START, Report, assign};

/// Replaces every secret in the strings and keys of `value`, and counts them in `report`.
pub fn redact_value(value: &mut Value, report: &mut Report) {
    match value {
        Value::String(text) => redact_string(text, report),
        Value::Array(items) => items.iter_mut().for_each(|item| redact_value(item, report)),
        Value::Object(fields) => redact_object(fields, report),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns the kind of secret that `value` is because it stands under `key`, if it is one.
#[must_use]
pub fn kind_under_key(key: &str, value: &str) -> Option<&'static str> {
    let class = class_of_key(key)?;
    assign::is_secret_under(class, value).then(|| class.kind())
}

fn redact_string(text: &mut String, report: &mut Report) {
    if let Cow::Owned(redacted) = redact_text(text, report) {
        *text = redacted;
    }
}

fn redact_object(fields: &mut Map<String, Value>, report: &mut Report) {
    let mut renamed = Vec::new();
    for (key, value) in fields.iter_mut() {
        redact_value(value, report);
        if let Value::String(text) = value
            && let Some(kind) = kind_under_key(key, text)
        {
            *text = format!("{MARKER_START}{kind}]");
            report.add(kind);
        }
        if let Cow::Owned(new_key) = redact_text(key, &mut Report::default()) {
            renamed.push((key.clone(), new_key));
        }
    }
    for (old_key, new_key) in renamed {
        if let Some(value) = fields.remove(&old_key) {
            redact_text(&old_key, report);
            fields.insert(new_key, value);
        }
    }
}
