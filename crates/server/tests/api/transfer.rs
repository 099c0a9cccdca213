//! An organisation's data out of one server and into another.

mod person;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use coditect_core::hex::hex;
use coditect_protocol::wire::pull::PullReply;
use coditect_protocol::{Scope, UserId};
use coditect_server::jobs::audit::{self, Heads};
use coditect_server::transfer::{self, Receipt};
use coditect_server_store::StoreError;
use coditect_server_store::audit::head::HeadKey;
use coditect_server_store::identity::Role;
use coditect_server_store::transfer::{LEFT_OUT, OF_PERSON, TransferError};
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
            "nobody's",
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
    let newer = export.resealed(|lines| {
        lines[0] = lines[0].replace("\"format_version\":1", "\"format_version\":2");
    });
    let file = source.folder.path().join("newer");
    std::fs::write(&file, newer).unwrap();
    let refused = import(&target, &file).await;
    assert!(
        matches!(refused, Err(TransferError::Newer { theirs: 2, .. })),
        "{refused:?}"
    );
    assert_eq!(everything(&target).await, before);
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

/// Returns the rows of a file by table, checked against its manifest.
fn tables(export: &Export) -> BTreeMap<String, Vec<Value>> {
    let (manifest, lines) = export.lines.split_last().unwrap();
    let manifest: Value = serde_json::from_str(manifest).unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let sha256 = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    assert_eq!(manifest["sha256"], hex(sha256.as_ref()));
    let mut all = BTreeMap::<String, Vec<Value>>::new();
    for line in &lines[1..] {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let table = line["table"].as_str().unwrap().to_owned();
        all.entry(table).or_default().push(line["row"].take());
    }
    let counts: BTreeMap<&String, usize> = all.iter().map(|(name, it)| (name, it.len())).collect();
    assert_eq!(manifest["rows"], json!(counts));
    all
}

/// An edit that meets another one, a colleague's row, and one that is the organisation's.
async fn fill_for_a_person(source: &Source) {
    let (app, user) = (&source.app, &source.user);
    crate::tenancy::make_conflict(app, user, own_scope(user)).await;
    let colleague = app.db.with_user(&source.tenant, "cat@b.c").await;
    for (person, scope, title) in [
        (&colleague, own_scope(&colleague), "of a colleague"),
        (
            user,
            Scope::Org(source.tenant.id.get()),
            "of the organisation",
        ),
    ] {
        let login = app
            .db
            .log_in(&person.license_key, &Default::default())
            .await;
        let device = login.caller.device_id();
        let rows = vec![decision(fresh_row(), title, 0)];
        let request = push_request(device, scope, None, rows);
        let sent = crate::support::post(PUSH, &request);
        let sent = crate::support::bearer(sent, &login.access_token);
        assert_eq!(app.send(sent).await.status, 200, "{title}");
    }
}

#[tokio::test]
async fn a_person_gets_the_own_scope_and_what_is_about_the_person() {
    let source = Source::start().await;
    let (app, user) = (&source.app, &source.user);
    fill_for_a_person(&source).await;
    let (db, clock) = (app.db.db(), &app.state.clock);
    let (tenant, id, file) = (source.tenant.id, user.user_id, source.file());
    let written = transfer::export_person(db, clock, tenant, id, &file).await;
    let export = Export::read(&file);
    assert_eq!(written.unwrap().user_id, Some(id));
    let header: Value = serde_json::from_str(&export.lines[0]).unwrap();
    assert_eq!(header["format"], "coditect-person");
    assert_eq!(header["user_id"], json!(id));
    let rows = tables(&export);
    let own = format!("{id}");
    for (table, rows) in &rows {
        let known = OF_PERSON.iter().find(|(known, _)| known == table);
        let column = known.map_or("scope_id", |(_, column)| *column);
        for row in rows {
            assert_eq!(row[column], own.as_str(), "{table}: {row}");
            assert!(row.get("secret_hash").is_none(), "{table}");
        }
    }
    // Everything that the database has of the own scope is there.
    let everything = everything(app).await;
    for (table, all) in everything {
        let has_scope = all.first().is_some_and(|row| row.contains("\"scope_id\""));
        if !has_scope || LEFT_OUT.contains(&table.as_str()) || table == "scope_members" {
            continue;
        }
        let of_scope = format!("\"scope_id\": \"{own}\"");
        let expected = all.iter().filter(|row| row.contains(&of_scope)).count();
        assert_eq!(rows.get(&table).map_or(0, Vec::len), expected, "{table}");
    }
    for table in [
        "org_decisions",
        "record_history",
        "sync_conflicts",
        "bodies",
        "devices",
    ] {
        assert!(!rows[table].is_empty(), "{table}");
    }
    let text = export.lines.concat();
    assert!(text.contains("number 119") && text.contains("secret-word-0"));
    for foreign in [
        "of others",
        "of a colleague",
        "of the organisation",
        "cat@b.c",
    ] {
        assert!(!text.contains(foreign), "{foreign}");
    }
}

#[tokio::test]
async fn a_persons_export_is_noted_and_is_no_organisations() {
    let source = Source::start().await;
    let (app, file) = (&source.app, source.file());
    let (db, clock) = (app.db.db(), &app.state.clock);
    let (tenant, own) = (source.tenant.id, source.user.user_id);
    let receipt = transfer::export_person(db, clock, tenant, own, &file).await;
    let receipt = receipt.unwrap();
    let superuser = app.db.superuser_client().await;
    let sql = format!(
        "select count(*) from audit_log where action = 'user.export' and resource_type = 'user'
        and resource_id = '{own}' and detail ->> 'sha256' = '{}'",
        receipt.sha256
    );
    let noted = superuser.query_typed_one(&sql, &[]).await.unwrap();
    assert_eq!(noted.get::<_, i64>(0), 1);
    let target = TestApp::start().await;
    let refused = import(&target, &file).await;
    assert!(matches!(refused, Err(TransferError::Damaged { .. })));

    let nobody = UserId::new(crate::support::fresh_uuid());
    let other = source.folder.path().join("nobody");
    let refused = transfer::export_person(db, clock, tenant, nobody, &other).await;
    assert!(matches!(
        refused,
        Err(TransferError::Store(StoreError::NotFound))
    ));
    assert!(!other.exists());
}

/// A table that is added must say whether a person has rows in it.
#[tokio::test]
async fn every_table_says_what_a_person_has_of_it() {
    let app = TestApp::start().await;
    let client = app.db.superuser_client().await;
    let sql = "select table_name::text, bool_or(column_name = 'scope_id'),
        bool_or(column_name = 'user_id') from information_schema.columns c
        where table_schema = current_schema() and exists (
            select from information_schema.columns t where t.table_name = c.table_name
            and t.table_schema = c.table_schema and t.column_name = 'tenant_id')
        group by 1 order by 1";
    let mut without = Vec::new();
    for row in client.query_typed(sql, &[]).await.unwrap() {
        let (table, has_scope, names_person): (String, bool, bool) =
            (row.get(0), row.get(1), row.get(2));
        let known = OF_PERSON.iter().any(|(known, _)| *known == table);
        if LEFT_OUT.contains(&table.as_str()) || known || has_scope {
            continue;
        }
        assert!(!names_person, "{table}: put it into OF_PERSON");
        without.push(table);
    }
    // What the organisation has beside its people and scopes.
    assert_eq!(without, ["audit_blocks", "history_retention", "tenants"]);
}
