use super::*;
use uuid::Uuid;

const OWN: Scope = Scope::User(Uuid::from_u128(1));

/// A scheduler and its clock.
struct World {
    scheduler: Scheduler,
    now_ms: i64,
}

impl World {
    /// A machine that is logged in and hears hints; its first run is over.
    fn started() -> Self {
        let mut world = Self {
            scheduler: Scheduler::new(),
            now_ms: 1_000_000,
        };
        world.note(Event::Able(true));
        world.note(Event::Connected);
        assert!(world.run().whole);
        world
    }

    fn note(&mut self, event: Event) {
        self.scheduler.note(event, self.now_ms);
    }

    fn next(&mut self) -> Step {
        self.scheduler.next(self.now_ms)
    }

    /// Lets time pass until something is due.
    fn wake(&mut self) -> Step {
        loop {
            match self.next() {
                Step::Wait(Some(at)) => {
                    assert!(at > self.now_ms, "waiting for the past");
                    self.now_ms = at;
                }
                step => return step,
            }
        }
    }

    /// Expects a run at this moment, and lets it succeed.
    fn run(&mut self) -> Plan {
        match self.next() {
            Step::Run(plan) => {
                self.note(Event::Ran(Outcome::Done));
                plan
            }
            step => panic!("{step:?}"),
        }
    }

    fn hint(&mut self, echo: bool) {
        self.note(Event::Hinted {
            scope: OWN,
            file: File::Org,
            echo,
        });
    }
}

fn push(file: File) -> Plan {
    Plan {
        push: vec![file],
        ..Plan::default()
    }
}

fn compare(file: File) -> Plan {
    Plan {
        compare: vec![file],
        ..Plan::default()
    }
}

#[test]
fn a_decision_goes_out_at_once_and_messages_after_a_pause() {
    let mut world = World::started();
    world.note(Event::Changed(File::Org));
    assert_eq!(world.run(), push(File::Org));
    let began_ms = world.now_ms;
    world.note(Event::Changed(File::Sessions));
    // Somebody goes on writing, twice a second.
    while world.next() != Step::Run(push(File::Sessions)) {
        world.now_ms += 500;
        world.note(Event::Changed(File::Sessions));
    }
    assert_eq!(world.now_ms - began_ms, 15_000);
    world.note(Event::Ran(Outcome::Done));
    // The last change is followed by quiet.
    let last_ms = world.now_ms;
    world.note(Event::Changed(File::Sessions));
    assert_eq!(world.wake(), Step::Run(push(File::Sessions)));
    assert_eq!(world.now_ms - last_ms, 2_000);
}

#[test]
fn a_day_without_changes_compares_as_the_tiers_say() {
    let mut world = World::started();
    let (mut count, end_ms) = (BTreeMap::new(), world.now_ms + 24 * 60 * MINUTE);
    loop {
        let step = world.wake();
        if world.now_ms > end_ms {
            break;
        }
        let Step::Run(plan) = step else {
            panic!("{step:?}")
        };
        assert!(plan.push.is_empty() && plan.pull.is_empty() && !plan.whole);
        for file in plan.compare {
            *count.entry(file.as_str()).or_insert(0) += 1;
        }
        world.note(Event::Ran(Outcome::Done));
    }
    let expected = [
        ("org", 288),
        ("platform", 1),
        ("projects", 48),
        ("sessions", 96),
    ];
    assert_eq!(count, BTreeMap::from(expected));
}

#[test]
fn without_hints_it_looks_more_often() {
    let mut world = World::started();
    world.note(Event::Lost);
    let began_ms = world.now_ms;
    assert_eq!(world.wake(), Step::Run(compare(File::Org)));
    assert_eq!(world.now_ms - began_ms, 60_000);
}

#[test]
fn a_hint_is_followed_at_once_and_an_own_echo_later() {
    let mut world = World::started();
    world.hint(false);
    let pull = Plan {
        pull: vec![(OWN, File::Org)],
        ..Plan::default()
    };
    assert_eq!(world.run(), pull);
    let began_ms = world.now_ms;
    world.hint(true);
    world.hint(true);
    assert_eq!(world.wake(), Step::Run(pull.clone()));
    assert_eq!(world.now_ms - began_ms, ECHO_DELAY_MS);
    world.note(Event::Ran(Outcome::Done));
    // News of others makes the echo due as well.
    world.hint(true);
    world.hint(false);
    assert_eq!(world.run(), pull);
}

#[test]
fn what_a_run_without_an_answer_was_for_is_tried_again_with_growing_delays() {
    let mut world = World::started();
    world.note(Event::Changed(File::Org));
    world.hint(false);
    let mut delays = Vec::new();
    for _ in 0..4 {
        let Step::Run(plan) = world.wake() else {
            panic!("nothing is due")
        };
        assert_eq!((plan.push.len(), plan.pull.len()), (1, 1));
        let failed_ms = world.now_ms;
        // 2^64 - 1 modulo the span is what the delay is; it must stay below it.
        world.note(Event::Ran(Outcome::Failed(u64::MAX)));
        let Step::Wait(Some(at)) = world.next() else {
            panic!("it must wait")
        };
        delays.push(at - failed_ms);
    }
    assert!(
        delays
            .iter()
            .zip([1, 2, 4, 8])
            .all(|(ms, s)| *ms <= s * 1_000)
    );
    // The connection stands again: no reason to wait any longer.
    world.note(Event::Connected);
    assert_eq!(world.run().push, [File::Org]);
}

#[test]
fn another_process_that_syncs_is_waited_for() {
    let mut world = World::started();
    world.note(Event::Changed(File::Org));
    assert_eq!(world.next(), Step::Run(push(File::Org)));
    world.note(Event::Ran(Outcome::Leased));
    let began_ms = world.now_ms;
    assert_eq!(world.wake(), Step::Run(push(File::Org)));
    assert_eq!(world.now_ms - began_ms, LEASE_DELAY_MS);
}

#[test]
fn a_long_run_gives_way_to_a_decision() {
    let mut world = World::started();
    world.note(Event::Asked);
    let Step::Run(plan) = world.next() else {
        panic!("nothing is due")
    };
    assert!(plan.whole && !world.scheduler.is_urgent(world.now_ms));
    world.note(Event::Changed(File::Org));
    assert!(world.scheduler.is_urgent(world.now_ms));
    assert_eq!(world.next(), Step::Wait(None));
    world.note(Event::Ran(Outcome::BrokenOff));
    assert_eq!(world.run(), push(File::Org));
    assert!(matches!(world.wake(), Step::Run(plan) if plan.whole));
}

#[test]
fn transcripts_are_read_while_the_agent_writes_and_without_a_server() {
    let mut world = World {
        scheduler: Scheduler::new(),
        now_ms: 0,
    };
    let path = PathBuf::from("/a.jsonl");
    let mut imports = 0;
    for _ in 0..100 {
        world.note(Event::Transcript(path.clone()));
        world.now_ms += 100;
        if world.next() == Step::Import(vec![path.clone()]) {
            imports += 1;
        }
    }
    assert!((4..=6).contains(&imports), "{imports}");
    world.note(Event::Transcript(path.clone()));
    assert_eq!(world.wake(), Step::Import(vec![path]));
    // Without a login nothing else is ever due.
    assert_eq!(world.wake(), Step::Wait(None));
}

#[test]
fn a_session_ends_when_it_is_said_or_when_nothing_is_written_any_more() {
    let mut world = World::started();
    world.note(Event::Transcript(PathBuf::from("/a.jsonl")));
    let began_ms = world.now_ms;
    assert!(matches!(world.wake(), Step::Import(_)));
    assert_eq!(world.wake(), Step::Run(compare(File::Sessions)));
    assert_eq!(world.now_ms - began_ms, SESSION_QUIET_MS);
    world.note(Event::Ran(Outcome::Done));
    world.note(Event::SessionEnded);
    assert_eq!(world.run(), compare(File::Sessions));
    world.note(Event::SessionStarted);
    let plan = world.run();
    assert_eq!(plan.compare, [File::Org, File::Sessions, File::Projects]);
}

#[test]
fn nothing_is_sent_while_there_is_no_login() {
    let mut world = World::started();
    world.note(Event::Able(false));
    world.note(Event::Changed(File::Org));
    assert_eq!(world.next(), Step::Wait(None));
    world.note(Event::Able(true));
    assert!(world.run().whole);
    assert!(matches!(world.next(), Step::Wait(Some(_))));
}
