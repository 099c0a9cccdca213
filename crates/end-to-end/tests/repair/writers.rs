//! Other devices of the same person, which write at a steady rate while rows are damaged and
//! mended. They keep no files: what they cost is a request for each batch.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coditect_end_to_end::Pusher;
use coditect_protocol::catalogue::File;
use coditect_protocol::{RowId, Version};
use serde_json::json;

/// How many write at a time.
const WRITERS: u64 = 4;
/// Rows of a batch, and how many of them are edits of rows of the batch before.
const BATCH: usize = 150;
const EDITED: usize = 15;

/// Devices that write until they are stopped.
pub(crate) struct Writers {
    stop: AtomicBool,
    written: AtomicU64,
    server: String,
    license: String,
    /// Rows a second of all together, as far as the machine permits.
    rate: f64,
    began: Instant,
}

/// Stops them when it goes, also when a case fails: they would go on for ever.
pub(crate) struct Stops<'a>(&'a Writers);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Writers {
    /// Says who shall write where; nobody does yet.
    pub(crate) fn new(server: &str, license: &str, rate: f64) -> Self {
        Self {
            stop: AtomicBool::new(false),
            written: AtomicU64::new(0),
            server: server.to_owned(),
            license: license.to_owned(),
            rate,
            began: Instant::now(),
        }
    }

    /// Starts them on threads of the scope.
    pub(crate) fn start<'a>(&'a self, scope: &'a std::thread::Scope<'a, '_>) -> Stops<'a> {
        for number in 0..WRITERS {
            scope.spawn(move || self.write(number));
        }
        Stops(self)
    }

    /// Returns the rows so far, and how many a second that is.
    pub(crate) fn rate(&self) -> (u64, f64) {
        let written = self.written.load(Ordering::Relaxed);
        (written, written as f64 / self.began.elapsed().as_secs_f64())
    }

    fn write(&self, number: u64) {
        let mut pusher = Pusher::log_in(&self.server, &self.license, File::Org, number);
        let every = Duration::from_secs_f64(BATCH as f64 * WRITERS as f64 / self.rate);
        let mut due = Instant::now();
        let mut last: Vec<(RowId, Version)> = Vec::new();
        for batch in 0_u64.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let edits = last.iter().take(EDITED).enumerate().map(|(at, base)| {
                let title = format!("written {number} {} {at}, edited", batch - 1);
                (json!({ "title": title, "status": "proposed" }), Some(*base))
            });
            let edits: Vec<_> = edits.collect();
            let new = (edits.len()..BATCH).map(|at| {
                let title = format!("written {number} {batch} {at}");
                (json!({ "title": title, "status": "proposed" }), None)
            });
            let rows: Vec<_> = edits.iter().cloned().chain(new).collect();
            let changes = rows
                .into_iter()
                .map(|(row, base)| pusher.change("org_decisions", row, base))
                .collect();
            pusher.prepare(changes);
            let reply = pusher.push_on();
            let stored = reply.outcomes.iter().skip(edits.len());
            last = stored
                .filter_map(|outcome| outcome.stored.as_ref())
                .map(|stored| (stored.id, stored.version))
                .collect();
            assert_eq!(last.len(), BATCH - edits.len(), "a row was refused");
            self.written.fetch_add(BATCH as u64, Ordering::Relaxed);
            due += every;
            pusher.pause(due.saturating_duration_since(Instant::now()));
        }
    }
}
