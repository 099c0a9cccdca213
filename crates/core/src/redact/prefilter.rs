//! Finding the literals that the rules start with: by a table that costs microseconds to make, and
//! by an automaton that is ten times as fast per byte and costs milliseconds. Both find the same.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

/// Bytes that a process scans before the automaton is worth what it costs to build: a hook that
/// looks at one short text ends before that.
const SMALL_BYTES: usize = 64 * 1024;

/// A literal that was found, without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hit {
    /// Where.
    pub(super) range: Range<usize>,
    /// Which of the literals.
    pub(super) literal: usize,
}

/// All literals.
#[derive(Debug)]
pub(super) struct Prefilter {
    literals: Vec<&'static str>,
    small: Small,
    large: OnceLock<Option<AhoCorasick>>,
    scanned_bytes: AtomicUsize,
}

impl Prefilter {
    /// Prepares the search for `literals`; none of them is empty.
    pub(super) fn new(literals: Vec<&'static str>) -> Self {
        Self {
            small: Small::new(&literals),
            literals,
            large: OnceLock::new(),
            scanned_bytes: AtomicUsize::new(0),
        }
    }

    /// Returns where literals occur, also within each other: from left to right, of those at one
    /// place the longest first.
    pub(super) fn find(&self, text: &str) -> Vec<Hit> {
        let mut hits = match self.large(text.len()) {
            Some(large) => find_by(large, text),
            None => self.small.find(&self.literals, text),
        };
        hits.sort_by_key(|hit| {
            (
                hit.range.start,
                std::cmp::Reverse(hit.range.end),
                hit.literal,
            )
        });
        hits
    }

    fn large(&self, bytes: usize) -> Option<&AhoCorasick> {
        if let Some(large) = self.large.get() {
            return large.as_ref();
        }
        let before = self.scanned_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) < SMALL_BYTES {
            return None;
        }
        self.large
            .get_or_init(|| automaton(&self.literals))
            .as_ref()
    }
}

fn automaton(literals: &[&str]) -> Option<AhoCorasick> {
    AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::DFA))
        .match_kind(MatchKind::Standard)
        .ascii_case_insensitive(true)
        .build(literals)
        .ok()
}

fn find_by(automaton: &AhoCorasick, text: &str) -> Vec<Hit> {
    let found = automaton.find_overlapping_iter(text).map(|hit| Hit {
        range: hit.range(),
        literal: hit.pattern().as_usize(),
    });
    found.collect()
}

/// The literals by their first byte in lower case, and which bytes may follow it.
#[derive(Debug)]
struct Small {
    /// Numbers of the literals, ordered by first byte.
    ordered: Vec<u16>,
    /// End of each first byte's part of `ordered`; it begins where the one before ends.
    ends: [u16; 256],
    /// For each first byte a bit for every second one.
    seconds: Vec<[u64; 4]>,
}

impl Small {
    fn new(literals: &[&str]) -> Self {
        let first = |literal: &u16| lower(literals[usize::from(*literal)].as_bytes()[0]);
        let count = u16::try_from(literals.len()).unwrap_or(u16::MAX);
        let mut ordered: Vec<u16> = (0..count).collect();
        ordered.sort_by_key(first);
        let (mut ends, mut seconds) = ([0; 256], vec![[0; 4]; 256]);
        for literal in &ordered {
            let bytes = literals[usize::from(*literal)].as_bytes();
            let bits: &mut [u64; 4] = &mut seconds[usize::from(lower(bytes[0]))];
            match bytes.get(1).copied().map(lower) {
                Some(second) => bits[usize::from(second >> 6)] |= 1 << (second & 63),
                // Whatever follows a literal of one byte.
                None => *bits = [u64::MAX; 4],
            }
            ends[usize::from(lower(bytes[0]))] += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            *end = sum;
        }
        Self {
            ordered,
            ends,
            seconds,
        }
    }

    fn find(&self, literals: &[&str], text: &str) -> Vec<Hit> {
        let bytes = text.as_bytes();
        let mut hits = Vec::new();
        for (at, byte) in bytes.iter().enumerate() {
            let first = usize::from(lower(*byte));
            let second = bytes.get(at + 1).copied().map_or(0, lower);
            if self.seconds[first][usize::from(second >> 6)] >> (second & 63) & 1 == 0 {
                continue;
            }
            let from = first.checked_sub(1).map_or(0, |before| self.ends[before]);
            for literal in &self.ordered[usize::from(from)..usize::from(self.ends[first])] {
                let literal = usize::from(*literal);
                let range = at..at + literals[literal].len();
                let found = bytes.get(range.clone());
                if found
                    .is_some_and(|found| found.eq_ignore_ascii_case(literals[literal].as_bytes()))
                {
                    hits.push(Hit { range, literal });
                }
            }
        }
        hits
    }
}

const fn lower(byte: u8) -> u8 {
    byte.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LITERALS: [&str; 9] = [
        "ab", "abc", "b", "c:", "://", "Password", "pass", "ab", "ß=",
    ];

    fn both(text: &str) -> [Vec<Hit>; 2] {
        let small = Small::new(&LITERALS).find(&LITERALS, text);
        let large = find_by(&automaton(&LITERALS).unwrap(), text);
        [small, large].map(|mut hits| {
            hits.sort_by_key(|hit| (hit.range.start, hit.range.end, hit.literal));
            hits
        })
    }

    proptest! {
        #[test]
        fn the_table_and_the_automaton_find_the_same(
            text in "([abcABC:/= ßs]|pass|PASSWORD){0,60}"
        ) {
            let [small, large] = both(&text);
            prop_assert_eq!(small, large);
        }
    }

    #[test]
    fn all_literals_of_the_rules_are_found_by_both() {
        let shapes = super::super::rules::shapes().flat_map(|rule| rule.literals);
        let names = super::super::rules::NAMES.iter().map(|rule| &rule.literal);
        let literals: Vec<&'static str> = shapes.chain(names).copied().collect();
        let mut text = String::new();
        for literal in &literals {
            text.push_str(literal);
            text.push_str(&literal.to_uppercase());
            text.push_str(&literal[..literal.len() / 2]);
        }
        let mut large = find_by(&automaton(&literals).unwrap(), &text);
        large.sort_by_key(|hit| (hit.range.start, hit.literal));
        let mut small = Small::new(&literals).find(&literals, &text);
        small.sort_by_key(|hit| (hit.range.start, hit.literal));
        assert!(small.len() >= 2 * literals.len());
        assert_eq!(small, large);
    }

    #[test]
    fn a_literal_at_the_very_end_is_found() {
        let [small, large] = both("x PASSWORD");
        assert_eq!(small, large);
        assert!(small.iter().any(|hit| hit.range == (2..10)));
        assert_eq!(both("b")[0].len(), 1);
        assert!(both("")[0].is_empty());
    }

    #[test]
    fn who_scans_much_gets_the_automaton() {
        let prefilter = Prefilter::new(LITERALS.to_vec());
        assert!(prefilter.large(SMALL_BYTES - 1).is_none());
        assert!(prefilter.large(1).is_some());
        assert!(prefilter.large(0).is_some());
    }
}
