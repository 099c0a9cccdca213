//! JSON in the one form that is hashed (RFC 8785), written without building anything in between.

use serde_json::{Map, Value};

use super::is_exact;

/// Appends the value in canonical form.
pub(crate) fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => match number.as_i64() {
            // What every reader keeps is written in one way only.
            Some(whole) if number.is_i64() && is_exact(whole) => {
                out.extend_from_slice(whole.to_string().as_bytes());
            }
            // The form of doubles is an art of its own.
            _ => out.extend(serde_json_canonicalizer::to_vec(number).unwrap_or_default()),
        },
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(map) => write_object(map, out),
    }
}

fn write_object(map: &Map<String, Value>, out: &mut Vec<u8>) {
    let entries = map.iter().map(|(key, value)| (key.as_str(), value));
    let mut entries: Vec<(&str, &Value)> = entries.collect();
    // Keys are ordered by their UTF-16 units, which is the order of bytes for ASCII alone.
    if entries.iter().all(|(key, _)| key.is_ascii()) {
        entries.sort_unstable_by_key(|(key, _)| *key);
    } else {
        entries.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    }
    write_entries(entries.into_iter(), out);
}

/// Appends an object of entries that are in canonical order.
pub(crate) fn write_entries<'a>(
    entries: impl Iterator<Item = (&'a str, &'a Value)>,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    for (position, (key, value)) in entries.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        write_text(key, out);
        out.push(b':');
        write(value, out);
    }
    out.push(b'}');
}

/// Appends a text; JSON's own escapes are the canonical ones.
fn write_text(text: &str, out: &mut Vec<u8>) {
    // Writing to memory cannot fail, and neither can a text.
    let _infallible = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-5_i64..5).prop_map(Value::from),
            any::<f64>()
                .prop_filter("JSON has finite numbers", |number| number.is_finite())
                .prop_map(Value::from),
            (-5_i32..5).prop_map(|whole| Value::from(f64::from(whole))),
            any::<String>().prop_map(Value::from),
            "[\\x00-\\x20\"\\\\/\u{7f}\u{e9}\u{2028}\u{e000}\u{1f600}]*".prop_map(Value::from),
        ];
        let key = prop_oneof![any::<String>(), "[a-z\u{e000}\u{1f600}]{0,2}"];
        leaf.prop_recursive(3, 24, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(key.clone(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_form_is_that_of_the_standards_library(value in values()) {
            let mut written = Vec::new();
            write(&value, &mut written);
            let expected = serde_json_canonicalizer::to_vec(&value).unwrap();
            prop_assert_eq!(
                String::from_utf8(written).unwrap(),
                String::from_utf8(expected).unwrap()
            );
        }
    }
}
