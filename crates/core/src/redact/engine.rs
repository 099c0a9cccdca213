//! The scan: one prefilter pass, anchored checks at the hits, replacement until nothing is left.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{LazyLock, OnceLock};

use regex::Regex;

use super::own::{self, OwnRules};
use super::prefilter::Prefilter;
use super::rules::{Class, NAMES, Need, TokenRule, shapes};
use super::{MARKER_START, Report, assign};

/// Kinds that are found by structure and stand in no rule list.
pub(super) const STRUCTURAL_KINDS: [&str; 4] =
    ["private", "private-key", "connection-password", "password"];

/// Replacing can uncover a further secret; each round removes text, so few rounds are needed.
const ROUNDS_MAX: usize = 16;

/// How far an expression looks from a hit, in bytes; a token that reaches that far is measured
/// in full.
const WINDOW_BYTES: usize = 512;

/// Longest private key that is looked for, in bytes.
const KEY_BYTES_MAX: usize = 32 * 1024;

/// Returns `text` with every secret replaced by its marker, and counts them in `report`.
///
/// Clean text is returned borrowed. Redacting the result again changes nothing.
pub fn redact_text<'a>(text: &'a str, report: &mut Report) -> Cow<'a, str> {
    let scanner = &*SCANNER;
    let Some(mut redacted) = scanner.replace_once(text, report) else {
        return Cow::Borrowed(text);
    };
    for _ in 1..ROUNDS_MAX {
        match scanner.replace_once(&redacted, report) {
            Some(next) => redacted = next,
            None => break,
        }
    }
    Cow::Owned(redacted)
}

/// One secret that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Where it started in the original text, in bytes.
    pub start: usize,
    /// Where it ended there.
    pub end: usize,
    /// Its kind, as in the marker.
    pub kind: Cow<'static, str>,
}

impl Replaced {
    /// Returns the bytes of the marker that takes its place.
    #[must_use]
    pub fn marker_bytes(&self) -> usize {
        MARKER_START.len() + self.kind.len() + 1
    }
}

/// Returns what [`redact_text`] returns, and which bytes of the original stand no more.
pub fn redact_listed(text: &str) -> (Cow<'_, str>, Vec<Replaced>) {
    let scanner = &*SCANNER;
    let mut out = Cow::Borrowed(text);
    let mut list: Vec<Replaced> = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let found = scanner.find(&out);
        if found.is_empty() {
            break;
        }
        let listed = found.iter().map(|secret| Replaced {
            start: secret.range.start,
            end: secret.range.end,
            kind: Cow::Borrowed(secret.kind),
        });
        list = compose(&list, &listed.collect::<Vec<_>>());
        out = Cow::Owned(replaced(&out, &found));
    }
    (out, list)
}

/// Joins what was replaced in a text with what was then replaced in the result; both in order.
#[must_use]
pub fn compose(earlier: &[Replaced], later: &[Replaced]) -> Vec<Replaced> {
    // Where each earlier marker stands in the text that was searched.
    let mut markers = Vec::with_capacity(earlier.len());
    let (mut out, mut original) = (0, 0);
    for one in earlier {
        let start = out + (one.start - original);
        out = start + one.marker_bytes();
        original = one.end;
        markers.push((start..out, one));
    }
    let place = |at: usize, is_end: bool| {
        let count = markers.partition_point(|(range, _)| range.start < at);
        let Some((range, one)) = count.checked_sub(1).map(|last| &markers[last]) else {
            return at;
        };
        if at >= range.end {
            one.end + (at - range.end)
        } else if is_end {
            one.end
        } else {
            one.start
        }
    };
    let new: Vec<Replaced> = later
        .iter()
        .map(|secret| Replaced {
            start: place(secret.start, false),
            end: place(secret.end, true),
            kind: secret.kind.clone(),
        })
        .collect();
    let is_covered = |one: &&Replaced| {
        let before = new.partition_point(|new| new.start <= one.start);
        before > 0 && one.end <= new[before - 1].end
    };
    let kept = earlier.iter().filter(|one| !is_covered(one)).cloned();
    let mut list: Vec<Replaced> = kept.collect();
    list.extend(new);
    list.sort_by_key(|one| one.start);
    list
}

/// Returns true when `text` holds something that [`redact_text`] would replace.
pub fn text_has_secret(text: &str) -> bool {
    !SCANNER.find(text).is_empty()
}

/// Returns the class of the telling name that an object's key ends with, if it has one.
pub(super) fn class_of_key(key: &str) -> Option<Class> {
    let scanner = &*SCANNER;
    let mut class = None;
    for hit in scanner.prefilter.find(key) {
        let Probe::Name(found) = scanner.probes[hit.literal] else {
            continue;
        };
        let rest = &key[hit.range.end..];
        let separated = rest.is_empty() || rest.starts_with(['_', '-']);
        if separated && assign::ending_is_telling(rest) {
            class = Some(found);
        }
    }
    class.filter(|class| *class != Class::Bearer)
}

static SCANNER: LazyLock<Scanner> =
    LazyLock::new(|| Scanner::new(own::in_use().unwrap_or(&own::NONE)));

/// What to check where a literal of the prefilter was found.
#[derive(Debug, Clone, Copy)]
enum Probe {
    Token(usize),
    Name(Class),
    PrivateOpen,
    PrivateClose,
    PrivateKey,
    Url,
    CurlUser,
}

/// Built by and by: what is cheap at once, an expression when its literal first occurs.
#[derive(Debug)]
struct Scanner {
    rules: Vec<&'static TokenRule>,
    /// Texts that somebody said are no secrets.
    allowed: &'static [String],
    prefilter: Prefilter,
    /// What each literal of the prefilter stands for.
    probes: Vec<Probe>,
    patterns: Vec<OnceLock<Option<Regex>>>,
    curl_user: LazyLock<Option<Regex>>,
    key: LazyLock<Option<KeyPatterns>>,
}

#[derive(Debug)]
struct Found {
    range: Range<usize>,
    kind: &'static str,
    /// A secret known by its shape beats one known by its name.
    rank: u8,
}

impl Scanner {
    fn new(own: &'static OwnRules) -> Self {
        let mut literals: Vec<&'static str> = Vec::new();
        let mut probes = Vec::new();
        let rules: Vec<&'static TokenRule> = own.shapes.iter().chain(shapes()).collect();
        for (index, rule) in rules.iter().enumerate() {
            literals.extend(rule.literals);
            probes.extend(rule.literals.iter().map(|_| Probe::Token(index)));
        }
        for rule in own.names.iter().chain(NAMES) {
            literals.push(rule.literal);
            probes.push(Probe::Name(rule.class));
        }
        for (literal, probe) in [
            ("<private>", Probe::PrivateOpen),
            ("</private>", Probe::PrivateClose),
            ("-----BEGIN ", Probe::PrivateKey),
            ("://", Probe::Url),
            (" -u", Probe::CurlUser),
            ("--user", Probe::CurlUser),
        ] {
            literals.push(literal);
            probes.push(probe);
        }
        Self {
            prefilter: Prefilter::new(literals),
            probes,
            patterns: rules.iter().map(|_| OnceLock::new()).collect(),
            rules,
            allowed: &own.allowed,
            curl_user: LazyLock::new(|| {
                Regex::new(r#"\A(?: -u|--user)[ =]*["']?([^\s:"']+):([^\s"'\\]+)"#).ok()
            }),
            key: LazyLock::new(KeyPatterns::new),
        }
    }

    fn pattern(&self, index: usize) -> Option<&Regex> {
        let make = || Regex::new(&format!(r"\A(?:{})", self.rules[index].pattern)).ok();
        let pattern = self.patterns[index].get_or_init(make).as_ref();
        debug_assert!(pattern.is_some(), "the built-in redaction rules compile");
        pattern
    }

    /// Returns the text with all found secrets replaced, or none when there is nothing to replace.
    fn replace_once(&self, text: &str, report: &mut Report) -> Option<String> {
        let found = self.find(text);
        if found.is_empty() {
            return None;
        }
        for secret in &found {
            report.add(secret.kind);
        }
        Some(replaced(text, &found))
    }

    /// Returns the secrets in order, without overlaps.
    fn find(&self, text: &str) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let mut blocks = PrivateBlocks::default();
        let mut skip_to = 0;
        for hit in self.prefilter.find(text) {
            let probe = self.probes[hit.literal];
            match probe {
                Probe::PrivateOpen => blocks.open(hit.range.start),
                Probe::PrivateClose => blocks.close(hit.range.end),
                _ if hit.range.start < skip_to => {}
                _ => {
                    if let Some(secret) = self.check(text, hit.range, probe)
                        && !self.is_allowed(&text[secret.range.clone()])
                    {
                        // A name's value may itself have a recognisable shape: later hits are
                        // still tried there.
                        if secret.rank > 0 {
                            skip_to = secret.range.end;
                        }
                        found.push(secret);
                    }
                }
            }
        }
        found.extend(blocks.finish());
        without_overlaps(found)
    }

    fn check(&self, text: &str, hit: Range<usize>, probe: Probe) -> Option<Found> {
        let (range, kind, rank) = match probe {
            Probe::Token(index) => {
                let rule = self.rules[index];
                let at = hit.start.checked_sub(rule.bytes_before)?;
                if !text.is_char_boundary(at) {
                    return None;
                }
                let (range, is_part) = self.token_at(text, at, index)?;
                (range, rule.kind, u8::from(!is_part))
            }
            Probe::Name(class) => (assign::find_value(text, hit, class)?, class.kind(), 0),
            Probe::PrivateOpen | Probe::PrivateClose => return None,
            Probe::PrivateKey => {
                let patterns = self.key.as_ref()?;
                (key_block(text, hit.start, patterns)?, "private-key", 2)
            }
            Probe::Url => (url_password(text, hit.end)?, "connection-password", 0),
            Probe::CurlUser => (self.curl_password(text, hit.start)?, "password", 0),
        };
        Some(Found { range, kind, rank })
    }

    /// Returns the secret of a rule about a shape at `at`, and whether it is only a part of
    /// what the rule looks at.
    fn token_at(&self, text: &str, at: usize, index: usize) -> Option<(Range<usize>, bool)> {
        let before = text[..at].chars().next_back();
        let literal_is_word = text.as_bytes().get(at)?.is_ascii_alphanumeric();
        if literal_is_word
            && before.is_some_and(|c| c.is_ascii_alphanumeric())
            && !after_escape(text, at)
        {
            return None;
        }
        // The bound keeps hostile input from being scanned again and again; what matches up to
        // it is measured in full.
        let pattern = self.pattern(index)?;
        let window = clip(text, at, WINDOW_BYTES);
        let mut length = pattern.find(window)?.end();
        let mut measured = window;
        if length + 4 > WINDOW_BYTES {
            measured = clip(text, at, KEY_BYTES_MAX);
            length = pattern.find(measured)?.end();
        }
        let has_part = pattern.capture_names().flatten().any(|name| name == "s");
        let part = if has_part {
            pattern.captures(measured)?.name("s")?.range()
        } else {
            0..length
        };
        let range = at + part.start..at + part.end;
        let token = &text.as_bytes()[range.clone()];
        let digit = token.iter().any(u8::is_ascii_digit);
        let upper = token.iter().any(u8::is_ascii_uppercase);
        let fits = match self.rules[index].need {
            Need::Nothing => true,
            Need::Digit => digit,
            Need::DigitAndUpper => digit && upper,
        };
        let is_kept = has_part && assign::is_no_secret(&text[range.clone()]);
        (fits && !is_kept).then_some((range, has_part))
    }

    fn is_allowed(&self, secret: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == secret)
    }

    fn curl_password(&self, text: &str, at: usize) -> Option<Range<usize>> {
        let pattern = self.curl_user.as_ref()?;
        let found = pattern.captures(clip(text, at, WINDOW_BYTES))?;
        // The colon of a marker is none between a user and a password; nor is a marker a part of
        // one that the window's end cuts in two.
        let end = found.get(0)?.end();
        let marker = clip(text, at, end + MARKER_START.len()).find(MARKER_START);
        if marker.is_some_and(|start| start < end) {
            return None;
        }
        let password = found.get(2)?;
        let value = password.as_str();
        let numeric = value.bytes().all(|b| b.is_ascii_digit());
        let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let is_curl = !numeric && text[line_start..at].contains("curl");
        let plain = is_curl && !value.contains(MARKER_START) && !is_template(value);
        plain.then(|| at + password.start()..at + password.end())
    }
}

/// Returns the text with markers in the places of secrets.
fn replaced(text: &str, found: &[Found]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for secret in found {
        out.push_str(&text[at..secret.range.start]);
        out.push_str(MARKER_START);
        out.push_str(secret.kind);
        out.push(']');
        at = secret.range.end;
    }
    out.push_str(&text[at..]);
    out
}

/// Of secrets that overlap, the one of the higher rank stays, else the earlier one. What becomes
/// free that way is found in the next round.
fn without_overlaps(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by_key(|secret| secret.range.start);
    let mut kept: Vec<Found> = Vec::with_capacity(found.len());
    for secret in found {
        match kept.last_mut() {
            Some(last) if last.range.end > secret.range.start => {
                if secret.rank > last.rank {
                    *last = secret;
                }
            }
            _ => kept.push(secret),
        }
    }
    kept
}

/// The `n` of a `\n` that is written out belongs to the escape, not to the word after it.
fn after_escape(text: &str, at: usize) -> bool {
    let before = &text.as_bytes()[..at];
    matches!(before, [.., b'\\', b'n' | b't' | b'r'])
}

/// Returns the range of the password in the authority of a URL that starts at `at`.
fn url_password(text: &str, at: usize) -> Option<Range<usize>> {
    let window = clip(text, at, WINDOW_BYTES);
    let stops = |c: char| c.is_whitespace() || "/\"'`\\<>".contains(c);
    let authority = &window[..window.find(stops).unwrap_or(window.len())];
    // The host starts after the last `@`; the user ends at the first colon.
    let end = authority.rfind('@')?;
    let Some(colon) = first_colon(&authority[..end]) else {
        // A token alone, as in the address of a repository.
        let user = &authority[..end];
        let is_token = !user.contains(MARKER_START) && assign::is_token(user);
        return is_token.then(|| at..at + end);
    };
    let start = colon + 1;
    let value = &authority[start..end];
    let port = value.bytes().take_while(u8::is_ascii_digit).count();
    let is_port = value[port..].starts_with(['?', '#']);
    let kept = value.is_empty() || is_port || value.contains(MARKER_START) || is_template(value);
    (!kept).then(|| at + start..at + end)
}

/// Returns where the first colon stands that is not a marker's.
fn first_colon(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let colon = from + text[from..].find(':')?;
        if !text[..=colon].ends_with(MARKER_START) {
            return Some(colon);
        }
        from = colon + text[colon..].find(']')?;
    }
}

fn is_template(value: &str) -> bool {
    value.starts_with(['$', '{', '<', '%', '*']) || value.bytes().all(|b| b == b'x' || b == b'.')
}

/// Collects `<private>` blocks. A block reaches to the end tag that closes its first tag, or to
/// the last end tag when there are too few; a tag that nothing closes is only text.
#[derive(Debug, Default)]
struct PrivateBlocks {
    ranges: Vec<Range<usize>>,
    depth: usize,
    start: usize,
    last_end: Option<usize>,
}

impl PrivateBlocks {
    fn open(&mut self, at: usize) {
        if self.depth == 0 {
            (self.start, self.last_end) = (at, None);
        }
        self.depth += 1;
    }

    fn close(&mut self, end: usize) {
        if self.depth == 0 {
            return;
        }
        self.depth -= 1;
        self.last_end = Some(end);
        if self.depth == 0 {
            self.ranges.push(self.start..end);
        }
    }

    fn finish(mut self) -> impl Iterator<Item = Found> {
        if self.depth > 0
            && let Some(end) = self.last_end
        {
            self.ranges.push(self.start..end);
        }
        let found = |range| Found {
            range,
            kind: "private",
            rank: 3,
        };
        self.ranges.into_iter().map(found)
    }
}

/// Returns the range of a PEM private key; of one that is cut off, up to the last whole line of
/// base64. Headers that are only talked about have no such line and stay.
fn key_block(text: &str, at: usize, patterns: &KeyPatterns) -> Option<Range<usize>> {
    let header = patterns.header.find(clip(text, at, WINDOW_BYTES))?.end();
    let body = at + header;
    let rest = clip(text, body, KEY_BYTES_MAX);
    let next = rest.find("-----BEGIN ").unwrap_or(rest.len());
    if let Some(footer) = patterns.footer.find(&rest[..next]) {
        let has_key = patterns.key_line.is_match(&rest[..footer.start()]);
        return has_key.then(|| at..body + footer.end());
    }
    let lines = patterns.cut_body.find(&rest[..next])?;
    Some(at..body + lines.end())
}

/// What the parts of a PEM block look like, also with written-out line ends.
#[derive(Debug)]
struct KeyPatterns {
    header: Regex,
    footer: Regex,
    key_line: Regex,
    cut_body: Regex,
}

impl KeyPatterns {
    fn new() -> Option<Self> {
        Some(Self {
            header: Regex::new(r"\A-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----").ok()?,
            footer: Regex::new(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----").ok()?,
            key_line: Regex::new(r"[A-Za-z0-9+/]{32,}").ok()?,
            cut_body: Regex::new(concat!(
                r"\A(?:(?:\\+[nr]|\s)*(?:Proc-Type|DEK-Info|Version|Comment): ?[^\n\\]*)*",
                r"(?:(?:\\+[nr]|\s)*[A-Za-z0-9+/]{20,}={0,2})+",
            ))
            .ok()?,
        })
    }
}

fn clip(text: &str, at: usize, bytes_max: usize) -> &str {
    let mut end = text.len().min(at + bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[at..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_compiles() {
        let scanner = &*SCANNER;
        for index in 0..scanner.rules.len() {
            assert!(
                scanner.pattern(index).is_some(),
                "{:?}",
                scanner.rules[index]
            );
        }
        assert!(scanner.curl_user.is_some() && scanner.key.is_some());
    }
}
