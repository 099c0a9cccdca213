//! The JSON object that a hook is given, field by field: large fields are measured, not read.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::claude::lines;

/// The input is no JSON object.
#[derive(Debug, thiserror::Error)]
#[error("the input is no JSON object ({bytes} bytes)")]
pub struct Unreadable {
    /// Bytes that came.
    pub bytes: usize,
}

/// Fields by name, each as it was written.
#[derive(Debug)]
pub(super) struct Fields(BTreeMap<String, Box<RawValue>>);

impl Fields {
    /// Reads the input. What only needs a repair (cut escapes, invalid UTF-8, something behind
    /// the object) is repaired.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        if let Ok(fields) = serde_json::from_slice(bytes) {
            return Ok(Self(fields));
        }
        let unreadable = || Unreadable { bytes: bytes.len() };
        let object = lines::read(bytes).objects.into_iter().next();
        let object = object.ok_or_else(unreadable)?;
        let text = serde_json::to_string(&object).map_err(|_| unreadable())?;
        Ok(Self(serde_json::from_str(&text).map_err(|_| unreadable())?))
    }

    /// Returns a text or number as text; none if it is missing, empty or something else.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::String(text) if !text.is_empty() => Some(text),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Returns a whole number that is not negative.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let number = self.value(name)?;
        let rounded = || {
            let real = number
                .as_f64()
                .filter(|real| (0.0..9.0e15).contains(real))?;
            // In range and not negative, as just checked.
            Some(real.round() as u64)
        };
        number.as_u64().or_else(rounded)
    }

    /// Returns a field as it is.
    pub(super) fn value(&self, name: &str) -> Option<Value> {
        let text = self.0.get(name)?.get();
        serde_json::from_str(text).ok().or_else(|| {
            // A lone surrogate is repaired only where the field is looked at.
            let wrapped = format!("{{\"v\":{text}}}");
            let object = lines::read(wrapped.as_bytes()).objects.into_iter().next();
            object.and_then(|mut object| object.remove("v"))
        })
    }

    /// Returns how many bytes a field has as it was written.
    pub(super) fn bytes(&self, name: &str) -> Option<u64> {
        self.0.get(name).map(|raw| raw.get().len() as u64)
    }

    /// Returns the names of all fields.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_repaired_is_read() {
        for text in [
            r#"{"session_id":"s","n":3}"#,
            "\u{feff}{\"session_id\":\"s\",\"n\":3}\n",
            r#"{"session_id":"s","n":3} trailing"#,
        ] {
            let fields = Fields::read(text.as_bytes()).unwrap();
            assert_eq!(fields.text("session_id").as_deref(), Some("s"), "{text}");
            assert_eq!(fields.number("n"), Some(3));
            assert_eq!(fields.text("none"), None);
        }
        let odd = Fields::read(b"{\"a\":\"x\xff\",\"b\":\"\\ud83d\"}").unwrap();
        assert_eq!(odd.text("a").as_deref(), Some("x\u{fffd}"));
        assert!(odd.text("b").is_some());
        let lone = Fields::read(br#"{"b":"x\ud83d"}"#).unwrap();
        assert_eq!(lone.text("b").as_deref(), Some("x\u{fffd}"));
    }

    #[test]
    fn anything_else_is_named_unreadable() {
        for text in ["", "[1]", "null", "{\"a\":", "plain"] {
            assert!(Fields::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
