//! A device without files: logs in and pushes prepared changes, so that a rig can write fast, or
//! from many devices at once, and spend its processor on what it measures.

use std::time::Duration;

use coditect_client::{Http, HttpOptions, auth};
use coditect_core::sync::Failure;
use coditect_core::{canonical, clock, hash};
use coditect_local_store::Random;
use coditect_protocol::catalogue::{File, by_cloud_name};
use coditect_protocol::wire::Op;
use coditect_protocol::wire::auth::{DeviceInfo, LicenseLogin, LoginReply};
use coditect_protocol::wire::push::{Change, PushReply, PushRequest};
use coditect_protocol::{API_VERSION, BatchId, DeviceId, RowId, Scope, Version};
use serde_json::Value;
use tokio::runtime::Runtime;

const PUSH: &str = "/api/v1/sync/push";

/// A logged-in device that remembers nothing but its token.
#[derive(Debug)]
pub struct Pusher {
    runtime: Runtime,
    http: Http,
    login: LoginReply,
    random: Random,
    token: Option<String>,
    file: File,
    scope: Scope,
    /// The batch that waits for its answer, byte for byte.
    out: Option<Vec<u8>>,
}

/// What became of a batch.
#[derive(Debug)]
pub enum Pushed {
    /// It was answered.
    Answered(PushReply),
    /// Nobody answered, or whoever did wants to be asked later; send it again.
    Unanswered,
}

impl Pusher {
    /// Logs a new device in for one file's changes; `seed` makes its ids.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn log_in(server: &str, license: &str, file: File, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut random = Random::Seeded(seed ^ (now_ms().unsigned_abs() << 20));
        let device = DeviceId::new(random.id(now_ms()));
        let mut options = HttpOptions::new(server);
        options.device = Some(device);
        options.clock = Some(now_ms);
        options.request_timeout_ms = 600_000;
        options.read_timeout_ms = 600_000;
        let http = Http::new(&options).unwrap();
        let wanted = LicenseLogin {
            license_key: license.to_owned(),
            device: Some(DeviceInfo {
                id: Some(device),
                name: Some(format!("pusher-{seed}")),
                hardware_id: None,
            }),
        };
        let login = runtime.block_on(auth::license(&http, &wanted)).unwrap();
        Self {
            runtime,
            http,
            scope: Scope::User(login.user_id.get()),
            login,
            random,
            token: None,
            file,
            out: None,
        }
    }

    /// Has it push into another scope than the person's own from now on.
    #[must_use]
    pub fn into_scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Returns a change that makes or edits a row; `base` is the acknowledged version of the row
    /// that is edited, with its id.
    ///
    /// # Panics
    /// When the table is unknown or the row no object.
    #[must_use]
    pub fn change(&mut self, table: &str, row: Value, base: Option<(RowId, Version)>) -> Change {
        let table = by_cloud_name(table).unwrap();
        let Value::Object(row) = row else {
            panic!("a row is an object")
        };
        let row = canonical::row(table, row);
        let now = now_ms();
        let derived = hash::derived_id(table, &row, self.login.device_id).unwrap();
        let id = base.map(|(id, _)| id).or(derived);
        let at = canonical::time_from_ms(now);
        Change {
            table: table.cloud.to_owned(),
            id: id.unwrap_or_else(|| RowId::new(self.random.id(now))),
            op: Op::Upsert,
            base: base.map(|(_, version)| version),
            follows: None,
            base_hash: None,
            proposed: clock::propose(now, 0),
            register: true,
            hash: hash::content(table, &row).to_string(),
            created_at: at.clone(),
            updated_at: at,
            row: Some(row),
            counters: std::collections::BTreeMap::new(),
        }
    }

    /// Prepares a batch for the person's own scope, or the one that was chosen. It stays until it
    /// is answered.
    ///
    /// # Panics
    /// When one is out.
    pub fn prepare(&mut self, changes: Vec<Change>) {
        assert!(self.out.is_none(), "a batch is out");
        let now = now_ms();
        let request = PushRequest {
            api_version: API_VERSION.to_owned(),
            device: self.login.device_id,
            batch_id: BatchId::new(self.random.id(now)),
            sent_at_ms: now,
            file: self.file,
            scope: self.scope,
            epoch: None,
            token: self.token.clone(),
            changes,
        };
        self.out = Some(serde_json::to_vec(&request).unwrap());
    }

    /// Returns the batch that waits for its answer.
    ///
    /// # Panics
    /// Never: it was written here.
    #[must_use]
    pub fn out(&self) -> Option<PushRequest> {
        let body = self.out.as_ref()?;
        Some(serde_json::from_slice(body).unwrap())
    }

    /// Sends what is out, once.
    ///
    /// # Panics
    /// When nothing is out, or the server refuses the batch for good.
    pub fn send(&mut self) -> Pushed {
        let body = self.out.as_ref().unwrap();
        let access = Some(self.login.access_token.as_str());
        let sent = self.http.post::<PushReply>(PUSH, body, access);
        match self.runtime.block_on(sent) {
            Ok(reply) => {
                self.token = Some(reply.token.clone());
                self.out = None;
                Pushed::Answered(reply)
            }
            Err(Failure::Offline(_) | Failure::RateLimited(..)) => Pushed::Unanswered,
            Err(Failure::Unauthenticated(_)) => {
                let renewed = auth::refresh(&self.http, &self.login.refresh_token);
                // The refusal of a token that ran out; a server that is away is asked again.
                if let Ok(login) = self.runtime.block_on(renewed) {
                    self.login = login;
                }
                Pushed::Unanswered
            }
            Err(failure) => panic!("{}", coditect_client::http::describe(&failure)),
        }
    }

    /// Sends what is out until it is answered.
    ///
    /// # Panics
    /// As [`Pusher::send`].
    pub fn push_on(&mut self) -> PushReply {
        loop {
            match self.send() {
                Pushed::Answered(reply) => return reply,
                Pushed::Unanswered => self.pause(Duration::from_millis(20)),
            }
        }
    }

    /// Posts something else in the person's name, once.
    ///
    /// # Errors
    /// What was answered instead of a success, or that nobody answered.
    ///
    /// # Panics
    /// Never: a JSON value can be written.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let body = serde_json::to_vec(body).unwrap();
        let access = Some(self.login.access_token.as_str());
        let sent = self.http.post::<Value>(path, &body, access);
        let answered = self.runtime.block_on(sent);
        answered.map_err(|failure| coditect_client::http::describe(&failure))
    }

    /// Logs in again: a proof may take longer than an access token is valid.
    ///
    /// # Errors
    /// Why it was not possible.
    pub fn renew(&mut self) -> Result<(), String> {
        let renew = || {
            let renewed = auth::refresh(&self.http, &self.login.refresh_token);
            self.runtime.block_on(renewed)
        };
        // A connection that was idle for long is gone, which shows when it is used.
        let renewed = match renew() {
            Err(Failure::Offline(_)) => renew(),
            renewed => renewed,
        };
        self.login = renewed.map_err(|failure| coditect_client::http::describe(&failure))?;
        Ok(())
    }

    /// Waits, as a device does before it tries again.
    pub fn pause(&self, time: Duration) {
        self.runtime.block_on(async {
            // tidy: may sleep: a device waits before it tries again
            tokio::time::sleep(time).await;
        });
    }

    /// Returns the device's id.
    #[must_use]
    pub const fn device(&self) -> DeviceId {
        self.login.device_id
    }

    /// Returns the person's id.
    #[must_use]
    pub fn user(&self) -> String {
        self.login.user_id.to_string()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "devices have clocks; this is where the rig's come from"
)]
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_millis()).unwrap()
}
