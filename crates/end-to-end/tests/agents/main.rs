//! Scripted stand-ins for the agents: they write transcripts and call hooks as the formats say,
//! two of each at a time, through a day of work in as little time as it takes, while hooks and
//! imports are killed, lines are written in halves, and another program holds the database.
//! Afterwards everything that the scripts' own ledger has is there, once.
//! `AGENT_SESSIONS` says how many sessions each stand-in plays.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

mod book;
mod claude;
mod hooks;
mod others;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use coditect_end_to_end::{Device, rounds_asked_for};

use book::Book;
use claude::Claude;
use hooks::Random;

/// Sessions of each stand-in in an ordinary run.
const SESSIONS: u64 = 3;
/// Rounds after which left work must be done.
const WORK_ROUNDS_MAX: u32 = 3_000;

#[test]
fn a_day_of_work_with_crashes_loses_and_doubles_nothing() {
    let sessions = rounds_asked_for("AGENT_SESSIONS").unwrap_or(SESSIONS);
    let device = Device::new();
    // So that the databases are there: the first hooks would spool until a worker made them.
    assert_eq!(device.run(&["status"]).code, 0);
    let (book, over) = (Mutex::new(Book::default()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let others = scope.spawn(|| disturb(&device, &over));
        let mut players = Vec::new();
        for player in 0..2 {
            let (device, book) = (&device, &book);
            players.push(scope.spawn(move || {
                for session in 0..sessions {
                    Claude::new(device, player * 1_000 + session).play(book);
                }
            }));
            players.push(scope.spawn(move || {
                for session in 0..sessions {
                    others::codex(device, player * 1_000 + session, book);
                    others::gemini(device, player * 1_000 + session, book);
                }
            }));
        }
        for player in players {
            player.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
        others.join().unwrap();
    });
    let book = book.into_inner().unwrap();
    assert!(book.killed > 0 && book.halves > 0, "nothing was disturbed");
    finish(&device);
    compare(&device, &book);
    // What hooks have brought in is all that the transcripts hold.
    let import = device.json(&["import", "claude"]);
    for table in ["messages", "tool_analytics", "task_tracking"] {
        assert_eq!(import["rows"][table]["inserted"], 0, "{table}: {import}");
    }
    compare(&device, &book);
    println!(
        "{} messages, {} calls of tools, {} tasks; {} hooks, {} of them killed, {} halves of lines",
        book.messages,
        book.calls,
        book.tasks.len(),
        book.hooks,
        book.killed,
        book.halves
    );
}

/// Holds the database for moments, and kills imports, workers and who takes in the spool.
fn disturb(device: &Device, over: &AtomicBool) {
    let mut random = Random(77);
    while !over.load(Ordering::Relaxed) {
        let mut shell = device.shell("sessions");
        shell.ask("begin immediate; select 1;").unwrap();
        for _ in 0..random.below(4) {
            let _ = device.run(&["--version"]);
        }
        shell.ask("commit; select 1;").unwrap();
        drop(shell);
        let words: &[&str] = match random.below(3) {
            0 => &["import", "claude"],
            1 => &["hook", "--drain"],
            _ => &["hook", "--work"],
        };
        let mut child = device.spawn(words);
        for _ in 0..random.below(12) {
            let _ = device.run(&["--version"]);
        }
        let _ = child.kill();
        child.wait().unwrap();
    }
}

/// Lets a worker do what is left, as the next hook would.
fn finish(device: &Device) {
    for _ in 0..WORK_ROUNDS_MAX {
        assert_eq!(device.run(&["hook", "--work"]).code, 0);
        let asked = "select count(*) from import_state where source like 'hook:read:%'";
        let waits = ["spool.jsonl", "spool.taken.jsonl"].map(|name| {
            let spool = device.home().join(".coditect-data/hooks").join(name);
            spool.exists()
        });
        if device.sql("sessions", asked).trim() == "0" && waits == [false; 2] {
            return;
        }
    }
    panic!("work is left");
}

fn compare(device: &Device, book: &Book) {
    let number = |sql: &str| device.sql("sessions", sql).trim().parse::<u64>().unwrap();
    assert_eq!(number("select count(*) from messages"), book.messages);
    assert_eq!(
        number("select count(distinct message_id) from messages"),
        book.messages
    );
    let of = |agent: &str| {
        number(&format!(
            "select count(*) from tool_analytics t join sessions s using (session_id)
             where s.agent = '{agent}'"
        ))
    };
    assert_eq!(of("claude"), book.calls);
    let untold = "select count(*) from tool_analytics t join sessions s using (session_id)
                  where s.agent = 'claude' and t.message_id is null";
    assert_eq!(number(untold), 0, "the transcript has told every call");
    assert_eq!(of("codex"), book.codex_calls);
    let sql = "select session_id || '|' || description || '|' || status from task_tracking";
    let found: BTreeMap<(String, String), String> = device
        .sql("sessions", sql)
        .lines()
        .map(|line| {
            let mut parts = line.split('|').map(str::to_owned);
            let mut next = || parts.next().unwrap();
            ((next(), next()), next())
        })
        .collect();
    let differ: Vec<_> = book
        .tasks
        .iter()
        .filter(|(task, status)| found.get(*task) != Some(*status))
        .map(|(task, status)| (task, status, found.get(task)))
        .collect();
    assert!(differ.is_empty(), "in the book, and found: {differ:?}");
    let tasks = number("select count(*) from task_tracking");
    assert_eq!(tasks, book.tasks.len() as u64, "a task is there twice");
    let ended = number("select count(*) from sessions where status = 'ended'");
    assert_eq!(ended, book.ended, "sessions that ended");
}
