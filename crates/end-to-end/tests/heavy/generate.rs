//! A device folder like that of the measured heavy user: 287,000 messages, a fifth of them with
//! outputs of tools, 8.2 million finished calls of tools, 17.8 million answers with their tokens.
//! Seeded, streamed through the same door as an import, with its memory for pages, but in large
//! transactions: nobody waits for them here.

use coditect_local_store::LocalStore;
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::Row;
use serde_json::{Value, json};

use super::project::Project;

/// Rows at scale 1.
pub(crate) const MESSAGES: f64 = 287_000.0;
pub(crate) const TOOL_CALLS: f64 = 8_200_000.0;
pub(crate) const ANSWERS: f64 = 17_800_000.0;
/// Rows stored in one transaction.
const AT_ONCE: usize = 5_000;
/// Messages of a session.
const SESSION: u64 = 400;
/// Files of a project, which its tools read again and again.
const FILES: usize = 120;
const NOW_MS: i64 = 1_790_000_000_000;

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Made {
    /// Messages.
    pub(crate) messages: u64,
    /// Finished calls of tools.
    pub(crate) tool_calls: u64,
    /// Answers with their tokens.
    pub(crate) answers: u64,
}

impl Made {
    /// Returns how many rows a scale asks for.
    pub(crate) fn of_scale(scale: f64) -> Self {
        let rows = |all: f64| ((all * scale).round() as u64).max(1);
        Self {
            messages: rows(MESSAGES),
            tool_calls: rows(TOOL_CALLS),
            answers: rows(ANSWERS),
        }
    }

    /// Returns all rows.
    pub(crate) fn rows(self) -> u64 {
        self.messages + self.tool_calls + self.answers
    }
}

/// Fills a store; `observe` is told the rows so far. The same seed makes the same rows.
pub(crate) fn fill(
    store: &mut LocalStore,
    wanted: Made,
    seed: u64,
    mut message: impl FnMut(&Row),
    mut observe: impl FnMut(u64),
) -> Result<(), coditect_local_store::Error> {
    let mut maker = Maker::new(seed);
    let mut done = 0;
    store.set_bulk(true)?;
    let tables = [
        ("context_messages", wanted.messages),
        ("context_tool_analytics", wanted.tool_calls),
        ("context_token_economics", wanted.answers),
    ];
    for (table, count) in tables {
        let mut number = 0;
        while number < count {
            let to = count.min(number + AT_ONCE as u64);
            let rows: Vec<(&str, Row)> = (number..to)
                .map(|number| (table, maker.row(table, number)))
                .collect();
            if table == "context_messages" {
                rows.iter().for_each(|(_, row)| message(row));
            }
            let now_ms = NOW_MS + number as i64;
            store.ingest(File::Sessions, rows, None, now_ms)?;
            done += to - number;
            number = to;
            observe(done);
        }
    }
    store.set_bulk(false)
}

/// Stores the messages of a heavy user of which `keep` says so.
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the maker of folders makes all of them")
)]
pub(crate) fn fill_messages(
    store: &mut LocalStore,
    messages: u64,
    seed: u64,
    mut keep: impl FnMut(&Row) -> bool,
) -> Result<(), coditect_local_store::Error> {
    let mut maker = Maker::new(seed);
    for from in (0..messages).step_by(AT_ONCE) {
        let numbers = from..messages.min(from + AT_ONCE as u64);
        let rows =
            numbers.map(|number| ("context_messages", maker.row("context_messages", number)));
        let rows: Vec<(&str, Row)> = rows.filter(|(_, row)| keep(row)).collect();
        store.ingest(File::Sessions, rows, None, NOW_MS + from as i64)?;
    }
    Ok(())
}

/// Makes rows; each follows from the seed and its number.
struct Maker {
    project: Project,
}

impl Maker {
    fn new(seed: u64) -> Self {
        Self {
            project: Project::new(seed, FILES),
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.project.below(end as usize) as u64
    }

    fn row(&mut self, table: &str, number: u64) -> Row {
        let session = format!("session-{:08}", number / SESSION);
        let value = match table {
            "context_messages" => self.message(number, &session),
            "context_tool_analytics" => json!({
                "tool_name": (["Read", "Bash", "Edit", "Grep"][(number % 4) as usize]),
                "session_id": session,
                "tool_use_id": format!("toolu_{number:024x}"),
                "timestamp": time(number),
                "duration_ms": self.below(5_000),
                "success": !number.is_multiple_of(20),
                "input_bytes": self.below(2_000),
                "output_bytes": self.below(60_000),
            }),
            _ => json!({
                "session_id": session,
                "api_message_id": format!("msg_{number:024x}"),
                "llm_model": "model-4",
                "timestamp": time(number),
                "input_tokens": self.below(4_000),
                "output_tokens": self.below(2_000),
                "cache_read_input_tokens": self.below(150_000),
                "duration_ms": self.below(30_000),
            }),
        };
        match value {
            Value::Object(row) => row,
            _ => Row::new(),
        }
    }

    /// Four messages of five are words of people and agents, the fifth is what a tool gave: a
    /// file, whole or in part, as often before, sometimes edited since.
    /// Of five messages one is what a person or the agent says at length, one a word, one a call
    /// of a tool, often a change of a file, one more word, and one what a tool gave.
    fn message(&mut self, number: u64, session: &str) -> Value {
        let tool = number % 5 == 4;
        let call = number % 5 == 3;
        let at = number / SESSION;
        let call_id = format!("toolu_{:024x}", number / 5);
        let mut blocks = None;
        let content = if tool {
            let output = self.project.output(at);
            blocks = Some(json!([{"type": "tool_result", "tool_use_id": call_id,
                "content": output}]));
            output
        } else if call && self.below(2) == 0 {
            let (path, before, after) = self.project.edit(at);
            blocks = Some(json!([{"type": "tool_use", "id": call_id, "name": "Edit",
                "input": {"file_path": path, "old_string": before, "new_string": after}}]));
            String::new()
        } else {
            let most = [120, 120, 400, 400, 1_600, 6_000][self.below(6) as usize];
            let bytes = 30 + self.below(most);
            self.project.prose(bytes as usize)
        };
        let by_user = tool || number.is_multiple_of(5);
        json!({
            "message_id": format!("{session}-{number:010}"),
            "session_id": session,
            "role": if by_user { "user" } else { "assistant" },
            "message_type": if by_user { "user" } else { "assistant" },
            "content": content,
            "content_blocks": blocks,
            "timestamp": time(number),
            "agent": "claude",
            "cwd": "/home/ann/src/project",
            "git_branch": "main",
            "source_type": "jsonl",
            "sequence": number % SESSION + 1,
        })
    }
}

fn time(number: u64) -> String {
    coditect_core::canonical::time_from_ms(NOW_MS - 30_000_000_000 + number as i64 * 1_000)
}
