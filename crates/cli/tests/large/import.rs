//! An import of many transcripts, killed twice on its way: the third one ends it, and everything
//! is there once.

use std::io::Write as _;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::machine::{Machine, asked_for};

/// Megabytes of transcripts of an ordinary run.
const MEGABYTES: u64 = 4;
/// Records of one transcript.
const FILE_RECORDS: u64 = 2_000;
/// Time between two looks at another process.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What was generated.
#[derive(Debug, Default)]
struct Made {
    bytes: u64,
    files: u64,
    messages: u64,
    answers: u64,
}

#[test]
fn an_import_that_is_killed_twice_goes_on_and_doubles_nothing() {
    let machine = Machine::new();
    let agent = machine.path("agent");
    let made = generate(&agent, asked_for("IMPORT_MB", MEGABYTES) * 1_000_000);
    let arguments = [
        "import",
        "claude",
        "--json",
        "--from",
        &agent.to_string_lossy(),
    ];
    let (started, mut peak, mut interrupted) = (Instant::now(), 0, 0);
    for part in 1..=2 {
        let mut child = machine.command(&arguments).spawn().unwrap();
        let wanted = made.messages * part / 3;
        while stored(&machine) < wanted && child.try_wait().unwrap().is_none() {
            look(&child, &mut peak);
        }
        interrupted += u64::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(interrupted, 2, "it was over before it was killed");
    let mut child = machine.command(&arguments).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        look(&child, &mut peak);
    }
    let ran = child.wait_with_output().unwrap();
    let seconds = started.elapsed().as_secs_f64();
    assert!(ran.status.success(), "{ran:?}");
    print(&made, seconds, peak);
    assert_all_there_once(&machine, &made);
    let again: Value = serde_json::from_str(&machine.ok(&arguments)).unwrap();
    assert_eq!(again["files_read"], 0, "{again}");
    assert_all_there_once(&machine, &made);
    assert_archived(&machine, &made);
}

fn assert_all_there_once(machine: &Machine, made: &Made) {
    for (table, key, expected) in [
        ("messages", "message_id", made.messages),
        ("sessions", "session_id", made.files),
        ("token_economics", "api_message_id", made.answers),
    ] {
        let sql = format!("select count(*), count(distinct {key}), count(id) from {table}");
        assert_eq!(machine.numbers(&sql), [expected; 3], "{table}");
    }
    // Indexed to the end, and marked to be sent once each.
    let found = machine.ok(&["search", "beginning0", "--json"]);
    assert!(found.contains("beginning0"), "{found}");
    let last = format!("ending{}", made.files - 1);
    let found = machine.ok(&["search", &last, "--json"]);
    assert!(found.contains(&last), "{found}");
    let marks = "select count(*), count(distinct row_id) from sync_queue
                 where table_name = 'context_messages'";
    assert_eq!(machine.numbers(marks), [made.messages; 2]);
}

/// Every transcript comes back out of the archive as it went in.
fn assert_archived(machine: &Machine, made: &Made) {
    for file in 0..made.files {
        let session = session(file);
        let original = transcripts(machine).join(format!("{session}.jsonl"));
        machine.assert_archived(&session, &original);
    }
}

fn session(file: u64) -> String {
    format!("00000000-0000-4000-8000-{file:012}")
}

fn transcripts(machine: &Machine) -> std::path::PathBuf {
    machine.path("agent/projects/-home-ann-app")
}

/// Returns how many messages are stored, by their highest number.
fn stored(machine: &Machine) -> u64 {
    machine.numbers("select coalesce(max(seq), 0) from messages")[0]
}

/// Waits for a moment, and notes the most memory that was held, in KiB.
fn look(child: &Child, peak: &mut u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
    let status = status.unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let held = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    *peak = (*peak).max(held.unwrap_or(0));
    // tidy: may sleep: what is watched is another process
    std::thread::sleep(LOOK_EVERY);
}

#[expect(clippy::print_stdout, reason = "its figures are part of the result")]
fn print(made: &Made, seconds: f64, peak_kib: u64) {
    let megabytes = made.bytes as f64 / 1e6;
    let cpu = children_cpu_seconds();
    println!(
        "{megabytes:.0} MB, {} messages in {} transcripts, interrupted twice: {seconds:.1} s, \
         {:.1} MB/s, {:.0} messages/s; {cpu:.1} CPU seconds, {:.0} messages per CPU second; \
         at most {:.0} MiB",
        made.messages,
        made.files,
        megabytes / seconds,
        made.messages as f64 / seconds,
        made.messages as f64 / cpu.max(0.01),
        peak_kib as f64 / 1024.0,
    );
}

/// Returns the processor seconds of all children that ended.
fn children_cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f64> = fields
        .split_whitespace()
        .skip(13)
        .take(2)
        .map(|it| it.parse().unwrap())
        .collect();
    // Hundredths of a second, on every architecture that we serve.
    fields.iter().sum::<f64>() / 100.0
}

/// Writes transcripts as Claude Code does: prompts, answers with their usage.
fn generate(agent: &Path, bytes_wanted: u64) -> Made {
    let folder = agent.join("projects/-home-ann-app");
    std::fs::create_dir_all(&folder).unwrap();
    let mut made = Made::default();
    let mut draw = Draw(1);
    let words: Vec<String> = (0..20_000_u64)
        .map(|word| format!("{:x} ", Draw(word).next() >> (20 + word % 25)))
        .collect();
    while made.bytes < bytes_wanted {
        let (file, session) = (made.files, session(made.files));
        let path = folder.join(format!("{session}.jsonl"));
        let mut out = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
        for at in 0..FILE_RECORDS {
            let text = match at {
                0 => format!("beginning{file}"),
                at if at + 1 == FILE_RECORDS => format!("ending{file}"),
                _ => draw.text(&words),
            };
            let line = record(&session, file, at, &text);
            out.write_all(line.as_bytes()).unwrap();
            made.bytes += line.len() as u64;
            made.messages += 1;
            made.answers += at % 2;
        }
        out.flush().unwrap();
        made.files += 1;
    }
    made
}

fn record(session: &str, file: u64, at: u64, text: &str) -> String {
    let (minute, second) = (at / 60, at % 60);
    let common = format!(
        "\"uuid\":\"10000000-0000-4000-8000-{file:06}{at:06}\",\"parentUuid\":null,\
         \"sessionId\":\"{session}\",\"timestamp\":\"2026-02-03T03:{minute:02}:{second:02}.000Z\",\
         \"cwd\":\"/home/ann/app\",\"gitBranch\":\"main\",\"version\":\"2.1.29\",\
         \"isSidechain\":false,\"userType\":\"external\""
    );
    if at.is_multiple_of(2) {
        return format!(
            "{{\"type\":\"user\",{common},\"message\":{{\"role\":\"user\",\
             \"content\":\"{text}\"}}}}\n"
        );
    }
    format!(
        "{{\"type\":\"assistant\",{common},\"requestId\":\"req_{file}_{at}\",\"message\":{{\
         \"id\":\"msg_{file}_{at}\",\"type\":\"message\",\"role\":\"assistant\",\
         \"model\":\"model-1\",\"content\":[{{\"type\":\"text\",\"text\":\"{text}\"}}],\
         \"stop_reason\":\"end_turn\",\
         \"usage\":{{\"input_tokens\":12,\"output_tokens\":{at}}}}}}}\n"
    )
}

/// Numbers that look drawn, the same in every run.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a text, 400 bytes in the median and 650 in the mean: few are long.
    fn text(&mut self, words: &[String]) -> String {
        let doublings = (0..8).filter(|_| self.next().is_multiple_of(2)).count();
        let bytes = (25 << doublings) + (self.next() % 64) as usize;
        let mut text = String::with_capacity(bytes + 16);
        while text.len() < bytes {
            // The smallest of three draws: a few words are frequent.
            let at = (0..3).map(|_| self.next() as usize % words.len()).min();
            text.push_str(&words[at.unwrap_or(0)]);
        }
        text
    }
}
