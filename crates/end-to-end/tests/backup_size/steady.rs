//! Devices that push at a steady rate and note how long each push took, with and without a backup
//! running beside them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use coditect_end_to_end::Pusher;
use coditect_protocol::catalogue::File;
use serde_json::json;

/// How many devices push.
const DEVICES: u64 = 4;
/// Pushes of one device in a second, and rows of each.
const PUSHES: f64 = 20.0;
const ROWS: usize = 10;

/// What ran beside the pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Beside {
    Nothing,
    Backup,
}

/// The devices and what they saw.
pub(crate) struct Steady {
    stop: AtomicBool,
    beside: AtomicU8,
    /// Milliseconds of the pushes beside nothing, and of those beside a backup.
    took: [Mutex<Vec<f64>>; 2],
    server: String,
    license: String,
}

/// Stops them when it goes, also when the proof fails: they would go on for ever.
pub(crate) struct Stops<'a>(&'a Steady);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Steady {
    pub(crate) fn new(server: &str, license: &str) -> Self {
        Self {
            stop: AtomicBool::new(false),
            beside: AtomicU8::new(Beside::Nothing as u8),
            took: [Mutex::default(), Mutex::default()],
            server: server.to_owned(),
            license: license.to_owned(),
        }
    }

    /// Starts the devices on threads of the scope.
    pub(crate) fn start<'a>(&'a self, scope: &'a std::thread::Scope<'a, '_>) -> Stops<'a> {
        for number in 0..DEVICES {
            scope.spawn(move || self.push(number));
        }
        Stops(self)
    }

    /// Says what runs beside the pushes from now on.
    pub(crate) fn beside(&self, what: Beside) {
        self.beside.store(what as u8, Ordering::Relaxed);
    }

    /// Returns how many pushes were made beside it.
    pub(crate) fn pushes(&self, what: Beside) -> usize {
        self.took[what as usize].lock().unwrap().len()
    }

    /// Returns the time that so much of the pushes beside it took at most, milliseconds.
    pub(crate) fn share(&self, what: Beside, share: f64) -> f64 {
        let mut took = self.took[what as usize].lock().unwrap().clone();
        took.sort_by(f64::total_cmp);
        let at = (took.len() as f64 * share) as usize;
        took[at.min(took.len() - 1)]
    }

    fn push(&self, number: u64) {
        let mut pusher = Pusher::log_in(&self.server, &self.license, File::Org, 100 + number);
        let every = Duration::from_secs_f64(1.0 / PUSHES);
        let mut due = Instant::now();
        for batch in 0_u64.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let changes = (0..ROWS).map(|at| {
                let title = format!("beside {number} {batch} {at}");
                let row = json!({ "title": title, "status": "proposed" });
                pusher.change("org_decisions", row, None)
            });
            let changes = changes.collect();
            pusher.prepare(changes);
            // A push counts for what ran when it was sent; one on the border counts for neither.
            let (beside, sent) = (self.beside.load(Ordering::Relaxed), Instant::now());
            let reply = pusher.push_on();
            let took = sent.elapsed().as_secs_f64() * 1e3;
            assert!(reply.outcomes.iter().all(|one| one.code.is_none()));
            if self.beside.load(Ordering::Relaxed) == beside {
                self.took[usize::from(beside)].lock().unwrap().push(took);
            }
            due += every;
            pusher.pause(due.saturating_duration_since(Instant::now()));
        }
    }
}
