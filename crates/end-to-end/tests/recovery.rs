//! The database's own archive: a server loses its PostgreSQL, `kill -9` and the folder removed, and
//! is recovered to a noted moment and to the last piece of the log that was archived; devices bring
//! back the rest, and the trail says what happened. In a bucket of an S3 API server, and encrypted
//! in a folder. `RECOVERY_MB` sets the size of the database whose recovery is timed.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use coditect_end_to_end::{
    Device, Dump, Server, Work, assert_same, pause, process, program, read_dump, rounds_asked_for,
};
use coditect_testkit::{S3, files_below};
use serde_json::Value;
use tempfile::TempDir;

/// Looks at another process; each takes some milliseconds.
const LOOKS_MAX: usize = 3_000;
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Size of an ordinary run's database, MB, and of the rows that it grows by at once.
const MEGABYTES: u64 = 12;
const GROWTH_MB: u64 = 2;
/// What the server may take while it archives, MiB.
const SERVER_MIB_MAX: u64 = 100;

/// A server whose database is archived somewhere.
struct Rig {
    server: Server,
    variables: Vec<(String, String)>,
    tenant: String,
    /// Where drills go: as large as the database, each.
    drills: TempDir,
}

impl Rig {
    fn start(variables: Vec<(String, String)>) -> Self {
        let server = Server::start_in(&[], &variables);
        let drills = tempfile::tempdir().unwrap();
        open_to_all(drills.path());
        Self {
            tenant: server.bootstrap("tenant_id"),
            server,
            variables,
            drills,
        }
    }

    /// Ends the segment that is written to and waits until it is in the archive.
    fn archive_all(&self) {
        let asked = "select pg_walfile_name(pg_switch_wal())";
        let segment = self.server.ask(asked)[0].clone();
        self.wait_for(&segment);
    }

    fn wait_for(&self, segment: &str) {
        let own = |list: &Value| {
            let bases = list["bases"].as_array().unwrap();
            let own = bases.iter().find(|it| it["archive"]["own"] == true);
            own.and_then(|it| Some(it["archive"]["wal_last"].as_str()?.to_owned()))
        };
        for _ in 0..LOOKS_MAX {
            let last = own(&self.server.admin(&["database", "list"]));
            if last.is_some_and(|last| last.as_str() >= segment) {
                return;
            }
            pause(LOOK_AGAIN);
        }
        panic!("{segment} was not archived");
    }

    /// Returns the moment, as PostgreSQL has it.
    fn now(&self) -> String {
        let asked = "select to_char(clock_timestamp() at time zone 'UTC',
            'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        self.server.ask(asked)[0].clone()
    }

    /// Ends server and PostgreSQL without a chance to clean up, and removes the database.
    fn lose_database(&mut self) {
        let postgres = self.server.postgres_pid().unwrap();
        self.server.kill();
        let _ = Command::new("kill")
            .args(["-9", &postgres.to_string()])
            .status();
        for _ in 0..LOOKS_MAX {
            if !Path::new(&format!("/proc/{postgres}")).exists() {
                break;
            }
            pause(LOOK_AGAIN);
        }
        std::fs::remove_dir_all(self.server.data_dir().join("postgres")).unwrap();
    }

    fn command(&self, arguments: &[&str], data_dir: &Path) -> Output {
        Command::new(program("coditect-server"))
            .args(["admin", "--data-dir"])
            .arg(data_dir)
            .args(arguments)
            .envs(self.variables.iter().cloned())
            .output()
            .unwrap()
    }

    /// Recovers into the data folder of a server that does not exist.
    fn drill(&self, name: &str, arguments: &[&str]) -> Result<(PathBuf, Value), String> {
        let data_dir = self.drills.path().join(name);
        std::fs::create_dir_all(&data_dir).unwrap();
        open_to_all(&data_dir);
        // Without the same place for backups the drill would look into its own.
        let into = data_dir.join("postgres");
        let into = into.to_str().unwrap();
        let recover = ["database", "recover", "--json", "--into", into];
        let ran = self.command(&[&recover, arguments].concat(), &data_dir);
        let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
        if !ran.status.success() {
            assert_eq!(ran.status.code(), Some(1), "{errors}");
            assert!(!Path::new(into).exists(), "half recovered: {errors}");
            return Err(errors);
        }
        Ok((data_dir, serde_json::from_slice(&ran.stdout).unwrap()))
    }

    fn dump_of(&self, data_dir: &Path) -> Dump {
        let ran = self.command(&["dump", "--tenant", &self.tenant], data_dir);
        let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success(), "{errors}");
        read_dump(&String::from_utf8(ran.stdout).unwrap()).1
    }

    /// Returns the archive that the server's log goes into.
    fn archive(&self) -> String {
        self.try_archive().unwrap()
    }

    /// Returns the archives from which the trail says that the database came.
    fn recoveries(&self) -> Vec<String> {
        let asked = "select detail ->> 'archive_id' from audit_log
            where action = 'database.recovered' and user_id is null
            and (detail ->> 'as_of')::timestamptz < at order by at";
        self.server.ask(asked)
    }

    /// As [`Rig::archive`]; none at the moment at which another one begins.
    fn try_archive(&self) -> Option<String> {
        let list = self.server.admin(&["database", "list"]);
        let bases = list["bases"].as_array().unwrap();
        let own = bases.iter().find(|it| it["archive"]["own"] == true)?;
        Some(own["archive"]["archive_id"].as_str()?.to_owned())
    }
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Returns the names of the decisions of the dump without their numbers.
fn named(dump: &Dump) -> BTreeSet<String> {
    let decisions = dump
        .iter()
        .filter(|((table, ..), _)| table == "org_decisions");
    let titles = decisions.map(|(_, entry)| entry["row"]["title"].as_str().unwrap_or_default());
    titles
        .map(|title| title.split(" row ").next().unwrap().to_owned())
        .collect()
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// The variables of a folder, encrypted.
fn in_folder(folder: &TempDir) -> Vec<(String, String)> {
    let keys = folder.path().join("keys");
    let made = Command::new(program("coditect-server"))
        .args(["admin", "backup-key"])
        .arg(&keys)
        .output()
        .unwrap();
    assert!(made.status.success());
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    vec![
        variable("CODITECT_BACKUP_URL", &text(folder.path().join("backups"))),
        variable("CODITECT_BACKUP_KEY_FILE", &text(keys)),
    ]
}

fn variable(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn a_lost_database_is_recovered_from_a_bucket_and_devices_bring_the_rest() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let s3 = runtime.block_on(S3::start("bkt"));
    let mut variables = s3.options();
    variables.push(variable("CODITECT_BACKUP_URL", "s3://bkt/below"));
    drilled("a bucket", variables);
}

#[test]
fn a_lost_database_is_recovered_from_an_encrypted_folder() {
    let folder = tempfile::tempdir().unwrap();
    drilled("an encrypted folder", in_folder(&folder));
}

fn drilled(place: &str, variables: Vec<(String, String)>) {
    let mut rig = Rig::start(variables);
    let device = Device::linked(&rig.server, &rig.server.bootstrap("license_key"));
    let mut work = Work::begin(&device);
    work.add(&device, "before", 8);
    device.converge();
    let base = rig.server.admin(&["database", "base"]);
    work.add(&device, "between", 6);
    device.converge();
    let moment = rig.now();
    work.add(&device, "later", 6);
    device.converge();
    rig.archive_all();
    let archive = rig.archive();
    assert_eq!(base["archive_id"], archive.as_str());
    work.add(&device, "lost", 4);
    device.converge();
    let epoch = rig.server.ask("select epoch from cluster");
    rig.lose_database();

    // To the noted moment, beside: exactly the rows until then.
    let (drill, at) = rig.drill("moment", &["--to", &moment, "--verify"]).unwrap();
    assert_eq!(named(&rig.dump_of(&drill)), names(["before", "between"]));
    assert_eq!(
        (&at["rows_damaged"], &at["organisations"]),
        (&0.into(), &1.into())
    );
    assert!(
        at["last_transaction"].as_str().unwrap() <= moment.as_str(),
        "{at}"
    );

    // As far as there is log, in the place of what was lost.
    let started = Instant::now();
    let place_of = rig.server.data_dir().join("postgres");
    let latest = ["database", "recover", "--latest", "--into"];
    let place_of = place_of.to_str().unwrap();
    let recovered = rig.server.admin(&[&latest[..], &[place_of]].concat());
    rig.server.restart();
    let took = started.elapsed();
    let stored = rig.server.dump(&rig.tenant);
    assert_eq!(named(&stored), names(["before", "between", "later"]));
    assert_ne!(rig.server.ask("select epoch from cluster"), epoch);
    assert_eq!(rig.recoveries(), std::slice::from_ref(&archive));

    // The device knows more than the server, and brings it.
    work.add(&device, "after", 3);
    device.converge();
    let stored = rig.server.dump(&rig.tenant);
    let all = ["before", "between", "later", "lost", "after"];
    assert_eq!(named(&stored), names(all));
    work.assert_stored(place, &rig.server, &stored, &[&device]);
    let org = format!("org:{}", rig.tenant);
    let own = format!("user:{}", rig.server.bootstrap("user_id"));
    assert_same(&stored, &device, &[&own, &org, "platform"]);

    // The recovered database goes on where the archive of the lost one ended: without a base
    // backup of its own it can be recovered from the other's.
    rig.archive_all();
    assert_ne!(rig.archive(), archive);
    let own = rig.archive();
    let (drill, again) = rig
        .drill("again", &["--latest", "--archive", &own])
        .unwrap();
    assert_eq!(again["base_id"], base["base_id"]);
    assert!(rig.dump_of(&drill) == stored, "the second recovery differs");
    print(place, took, &recovered);
}

/// Makes the database larger by rows of a kilobyte that hardly pack.
fn grow(server: &Server, megabytes: u64) {
    for _ in 0..megabytes / GROWTH_MB {
        let _ = server.ask(&format!(
            "insert into filler select string_agg(md5(random()::text), '')
             from generate_series(1, {}) n group by n / 32",
            GROWTH_MB * 32_000
        ));
    }
}

#[test]
fn a_database_of_any_size_is_archived_in_little_memory_and_recovered() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(in_folder(&folder));
    let half = rounds_asked_for("RECOVERY_MB").unwrap_or(MEGABYTES) / 2;
    let _ = rig.server.ask("create table filler (text text not null)");
    grow(&rig.server, half);
    let _ = rig.server.admin(&["database", "base"]);
    grow(&rig.server, half);
    rig.archive_all();
    let content = "select count(*), sum(hashtext(text)) from filler";
    let before = rig.server.ask(content);
    let size = rig
        .server
        .ask("select pg_database_size(current_database()) / 1000000")[0]
        .clone();
    let peak = process::status(rig.server.pid().unwrap(), "VmHWM:").unwrap() / 1024;
    rig.lose_database();
    let started = Instant::now();
    let into = rig.server.data_dir().join("postgres");
    let recover = ["database", "recover", "--latest", "--into"];
    let recovered = rig
        .server
        .admin(&[&recover[..], &[into.to_str().unwrap()]].concat());
    rig.server.restart();
    print(
        &format!("a database of {size} MB"),
        started.elapsed(),
        &recovered,
    );
    println!("the server took {peak} MiB at most while it archived");
    assert_eq!(rig.server.ask(content), before);
    assert!(peak < SERVER_MIB_MAX, "{peak} MiB");
}

#[expect(
    clippy::print_stdout,
    reason = "the time it takes is part of the result"
)]
fn print(place: &str, took: Duration, recovered: &Value) {
    println!(
        "{place}: recovered and serving {:.1} s after the loss (fetched {:.1} s, replayed {:.1} \
         s), base {} bytes, {} segments",
        took.as_secs_f64(),
        recovered["fetch_seconds"].as_f64().unwrap(),
        recovered["replay_seconds"].as_f64().unwrap(),
        recovered["base_bytes"],
        recovered["wal_segments"],
    );
}

/// Finds a file of the archive by how its path ends.
fn find(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> PathBuf {
    let mut files = files_below(folder).into_iter();
    let found = files.find(|path| wanted(path.to_str().unwrap()));
    found.expect("it is there")
}

/// Returns a server that stopped after a base backup and three segments, and their names.
fn archived(folder: &TempDir) -> (Rig, Vec<String>) {
    let mut rig = Rig::start(in_folder(folder));
    let _ = rig.server.admin(&["database", "base"]);
    let mut segments = Vec::new();
    for _ in 0..3 {
        let _ = rig.server.ask("create table if not exists filler (n int)");
        let _ = rig.server.ask("insert into filler values (1)");
        segments.push(rig.server.ask("select pg_walfile_name(pg_switch_wal())")[0].clone());
    }
    rig.wait_for(&segments[2]);
    rig.server.stop();
    (rig, segments)
}

/// What becomes of a file.
#[derive(Clone, Copy)]
enum Damage {
    Flipped,
    Cut,
    Replaced,
}

impl Damage {
    fn of(self, whole: &[u8]) -> Vec<u8> {
        let (mut bytes, middle) = (whole.to_vec(), whole.len() / 2);
        match self {
            Self::Flipped => bytes[middle] ^= 1,
            Self::Cut => bytes.truncate(middle),
            Self::Replaced => bytes = b"{}".to_vec(),
        }
        bytes
    }
}

#[test]
fn nothing_is_half_recovered_from_a_damaged_archive() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, segments) = archived(&folder);
    let kept = folder.path().join("backups/database");
    let segment = find(&kept, &|path| {
        path.ends_with(&format!("{}.zst", segments[1]))
    });
    let tar = find(&kept, &|path| path.ends_with(".tar.zst"));
    let manifest = find(&kept, &|path| {
        path.contains("/base/") && path.ends_with(".json")
    });
    let latest = |rig: &Rig, name: &str| rig.drill(name, &["--latest"]).unwrap_err();

    let whole = std::fs::read(&segment).unwrap();
    std::fs::remove_file(&segment).unwrap();
    let said = latest(&rig, "missing");
    assert!(
        said.contains(&segments[1]) && said.contains("--to"),
        "{said}"
    );
    std::fs::write(&segment, &whole).unwrap();

    let (bad, none) = (
        "altered, or is not complete",
        "damaged, or no part of an archive",
    );
    for (name, path, damage, expected) in [
        ("damaged segment", &segment, Damage::Flipped, bad),
        ("cut segment", &segment, Damage::Cut, bad),
        ("damaged base", &tar, Damage::Flipped, bad),
        ("damaged manifest", &manifest, Damage::Replaced, none),
    ] {
        let whole = std::fs::read(path).unwrap();
        std::fs::write(path, damage.of(&whole)).unwrap();
        let said = latest(&rig, name);
        assert!(said.contains(expected), "{name}: {said}");
        std::fs::write(path, &whole).unwrap();
    }

    let until = |name: &str, time: &str| rig.drill(name, &["--to", time]).unwrap_err();
    let early = until("early", "2020-01-01T00:00:00Z");
    assert!(early.contains("goes back to"), "{early}");
    let late = until("late", "2999-01-01T00:00:00Z");
    let fits = late.contains("was not reached") && late.contains("--latest");
    assert!(fits, "{late}");

    let keys = folder.path().join("keys");
    let right = std::fs::read(&keys).unwrap();
    std::fs::write(&keys, "ab".repeat(32)).unwrap();
    let said = latest(&rig, "wrong key");
    assert!(said.contains("which is not in the key file"), "{said}");
    std::fs::write(&keys, &right).unwrap();

    // All of it whole again: the same folder, in which an attempt was cut off.
    let (_, done) = rig.drill("damaged base", &["--latest"]).unwrap();
    assert_eq!(done["organisations"], 1);
    let occupied = rig.command(
        &[
            "database",
            "recover",
            "--latest",
            "--into",
            folder.path().to_str().unwrap(),
        ],
        &rig.server.data_dir(),
    );
    let said = String::from_utf8_lossy(&occupied.stderr).into_owned();
    assert!(said.contains("is not an empty folder"), "{said}");
}

#[test]
fn a_copy_that_is_put_back_begins_an_archive_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(in_folder(&folder));
    let device = Device::linked(&rig.server, &rig.server.bootstrap("license_key"));
    let mut work = Work::begin(&device);
    work.add(&device, "kept", 2);
    device.converge();
    let base = rig.server.admin(&["database", "base"]);
    rig.server.stop();
    let copy = rig.server.save_postgres();
    rig.server.restart();
    work.add(&device, "first branch", 2);
    device.converge();
    rig.archive_all();
    let (first, before) = (rig.archive(), rig.server.dump(&rig.tenant));
    rig.server.stop();
    rig.server.restore_postgres(&copy);
    rig.server.restart();
    work.add(&device, "second branch", 2);
    device.converge();
    // It would be named like one of the first branch.
    let _ = rig.server.ask("select pg_switch_wal()");
    let second = (0..LOOKS_MAX)
        .filter_map(|_| {
            pause(LOOK_AGAIN);
            rig.try_archive()
        })
        .find(|it| *it != first);
    let made = rig.server.admin(&["database", "base"]);
    assert_eq!(made["archive_id"].as_str(), second.as_deref());
    let after = rig.server.dump(&rig.tenant);
    for (name, archive, stored) in [
        ("first", first.as_str(), &before),
        ("second", made["archive_id"].as_str().unwrap(), &after),
    ] {
        let (drill, _) = rig
            .drill(name, &["--latest", "--archive", archive])
            .unwrap();
        assert!(rig.dump_of(&drill) == *stored, "{name} differs");
    }
    assert_eq!(base["archive_id"], first.as_str());

    // What was recovered takes the server's place, which must not run then.
    let from = rig.drills.path().join("first/postgres");
    let put = ["database", "use", from.to_str().unwrap(), "--yes"];
    let running = rig.command(&put, &rig.server.data_dir());
    assert_eq!(running.status.code(), Some(3));
    rig.server.stop();
    let asked = rig.command(&put[..3], &rig.server.data_dir());
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(!asked.status.success() && said.contains("--yes"), "{said}");
    let done = rig.server.admin(&put);
    assert!(
        Path::new(done["before"].as_str().unwrap())
            .join("data")
            .is_dir()
    );
    rig.server.restart();
    assert_eq!(rig.recoveries(), std::slice::from_ref(&first));
    // It is said once, by the server that serves it first.
    rig.server.stop();
    rig.server.restart();
    assert_eq!(rig.recoveries(), [first]);
    device.converge();
    let stored = rig.server.dump(&rig.tenant);
    work.assert_stored("put in place", &rig.server, &stored, &[&device]);
}
