//! `kill -9` while a device reads: in the middle of an import, of an adoption, of storing what
//! it pulled, and of the reply to a pull. What was begun goes on where it stood: every line is
//! in, none twice. `KILL_ROUNDS` says how many; a quarter of them are made here.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use coditect_end_to_end::{
    Device, Ledger, Proxy, Server, Stop, assert_same, rounds_asked_for, signal, write_transcript,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Child;

/// Rounds of an ordinary run: every moment once.
const ROUNDS: u64 = 7;
/// From so many rounds on every moment must have been met in the middle.
const ROUNDS_OF_PROOF: u64 = 50;
/// Records of a transcript.
const RECORDS: u64 = 160;
/// Calls of tools that wait in the spool.
const CALLS: u64 = 1_000;
/// Rows that are adopted in more than one transaction.
const MANY_ROWS: u64 = 500;
const PULL: &str = "/api/v1/sync/pull";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// Some rows of a transcript are stored.
    Importing,
    /// Some of the rows that another program wrote are adopted.
    Adopting,
    /// Half of the reply has arrived.
    ReplyCut,
    /// One file has its page, the next has not.
    Applying,
    /// The server dies while its reply is on the way.
    ServerKilled,
    /// PostgreSQL dies while the server's reply is on the way.
    PostgresKilled,
    /// Some of what hooks have left in their spool is stored.
    Draining,
}

const MOMENTS: [Moment; 7] = [
    Moment::Importing,
    Moment::Adopting,
    Moment::ReplyCut,
    Moment::Applying,
    Moment::ServerKilled,
    Moment::PostgresKilled,
    Moment::Draining,
];

struct World {
    server: Server,
    proxy: Proxy,
    a: Device,
    b: Device,
    ledger: Ledger,
    transcripts: tempfile::TempDir,
    titles: u64,
    sessions: u64,
    /// How often a moment was met in the middle, and how often everything was over already.
    met: BTreeMap<Moment, (u32, u32)>,
}

#[test]
fn killed_import_adoption_and_pull_go_on_where_they_stood() {
    let rounds = rounds_asked_for("KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds.div_ceil(4));
    let mut world = World::new();
    for round in 0..rounds {
        world.round(MOMENTS[round as usize % MOMENTS.len()], round);
    }
    world.assert_all_there_once();
    world.print(rounds);
    if rounds >= ROUNDS_OF_PROOF {
        for (moment, (middle, over)) in &world.met {
            assert!(middle > over, "{moment:?}: {middle} in the middle");
        }
    }
}

impl World {
    fn new() -> Self {
        let server = Server::start();
        let license = server.bootstrap("license_key");
        let proxy = Proxy::start(server.url());
        Self {
            a: Device::linked(&server, &license),
            b: Device::linked_at(&proxy.url(), &license),
            server,
            proxy,
            ledger: Ledger::new(),
            transcripts: tempfile::tempdir().unwrap(),
            titles: 0,
            sessions: 0,
            met: BTreeMap::new(),
        }
    }

    fn round(&mut self, moment: Moment, round: u64) {
        self.sessions += 1;
        let folder = self.transcripts.path().join(format!("round-{round}"));
        write_transcript(&folder, self.sessions, RECORDS);
        let middle = match moment {
            Moment::Importing => self.kill_import(&folder),
            Moment::Adopting => self.kill_adoption(),
            Moment::ReplyCut => self.kill_at_reply(&folder),
            Moment::Applying => self.kill_between_files(&folder),
            Moment::ServerKilled | Moment::PostgresKilled => {
                self.kill_other_side(moment, &folder, round)
            }
            Moment::Draining => self.kill_drain(round),
        };
        let met = self.met.entry(moment).or_default();
        *(if middle { &mut met.0 } else { &mut met.1 }) += 1;
        // What was cut off is done again by the same command.
        import(&self.a, &folder);
        assert_eq!(self.messages(&self.a), RECORDS, "{moment:?}");
        self.a.converge();
        self.b.converge();
        assert_eq!(self.messages(&self.b), RECORDS, "{moment:?}");
        self.ledger.keep(&self.a);
        self.ledger.assert_stored(&self.server);
        let titles = format!("{}\n", self.titles);
        let count = "select count(distinct title) from decisions having count(*) = count(title);";
        for device in [&self.a, &self.b] {
            assert_eq!(device.sql("org", count), titles, "{moment:?}");
        }
    }

    /// Returns the messages of the round's session.
    fn messages(&self, device: &Device) -> u64 {
        number(&device.sql("sessions", &of_session(self.sessions)))
    }

    fn kill_import(&self, folder: &Path) -> bool {
        let words = ["import", "claude", "--from", folder.to_str().unwrap()];
        let client = self.a.spawn(&words);
        let count = of_session(self.sessions);
        let stored = kill_once(&self.a, "sessions", client, &count, 1);
        stored < RECORDS
    }

    fn kill_adoption(&mut self) -> bool {
        self.write(MANY_ROWS);
        let client = self.a.spawn(&["sync"]);
        let adopted = "select count(*) from sync_queue where adopted = 1;";
        kill_once(&self.a, "org", client, adopted, 1) < MANY_ROWS
    }

    /// Kills who takes in the spool; then the next one after it does, and every call is there once.
    fn kill_drain(&self, round: u64) -> bool {
        fill_spool(&self.a, round);
        let of_round = format!("from tool_analytics where tool_use_id like 'toolu_{round}_%';");
        let count = format!("select count(*) {of_round}");
        let stored = kill_once(
            &self.a,
            "sessions",
            self.a.spawn(&["hook", "--drain"]),
            &count,
            1,
        );
        assert_eq!(self.a.run(&["hook", "--drain"]).code, 0);
        let once = format!("select count(*) || ' ' || count(distinct tool_use_id) {of_round}");
        let all = self.a.sql("sessions", &once);
        assert_eq!(all, format!("{CALLS} {CALLS}\n"));
        stored < CALLS
    }

    /// Gives the other device something to pull into two files.
    fn publish(&mut self, folder: &Path) {
        self.write(20);
        import(&self.a, folder);
        self.a.converge();
    }

    fn kill_at_reply(&mut self, folder: &Path) -> bool {
        self.publish(folder);
        let held = self.proxy.arm(PULL, Stop::ReplyCut);
        let mut client = self.b.spawn(&["sync"]);
        let met = held.wait(|| client.try_wait().unwrap().is_none());
        client.kill().unwrap();
        client.wait().unwrap();
        assert_eq!(self.messages(&self.b), 0, "half a reply was stored");
        met
    }

    fn kill_between_files(&mut self, folder: &Path) -> bool {
        self.publish(folder);
        let client = self.b.spawn(&["sync"]);
        let there = "select count(*) from decisions;";
        kill_once(&self.b, "org", client, there, self.titles);
        self.messages(&self.b) < RECORDS
    }

    /// The device stays: its own second attempt must succeed.
    fn kill_other_side(&mut self, moment: Moment, folder: &Path, round: u64) -> bool {
        self.publish(folder);
        let stop = if (round / MOMENTS.len() as u64).is_multiple_of(2) {
            Stop::ReplyCut
        } else {
            Stop::RequestCut
        };
        let held = self.proxy.arm(PULL, stop);
        let mut client = self.b.spawn(&["sync"]);
        let met = held.wait(|| client.try_wait().unwrap().is_none());
        if moment == Moment::ServerKilled {
            self.server.kill();
            self.server.restart();
        } else {
            self.server.kill_postgres();
            let _ = self.server.ask("select 1");
        }
        drop(held);
        let ended = client.wait().unwrap();
        assert!(ended.success(), "{moment:?}: {ended}");
        assert_eq!(self.messages(&self.b), RECORDS, "{moment:?}");
        met
    }

    fn write(&mut self, rows: u64) {
        let first = self.titles;
        self.titles += rows;
        let last = self.titles;
        self.a.sql(
            "org",
            &format!(
                "with recursive n(i) as (select {first} + 1 union all
                   select i + 1 from n where i < {last})
                 insert into decisions (title, rationale)
                 select 'row ' || i, hex(randomblob(100)) from n;"
            ),
        );
    }

    fn assert_all_there_once(&self) {
        let tenant = self.server.bootstrap("tenant_id");
        let stored = self.server.dump(&tenant);
        let of = |table: &'static str| stored.keys().filter(move |(name, ..)| name == table);
        assert_eq!(of("org_decisions").count() as u64, self.titles);
        let messages = of("context_messages").count() as u64;
        assert_eq!(messages, self.sessions * RECORDS);
        let own = format!("user:{}", self.server.bootstrap("user_id"));
        for device in [&self.a, &self.b] {
            let scopes = [own.as_str(), &format!("org:{tenant}"), "platform"];
            assert_same(&stored, device, &scopes);
            assert_eq!(device.json(&["status"])["conflicts"], 0);
        }
    }

    #[expect(clippy::print_stdout, reason = "what was hit is part of the result")]
    fn print(&self, rounds: u64) {
        println!("{rounds} rounds: moment, killed in the middle, killed when it was over");
        for (moment, (middle, over)) in &self.met {
            println!("{:<15} {middle:>4} {over:>4}", format!("{moment:?}"));
        }
    }
}

/// Leaves calls in the spool, in the form that a hook has given one.
fn fill_spool(device: &Device, round: u64) {
    let folder = device.home().join(".coditect-data/hooks");
    std::fs::create_dir_all(&folder).unwrap();
    // Somebody is at it: the hook starts nobody who would be faster.
    let place = std::fs::File::create(folder.join("spool.lock")).unwrap();
    place.lock().unwrap();
    let call = format!(
        r#"{{"hook_event_name": "PostToolUse", "session_id": "spooled", "cwd": "/app",
            "tool_name": "Bash", "tool_use_id": "toolu_{round}_0", "tool_input": {{}},
            "tool_response": {{}}}}"#
    );
    let input = folder.join("event.json");
    std::fs::write(&input, call).unwrap();
    let called = device
        .command(&["hook"])
        .stdin(std::fs::File::open(input).unwrap())
        .status();
    assert!(called.unwrap().success());
    let spool = folder.join("spool.jsonl");
    let line = std::fs::read_to_string(&spool).unwrap();
    let name = |at: u64| format!("toolu_{round}_{at}");
    let lines: String = (0..CALLS)
        .map(|at| line.replace(&name(0), &name(at)))
        .collect();
    std::fs::write(spool, lines).unwrap();
}

/// Waits until the number that a query gives is reached, stops the program where it is, kills
/// it, and returns the number that is left behind.
fn kill_once(device: &Device, file: &str, mut client: Child, query: &str, number_min: u64) -> u64 {
    let mut shell = device.shell(file);
    let mut count = || number(&shell.ask(query).unwrap().join("\n"));
    while count() < number_min && client.try_wait().unwrap().is_none() {}
    if client.try_wait().unwrap().is_none() {
        signal(&client, "STOP");
    }
    let left = count();
    let _ = client.kill();
    let _ = client.wait();
    assert_eq!(count(), left, "something was undone");
    left
}

fn of_session(session: u64) -> String {
    let id = format!("00000000-0000-4000-8000-{session:012}");
    format!("select count(*) from messages where session_id = '{id}';")
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap()
}

fn import(device: &Device, folder: &Path) {
    let _ = device.json(&["import", "claude", "--from", folder.to_str().unwrap()]);
}
