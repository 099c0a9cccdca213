//! Recall: what is worth knowing before a task is begun, within a budget of tokens.
//!
//! The words of the task are searched for one by one, and what is found for several of them, or
//! high up for one, comes first: reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009).

use std::collections::HashMap;

use crate::render;
use crate::source::{ContextSource, Entry, Filter, Kind, Query, SourceError};

/// Words of the task that are searched for.
const WORDS_MAX: usize = 12;
/// Shorter words say too little.
const WORD_CHARS_MIN: usize = 3;
/// Hits of each word and kind that count.
const HITS_PER_WORD: u32 = 20;
/// The constant of reciprocal rank fusion.
const RANK_OFFSET: f64 = 60.0;

/// Words that are in every task.
const COMMON: &[&str] = &[
    "add", "all", "and", "any", "are", "but", "can", "does", "for", "from", "get", "has", "have",
    "how", "into", "its", "let", "make", "need", "new", "not", "now", "our", "please", "should",
    "that", "the", "them", "then", "there", "they", "this", "use", "want", "was", "what", "when",
    "where", "which", "who", "why", "will", "with", "would", "you", "your",
];

/// How much an entry of a kind weighs: what people concluded before what was merely said.
const fn weight(kind: Kind) -> f64 {
    match kind {
        Kind::Decision | Kind::Error => 1.5,
        Kind::Learning => 1.3,
        Kind::Task => 1.0,
        Kind::Message | Kind::Session | Kind::Commit => 0.6,
    }
}

/// Returns what fits the task, best first.
pub(crate) fn find(
    source: &dyn ContextSource,
    task: &str,
    project: Option<&str>,
) -> Result<Vec<Entry>, SourceError> {
    let mut scores: HashMap<(Kind, String), (f64, Entry)> = HashMap::new();
    for word in words(task) {
        for kind in Kind::SEARCHED {
            let query = Query {
                // A quoted word is itself, whatever signs it has.
                text: format!("\"{word}\""),
                kinds: vec![kind],
                role: None,
                filter: Filter {
                    project: project.map(str::to_owned),
                    ..Filter::default()
                },
                limit: HITS_PER_WORD,
            };
            for (rank, entry) in source.search(&query)?.into_iter().enumerate() {
                let gain = weight(kind) / (RANK_OFFSET + rank as f64);
                let key = (entry.kind, entry.id.clone());
                let (score, _) = scores.entry(key).or_insert((0.0, entry));
                *score += gain;
            }
        }
    }
    let mut found: Vec<(f64, Entry)> = scores.into_values().collect();
    found.sort_by(|(a, one), (b, other)| {
        let by_age = || {
            other
                .time
                .cmp(&one.time)
                .then_with(|| one.id.cmp(&other.id))
        };
        b.total_cmp(a).then_with(by_age)
    });
    Ok(found.into_iter().map(|(_, entry)| entry).collect())
}

/// Returns the task's context in at most so many tokens.
pub(crate) fn text(entries: &[Entry], tokens_max: usize) -> String {
    let chars = tokens_max.saturating_mul(render::TOKEN_CHARS);
    render::list(entries, chars.min(render::RESULT_CHARS_MAX))
}

/// Returns the words that tell this task from others, each once.
fn words(task: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let is_inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    for word in task.split(|c: char| !is_inside(c)) {
        let word = word
            .trim_matches(|c: char| !c.is_alphanumeric())
            .to_lowercase();
        let tells = word.chars().count() >= WORD_CHARS_MIN && !COMMON.contains(&word.as_str());
        if tells && !words.contains(&word) {
            words.push(word);
        }
        if words.len() == WORDS_MAX {
            break;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_that_tell() {
        let task =
            "Please make the push in crates/server/src/app.rs retry, and RETRY on busy_timeout!";
        let expected = ["push", "crates/server/src/app.rs", "retry", "busy_timeout"];
        assert_eq!(words(task), expected);
        assert_eq!(words(&"aaa1 bbb2 ".repeat(50)), ["aaa1", "bbb2"]);
        assert!(words("the and of").is_empty());
    }
}
