//! Archives with a flipped bit, or cut short, at random places: each is refused, and changes
//! nothing. Plain and encrypted ones, and those that an incremental backup goes on from.

use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use coditect_backup::{Keys, Settings, Storage};
use coditect_protocol::wire::backups::{BackupMetadata, RestoreReply};
use coditect_protocol::{ErrorCode, Problem};
use coditect_server::backups::Backups;
use coditect_server_store::StoreError;
use coditect_server_store::sync::dump::{self, DumpLine};
use coditect_testkit::TestUser;
use serde_json::{Value, json};

use crate::backups::{Pusher, archives, back_up, restore, start};
use crate::support::{TestApp, decision, fresh_row};

/// Damages between two fresh pairs of archives.
const DAMAGES_PER_PAIR: usize = 10;
/// Bytes of an encrypted archive that name its key.
const KEY_NAME: std::ops::Range<usize> = 16..24;

/// Archives with a flipped bit, half of them encrypted; `DAMAGED_ARCHIVES` makes them more. A
/// quarter as many are cut short.
#[expect(clippy::disallowed_methods, reason = "the tests' own configuration")]
fn wanted() -> usize {
    let wanted = std::env::var("DAMAGED_ARCHIVES").ok();
    wanted.map_or(40, |text| text.parse().unwrap())
}

/// What happens to an archive.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip,
    Cut,
}

/// A sequence that its seed determines (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

/// Everything that a refused restore must leave as it is.
#[derive(Debug, PartialEq)]
struct Untouched {
    rows: Vec<DumpLine>,
    archives: Vec<PathBuf>,
    /// Backups and entries of the trail.
    counts: (i64, i64),
}

impl Untouched {
    async fn of(app: &TestApp, user: &TestUser) -> Self {
        let mut rows = Vec::new();
        dump::dump(app.db.db(), user.tenant_id, |line| {
            rows.push(line);
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
        let superuser = app.db.superuser_client().await;
        let sql = "select (select count(*) from context_backups),
            (select count(*) from audit_log)";
        let counts = superuser.query_typed_one(sql, &[]).await.unwrap();
        Self {
            rows,
            archives: archives(app),
            counts: (counts.get(0), counts.get(1)),
        }
    }
}

/// Damages archives one after the other and has each refused; returns how many.
async fn damage(keys: Option<&str>, kind: Damage, times: usize) -> usize {
    let (mut app, ann) = start().await;
    let storage = Storage::open(Settings {
        address: app.backups.path().display().to_string(),
        keys: keys.map(|text| Keys::parse(text).unwrap()),
        ..Default::default()
    });
    app.use_backups(Backups::new(storage.unwrap()));
    let mut device = Pusher::new(&app, &ann);
    let (mut chance, mut done) = (Chance(4711), 0);
    while done < times {
        // A full backup and one that goes on from it; then the scope moves on.
        let changed = fresh_row();
        for (row, title) in [(changed, "before"), (fresh_row(), "full")] {
            let title = title.repeat(1 + chance.below(40));
            device.push(vec![decision(row, &title, 0)]).await;
        }
        app.db.clock().advance(TimeDelta::seconds(1));
        let full = back_up(&app, &ann, "full").await;
        let more = decision(fresh_row(), "incremental", 5);
        device.push(vec![more]).await;
        // Of two that were completed at the same moment the next would go on from either.
        app.db.clock().advance(TimeDelta::seconds(1));
        let newest = back_up(&app, &ann, "incremental").await;
        assert_eq!(newest.base_id, Some(full.id));
        device.push(vec![decision(changed, "after", 10)]).await;
        let before = Untouched::of(&app, &ann).await;
        let files = [file(&full), file(&newest)];
        for _ in 0..DAMAGES_PER_PAIR.min(times - done) {
            let damaged = &files[chance.below(2)];
            let mode = ["merge", "replace"][chance.below(2)];
            let request = json!({ "backup_id": newest.id, "mode": mode });
            refuse(&app, &ann, damaged, (kind, &mut chance), &request).await;
            done += 1;
            assert_eq!(Untouched::of(&app, &ann).await, before);
        }
        // Whole again, the same request is carried out: it was the damage that was refused.
        let request = json!({ "backup_id": newest.id, "mode": "replace" });
        let restored: RestoreReply = restore(&app, &ann, &request).await.ok();
        assert!(restored.restored >= 1, "{restored:?}");
    }
    done
}

/// Damages the file, tries the restore, and mends the file.
async fn refuse(
    app: &TestApp,
    ann: &TestUser,
    archive: &Path,
    (kind, chance): (Damage, &mut Chance),
    request: &Value,
) {
    let whole = std::fs::read(archive).unwrap();
    let mut bytes = whole.clone();
    let at = chance.below(whole.len());
    match kind {
        Damage::Flip => bytes[at] ^= 1 << chance.below(8),
        Damage::Cut => bytes.truncate(at),
    }
    std::fs::write(archive, bytes).unwrap();
    let refused = restore(app, ann, request).await;
    std::fs::write(archive, &whole).unwrap();
    let text = refused.text();
    let problem: Problem = serde_json::from_slice(&refused.body)
        .unwrap_or_else(|_| panic!("{kind:?} at {at} of {} was taken: {text}", whole.len()));
    // The name of another key is no damage that one could tell from a missing key.
    let names_key = whole.starts_with(b"coditect-sealed1") && KEY_NAME.contains(&at);
    let expected = match kind {
        Damage::Flip if names_key => ErrorCode::Unavailable,
        _ => ErrorCode::ChecksumFailed,
    };
    assert_eq!(problem.code, expected, "{kind:?} at {at}: {text}");
}

fn file(backup: &BackupMetadata) -> PathBuf {
    PathBuf::from(backup.path.strip_prefix("file://").unwrap())
}

#[expect(clippy::print_stdout, reason = "the figures are the point")]
async fn check(keys: Option<&str>) {
    let flips = damage(keys, Damage::Flip, wanted() / 2).await;
    let cuts = damage(keys, Damage::Cut, wanted() / 8).await;
    assert!(flips > 0 && cuts > 0);
    let kind = if keys.is_some() { "encrypted" } else { "plain" };
    println!("{kind}: {flips} archives with a flipped bit and {cuts} cut short, all refused");
}

#[tokio::test]
async fn damaged_plain_archives_are_all_refused_and_change_nothing() {
    check(None).await;
}

#[tokio::test]
async fn damaged_encrypted_archives_are_all_refused_and_change_nothing() {
    check(Some(&"3c".repeat(32))).await;
}
