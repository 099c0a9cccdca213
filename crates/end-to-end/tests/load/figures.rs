//! How many requests of each kind there were, how long they took, and what failed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Errors that are kept with their text; all are counted.
const ERRORS_SHOWN: usize = 20;

/// Figures of all people together.
#[derive(Debug, Default)]
pub(crate) struct Figures(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    kinds: BTreeMap<&'static str, Kind>,
    errors: Vec<String>,
    error_count: u64,
    conflicts: u64,
}

#[derive(Debug, Default)]
struct Kind {
    times_us: Vec<u32>,
    rows: u64,
}

impl Figures {
    /// Notes a request of a kind with the rows that it carried; a failure by its text.
    pub(crate) fn note<E: std::fmt::Debug>(
        &self,
        kind: &'static str,
        started: Instant,
        outcome: Result<u64, E>,
    ) {
        let took = started.elapsed();
        match outcome {
            Ok(rows) => self.add(kind, took, rows),
            Err(error) => self.error(format!("{kind}: {error:?}")),
        }
    }

    fn add(&self, kind: &'static str, took: Duration, rows: u64) {
        let mut inner = self.0.lock().unwrap();
        let kind = inner.kinds.entry(kind).or_default();
        kind.times_us
            .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        kind.rows += rows;
    }

    /// Notes what must not happen.
    pub(crate) fn error(&self, text: String) {
        let mut inner = self.0.lock().unwrap();
        inner.error_count += 1;
        if inner.errors.len() < ERRORS_SHOWN {
            inner.errors.push(text);
        }
    }

    /// Counts changes that met a concurrent one, which is no error.
    pub(crate) fn conflicts(&self, count: u64) {
        self.0.lock().unwrap().conflicts += count;
    }

    /// Returns the first errors.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.0.lock().unwrap().errors.clone()
    }

    /// Returns the number of requests that were answered.
    pub(crate) fn requests(&self) -> u64 {
        let inner = self.0.lock().unwrap();
        let counts = inner.kinds.values().map(|kind| kind.times_us.len() as u64);
        counts.sum()
    }

    /// Returns a line for each kind: requests, rows, and times in milliseconds.
    pub(crate) fn table(&self, seconds: f64) -> String {
        let mut inner = self.0.lock().unwrap();
        let mut text = format!(
            "{:<18}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
            "kind", "requests", "per s", "rows", "p50 ms", "p99 ms", "max ms"
        );
        let (mut requests, mut rows) = (0, 0);
        for (name, kind) in &mut inner.kinds {
            kind.times_us.sort_unstable();
            let count = kind.times_us.len();
            let at = |share: f64| {
                let place = (count as f64 * share) as usize;
                f64::from(kind.times_us[place.min(count - 1)]) / 1_000.0
            };
            let per_second = count as f64 / seconds;
            write!(
                text,
                "\n{name:<18}{count:>9}{per_second:>9.1}{:>9}{:>9.1}{:>9.1}{:>9.1}",
                kind.rows,
                at(0.5),
                at(0.99),
                at(1.0)
            )
            .unwrap();
            requests += count;
            rows += kind.rows;
        }
        let per_second = requests as f64 / seconds;
        let (errors, conflicts) = (inner.error_count, inner.conflicts);
        write!(
            text,
            "\n{:<18}{requests:>9}{per_second:>9.1}{rows:>9}\n{errors} errors, \
             {conflicts} conflicts",
            "all"
        )
        .unwrap();
        text
    }
}
