//! Reads the page of the seeds' routes and the seeds themselves, which lie beside the checkout;
//! where they are missing the tests say that they skip.
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use coditect_server::openapi;
use serde_json::{Value, json};

/// Reads a file beside the checkout whose name begins like `path`.
pub(crate) fn beside(path: &str) -> Option<String> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    let wanted = root.join(path);
    let start = wanted.file_name()?.to_str()?.to_owned();
    let files = std::fs::read_dir(wanted.parent()?).ok()?;
    let found = files
        .filter_map(Result::ok)
        .find(|file| file.file_name().to_string_lossy().starts_with(&start));
    let text = found.and_then(|file| std::fs::read_to_string(file.path()).ok());
    if text.is_none() {
        println!("skipped: there is no {path} beside the checkout");
    }
    text
}

/// The form of a JSON value as the page writes it: `{"a","b":[{"c"}]}`, with a text where it
/// says which ones there may be, and anything else where it does not say.
#[derive(Debug, PartialEq)]
pub(crate) enum Shape {
    Anything,
    OneOf(BTreeSet<String>),
    List(Box<Shape>),
    Object(BTreeMap<String, Shape>),
}

/// Reads shapes from text.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn skip(&mut self, start: &str) -> bool {
        self.0 = self.0.trim_start();
        let rest = self.0.strip_prefix(start);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn text(&mut self) -> Option<String> {
        self.skip("\"").then_some(())?;
        let (text, rest) = self.0.split_once('"')?;
        self.0 = rest;
        Some(text.to_owned())
    }

    fn object(&mut self) -> Shape {
        let mut fields = BTreeMap::new();
        while let Some(name) = self.text() {
            let shape = if self.skip(":") {
                self.value()
            } else {
                Shape::Anything
            };
            fields.insert(name, shape);
            self.skip(",");
        }
        assert!(self.skip("}"), "an object ends with a brace: {}", self.0);
        Shape::Object(fields)
    }

    fn value(&mut self) -> Shape {
        if self.skip("{") {
            return self.object();
        }
        if self.skip("[") {
            let item = if self.0.trim_start().starts_with('{') {
                self.value()
            } else {
                Shape::Anything
            };
            let (_, rest) = self.0.split_once(']').unwrap();
            self.0 = rest;
            return Shape::List(Box::new(item));
        }
        let mut texts = BTreeSet::new();
        while let Some(text) = self.text() {
            texts.insert(text);
            if !self.skip("or ") {
                break;
            }
        }
        if texts.is_empty() {
            Shape::Anything
        } else {
            Shape::OneOf(texts)
        }
    }
}

impl Shape {
    pub(crate) fn of(cell: &str) -> Self {
        let plain = cell.replace('`', "");
        let (_, rest) = plain
            .split_once('{')
            .unwrap_or_else(|| panic!("no shape: {cell}"));
        Reader(rest).object()
    }

    pub(crate) fn check(&self, value: &Value, place: &str) {
        match self {
            Self::Anything => {}
            Self::OneOf(texts) => {
                let text = value.as_str().unwrap_or_else(|| panic!("{place}: {value}"));
                assert!(texts.contains(text), "{place}: {text}");
            }
            Self::List(item) => {
                let items = value
                    .as_array()
                    .unwrap_or_else(|| panic!("{place}: {value}"));
                assert!(!items.is_empty(), "{place} shows nothing");
                for value in items {
                    item.check(value, &format!("{place}[]"));
                }
            }
            Self::Object(fields) => {
                assert!(value.is_object(), "{place}: {value}");
                for (name, shape) in fields {
                    let value = value.get(name);
                    let value = value.unwrap_or_else(|| panic!("{place} lacks {name}"));
                    shape.check(value, &format!("{place}.{name}"));
                }
            }
        }
    }

    /// Returns the names of an object's fields.
    pub(crate) fn names(&self) -> Vec<&str> {
        match self {
            Self::Object(fields) => fields.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

/// Returns the cells of the page's rows.
pub(crate) fn rows(page: &str) -> Vec<Vec<String>> {
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let rows = rows.map(|line| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    });
    rows.collect()
}

/// Returns the names that the document has for a route's query and body.
pub(crate) fn documented(path: &str, method: &str) -> BTreeSet<String> {
    let document = openapi::document();
    let operation = &document["paths"][path][method];
    let mut names = BTreeSet::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        names.insert(parameter["name"].as_str().unwrap().to_owned());
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    if let Some(reference) = body.as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
        names.extend(schema["properties"].as_object().unwrap().keys().cloned());
    }
    names
}

/// Returns the JSON object that follows the first `mark`, and what stands behind it.
pub(crate) fn example<'a>(text: &'a str, mark: &str) -> (Value, &'a str) {
    let (_, text) = text.split_once(mark).unwrap();
    let text = &text[text.find('{').unwrap()..];
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next().unwrap().unwrap();
    (value, &text[values.byte_offset()..])
}

/// Checks that what is printed is there, and of the same type.
pub(crate) fn check_types(printed: &Value, actual: &Value, place: &str) {
    match (printed, actual) {
        (Value::Object(printed), Value::Object(_)) => {
            for (name, printed) in printed {
                let place = format!("{place}.{name}");
                check_types(printed, &actual[name], &place);
            }
        }
        (Value::Array(printed), Value::Array(actual)) => {
            assert!(!actual.is_empty(), "{place}");
            for actual in actual {
                check_types(&printed[0], actual, place);
            }
        }
        (Value::Number(_), actual) => assert!(actual.is_i64(), "{place}: {actual}"),
        (Value::String(_), actual) => assert!(actual.is_string(), "{place}: {actual}"),
        (Value::Bool(_), actual) => assert!(actual.is_boolean(), "{place}: {actual}"),
        (printed, actual) => panic!("{place}: {printed} is printed, {actual} came"),
    }
}

#[test]
fn shapes_are_read_and_held_against_values() {
    let shape = Shape::of("200 `{\"s\":\"a\"` or `\"b\",\"list\":[{\"x\"}],\"n\"}`, more");
    shape.check(
        &json!({"s": "b", "list": [{"x": 1, "y": 2}], "n": null}),
        "$",
    );
    for wrong in [
        json!({"s": "c", "list": [{"x": 1}], "n": 1}),
        json!({"s": "a", "list": [{}], "n": 1}),
        json!({"s": "a", "list": [], "n": 1}),
        json!({"s": "a", "list": [{"x": 1}]}),
        json!([]),
    ] {
        let checked = std::panic::catch_unwind(|| shape.check(&wrong, "$"));
        assert!(checked.is_err(), "{wrong}");
    }
}
