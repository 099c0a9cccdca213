//! Takes out of what is stored what today's rules of redaction find: rows, notes beside them,
//! the archive, logs. Rows change by the rules of sync, so that the server and other devices
//! lose the secret, too.

use std::collections::BTreeMap;
use std::path::Path;

use coditect_capture::raw::redact_lines;
use coditect_core::redact::{Report, redact_value};
use coditect_local_store::{self as local_store, LocalStore, RowFilter, RowView};
use coditect_protocol::catalogue::{Class, ColumnType, Direction, File, Table};
use coditect_protocol::wire::Row;
use serde_json::Value;

use crate::archive::{Archive, ArchiveError};

/// Rows that are looked at together.
const PAGE: u32 = 500;
/// Added to the key of a fact that the server has: facts never change, so it is deleted there and
/// stored anew under this name.
const SUFFIX: &str = "#redacted";

/// Why a scrub ended early. What was done stays done.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    /// A database failed.
    #[error(transparent)]
    Store(#[from] local_store::Error),
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A log could not be read or written.
    #[error("could not write {path} anew: {source}")]
    Log {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// What a scrub found. Never the secrets.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// Rows that hold something, by the table's name on this device.
    pub rows: BTreeMap<&'static str, u64>,
    /// Secrets in rows and notes, by kind.
    pub kinds: Report,
    /// Secrets in the archive, by kind.
    pub archive: BTreeMap<String, u64>,
    /// Logs that hold something.
    pub logs: u64,
    /// Rows whose key holds something, which cannot change: table and id.
    pub keys: Vec<(&'static str, String)>,
    /// Files with a batch whose answer is not known: the server may have what it holds.
    pub sending: Vec<File>,
}

impl Scrubbed {
    /// Returns whether there was nothing.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.kinds.is_empty() && self.archive.is_empty() && self.logs == 0
    }
}

/// Looks at everything below a data folder, and unless it is only a rehearsal, changes what
/// holds secrets.
///
/// # Errors
/// [`ScrubError`] when something cannot be read or written.
pub fn run(
    store: &mut LocalStore,
    data: &Path,
    now_ms: i64,
    is_rehearsal: bool,
) -> Result<Scrubbed, ScrubError> {
    let mut scrubbed = Scrubbed::default();
    for file in File::ALL {
        if store.is_sending(file)? {
            scrubbed.sending.push(file);
        }
        let before = scrubbed.kinds.total();
        for table in file
            .tables()
            .filter(|table| table.direction != Direction::Down)
        {
            rows(store, table, now_ms, is_rehearsal, &mut scrubbed)?;
        }
        scrubbed
            .kinds
            .merge(&store.redact_notes(file, is_rehearsal)?);
        if !is_rehearsal && scrubbed.kinds.total() > before {
            store.forget_deleted(file)?;
        }
    }
    scrubbed.archive = Archive::new(data).scrub(is_rehearsal)?.kinds;
    logs(&data.join("logs"), is_rehearsal, &mut scrubbed)?;
    Ok(scrubbed)
}

fn rows(
    store: &mut LocalStore,
    table: &'static Table,
    now_ms: i64,
    is_rehearsal: bool,
    scrubbed: &mut Scrubbed,
) -> Result<(), ScrubError> {
    let mut found = Vec::new();
    let mut filter = RowFilter {
        limit: PAGE,
        oldest_first: true,
        ..RowFilter::default()
    };
    loop {
        let page = store.list(table.cloud, &filter)?;
        let is_last = page.len() < PAGE as usize;
        filter.offset += PAGE;
        for view in page {
            let patch = patch(table, &view.row, scrubbed, view.id.as_deref());
            if !patch.is_empty() {
                found.push((view, patch));
            }
        }
        if is_last {
            break;
        }
    }
    if !found.is_empty() {
        *scrubbed.rows.entry(table.local).or_default() += found.len() as u64;
    }
    if is_rehearsal {
        return Ok(());
    }
    for (view, patch) in found {
        rewrite(store, table, &view, &patch, now_ms)?;
    }
    Ok(())
}

/// Returns the columns that hold secrets, without them.
fn patch(table: &'static Table, row: &Row, scrubbed: &mut Scrubbed, id: Option<&str>) -> Row {
    let mut patch = Row::new();
    let keys = table.identity.columns();
    for column in table.columns {
        let holds_text = matches!(column.ty, ColumnType::Text | ColumnType::Json);
        let Some(stored) = row.get(column.name).filter(|_| holds_text) else {
            continue;
        };
        let mut value = stored.clone();
        let mut report = Report::default();
        redact_value(&mut value, &mut report);
        if report.is_empty() {
            continue;
        }
        scrubbed.kinds.merge(&report);
        if keys.contains(&column.name) {
            let id = id.unwrap_or("").to_owned();
            scrubbed.keys.push((table.local, id));
        } else {
            patch.insert(column.name.to_owned(), value);
        }
    }
    patch
}

fn rewrite(
    store: &mut LocalStore,
    table: &'static Table,
    view: &RowView,
    patch: &Row,
    now_ms: i64,
) -> Result<(), ScrubError> {
    let Some(id) = &view.id else {
        return Ok(());
    };
    if table.class != Class::Fact || view.version.is_none() {
        store.update(table.cloud, &view.scope, id, patch, now_ms)?;
        return Ok(());
    }
    let mut row = view.row.clone();
    row.extend(patch.clone());
    let keys = table.identity.columns();
    let last = keys.iter().rev().find_map(|key| {
        let text = row.get(*key).and_then(Value::as_str)?;
        Some(((*key).to_owned(), format!("{text}{SUFFIX}")))
    });
    store.delete(table.cloud, &view.scope, id, now_ms)?;
    if let Some((key, text)) = last {
        row.insert(key, Value::String(text));
        store.insert(table.cloud, &view.scope, row, now_ms)?;
    }
    Ok(())
}

fn logs(folder: &Path, is_rehearsal: bool, scrubbed: &mut Scrubbed) -> Result<(), ScrubError> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let failed = |source| ScrubError::Log {
            path: path.display().to_string(),
            source,
        };
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(failed)?;
        let piece = redact_lines(0, &bytes, true);
        if piece.redactions.is_empty() {
            continue;
        }
        scrubbed.logs += 1;
        if !is_rehearsal {
            // The same file stays open elsewhere, so its bytes change and not its name.
            std::fs::write(&path, &piece.content).map_err(failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use coditect_local_store::Random;
    use serde_json::json;

    use super::*;

    const SECRET: &str = "acme-3f9a77c1b2d4e6f8";

    /// The built-in rules know no such secret when it is stored; a database that an older
    /// version filled looks like this for all others.
    #[test]
    fn rows_that_another_program_filled_lose_their_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let mut store =
            LocalStore::open(&data.join("context-storage"), 0, Random::Seeded(1)).unwrap();
        let insert = |store: &mut LocalStore, text: &str| {
            let row = json!({
                "message_id": "m1", "session_id": "s1", "role": "user", "content": text,
            });
            let row = row.as_object().unwrap().clone();
            store.insert("context_messages", "user", row, 0).unwrap();
        };
        insert(&mut store, "nothing here");
        // As somebody else writes it, or an older version did.
        let sql = format!("update messages set content = 'curl --token {SECRET}'");
        let program = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); \
                       d.execute(sys.argv[2]); d.commit()";
        let database = data.join("context-storage/sessions.db");
        let written = std::process::Command::new("python3")
            .args(["-c", program])
            .arg(&database)
            .arg(&sql)
            .status();
        assert!(
            written.is_ok_and(|status| status.success()),
            "needs python3"
        );
        std::fs::create_dir_all(data.join("logs")).unwrap();
        std::fs::write(data.join("logs/a.log"), format!("token={SECRET}\nfine\n")).unwrap();
        let rehearsed = run(&mut store, data, 1, true).unwrap();
        assert_eq!((rehearsed.logs, rehearsed.rows["messages"]), (1, 1));
        let log = || std::fs::read_to_string(data.join("logs/a.log")).unwrap();
        assert!(log().contains(SECRET));
        let done = run(&mut store, data, 1, false).unwrap();
        assert_eq!((done.logs, done.rows["messages"]), (1, 1));
        for entry in std::fs::read_dir(data.join("context-storage")).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains(SECRET));
        }
        assert_eq!(log(), "token=[REDACTED:secret]\nfine\n");
        assert!(run(&mut store, data, 1, false).unwrap().is_clean());
    }
}
