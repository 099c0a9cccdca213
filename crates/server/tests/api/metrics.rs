//! The metrics, and that the alerts and the board over them ask for what is there.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::header;
use coditect_protocol::wire::push::PushReply;
use coditect_server::metrics;
use rusty_promql_parser::parser::selector::VectorSelector;
use rusty_promql_parser::{Expr, expr};
use serde::Deserialize;
use tower::ServiceExt as _;

use crate::support::{
    PULL, PUSH, Reply, TestApp, decision, fresh_row, get, own_scope, pull_request, push_request,
};

/// The samples of an exposition, by name and labels as they are written.
struct Samples(BTreeMap<String, f64>);

impl Samples {
    async fn of(app: &TestApp) -> Self {
        let data_dir = app.backups.path().to_owned();
        let router = metrics::router(app.state.clone(), data_dir);
        let reply = Reply::read(router.oneshot(get("/metrics")).await.unwrap()).await;
        assert_eq!(reply.status, 200);
        let kind = reply.headers[header::CONTENT_TYPE].to_str().unwrap();
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        let text = reply.text();
        assert!(text.ends_with("# EOF\n"));
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        Self(samples.collect())
    }

    fn get(&self, name: &str) -> f64 {
        let found = self.0.get(name);
        *found.unwrap_or_else(|| panic!("{name} is not among {:?}", self.0.keys()))
    }

    /// Returns the names without labels.
    fn names(&self) -> BTreeSet<&str> {
        let cut = |name: &'_ String| name.find('{').unwrap_or(name.len());
        self.0.keys().map(|name| &name[..cut(name)]).collect()
    }
}

#[tokio::test]
async fn what_devices_do_is_counted_and_timed() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let user = app.db.with_user(&tenant, "a@b.c").await;
    let before = Samples::of(&app).await;
    assert!(before.get("context_dedup_rate").is_nan());
    assert!(before.get("context_backup_success_rate").is_nan());
    assert_eq!(before.get("coditect_database_up"), 1.0);
    assert_eq!(before.get("coditect_active_sessions"), 0.0);

    let (scope, mut token) = (own_scope(&user), None);
    let changes: Vec<_> = (0..3)
        .map(|_| decision(fresh_row(), "a decision", 0))
        .collect();
    for sent in [changes.clone(), changes] {
        let request = push_request(user.device_id, scope, token.as_deref(), sent);
        let reply: PushReply = app.post_as(&user, PUSH, &request).await.ok();
        token = Some(reply.token);
    }
    let request = pull_request(user.device_id, scope);
    assert_eq!(app.post_as(&user, PULL, &request).await.status, 200);
    assert_eq!(app.get("/api/v1/none-such").await.status, 404);

    let after = Samples::of(&app).await;
    for (name, value) in [
        ("context_sync_push_latency_count", 2.0),
        ("context_sync_pull_latency_count", 1.0),
        ("context_sync_changes_total{outcome=\"applied\"}", 3.0),
        ("context_sync_changes_total{outcome=\"duplicate\"}", 3.0),
        ("context_dedup_rate", 50.0),
        ("context_cursor_drift", 0.0),
        ("coditect_active_sessions", 1.0),
        (
            "coditect_api_requests_total\
             {endpoint=\"/api/v1/sync/push\",method=\"POST\",status=\"200\"}",
            2.0,
        ),
        (
            "coditect_api_requests_total{endpoint=\"none\",method=\"GET\",status=\"404\"}",
            1.0,
        ),
    ] {
        assert_eq!(after.get(name), value, "{name}");
    }
    assert!(after.get("coditect_db_query_duration_seconds_count{query_type=\"sync.pull\"}") >= 1.0);
    // A rate is one of the time since it was read last.
    assert!(Samples::of(&app).await.get("context_dedup_rate").is_nan());
}

#[tokio::test]
async fn a_device_that_stays_behind_and_failed_backups_show() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let user = app.db.with_user(&tenant, "a@b.c").await;
    let (scope, mut token) = (own_scope(&user), None);
    let request = pull_request(user.device_id, scope);
    assert_eq!(app.post_as(&user, PULL, &request).await.status, 200);
    for _ in 0..3 {
        let changes = vec![decision(fresh_row(), "a decision", 0)];
        let request = push_request(user.device_id, scope, token.as_deref(), changes);
        let reply: PushReply = app.post_as(&user, PUSH, &request).await.ok();
        token = Some(reply.token);
    }
    assert_eq!(Samples::of(&app).await.get("context_cursor_drift"), 3.0);

    for status in ["completed", "completed", "completed", "failed"] {
        let client = app.db.superuser_client().await;
        let sql = format!(
            "insert into context_backups (tenant_id, scope_id, id, scope_kind, backup_type,
             on_demand, path, status, epoch, to_n, size_bytes, record_count, checksum,
             requested_by, created_at, completed_at)
             values ('{0}', '{1}', gen_random_uuid(), 'user', 'full', true, 'p', '{status}', 'e',
             0, 0, 0, 'c', '{1}', '{2}', '{2}')",
            tenant.id,
            user.user_id,
            app.state.clock.now().to_rfc3339(),
        );
        client.batch_execute(&sql).await.unwrap();
    }
    let rate = Samples::of(&app).await.get("context_backup_success_rate");
    assert_eq!(rate, 75.0);
}

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    alert: String,
    expr: String,
    #[serde(rename = "for")]
    duration: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

fn file(name: &str) -> String {
    let path = format!("{}/../../ops/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn rules() -> Vec<Rule> {
    let rules: Rules = serde_yaml_ng::from_str(&file("prometheus/coditect.rules.yml")).unwrap();
    rules.groups.into_iter().flat_map(|it| it.rules).collect()
}

/// Parses a whole expression.
fn parsed(text: &str) -> Expr {
    let (rest, parsed) = expr(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(rest.trim(), "", "{text}");
    parsed
}

/// Returns the metrics that an expression reads.
fn metrics_of(text: &str) -> BTreeSet<String> {
    fn add(found: &mut BTreeSet<String>, part: &Expr) {
        let mut named = |selector: &VectorSelector| found.extend(selector.name.clone());
        match part {
            Expr::Number(_) | Expr::String(_) => {}
            Expr::VectorSelector(selector) => named(selector),
            Expr::MatrixSelector(range) => named(&range.selector),
            Expr::Call(call) => call.args.iter().for_each(|part| add(found, part)),
            Expr::Aggregation(over) => add(found, &over.expr),
            Expr::Unary(unary) => add(found, &unary.expr),
            Expr::Paren(inner) => add(found, inner),
            Expr::Subquery(query) => add(found, &query.expr),
            Expr::Binary(both) => {
                add(found, &both.lhs);
                add(found, &both.rhs);
            }
        }
    }
    let mut found = BTreeSet::new();
    add(&mut found, &parsed(text));
    found
}

#[test]
fn the_parser_refuses_what_prometheus_refuses() {
    for wrong in ["sum by (le (x)", "rate(x[5m)", "x >", "x{a=}"] {
        let whole = expr(wrong).is_ok_and(|(rest, _)| rest.trim().is_empty());
        assert!(!whole, "{wrong}");
    }
    let read = metrics_of("sum(rate(a_total{b=\"c\"}[5m])) / sum(d) or absent(e)");
    assert_eq!(read.into_iter().collect::<Vec<_>>(), ["a_total", "d", "e"]);
}

/// Every alert that the seeds name: the name, what it must say, for how long, and to whom.
const SEEDED: [(&str, &str, Option<&str>, &str); 12] = [
    (
        "context-sync-high-latency",
        "> 5",
        Some("5m"),
        "pagerduty-oncall",
    ),
    (
        "context-sync-high-pull-latency",
        "> 3",
        None,
        "pagerduty-oncall",
    ),
    (
        "context-backup-failure",
        "< 99",
        None,
        "slack-alerts,pagerduty-oncall",
    ),
    ("context-dedup-rate", "> 50", None, "slack-alerts"),
    ("context-cursor-drift", "> 1000", None, "slack-alerts"),
    ("coditect-database-down", "== 0", None, "pagerduty-oncall"),
    ("coditect-error-rate", "> 0.05", None, "pagerduty-oncall"),
    ("coditect-high-latency", "> 1", None, "slack-alerts"),
    ("coditect-cache-miss", "< 0.5", None, "slack-alerts"),
    ("coditect-disk-usage", "> 0.8", None, "slack-alerts"),
    ("coditect-memory-usage", "> 0.9", None, "slack-alerts"),
    ("coditect-audit-trail", "> 0", None, "pagerduty-oncall"),
];

#[test]
fn alerts_have_the_thresholds_times_and_channels_of_the_design() {
    let rules = rules();
    let channels = file("prometheus/alertmanager.yml");
    for (name, says, duration, channel) in SEEDED {
        let rule = rules.iter().find(|rule| rule.alert == name);
        let rule = rule.unwrap_or_else(|| panic!("{name} is missing"));
        assert!(rule.expr.contains(says), "{name}: {}", rule.expr);
        if let Some(duration) = duration {
            assert_eq!(rule.duration.as_deref(), Some(duration), "{name}");
        }
        assert!(rule.labels["channels"].contains(channel), "{name}");
    }
    for rule in &rules {
        assert!(["critical", "warning", "info"].contains(&rule.labels["severity"].as_str()));
        for channel in rule.labels["channels"].split(',') {
            assert!(
                channels.contains(&format!("- name: {channel}\n")),
                "{channel}"
            );
        }
        for wanted in ["summary", "description"] {
            assert!(rule.annotations.contains_key(wanted), "{}", rule.alert);
        }
    }
    serde_yaml_ng::from_str::<serde_yaml_ng::Value>(&channels).unwrap();
    serde_yaml_ng::from_str::<serde_yaml_ng::Value>(&file("prometheus/prometheus.yml")).unwrap();
}

/// The metrics that the seeds name, and those of recovery and search that the board has to show.
const NAMED: [&str; 10] = [
    "context_sync_push_latency",
    "context_sync_pull_latency",
    "context_backup_success_rate",
    "context_dedup_rate",
    "context_cursor_drift",
    "coditect_api_requests_total",
    "coditect_db_query_duration_seconds",
    "coditect_cache_hit_ratio",
    "coditect_semantic_search_latency_ms",
    "coditect_active_sessions",
];
const ON_THE_BOARD: [&str; 9] = [
    "coditect_database_wal_age_seconds",
    "coditect_database_spool_age_seconds",
    "coditect_database_spool_bytes",
    "coditect_database_base_age_seconds",
    "coditect_database_archiver_failing",
    "coditect_backup_orphans_total",
    "coditect_backup_trials_failed",
    "coditect_backup_trial_age_seconds",
    "coditect_search_duration_seconds",
];

/// Returns the metric that a sample is of.
fn family(sample: &str) -> &str {
    let cut = ["_bucket", "_sum", "_count"];
    let cut = cut.iter().find_map(|end| sample.strip_suffix(end));
    cut.unwrap_or(sample)
}

#[tokio::test]
async fn alerts_and_board_read_metrics_that_are_served() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let user = app.db.with_user(&tenant, "a@b.c").await;
    let changes = vec![decision(fresh_row(), "a decision", 0)];
    let request = push_request(user.device_id, own_scope(&user), None, changes);
    assert_eq!(app.post_as(&user, PUSH, &request).await.status, 200);
    let samples = Samples::of(&app).await;
    let served = samples.names();

    let board: serde_json::Value = serde_json::from_str(&file("grafana/coditect.json")).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let asked = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut asked: Vec<String> = asked
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect();
    let shown: BTreeSet<String> = asked.iter().flat_map(|text| metrics_of(text)).collect();
    let shown: BTreeSet<&str> = shown.iter().map(|name| family(name)).collect();
    let families: BTreeSet<&str> = served.iter().map(|name| family(name)).collect();
    for name in NAMED.into_iter().chain(ON_THE_BOARD) {
        assert!(families.contains(name), "{name} is not served");
        assert!(shown.contains(name), "{name} is not on the board");
    }
    let places: BTreeSet<String> = panels.iter().map(|it| it["gridPos"].to_string()).collect();
    assert_eq!(places.len(), panels.len(), "two panels lie on each other");
    asked.extend(rules().into_iter().map(|rule| rule.expr));
    assert!(asked.len() > 20);
    for text in &asked {
        let read = metrics_of(text);
        assert!(!read.is_empty(), "{text}");
        for name in read {
            assert!(
                served.contains(name.as_str()),
                "{name} of {text} is not served"
            );
        }
    }
}
