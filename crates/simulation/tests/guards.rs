//! Each guard of sync, taken out, makes a seed fail, and that seed fails again in the same way.
//!
//! The table says which seed and what broke. A change of the engine or of the simulation may move
//! a failure to another seed: the test then looks through the next ones and names the one that it
//! found, to be written into the table. One of them alone, with its log:
//! `SIMULATION_GUARD='stream lock' SIMULATION_SEED=N cargo nextest run -p coditect-simulation
//! replay_without_guard`.
#![expect(
    clippy::print_stdout,
    reason = "what a guard's absence breaks is the result"
)]

use coditect_simulation::world::{Outcome, Settings, simulate};

/// Seeds that are tried for each guard.
const SEEDS_MAX: u64 = 150;

/// A guard, how it is taken out, a seed that fails then, and what broke in it.
struct Case {
    guard: &'static str,
    take_out: fn(&mut Settings),
    seed: u64,
    broke: &'static str,
}

const TABLE: &[Case] = &[
    Case {
        guard: "stream lock",
        take_out: |settings| settings.server.stream_lock = false,
        seed: 45,
        broke: "device None",
    },
    Case {
        guard: "mark number",
        take_out: |settings| settings.device.mark_number = false,
        seed: 0,
        broke: "differs from the server",
    },
    Case {
        guard: "base",
        take_out: |settings| settings.device.base = false,
        seed: 0,
        broke: "was never taken and is nowhere",
    },
    Case {
        guard: "token",
        take_out: |settings| settings.server.token = false,
        seed: 4,
        broke: "differs from the server",
    },
    Case {
        guard: "epoch",
        take_out: |settings| {
            settings.server.epoch = false;
            settings.device.epoch = false;
        },
        seed: 5,
        broke: "server has none",
    },
];

fn run_without(case: &Case, seed: u64) -> Outcome {
    let mut settings = Settings::new(seed);
    (case.take_out)(&mut settings);
    simulate(settings)
}

fn breaks(case: &Case, seed: u64) -> bool {
    let failure = run_without(case, seed).failure.unwrap_or_default();
    failure.contains(case.broke)
}

/// Finds the seed of a guard's case and shows that it needs the guard.
fn check(guard: &str) {
    let case = TABLE.iter().find(|case| case.guard == guard);
    let case = case.expect("the table has the guard");
    let mut seeds = [case.seed].into_iter().chain(0..SEEDS_MAX);
    // With the guard the same seed holds; else it would show something else.
    let needs_guard =
        |seed: &u64| breaks(case, *seed) && simulate(Settings::new(*seed)).failure.is_none();
    let Some(seed) = seeds.find(needs_guard) else {
        panic!("without {guard} all {SEEDS_MAX} seeds hold: what is it for?");
    };
    let (one, two) = (run_without(case, seed), run_without(case, seed));
    assert_eq!(
        (&one.failure, &one.log_hash),
        (&two.failure, &two.log_hash),
        "it replays"
    );
    let failure: String = one.failure.unwrap_or_default().chars().take(300).collect();
    println!("without {guard} seed {seed} fails: {failure}");
    if seed != case.seed {
        println!("the table says seed {}, which holds now", case.seed);
    }
}

#[test]
fn without_the_stream_lock_a_reader_misses_rows() {
    check("stream lock");
}

#[test]
fn without_the_mark_number_an_edit_during_a_push_is_lost() {
    check("mark number");
}

#[test]
fn without_the_base_a_pull_overwrites_an_edit() {
    check("base");
}

#[test]
fn without_the_token_copies_and_set_backs_go_unnoticed() {
    check("token");
}

#[test]
fn without_the_epoch_positions_of_another_history_are_taken() {
    check("epoch");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only configuration of these tests"
)]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[test]
fn replay_without_guard() {
    let guard = setting("SIMULATION_GUARD").unwrap_or_default();
    let seed = setting("SIMULATION_SEED").and_then(|seed| seed.parse().ok());
    let case = TABLE.iter().find(|case| case.guard == guard);
    let (Some(case), Some(seed)) = (case, seed) else {
        println!("nothing to replay: SIMULATION_GUARD and SIMULATION_SEED say what");
        return;
    };
    let mut settings = Settings {
        complete_log: true,
        ..Settings::new(seed)
    };
    (case.take_out)(&mut settings);
    let outcome = simulate(settings);
    println!("{}", outcome.log);
    panic!("without {guard} seed {seed}: {:?}", outcome.failure);
}
