//! An organisation's data out of one server and into another.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use coditect_core::hex::hex;
use coditect_protocol::wire::pull::PullReply;
use coditect_server::jobs::audit::{self, Heads};
use coditect_server::transfer::{self, Receipt};
use coditect_server_store::audit::head::HeadKey;
use coditect_server_store::identity::Role;
use coditect_server_store::transfer::{LEFT_OUT, TransferError};
use coditect_testkit::{TestTenant, TestUser};
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::{
    PULL, PUSH, TestApp, decision, fresh_row, own_scope, pull_request, push_request,
};

/// A server with an organisation that has something in every corner.
struct Source {
    app: TestApp,
    tenant: TestTenant,
    user: TestUser,
    folder: tempfile::TempDir,
}

impl Source {
    async fn start() -> Self {
        let app = TestApp::start().await;
        let tenant = app.db.with_tenant("acme").await;
        let user = app.db.with_role(&tenant, "a@b.c", Role::Owner).await;
        let other = app.db.with_tenant("other").await;
        let stranger = app.db.with_user(&other, "x@y.z").await;
        let this = Self {
            app,
            tenant,
            user,
            folder: tempfile::tempdir().unwrap(),
        };
        this.fill().await;
        let rows = vec![decision(fresh_row(), "of others", 0)];
        let request = push_request(stranger.device_id, own_scope(&stranger), None, rows);
        let pushed = this.app.post_as(&stranger, PUSH, &request).await;
        assert_eq!(pushed.status, 200);
        this
    }

    /// Rows, an edit of one, a tombstone, a long message, a team.
    async fn fill(&self) {
        let (app, user) = (&self.app, &self.user);
        let mut writer = crate::backups::Pusher::new(app, user);
        let row = fresh_row();
        writer.push(vec![decision(row, "first", 0)]).await;
        writer.push(vec![decision(row, "first, edited", 5)]).await;
        let many = (0..120).map(|n| decision(fresh_row(), &format!("number {n}"), 0));
        writer.push(many.collect()).await;
        let long = "a long answer of an agent ".repeat(4_000);
        let message = json!({ "messages": [{ "message_id": "m1", "session_id": "s1",
            "role": "assistant", "content": long }] });
        let pushed = app.post_as(user, "/api/v1/context/push", &message).await;
        assert_eq!(pushed.status, 200, "{}", pushed.text());
        let team = app
            .post_as(user, "/api/v1/teams/", &json!({ "name": "core" }))
            .await;
        assert!(team.status < 300, "{}", team.text());
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("acme.jsonl.gz")
    }

    async fn export(&self) -> Receipt {
        let clock = &self.app.state.clock;
        let done = transfer::export(self.app.db.db(), clock, self.tenant.id, &self.file()).await;
        done.unwrap()
    }
}

async fn import(app: &TestApp, file: &Path) -> Result<Receipt, TransferError> {
    transfer::import(app.db.db(), &app.state.clock, file).await
}

/// Returns every row of every table that has a tenant, as text.
async fn everything(app: &TestApp) -> BTreeMap<String, Vec<String>> {
    let client = app.db.superuser_client().await;
    let tables = "select table_name::text from information_schema.columns
        where column_name = 'tenant_id' and table_schema = current_schema() order by 1";
    let mut all = BTreeMap::new();
    for table in client.query_typed(tables, &[]).await.unwrap() {
        let name: String = table.get(0);
        let rows = format!("select to_jsonb(t)::text from {name} t order by 1");
        let rows = client.query_typed(&rows, &[]).await.unwrap();
        all.insert(name, rows.iter().map(|row| row.get(0)).collect());
    }
    all
}

/// Keeps the rows of a tenant of the tables that an export has, but for what it notes itself.
fn of(tenant: &TestTenant, all: BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    let id = tenant.id.to_string();
    let kept = all
        .into_iter()
        .filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
    let kept = kept.map(|(name, rows)| {
        let rows = rows.into_iter().filter(|row| {
            row.contains(&id) && !row.contains("tenant.export") && !row.contains("tenant.import")
        });
        (name, rows.collect())
    });
    kept.collect()
}

#[tokio::test]
async fn what_arrives_is_what_left() {
    let source = Source::start().await;
    let receipt = source.export().await;
    let target = TestApp::start().await;
    let taken = import(&target, &source.file()).await.unwrap();
    assert_eq!(
        (&taken.tables, &taken.sha256),
        (&receipt.tables, &receipt.sha256)
    );
    let left = of(&source.tenant, everything(&source.app).await);
    let arrived = of(&source.tenant, everything(&target).await);
    for (table, rows) in &left {
        assert_eq!(&arrived[table], rows, "{table}");
    }
    for table in [
        "org_decisions",
        "record_history",
        "bodies",
        "stream_digests",
        "audit_log",
    ] {
        assert!(!left[table].is_empty(), "{table} has nothing to compare");
    }
    // Nothing of anybody else is in the file.
    let mut text = String::new();
    let file = std::fs::File::open(source.file()).unwrap();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    assert!(text.contains("number 119") && !text.contains("of others"));
}

#[tokio::test]
async fn people_go_on_with_their_licences_and_the_trail_with_a_new_head() {
    let source = Source::start().await;
    source.export().await;
    let target = TestApp::start().await;
    import(&target, &source.file()).await.unwrap();
    let key = json!({ "license_key": source.user.license_key });
    let login: Value = target.post("/api/v1/auth/license/", &key).await.ok();
    let token = login["access_token"].as_str().unwrap();
    let device = serde_json::from_value(login["device_id"].clone()).unwrap();
    let request = crate::support::bearer(
        crate::support::post(PULL, &pull_request(device, own_scope(&source.user))),
        token,
    );
    let pulled: PullReply = target.send(request).await.ok();
    assert!(pulled.pages[0].changes.len() > 50);

    let storage = target.state.backups.clone().unwrap().storage;
    let heads = Heads::new(
        storage,
        HeadKey::load_or_create(&target.db.secrets_folder()).unwrap(),
    );
    let (db, clock) = (target.db.db(), &target.state.clock);
    audit::accept(db, clock, &heads, source.tenant.id)
        .await
        .unwrap();
    let verdict = audit::verify(db, clock, &heads, source.tenant.id)
        .await
        .unwrap();
    assert_eq!(verdict.faults, []);
    assert!(verdict.entries > 3);
}

/// The bytes of a file and its lines.
struct Export {
    packed: Vec<u8>,
    lines: Vec<String>,
}

impl Export {
    fn read(file: &Path) -> Self {
        let packed = std::fs::read(file).unwrap();
        let mut text = String::new();
        GzDecoder::new(&packed[..])
            .read_to_string(&mut text)
            .unwrap();
        Self {
            packed,
            lines: text.lines().map(str::to_owned).collect(),
        }
    }

    /// Returns the file with other lines under the old manifest.
    fn changed(&self, change: impl Fn(&mut Vec<String>)) -> Vec<u8> {
        let mut lines = self.lines.clone();
        change(&mut lines);
        pack(&lines)
    }

    /// The same with a manifest that proves them: what only the database can refuse.
    fn resealed(&self, change: impl Fn(&mut Vec<String>)) -> Vec<u8> {
        let mut lines = self.lines.clone();
        change(&mut lines);
        let last = lines.pop().unwrap();
        let mut manifest: Value = serde_json::from_str(&last).unwrap();
        let mut rows = BTreeMap::<String, u64>::new();
        for line in &lines[1..] {
            let row: Value = serde_json::from_str(line).unwrap();
            *rows
                .entry(row["table"].as_str().unwrap().to_owned())
                .or_default() += 1;
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let sha256 = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        manifest["sha256"] = json!(hex(sha256.as_ref()));
        manifest["rows"] = json!(rows);
        lines.push(manifest.to_string());
        pack(&lines)
    }

    /// Returns where the line of some decision is.
    fn decision(lines: &[String]) -> usize {
        let is_it =
            |line: &String| line.contains("\"org_decisions\"") && line.contains("number 7\"");
        lines.iter().position(is_it).unwrap()
    }
}

fn pack(lines: &[String]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for line in lines {
        writeln!(out, "{line}").unwrap();
    }
    out.finish().unwrap()
}

/// Returns files that no export wrote, by what is wrong with them.
fn damaged(export: &Export, tenant: &TestTenant) -> Vec<(&'static str, Vec<u8>)> {
    let packed = &export.packed;
    let mut flipped = packed.clone();
    flipped[packed.len() / 2] ^= 1;
    let replace = |from: String, to: &'static str| {
        move |lines: &mut Vec<String>| {
            let at = Export::decision(lines);
            assert!(lines[at].contains(&from));
            lines[at] = lines[at].replace(&from, to);
        }
    };
    let id = tenant.id.to_string();
    vec![
        ("cut", packed[..packed.len() / 2].to_vec()),
        ("cut at its end", packed[..packed.len() - 1].to_vec()),
        ("a bit flipped", flipped),
        ("not packed", b"{}\n".to_vec()),
        ("empty", Vec::new()),
        (
            "a row less",
            export.changed(|lines| drop(lines.remove(Export::decision(lines)))),
        ),
        (
            "a row changed",
            export.changed(replace("number 7".to_owned(), "number 8")),
        ),
        ("no manifest", export.changed(|lines| drop(lines.pop()))),
        (
            "more behind it",
            export.changed(|lines| lines.push(lines[1].clone())),
        ),
        (
            "another version",
            export.resealed(|lines| {
                lines[0] = lines[0].replace("\"format_version\":1", "\"format_version\":2");
            }),
        ),
        (
            "another's row",
            export.resealed(replace(id, "00000000-0000-4000-8000-00000000dead")),
        ),
        (
            "an unknown column",
            export.resealed(replace("\"title\"".to_owned(), "\"caption\"")),
        ),
        (
            "an unknown table",
            export.resealed(replace("\"org_decisions\"".to_owned(), "\"org_choices\"")),
        ),
        (
            "no organisation",
            export.resealed(|lines| drop(lines.drain(1..lines.len() - 1))),
        ),
    ]
}

#[tokio::test]
async fn a_second_import_and_damaged_files_change_nothing() {
    let source = Source::start().await;
    source.export().await;
    let (db, clock) = (source.app.db.db(), &source.app.state.clock);
    let again = transfer::export(db, clock, source.tenant.id, &source.file()).await;
    assert!(matches!(again, Err(TransferError::File(_))), "{again:?}");
    let target = TestApp::start().await;
    let before = everything(&target).await;

    let export = Export::read(&source.file());
    for (what, bytes) in damaged(&export, &source.tenant) {
        let file = source.folder.path().join("damaged");
        std::fs::write(&file, bytes).unwrap();
        let refused = import(&target, &file).await;
        assert!(
            matches!(refused, Err(TransferError::Damaged { .. })),
            "{what}: {refused:?}"
        );
        assert_eq!(everything(&target).await, before, "{what}");
    }
    let other_schema = export.resealed(|lines| {
        let mut header: Value = serde_json::from_str(&lines[0]).unwrap();
        header["schema"] = json!("0123456789abcdef");
        lines[0] = header.to_string();
    });
    let file = source.folder.path().join("other");
    std::fs::write(&file, other_schema).unwrap();
    let refused = import(&target, &file).await;
    assert!(
        matches!(refused, Err(TransferError::OtherSchema { .. })),
        "{refused:?}"
    );

    import(&target, &source.file()).await.unwrap();
    let once = everything(&target).await;
    let twice = import(&target, &source.file()).await;
    assert!(
        matches!(twice, Err(TransferError::Exists { .. })),
        "{twice:?}"
    );
    assert_eq!(everything(&target).await, once);
}
