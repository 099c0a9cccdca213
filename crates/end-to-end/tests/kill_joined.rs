//! `kill -9` of the server, of PostgreSQL and of one of its processes while pushes of many people
//! are joined in one transaction: what was acknowledged is there once, with the version and the
//! content that were acknowledged, and a batch is stored whole or not at all.
//!
//! A gate in the commit holds the first transactions, so that the other pushes gather; then it
//! holds those that take the gathered ones together. That they are joined is read from the
//! database: more streams are locked than transactions wait. `JOIN_ROUNDS` says how many rounds.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use coditect_end_to_end::{Device, Pusher, Server, Shell, rounds_asked_for};
use coditect_protocol::catalogue::File;
use coditect_protocol::{RowId, Version};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Rounds of an ordinary run: every target at both moments.
const ROUNDS: u64 = 6;
/// People, each with a device that pushes decisions and one that pushes messages.
const PEOPLE: u64 = 10;
/// New rows of a batch; from the second round on one of the round before is edited, too.
const ROWS: u64 = 3;
/// How often the database is asked whether pushes have met; each time takes some milliseconds.
const ASKED_MAX: usize = 1_500;
/// Makes every commit that touches the rows wait for a lock that the rig may hold.
const GATE: &str = "
    create function public.rig_gate() returns trigger language plpgsql as
    $$ begin perform pg_advisory_xact_lock_shared(4711); return null; end $$;
    create constraint trigger rig_gate after insert or update on org_decisions
    deferrable initially deferred for each row execute function public.rig_gate();
    create constraint trigger rig_gate after insert or update on context_messages
    deferrable initially deferred for each row execute function public.rig_gate()";
const LOCK: &str = "select pg_advisory_lock(4711);";
const UNLOCK: &str = "select pg_advisory_unlock(4711);";
/// Whom the rig's own connection keeps waiting.
const WAITING: &str = "select pid from pg_stat_activity
    where pg_backend_pid() = any (pg_blocking_pids(pid));";
/// Streams that transactions hold.
const LOCKED: &str = "select (select count(*) from streams) - (select count(*) from
    (select n from streams for update skip locked) free);";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Server,
    Postgres,
    OneProcess,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// All is written, and the commit waits.
    Committing,
    /// The commit has just been let go: it is stored or not, and nobody has been told.
    Released,
}

const TARGETS: [Target; 3] = [Target::Server, Target::Postgres, Target::OneProcess];

/// A row as it was acknowledged.
#[derive(Clone, Debug)]
struct Row {
    title: String,
    version: Version,
    hash: String,
}

/// One device with what it was told.
struct Writer {
    number: u64,
    table: &'static str,
    pusher: Pusher,
    acknowledged: BTreeMap<RowId, Row>,
}

#[test]
fn rows_of_joined_pushes_are_there_once_after_kill_9() {
    let rounds = rounds_asked_for("JOIN_ROUNDS").unwrap_or(ROUNDS);
    let mut server = Server::start();
    let licenses = people(&server);
    let _ = server.ask(GATE);
    let mut writers = writers(&server, &licenses);
    let mut met: BTreeMap<(Target, Moment), (u64, u64)> = BTreeMap::new();
    for round in 0..rounds {
        let target = TARGETS[round as usize % 3];
        let moment = match round / 3 % 2 {
            0 => Moment::Committing,
            _ => Moment::Released,
        };
        let (streams, transactions) = play(&mut server, &mut writers, round, target, moment);
        let joined = u64::from(streams > transactions);
        let entry = met.entry((target, moment)).or_default();
        *entry = (entry.0 + joined, entry.1 + 1);
        println!(
            "round {round}: {target:?}, {moment:?}: {streams} streams in {transactions} \
             transactions"
        );
        assert_stored(&server, &writers);
    }
    for ((target, moment), (joined, rounds)) in &met {
        println!("{target:?} {moment:?}: joined pushes were met in {joined} of {rounds} rounds");
        assert!(*joined > 0, "{target:?} {moment:?} never met joined pushes");
    }
    let rows: usize = writers.iter().map(|it| it.acknowledged.len()).sum();
    println!("{rounds} rounds, {rows} rows acknowledged, each is there once");
    for license in licenses.iter().take(2) {
        let reader = Device::linked(&server, license);
        Device::converge_all(&[&reader]);
    }
}

fn people(server: &Server) -> Vec<String> {
    let tenant = server.bootstrap("tenant_id");
    (0..PEOPLE)
        .map(|n| {
            let email = format!("person-{n}@joined.test");
            server.user(&tenant, &email, "member").1
        })
        .collect()
}

fn writers(server: &Server, licenses: &[String]) -> Vec<Writer> {
    let mut writers = Vec::new();
    for license in licenses {
        for (file, table) in [
            (File::Org, "org_decisions"),
            (File::Sessions, "context_messages"),
        ] {
            let number = writers.len() as u64;
            writers.push(Writer {
                number,
                table,
                pusher: Pusher::log_in(server.url(), license, file, number),
                acknowledged: BTreeMap::new(),
            });
        }
    }
    writers
}

/// Lets all push, kills when pushes are joined, and waits until all are answered. Returns how many
/// streams how many transactions held when the kill came.
fn play(
    server: &mut Server,
    writers: &mut [Writer],
    round: u64,
    target: Target,
    moment: Moment,
) -> (u64, u64) {
    let mut first = server.shell();
    let mut second = server.shell();
    first.ask(LOCK).unwrap();
    for writer in writers.iter_mut() {
        writer.prepare(round);
    }
    std::thread::scope(|scope| {
        for writer in writers.iter_mut() {
            scope.spawn(|| writer.push());
        }
        let (streams, waiting) = meet(&mut first, &mut second);
        if moment == Moment::Released {
            second.ask(UNLOCK).unwrap();
        }
        match target {
            Target::Server => {
                server.kill();
                server.restart();
            }
            Target::Postgres => server.kill_postgres(),
            // One that is in the commit, or any of the program's.
            Target::OneProcess => {
                let any = "select pid from pg_stat_activity
                    where usename = 'coditect_app' limit 1";
                let any = || server.ask(any)[0].clone();
                let pid = waiting.first().cloned().unwrap_or_else(any);
                server.kill_backend(pid.parse().unwrap());
            }
        }
        // Their connections end, and with them the gate's lock.
        drop((first, second));
        (streams, waiting.len() as u64)
    })
}

/// Keeps the first transactions waiting until the rest has gathered behind them, lets them go and
/// keeps those waiting that take the rest. Returns the streams and the processes of those.
fn meet(first: &mut Shell, second: &mut Shell) -> (u64, Vec<String>) {
    let mut before = 0;
    for _ in 0..ASKED_MAX {
        let waiting = first.ask(WAITING).unwrap().len();
        if waiting >= 3 && waiting == before {
            break;
        }
        before = waiting;
    }
    second.begin(LOCK).unwrap();
    let all = first.ask(WAITING).unwrap().len();
    for _ in 0..ASKED_MAX {
        if first.ask(WAITING).unwrap().len() > before.max(all.saturating_sub(1)) {
            break;
        }
    }
    first.ask(UNLOCK).unwrap();
    second.finish().unwrap();
    let mut last = (0, Vec::new());
    for _ in 0..ASKED_MAX {
        let waiting = second.ask(WAITING).unwrap();
        let streams: u64 = second.ask(LOCKED).unwrap()[0].parse().unwrap();
        last = (streams, waiting);
        if last.0 > last.1.len() as u64 && !last.1.is_empty() {
            break;
        }
    }
    last
}

impl Writer {
    /// Makes a batch of new rows and an edit.
    fn prepare(&mut self, round: u64) {
        let number = self.number;
        let edited = self.acknowledged.iter().next_back();
        let edited = edited.map(|(id, row)| (*id, row.version, row.title.clone()));
        let mut changes = Vec::new();
        for at in 0..ROWS {
            let title = format!("{number} in {round}, row {at}");
            let row = self.row(&title, "new");
            changes.push(self.pusher.change(self.table, row, None));
        }
        if let Some((id, version, title)) = edited
            && self.table == "org_decisions"
        {
            let row = self.row(&title, &format!("edited in {round}"));
            changes.push(self.pusher.change(self.table, row, Some((id, version))));
        }
        self.pusher.prepare(changes);
    }

    fn row(&self, title: &str, text: &str) -> serde_json::Value {
        match self.table {
            "org_decisions" => json!({ "title": title, "rationale": text, "status": "proposed" }),
            _ => json!({ "message_id": title, "session_id": "joined", "role": "user",
                "content": title }),
        }
    }

    /// Sends the batch until it is answered, and notes the answer.
    fn push(&mut self) {
        let sent = self.pusher.out().unwrap();
        let reply = self.pusher.push_on();
        for (change, outcome) in sent.changes.iter().zip(reply.outcomes) {
            let stored = outcome.stored.unwrap_or_else(|| {
                panic!("{}: {:?} {:?}", self.number, outcome.status, outcome.reason)
            });
            let row = change.row.as_ref().unwrap();
            let title = row.get("title").or_else(|| row.get("message_id"));
            let row = Row {
                title: title.unwrap().as_str().unwrap().to_owned(),
                version: stored.version,
                hash: change.hash.clone(),
            };
            self.acknowledged.insert(stored.id, row);
        }
    }
}

/// Asserts that what was acknowledged is there once, that nothing else is, that no two rows of a
/// stream have one number, and that the digests are those of the rows.
fn assert_stored(server: &Server, writers: &[Writer]) {
    let mut stored = BTreeMap::new();
    for (table, title) in [
        ("org_decisions", "title"),
        ("context_messages", "message_id"),
    ] {
        let sql = format!(
            "select id, version, encode(content_hash, 'hex'), {title} from {table}
             where deleted_at is null"
        );
        for line in server.ask(&sql) {
            let parts: Vec<_> = line.splitn(4, '|').map(str::to_owned).collect();
            let (id, rest) = (parts[0].parse::<RowId>().unwrap(), parts[1..].to_vec());
            assert!(stored.insert(id, rest).is_none(), "{id} is there twice");
        }
        let twice = server.ask(&format!(
            "select scope_id, cursor from {table} group by 1, 2 having count(*) > 1"
        ));
        assert_eq!(twice, [""; 0], "{table}: numbers of two rows");
        let wrong = server.ask(&format!(
            "select d.scope_id from stream_digests d join
               (select scope_id, origin_device, count(*) as count, bit_xor(term) as xor
                from {table} group by 1, 2) s using (scope_id, origin_device)
             where d.table_name = '{table}' and (d.count, d.xor) <> (s.count, s.xor)"
        ));
        assert_eq!(wrong, [""; 0], "{table}: digests that are not of the rows");
    }
    let mut titles = BTreeSet::new();
    for writer in writers {
        for (id, row) in &writer.acknowledged {
            let found = stored.remove(id);
            let expected = vec![row.version.to_string(), row.hash.clone(), row.title.clone()];
            assert_eq!(found, Some(expected), "acknowledged {id}");
            assert!(titles.insert((writer.number, row.title.clone())));
        }
    }
    assert!(stored.is_empty(), "nobody was told of {stored:?}");
}
