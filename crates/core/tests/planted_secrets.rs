//! How many planted secrets are found, and how few lines of real transcripts are touched.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod planted;

use std::collections::BTreeMap;
use std::path::Path;

use coditect_core::redact::{Report, redact_listed, redact_text, redact_value};
use planted::{NAMED, PLACES, TOKENS, all, pieces};
use serde_json::{Value, json};

/// Rounds over all kinds.
const ROUNDS: usize = 48;

fn survives(text: &str, secret: &str) -> bool {
    pieces(secret).iter().any(|piece| text.contains(piece))
}

#[test]
fn planted_secrets_of_more_than_200_kinds_are_found() {
    let kinds = TOKENS.len() + NAMED.len() + PLACES.len();
    assert!(kinds >= 200, "{kinds}");
    let mut missed: BTreeMap<&str, (u32, String)> = BTreeMap::new();
    let (mut found, mut total) = (0_u32, 0_u32);
    for one in all(1, ROUNDS) {
        let plain = redact_text(&one.text, &mut Report::default()).into_owned();
        // As a transcript's line holds it, read and unread.
        let mut value = json!({"message": {"content": [{"type": "text", "text": one.text}]}});
        let line = redact_text(&value.to_string(), &mut Report::default()).into_owned();
        redact_value(&mut value, &mut Report::default());
        let escaped = Value::String(one.secret.clone()).to_string();
        let escaped = &escaped[1..escaped.len() - 1];
        total += 1;
        if survives(&plain, &one.secret)
            || survives(&line, escaped)
            || survives(&value.to_string(), escaped)
        {
            let entry = missed.entry(one.kind.name).or_default();
            entry.0 += 1;
            entry.1 = one.text;
        } else {
            found += 1;
        }
    }
    for (kind, (count, example)) in &missed {
        println!("missed {count} of {ROUNDS}: {kind}: {example:?}");
    }
    let share = f64::from(found) / f64::from(total);
    println!(
        "{kinds} kinds, {total} secrets, {found} found: {:.3} %",
        share * 100.0
    );
    assert!(share >= 0.99, "{:.3} %", share * 100.0);
}

#[test]
fn the_list_of_what_was_replaced_leads_back_to_the_original() {
    for one in all(2, 4) {
        let text = format!("{} and password=hunter22 {}", one.text, one.text);
        let (out, list) = redact_listed(&text);
        assert_eq!(out, redact_text(&text, &mut Report::default()));
        let mut rebuilt = String::new();
        let mut at = 0;
        for replaced in &list {
            assert!(
                at <= replaced.start && replaced.start < replaced.end,
                "{list:?} {text:?}"
            );
            rebuilt.push_str(&text[at..replaced.start]);
            rebuilt.push_str(&format!("[REDACTED:{}]", replaced.kind));
            at = replaced.end;
        }
        rebuilt.push_str(&text[at..]);
        assert_eq!(rebuilt, out, "{text:?}");
    }
}

/// The share of lines that were touched, with samples to look at: `-- --nocapture`.
#[test]
fn real_transcripts_stay_as_they_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/transcripts");
    if !folder.exists() {
        eprintln!("skipped: no real transcripts beside the checkout");
        return;
    }
    let mut left = vec![folder];
    let (mut lines, mut touched) = (0_u32, 0_u32);
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                std::fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for line in String::from_utf8_lossy(&bytes).lines() {
            lines += 1;
            let (_, list) = redact_listed(line);
            touched += u32::from(!list.is_empty());
            for one in list {
                let count = kinds.entry(one.kind.to_string()).or_default();
                *count += 1;
                if *count <= 25 {
                    let start = line.floor_char_boundary(one.start.saturating_sub(60));
                    let end = line.ceil_char_boundary((one.end + 20).min(line.len()));
                    println!("{}: {}", one.kind, &line[start..end]);
                }
            }
        }
    }
    let share = f64::from(touched) / f64::from(lines);
    println!(
        "{lines} lines, {touched} touched: {:.3} %, {kinds:?}",
        share * 100.0
    );
    assert!(share < 0.005, "{:.3} %", share * 100.0);
}
