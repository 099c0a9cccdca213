//! Backups of a scope over HTTP: written by the job, listed, restored by merge and by replace.

use coditect_protocol::wire::backups::{
    BackupList, BackupMetadata, BackupStatus, BackupType, RestoreReply,
};
use coditect_protocol::wire::push::{Change, CounterPart, PushReply};
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{ErrorCode, RowId, Scope, Version};
use coditect_server::jobs;
use coditect_server_store::StoreError;
use coditect_server_store::sync::dump::{self, DumpLine};
use coditect_testkit::{TestUser, files_below};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::support::{
    PUSH, Reply, TestApp, decision, fresh_row, fresh_uuid, own_scope, push_request,
};

pub(crate) async fn start() -> (TestApp, TestUser) {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    (app, ann)
}

pub(crate) fn path(user: &TestUser, what: &str) -> String {
    format!("/api/v1/users/{}/context/{what}", user.user_id)
}

/// A device of a user that pushes one batch after the other.
pub(crate) struct Pusher<'a> {
    app: &'a TestApp,
    user: &'a TestUser,
    token: Option<String>,
    /// Versions of its rows as they were last acknowledged: what its next edits are made from.
    known: BTreeMap<RowId, Version>,
}

impl<'a> Pusher<'a> {
    pub(crate) fn new(app: &'a TestApp, user: &'a TestUser) -> Self {
        Self {
            app,
            user,
            token: None,
            known: BTreeMap::new(),
        }
    }

    pub(crate) async fn push(&mut self, changes: Vec<Change>) {
        self.push_to(own_scope(self.user), changes).await;
    }

    pub(crate) async fn push_to(&mut self, scope: Scope, mut changes: Vec<Change>) {
        for change in &mut changes {
            change.base = self.known.get(&change.id).copied();
        }
        let device = self.user.device_id;
        let request = push_request(device, scope, self.token.as_deref(), changes);
        let reply: PushReply = self.app.post_as(self.user, PUSH, &request).await.ok();
        let refused = reply
            .outcomes
            .iter()
            .filter(|outcome| outcome.code.is_some());
        assert_eq!(refused.count(), 0, "{reply:?}");
        let stored = reply.outcomes.into_iter().filter_map(|one| one.stored);
        self.known.extend(stored.map(|row| (row.id, row.version)));
        self.token = Some(reply.token);
    }
}

fn deleted(id: RowId, later_ms: u64) -> Change {
    Change {
        op: Op::Delete,
        row: None,
        ..decision(id, "", later_ms)
    }
}

/// Asks for a backup, has it written and returns it.
pub(crate) async fn back_up(app: &TestApp, user: &TestUser, kind: &str) -> BackupMetadata {
    let reply = app
        .post_as(user, &path(user, "backup"), &json!({ "type": kind }))
        .await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    let asked: BackupMetadata = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(asked.status, BackupStatus::Pending);
    let backups = app.state.backups.as_ref().unwrap();
    let written = jobs::backups::run_pending(&app.state, backups).await;
    let all: BackupList = app.get_as(user, &path(user, "backups")).await.ok();
    assert_eq!(written.unwrap(), 1, "{all:?}");
    let mut all = all.backups.into_iter();
    all.find(|backup| backup.id == asked.id).unwrap()
}

pub(crate) async fn restore(app: &TestApp, user: &TestUser, request: &Value) -> Reply {
    app.post_as(user, &path(user, "restore"), request).await
}

pub(crate) type Contents = BTreeMap<(String, RowId), (String, bool, Option<Row>)>;

/// Returns what the scope holds: id, hash, whether deleted, columns. Versions are left out,
/// which a restore makes new.
pub(crate) async fn contents(app: &TestApp, user: &TestUser) -> Contents {
    let lines = lines(app, user).await.into_iter();
    lines
        .map(|line| ((line.table, line.id), (line.hash, line.deleted, line.row)))
        .collect()
}

async fn lines(app: &TestApp, user: &TestUser) -> Vec<DumpLine> {
    let mut lines = Vec::new();
    dump::dump(app.db.db(), user.tenant_id, |line| {
        lines.push(line);
        Ok::<_, StoreError>(())
    })
    .await
    .unwrap();
    lines.retain(|line| line.scope == own_scope(user));
    lines
}

pub(crate) fn archives(app: &TestApp) -> Vec<PathBuf> {
    files_below(app.backups.path())
}

#[tokio::test]
async fn metadata_has_what_the_seed_prints() {
    let (app, ann) = start().await;
    let row = fresh_row();
    let mut device = Pusher::new(&app, &ann);
    device.push(vec![decision(row, "kept", 0)]).await;
    back_up(&app, &ann, "full").await;
    let reply = app.get_as(&ann, &path(&ann, "backups")).await;
    let all: Value = reply.ok();
    let backup = all["backups"][0].as_object().unwrap();
    for (name, expected) in [
        ("tenant_id", json!(ann.tenant_id)),
        ("scope_type", json!("user")),
        ("scope_id", json!(ann.user_id)),
        ("backup_type", json!("full")),
        ("record_count", json!(1)),
        ("status", json!("completed")),
        ("expires_at", Value::Null),
    ] {
        assert_eq!(backup[name], expected, "{name}");
    }
    let path = backup["gcs_path"].as_str().unwrap();
    let folder = format!("tenants/{}/users/{}/on-demand/", ann.tenant_id, ann.user_id);
    assert!(
        path.contains(&folder) && path.ends_with(".jsonl.gz"),
        "{path}"
    );
    let file = std::fs::read(path.strip_prefix("file://").unwrap()).unwrap();
    assert_eq!(backup["size_bytes"], file.len());
    let checksum = backup["checksum"].as_str().unwrap();
    assert_eq!(checksum.strip_prefix("sha256:").unwrap().len(), 64);
    assert!(backup["completed_at"].is_string() && backup["created_at"].is_string());
}

#[tokio::test]
async fn merge_brings_deleted_rows_back_and_leaves_newer_ones() {
    let (app, ann) = start().await;
    let (kept, gone, edited, later) = (fresh_row(), fresh_row(), fresh_row(), fresh_row());
    let mut device = Pusher::new(&app, &ann);
    let rows = [(kept, "kept"), (gone, "gone"), (edited, "before")];
    device
        .push(rows.map(|(id, title)| decision(id, title, 0)).to_vec())
        .await;
    let full = back_up(&app, &ann, "full").await;
    device
        .push(vec![
            deleted(gone, 10),
            decision(edited, "after", 10),
            decision(later, "later", 10),
        ])
        .await;
    let before = contents(&app, &ann).await;
    let mut request = json!({ "backup_id": full.id, "mode": "merge", "dry_run": true });
    let tried: RestoreReply = restore(&app, &ann, &request).await.ok();
    assert_eq!((tried.restored, tried.skipped, tried.removed), (1, 2, 0));
    assert_eq!(contents(&app, &ann).await, before);

    request["dry_run"] = json!(false);
    let done: RestoreReply = restore(&app, &ann, &request).await.ok();
    assert_eq!((done.restored, done.skipped, done.removed), (1, 2, 0));
    assert_eq!((done.backup.id, done.backup.record_count), (full.id, 3));
    let after = contents(&app, &ann).await;
    let title = |id| {
        let (_, deleted, row) = &after[&("org_decisions".to_owned(), id)];
        (*deleted, row.as_ref().unwrap()["title"].clone())
    };
    assert_eq!(title(gone), (false, json!("gone")));
    assert_eq!(title(edited), (false, json!("after")));
    assert_eq!(title(later), (false, json!("later")));
    let again: RestoreReply = restore(&app, &ann, &request).await.ok();
    assert_eq!((again.restored, again.skipped), (0, 3));
    assert_eq!(contents(&app, &ann).await, after);
}

#[tokio::test]
async fn replace_makes_the_scope_what_it_was_and_can_be_undone() {
    let (app, ann) = start().await;
    let (gone, edited, later) = (fresh_row(), fresh_row(), fresh_row());
    let mut device = Pusher::new(&app, &ann);
    device
        .push(vec![
            decision(gone, "gone", 0),
            decision(edited, "before", 0),
        ])
        .await;
    let at_backup = contents(&app, &ann).await;
    let full = back_up(&app, &ann, "full").await;
    device
        .push(vec![
            deleted(gone, 10),
            decision(edited, "after", 10),
            decision(later, "later", 10),
        ])
        .await;
    let live = |contents: Contents| -> Contents {
        let live = contents.into_iter().filter(|(_, (_, deleted, _))| !deleted);
        live.collect()
    };
    let before = live(contents(&app, &ann).await);
    let request = json!({ "backup_id": full.id, "mode": "replace" });
    let done: RestoreReply = restore(&app, &ann, &request).await.ok();
    assert_eq!((done.restored, done.skipped, done.removed), (2, 0, 1));
    assert_eq!(live(contents(&app, &ann).await), at_backup);

    // The backup that was taken before leads back.
    let undo = json!({ "backup_id": done.safety_backup_id.unwrap(), "mode": "replace" });
    let undone: RestoreReply = restore(&app, &ann, &undo).await.ok();
    assert_eq!((undone.restored, undone.removed), (2, 1));
    assert_eq!(live(contents(&app, &ann).await), before);
}

#[tokio::test]
async fn digests_and_heads_hold_after_a_restore() {
    let (app, ann) = start().await;
    let (one, two) = (fresh_row(), fresh_row());
    let mut device = Pusher::new(&app, &ann);
    device
        .push(vec![decision(one, "one", 0), decision(two, "two", 0)])
        .await;
    let full = back_up(&app, &ann, "full").await;
    device.push(vec![deleted(one, 10)]).await;
    let request = json!({ "backup_id": full.id, "mode": "merge" });
    let done: RestoreReply = restore(&app, &ann, &request).await.ok();
    assert_eq!(done.restored, 1);
    let pull = crate::support::pull_request(ann.device_id, own_scope(&ann));
    let reply = app.post_as(&ann, crate::support::PULL, &pull).await;
    let reply: coditect_protocol::wire::pull::PullReply = reply.ok();
    let page = &reply.pages[0];
    assert!(page.at_head);
    let digests = page.digests.as_ref().unwrap();
    let digest = digests
        .iter()
        .find(|digest| digest.table == "org_decisions");
    let digest = digest.unwrap();
    assert_eq!((digest.rows, digest.count), (2, 2));
    let mut xor = 0;
    for line in lines(&app, &ann).await {
        let hash = line.hash.parse().unwrap();
        xor ^= coditect_core::digest::term(
            &line.table,
            line.id,
            line.version,
            line.device,
            &hash,
            line.deleted,
        );
    }
    assert_eq!(digest.digest, format!("{xor:016x}"));
}

#[tokio::test]
async fn incremental_goes_on_from_the_newest_and_restores_with_it() {
    let (app, ann) = start().await;
    let (one, two, three) = (fresh_row(), fresh_row(), fresh_row());
    let mut device = Pusher::new(&app, &ann);
    device
        .push(vec![decision(one, "one", 0), decision(two, "two", 0)])
        .await;
    let first = back_up(&app, &ann, "incremental").await;
    assert_eq!(
        (first.backup_type, first.base_id),
        (BackupType::Full, None),
        "there was none to go on from"
    );
    device
        .push(vec![deleted(two, 10), decision(three, "three", 10)])
        .await;
    let second = back_up(&app, &ann, "incremental").await;
    assert_eq!(second.backup_type, BackupType::Incremental);
    assert_eq!(second.base_id, Some(first.id));
    assert_eq!(second.record_count, Some(2));
    let at_second = contents(&app, &ann).await;
    device
        .push(vec![decision(one, "other", 20), deleted(three, 20)])
        .await;
    let request = json!({ "backup_id": second.id, "mode": "replace" });
    let done: RestoreReply = restore(&app, &ann, &request).await.ok();
    assert_eq!((done.restored, done.removed), (2, 0));
    assert_eq!(contents(&app, &ann).await, at_second);
}

#[tokio::test]
async fn counters_are_never_set_back() {
    let (app, ann) = start().await;
    let table = coditect_protocol::catalogue::by_cloud_name("org_skill_learnings").unwrap();
    let id = fresh_row();
    let learning = |seq, total, later_ms| {
        let row = json!({ "skill_name": "s", "learning": "l", "usage_count": total });
        let row = row.as_object().cloned().unwrap();
        let part = CounterPart { seq, total };
        Change {
            table: table.cloud.to_owned(),
            hash: coditect_core::hash::content(table, &row).to_string(),
            row: Some(row),
            counters: BTreeMap::from([("usage_count".to_owned(), part)]),
            ..decision(id, "", later_ms)
        }
    };
    let mut device = Pusher::new(&app, &ann);
    device.push(vec![learning(1, 4, 0)]).await;
    let full = back_up(&app, &ann, "full").await;
    device.push(vec![learning(2, 7, 10)]).await;
    let gone = Change {
        table: table.cloud.to_owned(),
        ..deleted(id, 20)
    };
    device.push(vec![gone]).await;
    let request = json!({ "backup_id": full.id, "mode": "merge" });
    let done: RestoreReply = restore(&app, &ann, &request).await.ok();
    assert_eq!(done.restored, 1);
    let after = contents(&app, &ann).await;
    let (_, _, row) = &after[&(table.cloud.to_owned(), id)];
    assert_eq!(row.as_ref().unwrap()["usage_count"], 7);
}

#[tokio::test]
async fn damaged_foreign_and_missing_archives_change_nothing() {
    let (app, ann) = start().await;
    let row = fresh_row();
    let mut device = Pusher::new(&app, &ann);
    device.push(vec![decision(row, "kept", 0)]).await;
    let full = back_up(&app, &ann, "full").await;
    device.push(vec![deleted(row, 10)]).await;
    let other = back_up(&app, &ann, "full").await;
    let before = contents(&app, &ann).await;
    let file =
        |backup: &BackupMetadata| PathBuf::from(backup.path.strip_prefix("file://").unwrap());
    let request = json!({ "backup_id": full.id, "mode": "replace" });

    let whole = std::fs::read(file(&full)).unwrap();
    for bit in (0..whole.len() * 8).step_by(97) {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(file(&full), damaged).unwrap();
        let refused = restore(&app, &ann, &request).await;
        refused.problem(ErrorCode::ChecksumFailed);
    }
    std::fs::copy(file(&other), file(&full)).unwrap();
    let refused = restore(&app, &ann, &request).await;
    refused.problem(ErrorCode::ChecksumFailed);
    std::fs::remove_file(file(&full)).unwrap();
    let refused = restore(&app, &ann, &request).await;
    refused.problem(ErrorCode::BackupNotFound);
    let unknown = json!({ "backup_id": fresh_uuid(), "mode": "merge" });
    let refused = restore(&app, &ann, &unknown).await;
    refused.problem(ErrorCode::BackupNotFound);
    assert_eq!(contents(&app, &ann).await, before);

    std::fs::write(file(&full), whole).unwrap();
    let done: RestoreReply = restore(&app, &ann, &request).await.ok();
    assert_eq!(done.restored, 1);
}

#[tokio::test]
async fn a_backup_of_another_scope_is_not_found() {
    let (app, ann) = start().await;
    let tenant = app.db.with_tenant("beta").await;
    let eve = app.db.with_user(&tenant, "eve@beta.example").await;
    let mut device = Pusher::new(&app, &ann);
    device.push(vec![decision(fresh_row(), "private", 0)]).await;
    let full = back_up(&app, &ann, "full").await;
    let request = json!({ "backup_id": full.id, "mode": "merge" });
    let refused = restore(&app, &eve, &request).await;
    refused.problem(ErrorCode::BackupNotFound);
    let theirs = app.post_as(&eve, &path(&ann, "restore"), &request).await;
    theirs.problem(ErrorCode::NotFound);
}

#[tokio::test]
async fn a_long_stream_is_read_in_pieces_while_others_write() {
    let (app, ann) = start().await;
    let ids: Vec<RowId> = (0..1_300).map(|_| fresh_row()).collect();
    let mut device = Pusher::new(&app, &ann);
    for chunk in ids.chunks(500) {
        let rows = chunk.iter().map(|id| decision(*id, "row", 0));
        device.push(rows.collect()).await;
    }
    let reply = app
        .post_as(&ann, &path(&ann, "backup"), &json!({ "type": "full" }))
        .await;
    assert_eq!(reply.status, 202);
    let asked: BackupMetadata = serde_json::from_slice(&reply.body).unwrap();
    let backups = app.state.backups.as_ref().unwrap();
    let (edited, removed) = (&ids[..20], &ids[20..40]);
    let writes = async {
        for (id, gone) in edited.iter().zip(removed) {
            let changes = vec![decision(*id, "edited", 10), deleted(*gone, 10)];
            device.push(changes).await;
        }
    };
    let job = jobs::backups::run_pending(&app.state, backups);
    let (written, ()) = tokio::join!(job, writes);
    assert_eq!(written.unwrap(), 1);
    // Whatever moment the backup is of, it holds every row, each as it was once.
    let request = json!({ "backup_id": asked.id, "mode": "replace", "dry_run": true });
    let tried: RestoreReply = restore(&app, &ann, &request).await.ok();
    assert_eq!(tried.removed, 0, "no row is missing");
    assert!(tried.restored + tried.skipped <= 1_300);
    assert!(tried.restored + tried.skipped >= 1_280);
    assert_eq!(archives(&app).len(), 1);
}
