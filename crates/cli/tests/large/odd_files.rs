//! Transcripts that are no ordinary files, or not yet whole: each is named, and costs no other.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::machine::{Machine, asked_for};

/// Records of the transcript that grows in an ordinary run.
const RECORDS: u64 = 600;

fn line(session: &str, at: u64) -> String {
    let record = json!({
        "type": "user", "uuid": format!("{session}-{at}"), "sessionId": session,
        "timestamp": "2026-02-03T03:51:03.761Z", "cwd": "/home/ann/app", "version": "2.1.29",
        "message": {"role": "user", "content": format!("{session} {at}")},
    });
    format!("{record}\n")
}

fn folder(machine: &Machine) -> PathBuf {
    let folder = machine.path("agent/projects/-home-ann-app");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn write(folder: &Path, session: &str, count: u64) {
    let lines: String = (0..count).map(|at| line(session, at)).collect();
    std::fs::write(folder.join(format!("{session}.jsonl")), lines).unwrap();
}

fn import(machine: &Machine) -> Value {
    let from = machine.path("agent");
    let told = machine.ok(&[
        "import",
        "claude",
        "--json",
        "--from",
        &from.to_string_lossy(),
    ]);
    serde_json::from_str(&told).unwrap()
}

fn names(import: &Value) -> Vec<String> {
    let reasons = import["unreadable"].as_array().unwrap();
    let text = |reason: &Value| reason.as_str().unwrap().to_owned();
    reasons.iter().map(text).collect()
}

#[cfg(unix)]
#[test]
fn a_symlinked_transcript_is_read_once_or_named_and_left_alone() {
    use std::os::unix::fs::symlink;

    let machine = Machine::new();
    let folder = folder(&machine);
    write(&folder, "good", 5);
    let outside = machine.path("private");
    std::fs::create_dir(&outside).unwrap();
    write(&outside, "outside", 5);
    symlink(folder.join("good.jsonl"), folder.join("leads-in.jsonl")).unwrap();
    symlink(
        outside.join("outside.jsonl"),
        folder.join("leads-out.jsonl"),
    )
    .unwrap();
    symlink(folder.join("nothing"), folder.join("dangles.jsonl")).unwrap();
    let told = import(&machine);
    let named = names(&told);
    assert_eq!(named.len(), 2, "{named:?}");
    for name in ["leads-out", "dangles"] {
        assert!(
            named.iter().any(|reason| reason.contains(name)),
            "{named:?}"
        );
    }
    let counts = "select count(*), count(distinct message_id),
                  count(*) filter (where session_id = 'good') from messages";
    assert_eq!(machine.numbers(counts), [5; 3]);
}

#[cfg(unix)]
#[test]
fn an_unreadable_transcript_is_named_and_read_when_it_can_be() {
    use std::os::unix::fs::PermissionsExt as _;

    let machine = Machine::of_nobody();
    let folder = folder(&machine);
    for session in ["a", "locked", "z"] {
        write(&folder, session, 5);
    }
    let locked = folder.join("locked.jsonl");
    let allow = |mode| {
        let rights = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&locked, rights).unwrap();
    };
    allow(0o000);
    let named = names(&import(&machine));
    assert_eq!(named.len(), 1, "{named:?}");
    assert!(named[0].contains("locked"), "{named:?}");
    let counts = "select count(*), count(distinct session_id) from messages";
    assert_eq!(machine.numbers(counts), [10, 2]);
    allow(0o644);
    assert_eq!(names(&import(&machine)), [""; 0]);
    assert_eq!(machine.numbers(counts), [15, 3]);
}

/// An agent writes while imports run, in pieces that end anywhere: nothing is missing at the end,
/// nothing doubled, and no half of a line was taken for a damaged one. Two imports at a time meet
/// in the archive as well.
#[test]
fn a_transcript_that_grows_while_it_is_read_is_whole_in_the_end() {
    let records = asked_for("GROW_RECORDS", RECORDS);
    let machine = Machine::new();
    let folder = folder(&machine);
    let over = AtomicBool::new(false);
    let imports = std::thread::scope(|scope| {
        scope.spawn(|| {
            let path = folder.join("grows.jsonl");
            let mut file = std::fs::File::create(path).unwrap();
            let text: String = (0..records).map(|at| line("grows", at)).collect();
            for (number, piece) in text.as_bytes().chunks(97).enumerate() {
                file.write_all(piece).unwrap();
                // An import now and then, so that some meet a file of every length.
                if number.is_multiple_of(300) {
                    import(&machine);
                }
            }
            over.store(true, Ordering::Release);
        });
        let mut imports = 0;
        while !over.load(Ordering::Acquire) {
            let told = import(&machine);
            assert_eq!(told["damaged"], json!([]), "{told}");
            imports += 1;
        }
        imports
    });
    let told = import(&machine);
    assert_eq!(told["damaged"], json!([]), "{told}");
    let counts = "select count(*), count(distinct message_id), count(distinct content)
                  from messages";
    assert_eq!(machine.numbers(counts), [records; 3]);
    machine.assert_archived("grows", &folder.join("grows.jsonl"));
    println!("{records} records, written in pieces beside {imports} imports");
}
