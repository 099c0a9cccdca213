//! Backups of real files: taken while another process writes, refused when a bit is wrong, put
//! back whole or not at all.

use coditect_local_store::backup::{BackupError, Backups, KEPT, Kind};
use coditect_local_store::{Lease, LocalStore, Random, RowFilter};
use coditect_protocol::catalogue::File;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{NOW, bind, folder, row};

const DAY: i64 = 86_400_000;
/// Says what the process that this test starts anew is for, and where.
const ROLE: &str = "COD_BACKUP_ROLE";
const PLACE: &str = "COD_BACKUP_PLACE";

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { folder: folder() };
        let _ = world.store();
        world
    }

    fn databases(&self) -> PathBuf {
        self.folder.path().join("context-storage")
    }

    fn backups(&self) -> Backups {
        Backups::new(self.folder.path().join("backups"))
    }

    fn store(&self) -> LocalStore {
        LocalStore::open(&self.databases(), NOW, Random::System).unwrap()
    }

    fn add(&self, titles: &[&str]) {
        let mut store = self.store();
        for title in titles {
            add(&mut store, title);
        }
    }

    fn titles(&self) -> BTreeSet<String> {
        titles(&self.store())
    }

    fn lease(&self) -> Lease {
        LocalStore::lease_of(&self.databases()).unwrap()
    }

    fn take(&self, kind: Kind, now_ms: i64) -> String {
        let taken = self
            .backups()
            .take(&self.databases(), &File::ALL, kind, now_ms, |_| {});
        taken.unwrap().id
    }

    fn put_back(&self, id: &str) -> Result<Option<String>, BackupError> {
        let owner = self.store().owner_of_folder();
        let put = self.backups().put_back(
            &self.databases(),
            &self.lease(),
            owner,
            (id, &[File::Org]),
            NOW,
            |_| {},
        )?;
        Ok(put.undo.map(|undo| undo.id))
    }

    /// Runs this test's program again, as another process that can be killed.
    fn spawn(&self, test: &str, role: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(ROLE, role)
            .env(PLACE, self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }
}

fn add(store: &mut LocalStore, title: &str) {
    let row = row(json!({"title": title, "rationale": "x".repeat(300)}));
    store.insert("org_decisions", "user", row, NOW).unwrap();
}

fn titles(store: &LocalStore) -> BTreeSet<String> {
    let filter = RowFilter {
        limit: 1_000_000,
        ..RowFilter::default()
    };
    let rows = store.list("org_decisions", &filter).unwrap();
    rows.iter()
        .map(|view| view.row["title"].as_str().unwrap().to_owned())
        .collect()
}

fn set(titles: &[&str]) -> BTreeSet<String> {
    titles.iter().map(ToString::to_string).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's size, and what a process of it is for"
)]
fn rounds(variable: &str, small: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(small)
}

/// Returns the folder when this process was started by a test for that role.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's size, and what a process of it is for"
)]
fn role(role: &str) -> Option<PathBuf> {
    let is_it = std::env::var(ROLE).is_ok_and(|name| name == role);
    is_it.then(|| PathBuf::from(std::env::var_os(PLACE).unwrap()))
}

#[test]
fn a_backup_is_put_back_and_taken_back() {
    let world = World::new();
    world.add(&["one", "two"]);
    let id = world.take(Kind::Manual, NOW);
    world.add(&["three"]);
    let store = world.store();
    let before = store.outside_version(File::Org).unwrap();
    let undo = world.put_back(&id).unwrap().unwrap();
    // Who had the file open sees the change.
    assert_ne!(store.outside_version(File::Org).unwrap(), before);
    assert_eq!(titles(&store), set(&["one", "two"]));
    assert!(store.integrity_check(File::Org).unwrap().is_empty());
    let again = world.put_back(&id).unwrap().unwrap();
    assert_ne!(again, undo);
    assert_eq!(world.titles(), set(&["one", "two"]));
    world.put_back(&undo).unwrap();
    assert_eq!(world.titles(), set(&["one", "two", "three"]));
}

#[test]
fn a_comparison_counts_what_would_change() {
    let world = World::new();
    world.add(&["stays", "goes", "changes"]);
    let id = world.take(Kind::Manual, NOW);
    world.add(&["new"]);
    let mut store = world.store();
    let rows = store
        .list(
            "org_decisions",
            &RowFilter {
                limit: 9,
                ..RowFilter::default()
            },
        )
        .unwrap();
    for view in rows {
        let id = view.id.unwrap();
        match view.row["title"].as_str().unwrap() {
            "goes" => assert!(store.delete("org_decisions", "user", &id, NOW + 1).unwrap()),
            "changes" => {
                let patch = row(json!({"rationale": "other"}));
                store
                    .update("org_decisions", "user", &id, &patch, NOW + 1)
                    .unwrap();
            }
            _ => {}
        }
    }
    drop(store);
    let found = world
        .backups()
        .compare(&world.databases(), &id, &File::ALL)
        .unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let one = found[0];
    assert_eq!(one.table, "decisions");
    assert_eq!((one.come_back, one.go, one.older, one.newer), (1, 1, 1, 0));
}

#[test]
fn seven_daily_ones_are_kept_and_all_that_were_made_by_hand() {
    let world = World::new();
    world.add(&["one"]);
    let backups = world.backups();
    for day in 0..10 {
        let now = NOW + day * DAY;
        assert!(
            backups
                .take_daily(&world.databases(), now)
                .unwrap()
                .is_some()
        );
        assert!(
            backups
                .take_daily(&world.databases(), now + DAY / 2)
                .unwrap()
                .is_none()
        );
        if day < 2 {
            world.take(Kind::Manual, now);
        }
    }
    let listed = backups.list().unwrap();
    let of = |kind| {
        listed
            .iter()
            .filter(|one| one.manifest.as_ref().unwrap().kind == kind)
            .count()
    };
    assert_eq!((of(Kind::Daily), of(Kind::Manual)), (KEPT, 2));
    assert_eq!(
        backups.last_daily_ms().unwrap(),
        Some(NOW / 1_000 * 1_000 + 9 * DAY)
    );
    backups.remove(&listed[0].id).unwrap();
    assert!(matches!(
        backups.verify(&listed[0].id),
        Err(BackupError::NotFound(_))
    ));
    assert!(matches!(
        backups.verify("../context-storage"),
        Err(BackupError::NotFound(_))
    ));
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_a_backup() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let id = world.take(Kind::Manual, NOW);
    let inside = world.backups().folder().join(id);
    for (path, mode) in [
        (inside.clone(), 0o700),
        (inside.join("org.db"), 0o600),
        (inside.join("manifest.json"), 0o600),
    ] {
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            mode,
            "{path:?}"
        );
    }
}

/// Bits in the copies and in what is written about them.
/// Locks of this process on a file.
#[cfg(target_os = "linux")]
fn locks(path: &Path) -> usize {
    use std::os::unix::fs::MetadataExt as _;
    let of_file = format!(":{}", fs::metadata(path).unwrap().ino());
    let process = std::process::id().to_string();
    let held = fs::read_to_string("/proc/locks").unwrap();
    let words = held.lines().map(str::split_whitespace);
    words
        .filter(|words| {
            let place = words.clone().find(|word| word.ends_with(&of_file));
            place.is_some() && words.clone().any(|word| word == process)
        })
        .count()
}

/// A process loses its locks on a file when it closes the file in any other way than SQLite's;
/// then others may remove the log that it still writes to.
#[cfg(target_os = "linux")]
#[test]
fn a_backup_takes_no_lock_away_from_its_process() {
    let world = World::new();
    let mut store = world.store();
    add(&mut store, "first");
    let path = world.databases().join("org.db");
    let before = locks(&path);
    assert!(before > 0);
    let daily = world.backups().take_daily(&world.databases(), NOW);
    assert!(daily.unwrap().is_some());
    assert_eq!(locks(&path), before);
    let id = world.take(Kind::Manual, NOW);
    let compared = world.backups().compare(&world.databases(), &id, &File::ALL);
    assert_eq!(compared.unwrap(), []);
    assert_eq!(locks(&path), before);
}

#[test]
fn a_flipped_bit_is_refused_and_changes_nothing() {
    let world = World::new();
    world.add(&["one", "two"]);
    let id = world.take(Kind::Manual, NOW);
    world.add(&["three"]);
    let seed = rounds("FLIPPED_SEED", u64::from(std::process::id()));
    let rounds = rounds("FLIPPED_BACKUPS", 20);
    println!("seed {seed}");
    let mut random = Random::Seeded(seed);
    let inside = world.backups().folder().join(&id);
    for round in 0..rounds {
        let name = ["org.db", "sessions.db", "manifest.json"][(round % 3) as usize];
        let path = inside.join(name);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        if round % 5 == 0 {
            bytes.truncate((random.bits() % whole.len() as u64) as usize);
        } else {
            let at = (random.bits() % whole.len() as u64) as usize;
            bytes[at] ^= 1 << (random.bits() % 8);
        }
        fs::write(&path, bytes).unwrap();
        let refused = world.put_back(&id);
        assert!(
            matches!(refused, Err(BackupError::Damaged { .. })),
            "{round} {name}: {refused:?}"
        );
        assert_eq!(
            world.titles(),
            set(&["one", "two", "three"]),
            "{round} {name}"
        );
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(world.backups().list().unwrap().len(), 1);
    world.put_back(&id).unwrap();
    assert_eq!(world.titles(), set(&["one", "two"]));
}

#[test]
fn a_flipped_bit_in_any_byte_of_a_manifest_is_refused() {
    let world = World::new();
    let id = world.take(Kind::Manual, NOW);
    let path = world.backups().folder().join(&id).join("manifest.json");
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, bytes).unwrap();
        let read = world.backups().verify(&id);
        assert!(
            matches!(read, Err(BackupError::Damaged { .. })),
            "{at}: {read:?}"
        );
    }
    fs::write(&path, whole).unwrap();
    world.backups().verify(&id).unwrap();
}

#[test]
fn a_backup_of_another_account_or_of_another_file_is_refused() {
    let (world, other) = (World::new(), World::new());
    bind(&mut world.store());
    other
        .store()
        .bind(
            coditect_protocol::OrganizationId::new(uuid::Uuid::from_u128(1)),
            coditect_protocol::UserId::new(uuid::Uuid::from_u128(2)),
        )
        .unwrap();
    let id = other.take(Kind::Manual, NOW);
    let (from, to) = (
        other.backups().folder().join(&id),
        world.backups().folder().join(&id),
    );
    fs::create_dir_all(&to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    assert!(matches!(world.put_back(&id), Err(BackupError::Foreign(_))));
    let taken = world.backups().take(
        &world.databases(),
        &[File::Projects],
        Kind::Manual,
        NOW + 5_000,
        |_| {},
    );
    assert!(matches!(
        world.put_back(&taken.unwrap().id),
        Err(BackupError::NotFound(_))
    ));
}

/// A process writes pairs, each in one transaction; a copy that mixed two moments would hold
/// half a pair.
#[test]
fn writers_go_on_while_a_copy_is_made() {
    const TEST: &str = "backups::writers_go_on_while_a_copy_is_made";
    if let Some(place) = role("writer") {
        let connection = rusqlite::Connection::open(place.join("context-storage/org.db")).unwrap();
        connection
            .busy_timeout(std::time::Duration::from_secs(10))
            .unwrap();
        for n in 0.. {
            let pair = format!("insert into decisions (title) values ('a {n}'), ('b {n}')");
            connection.execute(&pair, []).unwrap();
        }
    }
    let world = World::new();
    let store = world.store();
    // More than is copied in one step.
    rusqlite::Connection::open(world.databases().join("org.db"))
        .unwrap()
        .execute_batch(
            "insert into decisions (title, rationale) with recursive n (i) as
               (select 1 union all select i + 1 from n where i < 4000)
             select 'before ' || i, hex(zeroblob(200)) from n;",
        )
        .unwrap();
    let mut writer = world.spawn(TEST, "writer");
    let version = store.outside_version(File::Org).unwrap();
    while store.outside_version(File::Org).unwrap() == version {
        assert!(writer.try_wait().unwrap().is_none());
    }
    let mut written = BTreeSet::new();
    for round in 0..rounds("BACKUP_ROUNDS", 2) {
        let mut steps = 0;
        let taken = world.backups().take(
            &world.databases(),
            &[File::Org],
            Kind::Manual,
            NOW + 1_000 * round as i64,
            |_| {
                steps += 1;
                written.insert(store.outside_version(File::Org).unwrap());
            },
        );
        let manifest = taken.unwrap();
        assert!(steps > 0);
        let copy = World { folder: folder() };
        fs::create_dir_all(copy.databases()).unwrap();
        let from = world.backups().folder().join(&manifest.id).join("org.db");
        fs::copy(from, copy.databases().join("org.db")).unwrap();
        let titles = copy.titles();
        let halves = |half: &str| {
            titles
                .iter()
                .filter(|title| title.starts_with(half))
                .count()
        };
        assert_eq!(halves("a "), halves("b "), "a pair was torn");
        assert_eq!(
            titles.len() as u64,
            manifest.saved(File::Org).unwrap().tables["decisions"]
        );
    }
    let stopped = writer.try_wait().unwrap();
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(stopped.is_none(), "the writer met an error");
    assert!(written.len() > 1, "nobody wrote meanwhile");
}

/// Killed anywhere: the database is the old or the new one, and no half backup is listed.
#[test]
fn a_kill_leaves_the_old_or_the_new() {
    const TEST: &str = "backups::a_kill_leaves_the_old_or_the_new";
    if let Some(place) = role("restorer") {
        work_until_killed(&place);
    }
    let world = World::new();
    let mut store = world.store();
    for n in 0..60 {
        add(&mut store, &format!("old {n}"));
    }
    let old = titles(&store);
    let first = world.take(Kind::Manual, NOW);
    for n in 0..60 {
        add(&mut store, &format!("new {n}"));
    }
    let new = titles(&store);
    let second = world.take(Kind::Manual, NOW + 1_000);
    drop(store);
    fs::write(world.folder.path().join("ids"), format!("{first} {second}")).unwrap();
    let mut random = Random::Seeded(rounds("KILLED_RESTORES", 5));
    let mut seen = [0, 0];
    for round in 0..rounds("KILLED_RESTORES", 5) {
        let log = world.folder.path().join("rounds");
        let _ = fs::remove_file(&log);
        let mut worker = world.spawn(TEST, "restorer");
        // Killed a random while after it began: at its so-manieth step.
        let steps = 1 + random.bits() % 12;
        while fs::metadata(&log).map_or(0, |log| log.len()) < steps {
            assert!(worker.try_wait().unwrap().is_none(), "round {round}");
        }
        worker.kill().unwrap();
        worker.wait().unwrap();
        let store = world.store();
        assert!(
            store.integrity_check(File::Org).unwrap().is_empty(),
            "round {round}"
        );
        let found = titles(&store);
        assert!(
            found == old || found == new,
            "round {round}: {} rows",
            found.len()
        );
        seen[usize::from(found == new)] += 1;
        let listed = world.backups().list().unwrap();
        assert!(listed.iter().all(|one| one.manifest.is_ok()), "{listed:?}");
    }
    for listed in world.backups().list().unwrap() {
        world.backups().verify(&listed.id).unwrap();
    }
    println!(
        "found the old one {} times, the new one {} times",
        seen[0], seen[1]
    );
    // What the kills left is gone after the next one.
    world.take(Kind::Manual, NOW + 9_000_000);
    let left = fs::read_dir(world.backups().folder()).unwrap().flatten();
    assert!(
        left.into_iter()
            .all(|entry| !entry.file_name().to_string_lossy().contains("unfinished"))
    );
}

/// Puts two backups back in turn and notes each step, so that the other process knows how far
/// it is.
fn work_until_killed(place: &Path) -> ! {
    use std::io::Write as _;
    let ids = fs::read_to_string(place.join("ids")).unwrap();
    let ids: Vec<&str> = ids.split(' ').collect();
    let backups = Backups::new(place.join("backups"));
    let databases = place.join("context-storage");
    let mut log = fs::File::create(place.join("rounds")).unwrap();
    let mut now = NOW + 10_000;
    loop {
        for id in &ids {
            now += 1_000;
            log.write_all(b".").unwrap();
            let lease = LocalStore::lease_of(&databases).unwrap();
            backups
                .put_back(&databases, &lease, None, (id, &[File::Org]), now, |_| {
                    log.write_all(b".").unwrap();
                })
                .unwrap();
            log.write_all(b".").unwrap();
            backups
                .take(&databases, &[File::Org], Kind::Daily, now, |_| {
                    log.write_all(b".").unwrap();
                })
                .unwrap();
        }
    }
}

/// What nobody else has is read around the damage.
#[test]
fn unsent_rows_are_saved_from_a_damaged_file() {
    let world = World::new();
    let mut store = world.store();
    for n in 0..120 {
        add(&mut store, &format!("row {n}"));
    }
    drop(store);
    let path = world.databases().join("org.db");
    let mut bytes = fs::read(&path).unwrap();
    let needle = b"row 60";
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle)
        .unwrap();
    let page = at / 4_096 * 4_096;
    bytes[page..page + 4_096].fill(0x5a);
    let aside = world.databases().join("org.db.damaged");
    fs::remove_file(&path).unwrap();
    fs::write(&aside, bytes).unwrap();
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(world.databases().join(format!("org.db{end}")));
    }
    let mut store = world.store();
    let saved = store.salvage(&aside, File::Org).unwrap();
    let found = titles(&store);
    println!("{saved:?}, {} rows", found.len());
    assert!(found.len() > 60 && found.len() < 120, "{saved:?}");
    assert!(
        found.contains("row 0") && found.contains("row 119"),
        "{saved:?}"
    );
    assert!(saved.unreadable > 0);
    // Once more adds nothing.
    assert_eq!(store.salvage(&aside, File::Org).unwrap().saved, 0);
    assert_eq!(
        store.queue_state(File::Org).unwrap().queued,
        found.len() as u64
    );
}
