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

const SCENARIOS: [Named; 18] = [
    ("set back", set_back),
    ("copied", copied),
    ("restored", restored),
    ("reader", |_| Scenario::Reader),
    ("refused", |_| Scenario::Refused(true)),
    ("emptied", |_| Scenario::Emptied),
    ("late page", |_| Scenario::LatePage),
    ("late reply", |_| Scenario::LateReply),
    ("counted", |_| Scenario::Counted),
    ("reimported", |_| Scenario::Reimported),
    ("foreign", |_| Scenario::Foreign),
    ("deleted", |_| Scenario::Deleted),
    ("unanswered", |_| Scenario::Unanswered),
    ("fence cut", |_| Scenario::FenceCut),
    ("late part", |_| Scenario::LatePart),
    ("lost part", |_| Scenario::LostPart),
    ("deleted first", |_| Scenario::DeletedFirst),
    ("edited damage", |_| Scenario::EditedDamage),
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
    scenario_of_a_reader_0 = "reader", 0;
    scenario_of_a_queue_emptied_0 = "emptied", 0;
    scenario_of_a_late_page_0 = "late page", 0;
    scenario_of_a_late_reply_0 = "late reply", 0;
    scenario_of_a_count_beside_an_edit_0 = "counted", 0;
    scenario_of_a_fact_imported_again_0 = "reimported", 0;
    scenario_of_a_row_of_two_devices_0 = "foreign", 0;
    scenario_of_a_delete_before_a_return_0 = "deleted", 0;
    scenario_of_an_unanswered_batch_0 = "unanswered", 0;
    scenario_of_a_fence_cut_off_0 = "fence cut", 0;
    scenario_of_a_part_that_comes_late_0 = "late part", 0;
    scenario_of_a_part_that_is_lost_0 = "lost part", 0;
    scenario_of_a_delete_of_what_comes_back_0 = "deleted first", 0;
    scenario_of_an_edit_of_a_damaged_row_0 = "edited damage", 0;
}

/// With one row in a hundred refused for good, the rest takes no longer than without, and each
/// refused row is shown with its reason.
#[test]
fn scenario_of_refused_rows() {
    let wanted = setting("SCENARIO_SEEDS").and_then(|seeds| seeds.parse().ok());
    let took = |outcome: &Outcome| outcome.counts["milliseconds until the rest was sent"];
    let (mut longest, mut refused, mut sum) = (0, 0, 0);
    let seeds = wanted.unwrap_or(SEEDS);
    for seed in 0..seeds {
        let [with, without] = [true, false].map(|refuses| {
            let outcome = play(Scenario::Refused(refuses), Settings::new(seed));
            assert_eq!(outcome.failure, None, "refused seed {seed}");
            outcome
        });
        assert!(
            took(&with) <= took(&without),
            "seed {seed}: the rest was slowed"
        );
        let shown = with.counts["refused rows shown with their reason"];
        assert_eq!(shown, with.counts["rows refused for good"]);
        refused += shown;
        sum += took(&with);
        longest = longest.max(took(&with));
    }
    println!(
        "{seeds} seeds, each with and without refusals: {refused} rows refused, all shown; the \
         rest took as long as without: {} ms on average, {longest} ms at most",
        sum / seeds.max(1)
    );
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
