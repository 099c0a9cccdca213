//! Measures reading and redaction of the transcripts in a folder, and lists what was redacted:
//! `cargo run --release -p coditect-capture --example transcript_speed -- ~/.claude`.

#![expect(clippy::print_stdout, reason = "prints its result")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use coditect_capture::claude::{ReadError, TranscriptReader, discover};
use coditect_core::redact::{Report, redact_text};

const ROUNDS: u32 = 5;
const CHUNK_BYTES: usize = 4 * 1024 * 1024;

fn main() -> Result<(), ReadError> {
    let home = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("."), PathBuf::from);
    let files = discover(&home)?;
    let (mut bytes, mut reading, mut redacting) = (0, Duration::ZERO, Duration::ZERO);
    let mut report = Report::default();
    let mut messages = 0;
    for _ in 0..ROUNDS {
        for file in &files {
            let started = Instant::now();
            let mut reader = TranscriptReader::open(file, None)?;
            let mut texts = Vec::new();
            while let Some(chunk) = reader.next_chunk(CHUNK_BYTES)? {
                messages += chunk.messages.len();
                report.merge(&chunk.report);
                texts.push(chunk);
            }
            reading += started.elapsed();
            bytes += reader.state().size;
            let raw = std::fs::read_to_string(file).unwrap_or_default();
            let started = Instant::now();
            std::hint::black_box(redact_text(&raw, &mut Report::default()));
            redacting += started.elapsed();
        }
    }
    let rate = |time: Duration| bytes as f64 / 1e6 / time.as_secs_f64();
    println!(
        "{} files, {messages} messages in {ROUNDS} rounds",
        files.len()
    );
    println!("read into rows: {:.0} MB/s", rate(reading));
    println!(
        "redaction alone, over the raw lines: {:.0} MB/s",
        rate(redacting)
    );
    for (kind, count) in report.iter() {
        println!("{kind}: {count}");
    }
    Ok(())
}
