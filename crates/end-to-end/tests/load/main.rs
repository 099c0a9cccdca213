//! Many people at once, for as long as asked: nothing may fail, and in the end all replicas are
//! equal.
//!
//! Each person has a licence and one or two devices, which are real ones: the engine, its SQLite
//! files and its HTTP client, in this process. They write messages, decisions and learnings, sync,
//! and use the views. `make test` runs a few rounds; `make load` runs 100 people for 10 minutes.
//!
//!   LOAD_USERS, LOAD_MINUTES, LOAD_PAUSE_MS (a person's rest between two rounds), and
//!   CODITECT_TEST_PROGRAMS (the folder of the server, such as target/release)
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

mod figures;
mod memory;
mod person;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use coditect_end_to_end::{Server, rounds_asked_for};

use figures::Figures;
use memory::Memory;
use person::{Account, Person, Standing};

/// Rounds of each person when no time is asked for.
const ROUNDS: u64 = 4;
/// People when no number is asked for.
const USERS: u64 = 6;

/// What ends the work: a number of rounds, or the clock.
#[derive(Debug)]
struct Limit {
    rounds: Option<u64>,
    over: AtomicBool,
}

impl Limit {
    fn allows(&self, round: u64) -> bool {
        match self.rounds {
            Some(rounds) => round < rounds,
            None => !self.over.load(Ordering::Relaxed),
        }
    }
}

/// What all people share.
#[derive(Debug)]
struct Shared {
    limit: Limit,
    pause_ms: u64,
    figures: Arc<Figures>,
    /// The people and the one who watches.
    together: Barrier,
}

/// A person's day: works until the limit, then syncs until nothing is left.
fn live(account: Account, shared: &Shared) -> Vec<Standing> {
    let mut person = Person::log_in(account, &shared.figures);
    shared.together.wait();
    let mut round = 0;
    while shared.limit.allows(round) {
        person.work(round);
        round += 1;
        // tidy: may sleep: people rest; how long is part of the load
        std::thread::sleep(person.rest(shared.pause_ms));
    }
    // What the last one pushed is on the way to the others.
    person.sync_all();
    shared.together.wait();
    person.settle();
    shared.together.wait();
    person.finish()
}

#[test]
fn many_people_at_once_lose_nothing() {
    let minutes = rounds_asked_for("LOAD_MINUTES");
    let users = rounds_asked_for("LOAD_USERS").unwrap_or(USERS);
    let pause = match minutes {
        Some(_) => rounds_asked_for("LOAD_PAUSE_MS").unwrap_or(1_000),
        None => 0,
    };
    let server = Server::start();
    let accounts = accounts(&server, users);
    let shared = Arc::new(Shared {
        limit: Limit {
            rounds: minutes.is_none().then_some(ROUNDS),
            over: AtomicBool::new(false),
        },
        pause_ms: pause,
        figures: Arc::default(),
        together: Barrier::new(accounts.len() + 1),
    });
    let people: Vec<_> = accounts
        .into_iter()
        .map(|account| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || live(account, &shared))
        })
        .collect();
    let memory = Memory::of(&server);
    println!("{}", memory.line("start"));
    shared.together.wait();
    let started = Instant::now();
    if let Some(minutes) = minutes {
        for minute in 1..=minutes {
            let due = Duration::from_secs(60 * minute);
            // tidy: may sleep: the figures are of each minute
            std::thread::sleep(due.saturating_sub(started.elapsed()));
            println!("{}", memory.line(&format!("minute {minute}")));
        }
        shared.limit.over.store(true, Ordering::Relaxed);
    }
    shared.together.wait();
    let seconds = started.elapsed().as_secs_f64();
    shared.together.wait();
    let figures = &shared.figures;
    println!("{}", memory.line("end"));
    let devices: Vec<_> = people
        .into_iter()
        .flat_map(|person| person.join().unwrap())
        .collect();
    println!("{users} people, {} devices, {seconds:.0} s", devices.len());
    println!("{}", figures.table(seconds));
    let apart: Vec<_> = devices
        .iter()
        .filter(|device| device.converged != Some(true) || device.queued > 0)
        .collect();
    let rows: u64 = devices.iter().map(|device| device.rows).sum();
    println!(
        "{} of {} replicas equal to the server's digests, {rows} rows in them",
        devices.len() - apart.len(),
        devices.len()
    );
    let faults = server.faults_in_log();
    assert_eq!(figures.errors(), [""; 0], "errors of clients");
    assert_eq!(faults, [""; 0], "faults in the server's log");
    assert!(apart.is_empty(), "{apart:?}");
    assert!(rows > 0 && figures.requests() > users);
}

/// Makes the people: half of them in the first organisation, half in another one.
fn accounts(server: &Server, users: u64) -> Vec<Account> {
    let first = server.bootstrap("tenant_id");
    let other = server.admin(&["tenant", "create", "--name", "Other"]);
    let other = other["tenant_id"].as_str().unwrap().to_owned();
    let account = |n: u64| {
        let tenant = if n.is_multiple_of(2) { &first } else { &other };
        let email = format!("person{n}@example.com");
        let (_, license) = server.user(tenant, &email, "member");
        Account {
            number: n,
            server: server.url().to_owned(),
            license,
        }
    };
    (0..users).map(account).collect()
}
