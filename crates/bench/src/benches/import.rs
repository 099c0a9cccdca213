//! Import of transcripts: reading them, and storing what they say with a full-text index.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};
use coditect_capture::claude::{TranscriptReader, discover};
use serde_json::{Value, json};

use super::Plan;
use crate::messages::Vocabulary;
use crate::random::Random;
use crate::report::{Budget, Line, Report, note};
use crate::statistics::median;

const CHUNK_BYTES: usize = 256 * 1024;
const FILE_MESSAGES: usize = 2_000;

/// Measures generated transcripts, and the real ones where they are.
pub(crate) fn run(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    generate(folder.path(), plan.size(40_000, 4_000))?;
    measure(plan, "generated transcripts", folder.path(), report)?;
    match real() {
        Some(real) => measure(plan, "real transcripts", &real, report),
        None => {
            note("skipped: no real transcripts at shared/data beside the checkout");
            Ok(())
        }
    }
}

fn real() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root
        .ancestors()
        .nth(3)?
        .join("shared/data/transcripts/claude");
    path.is_dir().then_some(path)
}

fn measure(plan: &Plan, what: &str, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let (mut parsed, mut stored, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        parsed.push(read_all(folder)?);
        let import = import(plan, folder)?;
        stored.push(import.messages / import.seconds);
        cpu.push(import.messages / import.cpu_seconds.max(0.01));
    }
    let line = Line::new(format!("{what}, read into rows"), "MB/s", median(&parsed));
    report.add(line.within(Budget::AtLeast(100.0)));
    let name = format!("{what}, messages stored with full text");
    let line = Line::new(name.clone(), "/s", median(&stored));
    report.add(line.within(Budget::AtLeast(50_000.0)));
    report.add(Line::new(
        format!("{name}, per CPU second"),
        "/s",
        median(&cpu),
    ));
    Ok(())
}

/// Reads all transcripts on this thread and returns MB/s.
fn read_all(folder: &Path) -> anyhow::Result<f64> {
    let (started, mut bytes) = (Instant::now(), 0);
    for file in discover(folder)? {
        let mut reader = TranscriptReader::open(&file, None)?;
        while let Some(chunk) = reader.next_chunk(CHUNK_BYTES)? {
            std::hint::black_box(chunk);
        }
        bytes += reader.state().size;
    }
    Ok(bytes as f64 / 1e6 / started.elapsed().as_secs_f64())
}

struct Imported {
    messages: f64,
    seconds: f64,
    cpu_seconds: f64,
}

/// Runs `coditect import claude` into an empty home.
fn import(plan: &Plan, folder: &Path) -> anyhow::Result<Imported> {
    let home = tempfile::tempdir()?;
    let before = children_seconds();
    let started = Instant::now();
    let ran = Command::new(&plan.programs.client)
        .args(["import", "claude", "--json", "--from"])
        .arg(folder)
        .env("CODITECT_HOME", home.path())
        .output()
        .context("running coditect import")?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu_seconds = children_seconds() - before;
    // Damaged lines are reported by the exit status; they were imported as far as they go.
    let summary: Value = serde_json::from_slice(&ran.stdout)
        .with_context(|| format!("coditect import: {}", String::from_utf8_lossy(&ran.stderr)))?;
    let messages = summary
        .pointer("/rows/messages/inserted")
        .and_then(Value::as_f64);
    let Some(messages) = messages.filter(|messages| *messages > 0.0) else {
        bail!("nothing was imported: {summary}");
    };
    Ok(Imported {
        messages,
        seconds,
        cpu_seconds,
    })
}

/// Returns the processor seconds of all children that ended.
fn children_seconds() -> f64 {
    crate::rig::cpu::children_seconds(std::process::id()).unwrap_or(0.0)
}

/// Returns a moment so many seconds into a day.
fn time(seconds: usize) -> String {
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!(
        "2026-11-20T{hours:02}:{minutes:02}:{:02}.000Z",
        seconds % 60
    )
}

/// Writes transcripts as Claude Code does: prompts, answers in blocks, usage.
pub(crate) fn generate(folder: &Path, messages: usize) -> anyhow::Result<()> {
    let projects = folder.join("projects/-home-ann-src-project");
    std::fs::create_dir_all(&projects)?;
    let mut random = Random::new(41);
    let vocabulary = Vocabulary::new(&mut random);
    let mut left = messages;
    while left > 0 {
        let session = random.uuid();
        let file = std::fs::File::create(projects.join(format!("{session}.jsonl")))?;
        let mut file = std::io::BufWriter::new(file);
        let mut parent: Option<String> = None;
        for number in 0..left.min(FILE_MESSAGES) {
            let id = random.uuid().to_string();
            let mut record = json!({
                "parentUuid": parent,
                "isSidechain": false,
                "userType": "external",
                "cwd": "/home/ann/src/project",
                "sessionId": session,
                "version": "2.0.14",
                "gitBranch": "main",
                "uuid": id,
                "timestamp": time(number),
            });
            let text = vocabulary.text(&mut random);
            if number % 2 == 0 {
                record["type"] = json!("user");
                record["message"] = json!({"role": "user", "content": text});
            } else {
                record["type"] = json!("assistant");
                record["requestId"] = json!(format!("req_{:016x}", random.next()));
                record["message"] = json!({
                    "id": format!("msg_{:016x}", random.next()),
                    "type": "message",
                    "role": "assistant",
                    "model": "claude-model-4",
                    "content": [{"type": "text", "text": text}],
                    "stop_reason": "end_turn",
                    "usage": {"input_tokens": 12, "output_tokens": 345},
                });
            }
            serde_json::to_writer(&mut file, &record)?;
            file.write_all(b"\n")?;
            parent = Some(id);
        }
        file.flush()?;
        left -= left.min(FILE_MESSAGES);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_transcripts_are_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        generate(folder.path(), 30).unwrap();
        let files = discover(folder.path()).unwrap();
        assert_eq!(files.len(), 1);
        let mut reader = TranscriptReader::open(&files[0], None).unwrap();
        let mut messages = 0;
        while let Some(chunk) = reader.next_chunk(CHUNK_BYTES).unwrap() {
            messages += chunk.messages.len();
            assert!(chunk.damaged.is_empty());
        }
        assert_eq!(messages, 30);
    }
}
