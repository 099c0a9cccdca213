//! Fills a home with messages, calls of tools and their usage, as an import that was never synced
//! leaves them: `cargo run --release -p coditect-local-store --example fill_store -- HOME 1000000`.
//! For measurements (`scripts/measure-hooks`); what is there already counts.

#![expect(clippy::print_stdout, reason = "prints how far it is")]

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use coditect_local_store::{LocalStore, Profile, Random};
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::Row;
use serde_json::{Value, json};

/// Messages stored in one transaction.
const MESSAGES_PER_WRITE: u64 = 1_000;
/// Messages of one session.
const SESSION_MESSAGES: u64 = 400;
/// Every so many messages there is a call of a tool, and a row of usage.
const TOOL_EVERY: u64 = 3;
/// Different words of the texts; a few occur often, most seldom.
const WORDS: u64 = 20_000;

#[expect(clippy::disallowed_methods, reason = "a tool's one look at the clock")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let home = arguments.next().map(PathBuf::from).ok_or("needs a home")?;
    let wanted = arguments.next().ok_or("needs a number of messages")?;
    let wanted: u64 = wanted.to_string_lossy().parse()?;
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let folder = Profile::new(&home, None).databases();
    let mut store = LocalStore::open(&folder, now_ms, Random::System)?;
    let counted = store.count("context_messages")?;
    let mut stored: u64 = counted.iter().map(|(_, count)| count).sum();
    let mut random = Draw(stored + 1);
    store.set_bulk(true)?;
    while stored < wanted {
        let until = wanted.min(stored + MESSAGES_PER_WRITE);
        let rows: Vec<_> = (stored..until)
            .flat_map(|number| rows(number, &mut random))
            .collect();
        store.ingest(File::Sessions, rows, None, now_ms)?;
        store.index_new(File::Sessions, i64::try_from(MESSAGES_PER_WRITE)?)?;
        stored = until;
        if stored.is_multiple_of(100_000) {
            println!("{stored} of {wanted} messages");
        }
    }
    store.index_new(File::Sessions, 1)?;
    store.set_bulk(false)?;
    Ok(())
}

fn rows(number: u64, random: &mut Draw) -> Vec<(&'static str, Row)> {
    let session = format!("session-{}", number / SESSION_MESSAGES);
    let (message, call) = (format!("m{number}"), format!("toolu_{number}"));
    let stamp = "2026-02-03T03:51:03.761000Z";
    let mut rows = vec![(
        "context_messages",
        row(json!({
            "message_id": message, "session_id": session, "content": random.text(),
            "role": if number.is_multiple_of(2) { "user" } else { "assistant" },
            "timestamp": stamp, "cwd": "/home/ann/app", "git_branch": "main", "agent": "claude",
            "sequence": number % SESSION_MESSAGES,
        })),
    )];
    if number.is_multiple_of(SESSION_MESSAGES) {
        rows.push((
            "context_sessions",
            row(json!({"session_id": session, "project_path": "/home/ann/app"})),
        ));
    }
    if number.is_multiple_of(TOOL_EVERY) {
        rows.push((
            "context_tool_analytics",
            row(json!({
                "tool_name": "Bash", "session_id": session, "tool_use_id": call,
                "message_id": message, "timestamp": stamp, "success": true, "input_bytes": 40,
            })),
        ));
        rows.push((
            "context_token_economics",
            row(json!({
                "session_id": session, "api_message_id": call, "timestamp": stamp,
                "input_tokens": number % 1_000, "output_tokens": number % 300,
            })),
        ));
    }
    rows
}

fn row(value: Value) -> Row {
    match value {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}

/// Numbers that look drawn, the same in every run.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a text of 20 to 1,000 bytes, 400 in the mean.
    fn text(&mut self) -> String {
        let bytes = 20 + (self.next() % 1_000).min(self.next() % 1_200) as usize;
        let mut text = String::with_capacity(bytes + 16);
        while text.len() < bytes {
            // The smallest of three draws: a few words are frequent.
            let word = (0..3).map(|_| self.next() % WORDS).min().unwrap_or(0);
            text.push_str(&format!("w{word:x} "));
        }
        text
    }
}
