//! `up`: from nothing to ready, and back to nothing.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Folder, Server, exchange, is_alive, mode, run, send_signal};

#[test]
fn first_start_makes_everything_and_sigterm_ends_everything() {
    let folder = Folder::new();
    let server = Server::up(&folder);
    let port: u16 = server
        .url
        .strip_prefix("http://127.0.0.1:")
        .unwrap()
        .parse()
        .unwrap();
    assert_ne!(port, 0);
    assert_eq!(
        server.get("/health/"),
        (200, json!({ "status": "healthy" }))
    );

    let bootstrap = folder.bootstrap();
    let mut names: Vec<&str> = bootstrap
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "email",
            "license_key",
            "password",
            "tenant_id",
            "url",
            "user_id"
        ]
    );
    assert_eq!(bootstrap["url"], server.url);
    assert_eq!(mode(&folder.file("bootstrap.json")), 0o600);
    assert_eq!(mode(&folder.file("secrets")), 0o700);
    assert_eq!(mode(&folder.file("postgres")), 0o700);
    let running: Value =
        serde_json::from_slice(&fs::read(folder.file("server.json")).unwrap()).unwrap();
    assert_eq!(
        (&running["url"], &running["pid"]),
        (&json!(server.url), &json!(server.pid()))
    );

    let by_key = json!({ "license_key": bootstrap["license_key"] });
    let by_password = json!({ "email": bootstrap["email"], "password": bootstrap["password"] });
    for (path, body) in [("license", by_key), ("login", by_password)] {
        let (status, login) = server.post(&format!("/api/v1/auth/{path}/"), &body);
        assert_eq!(status, 200, "{login}");
        assert_eq!(login["tenant_id"], bootstrap["tenant_id"]);
        assert_eq!(login["user_id"], bootstrap["user_id"]);
    }

    let second = run(&mut folder.command(&["up", "--listen", "127.0.0.1:0"]));
    assert_eq!((second.code, second.out.as_str()), (Some(3), ""));
    assert!(second.err.contains(&server.url), "{}", second.err);

    let postgres = folder.postgres_pid().unwrap();
    assert!(is_alive(postgres));
    assert_eq!(server.signal("TERM"), (Some(0), String::new()));
    assert!(!is_alive(postgres));
    assert!(folder.postgres_pid().is_none() && !folder.file("server.json").exists());
}

#[test]
fn killed_server_starts_again_with_what_it_had() {
    let folder = Folder::new();
    let server = Server::up(&folder);
    let before = folder.bootstrap();
    let postgres = folder.postgres_pid().unwrap();
    assert_eq!(server.signal("KILL"), (None, String::new()));

    let server = Server::up(&folder);
    assert_ne!(folder.postgres_pid(), Some(postgres));
    let after = folder.bootstrap();
    assert_eq!(after["url"], server.url, "the URL is kept current");
    assert_eq!(after["license_key"], before["license_key"]);
    let body = json!({ "license_key": before["license_key"] });
    let (status, login) = server.post("/api/v1/auth/license/", &body);
    assert_eq!((status, &login["tenant_id"]), (200, &before["tenant_id"]));
    let postgres = folder.postgres_pid().unwrap();
    assert_eq!(server.signal("INT"), (Some(0), String::new()));
    assert!(!is_alive(postgres));
}

#[test]
fn postgresql_that_dies_is_started_again() {
    let folder = Folder::new();
    let server = Server::up(&folder);
    let before = folder.postgres_pid().unwrap();
    send_signal(before, "KILL");
    while server.get("/health/").0 != 200 || folder.postgres_pid() == Some(before) {}
    assert_eq!(server.signal("TERM").0, Some(0));
}

#[test]
fn first_start_that_was_cut_short_is_finished_and_a_removed_file_stays_away() {
    let folder = Folder::new();
    assert_eq!(Server::up(&folder).signal("TERM").0, Some(0));
    let before = folder.bootstrap();
    fs::remove_file(folder.file("bootstrap.json")).unwrap();
    assert_eq!(Server::up(&folder).signal("TERM").0, Some(0));
    assert!(
        !folder.file("bootstrap.json").exists(),
        "removed on purpose"
    );

    // As if the program had died between the database's commit and the file.
    fs::write(folder.file("bootstrap.pending"), "{}").unwrap();
    let server = Server::up(&folder);
    let after = folder.bootstrap();
    assert_eq!(after["tenant_id"], before["tenant_id"]);
    assert_ne!(after["license_key"], before["license_key"]);
    let body = json!({ "license_key": after["license_key"] });
    assert_eq!(server.post("/api/v1/auth/license/", &body).0, 200);
    assert!(!folder.file("bootstrap.pending").exists());
    assert_eq!(server.signal("TERM").0, Some(0));
}

#[test]
fn metrics_have_a_listener_of_their_own() {
    let folder = Folder::new();
    let words = [
        "up",
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
    ];
    let mut server = Server::start(folder.command(&words));
    let line = server.line();
    let url = line.strip_prefix("metrics ").unwrap();
    let url = url.strip_suffix("/metrics").unwrap();
    let ask = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        exchange(url, request.as_bytes())
    };
    assert_eq!(server.get("/metrics").0, 404);
    assert!(ask("/api/v1/health").starts_with("HTTP/1.1 404"));
    let metrics = ask("/metrics");
    for line in [
        "coditect_database_up 1",
        "coditect_api_requests_total{endpoint=\"none\",method=\"GET\",status=\"404\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[test]
fn taken_port_and_open_address_fail_before_anything_is_made() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = run(&mut folder.command(&["up", "--listen", &address]));
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    assert!(
        done.err.contains(&format!("cannot listen on {address}")),
        "{}",
        done.err
    );
    assert!(!folder.file("postgres").exists());

    let done = run(&mut folder.command(&["up", "--listen", "0.0.0.0:0"]));
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    assert!(done.err.contains("--insecure-listen"), "{}", done.err);
}
