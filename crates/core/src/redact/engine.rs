//! The scan: one prefilter pass, anchored checks at the hits, replacement until nothing is left.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::Regex;

use super::rules::{Class, NAMES, Need, TOKENS, TokenRule};
use super::{MARKER_START, Report, assign};

/// Kinds that are found by structure and stand in no rule list.
pub(super) const STRUCTURAL_KINDS: [&str; 4] =
    ["private", "private-key", "connection-password", "password"];

/// Replacing can uncover a further secret; each round removes text, so few rounds are needed.
const ROUNDS_MAX: usize = 16;

/// Longest expression match and longest user information of a URL, in bytes.
const WINDOW_BYTES: usize = 4_096;

/// Returns `text` with every secret replaced by its marker, and counts them in `report`.
///
/// Clean text is returned borrowed. Redacting the result again changes nothing.
pub fn redact_text<'a>(text: &'a str, report: &mut Report) -> Cow<'a, str> {
    let Some(scanner) = SCANNER.as_ref() else {
        debug_assert!(false, "the built-in redaction rules compile");
        return Cow::Borrowed("[REDACTED:rules-unavailable]");
    };
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

/// Returns true when `text` holds something that [`redact_text`] would replace.
pub fn text_has_secret(text: &str) -> bool {
    SCANNER
        .as_ref()
        .is_none_or(|scanner| !scanner.find(text).is_empty())
}

/// Returns the class of the telling name that an object's key ends with, if it has one.
pub(super) fn class_of_key(key: &str) -> Option<Class> {
    let scanner = SCANNER.as_ref()?;
    let mut class = None;
    for hit in scanner.prefilter.find_iter(key) {
        let Probe::Name(found) = scanner.probes[hit.pattern().as_usize()] else {
            continue;
        };
        let rest = &key[hit.end()..];
        let separated = rest.is_empty() || rest.starts_with(['_', '-']);
        if separated && assign::ending_is_telling(rest) {
            class = Some(found);
        }
    }
    class.filter(|class| *class != Class::Bearer)
}

static SCANNER: LazyLock<Option<Scanner>> = LazyLock::new(Scanner::new);

/// What to check where a literal of the prefilter was found.
#[derive(Debug, Clone, Copy)]
enum Probe {
    Token(usize),
    Name(Class),
    PrivateTag,
    PrivateKey,
    Url,
    CurlUser,
}

#[derive(Debug)]
struct Scanner {
    prefilter: AhoCorasick,
    probes: Vec<Probe>,
    patterns: Vec<Regex>,
    userinfo: Regex,
    curl_user: Regex,
}

#[derive(Debug)]
struct Found {
    range: Range<usize>,
    kind: &'static str,
    /// A secret known by its shape beats one known by its name.
    rank: u8,
}

impl Scanner {
    fn new() -> Option<Self> {
        let mut literals: Vec<&str> = Vec::new();
        let mut probes = Vec::new();
        for (index, rule) in TOKENS.iter().enumerate() {
            literals.extend(rule.literals);
            probes.extend(rule.literals.iter().map(|_| Probe::Token(index)));
        }
        for rule in NAMES {
            literals.push(rule.literal);
            probes.push(Probe::Name(rule.class));
        }
        for (literal, probe) in [
            ("<private>", Probe::PrivateTag),
            ("-----BEGIN ", Probe::PrivateKey),
            ("://", Probe::Url),
            (" -u", Probe::CurlUser),
            ("--user", Probe::CurlUser),
        ] {
            literals.push(literal);
            probes.push(probe);
        }
        let anchored = |rule: &TokenRule| Regex::new(&format!(r"\A(?:{})", rule.pattern)).ok();
        Some(Self {
            prefilter: AhoCorasick::builder()
                .kind(Some(AhoCorasickKind::DFA))
                .match_kind(MatchKind::LeftmostLongest)
                .ascii_case_insensitive(true)
                .build(literals)
                .ok()?,
            probes,
            patterns: TOKENS.iter().map(anchored).collect::<Option<_>>()?,
            userinfo: Regex::new(r#"\A://([^\s/:@"'`\\<>?#]{0,256}):([^\s"'`\\<>]+)"#).ok()?,
            curl_user: Regex::new(r#"\A(?: -u|--user)[ =]*["']?([^\s:"']+):([^\s"'\\]+)"#).ok()?,
        })
    }

    /// Returns the text with all found secrets replaced, or none when there is nothing to replace.
    fn replace_once(&self, text: &str, report: &mut Report) -> Option<String> {
        let found = self.find(text);
        if found.is_empty() {
            return None;
        }
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for secret in found {
            out.push_str(&text[at..secret.range.start]);
            out.push_str(MARKER_START);
            out.push_str(secret.kind);
            out.push(']');
            report.add(secret.kind);
            at = secret.range.end;
        }
        out.push_str(&text[at..]);
        Some(out)
    }

    /// Returns the secrets in order, without overlaps.
    fn find(&self, text: &str) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let mut skip_to = 0;
        for hit in self.prefilter.find_iter(text) {
            if hit.start() < skip_to {
                continue;
            }
            let probe = self.probes[hit.pattern().as_usize()];
            let Some(secret) = self.check(text, hit.start()..hit.end(), probe) else {
                continue;
            };
            // A name's value may itself have a recognisable shape: later hits are still tried.
            if secret.rank > 0 {
                skip_to = secret.range.end;
            }
            found.push(secret);
        }
        without_overlaps(found)
    }

    fn check(&self, text: &str, hit: Range<usize>, probe: Probe) -> Option<Found> {
        let (range, kind, rank) = match probe {
            Probe::Token(index) => {
                let (end, kind) = self.token_at(text, hit.start, index)?;
                (hit.start..end, kind, 1)
            }
            Probe::Name(class) => (assign::find_value(text, hit, class)?, class.kind(), 0),
            Probe::PrivateTag => (private_block(text, hit.start)?, "private", 3),
            Probe::PrivateKey => (key_block(text, hit.start)?, "private-key", 2),
            Probe::Url => (
                self.url_password(text, hit.start)?,
                "connection-password",
                0,
            ),
            Probe::CurlUser => (self.curl_password(text, hit.start)?, "password", 0),
        };
        Some(Found { range, kind, rank })
    }

    fn token_at(&self, text: &str, at: usize, index: usize) -> Option<(usize, &'static str)> {
        let before = text[..at].chars().next_back();
        let literal_is_word = text.as_bytes()[at].is_ascii_alphanumeric();
        if literal_is_word
            && before.is_some_and(|c| c.is_ascii_alphanumeric())
            && !after_escape(text, at)
        {
            return None;
        }
        let rule = &TOKENS[index];
        let length = self.patterns[index].find(&text[at..])?.end();
        let token = text[at..at + length].as_bytes();
        let digit = token.iter().any(u8::is_ascii_digit);
        let upper = token.iter().any(u8::is_ascii_uppercase);
        let fits = match rule.need {
            Need::Nothing => true,
            Need::Digit => digit,
            Need::DigitAndUpper => digit && upper,
        };
        fits.then_some((at + length, rule.kind))
    }

    fn url_password(&self, text: &str, at: usize) -> Option<Range<usize>> {
        let window = clip(text, at);
        let found = self.userinfo.captures(window)?;
        let password = found.get(2)?;
        // The host starts after the last `@` of the authority.
        let authority = password.as_str().split(['/', '?', '#']).next()?;
        let end = authority.rfind('@')?;
        let value = &authority[..end];
        let start = at + password.start();
        let plain = !value.is_empty() && !value.contains(MARKER_START) && !is_template(value);
        plain.then(|| start..start + end)
    }

    fn curl_password(&self, text: &str, at: usize) -> Option<Range<usize>> {
        let password = self.curl_user.captures(clip(text, at))?.get(2)?;
        let value = password.as_str();
        let numeric = value.bytes().all(|b| b.is_ascii_digit());
        let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let is_curl = !numeric && text[line_start..at].contains("curl");
        let plain = is_curl && !value.contains(MARKER_START) && !is_template(value);
        plain.then(|| at + password.start()..at + password.end())
    }
}

/// Drops what overlaps a secret of higher rank, or an earlier one of the same rank.
fn without_overlaps(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by(|a, b| b.rank.cmp(&a.rank).then(a.range.start.cmp(&b.range.start)));
    let mut kept: Vec<Found> = Vec::with_capacity(found.len());
    for secret in found {
        let overlaps =
            |k: &Found| k.range.start < secret.range.end && secret.range.start < k.range.end;
        if !kept.iter().any(overlaps) {
            kept.push(secret);
        }
    }
    kept.sort_by_key(|secret| secret.range.start);
    kept
}

/// The `n` of a `\n` that is written out belongs to the escape, not to the word after it.
fn after_escape(text: &str, at: usize) -> bool {
    let before = &text.as_bytes()[..at];
    matches!(before, [.., b'\\', b'n' | b't' | b'r'])
}

fn is_template(value: &str) -> bool {
    value.starts_with(['$', '{', '<', '%', '*']) || value.bytes().all(|b| b == b'x' || b == b'.')
}

/// Returns the range from `<private>` to its matching `</private>`; an unclosed tag is only text.
fn private_block(text: &str, at: usize) -> Option<Range<usize>> {
    const OPEN: &str = "<private>";
    const CLOSE: &str = "</private>";
    let mut depth = 1;
    let mut from = at + OPEN.len();
    while depth > 0 {
        let close = find_ignoring_case(&text[from..], CLOSE)?;
        let open = find_ignoring_case(&text[from..from + close], OPEN);
        match open {
            Some(open) => {
                depth += 1;
                from += open + OPEN.len();
            }
            None => {
                depth -= 1;
                from += close + CLOSE.len();
            }
        }
    }
    Some(at..from)
}

fn find_ignoring_case(text: &str, needle: &str) -> Option<usize> {
    let wanted = needle.as_bytes();
    text.as_bytes()
        .windows(wanted.len())
        .position(|window| window.eq_ignore_ascii_case(wanted))
}

/// Returns the range of a PEM private key; of one that is cut off, up to the last base64 line.
fn key_block(text: &str, at: usize) -> Option<Range<usize>> {
    let header = clip(text, at).find("PRIVATE KEY")?;
    let label_fits = text[at + "-----BEGIN ".len()..at + header]
        .bytes()
        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ');
    if !label_fits {
        return None;
    }
    let body = at + header + "PRIVATE KEY".len();
    let is_body = |c: char| c.is_ascii_alphanumeric() || "+/=\\ \r\n\t-:,".contains(c);
    let run = text[body..]
        .find(|c| !is_body(c))
        .unwrap_or(text.len() - body);
    let block = &text[body..body + run];
    let end = match block.find("-----END ") {
        Some(end) => {
            let after = &block[end + "-----END ".len()..];
            let close = after
                .find("-----")
                .map_or(after.len(), |close| close + "-----".len());
            body + end + "-----END ".len() + close
        }
        None => body + block.trim_end().len(),
    };
    // A header that is only talked about has no body.
    (end - body > 40).then_some(at..end)
}

fn clip(text: &str, at: usize) -> &str {
    let mut end = text.len().min(at + WINDOW_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[at..end]
}
