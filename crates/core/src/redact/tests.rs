//! Examples for every kind, the harmless look-alikes, and the idempotence property.

use proptest::prelude::*;
use serde_json::json;

use super::{Report, kinds, redact_text, redact_value, text_has_secret};

const LETTERS: &str = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF";

/// Returns `length` characters that look random, so that no real secret stands in this file.
fn random(length: usize) -> String {
    LETTERS.chars().cycle().take(length).collect()
}

fn hex(length: usize) -> String {
    "0123456789abcdef"
        .chars()
        .rev()
        .cycle()
        .take(length)
        .collect()
}

fn redacted(text: &str) -> (String, Report) {
    let mut report = Report::default();
    let out = redact_text(text, &mut report).into_owned();
    (out, report)
}

#[track_caller]
fn assert_kind(text: &str, kind: &str, expected: &str) {
    let (out, report) = redacted(text);
    assert_eq!(out, expected, "of {text:?}");
    assert_eq!(report.count(kind), 1, "{kind} of {text:?}: {report:?}");
    assert!(
        text_has_secret(text) && !text_has_secret(&out),
        "of {text:?}"
    );
}

#[track_caller]
fn assert_kept(text: &str) {
    let (out, report) = redacted(text);
    assert_eq!(out, text);
    assert!(report.is_empty(), "{report:?}");
}

#[test]
fn provider_tokens_are_replaced_by_their_kind() {
    let upper = "Q3ZP7AWX2KLM9RTB";
    for (secret, kind) in [
        (format!("AKIA{upper}"), "aws-access-key"),
        (format!("ghp_{}", random(36)), "github-token"),
        (format!("github_pat_{}", random(60)), "github-token"),
        (format!("glpat-{}", random(20)), "gitlab-token"),
        (
            format!("xoxb-{}-{}", "123456789012", random(24)),
            "slack-token",
        ),
        (format!("sk_live_{}", random(24)), "stripe-key"),
        (format!("sk-ant-api03-{}", random(80)), "anthropic-key"),
        (format!("sk-proj-{}", random(60)), "openai-key"),
        (format!("AIza{}", random(35)), "google-api-key"),
        (format!("npm_{}", random(36)), "npm-token"),
        (format!("pypi-AgE{}", random(60)), "pypi-token"),
        (format!("SG.{}.{}", random(22), random(43)), "sendgrid-key"),
        (format!("SK{}", hex(32)), "twilio-key"),
        (format!("hf_{}", random(34)), "huggingface-token"),
        (format!("dop_v1_{}", hex(64)), "digitalocean-token"),
        (
            format!("eyJ{}.eyJ{}.{}", random(20), random(30), random(43)),
            "jwt",
        ),
        (format!("sk-{}", hex(40)), "openai-key"),
        ("AKIAIOSFODNN7EXAMPLE".to_owned(), "aws-access-key"),
        (format!("cdl_{}", random(86)), "coditect-licence"),
        (format!("cdr_{}", random(86)), "coditect-token"),
        ("CODITECT-2026-AB3D-9XYZ".to_owned(), "coditect-licence"),
        ("CODI-AB3D-9XYZ-77QQ".to_owned(), "coditect-licence"),
    ] {
        assert_kind(
            &format!("use {secret}, ok"),
            kind,
            &format!("use [REDACTED:{kind}], ok"),
        );
        assert_kind(
            &format!("\"{secret}\""),
            kind,
            &format!("\"[REDACTED:{kind}]\""),
        );
        assert_kind(
            &format!("one\\n{secret}"),
            kind,
            &format!("one\\n[REDACTED:{kind}]"),
        );
    }
}

#[test]
fn a_value_with_a_known_shape_keeps_its_own_kind() {
    let text = format!("GITHUB_TOKEN=ghp_{} make", random(36));
    assert_kind(
        &text,
        "github-token",
        "GITHUB_TOKEN=[REDACTED:github-token] make",
    );
}

#[test]
fn named_values_are_replaced_in_commands_and_json() {
    let token = random(24);
    assert_kind(
        "export DB_PASSWORD=hunter22",
        "password",
        "export DB_PASSWORD=[REDACTED:password]",
    );
    assert_kind(
        "password: 'open sesame1'",
        "password",
        "password: 'open sesame1'"
            .replace("open sesame1", "[REDACTED:password]")
            .as_str(),
    );
    assert_kind(
        "mysql --password s3cr3t! db",
        "password",
        "mysql --password [REDACTED:password] db",
    );
    assert_kind(
        r#"{"password":"hunter2","a":1}"#,
        "password",
        r#"{"password":"[REDACTED:password]","a":1}"#,
    );
    assert_kind(
        r#"{\"password\": \"hunter2\"}"#,
        "password",
        r#"{\"password\": \"[REDACTED:password]\"}"#,
    );
    assert_kind(
        &format!("token: {token}"),
        "secret",
        "token: [REDACTED:secret]",
    );
    assert_kind(
        &format!("apiKey = \"{token}\""),
        "secret",
        "apiKey = \"[REDACTED:secret]\"",
    );
    assert_kind(
        &format!("--api-key {token} run"),
        "secret",
        "--api-key [REDACTED:secret] run",
    );
    assert_kind(
        &format!("Authorization: Bearer {token}"),
        "authorization",
        "Authorization: Bearer [REDACTED:authorization]",
    );
    assert_kind(
        &format!("-H 'authorization: Basic {token}=='"),
        "authorization",
        "-H 'authorization: Basic [REDACTED:authorization]'",
    );
    assert_kind(
        "curl -u ann:pa55word https://x.test",
        "password",
        "curl -u ann:[REDACTED:password] https://x.test",
    );
    assert_kind(
        &format!("aws_secret_access_key = {}", random(40)),
        "aws-secret-key",
        "aws_secret_access_key = [REDACTED:aws-secret-key]",
    );
}

#[test]
fn a_connection_string_loses_only_its_password() {
    assert_kind(
        "postgres://ann:pa55@db.test:5432/app?sslmode=require",
        "connection-password",
        "postgres://ann:[REDACTED:connection-password]@db.test:5432/app?sslmode=require",
    );
    assert_kind(
        "redis://:p@ss@cache.test/0",
        "connection-password",
        "redis://:[REDACTED:connection-password]@cache.test/0",
    );
    assert_kind(
        "amqp://u:p#1?@mq.test",
        "connection-password",
        "amqp://u:[REDACTED:connection-password]@mq.test",
    );
    assert_kept("see http://host:8080?from=a@b and http://ann@host:80/");
    assert_kept("https://example.org:8080/a@b and http://host:80/x, git@github.com:a/b.git");
    assert_kept("postgres://ann:$PASSWORD@db.test/app postgres://ann:${PW}@db.test/app");
}

#[test]
fn private_keys_go_whole_also_escaped_or_cut_off() {
    let body = random(64);
    for newline in ["\n", "\\n", "\\\\n"] {
        let (begin, end) = (
            "-----BEGIN RSA PRIVATE KEY-----",
            "-----END RSA PRIVATE KEY-----",
        );
        let whole = format!("a {begin}{newline}{body}{newline}{end} b");
        assert_kind(&whole, "private-key", "a [REDACTED:private-key] b");
        let cut = format!("-----BEGIN PRIVATE KEY-----{newline}{body}");
        assert_kind(&cut, "private-key", "[REDACTED:private-key]");
        let cut_and_prose = format!("{cut} and so on");
        assert_kind(
            &cut_and_prose,
            "private-key",
            "[REDACTED:private-key] and so on",
        );
        let locked = format!("{begin}{newline}Proc-Type: 4,ENCRYPTED{newline}{newline}{body}");
        assert_kind(&locked, "private-key", "[REDACTED:private-key]");
    }
    assert_kept("a file that starts with -----BEGIN PRIVATE KEY----- is refused");
    assert_kept("from \"-----BEGIN PRIVATE KEY-----\" to \"-----END PRIVATE KEY-----\", if any");
    let public = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----");
    assert_kept(&public);
}

#[test]
fn private_blocks_are_dropped_with_what_they_hold() {
    assert_kind(
        "a <private>x <private>y</private> z</private> b",
        "private",
        "a [REDACTED:private] b",
    );
    let token = format!("<private>ghp_{}</private>", random(36));
    assert_kind(&token, "private", "[REDACTED:private]");
    assert_kind(
        "<private>x <Private>y</private> z",
        "private",
        "[REDACTED:private] z",
    );
    assert_kept("the <private> tag alone is only text");
}

#[test]
fn hashes_ids_paths_and_code_stay() {
    for text in [
        "commit 3f786850e387550fdab836ed7e6dc881de23001b in main",
        "id 550e8400-e29b-41d4-a716-446655440000 in cat",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "toolu_01AbCdEf2GhIjKl3MnOpQr4S req_01TuVwXy5ZaBcDe6FgHiJk7L msg_01MnOpQr8StUvWx9",
        "/Users/dev/src/app/node_modules/sk-loading-spinner-component-style/index.js",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
        "\"input_tokens\": 10496, \"max_tokens\": 4096, tokenizer: cl100k_base12345678",
        "token: string; password: string | null; let token = getToken(request1, 22);",
        "password = args.password; token=token, secret: config[\"secret1234567890ab\"]",
        "password_hash = x1y2z3 and the secret_id: 123456789012abcdef, token_count: 12345678901234",
        "fn password(&self) -> &str; if password == other { retry_token(); }",
        "PASSWORD=$DB_PASSWORD TOKEN=${TOKEN1234567890} SECRET=<your-secret-1234567890>",
        "PWD=/home/ann OLDPWD=/home/ann/src1",
        "the bearer of this letter, bearer authentication, Authorization: required",
        "docker run -u 1000:1000 image; key-value pairs; a task-list; disk0: 12",
        "Enter your password: ",
        "CODITECT-CORE-SYNC-PROTOCOL",
        "AKIA is a prefix",
    ] {
        assert_kept(text);
    }
}

#[test]
fn json_is_redacted_in_strings_keys_and_under_telling_keys() {
    let key = format!("ghp_{}", random(36));
    let mut value = json!({
        "password": "correct horse", "client_secret": random(20), "secret_id": random(20),
        "list": [format!("see {key}")], key: 1, "tokens": 12, "ok": true,
    });
    let mut report = Report::default();
    redact_value(&mut value, &mut report);
    let expected = json!({
        "password": "correct horse", "client_secret": "[REDACTED:secret]", "secret_id": random(20),
        "list": ["see [REDACTED:github-token]"], "[REDACTED:github-token]": 1, "tokens": 12,
        "ok": true,
    });
    assert_eq!(value, expected);
    assert_eq!(
        (report.count("secret"), report.count("github-token")),
        (1, 2)
    );
}

#[test]
fn a_secret_next_to_others_hides_none_of_them() {
    let text = format!(
        "A=AKIAQ3ZP7AWX2KLM9RTB ghp_{} password=abc12345\nhttps://u:pw1@h/",
        random(36)
    );
    let (out, report) = redacted(&text);
    assert_eq!(report.total(), 4, "{out}");
    assert!(out.starts_with("A=[REDACTED:aws-access-key] [REDACTED:github-token] password=[RED"));
}

#[test]
fn hostile_repetition_is_read_to_its_end() {
    for piece in [
        "<private>",
        "sk-",
        "-----BEGIN PRIVATE KEY-----",
        "://a:",
        "password=a ",
        "eyJa.",
    ] {
        let text = piece.repeat(200_000 / piece.len());
        let (once, _) = redacted(&text);
        assert_eq!(redacted(&once).0, once, "{piece}");
    }
}

#[test]
fn a_marker_at_the_end_of_the_window_is_no_password() {
    for length in 470..520 {
        let user = "a".repeat(length);
        let text = format!("curl -u {user}:[REDACTED:password] https://x.test");
        assert_kept(&text);
    }
}

#[test]
fn the_colon_of_a_marker_parts_no_user_from_a_password() {
    let text = "curl -u annDB_PASSWORD=hunter22 && x";
    let (out, _) = redacted(text);
    assert_eq!(out, "curl -u annDB_PASSWORD=[REDACTED:password] && x");
    assert_eq!(redacted(&out).0, out);
}

#[test]
fn a_token_alone_in_an_address_is_replaced_once() {
    let token = random(30);
    let text = format!("clone https://{token}@git.test/app");
    let clean = "clone https://[REDACTED:connection-password]@git.test/app";
    assert_kind(&text, "connection-password", clean);
    let (_, list) = super::redact_listed(&text);
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!((list[0].start, list[0].end), (14, 44));
    // Behind a user that is a marker there may still be a password.
    let text = "https://[REDACTED:github-token]:hunter22@git.test";
    let clean = "https://[REDACTED:github-token]:[REDACTED:connection-password]@git.test";
    assert_kind(text, "connection-password", clean);
}

#[test]
fn every_reported_kind_is_listed() {
    let kinds = kinds();
    for kind in [
        "password",
        "private",
        "private-key",
        "connection-password",
        "jwt",
        "secret",
    ] {
        assert!(kinds.contains(&kind), "{kind}");
    }
}

/// Pieces that meet in every order: names, separators, quotes, tokens, markers and noise.
fn pieces() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "password",
        "DB_PASSWORD",
        "token",
        "secret_key",
        "--api-key",
        "Authorization: Bearer ",
        "bearer ",
        "=",
        ":",
        ": ",
        " = ",
        "\"",
        "'",
        "\\\"",
        "\\n",
        "\n",
        " ",
        "@",
        "/",
        ".",
        ",",
        "postgres://u:",
        "://",
        "<private>",
        "</private>",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----END RSA PRIVATE KEY-----",
        "[REDACTED:password]",
        "[REDACTED:",
        "]",
        "curl -u a:",
        "eyJ",
        "AKIA",
        "sk-",
        "ghp_",
        "{",
        "}",
        "ä",
        "😀",
        "CODI-",
        "hunter2",
        "AccountKey=",
    ])
    .prop_map(str::to_owned);
    let noise = "[A-Za-z0-9_/+=.-]{0,45}";
    prop::collection::vec(prop_oneof![3 => fixed, 1 => noise], 0..24).prop_map(|all| all.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn redacting_twice_equals_once(text in pieces()) {
        let (once, _) = redacted(&text);
        let (twice, report) = redacted(&once);
        prop_assert_eq!(&once, &twice);
        prop_assert!(report.is_empty());
    }

    #[test]
    fn redacting_json_twice_equals_once(key in pieces(), text in pieces()) {
        let mut once = json!({ "password": text, key: { "token": "x", "list": [text] } });
        redact_value(&mut once, &mut Report::default());
        let mut twice = once.clone();
        let mut report = Report::default();
        redact_value(&mut twice, &mut report);
        prop_assert_eq!(once, twice);
        prop_assert!(report.is_empty());
    }

    #[test]
    fn a_github_token_never_survives(before in pieces(), after in pieces()) {
        let secret = format!("ghp_{}", random(36));
        let (out, _) = redacted(&format!("{before} {secret} {after}"));
        prop_assert!(!out.contains(&secret));
    }
}
