//! The hook from start to exit, with many messages stored: alone, and while an import writes.
//! `/bin/true` shows what starting a process costs; a process that stores one message by the
//! library shows what the local store costs.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use coditect_local_store::{LocalStore, Profile, Random as StoreRandom};
use coditect_protocol::catalogue::File;
use serde_json::json;

use super::Plan;
use super::import;
use super::search::Filled;
use crate::clock;
use crate::messages::{Pool, TABLE};
use crate::random::Random;
use crate::report::{Budget, Line, Report};
use crate::rig::cpu::{peak_megabytes, status_megabytes};
use crate::statistics::percentile;

/// How long a hook waits for another writer.
const WAIT: Duration = Duration::from_millis(5);

/// Stores one message; the work of the child process.
pub(crate) fn insert(folder: &Path, number: u64) -> anyhow::Result<()> {
    let store = LocalStore::open_one(folder, File::Sessions, WAIT, StoreRandom::System)?;
    let mut store = store.context("the file is not made yet")?;
    let mut random = Random::new(number);
    let row = Pool::new(1, number).message(0, &mut random);
    let rows = vec![(TABLE, row)];
    let done = store.ingest(File::Sessions, rows, None, clock::now_ms())?;
    ensure!(done.inserted == 1, "the message was not stored");
    let peak = status_megabytes(std::process::id(), "VmHWM:").unwrap_or(0.0);
    print_peak(peak);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn print_peak(megabytes: f64) {
    println!("{megabytes}");
}

/// Measures the processes from start to exit.
pub(crate) fn run(plan: &Plan, mut filled: Filled, report: &mut Report) -> anyhow::Result<()> {
    filled.grow(plan.size(1_000_000, 50_000))?;
    let (home, messages) = filled.close();
    let stored = format!("{messages} messages stored");
    insert_by_library(plan, &home, &stored, report)?;
    let all = [Said::ALL.as_slice(), &Said::OTHERS].concat();
    let times = hooks(plan, &home, &all, plan.size(300, 40))?;
    for (said, times) in all.into_iter().zip(&times) {
        let most = match said {
            Said::Call | Said::Tasks => [5.0, 15.0],
            // It is answered with facts, from two databases.
            Said::Start => [f64::MAX, 15.0],
            Said::Nothing | Said::Python => [f64::MAX; 2],
        };
        report_hook(&format!("{}, {stored}", said.what()), times, most, report);
    }
    for said in Said::ALL {
        let peak = peak_megabytes(|| hook(plan, &home), &said.input(1_000_000))?;
        let line = Line::new(format!("{}, most memory", said.what()), "MB", peak);
        report.add(line.within(Budget::AtMost(15.0)));
    }
    let mut importing = Importing::start(plan, &home)?;
    let times = hooks(plan, &home, &[Said::Call, Said::Tasks], plan.size(300, 20))?;
    let rest = if importing.is_running()? {
        ""
    } else {
        ", which ended before"
    };
    for (said, times) in [Said::Call, Said::Tasks].into_iter().zip(&times) {
        let what = format!("{}, {stored}, while an import writes{rest}", said.what());
        report_hook(&what, times, [f64::MAX, 30.0], report);
    }
    Ok(())
}

/// What the agent says, and programs to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// A call of a tool ended.
    Call,
    /// A list of tasks was written.
    Tasks,
    /// A session begins.
    Start,
    /// `/bin/true`.
    Nothing,
    /// `python3 -c pass`.
    Python,
}

impl Said {
    const ALL: [Self; 3] = [Self::Call, Self::Tasks, Self::Start];
    const OTHERS: [Self; 2] = [Self::Nothing, Self::Python];

    const fn what(self) -> &'static str {
        match self {
            Self::Call => "hook, a call of a tool",
            Self::Tasks => "hook, a list of tasks",
            Self::Start => "hook, a session begins",
            Self::Nothing => "/bin/true",
            Self::Python => "python3 -c pass",
        }
    }

    fn command(self, plan: &Plan, home: &Path) -> Command {
        let mut command = match self {
            Self::Nothing => Command::new("/bin/true"),
            Self::Python => Command::new("python3"),
            _ => return hook(plan, home),
        };
        if self == Self::Python {
            command.args(["-c", "pass"]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command
    }

    fn input(self, number: usize) -> String {
        let mut input = json!({
            "session_id": "5d2f1f2c-7d0e-4d2b-9b7e-1d1f8a0c0001",
            "transcript_path": "/nowhere/session.jsonl",
            "cwd": "/",
            "hook_event_name": "PostToolUse",
            "tool_use_id": format!("toolu_{}_{number}", self.what()),
        });
        match self {
            Self::Call => {
                input["tool_name"] = "Bash".into();
                input["tool_input"] = json!({"command": "cargo test"});
                input["tool_response"] = json!({"stdout": "ok ".repeat(200)});
            }
            Self::Tasks => {
                input["tool_name"] = "TodoWrite".into();
                input["tool_input"] = json!({"todos": [{
                    "content": format!("step {number}"), "status": "in_progress",
                    "activeForm": format!("doing step {number}"),
                }]});
                input["tool_response"] = json!({"ok": true});
            }
            Self::Start => {
                input["hook_event_name"] = "SessionStart".into();
                input["source"] = "startup".into();
            }
            Self::Nothing | Self::Python => return String::new(),
        }
        input.to_string()
    }
}

fn insert_by_library(
    plan: &Plan,
    home: &Path,
    stored: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (mut times, mut trues, mut peak) = (Vec::new(), Vec::new(), 0.0_f64);
    for number in 0..plan.size(300, 40) {
        let started = Instant::now();
        let ran = Command::new(&plan.programs.bench)
            .arg("hook-insert")
            .arg(Profile::new(home, None).databases())
            .arg((1_000_000 + number).to_string())
            .output()
            .context("starting this program")?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        let text = String::from_utf8_lossy(&ran.stdout);
        let errors = String::from_utf8_lossy(&ran.stderr);
        ensure!(ran.status.success(), "{errors}");
        peak = peak.max(text.trim().parse().unwrap_or(0.0));
        let started = Instant::now();
        Command::new("/bin/true").stdin(Stdio::null()).output()?;
        trues.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let what = format!("one message by the library, {stored} (raw side: /bin/true)");
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (ours, raw) = (percentile(&times, share), percentile(&trues, share));
        let line = Line::new(format!("{what}, {name}"), "ms", ours);
        report.add(line.beside(raw, ours / raw.max(0.001)));
    }
    report.add(Line::new(
        "one message by the library, most memory",
        "MB",
        peak,
    ));
    Ok(())
}

/// Runs hooks of each kind, or other programs, one after the other in turn, so that what else the
/// machine does meets all of them; returns how long each took, in milliseconds.
fn hooks(plan: &Plan, home: &Path, kinds: &[Said], count: usize) -> anyhow::Result<Vec<Vec<f64>>> {
    let mut times = vec![Vec::with_capacity(count); kinds.len()];
    for number in 0..count {
        for (kind, times) in kinds.iter().zip(&mut times) {
            times.push(time(kind.command(plan, home), &kind.input(number))?);
        }
    }
    Ok(times)
}

/// Runs a program to its end; returns how long it took, in milliseconds.
fn time(mut command: Command, text: &str) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut child = command.spawn().context("starting a program")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    let ended = child.wait()?;
    let time = started.elapsed().as_secs_f64() * 1e3;
    ensure!(ended.success(), "it ended with {ended}");
    Ok(time)
}

fn hook(plan: &Plan, home: &Path) -> Command {
    let mut command = Command::new(&plan.programs.client);
    command
        .arg("hook")
        .env("CODITECT_HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn report_hook(what: &str, times: &[f64], most: [f64; 2], report: &mut Report) {
    for ((name, share), most) in [("p50", 0.5), ("p99", 0.99)].into_iter().zip(most) {
        let line = Line::new(format!("{what}, {name}"), "ms", percentile(times, share));
        report.add(if most < f64::MAX {
            line.within(Budget::AtMost(most))
        } else {
            line
        });
    }
}

/// An import into the same home; ended when dropped.
struct Importing {
    child: Child,
    _transcripts: tempfile::TempDir,
}

impl Importing {
    fn start(plan: &Plan, home: &Path) -> anyhow::Result<Self> {
        let transcripts = tempfile::tempdir()?;
        import::generate(transcripts.path(), plan.size(60_000, 8_000))?;
        let child = Command::new(&plan.programs.client)
            .args(["import", "claude", "--json", "--from"])
            .arg(transcripts.path())
            .env("CODITECT_HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting an import")?;
        Ok(Self {
            child,
            _transcripts: transcripts,
        })
    }

    fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Importing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
