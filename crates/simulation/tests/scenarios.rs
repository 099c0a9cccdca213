//! Scenarios: in each run one thing surely happens. A few seeds of each in an ordinary run,
//! `SCENARIO_SEEDS` of each in a long one. One alone, with its log:
//! `SCENARIO='set back' SIMULATION_SEED=N cargo nextest run -p coditect-simulation
//! replay_scenario`.
#![expect(
    clippy::print_stdout,
    reason = "what happened is a result of these tests"
)]

use coditect_protocol::catalogue::File;
use coditect_simulation::world::{Outcome, Return, Scenario, Settings, play};
use std::collections::BTreeMap;

/// Seeds of each scenario in an ordinary run.
const SEEDS: u64 = 24;
/// Tests that share them.
const SHARDS: u64 = 3;

#[expect(
    clippy::disallowed_methods,
    reason = "the only configuration of these tests"
)]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Variants take turns.
fn set_back(seed: u64) -> Scenario {
    Scenario::ServerSetBack(Return::ALL[(seed % 4) as usize])
}

fn copied(_: u64) -> Scenario {
    Scenario::FolderCopied
}

/// Files take turns.
fn restored(seed: u64) -> Scenario {
    Scenario::FileRestored(File::ALL[(seed % 4) as usize])
}

/// A scenario's name, and what it is for a seed.
type Named = (&'static str, fn(u64) -> Scenario);

const SCENARIOS: [Named; 3] = [
    ("set back", set_back),
    ("copied", copied),
    ("restored", restored),
];

fn run(name: &str, seed: u64, complete_log: bool) -> Outcome {
    let (_, scenario) = SCENARIOS
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a scenario has that name");
    let settings = Settings {
        complete_log,
        ..Settings::new(seed)
    };
    play(scenario(seed), settings)
}

fn shard(name: &str, number_of_shard: u64) {
    let wanted = setting("SCENARIO_SEEDS").and_then(|seeds| seeds.parse().ok());
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut ran = 0;
    for seed in (number_of_shard..wanted.unwrap_or(SEEDS)).step_by(SHARDS as usize) {
        let outcome = run(name, seed, false);
        ran += 1;
        for (what, count) in &outcome.counts {
            let (total, in_seeds) = counts.entry(what).or_default();
            *total += count;
            *in_seeds += u64::from(*count > 0);
        }
        if let Some(failure) = outcome.failure {
            failures.push((seed, failure));
        }
    }
    println!("{name}: {ran} seeds; what happened, how often, in how many of them:");
    for (what, (total, in_seeds)) in &counts {
        println!("{total:>9} {in_seeds:>5}  {what}");
    }
    for (seed, failure) in &failures {
        let failure: String = failure.chars().take(2_000).collect();
        println!("{name} seed {seed} failed: {failure}");
        println!(
            "  SCENARIO='{name}' SIMULATION_SEED={seed} cargo nextest run -p coditect-simulation \
             replay_scenario"
        );
    }
    let seeds: Vec<_> = failures.iter().map(|(seed, _)| *seed).collect();
    assert!(seeds.is_empty(), "{name}: seeds failed: {seeds:?}");
}

macro_rules! shards {
    ($($name:ident = $scenario:literal, $number:literal;)+) => {
        $(#[test]
        fn $name() {
            shard($scenario, $number);
        })+
    };
}

shards! {
    scenario_of_a_server_set_back_0 = "set back", 0;
    scenario_of_a_server_set_back_1 = "set back", 1;
    scenario_of_a_server_set_back_2 = "set back", 2;
    scenario_of_a_folder_copied_0 = "copied", 0;
    scenario_of_a_folder_copied_1 = "copied", 1;
    scenario_of_a_folder_copied_2 = "copied", 2;
    scenario_of_a_file_restored_0 = "restored", 0;
    scenario_of_a_file_restored_1 = "restored", 1;
    scenario_of_a_file_restored_2 = "restored", 2;
}

#[test]
fn replay_scenario() {
    let name = setting("SCENARIO").unwrap_or_else(|| "set back".to_owned());
    let seed = setting("SIMULATION_SEED").and_then(|seed| seed.parse().ok());
    let outcome = run(&name, seed.unwrap_or(0), true);
    if let Some(failure) = outcome.failure {
        println!("{}", outcome.log);
        panic!("{name}: seed {seed:?} failed: {failure}");
    }
}
