//! The app under test, requests and replies.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, Response, header};
use coditect_backup::Storage;
use coditect_core::hash;
use coditect_protocol::catalogue::{File, by_cloud_name};
use coditect_protocol::wire::pull::{Position, PullRequest};
use coditect_protocol::wire::push::{Change, PushReply, PushRequest};
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{
    API_VERSION, BatchId, DeviceId, ErrorCode, Problem, RowId, Scope, Version,
};
use coditect_server::backups::Backups;
use coditect_server::config::HttpConfig;
use coditect_server::router;
use coditect_server::state::{AppState, Clock};
use coditect_testkit::{TestDb, TestUser};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt as _;
use uuid::Uuid;

/// The server without a socket, on a database of its own.
pub(crate) struct TestApp {
    pub(crate) db: TestDb,
    pub(crate) router: Router,
    pub(crate) state: AppState,
    /// Where its backups are.
    pub(crate) backups: tempfile::TempDir,
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::start_with(http()).await
    }

    pub(crate) async fn start_with(http: HttpConfig) -> Self {
        let db = TestDb::new().await;
        let clock = db.clock().clone();
        let clock = Clock::new(move || clock.now());
        let mut state = AppState::new(db.db().clone(), db.secrets().clone(), clock, http);
        let backups = tempfile::tempdir().unwrap();
        let storage = Storage::open(coditect_backup::Settings {
            address: backups.path().display().to_string(),
            ..Default::default()
        });
        state.backups = Some(Backups::new(storage.unwrap()));
        Self {
            router: router::router(state.clone()),
            state,
            db,
            backups,
        }
    }

    /// Has the server keep its backups somewhere else.
    pub(crate) fn use_backups(&mut self, backups: Backups) {
        self.state.backups = Some(backups);
        self.router = router::router(self.state.clone());
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        Reply::read(response).await
    }

    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Reply {
        self.send(post(path, body)).await
    }

    /// Posts as `user`.
    pub(crate) async fn post_as(
        &self,
        user: &TestUser,
        path: &str,
        body: &impl Serialize,
    ) -> Reply {
        self.send(bearer(post(path, body), &user.access_token))
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(get(path)).await
    }

    pub(crate) async fn get_as(&self, user: &TestUser, path: &str) -> Reply {
        self.send(bearer(get(path), &user.access_token)).await
    }
}

/// Returns the limits of a server in a test.
pub(crate) fn http() -> HttpConfig {
    HttpConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        metrics_listen: None,
        insecure_listen: false,
        trusted_proxies: Vec::new(),
        tls: None,
        request_timeout: Duration::from_secs(300),
        requests_max: 64,
        connections_max: 64,
        stop_timeout: Duration::from_secs(300),
    }
}

pub(crate) fn post(path: &str, body: &impl Serialize) -> Request<Body> {
    raw_post(path, "application/json", serde_json::to_vec(body).unwrap())
}

pub(crate) fn raw_post(path: &str, content_type: &str, body: Vec<u8>) -> Request<Body> {
    Request::post(path)
        .header(header::CONTENT_TYPE, content_type)
        .body(Body::from(body))
        .unwrap()
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

pub(crate) fn delete(path: &str) -> Request<Body> {
    Request::delete(path).body(Body::empty()).unwrap()
}

pub(crate) fn bearer(mut request: Request<Body>, token: &str) -> Request<Body> {
    let value = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, value);
    request
}

/// A whole reply.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) async fn read(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body of a success.
    pub(crate) fn ok<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns the problem, checked for form, status and code.
    pub(crate) fn problem(&self, code: ErrorCode) -> Problem {
        let text = self.text();
        assert_eq!(
            self.headers[header::CONTENT_TYPE],
            "application/problem+json",
            "{text}"
        );
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.code, code, "{text}");
        assert_eq!(
            (self.status, problem.status),
            (code.status(), code.status()),
            "{text}"
        );
        assert_eq!(problem.title, code.title());
        assert!(
            problem
                .detail
                .as_ref()
                .is_some_and(|detail| !detail.is_empty())
        );
        let id = problem.request_id.as_deref().unwrap();
        assert_eq!(self.headers["x-request-id"], id);
        problem
    }

    /// Returns status and body without the request id: what two answers are compared by.
    pub(crate) fn comparable(&self) -> (u16, Value) {
        let mut body: Value = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        if let Some(object) = body.as_object_mut() {
            object.remove("request_id");
        }
        (self.status, body)
    }
}

static COUNT: AtomicU64 = AtomicU64::new(1);

/// Returns an id that no other call in this process returns.
pub(crate) fn fresh_uuid() -> Uuid {
    uuid::Builder::from_random_bytes(
        u128::from(COUNT.fetch_add(1, Ordering::Relaxed)).to_be_bytes(),
    )
    .into_uuid()
}

/// The tests' clock stands here; edits were made a minute before.
pub(crate) const NOW_MS: i64 = 1_767_225_600_000;
const EDIT_MS: u64 = 1_767_225_540_000;
const EDITED_AT: &str = "2025-12-31T23:59:00.000000Z";

/// Returns a new decision, proposed `later_ms` after the tests' time of edits.
pub(crate) fn decision(id: RowId, title: &str, later_ms: u64) -> Change {
    let table = by_cloud_name("org_decisions").unwrap();
    let mut row = Row::new();
    row.insert("title".to_owned(), title.into());
    Change {
        table: table.cloud.to_owned(),
        id,
        op: Op::Upsert,
        base: None,
        follows: None,
        base_hash: None,
        proposed: Version::from_parts(EDIT_MS + later_ms, 0),
        register: true,
        hash: hash::content(table, &row).to_string(),
        created_at: EDITED_AT.to_owned(),
        updated_at: EDITED_AT.to_owned(),
        row: Some(row),
        counters: Default::default(),
    }
}

pub(crate) fn fresh_row() -> RowId {
    RowId::new(fresh_uuid())
}

pub(crate) fn own_scope(user: &TestUser) -> Scope {
    Scope::User(user.user_id.get())
}

pub(crate) fn push_request(
    device: DeviceId,
    scope: Scope,
    token: Option<&str>,
    changes: Vec<Change>,
) -> PushRequest {
    PushRequest {
        api_version: API_VERSION.to_owned(),
        device,
        batch_id: BatchId::new(fresh_uuid()),
        sent_at_ms: NOW_MS,
        file: File::Org,
        scope,
        epoch: None,
        token: token.map(str::to_owned),
        changes,
    }
}

pub(crate) fn pull_request(device: DeviceId, scope: Scope) -> PullRequest {
    PullRequest {
        api_version: API_VERSION.to_owned(),
        device,
        positions: vec![Position {
            scope,
            file: File::Org,
            cursor: None,
            token: None,
            descent: None,
        }],
        table: None,
    }
}

pub(crate) const PUSH: &str = "/api/v1/sync/push";
pub(crate) const PULL: &str = "/api/v1/sync/pull";
pub(crate) const MOVE: &str = "/api/v1/sync/move";
pub(crate) const CONFLICTS: &str = "/api/v1/sync/conflicts";

/// Pushes one decision of the user's own and returns the reply.
pub(crate) async fn push_decision(app: &TestApp, user: &TestUser, title: &str) -> PushReply {
    let change = decision(fresh_row(), title, 0);
    let request = push_request(user.device_id, own_scope(user), None, vec![change]);
    app.post_as(user, PUSH, &request).await.ok()
}
