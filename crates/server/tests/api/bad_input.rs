//! Input that is wrong, by class: each has a documented code and status, and changes nothing.
//! The table in docs/ERRORS.md names these tests.

mod bodies;
mod clocks;
mod credentials;
mod nul;
mod positions;
mod rows;

use std::collections::BTreeMap;

use coditect_testkit::TestUser;

use crate::support::{Reply, TestApp, bearer, raw_post};

/// Tables that a request may touch although it stores nothing: who was there, and with which token.
const TRACES: [&str; 4] = ["audit_log", "device_cursors", "device_tokens", "devices"];

/// All rows of all tables, as a fingerprint of each table.
type Fingerprint = BTreeMap<String, String>;

/// Returns a fingerprint of the whole database.
async fn everything(app: &TestApp) -> Fingerprint {
    let all = app.db.superuser_client().await;
    let names = "select table_name::text from information_schema.tables
        where table_schema = 'public' and table_type = 'BASE TABLE'";
    let mut found = BTreeMap::new();
    for row in all.query_typed(names, &[]).await.unwrap() {
        let name: String = row.get(0);
        let sql = format!(
            "select coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from \"{name}\" t"
        );
        let print = all.query_typed_one(&sql, &[]).await.unwrap();
        found.insert(name, print.get(0));
    }
    assert!(found.len() > 40, "{found:?}");
    found
}

/// Returns the same without the traces of requests.
async fn stored(app: &TestApp) -> Fingerprint {
    let mut found = everything(app).await;
    found.retain(|name, _| !TRACES.contains(&name.as_str()));
    found
}

async fn start() -> (TestApp, TestUser) {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    (app, ann)
}

/// Posts a body as it stands.
async fn send(app: &TestApp, user: &TestUser, path: &str, body: &str) -> Reply {
    let request = raw_post(path, "application/json", body.as_bytes().to_vec());
    app.send(bearer(request, &user.access_token)).await
}
