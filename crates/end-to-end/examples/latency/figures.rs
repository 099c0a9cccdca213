//! What the rig prints.

use std::time::{Duration, Instant};

use crate::eyes::Made;
use crate::trace::{Moment, Records};

/// Prints how long the decisions took.
pub(crate) fn print(what: &str, made: &[Made]) {
    let all = made.iter().flat_map(|made| {
        made.seen
            .values()
            .map(|when| when.saturating_duration_since(made.at))
    });
    let mut all: Vec<Duration> = all.collect();
    all.sort_unstable();
    let lost: usize = made.iter().map(|made| made.lost).sum();
    println!(
        "{what}: {} arrivals, {lost} lost; p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        all.len(),
        at(&all, 50),
        at(&all, 90),
        at(&all, 99),
        at(&all, 100),
    );
}

/// Returns a percentile of sorted times, in milliseconds.
fn at(sorted: &[Duration], percent: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let index = (sorted.len() * percent / 100).min(last);
    sorted
        .get(index)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
}

/// Prints where the time went: the median of each part of the way.
pub(crate) fn print_shares(made: &[Made], records: &Records) {
    let mut parts: [Vec<Duration>; 5] = Default::default();
    for made in made {
        let writer = records.of(made.writer);
        for (reader, visible) in &made.seen {
            let reader = records.of(*reader);
            let Some(times) = way(&writer, &reader, made.at, *visible) else {
                continue;
            };
            for (part, time) in parts.iter_mut().zip(times) {
                part.push(time);
            }
        }
    }
    let names = [
        "noticed by the daemon",
        "adopted, batch stored",
        "pushed, hint arrived",
        "pulled",
        "applied",
    ];
    let medians = parts.map(|mut part| {
        part.sort_unstable();
        at(&part, 50)
    });
    let sum: f64 = medians.iter().sum();
    for (name, median) in names.iter().zip(medians) {
        println!(
            "  {name:<24} {median:>6.2} ms  {:>3.0} %",
            100.0 * median / sum
        );
    }
}

/// Returns how long each part of one decision's way took.
fn way(
    writer: &[(Instant, Moment)],
    reader: &[(Instant, Moment)],
    made: Instant,
    visible: Instant,
) -> Option<[Duration; 5]> {
    let first = |of: &[(Instant, Moment)], moment, after: Instant| {
        let mut found = of
            .iter()
            .filter(|(at, what)| *what == moment && *at >= after);
        found.next().map(|(at, _)| *at)
    };
    let noticed = first(writer, Moment::Noticed, made)?;
    let sent = first(writer, Moment::Pushing, noticed)?;
    let hinted = first(reader, Moment::Hinted, sent)?;
    let pulled = first(reader, Moment::Pulled, hinted)?;
    let steps = [made, noticed, sent, hinted, pulled, visible];
    if visible < pulled {
        return None;
    }
    Some([0, 1, 2, 3, 4].map(|n| steps[n + 1] - steps[n]))
}
