//! Changing a JSON file of somebody else without touching the rest of it: comments, order, spaces
//! and line ends stay as they are.

use std::ops::Range;

use serde_json::Value;

/// Deepest nesting that is read.
const DEPTH_MAX: usize = 128;

/// Why a text could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {expected} expected")]
pub(crate) struct Malformed {
    /// Where.
    pub(crate) at: usize,
    /// What should stand there.
    pub(crate) expected: &'static str,
}

/// A value and where it stands.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Members in their order.
    Object(Vec<Member>),
    /// Items in their order.
    Array(Vec<Node>),
    /// Text, number, boolean, null.
    Scalar,
}

/// A member of an object.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) key: String,
    /// From the key to the end of the value.
    pub(crate) span: Range<usize>,
    pub(crate) value: Node,
}

impl Node {
    /// Returns the member of that name; of several the last, which is what readers take.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Kind::Object(members) = &self.kind else {
            return None;
        };
        let found = members.iter().rev().find(|member| member.key == key);
        found.map(|member| &member.value)
    }

    /// Returns the value without comments.
    pub(crate) fn value(&self, text: &str) -> Value {
        match &self.kind {
            Kind::Object(members) => {
                let pair = |member: &Member| (member.key.clone(), member.value.value(text));
                Value::Object(members.iter().map(pair).collect())
            }
            Kind::Array(items) => items.iter().map(|item| item.value(text)).collect(),
            Kind::Scalar => serde_json::from_str(&text[self.span.clone()]).unwrap_or(Value::Null),
        }
    }

    /// Returns the spans of what an object or array holds.
    fn parts(&self) -> Vec<Range<usize>> {
        match &self.kind {
            Kind::Object(members) => members.iter().map(|member| member.span.clone()).collect(),
            Kind::Array(items) => items.iter().map(|item| item.span.clone()).collect(),
            Kind::Scalar => Vec::new(),
        }
    }
}

/// Reads a text.
///
/// # Errors
/// [`Malformed`] when it is no JSON, also with comments and commas at the ends allowed.
pub(crate) fn read(text: &str) -> Result<Node, Malformed> {
    let start = if text.starts_with('\u{feff}') { 3 } else { 0 };
    let mut reader = Reader { text, at: start };
    reader.space()?;
    let node = reader.node(0)?;
    reader.space()?;
    if reader.at < text.len() {
        return Err(reader.expected("the end"));
    }
    Ok(node)
}

/// Returns the text with `value` at the end of the object or array that is found by `path`;
/// objects on the way that are missing are made. `key` is none for an array, which is made, too.
///
/// # Errors
/// [`Malformed`] when the text is no JSON, or something else stands on the way.
pub(crate) fn append(text: &str, path: &[&str], value: &Value) -> Result<String, Malformed> {
    let root = read(text)?;
    let mut node = &root;
    for (depth, key) in path.iter().enumerate() {
        let Some(next) = node.get(key) else {
            if !matches!(node.kind, Kind::Object(_)) {
                return Err(Malformed {
                    at: node.span.start,
                    expected: "an object",
                });
            }
            let mut inner = Value::Array(vec![value.clone()]);
            for key in path[depth + 1..].iter().rev() {
                inner = Value::Object([((*key).to_owned(), inner)].into_iter().collect());
            }
            return Ok(insert(text, node, Some(key), &inner));
        };
        node = next;
    }
    if !matches!(node.kind, Kind::Array(_)) {
        return Err(Malformed {
            at: node.span.start,
            expected: "a list",
        });
    }
    Ok(insert(text, node, None, value))
}

/// Returns the text with a member at the end of the object that is found by `path`, in place of
/// one of that name; objects on the way that are missing are made.
///
/// # Errors
/// [`Malformed`] when the text is no JSON, or something else stands on the way.
pub(crate) fn set(text: &str, path: &[&str], value: &Value) -> Result<String, Malformed> {
    let root = read(text)?;
    let mut node = &root;
    for (depth, key) in path.iter().enumerate() {
        if !matches!(node.kind, Kind::Object(_)) {
            return Err(Malformed {
                at: node.span.start,
                expected: "an object",
            });
        }
        let Some(next) = node.get(key) else {
            let mut inner = value.clone();
            for key in path[depth + 1..].iter().rev() {
                inner = Value::Object([((*key).to_owned(), inner)].into_iter().collect());
            }
            return Ok(insert(text, node, Some(key), &inner));
        };
        node = next;
    }
    let written = Style::of(text).write(value, &indent_of(text, node.span.start));
    Ok(splice(text, node.span.clone(), &written))
}

/// Returns the text without the part `index` of the object or array that is found by `path`.
///
/// # Errors
/// [`Malformed`] when there is no such part.
pub(crate) fn remove(text: &str, path: &[&str], index: usize) -> Result<String, Malformed> {
    let root = read(text)?;
    let mut node = &root;
    let missing = |at| Malformed {
        at,
        expected: "what was to be removed",
    };
    for key in path {
        node = node.get(key).ok_or(missing(node.span.start))?;
    }
    if index >= node.parts().len() {
        return Err(missing(node.span.start));
    }
    Ok(without(text, node, index))
}

/// Takes a part out, with the comma before or behind it.
fn without(text: &str, node: &Node, index: usize) -> String {
    let parts = node.parts();
    let Some(part) = parts.get(index) else {
        return text.to_owned();
    };
    let range = match (index.checked_sub(1), parts.get(index + 1)) {
        (None, None) => {
            let inner = node.span.start + 1..node.span.end - 1;
            let start = text[..part.start].trim_end().len().max(inner.start);
            let end = comma_after(text, part.end).map_or(part.end, |comma| comma + 1);
            let alone = start == inner.start && text[end..inner.end].trim().is_empty();
            // Comments stay; else nothing is left between the brackets.
            if alone { inner } else { start..end }
        }
        (None, Some(next)) => part.start..next.start,
        (Some(before), _) => parts[before].end..part.end,
    };
    splice(text, range, "")
}

/// Returns the text without the part `inner` of the list `hooks` in the item `index` of the list
/// that is found by `path`.
///
/// # Errors
/// [`Malformed`] when there is no such part.
pub(crate) fn remove_nested(
    text: &str,
    path: &[&str],
    index: usize,
    inner: usize,
) -> Result<String, Malformed> {
    let root = read(text)?;
    let mut node = Some(&root);
    for key in path {
        node = node.and_then(|node| node.get(key));
    }
    let item = match node.map(|node| &node.kind) {
        Some(Kind::Array(items)) => items.get(index),
        _ => None,
    };
    let Some(list) = item.and_then(|item| item.get("hooks")) else {
        return Err(Malformed {
            at: root.span.start,
            expected: "what was to be removed",
        });
    };
    Ok(without(text, list, inner))
}

/// Returns which member of the object found by `path` has that name.
pub(crate) fn position(text: &str, path: &[&str], key: &str) -> Option<usize> {
    let root = read(text).ok()?;
    let mut node = &root;
    for key in path {
        node = node.get(key)?;
    }
    let Kind::Object(members) = &node.kind else {
        return None;
    };
    members.iter().rposition(|member| member.key == key)
}

fn insert(text: &str, container: &Node, key: Option<&str>, value: &Value) -> String {
    let style = Style::of(text);
    let outer = indent_of(text, container.span.start);
    let parts = container.parts();
    let end = container.span.end - 1;
    let name = key.map_or(String::new(), |key| format!("{}: ", Value::from(key)));
    let Some(last) = parts.last() else {
        let inner = format!("{outer}{}", style.unit);
        let (line, body) = (style.line, style.write(value, &inner));
        // Comments in an otherwise empty container stay before what is put into it.
        let kept = text[container.span.start + 1..end].trim_end();
        let start = container.span.start + 1 + kept.len();
        return splice(
            text,
            start..end,
            &format!("{line}{inner}{name}{body}{line}{outer}"),
        );
    };
    // A comma may follow the last part already, with comments around it.
    let comma = comma_after(text, last.end);
    let at = comma.map_or(last.end, |comma| comma + 1);
    let before = if comma.is_some() { "" } else { "," };
    let after = if comma.is_some() { "," } else { "" };
    let on_one_line = !text[container.span.start..last.end].contains('\n');
    let written = if on_one_line {
        format!("{before} {name}{value}{after}")
    } else {
        let inner = indent_of(text, last.start);
        let body = style.write(value, &inner);
        format!("{before}{}{inner}{name}{body}{after}", style.line)
    };
    splice(text, at..at, &written)
}

fn comma_after(text: &str, at: usize) -> Option<usize> {
    let mut reader = Reader { text, at };
    reader.space().ok()?;
    (reader.peek() == Some(b',')).then_some(reader.at)
}

fn splice(text: &str, range: Range<usize>, with: &str) -> String {
    [&text[..range.start], with, &text[range.end..]].concat()
}

/// Returns the spaces at the start of the line of a place.
fn indent_of(text: &str, at: usize) -> String {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = &text[start..];
    line.chars()
        .take_while(|letter| matches!(letter, ' ' | '\t'))
        .collect()
}

/// How a file is written.
struct Style {
    unit: String,
    line: &'static str,
}

impl Style {
    fn of(text: &str) -> Self {
        let indented = text.lines().map(|line| {
            let rest = line.trim_start_matches([' ', '\t']);
            (&line[..line.len() - rest.len()], rest)
        });
        let unit = indented.filter(|(space, rest)| !space.is_empty() && rest.starts_with('"'));
        let unit = unit.map(|(space, _)| space.to_owned()).next();
        Self {
            unit: unit.unwrap_or_else(|| "  ".to_owned()),
            line: if text.contains("\r\n") { "\r\n" } else { "\n" },
        }
    }

    fn write(&self, value: &Value, indent: &str) -> String {
        let mut out = Vec::new();
        let form = serde_json::ser::PrettyFormatter::with_indent(self.unit.as_bytes());
        let mut writer = serde_json::Serializer::with_formatter(&mut out, form);
        if serde::Serialize::serialize(value, &mut writer).is_err() {
            return value.to_string();
        }
        let text = String::from_utf8_lossy(&out);
        text.replace('\n', &format!("{}{indent}", self.line))
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn expected(&self, expected: &'static str) -> Malformed {
        Malformed {
            at: self.at,
            expected,
        }
    }

    /// Skips spaces and comments.
    fn space(&mut self) -> Result<(), Malformed> {
        loop {
            let rest = &self.text[self.at..];
            if let Some(letter) = rest.chars().next().filter(|letter| letter.is_whitespace()) {
                self.at += letter.len_utf8();
            } else if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                let end = rest
                    .find("*/")
                    .ok_or(self.expected("the end of a comment"))?;
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    fn node(&mut self, depth: usize) -> Result<Node, Malformed> {
        if depth > DEPTH_MAX {
            return Err(self.expected("less nesting"));
        }
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => Kind::Object(self.list(b'}', |reader| reader.member(depth))?),
            Some(b'[') => Kind::Array(self.list(b']', |reader| reader.node(depth + 1))?),
            _ => {
                self.scalar()?;
                Kind::Scalar
            }
        };
        let span = start..self.at;
        Ok(Node { span, kind })
    }

    fn list<T>(
        &mut self,
        close: u8,
        mut part: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let mut parts = Vec::new();
        self.at += 1;
        loop {
            self.space()?;
            if self.peek() == Some(close) {
                self.at += 1;
                return Ok(parts);
            }
            parts.push(part(self)?);
            self.space()?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => {}
                _ => return Err(self.expected("a comma")),
            }
        }
    }

    fn member(&mut self, depth: usize) -> Result<Member, Malformed> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.expected("a name"));
        }
        let text = self.text;
        self.scalar()?;
        let key = serde_json::from_str(&text[start..self.at]);
        let key = key.map_err(|_| self.expected("a name"))?;
        self.space()?;
        if self.peek() != Some(b':') {
            return Err(self.expected("a colon"));
        }
        self.at += 1;
        self.space()?;
        let value = self.node(depth + 1)?;
        Ok(Member {
            key,
            span: start..self.at,
            value,
        })
    }

    fn scalar(&mut self) -> Result<(), Malformed> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        if self.peek() == Some(b'"') {
            self.at += 1;
            while let Some(byte) = self.peek() {
                match byte {
                    b'\\' => self.at += 2,
                    b'"' => {
                        self.at += 1;
                        return Ok(());
                    }
                    _ => self.at += 1,
                }
            }
            self.at = bytes.len();
            return Err(self.expected("the end of a text"));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        while self.peek().is_some_and(plain) {
            self.at += 1;
        }
        let is_value = serde_json::from_str::<Value>(&self.text[start..self.at]).is_ok();
        if is_value {
            Ok(())
        } else {
            self.at = start;
            Err(self.expected("a value"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FILES: &[&str] = &[
        "{}",
        "{\n}\n",
        "{\n  // mine\n}\n",
        "{\"a\": 1}",
        "{\n\t\"a\": [1, 2],\n\t\"hooks\": {}\n}",
        "{\r\n    \"hooks\": {\r\n        \"Stop\": []\r\n    }\r\n}\r\n",
        "{\n  \"hooks\": {\n    \"Stop\": [\n      \
         {\"hooks\": [{\"command\": \"x\"}]}, // keep\n    ],\n  },\n}\n",
        "\u{feff}{\n  /* a { in a comment */ \"b\": \"}\\\"\",\n  \"hooks\": {\"Stop\": [1]}\n}",
        "{ \"hooks\": { \"Other\": [ {} ] } , \"z\": null }",
    ];

    #[test]
    fn what_was_put_in_is_there_and_the_rest_as_it_was() {
        for file in FILES {
            let new = json!({"hooks": [{"type": "command", "command": "c"}]});
            let text = append(file, &["hooks", "Stop"], &new).unwrap();
            let (before, after) = (read(file).unwrap(), read(&text).unwrap());
            let list = after
                .get("hooks")
                .unwrap()
                .get("Stop")
                .unwrap()
                .value(&text);
            assert_eq!(list.as_array().unwrap().last(), Some(&new), "{text}");
            let mut expected = before.value(file);
            let found = after.value(&text);
            expected["hooks"]["Stop"] = found["hooks"]["Stop"].clone();
            assert_eq!(found, expected, "{text}");
            let comments = |text: &str| (text.matches("//").count(), text.matches("/*").count());
            assert_eq!(comments(&text), comments(file));
            assert_eq!(
                text.matches('\n').count() - text.matches("\r\n").count() == 0,
                file.contains("\r\n") || !text.contains('\n'),
                "{text:?}"
            );
        }
    }

    #[test]
    fn taking_out_what_was_put_in_gives_the_same_values() {
        for file in FILES {
            let text = append(file, &["hooks", "Stop"], &json!({"x": 1})).unwrap();
            let node = read(&text).unwrap();
            let list = node
                .get("hooks")
                .unwrap()
                .get("Stop")
                .unwrap()
                .parts()
                .len();
            let text = remove(&text, &["hooks", "Stop"], list - 1).unwrap();
            let mut expected = read(file).unwrap().value(file);
            if expected["hooks"]["Stop"].is_null() {
                expected["hooks"]["Stop"] = json!([]);
            }
            assert_eq!(read(&text).unwrap().value(&text), expected, "{text}");
        }
    }

    #[test]
    fn an_ordinary_file_comes_back_byte_for_byte() {
        let value = json!({"model": "x", "hooks": {"Stop": [{"a": 1}]}});
        let file = &format!("{value:#}\n");
        let text = append(file, &["hooks", "Stop"], &json!({"x": [1]})).unwrap();
        assert_eq!(remove(&text, &["hooks", "Stop"], 1).unwrap(), *file);
        let text = append(file, &["hooks", "SessionEnd"], &json!({"x": [1]})).unwrap();
        assert_eq!(remove(&text, &["hooks"], 1).unwrap(), *file);
    }

    #[test]
    fn a_member_is_set_in_place() {
        let text = set("{\n  \"a\": {\"b\": 1}, // c\n}", &["a", "b"], &json!(2)).unwrap();
        assert_eq!(text, "{\n  \"a\": {\"b\": 2}, // c\n}");
        let text = set("{}", &["a", "b"], &json!(2)).unwrap();
        assert_eq!(read(&text).unwrap().value(&text), json!({"a": {"b": 2}}));
        assert_eq!(position(&text, &["a"], "b"), Some(0));
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        for (text, at) in [
            ("", 0),
            ("{\"a\": }", 6),
            ("{\"a\" 1}", 5),
            ("{} x", 3),
            ("{\"a\": \"", 7),
        ] {
            assert_eq!(read(text).unwrap_err().at, at, "{text}");
        }
        assert!(append("[1]", &["hooks"], &json!(1)).is_err());
        assert!(append("{\"hooks\": 3}", &["hooks", "Stop"], &json!(1)).is_err());
        let deep = "[".repeat(100_000);
        assert!(read(&deep).is_err());
    }
}
