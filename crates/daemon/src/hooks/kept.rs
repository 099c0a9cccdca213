//! The log of events that no table takes: one JSON line each, redacted, bounded, local only.

use std::fs::OpenOptions;
use std::io::Write as _;

use coditect_capture::hooks::Event;
use coditect_core::canonical;
use coditect_core::redact::{Report, redact_text};
use serde_json::json;

use super::Folder;
use crate::files::{make_folder, private};

/// Size from which the file is put aside, in bytes. One old file is kept beside it.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Appends what of an event has no table, if there is something. Several processes may do so at
/// once.
///
/// # Errors
/// When the system refuses.
pub fn keep(folder: &Folder, event: &Event) -> std::io::Result<()> {
    let Some(kept) = &event.kept else {
        return Ok(());
    };
    let text = |text: &str| redact_text(text, &mut Report::default()).into_owned();
    let mut line = json!({
        "at": canonical::time_from_ms(event.at_ms),
        "agent": event.agent,
        "event": text(&event.name),
        "session_id": text(&event.session_id),
        "cwd": event.cwd.as_deref().map(text),
        "fields": kept,
    })
    .to_string();
    line.push('\n');
    let path = folder.file("events.jsonl");
    let mut options = OpenOptions::new();
    private(options.create(true).append(true));
    let mut file = match options.open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            make_folder(folder.path())?;
            options.open(&path)?
        }
        opened => opened?,
    };
    if file.metadata()?.len() > FILE_BYTES_MAX {
        // Another process may do the same at this moment; then there is nothing left to move.
        let _ = std::fs::rename(&path, folder.file("events.jsonl.1"));
        file = options.open(&path)?;
    }
    file.write_all(line.as_bytes())
}
