//! Seeds of the simulation. 500 in an ordinary run, more with `SIMULATION_SEEDS`; one alone,
//! with its log, with `SIMULATION_SEED=N cargo nextest run -p coditect-simulation replay`.
#![expect(
    clippy::print_stdout,
    reason = "the histogram is a result of these tests"
)]

use coditect_simulation::world::{Outcome, Settings, simulate};
use std::collections::BTreeMap;

/// Seeds of an ordinary run.
const SEEDS: u64 = 500;
/// Tests that share them, so that they run side by side.
const SHARDS: u64 = 10;

#[expect(
    clippy::disallowed_methods,
    reason = "the only configuration of these tests"
)]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(seed: u64) -> Outcome {
    simulate(Settings::new(seed))
}

/// Runs every tenth seed and prints what happened.
fn shard(number_of_shard: u64) {
    let seeds = number("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut ran = 0;
    for seed in (number_of_shard..seeds).step_by(SHARDS as usize) {
        let outcome = run(seed);
        ran += 1;
        for (what, count) in &outcome.counts {
            let (total, in_seeds) = counts.entry(what).or_default();
            *total += count;
            *in_seeds += u64::from(*count > 0);
        }
        if let Some(failure) = outcome.failure {
            // At once: a long run need not come to its end to be looked at.
            let failure: String = failure.chars().take(2_000).collect();
            println!("seed {seed} failed: {failure}");
            println!("  SIMULATION_SEED={seed} cargo nextest run -p coditect-simulation replay");
            failures.push(seed);
        }
    }
    println!("{ran} seeds; what happened, how often, in how many of them:");
    for (what, (total, in_seeds)) in &counts {
        println!("{total:>9} {in_seeds:>5}  {what}");
    }
    assert!(failures.is_empty(), "seeds failed: {failures:?}");
}

macro_rules! shards {
    ($($name:ident = $number:literal;)+) => {
        $(#[test]
        fn $name() {
            shard($number);
        })+
    };
}

shards! {
    seeds_ending_in_0 = 0;
    seeds_ending_in_1 = 1;
    seeds_ending_in_2 = 2;
    seeds_ending_in_3 = 3;
    seeds_ending_in_4 = 4;
    seeds_ending_in_5 = 5;
    seeds_ending_in_6 = 6;
    seeds_ending_in_7 = 7;
    seeds_ending_in_8 = 8;
    seeds_ending_in_9 = 9;
}

#[test]
fn a_seed_replays_event_for_event() {
    for seed in [3, 14, 159] {
        let (one, two) = (run(seed), run(seed));
        assert_eq!(one.log_hash, two.log_hash, "seed {seed}");
        assert_eq!(one.counts, two.counts);
    }
    assert_ne!(run(3).log_hash, run(14).log_hash);
}

#[test]
fn replay() {
    let seed = number("SIMULATION_SEED").unwrap_or(0);
    let outcome = simulate(Settings {
        complete_log: true,
        ..Settings::new(seed)
    });
    if let Some(failure) = outcome.failure {
        println!("{}", outcome.log);
        panic!("seed {seed} failed: {failure}");
    }
}
