//! `admin`: the same with the server running and stopped.

use serde_json::json;

use crate::support::{Done, Folder, Server, run};

#[test]
fn organisations_people_and_licences_are_made_running_and_stopped() {
    let folder = Folder::new();
    let never = run(&mut folder.command(&["admin", "tenant", "list"]));
    assert_eq!(never.code, Some(1));
    assert!(
        never.err.contains("hint: coditect-server up"),
        "{}",
        never.err
    );

    let server = Server::up(&folder);
    let running = make(&folder, "acme");
    let (status, login) = server.post(
        "/api/v1/auth/license/",
        &json!({ "license_key": running.license_key }),
    );
    assert_eq!(
        (status, login["tenant_id"].as_str().unwrap()),
        (200, running.tenant.as_str())
    );
    assert_eq!(
        server.get("/health/").0,
        200,
        "the server's PostgreSQL goes on"
    );
    assert_eq!(server.signal("TERM").0, Some(0));

    let stopped = make(&folder, "beta");
    assert!(
        folder.postgres_pid().is_none(),
        "what a command started it stops"
    );
    let server = Server::up(&folder);
    let body = json!({ "email": stopped.email, "password": stopped.password });
    let (status, login) = server.post("/api/v1/auth/login/", &body);
    assert_eq!(
        (status, login["user_id"].as_str().unwrap()),
        (200, stopped.user.as_str())
    );
    check_lists(&folder, &running);
    check_refusals(&folder);
}

struct Made {
    tenant: String,
    user: String,
    email: String,
    password: String,
    license_key: String,
}

fn make(folder: &Folder, name: &str) -> Made {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let tenant = text(&folder.json(&["admin", "tenant", "create", "--name", name])["tenant_id"]);
    let email = format!("Ann@{name}.example");
    let words = [
        "admin", "user", "create", "--tenant", name, "--email", &email, "--role", "admin",
    ];
    let user = folder.json(&words);
    assert_eq!(user["role"], "admin");
    let id = text(&user["user_id"]);
    let words = [
        "admin", "license", "issue", "--tenant", &tenant, "--user", &id,
    ];
    let license = folder.json(&words);
    let (password, license_key) = (text(&user["password"]), text(&license["license_key"]));
    Made {
        tenant,
        user: id,
        email,
        password,
        license_key,
    }
}

fn check_lists(folder: &Folder, made: &Made) {
    let tenants = folder.json(&["admin", "tenant", "list"]);
    let names: Vec<&str> = tenants["tenants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["default", "acme", "beta"]);
    let users = folder.json(&["admin", "user", "list", "--tenant", "acme"]);
    assert_eq!(users["users"][0]["user_id"], made.user);
    assert_eq!(users["users"][0]["email"], "ann@acme.example");
    let licenses = folder.json(&["admin", "license", "list", "--tenant", &made.tenant]);
    assert_eq!(licenses["licenses"][0]["user_id"], made.user);
    assert!(
        !licenses.to_string().contains("cdl_"),
        "keys are not listed"
    );
    // The same person in a second organisation keeps the password.
    let words = [
        "admin",
        "user",
        "create",
        "--tenant",
        "beta",
        "--email",
        "ann@acme.example",
    ];
    assert_eq!(folder.json(&words)["password"], json!(null));
    let first = folder.json(&["admin", "epoch", "bump"]);
    assert_ne!(first, folder.json(&["admin", "epoch", "bump"]));
}

fn check_refusals(folder: &Folder) {
    let refused = |words: &[&str]| -> Done { run(&mut folder.command(words)) };
    let nobody = refused(&["admin", "user", "list", "--tenant", "nobody"]);
    assert_eq!((nobody.code, nobody.out.as_str()), (Some(4), ""));
    let words = [
        "admin",
        "license",
        "issue",
        "--tenant",
        "acme",
        "--user",
        "bob@x.example",
    ];
    let nobody = refused(&words);
    assert_eq!(nobody.code, Some(4));
    assert!(
        nobody.err.contains("hint: coditect-server admin user list"),
        "{}",
        nobody.err
    );
    let words = [
        "admin",
        "user",
        "create",
        "--tenant",
        "acme",
        "--email",
        "ann@acme.example",
    ];
    let twice = refused(&words);
    assert_eq!(twice.code, Some(1));
    assert!(
        twice.err.contains("belongs to the organisation already"),
        "{}",
        twice.err
    );
}
