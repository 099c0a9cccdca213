//! `serve`, `migrate` and `admin` on a PostgreSQL that somebody else runs.

use std::process::Command;

use coditect_testkit::TestDb;
use serde_json::{Value, json};

use crate::support::{Server, program, run};

#[tokio::test]
async fn external_database_is_served_and_administered() {
    let db = TestDb::new().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = db.settings();
    let with_database = |words: &[&str]| -> Command {
        let mut command = program(words);
        command
            .arg("--secrets-dir")
            .arg(folder.path().join("secrets"));
        command.env("DATABASE_URL", &settings.owner_url);
        if let (Some(app), Some(system)) = (&settings.app_url, &settings.system_url) {
            command
                .env("DATABASE_APP_URL", app)
                .env("DATABASE_SYSTEM_URL", system);
        }
        command
    };
    let json = |words: &[&str]| -> Value {
        let done = run(&mut with_database(words));
        assert_eq!(done.code, Some(0), "{done:?}");
        serde_json::from_str(&done.out).unwrap()
    };
    assert_eq!(json(&["migrate", "--json"]), json!({ "applied": [] }));
    json(&["admin", "tenant", "create", "--name", "acme", "--json"]);
    let words = [
        "admin", "user", "create", "--tenant", "acme", "--email", "a@b.c", "--json",
    ];
    let user = json(&words);
    let server = Server::start(with_database(&["serve", "--listen", "127.0.0.1:0"]));
    assert_eq!(server.get("/health").0, 200);
    let body = json!({ "email": "a@b.c", "password": user["password"] });
    let (status, login) = server.post("/api/v1/auth/login/", &body);
    assert_eq!((status, &login["tenant_id"]), (200, &user["tenant_id"]));
    assert_eq!(server.signal("TERM"), (Some(0), String::new()));
}
