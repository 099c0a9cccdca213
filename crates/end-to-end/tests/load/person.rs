//! A person with one or two devices: what they write, how they sync, what they look at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coditect_client::auth;
use coditect_client::transport::Fallback;
use coditect_client::{Credentials, Http, HttpOptions, HttpTransport, Transport};
use coditect_core::sync::{Failure, Options};
use coditect_local_store::{LocalStore, Random};
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::auth::{DeviceInfo, LicenseLogin, LoginReply};
use coditect_protocol::wire::pull::{PullReply, PullRequest};
use coditect_protocol::wire::push::PushReply;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::figures::Figures;

/// Messages in a round at most.
const MESSAGES_MAX: u64 = 12;
/// Syncs that a device may need to have everything once nobody writes any more.
const SETTLE_ROUNDS: usize = 6;

/// What somebody needs to log in.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) number: u64,
    pub(crate) server: String,
    pub(crate) license: String,
}

/// A person at work.
pub(crate) struct Person {
    number: u64,
    random: Random,
    runtime: Runtime,
    devices: Vec<Device>,
    figures: Arc<Figures>,
    /// Position of the views.
    seen: i64,
}

struct Device {
    store: LocalStore,
    transport: Timed,
    random: Random,
    http: Http,
    login: LoginReply,
    converged: Option<bool>,
    own_decisions: Vec<String>,
}

/// How a device stands in the end.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Whether its digests are the server's.
    pub(crate) converged: Option<bool>,
    /// Changes that it did not get rid of.
    pub(crate) queued: u64,
    /// Rows that it holds.
    pub(crate) rows: u64,
}

/// Carries requests and takes the time.
struct Timed {
    inner: HttpTransport,
    figures: Arc<Figures>,
}

impl Transport for Timed {
    async fn push(&mut self, body: &[u8]) -> Result<PushReply, Failure> {
        let started = Instant::now();
        let reply = self.inner.push(body).await;
        let rows = |reply: &PushReply| reply.outcomes.len() as u64;
        self.figures
            .note("sync/push", started, reply.as_ref().map(rows));
        reply
    }

    async fn pull(&mut self, request: &PullRequest) -> Result<PullReply, Failure> {
        let started = Instant::now();
        let reply = self.inner.pull(request).await;
        let rows = |reply: &PullReply| {
            let changes = reply.pages.iter().map(|page| page.changes.len() as u64);
            changes.sum()
        };
        let rows = reply.as_ref().map(rows);
        let kind = match rows {
            Ok(0) => "sync/pull idle",
            _ => "sync/pull",
        };
        self.figures.note(kind, started, rows);
        reply
    }

    async fn authenticate(&mut self) -> bool {
        self.inner.authenticate().await
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "devices have clocks; this is where the test's come from"
)]
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_millis()).unwrap()
}

impl Person {
    /// Logs in with every device.
    pub(crate) fn log_in(account: Account, figures: &Arc<Figures>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let devices = 1 + account.number % 2;
        let devices = (0..devices)
            .map(|n| runtime.block_on(Device::log_in(&account, n, figures)))
            .collect();
        Self {
            number: account.number,
            random: Random::Seeded(account.number),
            runtime,
            devices,
            figures: Arc::clone(figures),
            seen: 0,
        }
    }

    /// Returns how long to rest, around `pause_ms` on average.
    pub(crate) fn rest(&mut self, pause_ms: u64) -> Duration {
        Duration::from_millis(self.random.bits() % (2 * pause_ms + 1))
    }

    /// Writes on one device, syncs it, and looks at something.
    pub(crate) fn work(&mut self, round: u64) {
        let index = (round as usize) % self.devices.len();
        let dice = self.random.bits();
        self.write(index, round, dice);
        self.sync(index);
        self.look(index, round, dice >> 32);
    }

    fn write(&mut self, index: usize, round: u64, dice: u64) {
        let (now, number) = (now_ms(), self.number);
        let device = &mut self.devices[index];
        for n in 0..=dice % MESSAGES_MAX {
            let id = device.random.id(now);
            let size = 40 + (device.random.bits() % 1_200) as usize;
            let content = format!("{number} {round} {n} ");
            let content = content.repeat(size / content.len() + 1);
            let row = json!({
                "message_id": format!("claude:{id}"), "session_id": format!("s{number}"),
                "role": "user", "content": content,
            });
            device.insert("context_messages", "user", row);
        }
        let shared = format!("org:{}", device.login.tenant_id);
        if dice.is_multiple_of(3) {
            let title = format!("decision {round} of person {number}");
            let row = json!({ "title": title, "rationale": "it was measured" });
            let id = device.insert("org_decisions", "user", row);
            device.own_decisions.push(id);
        }
        // Every fourth person shares with the organisation.
        if number.is_multiple_of(4) && dice.is_multiple_of(5) {
            let row = json!({ "skill_name": "load", "learning": format!("{number}/{round}") });
            device.insert("org_skill_learnings", &shared, row);
        }
        if let Some(id) = device
            .own_decisions
            .last()
            .filter(|_| dice.is_multiple_of(7))
            .cloned()
        {
            let patch = json!({ "status": format!("revised in round {round}") });
            device.update("org_decisions", &id, patch);
        }
    }

    fn look(&mut self, index: usize, round: u64, dice: u64) {
        let device = &self.devices[index];
        let (number, session) = (self.number, self.number);
        let task = json!({ "task_id": format!("t{}", round % 5), "session_id": "load",
            "status": format!("round {round}") });
        let message = json!({ "messages": [{ "type": "note", "content": format!("{dice}"),
            "metadata": { "source": format!("web-{session}") } }] });
        let (figures, seen) = (&self.figures, self.seen);
        let read = self.runtime.block_on(async {
            match dice % 6 {
                0 => device.get(figures, "context/status", "").await,
                1 => device.get(figures, "context/tasks", "?limit=50").await,
                2 => device.get(figures, "context/decisions", "?limit=50").await,
                3 => device.post(figures, "context/push", &message).await,
                4 => device.post(figures, "context/tasks", &task).await,
                _ => {
                    let range = format!("?cursor={seen}&limit=200");
                    device.get(figures, "context/pull", &range).await
                }
            }
        });
        if dice % 6 > 4 {
            self.seen = read
                .and_then(|page| page["cursor"].as_i64())
                .unwrap_or(seen);
        }
        debug_assert_eq!(number, self.number);
    }

    fn sync(&mut self, index: usize) {
        let device = &mut self.devices[index];
        self.runtime.block_on(device.sync(&self.figures));
    }

    /// Syncs all devices.
    pub(crate) fn sync_all(&mut self) {
        for index in 0..self.devices.len() {
            self.sync(index);
        }
    }

    /// Syncs until all devices are equal to the server; nobody writes any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..SETTLE_ROUNDS {
            self.sync_all();
            if self.devices.iter().all(Device::is_settled) {
                return;
            }
        }
    }

    /// Returns how the devices stand.
    pub(crate) fn finish(self) -> Vec<Standing> {
        self.devices.iter().map(Device::standing).collect()
    }
}

impl Device {
    async fn log_in(account: &Account, n: u64, figures: &Arc<Figures>) -> Self {
        let seed = account.number * 10 + n;
        // Ids must differ from those of other runs against the same server, too.
        let mut random = Random::Seeded(seed ^ now_ms().unsigned_abs() << 20);
        let own = Random::Seeded(random.bits());
        let mut store = LocalStore::in_memory(now_ms(), own).unwrap();
        let mut options = HttpOptions::new(account.server.clone());
        options.device = Some(store.device());
        options.clock = Some(now_ms);
        let http = Http::new(&options).unwrap();
        let login = LicenseLogin {
            license_key: account.license.clone(),
            device: Some(DeviceInfo {
                id: Some(store.device()),
                name: Some(format!("load-{seed}")),
                hardware_id: None,
            }),
        };
        let started = Instant::now();
        let reply = auth::license(&http, &login).await;
        figures.note("auth/license", started, reply.as_ref().map(|_| 0));
        let login = reply.unwrap();
        store.bind(login.tenant_id, login.user_id).unwrap();
        assert_eq!(
            login.device_id,
            store.device(),
            "a fresh id is nobody else's"
        );
        let credentials = Credentials::from_login(&account.server, &login);
        let inner = HttpTransport::new(
            Http::new(&options).unwrap(),
            credentials,
            None,
            Fallback::default(),
        );
        Self {
            store,
            transport: Timed {
                inner,
                figures: Arc::clone(figures),
            },
            random,
            http,
            login,
            converged: None,
            own_decisions: Vec::new(),
        }
    }

    fn insert(&mut self, table: &str, scope: &str, row: Value) -> String {
        let Value::Object(row) = row else {
            panic!("a row is an object")
        };
        let id = self.store.insert(table, scope, row, now_ms()).unwrap();
        id.to_string()
    }

    fn update(&mut self, table: &str, id: &str, patch: Value) {
        let Value::Object(patch) = patch else {
            panic!("a patch is an object")
        };
        let there = self.store.update(table, "user", id, &patch, now_ms());
        assert!(there.unwrap(), "the row was there");
    }

    async fn sync(&mut self, figures: &Figures) {
        let options = Options {
            push_only: false,
            retries: 0,
            random: self.random.bits(),
            ..Options::default()
        };
        let (store, transport) = (&mut self.store, &mut self.transport);
        let random = &mut self.random;
        let run = coditect_client::sync(store, transport, options, now_ms, random, |_| {});
        let report = run.await.unwrap();
        self.converged = report.converged;
        figures.conflicts(report.conflicts);
        let quiet = !report.offline && report.problem.is_none() && report.rejected == 0;
        if !quiet || report.converged == Some(false) || report.reconciled > 0 {
            let reason = report.problem.map(|problem| format!("{problem:?}"));
            let reason = reason.or(report.offline_reason);
            figures.error(format!(
                "sync: offline {}, rejected {}, reconciled {}, converged {:?}: {reason:?}",
                report.offline, report.rejected, report.reconciled, report.converged
            ));
        }
    }

    async fn get(&self, figures: &Figures, view: &'static str, range: &str) -> Option<Value> {
        let started = Instant::now();
        let token = Some(self.transport.inner.access_token());
        let path = format!("/api/v1/{view}{range}");
        let reply: Result<Value, Failure> = self.http.get(&path, token).await;
        figures.note(view, started, reply.as_ref().map(|_| 0));
        reply.ok()
    }

    async fn post(&self, figures: &Figures, view: &'static str, body: &Value) -> Option<Value> {
        let started = Instant::now();
        let token = Some(self.transport.inner.access_token());
        let path = format!("/api/v1/{view}");
        let body = body.to_string();
        let reply: Result<Value, Failure> = self.http.post(&path, body.as_bytes(), token).await;
        let kind = match view {
            "context/tasks" => "context/tasks put",
            view => view,
        };
        figures.note(kind, started, reply.as_ref().map(|_| 1));
        reply.ok()
    }

    fn is_settled(&self) -> bool {
        self.converged == Some(true) && self.queued() == 0
    }

    fn queued(&self) -> u64 {
        let files = File::ALL.iter();
        let state = files.map(|file| self.store.queue_state(*file).unwrap());
        state.map(|state| state.queued + state.parked).sum()
    }

    fn standing(&self) -> Standing {
        let tables = ["context_messages", "org_decisions", "org_skill_learnings"];
        let counts = tables
            .iter()
            .flat_map(|table| self.store.count(table).unwrap());
        Standing {
            converged: self.converged,
            queued: self.queued(),
            rows: counts.map(|(_, count)| count).sum(),
        }
    }
}
