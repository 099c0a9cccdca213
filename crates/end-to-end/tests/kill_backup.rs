//! `kill -9` of the server, of PostgreSQL and of the object store at random moments while backups
//! are written and restored: a scope is as it was before a restore or as it is after it, a restore
//! that was asked for is finished by whoever comes next, and what counts as a complete backup is
//! one.
//!
//! The object store is a server of the S3 API in a process of its own (`cargo build -p
//! coditect-end-to-end --examples`). Archives are read by the rig itself, past the server.
//! `BACKUP_KILL_ROUNDS` says how many backups, and as many restores.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use coditect_backup::{ArchiveError, Reader, Record, Settings, Storage};
use coditect_core::digest::{self, Digest};
use coditect_end_to_end::{Pusher, Server, fraction, pause, program, rounds_asked_for};
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::Op;
use coditect_protocol::{RowId, Scope, Version};
use coditect_testkit::s3_options;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Backups, and restores, of an ordinary run: each target once.
const ROUNDS: u64 = 3;
/// From so many rounds on the number of kills that met one at work is asserted.
const ROUNDS_OF_PROOF: u64 = 100;
/// Backups, and restores, that have to be under way when a target is killed, in a proof.
const MET_MIN: u32 = 10;
/// Rows of the scope, about: an ordinary run's, and a proof's.
const ROWS: u64 = 300;
const ROWS_OF_PROOF: u64 = 1_500;
/// Changes of a push.
const BATCH: usize = 250;
/// Characters of every tenth row's text, which makes it a value that is kept apart.
const LONG: usize = 20_000;
/// Looks at the jobs before another one is asked for, which wakes the server.
const LOOKS: usize = 60;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Pause between two times at which waiting jobs are let go on while a restore is waited for.
const HASTEN_AGAIN: Duration = Duration::from_millis(500);
/// What the pauses after failures would bring.
const SKIP_PAUSES: &str = "with backups as (update context_backups set not_before = null
        where not_before is not null and status = 'pending')
    update context_restores set not_before = null
        where not_before is not null and status = 'queued'";
const BUCKET: &str = "bkt";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Server,
    Postgres,
    Store,
}

const TARGETS: [Target; 3] = [Target::Server, Target::Postgres, Target::Store];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Backup,
    Merge,
    Replace,
}

/// What became of the work that was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// It was over before the kill.
    Missed,
    /// It was carried out.
    Done,
    /// It was not, and nothing of it is left.
    Undone,
}

const ENDS: [End; 3] = [End::Missed, End::Done, End::Undone];

/// Content hashes of the live rows.
type Contents = BTreeMap<String, String>;

/// The object store: a process, and the folder that outlives it.
struct Store {
    folder: TempDir,
    port: u16,
    child: Option<(Child, ChildStdin)>,
}

struct World {
    server: Server,
    store: Store,
    storage: Storage,
    pusher: Pusher,
    /// The organisation, whose scope it is: the names of its archives are short enough for the
    /// object store of the tests.
    tenant: String,
    rows: u64,
    /// What each backup must bring back, of those that the rig asked for.
    taken: BTreeMap<String, Contents>,
    /// Complete backups that were read.
    read: BTreeSet<String>,
    /// How long it takes when nobody is killed.
    usual: BTreeMap<Work, Duration>,
    met: BTreeMap<(Work, Target, End), u32>,
    failed_attempts: u64,
}

#[test]
fn nothing_is_half_restored_and_no_broken_archive_is_complete_after_kill_9() {
    let rounds = rounds_asked_for("BACKUP_KILL_ROUNDS").unwrap_or(ROUNDS);
    let mut world = World::new(if rounds >= ROUNDS_OF_PROOF {
        ROWS_OF_PROOF
    } else {
        ROWS
    });
    for round in 0..rounds {
        let target = TARGETS[(round % 3) as usize];
        world.back_up(target, round);
        world.restore(target, round);
    }
    let last = world.taken.keys().next_back().unwrap().clone();
    let tried = world.server.admin(&["backup-try", &last]);
    assert_eq!(tried["trial"], "passed", "{tried}");
    let scrubbed = world.server.admin(&["scrub", "--now"]);
    assert_eq!(scrubbed["tenants"][0]["found"], 0, "{scrubbed}");
    world.print(rounds);
    if rounds >= ROUNDS_OF_PROOF {
        world.assert_met();
    }
}

impl World {
    fn new(rows: u64) -> Self {
        let store = Store::start();
        let options = s3_options(&format!("http://127.0.0.1:{}", store.port));
        let address = format!("s3://{BUCKET}");
        let mut variables = options.clone();
        variables.push(("CODITECT_BACKUP_URL".to_owned(), address.clone()));
        // The schedule's own trials would only take time from the rig's.
        variables.push(("CODITECT_BACKUP_TRIAL_HOURS".to_owned(), "0".to_owned()));
        let server = Server::start_in(&[], &variables);
        let license = server.bootstrap("license_key");
        let storage = Storage::open(Settings {
            address,
            options,
            keys: None,
        });
        let tenant = server.bootstrap("tenant_id");
        let pusher = Pusher::log_in(server.url(), &license, File::Org, 1);
        let mut world = Self {
            pusher: pusher.into_scope(Scope::Org(tenant.parse().unwrap())),
            tenant,
            server,
            store,
            storage: storage.unwrap(),
            rows,
            taken: BTreeMap::new(),
            read: BTreeSet::new(),
            usual: BTreeMap::new(),
            met: BTreeMap::new(),
            failed_attempts: 0,
        };
        world.write(u64::MAX);
        world.settle(None);
        let took = world
            .server
            .ask("select extract(epoch from max(completed_at - created_at)) from context_backups");
        let took = Duration::from_secs_f64(took[0].parse().unwrap());
        world.usual.insert(Work::Backup, took);
        for work in [Work::Merge, Work::Replace] {
            world.write(u64::MAX - 1);
            let started = Instant::now();
            let backup = world.taken.keys().next().unwrap().clone();
            world.ask_restore(work, &backup).unwrap();
            world.usual.insert(work, started.elapsed());
        }
        world
    }

    /// Kills while a backup is written.
    fn back_up(&mut self, target: Target, round: u64) {
        self.write(round);
        let kind = ["full", "incremental"][(round / 3 % 2) as usize];
        let asked = self.ask_backup(kind).unwrap();
        pause(self.usual[&Work::Backup].mul_f64(1.1 * fraction(round)));
        self.kill(target);
        let id = asked["id"].as_str().unwrap();
        let state = self.server.ask(&format!(
            "select status in ('pending', 'running') from context_backups where id = '{id}'"
        ));
        let under_way = state == ["t"];
        self.settle(Some(target));
        let done = self.taken.contains_key(id);
        let end = match (under_way, done) {
            (false, _) => End::Missed,
            (true, true) => End::Done,
            (true, false) => End::Undone,
        };
        *self.met.entry((Work::Backup, target, end)).or_default() += 1;
    }

    /// Kills while the scope is restored.
    fn restore(&mut self, target: Target, round: u64) {
        self.write(round + 1_000_000);
        let work = [Work::Merge, Work::Replace][(round / 3 % 2) as usize];
        let nth = (fraction(round + 77) * self.taken.len() as f64) as usize;
        let (backup, archived) = self.taken.iter().nth(nth).unwrap();
        let (backup, archived) = (backup.clone(), archived.clone());
        let before = self.contents();
        let after = match work {
            Work::Replace => archived,
            // What is there is newer than what was archived.
            _ => archived.into_iter().chain(before.clone()).collect(),
        };
        let wait = self.usual[&work].mul_f64(1.1 * fraction(round + 7));
        let last = self.last_restore();
        let (done, under_way) = self.restore_and_kill(work, &backup, target, wait);
        let now = self.contents();
        assert!(
            now == before || now == after,
            "{work:?} of {backup}, {target:?}: half restored: {} rows before, {} after, {} now",
            before.len(),
            after.len(),
            now.len()
        );
        // An answer without it says that the restore goes on.
        if done.is_ok_and(|reply| reply["restored"].is_u64()) {
            assert!(now == after, "{work:?} of {backup}: acknowledged and lost");
        }
        self.settle(Some(target));
        let now = self.contents();
        let end = match self.last_restore() {
            // The server was dead before it knew of it.
            asked if asked == last => {
                assert!(now == before, "{work:?} of {backup}: nobody asked for it");
                End::Undone
            }
            Some((id, status)) if status == "completed" => {
                assert!(
                    now == after,
                    "{id}, {work:?} of {backup}: completed and not done"
                );
                if under_way { End::Done } else { End::Missed }
            }
            asked => {
                assert!(
                    now == before,
                    "{asked:?}, {work:?} of {backup}: failed and done"
                );
                End::Undone
            }
        };
        *self.met.entry((work, target, end)).or_default() += 1;
    }

    /// Returns id and status of the restore that was asked for last.
    fn last_restore(&self) -> Option<(String, String)> {
        let last = self
            .server
            .ask("select id, status from context_restores order by created_at desc limit 1");
        let (id, status) = last.first()?.split_once('|')?;
        Some((id.to_owned(), status.to_owned()))
    }

    /// Returns what the restore was answered, and whether it was under way at the kill.
    fn restore_and_kill(
        &mut self,
        work: Work,
        backup: &str,
        target: Target,
        wait: Duration,
    ) -> (Result<Value, String>, bool) {
        let (answer, answered) = mpsc::channel();
        let (path, body) = self.restore_request(work, backup);
        let Self {
            server,
            store,
            pusher,
            ..
        } = self;
        std::thread::scope(|scope| {
            let pusher = &*pusher;
            scope.spawn(move || answer.send(pusher.post(&path, &body)).unwrap());
            pause(wait);
            let early = answered.try_recv().ok();
            kill(server, store, target);
            let under_way = early.is_none();
            let mut done = early;
            while done.is_none() {
                done = answered.recv_timeout(HASTEN_AGAIN).ok();
                let _ = server.ask(SKIP_PAUSES);
            }
            let done = done.unwrap();
            // Its transaction, which holds the stream, may still be there when its caller is gone.
            let _ = server.ask("select n from streams for update");
            (done, under_way)
        })
    }

    fn kill(&mut self, target: Target) {
        kill(&mut self.server, &mut self.store, target);
    }

    /// Waits until nobody works on a backup or a restore and a further backup is complete; then
    /// reads all that count as complete and were not read yet.
    fn settle(&mut self, killed: Option<Target>) {
        let mut last = None;
        for look in 0.. {
            if look % LOOKS == 0 {
                // The server is dead, or has been cut off from the database: what two minutes
                // would bring.
                if look > 0 || killed == Some(Target::Server) {
                    for table in ["context_backups", "context_restores"] {
                        let _ = self.server.ask(&format!(
                            "update {table} set lease_until = now() - interval '1 second'
                             where status = 'running'"
                        ));
                    }
                }
                let _ = self.server.ask(SKIP_PAUSES);
                // Which wakes the server, for restores as well.
                last = Some(self.ask_backup("incremental").unwrap());
            }
            let open = self.server.ask(
                "select (select count(*) from context_backups
                    where status in ('pending', 'running'))
                 + (select count(*) from context_restores where status in ('queued', 'running'))",
            );
            if open == ["0"] {
                break;
            }
            assert!(look < 20 * LOOKS, "the jobs come to no end");
            pause(LOOK_AGAIN);
        }
        self.read_complete();
        let last = last.unwrap();
        let id = last["id"].as_str().unwrap();
        assert!(self.read.contains(id), "the last backup failed: {last}");
    }

    /// Reads every complete backup that was not read yet, past the server.
    fn read_complete(&mut self) {
        let found = self.server.ask(
            "select id, path, coalesce(base_id::text, ''), checksum, record_count, size_bytes,
             content_digest, requested_by is not null from context_backups
             where status = 'completed'",
        );
        let found: BTreeMap<String, Vec<String>> = found
            .iter()
            .map(|line| line.split('|').map(str::to_owned).collect::<Vec<_>>())
            .map(|fields| (fields[0].clone(), fields))
            .collect();
        let now = self.contents();
        for (id, fields) in &found {
            if self.read.contains(id) {
                continue;
            }
            let mut chain = vec![fields];
            while let Some(base) = found.get(&chain[chain.len() - 1][2]) {
                chain.push(base);
            }
            chain.reverse();
            assert_eq!(chain[0][2], "", "{id} goes on from what is not there");
            let rows = self.rows_of(&chain);
            let mut digest = Digest::default();
            for row in rows.values() {
                let (stored, deleted) = (&row.stored, row.stored.op == Op::Delete);
                let hash = stored.hash.parse().unwrap();
                let of = digest::term(
                    &stored.table,
                    stored.id,
                    stored.version,
                    stored.device,
                    &hash,
                    deleted,
                );
                digest.add(of, deleted);
            }
            let text = format!("{}:{}:{}", digest.rows, digest.count, digest.text());
            assert_eq!(text, fields[6], "{id} is complete, and is another scope");
            let live = rows.into_values();
            let live = live.filter(|row| row.stored.op == Op::Upsert);
            let live = live.map(|row| (row.stored.id.to_string(), row.stored.hash));
            let live: Contents = live.collect();
            // One that a restore takes before is of a moment before the restore.
            if live == now {
                self.taken.insert(id.clone(), live);
            }
            self.read.insert(id.clone());
        }
    }

    /// Returns the last row of each id in the archives, each of which must be what its backup
    /// says of it.
    fn rows_of(&self, chain: &[&Vec<String>]) -> BTreeMap<RowId, Record> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut rows = BTreeMap::new();
        for fields in chain {
            let [id, path, _, checksum, records, bytes, ..] = fields.as_slice() else {
                panic!("{fields:?}")
            };
            let sealed = runtime.block_on(async {
                let mut reader = Reader::default();
                let mut each = |_, record: Record| {
                    rows.insert(record.stored.id, record);
                    Ok::<_, ArchiveError>(())
                };
                let mut pieces = std::pin::pin!(self.storage.download(path).await.unwrap());
                while let Some(piece) = pieces.try_next().await.unwrap() {
                    reader.feed(&piece, &mut each).unwrap();
                }
                reader.finish(&mut each).unwrap().2
            });
            assert_eq!(&sealed.checksum, checksum, "{id}");
            assert_eq!(&sealed.records.to_string(), records, "{id}");
            assert_eq!(&sealed.size_bytes.to_string(), bytes, "{id}");
        }
        rows
    }

    fn path(&self, what: &str) -> String {
        format!("/api/v1/organizations/{}/context/{what}", self.tenant)
    }

    fn ask_backup(&self, kind: &str) -> Result<Value, String> {
        let path = self.path("backup");
        let body = json!({ "type": kind });
        let mut asked = self.pusher.post(&path, &body);
        for _ in 0..LOOKS {
            if asked.is_ok() {
                break;
            }
            // The database may be coming back.
            pause(LOOK_AGAIN);
            asked = self.pusher.post(&path, &body);
        }
        asked
    }

    fn restore_request(&self, work: Work, backup: &str) -> (String, Value) {
        let mode = if work == Work::Replace {
            "replace"
        } else {
            "merge"
        };
        let body = json!({ "backup_id": backup, "mode": mode });
        (self.path("restore"), body)
    }

    fn ask_restore(&self, work: Work, backup: &str) -> Result<Value, String> {
        let (path, body) = self.restore_request(work, backup);
        self.pusher.post(&path, &body)
    }

    /// Adds rows up to the usual number, edits some and deletes some.
    fn write(&mut self, round: u64) {
        let live = self.server.ask(
            "select id, version from org_decisions where deleted_at is null order by content_hash",
        );
        let live: Vec<(RowId, Version)> = live
            .iter()
            .filter_map(|line| line.split_once('|'))
            .map(|(id, version)| {
                let version = Version::from_i64(version.parse().unwrap());
                (id.parse().unwrap(), version)
            })
            .collect();
        let mut changes = Vec::new();
        for (at, known) in live.iter().take(60).enumerate() {
            let text = text(round, at as u64);
            let row = json!({ "title": format!("edited {round} {at}"), "rationale": text });
            let mut change = self.pusher.change("org_decisions", row, Some(*known));
            if at % 3 == 0 {
                change.op = Op::Delete;
                change.row = None;
            }
            changes.push(change);
        }
        let missing = self.rows.saturating_sub(live.len() as u64).max(20);
        for at in 0..missing {
            let text = text(round, at);
            let row = json!({ "title": format!("row {round} {at}"), "rationale": text });
            changes.push(self.pusher.change("org_decisions", row, None));
        }
        // All of this may take longer than an access token is valid.
        self.pusher.renew().unwrap();
        while !changes.is_empty() {
            let rest = changes.split_off(changes.len().min(BATCH));
            self.pusher.prepare(changes);
            let reply = self.pusher.push_on();
            let refused = reply.outcomes.iter().find(|one| one.code.is_some());
            assert!(refused.is_none(), "{refused:?}");
            changes = rest;
        }
    }

    fn contents(&self) -> Contents {
        let rows = self.server.ask(
            "select id, encode(content_hash, 'hex') from org_decisions where deleted_at is null",
        );
        let rows = rows.iter().filter_map(|line| line.split_once('|'));
        rows.map(|(id, hash)| (id.to_owned(), hash.to_owned()))
            .collect()
    }

    fn met(&self, work: &[Work], target: Target) -> u32 {
        let met = self.met.iter();
        met.filter(|((of, at, end), _)| work.contains(of) && *at == target && *end != End::Missed)
            .map(|(_, count)| count)
            .sum()
    }

    fn assert_met(&self) {
        for target in TARGETS {
            for work in [&[Work::Backup][..], &[Work::Merge, Work::Replace]] {
                let met = self.met(work, target);
                assert!(met >= MET_MIN, "{work:?}, {target:?}: {met} under way");
            }
        }
    }

    #[expect(clippy::print_stdout, reason = "what was hit is part of the result")]
    fn print(&mut self, rounds: u64) {
        let again = self
            .server
            .ask("select count(*) from context_backups where attempts > 1");
        let failed = self
            .server
            .ask("select count(*), min(failure) from context_backups where status = 'failed'");
        self.failed_attempts = again[0].parse().unwrap();
        let restores = self.server.ask(
            "select count(*), count(*) filter (where attempts > 1),
             count(*) filter (where status = 'failed'), min(fault) from context_restores",
        );
        println!(
            "{rounds} backups and {rounds} restores, {} complete backups read; {} begun again, \
             {} given up; restores, begun again, given up: {}; usual {:?}",
            self.read.len(),
            self.failed_attempts,
            failed[0],
            restores[0],
            self.usual
        );
        println!("{:<8} {:<9} {ENDS:?}", "work", "target");
        for work in [Work::Backup, Work::Merge, Work::Replace] {
            for target in TARGETS {
                let of = |end: End| self.met.get(&(work, target, end)).copied();
                let counts = ENDS.map(|end| of(end).unwrap_or(0));
                println!(
                    "{:<8} {:<9} {counts:?}",
                    format!("{work:?}"),
                    format!("{target:?}")
                );
            }
        }
    }
}

/// Kills, and starts what was killed again.
fn kill(server: &mut Server, store: &mut Store, target: Target) {
    match target {
        Target::Server => {
            server.kill();
            server.restart();
        }
        Target::Postgres => {
            server.kill_postgres();
            let _ = server.ask("select 1");
        }
        Target::Store => {
            store.kill();
            store.restart();
        }
    }
}

impl Store {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut store = Self {
            folder,
            port: 0,
            child: None,
        };
        store.restart();
        store
    }

    /// Starts it again on its folder and port.
    fn restart(&mut self) {
        let mut child = Command::new(program("examples/object_store"))
            .arg(self.folder.path())
            .arg(self.port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("ready ").unwrap();
        self.port = port.parse().unwrap();
        let input = child.stdin.take().unwrap();
        self.child = Some((child, input));
    }

    fn kill(&mut self) {
        let (mut child, _) = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some((mut child, _)) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn text(round: u64, at: u64) -> String {
    let length = if at.is_multiple_of(10) { LONG } else { 200 };
    format!("{round} {at} because ").repeat(length / 20)
}
