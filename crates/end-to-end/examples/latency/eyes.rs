//! Sees when a decision is in a machine's database: woken by inotify, never by looking around.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use coditect_end_to_end::Device;
use coditect_local_store::{LocalStore, Random};
use coditect_protocol::Scope;
use coditect_protocol::wire::Row;
use inotify::{Inotify, WatchMask};

use crate::crowd::now_ms;
use crate::trace::Records;

/// Pause between two decisions: people think.
const PAUSE: Duration = Duration::from_millis(150);
/// After so long a decision counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time between two looks at a database that somebody writes to.
const LOOK_EVERY: Duration = Duration::from_micros(500);
/// How long a database is looked at after a write to its journal.
const SUSPICION: Duration = Duration::from_millis(100);

/// What became of one decision.
pub(crate) struct Made {
    pub(crate) writer: usize,
    /// When its row was committed on the writer's machine.
    pub(crate) at: Instant,
    /// When each other machine had it.
    pub(crate) seen: HashMap<usize, Instant>,
    pub(crate) lost: usize,
}

/// A thread that tells when a machine's database holds how many decisions.
pub(crate) struct Eyes {
    seen: mpsc::Receiver<(usize, u64, Instant)>,
    machines: usize,
}

fn open(device: &Device) -> LocalStore {
    let folder = device.home().join(".coditect-data/context-storage");
    LocalStore::open(&folder, now_ms(), Random::System).unwrap()
}

fn count(store: &LocalStore) -> u64 {
    let counts = store.count("org_decisions").unwrap();
    counts.iter().map(|(_, count)| count).sum()
}

impl Eyes {
    pub(crate) fn open(devices: &[Device]) -> Self {
        let mut inotify = Inotify::init().unwrap();
        let (mut stores, mut machines) = (Vec::new(), HashMap::new());
        for (n, device) in devices.iter().enumerate() {
            let folder = device.home().join(".coditect-data/context-storage");
            let watch = inotify.watches().add(folder, WatchMask::MODIFY).unwrap();
            machines.insert(watch, n);
            let store = open(device);
            let last = count(&store);
            stores.push((store, last));
        }
        let (tell, seen) = mpsc::channel();
        let machine_count = stores.len();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            let mut suspects: HashMap<usize, Instant> = HashMap::new();
            loop {
                let events = if suspects.is_empty() {
                    inotify.read_events_blocking(&mut buffer)
                } else {
                    // tidy: may sleep: a commit follows its write by what the disk takes
                    std::thread::sleep(LOOK_EVERY);
                    inotify.read_events(&mut buffer)
                };
                for event in events.into_iter().flatten() {
                    if event.name.is_some_and(|name| name == "org.db-wal")
                        && let Some(n) = machines.get(&event.wd)
                    {
                        suspects.insert(*n, Instant::now());
                    }
                }
                for n in suspects.keys() {
                    let (store, last) = &mut stores[*n];
                    let now = count(store);
                    if now != *last {
                        *last = now;
                        if tell.send((*n, now, Instant::now())).is_err() {
                            return;
                        }
                    }
                }
                suspects.retain(|_, since| since.elapsed() < SUSPICION);
            }
        });
        Self {
            seen,
            machines: machine_count,
        }
    }

    /// Waits until all machines but the writer hold `wanted` decisions.
    fn see(&self, writer: usize, wanted: u64, at: Instant) -> Made {
        let mut seen = HashMap::new();
        while seen.len() + 1 < self.machines && at.elapsed() < PATIENCE {
            let Ok((n, count, when)) = self.seen.recv_timeout(PATIENCE) else {
                break;
            };
            if n != writer && count >= wanted {
                seen.entry(n).or_insert(when);
            }
        }
        Made {
            writer,
            at,
            lost: self.machines - 1 - seen.len(),
            seen,
        }
    }
}

/// Makes decisions on the machines in turn, as a command does: a row, and nothing else.
pub(crate) fn decide(
    devices: &[Device],
    eyes: &Eyes,
    rounds: usize,
    records: &Records,
) -> Vec<Made> {
    let mut stores: Vec<LocalStore> = devices.iter().map(open).collect();
    let scope = Scope::Org(stores[0].owner_of_folder().unwrap().tenant.get());
    let mut wanted = count(&stores[0]);
    let mut made = Vec::new();
    records.clear();
    for round in 0..rounds {
        let writer = round % stores.len();
        let store = &mut stores[writer];
        let scope = store.local_scope(scope).unwrap();
        let mut row = Row::new();
        row.insert("title".to_owned(), format!("decision {round}").into());
        store
            .insert("org_decisions", &scope, row, now_ms())
            .unwrap();
        wanted += 1;
        made.push(eyes.see(writer, wanted, Instant::now()));
        // tidy: may sleep: the pause is what is measured in
        std::thread::sleep(PAUSE);
    }
    made
}
