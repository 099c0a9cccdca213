//! What the server counts and times, and what it reads from database and machine when it is
//! asked: the metrics of the workflows and of the architecture under their names (seeds 002 and
//! 004), in the text format of OpenMetrics.
//!
//! They are served on a listener of their own: they need no credential and hold nobody's content.
//! `ops/` has the alert rules and the board over them.

mod gauges;
mod machine;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use coditect_protocol::wire::push::{Outcome, Status};
use coditect_server_store::Db;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::state::AppState;
use gauges::Gauges;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Upper bounds in seconds. The seeds' thresholds of 1, 3 and 5 seconds are among them.
const REQUEST_SECONDS: [f64; 14] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0,
];
const QUERY_SECONDS: [f64; 10] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0,
];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    endpoint: String,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: String,
    method: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueryLabels {
    query_type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// What this process counted. Clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Histograms<EndpointLabels>,
    push_seconds: Histogram,
    pull_seconds: Histogram,
    search_seconds: Histogram,
    semantic_search_ms: Histogram,
    changes: Family<OutcomeLabels, Counter>,
    queries: Histograms<QueryLabels>,
    audit_faults: Counter,
    orphans: Counter,
    history_purged: Counter,
    gauges: Gauges,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let requests = || Histogram::new(REQUEST_SECONDS);
        let queries = || Histogram::new(QUERY_SECONDS);
        let mut registry = Registry::default();
        let inner = Inner {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(requests),
            push_seconds: requests(),
            pull_seconds: requests(),
            search_seconds: requests(),
            semantic_search_ms: Histogram::new(REQUEST_SECONDS.map(|seconds| seconds * 1_000.0)),
            changes: Family::default(),
            queries: Family::new_with_constructor(queries),
            audit_faults: Counter::default(),
            orphans: Counter::default(),
            history_purged: Counter::default(),
            gauges: Gauges::registered(&mut registry),
            registry,
        };
        Self(Arc::new(inner.registered()))
    }
}

impl Inner {
    /// Names what is counted; the registry adds `_total` to counters.
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "coditect_api_requests",
            "Requests answered, by route, method and status",
            self.requests.clone(),
        );
        registry.register(
            "coditect_api_request_duration_seconds",
            "Time from the first byte of a request's head to the reply's, by route and method",
            self.request_seconds.clone(),
        );
        registry.register(
            "context_sync_push_latency",
            "Seconds that a push took, of every route that takes changes",
            self.push_seconds.clone(),
        );
        registry.register(
            "context_sync_pull_latency",
            "Seconds that a pull took, of every route that gives changes",
            self.pull_seconds.clone(),
        );
        registry.register(
            "coditect_search_duration_seconds",
            "Time of a search by words, of every route that searches",
            self.search_seconds.clone(),
        );
        registry.register(
            "coditect_semantic_search_latency_ms",
            "Milliseconds of a search by meaning, of every route that searches so",
            self.semantic_search_ms.clone(),
        );
        registry.register(
            "context_sync_changes",
            "Changes that devices pushed, by what became of them",
            self.changes.clone(),
        );
        registry.register(
            "coditect_db_query_duration_seconds",
            "Time of a database transaction by what it is for, without the wait for a connection",
            self.queries.clone(),
        );
        registry.register(
            "coditect_audit_faults",
            "Chains of the audit trail that were found altered, once for each look",
            self.audit_faults.clone(),
        );
        registry.register(
            "coditect_backup_orphans",
            "Archives that attempts left behind and that were removed",
            self.orphans.clone(),
        );
        registry.register(
            "coditect_history_purged",
            "Old versions and settled conflicts that were removed",
            self.history_purged.clone(),
        );
        self
    }
}

impl Metrics {
    /// Counts an answered request. `route` is the template, never a path as it was sent.
    pub(crate) fn answered(
        &self,
        route: &str,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let Inner {
            requests,
            request_seconds,
            push_seconds,
            pull_seconds,
            search_seconds,
            semantic_search_ms,
            ..
        } = &*self.0;
        let seconds = took.as_secs_f64();
        // One name for both spellings.
        let endpoint = route.trim_end_matches('/').to_owned();
        let method = name(method);
        let mut parts = endpoint.rsplit('/');
        match (parts.next(), parts.next()) {
            (Some("push"), _) => push_seconds.observe(seconds),
            (Some("pull"), _) => pull_seconds.observe(seconds),
            (Some("semantic"), Some("search")) => semantic_search_ms.observe(seconds * 1_000.0),
            (Some("search"), _) => search_seconds.observe(seconds),
            _ => {}
        }
        request_seconds
            .get_or_create_owned(&EndpointLabels {
                endpoint: endpoint.clone(),
                method,
            })
            .observe(seconds);
        let labels = RequestLabels {
            endpoint,
            method,
            status: status.as_u16(),
        };
        requests.get_or_create_owned(&labels).inc();
    }

    /// Counts what became of the changes of a push.
    pub(crate) fn pushed(&self, outcomes: &[Outcome]) {
        for status in Status::ALL {
            let outcomes = outcomes.iter();
            let count = outcomes.filter(|outcome| outcome.status == status).count();
            if count > 0 {
                let labels = OutcomeLabels {
                    outcome: status.as_str(),
                };
                let changes = self.0.changes.get_or_create_owned(&labels);
                changes.inc_by(count as u64);
            }
        }
    }

    /// Counts a chain of the audit trail that is not what it was.
    pub(crate) fn audit_fault(&self) {
        self.0.audit_faults.inc();
    }

    /// Counts archives that attempts had left behind.
    pub(crate) fn orphans_removed(&self, count: u64) {
        self.0.orphans.inc_by(count);
    }

    /// Counts old versions and settled conflicts that were removed.
    pub(crate) fn history_purged(&self, count: u64) {
        self.0.history_purged.inc_by(count);
    }

    /// Times every transaction of the database from now on.
    pub(crate) fn time(&self, db: &Db) {
        let queries = self.0.queries.clone();
        db.time_with(Arc::new(move |query_type, took| {
            let labels = QueryLabels { query_type };
            let histogram = queries.get_or_create_owned(&labels);
            histogram.observe(took.as_secs_f64());
        }));
    }

    /// Returns changes that were there before, and all changes.
    fn duplicates(&self) -> (u64, u64) {
        let of = |status: Status| {
            let labels = OutcomeLabels {
                outcome: status.as_str(),
            };
            // Reading one that nobody counted would make it.
            self.0.changes.get(&labels).map_or(0, |found| found.get())
        };
        let all = Status::ALL.iter().map(|status| of(*status)).sum();
        (of(Status::Duplicate), all)
    }
}

/// Returns the method's name; strange ones share one, so that nobody can make names without end.
fn name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// What the metrics' listener works with.
#[derive(Clone, Debug)]
struct Scraped {
    state: AppState,
    data_dir: PathBuf,
}

/// Returns the service of the metrics' listener. `data_dir` tells which disk is measured.
pub fn router(state: AppState, data_dir: PathBuf) -> Router {
    Router::new()
        .route("/metrics", get(serve))
        .with_state(Scraped { state, data_dir })
}

async fn serve(State(scraped): State<Scraped>) -> Response {
    let Scraped { state, data_dir } = scraped;
    let inner = &state.metrics.0;
    inner.gauges.read(&state, &data_dir).await;
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &inner.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_are_timed_by_the_end_of_their_route_and_those_by_meaning_apart() {
        let metrics = Metrics::default();
        for (route, took_ms) in [
            ("/api/v1/search", 20),
            ("/api/v1/projects/{id}/search/", 30),
            ("/api/v1/search/semantic/", 40),
            ("/api/v1/searches", 50),
        ] {
            let took = Duration::from_millis(took_ms);
            metrics.answered(route, &Method::POST, StatusCode::OK, took);
        }
        let mut text = String::new();
        let encoded = prometheus_client::encoding::text::encode(&mut text, &metrics.0.registry);
        encoded.unwrap();
        for line in [
            "coditect_search_duration_seconds_count 2\n",
            "coditect_semantic_search_latency_ms_count 1\n",
            "coditect_semantic_search_latency_ms_sum 40.0\n",
            "coditect_semantic_search_latency_ms_bucket{le=\"50.0\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
