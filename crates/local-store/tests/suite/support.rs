//! A small server for tests: one tenant, everything in memory, the decisions of
//! `coditect_core::merge`.

use coditect_core::clock::Skew;
use coditect_core::digest::{Digest, term};
use coditect_core::hash;
use coditect_core::merge::{Existing, Incoming, Losing, decide};
use coditect_core::sync::Outgoing;
use coditect_local_store::{LocalStore, Random};
use coditect_protocol::catalogue::{Direction, File, Merge, by_cloud_name};
use coditect_protocol::wire::moves::{Move, MoveReply, MoveRequest, Moved};
use coditect_protocol::wire::pull::{Page, PullReply, TableDigest};
use coditect_protocol::wire::push::{Change, Loser, Outcome, PushReply, PushRequest, Status};
use coditect_protocol::wire::{Op, Row, Stored};
use coditect_protocol::{Cursor, DeviceId, Epoch, OrganizationId, RowId, Scope, UserId, Version};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

pub(crate) const NOW: i64 = 1_760_000_000_000;
pub(crate) const TENANT: Uuid = Uuid::from_u128(0x7e);
pub(crate) const USER: Uuid = Uuid::from_u128(0x05);

/// Returns a new folder, in memory where the system offers that: these tests are about rows,
/// not about disks.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

pub(crate) fn own() -> Scope {
    Scope::User(USER)
}

/// Returns a store in memory that belongs to the test's user.
pub(crate) fn store(seed: u64) -> LocalStore {
    let mut store = LocalStore::in_memory(NOW, Random::Seeded(seed)).unwrap();
    bind(&mut store);
    store
}

pub(crate) fn bind(store: &mut LocalStore) {
    store
        .bind(OrganizationId::new(TENANT), UserId::new(USER))
        .unwrap();
}

pub(crate) fn row(value: Value) -> Row {
    value.as_object().unwrap().clone()
}

type Key = (Scope, String, RowId);
type Parts = BTreeMap<(Key, String, DeviceId), (i64, i64)>;

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) epoch: Epoch,
    pub(crate) now_ms: i64,
    pub(crate) rows: BTreeMap<Key, Stored>,
    parts: Parts,
    heads: BTreeMap<Scope, i64>,
    batches: BTreeMap<String, Vec<RowId>>,
    /// Where the rows are that left a scope.
    moved: BTreeMap<Key, Scope>,
    tokens: u64,
    /// Table whose changes are refused.
    pub(crate) refuses: Option<&'static str>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Epoch(1),
            now_ms: NOW,
            rows: BTreeMap::new(),
            parts: BTreeMap::new(),
            heads: BTreeMap::new(),
            batches: BTreeMap::new(),
            moved: BTreeMap::new(),
            tokens: 0,
            refuses: None,
        }
    }

    pub(crate) fn push(&mut self, request: &PushRequest) -> PushReply {
        let again = self.batches.contains_key(&request.batch_id.to_string());
        let outcomes = request
            .changes
            .iter()
            .map(|change| {
                if again {
                    self.repeat(request, change)
                } else {
                    self.change(request, change)
                }
            })
            .collect();
        let ids = request.changes.iter().map(|change| change.id).collect();
        self.batches.insert(request.batch_id.to_string(), ids);
        self.tokens += u64::from(!again);
        PushReply {
            epoch: self.epoch,
            token: format!("token-{}", self.tokens),
            server_time_ms: self.now_ms,
            outcomes,
        }
    }

    /// Returns what is stored; without its content when the sender has that.
    fn stored(&self, key: &Key, change: &Change) -> Stored {
        let mut stored = self.rows[key].clone();
        if stored.row == change.row {
            stored.row = None;
        }
        stored
    }

    fn repeat(&self, request: &PushRequest, change: &Change) -> Outcome {
        let key = (request.scope, change.table.clone(), change.id);
        let stored = self.stored(&key, change);
        outcome(Status::Duplicate, Some(stored), None)
    }

    /// Returns the answer to an edit of a row that was moved to another scope.
    fn elsewhere(&self, key: &Key, before: Option<&Stored>, change: &Change) -> Option<Outcome> {
        let stored = before.filter(|stored| stored.op == Op::Delete)?;
        let to = self.moved.get(key)?;
        (change.op == Op::Upsert).then(|| Outcome {
            moved_to: Some(*to),
            ..outcome(Status::Superseded, Some(stored.clone()), None)
        })
    }

    fn change(&mut self, request: &PushRequest, change: &Change) -> Outcome {
        if self.refuses == Some(change.table.as_str()) {
            return Outcome {
                code: Some(coditect_protocol::ErrorCode::MalformedRow),
                reason: Some("refused by the test".to_owned()),
                ..outcome(Status::Rejected, None, None)
            };
        }
        let table = by_cloud_name(&change.table).unwrap();
        let key: Key = (request.scope, change.table.clone(), change.id);
        let before = self.rows.get(&key).cloned();
        if let Some(outcome) = self.elsewhere(&key, before.as_ref(), change) {
            return outcome;
        }
        let counters = self.counters(&key, request.device, change);
        let existing = before.as_ref().map(|stored| Existing {
            version: stored.version,
            device: stored.device,
            hash: stored.hash.parse().unwrap(),
            row: stored.row.clone(),
        });
        if let Some(row) = &change.row {
            assert_eq!(hash::content(table, row).to_string(), change.hash);
            assert_eq!(&coditect_core::canonical::row(table, row.clone()), row);
        }
        let corrected = Skew::measure(self.now_ms, request.sent_at_ms).correct(change.proposed);
        let incoming = Incoming {
            change,
            hash: change.hash.parse().unwrap(),
            corrected,
            sender: request.device,
            counters: &counters,
        };
        let verdict = decide(table, existing.as_ref(), &incoming);
        let loser = verdict
            .losing
            .map(|losing| loser(losing, before.as_ref(), request, change));
        if let Some(write) = verdict.write {
            let head = self.heads.entry(request.scope).or_default();
            *head += 1;
            let op = if write.row.is_some() {
                Op::Upsert
            } else {
                Op::Delete
            };
            self.rows.insert(
                key.clone(),
                Stored {
                    table: change.table.clone(),
                    id: change.id,
                    op,
                    version: write.version,
                    device: request.device,
                    origin: before
                        .as_ref()
                        .map_or(request.device, |stored| stored.origin),
                    user_id: Some(UserId::new(USER)),
                    hash: write.hash.to_string(),
                    cursor: *head,
                    created_at: before
                        .map_or_else(|| change.created_at.clone(), |stored| stored.created_at),
                    updated_at: change.updated_at.clone(),
                    row: write.row,
                },
            );
        }
        let stored = self.stored(&key, change);
        outcome(verdict.status, Some(stored), loser)
    }

    /// Moves rows of one author; nobody is there first.
    pub(crate) fn move_rows(&mut self, request: &MoveRequest) -> MoveReply {
        let moves = request.moves.iter();
        let outcomes = moves.map(|wanted| self.move_row(request, wanted)).collect();
        MoveReply {
            epoch: self.epoch,
            server_time_ms: self.now_ms,
            outcomes,
        }
    }

    fn move_row(&mut self, request: &MoveRequest, wanted: &Move) -> Moved {
        let from: Key = (request.from, wanted.table.clone(), wanted.id);
        let to: Key = (request.to, wanted.table.clone(), wanted.id);
        let mut answer = Moved {
            status: Status::Rejected,
            code: Some(coditect_protocol::ErrorCode::NotFound),
            reason: Some("no such row".to_owned()),
            left: None,
            entered: None,
        };
        let Some(row) = self.rows.get(&from).cloned() else {
            return answer;
        };
        let there = self.moved.get(&from) == Some(&request.to);
        if row.op == Op::Delete && !there {
            answer.left = Some(row);
            return answer;
        }
        let known = row.version == wanted.base;
        answer.status = Status::Duplicate;
        if row.op == Op::Upsert {
            answer.status = if known {
                Status::Applied
            } else {
                Status::Merged
            };
            let parts: Parts = self.parts.clone();
            for ((key, column, device), part) in parts {
                if key == from {
                    self.parts.insert((to.clone(), column, device), part);
                }
            }
            let version = Version::from_i64(row.version.to_i64().max(self.now_ms << 16) + 1);
            let mut place = |scope: Scope, op, content| {
                let head = self.heads.entry(scope).or_default();
                *head += 1;
                Stored {
                    op,
                    version,
                    device: request.device,
                    cursor: *head,
                    row: content,
                    ..row.clone()
                }
            };
            let left = place(request.from, Op::Delete, None);
            let entered = place(request.to, Op::Upsert, row.row.clone());
            self.rows.insert(from.clone(), left);
            self.rows.insert(to.clone(), entered);
            self.moved.insert(from.clone(), request.to);
            self.moved.remove(&to);
        }
        let mut entered = self.rows[&to].clone();
        if known {
            entered.row = None;
        }
        Moved {
            code: None,
            reason: None,
            left: Some(self.rows[&from].clone()),
            entered: Some(entered),
            ..answer
        }
    }

    fn counters(&mut self, key: &Key, device: DeviceId, change: &Change) -> Row {
        for (column, part) in &change.counters {
            let slot = (key.clone(), column.clone(), device);
            let known = self.parts.entry(slot).or_insert((i64::MIN, 0));
            if part.seq > known.0 {
                *known = (part.seq, part.total);
            }
        }
        let table = by_cloud_name(&change.table).unwrap();
        let sums = table.columns_by(Merge::Counter).filter_map(|column| {
            let parts = self.parts.iter();
            let of = parts.filter(|((of, name, _), _)| of == key && name == column.name);
            let totals: Vec<i64> = of.map(|(_, (_, total))| *total).collect();
            let known = !totals.is_empty();
            known.then(|| (column.name.to_owned(), json!(totals.iter().sum::<i64>())))
        });
        sums.collect()
    }

    /// Answers the positions of a device with everything behind them.
    pub(crate) fn pull(&self, store: &LocalStore) -> PullReply {
        let (device, positions) = store.positions().unwrap();
        let mut scopes: Vec<Scope> = positions.iter().map(|it| it.scope).collect();
        scopes.dedup();
        let pages = positions.into_iter().map(|position| {
            let from = position.cursor.map_or(0, |cursor| cursor.n);
            self.page(position.scope, position.file, from, device)
        });
        PullReply {
            epoch: self.epoch,
            scopes,
            pages: pages.collect(),
        }
    }

    pub(crate) fn page(&self, scope: Scope, file: File, from: i64, device: DeviceId) -> Page {
        let of_file =
            |stored: &&Stored| by_cloud_name(&stored.table).is_some_and(|table| table.file == file);
        let in_stream = self.rows.iter().filter(|((of, _, _), _)| *of == scope);
        let rows: Vec<&Stored> = in_stream
            .map(|(_, stored)| stored)
            .filter(of_file)
            .collect();
        let mut changes: Vec<Stored> = rows
            .iter()
            .filter(|stored| stored.cursor > from)
            .filter(|stored| by_cloud_name(&stored.table).is_some_and(|t| t.comes_down()))
            .map(|stored| (*stored).clone())
            .collect();
        changes.sort_by_key(|stored| stored.cursor);
        let mut digests: BTreeMap<String, Digest> = BTreeMap::new();
        for stored in rows {
            let up = by_cloud_name(&stored.table).unwrap().direction == Direction::Up;
            if up && stored.origin != device {
                continue;
            }
            let deleted = stored.op == Op::Delete;
            let hash = stored.hash.parse().unwrap();
            let (version, writer) = (stored.version, stored.device);
            let term = term(&stored.table, stored.id, version, writer, &hash, deleted);
            digests
                .entry(stored.table.clone())
                .or_default()
                .add(term, deleted);
        }
        let digests = digests.into_iter().map(|(table, digest)| TableDigest {
            table,
            rows: digest.rows,
            count: digest.count,
            digest: digest.text(),
        });
        Page {
            scope,
            file,
            changes,
            cursor: Cursor {
                epoch: self.epoch,
                n: self.heads.get(&scope).copied().unwrap_or(0).max(from),
            },
            at_head: true,
            digests: Some(digests.collect()),
            descent: None,
        }
    }
}

fn outcome(status: Status, stored: Option<Stored>, loser: Option<Loser>) -> Outcome {
    Outcome {
        status,
        code: None,
        reason: None,
        stored,
        loser,
        moved_to: None,
    }
}

/// Pulls to the head. Returns how many rows of others came.
pub(crate) fn pull(store: &mut LocalStore, server: &Server) -> u64 {
    let reply = server.pull(store);
    store.apply_reply(&reply).unwrap().pulled
}

/// Takes the next batch of a file, whatever its stream.
pub(crate) fn take(store: &mut LocalStore, file: File, now_ms: i64) -> Option<Outgoing> {
    let scopes = store.scopes_with_work(file, now_ms).unwrap();
    let scope = *scopes.first()?;
    store.next_batch(file, scope, now_ms).unwrap()
}

/// Pushes everything. Returns the changes that were sent.
pub(crate) fn push(store: &mut LocalStore, server: &mut Server) -> Vec<Change> {
    let mut sent = Vec::new();
    for file in File::ALL {
        store.adopt(file, server.now_ms).unwrap();
        while let Some(batch) = take(store, file, server.now_ms) {
            let reply = server.push(&batch.request);
            store.settle(&batch, &reply, server.now_ms).unwrap();
            sent.extend(batch.request.changes);
        }
    }
    sent
}

/// One run: adopt, pull, push, pull.
pub(crate) fn sync(store: &mut LocalStore, server: &mut Server) -> Vec<Change> {
    for file in File::ALL {
        store.adopt(file, server.now_ms).unwrap();
    }
    pull(store, server);
    let sent = push(store, server);
    pull(store, server);
    assert_converged(store, server);
    sent
}

/// Compares digests and canonical rows of a store with the server.
pub(crate) fn assert_converged(store: &mut LocalStore, server: &Server) {
    let reply = server.pull(store);
    for head in store.apply_reply(&reply).unwrap().heads {
        assert!(head.equal(), "{head:#?}");
    }
    for file in File::ALL {
        assert_eq!(store.count_unmarked(file).unwrap(), 0, "{file}");
        for dumped in store.canonical_dump(file).unwrap() {
            let key = (
                dumped.scope.parse().unwrap(),
                dumped.table.clone(),
                dumped.id.parse().unwrap(),
            );
            let Some(stored) = server.rows.get(&key) else {
                panic!("the server lacks {dumped:?}");
            };
            assert_eq!(dumped.deleted, stored.op == Op::Delete, "{dumped:?}");
            assert_eq!(
                Version::from_i64(dumped.version as i64),
                stored.version,
                "{dumped:?}"
            );
            assert_eq!(dumped.hash, stored.hash, "{dumped:?}");
            let table = by_cloud_name(&dumped.table).unwrap();
            let parted = |row: &Row| coditect_core::body::parted(table, row.clone());
            assert_eq!(dumped.row, stored.row.as_ref().map(parted), "{}", dumped.id);
        }
    }
}

fn loser(losing: Losing, before: Option<&Stored>, request: &PushRequest, change: &Change) -> Loser {
    match (losing, before) {
        (Losing::Existing, Some(stored)) => Loser {
            version: stored.version,
            device: stored.device,
            op: stored.op,
            row: stored.row.clone(),
        },
        _ => Loser {
            version: change.proposed,
            device: request.device,
            op: change.op,
            row: change.row.clone(),
        },
    }
}
