//! What people wrote: every text they chose is one of its own, and every increment is counted.
//! The oracle asks at the end where each of them is.

use coditect_protocol::catalogue::File;
use coditect_protocol::wire::Row;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A text that one write put into one row; no other write uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

const PREFIX: &str = "write-";

impl Token {
    /// Returns the text to store.
    #[must_use]
    pub fn text(self) -> String {
        format!("{PREFIX}{}", self.0)
    }

    /// Reads the text back.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        text.strip_prefix(PREFIX)?.parse().ok().map(Self)
    }

    /// Returns the token in a row.
    #[must_use]
    pub fn of(row: &Row) -> Option<Self> {
        row.values()
            .find_map(|value| value.as_str().and_then(Self::read))
    }

    /// Returns the token in a row written as JSON.
    #[must_use]
    pub fn of_json(text: &str) -> Option<Self> {
        match serde_json::from_str(text) {
            Ok(Value::Object(row)) => Self::of(&row),
            _ => None,
        }
    }
}

/// A row of one device's file.
pub(super) type Place = (usize, File, &'static str, i64);

/// What was written, where, and what became of it before anybody else could know.
#[derive(Debug, Default)]
pub struct Ledger {
    next: u64,
    /// The text that each row of each device got last from its user.
    places: BTreeMap<Place, Token>,
    /// On which device each text was written.
    authors: BTreeMap<Token, usize>,
    /// Texts that their own user replaced or deleted.
    replaced: BTreeSet<Token>,
    /// Texts that somebody who saw them replaced, and by what; by nothing in a delete.
    steps: BTreeMap<Token, Vec<Option<Token>>>,
    /// Texts of rows that somebody who saw them deleted.
    deleted: BTreeSet<Token>,
    /// Facts that somebody deleted after the server had them, by device and name.
    gone: BTreeSet<(usize, String)>,
    /// Texts that were lost with a file that a person set back.
    excused: BTreeSet<Token>,
    /// What was added to the counter of each row, by the row's name.
    counters: BTreeMap<String, i64>,
    /// Rows whose counter nobody can know exactly, with the reason's first name.
    inexact: BTreeSet<String>,
}

impl Ledger {
    /// Returns a fresh text.
    pub(super) fn token(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }

    /// Notes that a user who saw `before` put `token` into a row, or deleted it.
    pub(super) fn wrote(&mut self, place: Place, before: Option<Token>, token: Option<Token>) {
        if let Some(before) = before {
            self.steps.entry(before).or_default().push(token);
        }
        self.authors.extend(token.map(|token| (token, place.0)));
        if token.is_none() {
            self.deleted.extend(before);
        }
        let before = match token {
            Some(token) => self.places.insert(place, token),
            None => self.places.remove(&place),
        };
        self.replaced.extend(before);
    }

    /// Returns on which device a text was written.
    pub(super) fn author(&self, token: Token) -> Option<usize> {
        self.authors.get(&token).copied()
    }

    /// Notes that a user who saw the text deleted its row.
    pub(super) fn deleted(&mut self, before: Option<Token>) {
        self.deleted.extend(before);
    }

    /// Returns the texts whose rows were deleted knowingly.
    pub(super) const fn deletes(&self) -> &BTreeSet<Token> {
        &self.deleted
    }

    /// Notes that a user deleted a fact that the server had.
    pub(super) fn fact_gone(&mut self, device: usize, name: String) {
        self.gone.insert((device, name));
    }

    /// Notes that somebody wrote a fact again by hand.
    pub(super) fn fact_again(&mut self, device: usize, name: &str) {
        self.gone.remove(&(device, name.to_owned()));
    }

    /// Returns the names of facts that must be gone.
    pub(super) fn facts_gone(&self) -> impl Iterator<Item = &(usize, String)> {
        self.gone.iter()
    }

    /// Notes that a row got the place of another one, which is gone.
    pub(super) fn moved(&mut self, from: Place, to: Place) {
        if let Some(token) = self.places.remove(&from) {
            self.places.insert(to, token);
        }
    }

    /// Notes that something was added to a named row's counter.
    pub(super) fn added(&mut self, name: &str, amount: i64) {
        *self.counters.entry(name.to_owned()).or_insert(0) += amount;
    }

    /// Notes that a named row's counter cannot be known exactly.
    pub(super) fn blur(&mut self, name: String) {
        self.inexact.insert(name);
    }

    /// Notes that all counters so far cannot be known exactly.
    pub(super) fn blur_all(&mut self) {
        self.inexact.extend(self.counters.keys().cloned());
    }

    /// Notes that a device's file is now a copy of what another (or itself) once had.
    pub(super) fn copied(&mut self, from: usize, to: usize, file: File) {
        let of = |device: usize| move |place: &Place| (place.0, place.1) == (device, file);
        let gone: Vec<_> = self.places.keys().copied().filter(of(to)).collect();
        if from != to {
            for place in gone {
                self.places.remove(&place);
            }
            let here: Vec<_> = self
                .places
                .iter()
                .map(|(place, token)| (*place, *token))
                .collect();
            for (place, token) in here.into_iter().filter(|(place, _)| of(from)(place)) {
                self.places.insert((to, place.1, place.2, place.3), token);
            }
        }
    }

    /// Returns the texts that a device's file holds, to be remembered with a copy of it.
    pub(super) fn texts(&self, device: usize, file: File) -> BTreeMap<Place, Token> {
        let here = |(place, _): &(&Place, &Token)| (place.0, place.1) == (device, file);
        self.places
            .iter()
            .filter(here)
            .map(|(place, token)| (*place, *token))
            .collect()
    }

    /// Notes that a device's file was set back to when it held `texts`.
    pub(super) fn set_back(&mut self, device: usize, file: File, texts: BTreeMap<Place, Token>) {
        let now = self.texts(device, file);
        for (place, token) in now {
            self.places.remove(&place);
            self.excused.insert(token);
        }
        for token in texts.values() {
            // It lives again, whatever its user did to it since.
            self.replaced.remove(token);
            self.excused.remove(token);
        }
        self.places.extend(texts);
    }

    /// Returns whether a text was made from another one, by people who saw each on the way.
    pub(super) fn leads(&self, from: Token, to: Token) -> bool {
        let mut open = vec![from];
        let mut known = BTreeSet::new();
        while let Some(token) = open.pop() {
            let next = self.steps.get(&token).into_iter().flatten().flatten();
            open.extend(next.filter(|token| known.insert(**token)));
        }
        known.contains(&to)
    }

    /// Returns the texts that must be found somewhere at the end.
    pub(super) fn owed(&self) -> impl Iterator<Item = Token> {
        let all = (1..=self.next).map(Token);
        all.filter(|token| !self.replaced.contains(token) && !self.excused.contains(token))
    }

    /// Returns whether a text was lost with a file that a person set back.
    pub(super) fn is_excused(&self, token: Token) -> bool {
        self.excused.contains(&token)
    }

    /// Returns what replaced each text knowingly.
    pub(super) const fn steps(&self) -> &BTreeMap<Token, Vec<Option<Token>>> {
        &self.steps
    }

    /// Returns the exact sum of a named row's counter; none when it cannot be known.
    pub(super) fn sum(&self, name: &str) -> Option<i64> {
        if self.inexact.contains(name) {
            return None;
        }
        self.counters.get(name).copied()
    }
}
