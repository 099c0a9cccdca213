//! A lost laptop, and a server with a certificate of its owner's authority.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use std::path::Path;

use coditect_end_to_end::{Device, Server, assert_same};

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/tests/tls");
    folder.join(name).to_str().unwrap().to_owned()
}

#[test]
fn revoked_device_gets_nothing_more_and_the_other_goes_on() {
    let server = Server::start();
    let license = server.bootstrap("license_key");
    let (kept, lost) = (
        Device::linked(&server, &license),
        Device::linked(&server, &license),
    );
    let add = |device: &Device, title: &str| {
        let ran = device.run(&["decision", "add", title, "--rationale", "because"]);
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    add(&lost, "written before");
    lost.sync();
    let devices = kept.json(&["device", "list"]);
    let devices = devices["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 2, "{devices:?}");
    let other = devices.iter().find(|one| one["current"] == false).unwrap();
    let id = other["id"].as_str().unwrap();
    // Without a terminal nobody can be asked.
    let unanswered = kept.run(&["device", "revoke", id]);
    assert_eq!((unanswered.code, unanswered.stdout.as_str()), (2, ""));
    assert_eq!(kept.json(&["device", "revoke", id, "--yes"])["revoked"], id);

    add(&lost, "written after");
    let refused = lost.run(&["sync"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.stderr.contains("device_unknown"), "{refused:?}");
    assert_eq!(lost.run(&["device", "list"]).code, 5);
    add(&kept, "the other goes on");
    kept.converge();
    let found = kept.json(&["search", "written"]).to_string();
    assert!(found.contains("written before") && !found.contains("written after"));
    let devices = kept.json(&["device", "list"]);
    assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
    let all = kept.json(&["device", "list", "--all"]);
    assert_eq!(all["devices"].as_array().unwrap().len(), 2);
    assert_eq!(kept.run(&["device", "revoke", "nothing", "--yes"]).code, 6);
    let trail = kept.json(&["audit", "--action", "revoked"]);
    assert_eq!(trail["entries"][0]["resource_id"], id, "{trail}");
    let two = kept.json(&["audit", "--limit", "2"]);
    assert_eq!(two["entries"].as_array().unwrap().len(), 2);
    assert!(two["next"].is_string());
    assert!(kept.json(&["audit", "--all"])["next"].is_null());
    assert_eq!(kept.run(&["audit", "--action", "a&b"]).code, 2);
    // The revoked device stays apart, as it must; the other one and the server are equal.
    let tenant = server.bootstrap("tenant_id");
    let own = format!("user:{}", server.bootstrap("user_id"));
    let scopes = [own.as_str(), &format!("org:{tenant}"), "platform"];
    assert_same(&server.dump(&tenant), &kept, &scopes);
}

#[test]
fn server_with_a_certificate_of_ones_own_authority_is_synced_with() {
    let (certificate, key) = (fixture("first.pem"), fixture("first.key"));
    let mut server = Server::start_with(&["--tls-cert", &certificate, "--tls-key", &key]);
    assert!(server.url().starts_with("https://"), "{}", server.url());
    let license = server.bootstrap("license_key");
    let device = Device::new();
    let words = [
        "login",
        "--server",
        server.url(),
        "--license",
        &license,
        "--yes",
    ];
    // An authority that nobody told it of is not trusted.
    let refused = device.run(&words);
    assert_eq!(
        (refused.code, refused.stdout.as_str()),
        (4, ""),
        "{refused:?}"
    );
    let missing = device.run(&[&words[..], &["--ca-cert", "/nowhere.pem"]].concat());
    assert_eq!(missing.code, 2, "{missing:?}");
    assert!(missing.stderr.contains("/nowhere.pem"), "{missing:?}");

    device.login_with(&server, &license, &["--ca-cert", &fixture("authority.pem")]);
    let added = device.run(&["decision", "add", "use TLS", "--rationale", "because"]);
    assert_eq!(added.code, 0, "{added:?}");
    device.converge();
    // A hangup reads the files again and ends nothing.
    server.signal("HUP");
    device.converge();
    server.stop();
    server.restart();
    device.converge();
}
