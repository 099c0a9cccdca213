//! Checkpoints of a project's memory, as they are kept in its repository: pages in Markdown, and
//! an index that names their messages. Parsing is lenient: a page without any of the usual
//! headings is a checkpoint, too.

use coditect_core::canonical;
use serde_json::Value;

/// Characters of a summary that are kept.
const SUMMARY_CHARS_MAX: usize = 4_000;

/// What was read of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its name: the file's without its end, or the index's.
    pub name: String,
    /// `checkpoint`, `export`, or what the index says.
    pub kind: String,
    /// When it was made, as times are stored; from the name, else from the index.
    pub date: Option<String>,
    /// File that it comes from, if it says so.
    pub source_file: Option<String>,
    /// What it says under "Executive Summary".
    pub summary: Option<String>,
    /// Branch that it was made on.
    pub branch: Option<String>,
    /// Number of messages that were first seen in it.
    pub message_count: Option<u64>,
    /// Texts of checked boxes, in order.
    pub tasks: Vec<String>,
}

impl Checkpoint {
    /// Takes in what its page says.
    pub fn join(&mut self, page: Self) {
        self.date = page.date.or_else(|| self.date.take());
        self.summary = page.summary.or_else(|| self.summary.take());
        self.branch = page.branch.or_else(|| self.branch.take());
        self.source_file = self.source_file.take().or(page.source_file);
        self.tasks = page.tasks;
    }
}

/// Reads a page, given its file's name without the end.
#[must_use]
pub fn page(stem: &str, text: &str) -> Checkpoint {
    let tasks = text.lines().filter_map(checked).map(str::to_owned);
    Checkpoint {
        name: stem.to_owned(),
        kind: "checkpoint".to_owned(),
        date: date_in(stem),
        source_file: Some(format!("{stem}.md")),
        summary: section(text, "executive summary"),
        branch: text.lines().find_map(branch),
        message_count: None,
        tasks: tasks.collect(),
    }
}

/// Reads an index: an object of name → `{created, message_hashes[], …}`.
///
/// # Errors
/// When it is no JSON object.
pub fn index(text: &str) -> Result<Vec<Checkpoint>, serde_json::Error> {
    let entries: serde_json::Map<String, Value> = serde_json::from_str(text)?;
    let read = |(name, entry): (String, Value)| {
        let said = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
        let time = |key: &str| said(key).and_then(|text| canonical::time(&text));
        let (prefix, rest) = name.split_once('-').unwrap_or(("", &name));
        let kind = match prefix {
            "checkpoint" | "export" => prefix,
            _ => "checkpoint",
        };
        Checkpoint {
            kind: said("type").unwrap_or_else(|| kind.to_owned()),
            // Its own date is in its name; `created` is when the index first saw it.
            date: date_in(rest)
                .or_else(|| date_in(&name))
                .or_else(|| time("file_timestamp"))
                .or_else(|| time("created")),
            source_file: said("source_file"),
            message_count: entry
                .get("message_hashes")
                .and_then(Value::as_array)
                .map(|hashes| hashes.len() as u64),
            name,
            ..Checkpoint::default()
        }
    };
    Ok(entries.into_iter().map(read).collect())
}

/// Returns the text of a checked box.
fn checked(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let rest = line.strip_prefix(['-', '*', '+'])?.trim_start();
    let text = rest
        .strip_prefix("[x]")
        .or_else(|| rest.strip_prefix("[X]"))?;
    let text = text.trim();
    (!text.is_empty()).then_some(text)
}

/// Returns the time that a name begins with: `2025-11-16T03-54-36Z` or a day.
pub(crate) fn date_in(name: &str) -> Option<String> {
    let day = name.get(..10)?;
    let clock = name.get(10..20).and_then(|text| {
        let parts: Vec<&str> = text
            .strip_prefix('T')?
            .strip_suffix('Z')?
            .split(['-', ':'])
            .collect();
        (parts.len() == 3).then(|| parts.join(":"))
    });
    match clock {
        Some(clock) => canonical::time(&format!("{day}T{clock}Z")),
        None => canonical::time(day),
    }
}

/// Returns the text below a heading, up to the next one of the same or a higher level.
fn section(text: &str, title: &str) -> Option<String> {
    let level = |line: &str| line.chars().take_while(|c| *c == '#').count();
    let mut lines = text.lines();
    let own = lines.by_ref().find_map(|line| {
        let is = level(line) > 0 && line.to_lowercase().contains(title);
        is.then(|| level(line))
    })?;
    let ends = |line: &&str| !(1..=own).contains(&level(line));
    let body: Vec<&str> = lines.take_while(ends).collect();
    let body: String = body
        .join("\n")
        .trim()
        .chars()
        .take(SUMMARY_CHARS_MAX)
        .collect();
    (!body.is_empty()).then_some(body)
}

/// Returns the branch that a line names: `Branch: main`, with or without emphasis.
fn branch(line: &str) -> Option<String> {
    let plain: String = line
        .chars()
        .filter(|c| !matches!(c, '*' | '`' | '-'))
        .collect();
    let (key, value) = plain.split_once(':')?;
    let named = matches!(
        key.trim().to_lowercase().as_str(),
        "branch" | "current branch"
    );
    let original = line.rsplit(':').next().unwrap_or_default();
    let value = if value.trim().is_empty() {
        value
    } else {
        original
    };
    let value = value.trim_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '`'));
    (named && !value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Sprint done\n\n**Branch:** `feature/x-1`\n\n## Executive Summary\n\n\
        It works.\n\n### Details\nmore\n\n## Tasks\n- [x] first\n  * [X] second thing \n- [ ] no\n\
        - [x]\nplain [x] text\n";

    #[test]
    fn a_page_gives_its_summary_branch_and_finished_tasks() {
        let read = page("2025-11-16T03-54-36Z-SPRINT-COMPLETE", PAGE);
        assert_eq!(read.date.as_deref(), Some("2025-11-16T03:54:36.000000Z"));
        assert_eq!(
            read.summary.as_deref(),
            Some("It works.\n\n### Details\nmore")
        );
        assert_eq!(read.branch.as_deref(), Some("feature/x-1"));
        assert_eq!(read.tasks, ["first", "second thing"]);
        let bare = page("notes", "nothing special");
        assert_eq!((bare.date, bare.summary, bare.tasks.len()), (None, None, 0));
    }

    #[test]
    fn an_index_gives_names_dates_and_counts() {
        let text = r#"{"export-2025-10-07-EXPORT": {"created": "2025-11-18T00:09:49.2+00:00",
            "message_hashes": ["a", "b"]}, "odd name": {"created": "2025-11-18"},
            "bare": 3}"#;
        let read = index(text).unwrap();
        let [bare, export, odd] = &read[..] else {
            panic!("{read:?}")
        };
        assert_eq!(export.kind, "export");
        assert_eq!(export.date.as_deref(), Some("2025-10-07T00:00:00.000000Z"));
        assert_eq!(export.message_count, Some(2));
        assert_eq!(odd.date.as_deref(), Some("2025-11-18T00:00:00.000000Z"));
        assert_eq!((bare.name.as_str(), bare.message_count), ("bare", None));
        assert!(index("[]").is_err());
    }
}
