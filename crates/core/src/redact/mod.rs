//! Finds secrets in text and JSON and replaces each by one fixed marker per kind.
//!
//! Owns the rules (as data, in `rules`, `providers`, `commands`; a person's own in `own`), the
//! scan and the report. It must not know where the text comes from or goes to: it keeps nothing,
//! logs nothing and never returns what it removed.
//!
//! One Aho-Corasick pass looks for the literals that every rule starts with; only where one is
//! found is an anchored expression tried. Clean text therefore costs one pass and no copy.

mod assign;
mod commands;
mod engine;
mod own;
mod prefilter;
mod providers;
mod report;
mod rules;
mod value;

pub use engine::{Replaced, compose, redact_listed, redact_text, text_has_secret};
pub use own::{OwnRules, OwnRulesError};
pub use report::Report;
pub use value::{kind_under_key, redact_value};

/// Start of every marker that takes a secret's place, as in `[REDACTED:jwt]`.
pub const MARKER_START: &str = "[REDACTED:";

/// Returns the names of all kinds that the rules can report, sorted and without repeats.
pub fn kinds() -> Vec<&'static str> {
    let mut kinds: Vec<_> = rules::shapes().map(|rule| rule.kind).collect();
    kinds.extend(rules::NAMES.iter().map(|name| name.class.kind()));
    kinds.extend(engine::STRUCTURAL_KINDS);
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

#[cfg(test)]
mod tests;
