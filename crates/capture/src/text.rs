//! What a person exported as text: what kind it is, and its parts, by the rules that the product
//! has had for its own exports. Roles are told by the mark of a part, not by who spoke.

use serde_json::{Map, Value, json};

use crate::claude::message::{self, SOURCE_TYPE};
use crate::claude::parser::Work;

/// The mark of a tool in a compact export, U+23FA.
const CIRCLE: char = '\u{23fa}';
/// The mark of an item, U+25CF.
const BULLET: char = '\u{25cf}';
/// Characters that a part of a compact export must have more than.
const COMPACT_CHARS: usize = 50;
/// Characters that a whole file, or a part of a page, must have more than.
const RAW_CHARS: usize = 100;
/// So many bullets or rules do not yet tell a kind.
const SIGNS: usize = 5;
const RULES: usize = 3;

/// One kind of export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Circle,
    Bullet,
    Standard,
    Raw,
    Checkpoint,
}

impl Kind {
    const fn source_type(self) -> &'static str {
        match self {
            Self::Circle => "export_compact_circle",
            Self::Bullet => "export_compact_bullet",
            Self::Standard => "export_standard",
            Self::Raw => "export_raw",
            Self::Checkpoint => "checkpoint",
        }
    }

    const fn role(self) -> &'static str {
        match self {
            Self::Circle => "conversation",
            Self::Bullet => "exchange",
            Self::Standard => "message",
            Self::Raw => "session",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// Reads a whole file.
pub(crate) fn read(work: &mut Work<'_>, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if text.contains('\0') {
        return work.damaged(bytes, 0, 0, "not a text".to_owned());
    }
    let is_page = work.state.path.ends_with(".md");
    let kind = kind(&text, is_page);
    let session_id = work.state.stem().to_owned();
    let at = crate::checkpoint::date_in(&session_id);
    for part in parts(kind, &text) {
        work.chunk.records += 1;
        let record = json!({
            "sessionId": session_id,
            "timestamp": at,
            SOURCE_TYPE: kind.source_type(),
            "message": { "role": kind.role(), "content": part },
        });
        let record = match record {
            Value::Object(record) => record,
            _ => Map::new(),
        };
        message::read(work, record, "user");
        if let Some(row) = work.chunk.messages.last_mut() {
            row.message_type = "export".to_owned();
            row.subtype = None;
        }
    }
}

fn kind(text: &str, is_page: bool) -> Kind {
    let lower = |line: &str| line.trim_start_matches(['#', ' ']).to_lowercase();
    let is_heading = |line: &&str| line.starts_with('#');
    let headings = || text.lines().filter(is_heading).map(lower);
    if text.contains(CIRCLE) {
        Kind::Circle
    } else if is_page {
        Kind::Checkpoint
    } else if text.matches(BULLET).count() > SIGNS
        || headings().any(|heading| heading.contains("conversation summary"))
    {
        Kind::Bullet
    } else if headings().any(|heading| is_speaker(&heading))
        || text.lines().filter(|line| is_rule(line)).count() > RULES
    {
        Kind::Standard
    } else {
        Kind::Raw
    }
}

fn is_speaker(heading: &str) -> bool {
    let names = ["user", "assistant", "human", "system", "message"];
    let first = heading.split([' ', ':', '(']).next().unwrap_or("");
    names.contains(&first.trim_matches('*'))
}

fn is_rule(line: &str) -> bool {
    let line = line.trim();
    let same = |sign: char| line.chars().count() >= 3 && line.chars().all(|c| c == sign);
    ['-', '=', '─', '*', '_'].into_iter().any(same)
}

fn parts(kind: Kind, text: &str) -> Vec<String> {
    let (parts, more_than): (Vec<String>, usize) = match kind {
        Kind::Circle => (
            text.split(CIRCLE).map(str::to_owned).collect(),
            COMPACT_CHARS,
        ),
        Kind::Bullet => {
            let starts = |line: &str| line.starts_with(BULLET);
            let parts = cut_before(text, starts);
            // The frame around the program's name is no part of the talk.
            let is_frame = |part: &String| part.trim_start().starts_with(['╭', '│', '┌']);
            (
                parts.into_iter().filter(|part| !is_frame(part)).collect(),
                COMPACT_CHARS,
            )
        }
        Kind::Standard => {
            let starts = |line: &str| {
                let heading = line.trim_start_matches(['#', ' ']).to_lowercase();
                is_rule(line) || (line.starts_with('#') && is_speaker(&heading))
            };
            let bodies = cut_before(text, starts).into_iter().map(|part| {
                let first = part.lines().next().unwrap_or("");
                let skipped = if starts(first) { first.len() } else { 0 };
                part[skipped..].to_owned()
            });
            (bodies.collect(), 0)
        }
        Kind::Checkpoint => {
            let starts = |line: &str| line.starts_with("# ") || line.starts_with("## ");
            (cut_before(text, starts), RAW_CHARS)
        }
        Kind::Raw => (vec![text.to_owned()], RAW_CHARS),
    };
    let trimmed = parts.into_iter().map(|part| part.trim().to_owned());
    trimmed
        .filter(|part| part.chars().count() > more_than)
        .collect()
}

/// Cuts a text before every line that starts a part.
fn cut_before(text: &str, starts: impl Fn(&str) -> bool) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.split_inclusive('\n') {
        if starts(line.trim_end()) {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push_str(line);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_and_cut_by_its_marks() {
        let long = "word ".repeat(30);
        let circle = format!("head\n{CIRCLE} {long}\n  result\n{CIRCLE} short\n{CIRCLE} {long}");
        assert_eq!(kind(&circle, true), Kind::Circle);
        assert_eq!(parts(Kind::Circle, &circle).len(), 2);

        let item = format!("{BULLET} {long}\n");
        let bullet = format!("╭──╮\n│ name │\n╰──╯\n{}", item.repeat(6));
        assert_eq!(kind(&bullet, false), Kind::Bullet);
        assert_eq!(parts(Kind::Bullet, &bullet).len(), 6);
        assert_eq!(kind("# Conversation Summary\nx", false), Kind::Bullet);

        let standard = "# Export\n\n## User\nhello\n\n## Assistant\nhi there\n";
        assert_eq!(kind(standard, false), Kind::Standard);
        assert_eq!(
            parts(Kind::Standard, standard),
            ["# Export", "hello", "hi there"]
        );
        assert_eq!(
            kind("a\n---\nb\n---\nc\n---\nd\n---\n", false),
            Kind::Standard
        );

        assert_eq!(kind(&long, false), Kind::Raw);
        assert_eq!(parts(Kind::Raw, &long).len(), 1);
        assert!(parts(Kind::Raw, "short").is_empty());

        let page = format!("# One\n{long}\n## Two\nshort\n### Part\n{long}\n");
        assert_eq!(kind(&page, true), Kind::Checkpoint);
        assert_eq!(parts(Kind::Checkpoint, &page).len(), 2);
    }
}
