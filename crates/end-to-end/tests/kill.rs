//! `kill -9` of the client, the server and PostgreSQL while a batch is out, at chosen moments:
//! what was acknowledged stays, nothing comes twice, and all sides end up equal.
//!
//! A proxy stops the exchange at a byte, a lock stops the server's transaction; then the kill
//! comes. `KILL_ROUNDS` says how many.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use coditect_end_to_end::{
    Device, Held, Ledger, Proxy, Server, Shell, Stop, assert_same, fraction, pause,
    rounds_asked_for,
};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::time::{Duration, Instant};

/// Rounds of an ordinary run: every target at every moment once.
const ROUNDS: u64 = 21;
/// From so many rounds on the number of batches that were out is asserted.
const ROUNDS_OF_PROOF: u64 = 200;
/// Batches that have to be out when a target is killed, in a proof.
const IN_FLIGHT_MIN: u32 = 50;
/// Rows that a round adds.
const ROWS: u64 = 24;
const PUSH: &str = "/api/v1/sync/push";
/// Makes every commit that touches decisions wait for a lock that the rig may hold.
const GATE: &str = "
    create function public.rig_gate() returns trigger language plpgsql as
    $$ begin perform pg_advisory_xact_lock_shared(4711); return null; end $$;
    create constraint trigger rig_gate after insert or update on org_decisions
    deferrable initially deferred for each row execute function public.rig_gate()";
/// Whom the rig's own connection keeps waiting.
const WAITING: &str = "select pid from pg_stat_activity
    where pg_backend_pid() = any (pg_blocking_pids(pid));";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Client,
    Server,
    Postgres,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// The server lacks the request's last byte.
    RequestCut,
    /// The server's transaction waits for the stream's lock.
    StreamLocked,
    /// All is written, and the commit waits.
    Committing,
    /// The server has committed and answered; the answer is on its way.
    ReplyHeld,
    /// The client has half of the answer.
    ReplyCut,
    /// The client has the answer and is about to store it.
    Settling,
    /// Whatever happens at that time.
    Any,
}

/// What the kill met, read from what it left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hit {
    /// A batch was out, and the server had not got all of it.
    Sending,
    /// The server had all of the batch and had not committed it.
    InTransaction,
    /// The server had committed the batch and the device did not know yet.
    Committed,
    /// A batch was out, and nobody knows how far it had got; not counted as in flight.
    Unknown,
    /// No batch was out.
    Nothing,
}

const TARGETS: [Target; 3] = [Target::Client, Target::Server, Target::Postgres];
const HITS: [Hit; 5] = [
    Hit::Sending,
    Hit::InTransaction,
    Hit::Committed,
    Hit::Unknown,
    Hit::Nothing,
];

/// What is killed while it is stopped.
struct Stopped {
    client: Child,
    held: Held,
    /// A connection that holds a lock, with PostgreSQL's process that waits for it.
    lock: Option<(Shell, Option<u32>)>,
}

struct World {
    server: Server,
    proxy: Proxy,
    a: Device,
    b: Device,
    ledger: Ledger,
    /// What the decisions must be in the end.
    expected: BTreeMap<String, String>,
    /// How long a sync of a round's rows takes here.
    usual: Duration,
    hits: BTreeMap<(Target, Moment, Hit), u32>,
}

#[test]
fn acknowledged_rows_survive_kill_9_of_every_part() {
    let rounds = rounds_asked_for("KILL_ROUNDS").unwrap_or(ROUNDS);
    let mut world = World::new();
    for round in 0..rounds {
        world.round(round);
    }
    world.a.converge();
    world.b.converge();
    world.a.converge();
    world.ledger.keep(&world.a);
    world.ledger.assert_stored(&world.server);
    world.assert_all_there_once();
    world.print(rounds);
    if rounds >= ROUNDS_OF_PROOF {
        for target in TARGETS {
            let in_flight = world.in_flight(target);
            assert!(
                in_flight >= IN_FLIGHT_MIN,
                "{target:?}: {in_flight} in flight"
            );
        }
    }
}

impl World {
    fn new() -> Self {
        let server = Server::start();
        let license = server.bootstrap("license_key");
        let proxy = Proxy::start(server.url());
        let _ = server.ask(GATE);
        let mut world = Self {
            a: Device::linked_at(&proxy.url(), &license),
            b: Device::linked(&server, &license),
            server,
            proxy,
            ledger: Ledger::new(),
            expected: BTreeMap::new(),
            usual: Duration::ZERO,
            hits: BTreeMap::new(),
        };
        world.write(u64::MAX);
        let started = Instant::now();
        world.a.sync();
        world.usual = started.elapsed();
        world.a.converge();
        world.ledger.keep(&world.a);
        world
    }

    fn round(&mut self, round: u64) {
        let target = TARGETS[round as usize % 3];
        let moment = moment(round / 3);
        self.write(round);
        let mut stopped = self.stop_at(moment, round);
        let out = batch(&self.a);
        self.kill(target, round, &mut stopped);
        // The client must not try again before this was looked at.
        let dead = target == Target::Client || round % 2 == 1;
        if dead {
            let _ = stopped.client.kill();
            let _ = stopped.client.wait();
        }
        let hit = self.classify(moment, out.as_deref());
        *self.hits.entry((target, moment, hit)).or_default() += 1;
        self.ledger.keep(&self.a);
        self.ledger.assert_stored(&self.server);
        drop((stopped.held, stopped.lock));
        if !dead {
            let ended = stopped.client.wait().unwrap();
            assert!(ended.success(), "{target:?} {moment:?}: {ended}");
        }
        self.a.converge();
        self.ledger.keep(&self.a);
        self.ledger.assert_stored(&self.server);
        if round % 25 == 24 {
            self.b.converge();
        }
    }

    /// Adds rows in two scopes, edits some of the round before and deletes one.
    fn write(&mut self, round: u64) {
        let title = |at: u64| format!("round {round} row {at}");
        let mut sql = String::new();
        for at in 0..ROWS {
            let scope = if at % 8 == 7 { "org" } else { "user" };
            let (title, text) = (title(at), format!("{round} {}", "because ".repeat(25)));
            sql += &format!(
                "insert into decisions (scope, title, rationale)
                 values ('{scope}', '{title}', '{text}');"
            );
            self.expected.insert(title, text);
        }
        let before = |at: u64| format!("round {} row {at}", round.wrapping_sub(1));
        if round != u64::MAX {
            for at in 0..4 {
                let text = format!("edited in {round}");
                let title = before(at);
                sql +=
                    &format!("update decisions set rationale = '{text}' where title = '{title}';");
                self.expected.insert(title, text);
            }
            sql += &format!("delete from decisions where title = '{}';", before(5));
            self.expected.remove(&before(5));
        }
        self.a.sql("org", &format!("begin; {sql} commit;"));
    }

    /// Starts a sync and waits until it is at the moment.
    fn stop_at(&self, moment: Moment, round: u64) -> Stopped {
        let stop = match moment {
            Moment::RequestCut | Moment::StreamLocked | Moment::Committing => Stop::RequestCut,
            Moment::ReplyHeld | Moment::Settling => Stop::ReplyHeld,
            Moment::ReplyCut => Stop::ReplyCut,
            Moment::Any => Stop::ReplyDelivered,
        };
        let held = self.proxy.arm(PUSH, stop);
        let mut client = self.a.spawn(&["sync"]);
        let mut runs = || client.try_wait().unwrap().is_none();
        if moment == Moment::Any {
            pause(self.usual.mul_f64(fraction(round)));
        } else {
            assert!(held.wait(&mut runs), "{moment:?} was not met");
        }
        let lock = match moment {
            Moment::StreamLocked => {
                Some(self.keep_waiting("begin; select n from streams for update;", &held, runs))
            }
            Moment::Committing => {
                Some(self.keep_waiting("select pg_advisory_lock(4711);", &held, runs))
            }
            Moment::Settling => {
                let mut shell = self.a.shell("org");
                shell.ask("begin immediate;").unwrap();
                held.forward_to(Stop::ReplyDelivered);
                assert!(held.wait(runs), "{moment:?} was not met");
                Some((shell, None))
            }
            _ => None,
        };
        Stopped { client, held, lock }
    }

    /// Takes a lock of PostgreSQL, lets the whole request go and waits until the server waits.
    fn keep_waiting(
        &self,
        lock: &str,
        held: &Held,
        mut runs: impl FnMut() -> bool,
    ) -> (Shell, Option<u32>) {
        let mut shell = self.server.shell();
        shell.ask(lock).unwrap();
        held.forward_to(Stop::ReplyHeld);
        loop {
            let waiting = shell.ask(WAITING).unwrap();
            if let Some(pid) = waiting.first() {
                return (shell, Some(pid.parse().unwrap()));
            }
            assert!(runs(), "nobody waits for {lock}");
        }
    }

    fn kill(&mut self, target: Target, round: u64, stopped: &mut Stopped) {
        match target {
            Target::Client => {
                let _ = stopped.client.kill();
                let _ = stopped.client.wait();
            }
            Target::Server => {
                self.server.kill();
                self.server.restart();
            }
            // The postmaster, or one of its processes, which ends all others.
            Target::Postgres if (round / 3 + round / 21).is_multiple_of(2) => {
                self.server.kill_postgres();
            }
            Target::Postgres => {
                let any = "select pid from pg_stat_activity
                    where usename = 'coditect_app' limit 1";
                let waiting = stopped.lock.as_ref().and_then(|(_, pid)| *pid);
                let pid = waiting.unwrap_or_else(|| self.server.ask(any)[0].parse().unwrap());
                self.server.kill_backend(pid);
            }
        }
    }

    /// Each side is read by one statement, because the other one may be going on.
    fn classify(&self, moment: Moment, out_before: Option<&str>) -> Hit {
        let sql = "select b.batch_id, m.id from sync_batch b left join sync_batch_mark m
            on m.table_name = 'org_decisions'
            and not exists (select 1 from sync_base known where known.id = m.id);";
        let out = self.a.sql("org", sql);
        let out: Vec<_> = out.lines().filter_map(|it| it.split_once('|')).collect();
        let still_out = out.first().map(|(id, _)| *id);
        let Some(id) = still_out.or(out_before) else {
            return Hit::Nothing;
        };
        let sql = format!(
            "select 'committed' from device_tokens where batch_id = '{id}'
             union all select id::text from org_decisions"
        );
        let stored: BTreeSet<_> = self.server.ask(&sql).into_iter().collect();
        let committed = stored.contains("committed");
        let new = out
            .iter()
            .map(|(_, row)| *row)
            .filter(|row| !row.is_empty());
        let (there, missing): (Vec<_>, Vec<_>) = new.partition(|row| stored.contains(*row));
        let part = if committed { &missing } else { &there };
        assert!(part.is_empty(), "{moment:?}: a part of the batch is stored");
        match (committed, still_out.is_some()) {
            (true, true) => Hit::Committed,
            (true, false) => Hit::Nothing,
            (false, _) => match moment {
                Moment::RequestCut => Hit::Sending,
                Moment::StreamLocked | Moment::Committing => Hit::InTransaction,
                _ => Hit::Unknown,
            },
        }
    }

    fn assert_all_there_once(&self) {
        let tenant = self.server.bootstrap("tenant_id");
        let stored = self.server.dump(&tenant);
        let live = stored.values().filter(|row| row["deleted"] == false);
        let mut titles = BTreeMap::new();
        for row in live {
            let text = |name: &str| row["row"][name].as_str().unwrap().to_owned();
            let twice = titles.insert(text("title"), text("rationale"));
            assert_eq!(twice, None, "{row} is there twice");
        }
        assert!(
            titles == self.expected,
            "the decisions are not what was written"
        );
        let own = format!("user:{}", self.server.bootstrap("user_id"));
        for device in [&self.a, &self.b] {
            assert_same(
                &stored,
                device,
                &[&own, &format!("org:{tenant}"), "platform"],
            );
            assert_eq!(device.json(&["status"])["conflicts"], 0);
        }
    }

    fn in_flight(&self, target: Target) -> u32 {
        let hits = self.hits.iter();
        let is_out = |hit: Hit| !matches!(hit, Hit::Unknown | Hit::Nothing);
        hits.filter(|((of, _, hit), _)| *of == target && is_out(*hit))
            .map(|(_, count)| count)
            .sum()
    }

    #[expect(clippy::print_stdout, reason = "what was hit is part of the result")]
    fn print(&self, rounds: u64) {
        println!(
            "{rounds} rounds, {} decisions acknowledged",
            self.ledger.len()
        );
        println!("{:<9} {:<15} {HITS:?}", "target", "moment");
        for target in TARGETS {
            let moments: BTreeSet<_> = self.hits.keys().map(|(_, moment, _)| *moment).collect();
            for moment in moments {
                let of = |hit: Hit| self.hits.get(&(target, moment, hit)).copied();
                let counts = HITS.map(|hit| of(hit).unwrap_or(0));
                let (target, moment) = (format!("{target:?}"), format!("{moment:?}"));
                println!("{target:<9} {moment:<15} {counts:?}");
            }
            println!("{target:?}: {} in flight", self.in_flight(target));
        }
    }
}

fn moment(step: u64) -> Moment {
    match step % 7 {
        0 => Moment::RequestCut,
        1 => Moment::StreamLocked,
        2 => Moment::Committing,
        3 => Moment::ReplyHeld,
        4 => Moment::ReplyCut,
        5 => Moment::Settling,
        _ => Moment::Any,
    }
}

/// Returns the batch that waits for its answer.
fn batch(device: &Device) -> Option<String> {
    let text = device.sql("org", "select batch_id from sync_batch;");
    text.lines().next().map(str::to_owned)
}
