//! The protocol's own client library against the server, over both transports.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

use std::sync::{Arc, Mutex};

use coditect_mcp::{
    ContextServer, ContextSource, Entry, INSTRUCTIONS, Kind, NewRecord, Query, RESULT_CHARS_MAX,
    SourceError, Status, TaskQuery, TimelineQuery, Token, router,
};
use rmcp::model::{CallToolRequestParams, CallToolResult, ReadResourceRequestParams};
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ServiceError, ServiceExt as _};
use serde_json::{Value, json};

/// A memory that holds what it is given.
#[derive(Default)]
struct Notes(Mutex<Vec<Entry>>);

impl Notes {
    fn with(entries: &[(Kind, &str, &str)]) -> Arc<Self> {
        let entries = entries.iter().map(|(kind, id, text)| Entry {
            kind: *kind,
            id: (*id).to_owned(),
            time: Some("2026-02-03T10:11:12Z".to_owned()),
            source: Some("claude 198393f2".to_owned()),
            author: Some("ann".to_owned()),
            scope: "user".to_owned(),
            project: Some("app".to_owned()),
            branch: Some("main".to_owned()),
            session: None,
            mark: None,
            text: (*text).to_owned(),
        });
        Arc::new(Self(Mutex::new(entries.collect())))
    }

    fn only(&self, fits: impl Fn(&Entry) -> bool, limit: u32) -> Vec<Entry> {
        let entries = self.0.lock().unwrap();
        let found = entries.iter().filter(|entry| fits(entry)).cloned();
        found.take(limit as usize).collect()
    }
}

impl ContextSource for Notes {
    fn search(&self, query: &Query) -> Result<Vec<Entry>, SourceError> {
        let word = query.text.trim_matches('"').to_owned();
        let fits = |entry: &Entry| {
            entry.text.to_lowercase().contains(&word)
                && (query.kinds.is_empty() || query.kinds.contains(&entry.kind))
        };
        Ok(self.only(fits, query.limit))
    }

    fn get(&self, id: &str) -> Result<Entry, SourceError> {
        let found = self.only(|entry| entry.id.starts_with(id), 1).pop();
        found.ok_or_else(|| SourceError::NotFound(format!("there is nothing with the id '{id}'")))
    }

    fn timeline(&self, query: &TimelineQuery) -> Result<Vec<Entry>, SourceError> {
        let fits = |entry: &Entry| query.kinds.is_empty() || query.kinds.contains(&entry.kind);
        Ok(self.only(fits, query.limit))
    }

    fn tasks(&self, query: &TaskQuery) -> Result<Vec<Entry>, SourceError> {
        Ok(self.only(|entry| entry.kind == Kind::Task, query.limit))
    }

    fn record(&self, record: &NewRecord) -> Result<Entry, SourceError> {
        let (kind, text) = match record {
            NewRecord::Decision { title, .. } => (Kind::Decision, title.clone()),
            NewRecord::Learning { learning, .. } => (Kind::Learning, learning.clone()),
            NewRecord::ErrorSolution { solution, .. } => (Kind::Error, solution.clone()),
        };
        let mut entries = self.0.lock().unwrap();
        let mut entry = entries[0].clone();
        (entry.kind, entry.id, entry.text) = (kind, format!("new{}", entries.len()), text);
        entries.push(entry.clone());
        Ok(entry)
    }

    fn status(&self) -> Result<Status, SourceError> {
        Err(SourceError::Failed("the disk is full".to_owned()))
    }
}

fn notes() -> Arc<Notes> {
    Notes::with(&[
        (Kind::Decision, "0199aaaa", "Retry pushes with jitter"),
        (
            Kind::Error,
            "0199bbbb",
            "database is locked → set busy_timeout and retry",
        ),
        (Kind::Message, "0199cccc", "we talked about the weather"),
        (Kind::Task, "0199dddd", "make the push retry"),
        (Kind::Session, "0199eeee", "Monday's session"),
    ])
}

type Client = RunningService<RoleClient, ()>;

async fn by_pipe(notes: Arc<Notes>) -> Client {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let running = ContextServer::new(notes).serve(ours).await.unwrap();
        running.waiting().await.unwrap();
    });
    ().serve(theirs).await.unwrap()
}

/// Starts the server on a free port; returns its URL.
async fn listen(notes: Arc<Notes>, token: Token) -> String {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = router(ContextServer::new(notes), token);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn by_http(notes: Arc<Notes>) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let token = Token::fresh().unwrap();
    let url = listen(notes, token.clone()).await;
    let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(token.secret());
    ().serve(StreamableHttpClientTransport::from_config(config))
        .await
        .unwrap()
}

async fn call(client: &Client, tool: &'static str, arguments: Value) -> CallToolResult {
    let arguments = arguments.as_object().cloned().unwrap();
    let request = CallToolRequestParams::new(tool).with_arguments(arguments);
    client.call_tool(request).await.unwrap()
}

fn text(result: &CallToolResult) -> String {
    result.content[0].as_text().unwrap().text.clone()
}

/// Lists and calls every tool and reads every resource.
async fn everything(client: &Client) {
    lists_the_tools(client).await;
    reads(client).await;
    keeps(client).await;
    reads_resources(client).await;
}

async fn lists_the_tools(client: &Client) {
    let tools = client.list_all_tools().await.unwrap();
    let mut names: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
    names.sort_unstable();
    let expected = [
        "get",
        "recall",
        "record_decision",
        "record_error_solution",
        "record_learning",
        "search",
        "status",
        "tasks",
        "timeline",
    ];
    assert_eq!(names, expected);
    for tool in &tools {
        let description = tool.description.as_deref().unwrap();
        assert!(description.len() < 2_048, "{}", tool.name);
        let reads = tool.annotations.as_ref().unwrap().read_only_hint.unwrap();
        assert_eq!(reads, !tool.name.starts_with("record_"), "{}", tool.name);
    }
}

async fn reads(client: &Client) {
    let found = call(
        client,
        "search",
        json!({"query": "retry", "kinds": ["error"]}),
    )
    .await;
    let line = "- error 0199bbbb · 2026-02-03 10:11 · claude 198393f2 · ann · app · main";
    assert!(text(&found).contains(line), "{}", text(&found));
    assert!(!text(&found).contains("0199aaaa"));
    let whole = call(client, "get", json!({"id": "0199b", "offset": 9})).await;
    assert!(text(&whole).ends_with("is locked → set busy_timeout and retry"));
    let line = call(client, "timeline", json!({"limit": 1})).await;
    assert_eq!(text(&line).lines().count(), 2);
    let known = call(
        client,
        "recall",
        json!({"task": "let the push retry when it fails"}),
    )
    .await;
    let (known, order) = (text(&known), ["0199aaaa", "0199dddd", "0199bbbb"]);
    let places: Vec<_> = order.iter().map(|id| known.find(id).unwrap()).collect();
    assert!(places.is_sorted(), "{known}");
    assert!(!known.contains("0199cccc"));
    let open = call(client, "tasks", json!({})).await;
    assert!(text(&open).contains("make the push retry"));
}

async fn keeps(client: &Client) {
    for (tool, arguments) in [
        (
            "record_decision",
            json!({"title": "Keep it simple", "rationale": "r"}),
        ),
        (
            "record_learning",
            json!({"skill": "sqlite", "learning": "Keep it open"}),
        ),
        (
            "record_error_solution",
            json!({"pattern": "EAGAIN", "solution": "Keep trying"}),
        ),
    ] {
        let kept = text(&call(client, tool, arguments).await);
        assert!(
            kept.starts_with("Kept.\n- ") && kept.contains(": Keep"),
            "{kept}"
        );
    }
}

async fn reads_resources(client: &Client) {
    let resources = client.list_all_resources().await.unwrap();
    let uris: Vec<&str> = resources.iter().map(|one| &*one.uri).collect();
    assert!(uris.contains(&"coditect://session/0199eeee"), "{uris:?}");
    for uri in uris {
        let read = client
            .read_resource(ReadResourceRequestParams::new(uri))
            .await;
        assert_eq!(read.unwrap().contents.len(), 1);
    }
    assert_eq!(client.list_all_resource_templates().await.unwrap().len(), 2);
}

#[tokio::test]
async fn every_tool_and_resource_over_a_pipe() {
    everything(&by_pipe(notes()).await).await;
}

#[tokio::test]
async fn every_tool_and_resource_over_http() {
    everything(&by_http(notes()).await).await;
}

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    let client = by_pipe(notes()).await;
    for (tool, arguments, why) in [
        (
            "get",
            json!({"id": "zzzz"}),
            "there is nothing with the id 'zzzz'",
        ),
        (
            "status",
            json!({}),
            "the memory cannot be used: the disk is full",
        ),
        ("record_decision", json!({"title": " "}), "a field is empty"),
        (
            "record_learning",
            json!({"skill": "s", "learning": "x".repeat(70_000)}),
            "longer than",
        ),
    ] {
        let result = call(&client, tool, arguments).await;
        assert_eq!(result.is_error, Some(true), "{tool}");
        assert!(text(&result).contains(why), "{}", text(&result));
    }
    for uri in [
        "coditect://session/none",
        "coditect://message/0199cccc",
        "file:///etc/passwd",
    ] {
        let read = client
            .read_resource(ReadResourceRequestParams::new(uri))
            .await;
        assert!(matches!(read, Err(ServiceError::McpError(_))), "{uri}");
    }
}

#[tokio::test]
async fn answers_and_instructions_stay_within_the_hosts_limits() {
    assert!(INSTRUCTIONS.len() < 2_048);
    let long = "word ".repeat(100_000);
    let client = by_pipe(Notes::with(&[(Kind::Message, "0199aaaa", &long)])).await;
    let whole = text(&call(&client, "get", json!({"id": "0199"})).await);
    assert!(whole.chars().count() <= RESULT_CHARS_MAX && whole.contains("get with offset"));
    for budget in [100, 500, 1_000_000] {
        let arguments = json!({"task": "word", "token_budget": budget});
        let known = text(&call(&client, "recall", arguments).await);
        assert!(known.chars().count() <= RESULT_CHARS_MAX.min(budget * 4));
    }
}

#[tokio::test]
async fn http_needs_the_token_and_its_own_host() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let token = Token::fresh().unwrap();
    let url = listen(notes(), token.clone()).await;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    let post = |token: Option<String>, header: Option<(&'static str, &'static str)>| {
        let mut request = reqwest::Client::new()
            .post(&url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(body.clone());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        async move { request.send().await.unwrap().status().as_u16() }
    };
    let secret = || Some(token.secret().to_owned());
    assert_eq!(post(None, None).await, 401);
    assert_eq!(post(Some("0".repeat(64)), None).await, 401);
    assert_eq!(post(Some(token.secret()[1..].to_owned()), None).await, 401);
    assert_eq!(post(secret(), Some(("host", "evil.example"))).await, 403);
    assert_eq!(
        post(secret(), Some(("origin", "https://evil.example"))).await,
        403
    );
    assert_eq!(post(secret(), None).await, 200);
}
