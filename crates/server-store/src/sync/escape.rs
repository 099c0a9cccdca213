//! NUL characters, which PostgreSQL's text and jsonb cannot hold, written reversibly.
//!
//! U+F8FF (private use) followed by `N` stands for NUL, followed by `F` for itself. Hashes are
//! over the original; nothing outside the sync module sees the escaped form but SQL.

use std::borrow::Cow;

use serde_json::Value;

const MARK: char = '\u{F8FF}';
const NUL: char = '\0';

/// Returns the text as the database holds it; borrowed unless it has something to escape.
pub(crate) fn text(original: &str) -> Cow<'_, str> {
    if !needs_escape(original) {
        return Cow::Borrowed(original);
    }
    let mut escaped = String::with_capacity(original.len() + 16);
    for character in original.chars() {
        match character {
            NUL => escaped.extend([MARK, 'N']),
            MARK => escaped.extend([MARK, 'F']),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

/// Returns the original of a text that the database holds.
pub(crate) fn original(escaped: &str) -> Cow<'_, str> {
    if !escaped.contains(MARK) {
        return Cow::Borrowed(escaped);
    }
    let mut text = String::with_capacity(escaped.len());
    let mut characters = escaped.chars().peekable();
    while let Some(character) = characters.next() {
        let meaning = match (character, characters.peek()) {
            (MARK, Some('N')) => Some(NUL),
            (MARK, Some('F')) => Some(MARK),
            _ => None,
        };
        if meaning.is_some() {
            characters.next();
        }
        text.push(meaning.unwrap_or(character));
    }
    Cow::Owned(text)
}

/// Returns the JSON as the database holds it: keys and texts escaped at every depth.
pub(crate) fn json(original: &Value) -> Cow<'_, Value> {
    if json_has(original, &needs_escape) {
        Cow::Owned(map_texts(original, &|part| text(part).into_owned()))
    } else {
        Cow::Borrowed(original)
    }
}

/// Returns the original of JSON that the database holds.
pub(crate) fn original_json(escaped: Value) -> Value {
    if json_has(&escaped, &|part| part.contains(MARK)) {
        map_texts(&escaped, &|part| original(part).into_owned())
    } else {
        escaped
    }
}

fn needs_escape(text: &str) -> bool {
    text.contains([NUL, MARK])
}

fn json_has(value: &Value, test: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => test(text),
        Value::Array(items) => items.iter().any(|item| json_has(item, test)),
        Value::Object(map) => map
            .iter()
            .any(|(key, item)| test(key) || json_has(item, test)),
        _ => false,
    }
}

fn map_texts(value: &Value, change: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(items) => items.iter().map(|item| map_texts(item, change)).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, item)| (change(key), map_texts(item, change)))
            .collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// Texts that are mostly made of what the escape is about.
    fn texts() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof![Just(NUL), Just(MARK), Just('N'), Just('F'), any::<char>()],
            0..24,
        )
        .prop_map(|characters| characters.into_iter().collect())
    }

    proptest! {
        #[test]
        fn every_text_reads_back_and_holds_no_nul(before in texts()) {
            let escaped = text(&before);
            prop_assert!(!escaped.contains(NUL));
            prop_assert_eq!(original(&escaped), before.as_str());
        }

        #[test]
        fn different_texts_stay_different(one in texts(), other in texts()) {
            prop_assert_eq!(text(&one) == text(&other), one == other);
        }

        #[test]
        fn json_reads_back_at_every_depth(key in texts(), item in texts()) {
            let mut map = serde_json::Map::new();
            map.insert(key, json!([1, null, item]));
            let before = json!([map, item]);
            let escaped = json(&before).into_owned();
            prop_assert!(!json_has(&escaped, &|part| part.contains(NUL)));
            prop_assert_eq!(original_json(escaped), before);
        }
    }

    #[test]
    fn ordinary_text_is_not_copied() {
        assert!(matches!(text("ordinary"), Cow::Borrowed(_)));
        assert!(matches!(original("ordinary"), Cow::Borrowed(_)));
    }
}
