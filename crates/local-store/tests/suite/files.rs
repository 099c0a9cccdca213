//! Opening: what is not ours is left untouched, what is ours is private and has one owner.

use coditect_local_store::{APPLICATION_ID, Error, LocalStore, Random, SearchQuery};
use coditect_protocol::catalogue::File;
use coditect_protocol::{DeviceId, OrganizationId, UserId};
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

use crate::support::{NOW, TENANT, USER, bind};

fn open(folder: &Path) -> Result<LocalStore, Error> {
    LocalStore::open(folder, NOW, Random::Seeded(1))
}

/// Opens the folder, which must fail and leave the file as it was.
fn refused(folder: &Path, name: &str) -> Error {
    let path = folder.join(name);
    let before = std::fs::read(&path).unwrap();
    let error = open(folder).unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), before, "{name} was touched");
    error
}

#[test]
fn a_file_that_is_no_database_is_left_untouched() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("org.db"),
        "my notes, longer than a header ".repeat(40),
    )
    .unwrap();
    assert!(matches!(
        refused(folder.path(), "org.db"),
        Error::NotADatabase(_)
    ));
}

#[test]
fn a_database_of_another_program_is_left_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let other = Connection::open(folder.path().join("sessions.db")).unwrap();
    other
        .execute_batch("create table sessions (mine text)")
        .unwrap();
    drop(other);
    assert!(matches!(
        refused(folder.path(), "sessions.db"),
        Error::NotOurs(_)
    ));
}

#[test]
fn a_newer_database_is_left_untouched() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let newer = Connection::open(folder.path().join("projects.db")).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let error = refused(folder.path(), "projects.db");
    assert!(matches!(error, Error::TooNew { found: 99, .. }), "{error}");
}

#[test]
fn a_file_in_the_place_of_another_is_left_untouched() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let path = |name: &str| folder.path().join(name);
    std::fs::copy(path("org.db"), path("projects.db")).unwrap();
    let error = refused(folder.path(), "projects.db");
    assert!(matches!(error, Error::WrongFile { .. }), "{error}");
}

#[test]
fn a_damaged_file_is_named_and_left_untouched() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let path = folder.path().join("sessions.db");
    let whole = std::fs::read(&path).unwrap();
    for length in [whole.len() / 2, 4096, 600] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = refused(folder.path(), "sessions.db");
        assert_eq!(error.storage_code(), Some("damaged"), "{length}: {error}");
    }
    std::fs::write(&path, &whole[..60]).unwrap();
    let error = refused(folder.path(), "sessions.db");
    assert!(matches!(error, Error::NotADatabase(_)), "{error}");
}

#[test]
fn nothing_is_made_beside_a_file_that_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let other = Connection::open(folder.path().join("projects.db")).unwrap();
    let sql = "pragma journal_mode = wal; create table projects (mine text);";
    other.execute_batch(sql).unwrap();
    drop(other);
    let error = refused(folder.path(), "projects.db");
    assert!(matches!(error, Error::NotOurs(_)), "{error}");
    let names = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    let names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(names)
        .collect();
    assert_eq!(names, ["projects.db"]);
    let looks = LocalStore::look_at(folder.path());
    let refused: Vec<_> = looks.iter().filter(|(_, look)| look.is_err()).collect();
    assert_eq!((looks.len(), refused.len()), (4, 1));
}

#[test]
fn our_files_carry_our_mark_and_are_in_wal_mode() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    for name in ["org", "sessions", "projects", "platform"] {
        let file = Connection::open(folder.path().join(format!("{name}.db"))).unwrap();
        let id: i32 = file
            .pragma_query_value(None, "application_id", |row| row.get(0))
            .unwrap();
        let mode: String = file
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .unwrap();
        assert_eq!((id, mode.as_str()), (APPLICATION_ID, "wal"));
    }
}

#[cfg(unix)]
#[test]
fn nobody_else_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("data").join("context-storage");
    let store = open(&folder).unwrap();
    store.lease().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    drop(store);
    let path = folder.join("org.db");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(&folder).unwrap());
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_folder_has_one_device_and_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = open(folder.path()).unwrap();
    let device = first.device();
    bind(&mut first);
    bind(&mut first);
    let stranger = UserId::new(Uuid::from_u128(0xbad));
    let error = first
        .bind(OrganizationId::new(TENANT), stranger)
        .unwrap_err();
    assert!(error.to_string().contains("--profile"), "{error}");
    drop(first);
    let mut again = LocalStore::open(folder.path(), NOW, Random::Seeded(2)).unwrap();
    assert_eq!(again.device(), device);
    assert_eq!(again.owner_of_folder().unwrap().user, UserId::new(USER));
    assert!(
        again
            .bind(OrganizationId::new(Uuid::nil()), UserId::new(USER))
            .is_err()
    );
}

#[test]
fn a_fence_that_was_cut_off_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path()).unwrap();
    bind(&mut store);
    let device = DeviceId::new(Uuid::from_u128(0xfe));
    store.set_device(device).unwrap();
    drop(store);
    let sessions = Connection::open(folder.path().join("sessions.db")).unwrap();
    let back = "update sync_meta set value = ?1 where key = 'device_id'";
    sessions.execute(back, [Uuid::nil().to_string()]).unwrap();
    sessions
        .execute("insert into sync_token (token) values ('old')", [])
        .unwrap();
    assert_eq!(open(folder.path()).unwrap().device(), device);
    let tokens: i64 = sessions
        .query_row("select count(*) from sync_token", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tokens, 0);
}

#[test]
fn one_process_at_a_time_syncs() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (open(folder.path()).unwrap(), open(folder.path()).unwrap());
    let lease = first.lease().unwrap();
    assert!(matches!(second.lease(), Err(Error::Leased)));
    drop(lease);
    second.lease().unwrap();
}

/// What a hook writes.
fn message(id: &str) -> coditect_protocol::wire::Row {
    crate::support::row(serde_json::json!({
        "message_id": id, "session_id": "s", "role": "user", "content": "found at once",
    }))
}

#[test]
fn one_file_is_opened_for_quick_writes() {
    const QUICK: Duration = Duration::ZERO;
    let folder = tempfile::tempdir().unwrap();
    let one = |file| LocalStore::open_one(folder.path(), file, QUICK, Random::Seeded(3));
    assert!(one(File::Sessions).unwrap().is_none(), "nothing there yet");
    let mut full = open(folder.path()).unwrap();
    bind(&mut full);
    drop(full);
    let mut quick = one(File::Sessions).unwrap().unwrap();
    assert_eq!(quick.owner_of_folder().unwrap().user, UserId::new(USER));
    let rows = vec![("context_messages", message("m1"))];
    let done = quick.ingest(File::Sessions, rows, None, NOW).unwrap();
    assert_eq!(done.inserted, 1);
    assert!(matches!(
        quick.list("org_decisions", &Default::default()),
        Err(Error::NotOpen(File::Org))
    ));

    let other = Connection::open(folder.path().join("sessions.db")).unwrap();
    other.execute_batch("begin immediate").unwrap();
    let rows = vec![("context_messages", message("m2"))];
    let error = quick.ingest(File::Sessions, rows, None, NOW).unwrap_err();
    assert!(matches!(error, Error::Busy(File::Sessions)), "{error}");
    other.execute_batch("rollback").unwrap();
    drop((other, quick));

    let mut full = open(folder.path()).unwrap();
    let query = SearchQuery {
        text: "found".to_owned(),
        limit: 10,
        ..SearchQuery::default()
    };
    assert_eq!(full.search(&query, NOW).unwrap().len(), 1);
    assert_eq!(full.queue_state(File::Sessions).unwrap().queued, 1);
}

#[test]
fn the_log_of_quick_writes_is_emptied_on_demand_only() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("sessions.db-wal");
    let length = || std::fs::metadata(&log).map_or(0, |log| log.len());
    let shorten = || LocalStore::shorten_log(folder.path(), File::Sessions);
    assert!(!shorten().unwrap(), "nothing there yet");
    drop(open(folder.path()).unwrap());
    let write = |id: &str| {
        let random = Random::Seeded(3);
        let store = LocalStore::open_one(folder.path(), File::Sessions, Duration::ZERO, random);
        let rows = vec![("context_messages", message(id))];
        let mut store = store.unwrap().unwrap();
        store.ingest(File::Sessions, rows, None, NOW).unwrap();
    };
    for number in 0..20 {
        write(&format!("m{number}"));
    }
    let long = length();
    let reader = Connection::open(folder.path().join("sessions.db")).unwrap();
    reader
        .execute_batch("begin; select count(*) from messages")
        .unwrap();
    write("m20");
    assert!(!shorten().unwrap(), "somebody reads what the log still has");
    assert!(length() >= long);
    drop(reader);
    write("m21");
    assert!(shorten().unwrap());
    assert!(length() < long / 4, "{} of {long}", length());
    write("m22");
    let store = open(folder.path()).unwrap();
    assert_eq!(store.count("context_messages").unwrap()[0].1, 23);
    let state = store.queue_state(File::Sessions).unwrap();
    assert_eq!(state.queued, 23, "marked once each, without triggers");
}

#[test]
fn one_file_that_is_not_ours_or_of_another_version_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let version = |version: i64| {
        let file = Connection::open(folder.path().join("sessions.db")).unwrap();
        file.pragma_update(None, "user_version", version).unwrap();
    };
    let one = || {
        let random = Random::Seeded(3);
        LocalStore::open_one(folder.path(), File::Sessions, Duration::ZERO, random)
    };
    version(1);
    assert!(one().unwrap().is_none());
    version(99);
    assert!(matches!(one(), Err(Error::TooNew { found: 99, .. })));
    std::fs::write(folder.path().join("sessions.db"), "notes").unwrap();
    assert!(matches!(one(), Err(Error::NotADatabase(_))));
}

/// Only the loss of power would show what is lost without it.
#[test]
fn the_critical_file_is_written_through_to_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let synchronous = |file| store.query_sql(file, "pragma synchronous").unwrap()[0][0].as_i64();
    assert_eq!(synchronous(File::Org), Some(2), "full");
    for file in [File::Sessions, File::Projects, File::Platform] {
        assert_eq!(synchronous(file), Some(1), "normal: {file}");
    }
}

/// What another program writes is on the disk before it is seen here. Once its row is adopted,
/// its secret is gone from the file and the journal, short or on pages of its own.
#[test]
fn a_secret_that_sql_wrote_is_gone_from_the_bytes_once_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let secret = ["ghp_", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF1234"].concat();
    let mut store = open(folder.path()).unwrap();
    let files = || {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        let holds = |path: &std::path::Path| {
            let bytes = std::fs::read(path).unwrap();
            bytes
                .windows(secret.len())
                .any(|at| at == secret.as_bytes())
        };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| holds(path)).collect::<Vec<_>>()
    };
    let other = Connection::open(folder.path().join("org.db")).unwrap();
    for long in [false, true] {
        let text = format!(
            "use {secret}{}",
            if long {
                "x ".repeat(20_000)
            } else {
                String::new()
            }
        );
        other
            .execute(
                "insert into decisions (title, rationale) values ('key', ?1)",
                [&text],
            )
            .unwrap();
    }
    assert!(!files().is_empty(), "it was written as it is");
    let adopted = store.adopt(File::Org, NOW).unwrap();
    assert_eq!((adopted.ready, adopted.cleaned), (2, 2));
    assert_eq!(files(), Vec::<std::path::PathBuf>::new());
}
