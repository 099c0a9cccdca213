//! Rules that a person adds: shapes and names of their own, and texts that are no secrets.

use std::sync::OnceLock;

use regex::Regex;
use serde::Deserialize;

use super::rules::{Class, NameRule, Need, TokenRule};

/// Most rules of each sort.
const RULES_MAX: usize = 200;
/// Shortest literal, in bytes: shorter ones would be found everywhere.
const LITERAL_BYTES_MIN: usize = 2;

static IN_USE: OnceLock<OwnRules> = OnceLock::new();

/// Why own rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OwnRulesError {
    /// The file is not what it should be.
    #[error("the redaction rules are no valid JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// An expression does not compile.
    #[error("the pattern of the redaction rule {kind} is wrong: {reason}")]
    Pattern {
        /// The rule.
        kind: String,
        /// What is wrong.
        reason: String,
    },
    /// A rule lacks something, or there are too many.
    #[error("the redaction rule {kind} {reason}")]
    Rule {
        /// The rule.
        kind: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Others are in use already.
    #[error("redaction rules are in use already")]
    InUse,
}

/// Checked rules of a person's own.
#[derive(Debug)]
pub struct OwnRules {
    pub(super) shapes: Vec<TokenRule>,
    pub(super) names: Vec<NameRule>,
    pub(super) allowed: Vec<String>,
}

/// No rules.
pub(super) static NONE: OwnRules = OwnRules {
    shapes: Vec::new(),
    names: Vec::new(),
    allowed: Vec::new(),
};

impl OwnRules {
    /// Reads rules: `{"rules": [{"kind", "literals": [], "pattern"}], "names": [{"name",
    /// "class": "password" | "secret"}], "allow": []}`.
    ///
    /// # Errors
    /// [`OwnRulesError`] names the rule that cannot be used.
    pub fn read(json: &str) -> Result<Self, OwnRulesError> {
        let file: RulesFile = serde_json::from_str(json)?;
        let wrong = |kind: &str, reason| OwnRulesError::Rule {
            kind: kind.to_owned(),
            reason,
        };
        if file.rules.len() > RULES_MAX || file.names.len() > RULES_MAX {
            return Err(wrong("list", "is longer than 200"));
        }
        let mut shapes = Vec::new();
        for rule in file.rules {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if rule.kind.is_empty() || !rule.kind.chars().all(fits) {
                return Err(wrong(
                    &rule.kind,
                    "needs a kind of lower-case letters, digits, -",
                ));
            }
            let short = |literal: &String| literal.len() < LITERAL_BYTES_MIN;
            if rule.literals.is_empty() || rule.literals.iter().any(short) {
                return Err(wrong(
                    &rule.kind,
                    "needs literals of two characters or more",
                ));
            }
            if let Err(error) = Regex::new(&rule.pattern) {
                return Err(OwnRulesError::Pattern {
                    kind: rule.kind,
                    reason: error.to_string(),
                });
            }
            shapes.push(rule.leak());
        }
        let mut names = Vec::new();
        for rule in file.names {
            if rule.name.len() < LITERAL_BYTES_MIN {
                return Err(wrong(&rule.name, "needs a name of two characters or more"));
            }
            let class = match rule.class {
                NameClass::Password => Class::Password,
                NameClass::Secret => Class::Secret,
            };
            names.push(NameRule {
                literal: String::leak(rule.name),
                class,
            });
        }
        Ok(Self {
            shapes,
            names,
            allowed: file.allow,
        })
    }

    /// Uses these rules beside the built-in ones, in this process, until it ends. Must come
    /// before anything is redacted.
    ///
    /// # Errors
    /// [`OwnRulesError::InUse`] when there are own rules already.
    pub fn install(self) -> Result<(), OwnRulesError> {
        IN_USE.set(self).map_err(|_| OwnRulesError::InUse)
    }
}

/// Returns the installed rules.
pub(super) fn in_use() -> Option<&'static OwnRules> {
    IN_USE.get()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct RulesFile {
    rules: Vec<Shape>,
    names: Vec<Name>,
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    kind: String,
    literals: Vec<String>,
    pattern: String,
}

impl Shape {
    /// A process reads its rules once and keeps them, so they may live as long as it does.
    fn leak(self) -> TokenRule {
        let literals: Vec<&'static str> = self
            .literals
            .into_iter()
            .map(|literal| &*String::leak(literal))
            .collect();
        TokenRule {
            kind: String::leak(self.kind),
            literals: Vec::leak(literals),
            pattern: String::leak(self.pattern),
            need: Need::Nothing,
            bytes_before: 0,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    name: String,
    class: NameClass,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NameClass {
    Password,
    Secret,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_rules_is_checked() {
        let rules = OwnRules::read(
            r#"{"rules": [{"kind": "acme", "literals": ["acme_"], "pattern": "acme_[0-9]{6}"}],
                "names": [{"name": "losung", "class": "password"}], "allow": ["acme_000000"]}"#,
        );
        let rules = rules.unwrap();
        assert_eq!(
            (rules.shapes.len(), rules.names.len(), rules.allowed.len()),
            (1, 1, 1)
        );
        for wrong in [
            "3",
            r#"{"rule": []}"#,
            r#"{"rules": [{"kind": "a b", "literals": ["xx"], "pattern": "x"}]}"#,
            r#"{"rules": [{"kind": "a", "literals": ["x"], "pattern": "x"}]}"#,
            r#"{"rules": [{"kind": "a", "literals": ["xx"], "pattern": "("}]}"#,
            r#"{"names": [{"name": "x", "class": "secret"}]}"#,
        ] {
            assert!(OwnRules::read(wrong).is_err(), "{wrong}");
        }
    }
}
