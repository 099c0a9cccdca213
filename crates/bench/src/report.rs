//! What was measured, as one table and as JSON.

use std::fmt::Write as _;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

/// What a measurement has to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Budget {
    /// At least this share of the raw side.
    Share(f64),
    /// At most this share of the raw side.
    ShareAtMost(f64),
    /// At least this value.
    AtLeast(f64),
    /// At most this value.
    AtMost(f64),
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    /// What was measured.
    pub(crate) what: String,
    /// Unit of both values, such as `ms` or `/s`.
    pub(crate) unit: &'static str,
    /// Ours.
    pub(crate) measured: f64,
    /// The raw side, on the same database in the same run.
    pub(crate) raw: Option<f64>,
    /// Median of the rounds' ratios of ours to the raw side.
    pub(crate) ratio: Option<f64>,
    /// What it has to reach.
    pub(crate) budget: Option<Budget>,
}

impl Line {
    /// Makes a line without raw side and budget.
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, measured: f64) -> Self {
        Self {
            what: what.into(),
            unit,
            measured,
            raw: None,
            ratio: None,
            budget: None,
        }
    }

    /// Adds the raw side.
    pub(crate) fn beside(self, raw: f64, ratio: f64) -> Self {
        Self {
            raw: Some(raw),
            ratio: Some(ratio),
            ..self
        }
    }

    /// Adds the budget.
    pub(crate) fn within(self, budget: Budget) -> Self {
        Self {
            budget: Some(budget),
            ..self
        }
    }

    /// Returns how much of its budget the measurement reaches: 1 and more is met.
    fn reached(&self) -> Option<f64> {
        let of = |value: f64, wanted: f64| (wanted > 0.0).then(|| value / wanted);
        match self.budget? {
            Budget::Share(share) => of(self.ratio?, share),
            Budget::ShareAtMost(share) => of(share, self.ratio?),
            Budget::AtLeast(value) => of(self.measured, value),
            Budget::AtMost(value) => of(value, self.measured),
        }
    }

    fn cells(&self) -> [String; 6] {
        let value = |value: f64| format!("{} {}", number(value), self.unit);
        let budget = self.budget.map(|budget| match budget {
            Budget::Share(share) => format!(">= {} of raw", number(share)),
            Budget::ShareAtMost(share) => format!("<= {} of raw", number(share)),
            Budget::AtLeast(least) => format!(">= {}", value(least)),
            Budget::AtMost(most) => format!("<= {}", value(most)),
        });
        let distance = self.reached().map(|reached| {
            if reached >= 1.0 {
                "met".to_owned()
            } else {
                format!("{}x short", number(1.0 / reached))
            }
        });
        [
            self.what.clone(),
            value(self.measured),
            self.raw.map(value).unwrap_or_default(),
            self.ratio.map(number).unwrap_or_default(),
            budget.unwrap_or_default(),
            distance.unwrap_or_default(),
        ]
    }
}

/// All measurements of a run and what they were made with.
#[derive(Debug, Default)]
pub(crate) struct Report {
    facts: Vec<(String, String)>,
    lines: Vec<Line>,
    /// Cases that gave no figure, with the reason.
    failures: Vec<(String, String)>,
    started: Option<Instant>,
}

impl Report {
    /// Adds a fact about machine, settings or statements; printed once.
    pub(crate) fn fact(&mut self, name: impl Into<String>, text: impl Into<String>) {
        let (name, text) = (name.into(), text.into());
        if !self.facts.iter().any(|(known, _)| *known == name) {
            self.facts.push((name, text));
        }
    }

    /// Says that a case begins, and how long the run has taken.
    pub(crate) fn begin(&mut self, name: &str) {
        let started = *self.started.get_or_insert_with(Instant::now);
        let seconds = started.elapsed().as_secs();
        note(&format!("[{}:{:02}] {name}", seconds / 60, seconds % 60));
    }

    /// Keeps why a case ended early, if it did.
    pub(crate) fn settle(&mut self, name: &str, outcome: anyhow::Result<()>) {
        if let Err(error) = outcome {
            note(&format!("failed: {name}: {error:#}"));
            self.failures.push((name.to_owned(), format!("{error:#}")));
        }
    }

    /// Returns whether a case gave no figure.
    pub(crate) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Adds a measurement and says it at once.
    pub(crate) fn add(&mut self, line: Line) {
        note(&line.cells().join(" | "));
        self.lines.push(line);
    }

    /// Prints facts and table to standard output.
    #[expect(clippy::print_stdout, reason = "prints its result")]
    pub(crate) fn print(&self) {
        println!("{}", self.text());
    }

    /// Returns facts and table as Markdown.
    fn text(&self) -> String {
        let mut text = String::new();
        for (name, fact) in &self.facts {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}: {fact}");
        }
        let head = [
            "what", "measured", "raw side", "ratio", "budget", "distance",
        ];
        let rows: Vec<[String; 6]> = std::iter::once(head.map(str::to_owned))
            .chain(self.lines.iter().map(Line::cells))
            .collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        text.push('\n');
        for (number, row) in rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(widths) {
                let _ = write!(text, "| {cell:width$} ");
            }
            text.push_str("|\n");
            if number == 0 {
                for width in widths {
                    let _ = write!(text, "|{:-<1$}", "", width + 2);
                }
                text.push_str("|\n");
            }
        }
        for (name, why) in &self.failures {
            let _ = writeln!(text, "failed: {name}: {why}");
        }
        text
    }

    /// Returns everything as JSON.
    pub(crate) fn json(&self) -> String {
        let facts: serde_json::Map<String, Value> = self
            .facts
            .iter()
            .map(|(name, text)| (name.clone(), Value::from(text.as_str())))
            .collect();
        let failures: Vec<Value> = self
            .failures
            .iter()
            .map(|(case, why)| json!({ "case": case, "why": why }))
            .collect();
        let lines: Vec<Value> = self
            .lines
            .iter()
            .map(|line| {
                let mut value = json!(line);
                value["reached"] = json!(line.reached());
                value
            })
            .collect();
        format!(
            "{:#}\n",
            json!({ "facts": facts, "lines": lines, "failures": failures })
        )
    }
}

/// Says on standard error what is going on.
#[expect(clippy::print_stderr, reason = "the one place that reports progress")]
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Returns a number with as many digits as matter: thousands apart, small ones with decimals.
fn number(value: f64) -> String {
    if value.abs() < 9.995 {
        return format!("{value:.2}");
    }
    if value.abs() < 99.95 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (position, digit) in digits.char_indices() {
        let left = digits.len() - position;
        if position > 0 && left % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.4567, "0.46"),
            (9.999, "10.0"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1234.5, "1,234"),
            (-123_456.0, "-123,456"),
            (1_234_567.0, "1,234,567"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn distance_says_by_which_factor_a_budget_is_missed() {
        let distance = |line: Line| line.cells()[5].clone();
        let line = || Line::new("x", "/s", 50.0);
        assert_eq!(distance(line()), "");
        assert_eq!(
            distance(line().within(Budget::AtLeast(100.0))),
            "2.00x short"
        );
        assert_eq!(distance(line().within(Budget::AtMost(100.0))), "met");
        assert_eq!(distance(line().within(Budget::AtMost(10.0))), "5.00x short");
        let beside = || line().beside(100.0, 0.5);
        assert_eq!(distance(beside().within(Budget::Share(0.8))), "1.60x short");
        assert_eq!(distance(beside().within(Budget::Share(0.4))), "met");
        assert_eq!(distance(beside().within(Budget::ShareAtMost(1.5))), "met");
    }

    #[test]
    fn a_fact_is_kept_once() {
        let mut report = Report::default();
        report.fact("fsync", "on");
        report.fact("fsync", "off");
        assert_eq!(report.text().matches("fsync").count(), 1);
        assert!(report.text().contains("fsync: on"));
    }
}
