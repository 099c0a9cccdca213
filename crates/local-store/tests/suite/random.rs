//! Random histories of three devices: edits, batches whose replies are lost or come twice,
//! pulls in between, restores of the server, fenced files. At the end everything is pushed and
//! pulled, and all replicas are the same. A failure names its seed.

use coditect_core::sync::Outgoing;
use coditect_local_store::{LocalStore, Random, RowFilter};
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::push::PushReply;
use coditect_protocol::{DeviceId, Epoch};
use serde_json::json;
use std::collections::BTreeMap;

use crate::support::{NOW, Server, assert_converged, pull, row, store, sync, take};

const LEARNINGS: &str = "org_skill_learnings";

struct World {
    random: Random,
    devices: Vec<LocalStore>,
    server: Server,
    backup: Option<Server>,
    /// Batches and their replies that have not arrived yet, by device.
    air: Vec<Vec<(Outgoing, PushReply)>>,
    /// What was added to each counter.
    added: BTreeMap<String, i64>,
    /// Decisions that nobody ever deleted.
    kept: Vec<String>,
    now_ms: i64,
}

/// What may go wrong besides lost and repeated replies.
#[derive(Clone, Copy, PartialEq)]
enum Faults {
    None,
    Restores,
    RestoresAndFences,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::Seeded(seed),
            devices: (0..3).map(|at| store(seed * 10 + at)).collect(),
            server: Server::new(),
            backup: None,
            air: vec![Vec::new(), Vec::new(), Vec::new()],
            added: BTreeMap::new(),
            kept: Vec::new(),
            now_ms: NOW,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.bits() % bound
    }

    fn step(&mut self, faults: Faults) {
        self.now_ms += self.below(2_000) as i64;
        self.server.now_ms = self.now_ms;
        let at = self.below(3) as usize;
        let kinds = match faults {
            Faults::None => 20,
            Faults::Restores => 22,
            Faults::RestoresAndFences => 23,
        };
        match self.below(kinds) {
            0 | 1 => self.insert(at),
            2..=5 => self.edit(at),
            6..=8 => self.count(at),
            9 => self.delete(at),
            10 => self.fact(at),
            11..=14 => self.send(at),
            15 | 16 => self.deliver(at),
            17..=19 => {
                pull(&mut self.devices[at], &self.server);
            }
            20 => self.backup = Some(self.server.clone()),
            21 => self.restore(),
            _ => self.fence(at),
        }
    }

    fn insert(&mut self, at: usize) {
        let text = format!("{:x}", self.random.bits());
        let now_ms = self.now_ms;
        match self.below(3) {
            0 => {
                let task = format!("{}", self.below(3));
                let columns = json!({"session_id": "s", "task_id": task, "description": text});
                self.devices[at]
                    .insert("context_task_tracking", "user", row(columns), now_ms)
                    .unwrap();
            }
            1 => {
                let columns = json!({"skill_name": "s", "learning": text});
                let id = self.devices[at]
                    .insert(LEARNINGS, "user", row(columns), now_ms)
                    .unwrap();
                self.added.insert(id.to_string(), 1);
            }
            _ => {
                let columns = json!({"title": text});
                let device = &mut self.devices[at];
                let id = device
                    .insert("org_decisions", "user", row(columns), now_ms)
                    .unwrap();
                self.kept.push(id.to_string());
            }
        }
    }

    fn pick(&mut self, at: usize, table: &str) -> Option<(String, i64)> {
        let all = RowFilter {
            limit: 1_000,
            ..RowFilter::default()
        };
        let rows = self.devices[at].list(table, &all).unwrap();
        let chosen = self.random.bits() as usize % rows.len().max(1);
        let view = rows.get(chosen)?;
        let count = view
            .row
            .get("usage_count")
            .and_then(serde_json::Value::as_i64);
        Some((view.id.clone()?, count.unwrap_or(0)))
    }

    fn edit(&mut self, at: usize) {
        let (table, column) = match self.below(4) {
            0 => ("context_task_tracking", "description"),
            1 => (LEARNINGS, "learning"),
            2 => ("context_messages", "content"),
            _ => ("org_decisions", "title"),
        };
        // Few different texts, so that edits are undone and meet equal ones.
        let text = format!("text {}", self.below(3));
        let Some((id, _)) = self.pick(at, table) else {
            return;
        };
        let patch = row(json!({column: text}));
        assert!(
            self.devices[at]
                .update(table, "user", &id, &patch, self.now_ms)
                .unwrap()
        );
    }

    fn count(&mut self, at: usize) {
        let Some((id, count)) = self.pick(at, LEARNINGS) else {
            return;
        };
        let more = self.below(5) as i64;
        *self.added.get_mut(&id).unwrap() += more;
        let patch = row(json!({"usage_count": count + more}));
        self.devices[at]
            .update(LEARNINGS, "user", &id, &patch, self.now_ms)
            .unwrap();
    }

    fn delete(&mut self, at: usize) {
        let table = if self.below(2) == 0 {
            "context_task_tracking"
        } else {
            "org_decisions"
        };
        if let Some((id, _)) = self.pick(at, table) {
            self.devices[at]
                .delete(table, "user", &id, self.now_ms)
                .unwrap();
            self.kept.retain(|kept| *kept != id);
        }
    }

    fn fact(&mut self, at: usize) {
        let id = format!("m{}", self.below(4));
        let text = format!("{}", self.below(2));
        let message = json!({"message_id": id, "session_id": "s", "role": "user", "content": text});
        let rows = vec![("context_messages", row(message))];
        self.devices[at]
            .ingest(File::Sessions, rows, None, self.now_ms)
            .unwrap();
    }

    fn send(&mut self, at: usize) {
        let file = if self.below(2) == 0 {
            File::Org
        } else {
            File::Sessions
        };
        let Some(batch) = take(&mut self.devices[at], file, self.now_ms) else {
            return;
        };
        let reply = self.server.push(&batch.request);
        match self.below(4) {
            // The reply is lost; the batch goes out again later.
            0 => {}
            1 => {
                self.devices[at]
                    .settle(&batch, &reply, self.now_ms)
                    .unwrap();
                self.devices[at]
                    .settle(&batch, &reply, self.now_ms)
                    .unwrap();
            }
            _ => self.air[at].push((batch, reply)),
        }
    }

    fn deliver(&mut self, at: usize) {
        for (batch, reply) in std::mem::take(&mut self.air[at]) {
            self.devices[at]
                .settle(&batch, &reply, self.now_ms)
                .unwrap();
        }
    }

    fn restore(&mut self) {
        let Some(mut backup) = self.backup.take() else {
            return;
        };
        backup.epoch = Epoch(self.server.epoch.0 + 1);
        backup.now_ms = self.now_ms;
        self.server = backup;
        self.air = vec![Vec::new(), Vec::new(), Vec::new()];
        for device in &mut self.devices {
            device.begin_reconcile(self.server.epoch).unwrap();
        }
    }

    fn fence(&mut self, at: usize) {
        // A batch whose reply is lost and that is then dropped counts twice by design: the
        // server cannot know whether the copy was made before or after it.
        if self.devices[at].stored_batch(File::Org).unwrap().is_some() {
            return;
        }
        let device = DeviceId::new(self.random.id(self.now_ms));
        self.devices[at].fence(device).unwrap();
        self.air[at].clear();
    }

    fn finish(&mut self, seed: u64) {
        self.now_ms += 10_000;
        self.server.now_ms = self.now_ms;
        for round in 0.. {
            let mut sent = 0;
            for device in &mut self.devices {
                sent += sync(device, &mut self.server).len();
            }
            if sent == 0 {
                break;
            }
            assert!(round < 10, "seed {seed}: it does not come to rest");
        }
        for device in &mut self.devices {
            assert_converged(device, &self.server);
        }
        for file in File::ALL {
            let first = self.devices[0].canonical_dump(file).unwrap();
            for device in &self.devices[1..] {
                assert_eq!(device.canonical_dump(file).unwrap(), first, "seed {seed}");
            }
        }
    }

    fn assert_kept(&self, seed: u64) {
        for id in &self.kept {
            for device in &self.devices {
                assert!(
                    device.get("org_decisions", id).unwrap().is_some(),
                    "seed {seed}: {id}"
                );
            }
        }
    }

    fn assert_counts(&self, seed: u64) {
        for (id, added) in &self.added {
            for device in &self.devices {
                let view = device.get(LEARNINGS, id).unwrap().unwrap();
                assert_eq!(
                    view.row["usage_count"], *added,
                    "seed {seed}, learning {id}"
                );
            }
        }
    }
}

fn run(seeds: std::ops::RangeInclusive<u64>, faults: Faults) {
    for seed in seeds {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..80 {
            world.step(faults);
        }
        world.finish(seed);
        world.assert_kept(seed);
        // What a fenced device had added and a restored server lost, nobody can know.
        if faults != Faults::RestoresAndFences {
            world.assert_counts(seed);
        }
    }
}

#[test]
fn random_histories_converge_and_count_exactly() {
    run(1..=25, Faults::None);
}

#[test]
fn random_histories_with_restores_converge_and_count_exactly() {
    run(1..=25, Faults::Restores);
}

#[test]
fn random_histories_with_restores_and_fences_converge() {
    run(1..=25, Faults::RestoresAndFences);
}
