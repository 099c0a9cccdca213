//! Realistic messages: contents of 408 bytes in the median and 1.45 KB in the mean, in words that
//! compress as prose and code do; the columns that a transcript fills.

use std::sync::Arc;

use coditect_core::{canonical, clock, hash};
use coditect_protocol::catalogue::{Table, by_cloud_name};
use coditect_protocol::wire::push::Change;
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{DeviceId, RowId};
use serde_json::{Value, json};

use crate::random::Random;

/// Cloud name of the table of messages.
pub(crate) const TABLE: &str = "context_messages";
/// Every so many messages one is a repeated one.
pub(crate) const REPEATED_EVERY: usize = 10;

const MEDIAN_BYTES: f64 = 408.0;
/// With it the mean is 1.45 KB: median times e to the power of half its square.
const DEVIATION: f64 = 1.5925;
/// Longer contents are cut; the longest are rare.
const CONTENT_BYTES_MAX: usize = 256 * 1024;
const WORDS: usize = 4_000;
const SESSION_MESSAGES: usize = 120;
const STAMP: &str = "2026-11-20T09:30:00.000000Z";

/// Returns the table of messages.
pub(crate) fn table() -> &'static Table {
    by_cloud_name(TABLE).expect("the catalogue has messages")
}

/// Texts to take messages from; making them anew for each message would cost too much.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    rows: Arc<Vec<Row>>,
}

impl Pool {
    /// Makes a pool of so many messages from a seed.
    pub(crate) fn new(messages: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let vocabulary = Vocabulary::new(&mut random);
        let mut session = random.uuid();
        let rows = (0..messages).map(|number| {
            if number % SESSION_MESSAGES == 0 {
                session = random.uuid();
            }
            let content = vocabulary.text(&mut random);
            let row = row(&content, &session.to_string(), number, &mut random);
            canonical::row(table(), row)
        });
        Self {
            rows: Arc::new(rows.collect()),
        }
    }

    /// Returns the message of a number with an identity of its own.
    pub(crate) fn message(&self, number: usize, random: &mut Random) -> Row {
        let mut row = self.rows[number % self.rows.len()].clone();
        row.insert("message_id".to_owned(), json!(random.uuid().to_string()));
        row
    }
}

fn row(content: &str, session: &str, number: usize, random: &mut Random) -> Row {
    let by_user = number.is_multiple_of(3);
    let value = json!({
        "message_id": random.uuid().to_string(),
        "session_id": session,
        "role": if by_user { "user" } else { "assistant" },
        "message_type": if by_user { "user" } else { "assistant" },
        "subtype": if by_user { Some("prompt") } else { None },
        "content": content,
        "project_id": "4be3ad1c",
        "timestamp": STAMP,
        "agent": "claude",
        "parent_id": random.uuid().to_string(),
        "api_message_id": if by_user { None } else { Some(format!("msg_{:016x}", random.next())) },
        "request_id": if by_user { None } else { Some(format!("req_{:016x}", random.next())) },
        "llm_model": if by_user { None } else { Some("claude-model-4") },
        "cwd": "/home/ann/src/project",
        "git_branch": "main",
        "source_type": "jsonl",
        "source_file": format!("{session}.jsonl"),
        "sequence": number % SESSION_MESSAGES + 1,
        "is_meta": false,
        "is_sidechain": false,
        "is_synthetic": false,
        "is_compact_summary": false,
        "metadata": {"version": "2.0.14", "user_type": "external"},
    });
    match value {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}

/// Returns the push of a new message.
pub(crate) fn change(row: Row, now_ms: i64) -> Change {
    let id = hash::derived_id(table(), &row, DeviceId::new(uuid::Uuid::nil()));
    Change {
        table: TABLE.to_owned(),
        id: id.ok().flatten().unwrap_or(RowId::new(uuid::Uuid::nil())),
        op: Op::Upsert,
        base: None,
        follows: None,
        base_hash: None,
        proposed: clock::propose(now_ms, 0),
        register: true,
        hash: hash::content(table(), &row).to_string(),
        created_at: STAMP.to_owned(),
        updated_at: STAMP.to_owned(),
        row: Some(row),
        counters: std::collections::BTreeMap::new(),
    }
}

/// Words of seeded letters; a few occur often, most seldom.
#[derive(Debug)]
pub(crate) struct Vocabulary(Vec<String>);

impl Vocabulary {
    /// Makes the words.
    pub(crate) fn new(random: &mut Random) -> Self {
        let syllables = [
            "ta", "re", "mo", "lin", "con", "er", "the", "ver", "pa", "si", "ou", "ing", "ment",
            "is", "der", "al", "fo", "qu", "ble", "st",
        ];
        let word = |random: &mut Random| -> String {
            let length = 1 + random.below(3);
            (0..=length)
                .map(|_| syllables[random.below(syllables.len())])
                .collect()
        };
        Self((0..WORDS).map(|_| word(random)).collect())
    }

    /// Returns a word; its rank is drawn so that few words make up most of a text.
    pub(crate) fn word(&self, random: &mut Random) -> &str {
        let rank = (self.0.len() as f64).powf(random.fraction()) as usize;
        &self.0[rank.min(self.0.len()) - 1]
    }

    /// Returns a content: sentences, now and then a line of code with numbers.
    pub(crate) fn text(&self, random: &mut Random) -> String {
        let bytes = MEDIAN_BYTES * (DEVIATION * random.normal()).exp();
        let bytes = (bytes as usize).clamp(1, CONTENT_BYTES_MAX);
        let mut text = String::with_capacity(bytes + 32);
        while text.len() < bytes {
            text.push_str(self.word(random));
            match random.below(40) {
                0 => text.push_str(".\n"),
                1 => text.push_str(", "),
                2 => {
                    let (line, value) = (random.below(2_000), random.next());
                    let (left, right) = (self.word(random), self.word(random));
                    text.push_str(&format!("\n    {left}_{right}({line}, \"{value:08x}\");\n"));
                }
                _ => text.push(' '),
            }
        }
        text.truncate(bytes);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::median;

    fn lengths() -> Vec<f64> {
        let mut random = Random::new(3);
        let vocabulary = Vocabulary::new(&mut random);
        (0..20_000)
            .map(|_| vocabulary.text(&mut random).len() as f64)
            .collect()
    }

    #[test]
    fn contents_have_the_lengths_of_real_ones() {
        let lengths = lengths();
        let mean = lengths.iter().sum::<f64>() / lengths.len() as f64;
        let median = median(&lengths);
        assert!((390.0..430.0).contains(&median), "median {median}");
        assert!((1_300.0..1_600.0).contains(&mean), "mean {mean}");
    }

    #[test]
    fn messages_are_canonical_and_each_is_new() {
        let pool = Pool::new(10, 1);
        let mut random = Random::new(2);
        let (one, two) = (pool.message(4, &mut random), pool.message(4, &mut random));
        assert_eq!(canonical::row(table(), one.clone()), one);
        assert_eq!(one["content"], two["content"]);
        let (one, two) = (change(one, 5), change(two, 5));
        assert_ne!((one.id, &one.hash), (two.id, &two.hash));
        for column in table().columns.iter().filter(|column| column.required) {
            assert!(two.row.as_ref().unwrap().contains_key(column.name));
        }
    }
}
