//! `config show`: every setting, its value and its source.

use std::fmt::Write as _;

use serde_json::json;

use super::print;
use crate::config::{SETTINGS, Setting, Values};

pub(super) fn run(values: &Values, json: bool) -> anyhow::Result<()> {
    print(&if json {
        as_json(values)
    } else {
        as_text(values)
    })
}

fn as_json(values: &Values) -> String {
    let entry = |setting: &Setting| {
        let value = values.get(setting.name);
        json!({
            "name": setting.name,
            "value": value.map(|value| shown(setting, &value.text)),
            "source": value.map(|value| value.source.to_string()),
            "env": setting.env,
        })
    };
    let settings: Vec<serde_json::Value> = SETTINGS.iter().map(entry).collect();
    format!("{}\n", json!({ "settings": settings }))
}

fn as_text(values: &Values) -> String {
    let mut out = String::new();
    for setting in SETTINGS {
        let (value, source) = match values.get(setting.name) {
            Some(value) => (shown(setting, &value.text), value.source.to_string()),
            None => ("-", "not set".to_owned()),
        };
        let Setting {
            name, env, about, ..
        } = setting;
        // Writing to a string does not fail.
        let _ = writeln!(out, "{name:<25} {value:<24} {source:<12} {env:<34} {about}");
    }
    out
}

fn shown<'a>(setting: &Setting, text: &'a str) -> &'a str {
    if setting.secret { "(hidden)" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    #[test]
    fn secrets_are_hidden_in_both_forms() {
        let environment = |name: &str| {
            name.starts_with("DATABASE")
                .then(|| OsString::from("host=h password=x9"))
        };
        let values = Values::resolve(&[], &environment).unwrap();
        for text in [as_json(&values), as_text(&values)] {
            assert!(text.contains("(hidden)") && !text.contains("x9"), "{text}");
            assert!(text.contains("environment") && text.contains("127.0.0.1:7420"));
        }
    }
}
