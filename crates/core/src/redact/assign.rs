//! Secrets known by the name before them: `password=…`, `"token": "…"`, `--api-key …`,
//! `Authorization: Bearer …`. Judges what stands after the name.

use std::ops::Range;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use regex::Regex;

use super::MARKER_START;
use super::rules::{Class, HARMLESS_ENDINGS};

/// Longest piece of text after a name that is looked at, in bytes.
const WINDOW_BYTES: usize = 1_024;

/// What may stand between a telling name and its value.
static SEPARATOR: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r#"\A(?P<end>(?:[_-][A-Za-z0-9_-]*|[0-9]*))(?:\\*["'`]\]?)?"#,
        r#"(?P<sep>[ \t]*(?:=>|:=|[:=])[ \t]*|[ \t]+)(?P<quote>\\*["'`])?"#,
    ))
    .ok()
});

/// The scheme of an authorization header, with the quotes that may stand before it.
static SCHEME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r#"\A(?:\\*["'`])?[ \t]*[:=,][ \t]*(?:\\*["'`])?"#,
        r#"(?:(?i:bearer|basic|token|apikey|digest|negotiate)[ \t]+)?"#,
    ))
    .ok()
});

/// Returns the byte range of the secret that follows the name at `name`, if one does.
pub(super) fn find_value(text: &str, name: Range<usize>, class: Class) -> Option<Range<usize>> {
    match class {
        Class::Bearer => bearer(text, name.end),
        Class::Authorization => authorization(text, name.end),
        Class::Password | Class::Secret | Class::Key | Class::AwsSecret => {
            assigned(text, name, class)
        }
    }
}

/// Returns true when `value`, standing under the name `key` of an object, is a secret.
pub(super) fn is_secret_under(class: Class, value: &str) -> bool {
    if value.contains(MARKER_START) || value.len() > WINDOW_BYTES {
        return false;
    }
    match class {
        Class::Authorization => value.len() >= 8 && !is_placeholder(value),
        Class::Bearer => false,
        Class::Password | Class::Secret | Class::Key | Class::AwsSecret => {
            accept(class, value, Form::Quoted)
        }
    }
}

/// Returns true when a value that stands where a secret is expected is none: a marker, a
/// variable, a placeholder.
pub(super) fn is_no_secret(value: &str) -> bool {
    value.contains(MARKER_START) || is_placeholder(value)
}

/// Returns true when the text looks like a token by itself.
pub(super) fn is_token(value: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    value.len() >= 20 && value.bytes().all(fits) && accept_key(value)
}

/// Returns true when the rest of a name after its telling word keeps it telling.
pub(super) fn ending_is_telling(end: &str) -> bool {
    let last = end.rsplit(['_', '-']).next().unwrap_or("");
    end.is_empty()
        || !HARMLESS_ENDINGS
            .iter()
            .any(|word| last.eq_ignore_ascii_case(word))
}

/// How the value is written: a quoted one ends at its quote, a bare one at a blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Quoted,
    /// `NAME=value` without blanks, as in a shell or a URL.
    Tight,
    /// `name: value` or `name = value`, which may be source code or prose.
    Loose,
    /// `--name value`.
    Flag,
}

fn assigned(text: &str, name: Range<usize>, class: Class) -> Option<Range<usize>> {
    // Some names are told by what stands behind them.
    let own = text[name.clone()].trim_end_matches(['=', ':', '"', '\'']);
    let from = name.start + own.len();
    let window = clip(&text[from..], WINDOW_BYTES);
    let found = SEPARATOR.as_ref()?.captures(window)?;
    let end = found.name("end").map_or("", |m| m.as_str());
    if !ending_is_telling(end) {
        return None;
    }
    let separator = found.name("sep")?.as_str();
    let is_flag = separator.trim().is_empty();
    let may_stand_alone = class == Class::AwsSecret || is_flag_name(text, name.start);
    if is_flag && !may_stand_alone {
        return None;
    }
    let start = from + found.get(0)?.end();
    let rest = clip(&text[start..], WINDOW_BYTES);
    let (value, form) = match found.name("quote") {
        Some(quote) => (until_quote(rest, quote.as_str())?, Form::Quoted),
        None if is_flag => (bare(rest), Form::Flag),
        None if matches!(separator, "=" | ":=" | ":") => (bare(rest), Form::Tight),
        None => (bare(rest), Form::Loose),
    };
    if form != Form::Quoted && is_code_after(&rest[value.len()..]) {
        return None;
    }
    (!value.contains(MARKER_START) && accept(class, value, form))
        .then(|| start..start + value.len())
}

fn authorization(text: &str, from: usize) -> Option<Range<usize>> {
    let window = clip(&text[from..], WINDOW_BYTES);
    let scheme = SCHEME.as_ref()?.find(window)?;
    let start = from + scheme.end();
    let value = credentials(clip(&text[start..], WINDOW_BYTES));
    let random = value.len() >= 8 && value.bytes().any(|b| b.is_ascii_digit());
    let is_basic = scheme.as_str().to_ascii_lowercase().contains("basic");
    let secret = random || value.len() >= 20 || (is_basic && is_user_and_password(value));
    (secret && !is_placeholder(value)).then(|| start..start + value.len())
}

/// Returns whether the value is `user:password` in base64, however short.
fn is_user_and_password(value: &str) -> bool {
    let decoded = STANDARD_NO_PAD.decode(value.trim_end_matches('='));
    decoded.is_ok_and(|bytes| bytes.contains(&b':'))
}

fn bearer(text: &str, start: usize) -> Option<Range<usize>> {
    let value = credentials(clip(&text[start..], WINDOW_BYTES));
    let has_digit = value.bytes().any(|b| b.is_ascii_digit());
    let random = value.len() >= if has_digit { 16 } else { 32 };
    (random && !is_placeholder(value)).then(|| start..start + value.len())
}

fn credentials(rest: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())]
}

fn until_quote<'a>(rest: &'a str, quote: &str) -> Option<&'a str> {
    let value = &rest[..rest.find(quote)?];
    (!value.contains('\n')).then_some(value)
}

fn bare(rest: &str) -> &str {
    let stops = |c: char| c.is_whitespace() || "\"'`,;&|<>(){}\\".contains(c);
    &rest[..rest.find(stops).unwrap_or(rest.len())]
}

/// A call, a generic or a path continues after the value: it is an expression, not a literal.
fn is_code_after(rest: &str) -> bool {
    rest.starts_with(['(', '<', '{', '`'])
}

fn is_flag_name(text: &str, name_start: usize) -> bool {
    let before = &text.as_bytes()[..name_start];
    let word = before.iter().rev().take(40);
    let length = word
        .take_while(|b| b.is_ascii_alphanumeric() || **b == b'-' || **b == b'_')
        .count();
    before[before.len() - length..].starts_with(b"--")
}

fn accept(class: Class, value: &str, form: Form) -> bool {
    if class == Class::AwsSecret {
        // Its exact length is proof enough, whatever words it happens to hold.
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
        return value.len() == 40 && value.bytes().all(fits);
    }
    if is_placeholder(value) || is_expression(value) {
        return false;
    }
    match class {
        Class::Password => accept_password(value, form),
        Class::Key => accept_key(value),
        _ => accept_token(value),
    }
}

fn accept_password(value: &str, form: Form) -> bool {
    let length = value.chars().count();
    let wordlike = value
        .bytes()
        .all(|b| b.is_ascii_alphabetic() || b == b'_' || b == b'-');
    match form {
        Form::Quoted => length >= 4 && !is_label(value) && !is_prose(value),
        Form::Tight => length >= 4 && !(wordlike && names_itself(value)),
        Form::Loose | Form::Flag => length >= 5 && !wordlike,
    }
}

/// A token is long, has no blanks, mixes letters and digits and repeats itself little. A long
/// one may have few digits, or none when its cases change as no word's do.
fn accept_token(value: &str) -> bool {
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let letters = value.bytes().filter(u8::is_ascii_alphabetic).count();
    let length = value.len();
    if length < 12 || letters < 2 || !value.bytes().all(|b| b.is_ascii_graphic()) {
        return false;
    }
    let entropy = entropy_bits(value.as_bytes());
    match digits {
        0 => length >= 16 && entropy >= 3.3 && case_changes(value) * 3 >= length,
        1 => length >= 16 && entropy >= 3.5 && !is_wordlike(value),
        _ => entropy >= 2.8,
    }
}

/// What stands under a weak name must be random beyond doubt: no hash, no id, no path.
fn accept_key(value: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-+/=~".contains(&b);
    let is_hex = |b: u8| b.is_ascii_hexdigit() || b == b'-';
    value.len() >= 20
        && value.bytes().all(fits)
        && !value.bytes().all(is_hex)
        && value.bytes().filter(u8::is_ascii_digit).count() >= 3
        && entropy_bits(value.as_bytes()) >= 3.8
        && !is_wordlike(value)
}

/// Returns how often a letter follows one of the other case.
fn case_changes(value: &str) -> usize {
    let pairs = value.as_bytes().windows(2);
    let changes = |pair: &&[u8]| {
        pair.iter().all(u8::is_ascii_alphabetic)
            && pair[0].is_ascii_uppercase() != pair[1].is_ascii_uppercase()
    };
    pairs.filter(changes).count()
}

/// Returns whether the value is made of words: `user_profile_cache_v2`.
fn is_wordlike(value: &str) -> bool {
    let parts = value.split(['_', '-', '.', '/', '+', ':']);
    let mut words = 0_usize;
    for part in parts.filter(|part| !part.is_empty()) {
        let digits = part.bytes().filter(u8::is_ascii_digit).count();
        if digits * 3 > part.len() && part.len() > 4 {
            return false;
        }
        words += 1;
        if part.len() > 16 && case_changes(part) * 4 > part.len() {
            return false;
        }
    }
    words > 1
}

fn entropy_bits(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let total = bytes.len() as f64;
    let share = |count: &u32| f64::from(*count) / total;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(share)
        .map(|p| -p * p.log2())
        .sum()
}

/// `"type": "password"` and the like name a field or a type.
fn is_label(value: &str) -> bool {
    let labels = [
        "password",
        "passwd",
        "passphrase",
        "string",
        "none",
        "null",
        "true",
        "false",
    ];
    labels.iter().any(|label| value.eq_ignore_ascii_case(label))
}

/// Several words without a digit are a sentence; pass phrases of plain words are not found.
fn is_prose(value: &str) -> bool {
    let words = value.split_whitespace().count();
    words > 4 || (words > 1 && !value.bytes().any(|b| b.is_ascii_digit()))
}

fn names_itself(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let words = [
        "pass", "pwd", "secret", "token", "string", "none", "null", "true", "false",
    ];
    let types = [
        "required",
        "optional",
        "undefined",
        "prompt",
        "bool",
        "boolean",
        "number",
    ];
    words.iter().chain(&types).any(|word| lower.contains(word))
}

fn is_placeholder(value: &str) -> bool {
    let first = value.chars().next();
    let starts = first.is_none_or(|c| "$<{%*[/~.(@#".contains(c));
    let same = first.is_some_and(|first| value.chars().all(|c| c == first));
    let lower = value.to_ascii_lowercase();
    let words = [
        "example",
        "placeholder",
        "your_",
        "your-",
        "changeme",
        "xxxx",
        "redacted",
        "...",
    ];
    starts || same || words.iter().any(|word| lower.contains(word))
}

/// `self.token`, `config["x"]`, `os.environ` and the like are code.
fn is_expression(value: &str) -> bool {
    let is_identifier = |part: &str| {
        let mut bytes = part.bytes();
        bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
            // A number may end a name, but stands in the middle of few.
            && part.bytes().rev().skip(1).all(|b| !b.is_ascii_digit())
            && part.len() <= 24
    };
    let dotted = value.contains('.') && value.split('.').all(is_identifier);
    dotted || value.contains("::") || value.contains('[') || value.contains("->")
}

fn clip(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
