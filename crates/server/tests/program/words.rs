//! What the program says about itself.

use crate::support::{Folder, program, run};

#[test]
fn help_teaches_each_command() {
    let help = run(&mut program(&["--help"]));
    assert_eq!(help.code, Some(0));
    for word in [
        "up",
        "serve",
        "migrate",
        "admin",
        "config",
        "openapi",
        "Exit codes",
    ] {
        assert!(help.out.contains(word), "{word}: {}", help.out);
    }
    let up = run(&mut program(&["up", "--help"]));
    assert!(
        up.out.contains("bootstrap.json") && up.out.contains("Examples"),
        "{}",
        up.out
    );
}

#[test]
fn openapi_prints_the_document() {
    let done = run(&mut program(&["openapi"]));
    assert_eq!(done.code, Some(0));
    let document: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert!(document["paths"]["/api/v1/sync/push"]["post"].is_object());
}

#[test]
fn config_show_names_sources_and_hides_secrets() {
    let mut command = program(&["config", "show", "--json", "--listen", "127.0.0.1:9"]);
    command
        .env("DATABASE_URL", "host=h password=hunter2")
        .env("CODITECT_REQUESTS_MAX", "7");
    let done = run(&mut command);
    assert!(!done.out.contains("hunter2"), "{}", done.out);
    let shown: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    let source = |name: &str| {
        let settings = shown["settings"].as_array().unwrap();
        let setting = settings
            .iter()
            .find(|setting| setting["name"] == name)
            .unwrap();
        setting["source"].as_str().map(str::to_owned)
    };
    assert_eq!(source("listen").as_deref(), Some("flag"));
    assert_eq!(source("requests_max").as_deref(), Some("environment"));
    assert_eq!(source("database_url").as_deref(), Some("environment"));
    assert_eq!(source("connections_max").as_deref(), Some("default"));
    assert_eq!(source("trusted_proxy"), None);
}

#[test]
fn wrong_usage_and_wrong_settings_are_told_apart() {
    assert_eq!(run(&mut program(&["upp"])).code, Some(2));
    let words = [
        "admin", "user", "create", "--tenant", "t", "--email", "a@b.c", "--role", "boss",
    ];
    let role = run(&mut program(&words));
    assert_eq!(role.code, Some(2));
    assert!(role.err.contains("owner, admin, member"), "{}", role.err);
    let listen = run(&mut program(&["up", "--listen", "nowhere"]));
    assert_eq!(listen.code, Some(1));
    assert!(
        listen.err.contains("setting listen from flag is wrong"),
        "{}",
        listen.err
    );
    let serve = run(&mut program(&["serve"]));
    assert!(
        serve.err.contains("DATABASE_URL is not set"),
        "{}",
        serve.err
    );
}

#[test]
fn certificate_of_another_key_ends_the_start_with_the_reason() {
    let folder = Folder::new();
    let fixture = |name: &str| format!("{}/tests/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let (certificate, key) = (fixture("first.pem"), fixture("second.key"));
    let up = ["up", "--tls-cert", &certificate, "--tls-key", &key];
    let done = run(&mut folder.command(&up));
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    assert!(
        done.err.contains("second.key is not that of"),
        "{}",
        done.err
    );
    assert!(folder.postgres_pid().is_none(), "nothing was started");
    let half = run(&mut folder.command(&["up", "--tls-cert", &certificate]));
    assert!(half.err.contains("it needs tls_key"), "{}", half.err);
}
