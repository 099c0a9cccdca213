//! Each guard of sync, taken out, makes a seed fail; with the guard the same seed holds.
//!
//! The table says which seed and what broke; `docs/GUARDS.md` is made from it. A change of the
//! engine or of the simulation may move a failure to another seed: the test then looks through
//! the next ones and names the one that it found, to be written into the table
//! (`SIMULATION_FIND=1 cargo nextest run -p coditect-simulation find_seeds` looks for all). One
//! of them alone, with its log: `SIMULATION_GUARD='stream lock' SIMULATION_SEED=N cargo nextest
//! run -p coditect-simulation replay_without_guard`.
#![expect(
    clippy::print_stdout,
    reason = "what a guard's absence breaks is the result"
)]

mod table;

use coditect_simulation::world::{Outcome, Settings};
use std::collections::{BTreeMap, BTreeSet};
use table::{Case, REAL, Run, TABLE};

/// Seeds that are tried when the one of the table does not fail any more.
const SEEDS_MAX: u64 = 150;
/// Tests that share the table, so that they run side by side.
const SHARDS: usize = 6;

fn run_without(case: &Case, seed: u64) -> Outcome {
    let mut settings = Settings::new(seed);
    (case.take_out)(&mut settings);
    case.run.simulate(settings)
}

/// Returns what a run without the guard breaks, if it breaks what the table says.
fn breaks(case: &Case, seed: u64) -> Option<Outcome> {
    let outcome = run_without(case, seed);
    let failure = outcome.failure.as_deref().unwrap_or_default();
    failure.contains(case.broke).then_some(outcome)
}

/// Shows that the guard's seed needs the guard.
fn check(case: &Case) {
    let guard = case.guard;
    let mut seeds = [case.seed].into_iter().chain(0..SEEDS_MAX);
    let found = seeds.find_map(|seed| {
        let outcome = breaks(case, seed)?;
        // With the guard the same seed holds, also where others that do the same work are out;
        // else it would show something else.
        let alone = holds(case.run, seed, case.take_out_others);
        (alone && holds(case.run, seed, |_| {})).then_some((seed, outcome))
    });
    let Some((seed, outcome)) = found else {
        panic!("without '{guard}' all {SEEDS_MAX} seeds hold: what is it for?");
    };
    println!(
        "without '{guard}' seed {seed} fails: {}",
        first_line(&outcome)
    );
    if seed != case.seed {
        println!("the table says seed {}, which holds now", case.seed);
    }
}

fn holds(run: Run, seed: u64, take_out: fn(&mut Settings)) -> bool {
    let mut settings = Settings::new(seed);
    take_out(&mut settings);
    run.simulate(settings).failure.is_none()
}

fn first_line(outcome: &Outcome) -> String {
    let failure = outcome.failure.as_deref().unwrap_or("nothing");
    let line = failure.lines().take(2).collect::<Vec<_>>().join(" ");
    line.chars().take(160).collect()
}

fn shard(number: usize) {
    TABLE.iter().skip(number).step_by(SHARDS).for_each(check);
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
    without_a_guard_seeds_fail_0 = 0;
    without_a_guard_seeds_fail_1 = 1;
    without_a_guard_seeds_fail_2 = 2;
    without_a_guard_seeds_fail_3 = 3;
    without_a_guard_seeds_fail_4 = 4;
    without_a_guard_seeds_fail_5 = 5;
}

#[test]
fn a_failure_replays_event_for_event() {
    let case = &TABLE[0];
    let (one, two) = (run_without(case, case.seed), run_without(case, case.seed));
    assert_eq!((&one.failure, &one.log_hash), (&two.failure, &two.log_hash));
}

/// Every switch that the simulation has is taken out by one line of the tables.
#[test]
fn every_switch_has_its_line() {
    let switches = |settings: &Settings| {
        let text = format!(
            "{:?} {:?} {:?}",
            settings.server, settings.device, settings.driver
        );
        let words: Vec<_> = text
            .split([' ', ',', '{', '}'])
            .map(str::to_owned)
            .collect();
        let names = words.windows(2).filter(|pair| pair[0].ends_with(':'));
        // The two halves have switches of one name: their place tells them apart.
        names.map(|pair| pair[1] == "true").collect::<Vec<_>>()
    };
    let all = switches(&Settings::new(0));
    assert!(all.iter().all(|on| *on), "all guards are on");
    let mut out = BTreeSet::new();
    for take_out in TABLE.iter().map(|case| case.take_out) {
        let mut settings = Settings::new(0);
        take_out(&mut settings);
        let off = switches(&settings)
            .into_iter()
            .enumerate()
            .filter(|(_, on)| !on);
        let before = out.len();
        out.extend(off.map(|(at, _)| at));
        assert!(
            out.len() > before,
            "each line takes out a switch of its own"
        );
    }
    assert_eq!(out.len(), all.len(), "switches without a line");
}

/// The page shows the tables as they are here.
#[test]
fn the_page_is_made_from_the_tables() {
    let mut lines = vec![
        "| guard | where | rule | seed | what broke |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    for case in TABLE {
        let Case {
            guard,
            place,
            rule,
            seed,
            broke,
            run,
            ..
        } = case;
        let run = run.name();
        lines.push(format!(
            "| {guard} | {place} | {rule} | {run} {seed} | {broke} |"
        ));
    }
    lines.push("| guard | where | rule | test | what broke |".to_owned());
    for line in REAL {
        let (guard, place, rule) = (line.guard, line.place, line.rule);
        let (test, broke) = (line.test, line.broke);
        lines.push(format!(
            "| {guard} | {place} | {rule} | `{test}` | {broke} |"
        ));
    }
    let page = include_str!("../../../docs/GUARDS.md");
    let shown: BTreeSet<&str> = page.lines().collect();
    let missing: Vec<_> = lines
        .iter()
        .filter(|line| !shown.contains(line.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/GUARDS.md lacks {missing:#?}\nall lines:\n{}",
        lines.join("\n")
    );
}

/// The tests that the second table names are there.
#[test]
fn the_tests_of_the_real_server_exist() {
    let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for line in REAL {
        let text = std::fs::read_to_string(crates.join(line.file)).expect(line.file);
        let test = format!("fn {}()", line.test);
        let (before, _) = text.split_once(&test).expect(&test);
        let attribute = before.trim_end().trim_end_matches("async").trim_end();
        let attribute = attribute.lines().last().unwrap_or_default().trim();
        assert!(
            attribute.starts_with("#[") && attribute.contains("test"),
            "{test} is no test"
        );
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only configuration of these tests"
)]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Looks for the seed of each guard and for what breaks; prints them for the table.
#[test]
fn find_seeds() {
    let Some(wanted) = setting("SIMULATION_FIND") else {
        println!("nothing to find: SIMULATION_FIND says how many seeds");
        return;
    };
    let seeds_max: u64 = wanted.parse().unwrap_or(SEEDS_MAX);
    let only = setting("SIMULATION_GUARD");
    let broke = setting("SIMULATION_BROKE");
    let part: usize = setting("SIMULATION_PART")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let lines = TABLE.iter();
    let lines = lines.map(|case| (case.guard, case.take_out, case.take_out_others));
    let mut held = BTreeMap::new();
    // Two may look at once, each for every second guard.
    let wanted = |guard: &str| {
        only.as_ref()
            .is_none_or(|only| only.split(';').any(|it| it == guard))
    };
    let lines = lines.filter(|(guard, ..)| wanted(guard));
    for (guard, take_out, others) in lines.skip(part).step_by(2) {
        let tries = (0..seeds_max).flat_map(|seed| Run::ALL.map(|run| (seed, run)));
        let found = tries.into_iter().find_map(|(seed, run)| {
            let mut settings = Settings::new(seed);
            take_out(&mut settings);
            let outcome = run.simulate(settings);
            let failure = outcome.failure.as_ref()?;
            if broke.as_ref().is_some_and(|broke| !failure.contains(broke)) {
                return None;
            }
            let whole = *held
                .entry((seed, run))
                .or_insert_with(|| holds(run, seed, |_| {}));
            (whole && holds(run, seed, others)).then(|| (run, seed, first_line(&outcome)))
        });
        match found {
            Some((run, seed, line)) => println!("FOUND {guard}: {run:?} {seed}: {line}"),
            None => println!("NONE {guard}: {seeds_max} seeds of each kind hold"),
        }
    }
}

#[test]
fn replay_without_guard() {
    let guard = setting("SIMULATION_GUARD").unwrap_or_default();
    let seed = setting("SIMULATION_SEED").and_then(|seed| seed.parse().ok());
    let mut cases = TABLE.iter();
    let case = cases.find(|case| case.guard == guard);
    let (Some(case), Some(seed)) = (case, seed) else {
        println!("nothing to replay: SIMULATION_GUARD and SIMULATION_SEED say what");
        return;
    };
    let mut settings = Settings {
        complete_log: true,
        ..Settings::new(seed)
    };
    (case.take_out)(&mut settings);
    let outcome = case.run.simulate(settings);
    println!("{}", outcome.log);
    panic!("without {guard} seed {seed}: {:?}", outcome.failure);
}
