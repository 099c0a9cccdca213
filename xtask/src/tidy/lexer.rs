//! A lexer that knows just enough Rust to tell code from text.
//!
//! It replaces the contents of comments, strings and character literals by spaces, keeps every
//! line break, and so lets the other checks look for words and braces without parsing.

/// Returns `source` with the same lines and columns, comments and literals blanked out.
pub(crate) fn blank(source: &str) -> String {
    let mut lexer = Lexer {
        rest: source,
        code: String::with_capacity(source.len()),
    };
    while lexer.step() {}
    lexer.code
}

struct Lexer<'a> {
    rest: &'a str,
    code: String,
}

impl Lexer<'_> {
    /// Consumes one token or one character; returns false at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else {
            return false;
        };
        if self.rest.starts_with("//") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.hide(end);
        } else if self.rest.starts_with("/*") {
            let end = block_comment_end(self.rest);
            self.hide(end);
        } else if let Some(end) = raw_string_end(self.rest) {
            self.hide(end);
        } else if first == '"' {
            let end = quoted_end(self.rest, '"');
            self.hide(end);
        } else if first == '\'' && is_char_literal(self.rest) {
            let end = quoted_end(self.rest, '\'');
            self.hide(end);
        } else if is_word(first) {
            // A whole word at once, so that the `r` of `for` does not begin a raw string.
            let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
            self.keep(end);
        } else {
            self.keep(first.len_utf8());
        }
        true
    }

    fn keep(&mut self, bytes: usize) {
        self.code.push_str(&self.rest[..bytes]);
        self.rest = &self.rest[bytes..];
    }

    fn hide(&mut self, bytes: usize) {
        let blanks = self.rest[..bytes]
            .chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' });
        self.code.extend(blanks);
        self.rest = &self.rest[bytes..];
    }
}

/// Returns whether `c` belongs to an identifier or keyword.
pub(crate) fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn block_comment_end(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Returns the end of a raw or byte string that starts at `text`, if one does.
fn raw_string_end(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c"]
        .into_iter()
        .find(|p| text.starts_with(p))?;
    let after = &text[prefix.len()..];
    if !prefix.ends_with('r') {
        return after
            .starts_with('"')
            .then(|| prefix.len() + quoted_end(after, '"'));
    }
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let start = prefix.len() + hashes + 1;
    Some(
        body.find(&close)
            .map_or(text.len(), |at| start + at + close.len()),
    )
}

/// Returns the end of a literal that starts and ends with `quote`, which a backslash escapes.
fn quoted_end(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Returns whether the `'` at the start of `text` opens a character and not a lifetime.
fn is_char_literal(text: &str) -> bool {
    let mut characters = text.chars().skip(1);
    match (characters.next(), characters.next()) {
        (Some('\\'), _) => true,
        (_, second) => second == Some('\''),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_become_spaces_of_the_same_width() {
        assert_eq!(blank("a // b\nc"), "a     \nc");
        assert_eq!(blank("a /* b /* c */ d */ e"), "a                   e");
        assert_eq!(blank("f(\"}{\\\"\", 1)"), "f(      , 1)");
        assert_eq!(blank("x = r#\"a\"b\n}\"#;"), "x =       \n   ;");
        assert_eq!(blank("x = b\"ü\";"), "x =     ;");
    }

    #[test]
    fn characters_are_blanked_and_lifetimes_kept() {
        assert_eq!(
            blank("'{' '\\'' '\\u{1}' x"),
            "              ".to_owned() + "   x"
        );
        assert_eq!(blank("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");
    }

    #[test]
    fn word_that_ends_in_r_does_not_start_a_raw_string() {
        assert_eq!(blank("for\"{\""), "for   ");
    }

    #[test]
    fn unfinished_literal_ends_with_the_file() {
        assert_eq!(blank("\"abc"), "    ");
        assert_eq!(blank("/* abc"), "      ");
    }
}
