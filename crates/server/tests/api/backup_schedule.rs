//! Backups by schedule, their retention, and archives in an encrypted bucket.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use coditect_backup::{Keys, Settings, Storage};
use coditect_protocol::wire::backups::{BackupList, BackupMetadata, BackupType, RestoreReply};
use coditect_protocol::{ErrorCode, Scope};
use coditect_server::backups::Backups;
use coditect_server::jobs;
use coditect_server::state::{AppState, Clock};
use coditect_server_store::identity::Role;
use coditect_testkit::{S3, TestUser};
use serde_json::json;

use crate::backups::{Pusher, archives, back_up, contents, path, restore, start};
use crate::support::{TestApp, decision, fresh_row, own_scope};

/// The server with a calendar of its own: what people do does not take time.
struct Calendar {
    app: TestApp,
    state: AppState,
    now: Arc<Mutex<DateTime<Utc>>>,
}

impl Calendar {
    fn of(app: TestApp) -> Self {
        let now = Arc::new(Mutex::new("2026-03-01T00:30:00Z".parse().unwrap()));
        let mut state = app.state.clone();
        let shown = Arc::clone(&now);
        state.clock = Clock::new(move || *shown.lock().unwrap());
        Self { app, state, now }
    }

    fn now(&self) -> DateTime<Utc> {
        *self.now.lock().unwrap()
    }

    fn to(&self, moment: DateTime<Utc>) {
        *self.now.lock().unwrap() = moment;
    }

    /// Does what the server does about once a minute; returns how many backups were written.
    async fn tick(&self) -> u64 {
        let backups = self.state.backups.as_ref().unwrap();
        let kept = jobs::backups::keep_schedule(&self.state, backups).await;
        kept.unwrap();
        let written = jobs::backups::run_pending(&self.state, backups).await;
        written.unwrap()
    }

    /// Returns the ends of the archives' names below the scope's folder, as listed and as found.
    async fn kept(&self, user: &TestUser, base: &str, folder: &str) -> BTreeSet<String> {
        let all: BackupList = self.app.get_as(user, &format!("{base}/backups")).await.ok();
        let cut = |path: &str| path.split_once(folder).map(|(_, end)| end.to_owned());
        let listed: BTreeSet<_> = all
            .backups
            .iter()
            .filter_map(|one| cut(&one.path))
            .collect();
        let found = archives(&self.app);
        let found = found.iter().filter_map(|file| cut(file.to_str().unwrap()));
        assert_eq!(found.collect::<BTreeSet<_>>(), listed);
        listed
    }
}

fn full(day: DateTime<Utc>) -> String {
    format!("/full/{}.jsonl.gz", day.format("%Y-%m-%d"))
}

fn incremental(hour: DateTime<Utc>) -> String {
    format!("/incremental/{}.jsonl.gz", hour.format("%Y-%m-%d-%H"))
}

const DAYS: i64 = 36;
const HOURS: [i64; 3] = [1, 9, 22];

/// Whether people write on that day: two days, then two without.
fn busy(day: &i64) -> bool {
    day % 4 < 2
}

/// Whether there is a full backup of that day: the first quiet one still has what came after the
/// full one of the day before.
fn backed_up(day: &i64) -> bool {
    day % 4 < 3
}

/// Writes on busy days, at three hours, and keeps the schedule through all of it.
async fn month(calendar: &Calendar, ann: &TestUser) {
    let first = calendar.now();
    let mut own = Pusher::new(&calendar.app, ann);
    for day in 0..DAYS {
        for hour in HOURS {
            calendar.to(first + TimeDelta::days(day) + TimeDelta::hours(hour));
            if busy(&day) {
                own.push(vec![decision(fresh_row(), "one more", 0)]).await;
            }
            let written = calendar.tick().await;
            let expected = busy(&day) || backed_up(&day) && hour == HOURS[0];
            assert_eq!(written, u64::from(expected), "day {day}, hour {hour}");
            assert_eq!(calendar.tick().await, 0, "nothing is due twice in an hour");
        }
    }
}

#[tokio::test]
async fn a_month_of_the_schedule_keeps_what_the_retention_table_says() {
    let (app, ann) = start().await;
    let calendar = Calendar::of(app);
    let first = calendar.now();
    let moment = |day: i64, hour: i64| first + TimeDelta::days(day) + TimeDelta::hours(hour);
    month(&calendar, &ann).await;

    // Midnight of the last day: what was taken in the seven days before it stays, and on the
    // day that has just had its time nothing is left for a later one to go on from.
    calendar.to(moment(DAYS - 1, 23));
    assert_eq!(calendar.tick().await, 0);
    let mut expected: BTreeSet<_> = (0..DAYS)
        .filter(backed_up)
        .map(|day| full(moment(day, 0)))
        .collect();
    for day in (DAYS - 7..DAYS).filter(busy) {
        expected.extend(
            HOURS[1..]
                .iter()
                .map(|hour| incremental(moment(day, *hour))),
        );
    }
    let (base, folder) = (
        path(&ann, "").trim_end_matches('/').to_owned(),
        ann.user_id.to_string(),
    );
    assert_eq!(calendar.kept(&ann, &base, &folder).await, expected);

    // An hour of a day has had its time, but a later one of that day still goes on from it.
    let oldest = (DAYS - 7..DAYS).find(busy).unwrap();
    calendar.to(moment(oldest + 7, HOURS[1] + 1));
    calendar.tick().await;
    assert_eq!(calendar.kept(&ann, &base, &folder).await, expected);
    calendar.to(moment(oldest + 7, HOURS[2] + 1));
    calendar.tick().await;
    for hour in &HOURS[1..] {
        assert!(expected.remove(&incremental(moment(oldest, *hour))));
    }
    assert_eq!(calendar.kept(&ann, &base, &folder).await, expected);

    // Full ones stay for 90 days, the last one for ever.
    calendar.to(moment(100, 2));
    calendar.tick().await;
    let expected: BTreeSet<_> = (0..DAYS)
        .filter(|day| {
            backed_up(day) && moment(*day, HOURS[0]) + TimeDelta::days(90) >= moment(100, 2)
        })
        .map(|day| full(moment(day, 0)))
        .collect();
    assert!(expected.len() > 1, "{expected:?}");
    assert_eq!(calendar.kept(&ann, &base, &folder).await, expected);
    calendar.to(moment(2_000, 0));
    calendar.tick().await;
    let last = (0..DAYS).rfind(backed_up).unwrap();
    let expected = BTreeSet::from([full(moment(last, 0))]);
    assert_eq!(calendar.kept(&ann, &base, &folder).await, expected);
}

#[tokio::test]
async fn the_organisation_is_kept_for_a_year_and_what_was_asked_for_for_good() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app
        .db
        .with_role(&tenant, "ann@acme.example", Role::Owner)
        .await;
    let bob = app.db.with_user(&tenant, "bob@acme.example").await;
    let org = Scope::Org(ann.tenant_id.get());
    let mut device = Pusher::new(&app, &ann);
    device
        .push_to(org, vec![decision(fresh_row(), "ours", 0)])
        .await;
    let asked = back_up(&app, &ann, "full").await;
    let calendar = Calendar::of(app);
    let first = calendar.now();
    assert_eq!(calendar.tick().await, 1);
    let mut other = Pusher::new(&calendar.app, &bob);
    other
        .push_to(org, vec![decision(fresh_row(), "ours, too", 0)])
        .await;
    calendar.to(first + TimeDelta::days(1));
    assert_eq!(calendar.tick().await, 1);
    let base = format!("/api/v1/organizations/{}/context", ann.tenant_id);
    let both = BTreeSet::from([full(first), full(first + TimeDelta::days(1))]);
    calendar.to(first + TimeDelta::days(365));
    calendar.tick().await;
    assert_eq!(calendar.kept(&ann, &base, "/organization").await, both);
    calendar.to(first + TimeDelta::days(365) + TimeDelta::minutes(1));
    calendar.tick().await;
    let last = BTreeSet::from([full(first + TimeDelta::days(1))]);
    assert_eq!(calendar.kept(&ann, &base, "/organization").await, last);
    let own: BackupList = calendar.app.get_as(&ann, &path(&ann, "backups")).await.ok();
    let ids: Vec<_> = own.backups.iter().map(|backup| backup.id).collect();
    assert_eq!(ids, [asked.id]);
}

#[tokio::test]
async fn two_servers_ask_once() {
    let (app, ann) = start().await;
    Pusher::new(&app, &ann)
        .push(vec![decision(fresh_row(), "one", 0)])
        .await;
    let backups = app.state.backups.as_ref().unwrap();
    let (one, two) = tokio::join!(
        jobs::backups::keep_schedule(&app.state, backups),
        jobs::backups::keep_schedule(&app.state, backups),
    );
    one.unwrap();
    two.unwrap();
    let all: BackupList = app.get_as(&ann, &path(&ann, "backups")).await.ok();
    assert_eq!(all.backups.len(), 1);
    let backup = &all.backups[0];
    assert_eq!(
        (backup.backup_type, backup.on_demand),
        (BackupType::Full, false)
    );
    assert!(backup.expires_at.is_some());
}

/// No prefix and a short name: the tests' S3 server makes one file name of the whole key.
fn bucket(s3: &S3, key: &str) -> Backups {
    let storage = Storage::open(Settings {
        address: "s3://bkt".to_owned(),
        options: s3.options(),
        keys: Some(Keys::parse(key).unwrap()),
    });
    Backups::new(storage.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_bucket_gives_back_what_it_was_given() {
    let (mut app, ann) = start().await;
    let s3 = S3::start("bkt").await;
    let (old, new) = ("1a".repeat(32), "2b".repeat(32));
    app.use_backups(bucket(&s3, &old));
    let gone = fresh_row();
    let mut device = Pusher::new(&app, &ann);
    device
        .push(vec![decision(gone, "a title that nobody reads", 0)])
        .await;
    let before = contents(&app, &ann).await;
    let taken: BackupMetadata = back_up(&app, &ann, "full").await;
    assert!(
        taken.path.starts_with("s3://bkt/tenants/"),
        "{}",
        taken.path
    );
    let stored = s3.folder().join(taken.path.strip_prefix("s3://").unwrap());
    let bytes = std::fs::read(&stored).unwrap();
    assert!(bytes.starts_with(b"coditect-sealed1"));
    device.push(vec![decision(gone, "changed", 10)]).await;
    let changed = contents(&app, &ann).await;
    let request = json!({ "backup_id": taken.id, "mode": "replace" });

    app.use_backups(bucket(&s3, &new));
    let refused = restore(&app, &ann, &request).await;
    refused.problem(ErrorCode::Unavailable);
    app.use_backups(bucket(&s3, &format!("{new}\n{old}")));
    for at in [20, 60, bytes.len() - 1] {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        std::fs::write(&stored, bad).unwrap();
        let refused = restore(&app, &ann, &request).await;
        assert!(refused.status >= 400, "{}", refused.text());
        assert_eq!(contents(&app, &ann).await, changed);
    }
    std::fs::write(&stored, bytes).unwrap();
    let done: RestoreReply = restore(&app, &ann, &request).await.ok();
    assert_eq!((done.restored, done.removed), (1, 0));
    assert_eq!(contents(&app, &ann).await, before);
    assert_eq!(own_scope(&ann).id(), ann.user_id.get());
}
