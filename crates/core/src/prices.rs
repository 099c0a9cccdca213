//! List prices of models: what tokens would have cost, for orientation. Nobody's bill: plans,
//! discounts and longer cache times are not known here.

use serde::Deserialize;

/// Price of a million tokens, in US dollars.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Price {
    /// Sent.
    pub input: f64,
    /// Received.
    pub output: f64,
    /// Written to the cache, for five minutes; as sent where nobody says.
    #[serde(default)]
    pub cache_write: Option<f64>,
    /// Read from the cache; as sent where nobody says.
    #[serde(default)]
    pub cache_read: Option<f64>,
}

/// Tokens of some answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Sent, without those of the cache.
    pub input: u64,
    /// Received.
    pub output: u64,
    /// Written to the cache.
    pub cache_write: u64,
    /// Read from the cache.
    pub cache_read: u64,
}

/// Beginnings of models' names with input, output, cache writing and reading, as the vendors
/// published them until November 2025. The longest beginning that fits counts.
const LIST: &[(&str, [f64; 4])] = &[
    ("claude-3-haiku", [0.25, 1.25, 0.30, 0.03]),
    ("claude-3-5-haiku", [0.80, 4.0, 1.0, 0.08]),
    ("claude-haiku-4-5", [1.0, 5.0, 1.25, 0.10]),
    ("claude-3-5-sonnet", [3.0, 15.0, 3.75, 0.30]),
    ("claude-3-7-sonnet", [3.0, 15.0, 3.75, 0.30]),
    ("claude-sonnet-4", [3.0, 15.0, 3.75, 0.30]),
    ("claude-sonnet-4-5", [3.0, 15.0, 3.75, 0.30]),
    ("claude-3-opus", [15.0, 75.0, 18.75, 1.50]),
    ("claude-opus-4", [15.0, 75.0, 18.75, 1.50]),
    ("claude-opus-4-5", [5.0, 25.0, 6.25, 0.50]),
    ("gpt-5", [1.25, 10.0, 1.25, 0.125]),
    ("gpt-5-mini", [0.25, 2.0, 0.25, 0.025]),
    ("gpt-5-nano", [0.05, 0.40, 0.05, 0.005]),
    ("gemini-2.5-pro", [1.25, 10.0, 1.25, 0.31]),
    ("gemini-2.5-flash", [0.30, 2.50, 0.30, 0.075]),
];

/// Prices by the beginnings of models' names.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    own: Vec<(String, Price)>,
}

impl Prices {
    /// Makes a list of the published prices, with a person's own ones before them.
    #[must_use]
    pub fn with_own(own: impl IntoIterator<Item = (String, Price)>) -> Self {
        let own = own.into_iter().collect();
        Self { own }
    }

    /// Returns a model's price; none where nobody says.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<Price> {
        let own = self
            .own
            .iter()
            .filter(|(start, _)| model.starts_with(start));
        if let Some((_, price)) = own.max_by_key(|(start, _)| start.len()) {
            return Some(*price);
        }
        let listed = LIST.iter().filter(|(start, _)| fits(model, start));
        let (_, [input, output, write, read]) = listed.max_by_key(|(start, _)| start.len())?;
        Some(Price {
            input: *input,
            output: *output,
            cache_write: Some(*write),
            cache_read: Some(*read),
        })
    }

    /// Returns what tokens of a model cost, in US dollars; none where nobody says.
    #[must_use]
    pub fn cost(&self, model: &str, tokens: Tokens) -> Option<f64> {
        let price = self.of(model)?;
        let part = |count: u64, price: f64| count as f64 * price / 1e6;
        Some(
            part(tokens.input, price.input)
                + part(tokens.output, price.output)
                + part(tokens.cache_write, price.cache_write.unwrap_or(price.input))
                + part(tokens.cache_read, price.cache_read.unwrap_or(price.input)),
        )
    }
}

/// Returns whether a listed name means a model: what follows it is a date or a variant, but not
/// the digit of another version that nobody has published here.
fn fits(model: &str, start: &str) -> bool {
    let Some(rest) = model.strip_prefix(start) else {
        return false;
    };
    let mut rest = rest.chars();
    match rest.next() {
        None => true,
        // A date such as 20250514, or a word; not the version 4-9, nor 5.9.
        Some('-') => {
            let word: String = rest.take_while(|c| *c != '-').collect();
            !word.chars().all(|c| c.is_ascii_digit())
                || word.len() == 8
                || word == "0"
                || word == "1"
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_counts_and_an_unknown_version_costs_nobody_knows_what() {
        let prices = Prices::default();
        let input = |model: &str| prices.of(model).map(|price| price.input);
        assert_eq!(input("claude-opus-4-20250514"), Some(15.0));
        assert_eq!(input("claude-opus-4-1-20250805"), Some(15.0));
        assert_eq!(input("claude-opus-4-5-20251101"), Some(5.0));
        assert_eq!(input("claude-opus-4-9"), None);
        assert_eq!(input("claude-sonnet-4-20250514"), Some(3.0));
        assert_eq!(input("claude-sonnet-4-5-20250929"), Some(3.0));
        assert_eq!(input("gpt-5-codex"), Some(1.25));
        assert_eq!(input("gpt-5-mini"), Some(0.25));
        assert_eq!(input("gpt-5.9"), None);
        assert_eq!(input("llama"), None);
    }

    #[test]
    fn every_kind_of_token_has_its_price_and_own_prices_come_first() {
        let million = 1_000_000;
        let tokens = Tokens {
            input: million,
            output: million,
            cache_write: million,
            cache_read: million,
        };
        let cost = Prices::default().cost("claude-3-haiku-20240307", tokens);
        assert!((cost.unwrap() - 1.83).abs() < 1e-9, "{cost:?}");
        let price = Price {
            input: 1.0,
            output: 2.0,
            cache_write: None,
            cache_read: Some(0.5),
        };
        let own = Prices::with_own([("llama".to_owned(), price)]);
        let cost = own.cost("llama-9", tokens).unwrap();
        assert!((cost - 4.5).abs() < 1e-9, "{cost}");
    }
}
