//! What a request leaves in the log, and what it must not.

use std::io;
use std::sync::{Arc, Mutex};

use coditect_protocol::wire::auth::LoginReply;
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{TestApp, bearer, get, push_decision};

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Buffer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn lines_name_who_and_where_and_never_content_or_secrets() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let buffer = Buffer::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .json()
        .flatten_event(true)
        .with_writer(buffer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let body = json!({ "license_key": ann.license_key });
    let login: LoginReply = app.post("/api/v1/auth/license/", &body).await.ok();
    let wrong = json!({ "email": "ann@acme.example", "password": "hunter2-hunter2" });
    app.post("/api/v1/auth/login/", &wrong).await;
    push_decision(&app, &ann, "content-of-a-decision").await;
    let mut request = get("/api/v1/sync/conflicts?scope=nonsense-in-the-query");
    request
        .headers_mut()
        .insert("x-request-id", "the-request".parse().unwrap());
    app.send(bearer(request, &ann.access_token)).await;
    app.get("/customer/path").await;
    drop(guard);

    let text = buffer.text();
    let secrets = [
        ann.license_key.as_str(),
        &ann.access_token,
        &login.access_token,
        &login.refresh_token,
        "hunter2",
        "ann@acme.example",
        "content-of-a-decision",
        "nonsense-in-the-query",
        "/customer/path",
    ];
    for secret in secrets {
        assert!(!text.contains(secret), "'{secret}' is in the log");
    }
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |route: &str| {
        lines
            .iter()
            .find(|line| line["http.route"] == route)
            .unwrap_or_else(|| panic!("{text}"))
    };
    let push = of("/api/v1/sync/push");
    assert_eq!(push["tenant.id"], ann.tenant_id.to_string());
    assert_eq!(push["user.id"], ann.user_id.to_string());
    assert_eq!(push["device.id"], ann.device_id.to_string());
    assert_eq!(
        (&push["http.status"], &push["http.method"]),
        (&json!(200), &json!("POST"))
    );
    assert!(push["duration_ms"].is_u64() && push["request.id"].is_string());
    assert_eq!(push["message"], "POST /api/v1/sync/push answered 200");
    assert_eq!(of("/api/v1/sync/conflicts")["request.id"], "the-request");
    assert_eq!(of("/api/v1/auth/login/")["http.status"], 401);
    assert_eq!(of("none")["http.status"], 404);
}
