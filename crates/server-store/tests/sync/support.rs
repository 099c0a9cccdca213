//! A device that pushes and pulls, and rows to push.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coditect_core::{canonical, clock, digest, hash};
use coditect_protocol::catalogue::{
    ColumnType, File, Identity, Merge, TABLES, Table, by_cloud_name,
};
use coditect_protocol::wire::pull::{Page, Position, PullReply, PullRequest};
use coditect_protocol::wire::push::{Change, CounterPart, Outcome, PushReply, PushRequest, Status};
use coditect_protocol::wire::{Op, Row, Stored};
use coditect_protocol::{API_VERSION, BatchId, Cursor, DeviceId, RowId, Scope, Version};
use coditect_server_store::sync::{self, PageCache, PushContext, PushQueue, SyncError, TokenKey};
use coditect_server_store::{Caller, Db};
use coditect_testkit::{TestDb, TestUser};
use serde_json::{Value, json};
use uuid::Uuid;

/// The server's time in all tests, and the time of edits made a minute before.
pub(crate) const NOW_MS: i64 = 1_767_225_600_000;
pub(crate) const EDIT_MS: i64 = NOW_MS - 60_000;
pub(crate) const EDITED_AT: &str = "2025-12-31T23:59:00.000000Z";

/// Returns the entry of a table.
pub(crate) fn table(name: &str) -> &'static Table {
    by_cloud_name(name).unwrap()
}

/// Returns all tables that a device may push to.
pub(crate) fn pushed_tables() -> impl Iterator<Item = &'static Table> {
    use coditect_protocol::catalogue::Direction;
    TABLES
        .iter()
        .copied()
        .filter(|table| table.direction != Direction::Down)
}

/// Returns a row with every column filled and no two alike; `seed` changes all of them.
pub(crate) fn full_row(table: &Table, seed: i64) -> Row {
    let mut row = Row::new();
    for (position, column) in table.columns.iter().enumerate() {
        let number = seed * 100 + position as i64 + 1;
        let value = match column.ty {
            ColumnType::Text => json!(format!("{} {number} é ∑ 'q' \"d\" \\ \n", column.name)),
            ColumnType::Integer => json!(number),
            ColumnType::Real => json!(number as f64 + 0.1),
            ColumnType::Boolean => json!((number + seed) % 2 == 0),
            ColumnType::Timestamp => json!(canonical::time_from_ms(EDIT_MS + number)),
            ColumnType::Json => json!({"n": number, "list": [1, null, true, 0.5, 1e300, "x"]}),
            ColumnType::Blob => json!("AAEC"),
        };
        row.insert(column.name.to_owned(), value);
    }
    canonical::row(table, row)
}

/// Returns the row of a JSON object, in canonical form.
pub(crate) fn row(name: &str, value: Value) -> Row {
    canonical::row(table(name), value.as_object().unwrap().clone())
}

/// Returns a change that brings a new row.
pub(crate) fn insert(table: &'static Table, row: Row, device: DeviceId) -> Change {
    let id = hash::derived_id(table, &row, device).unwrap();
    let id = id.unwrap_or_else(|| {
        let bytes = hash::content(table, &row).0;
        RowId::new(hash::random_id(
            EDIT_MS as u64,
            bytes[..10].try_into().unwrap(),
        ))
    });
    let counters = table
        .columns_by(Merge::Counter)
        .filter_map(|column| {
            let total = row.get(column.name)?.as_i64()?;
            Some((column.name.to_owned(), CounterPart { seq: 1, total }))
        })
        .collect();
    Change {
        table: table.cloud.to_owned(),
        id,
        op: Op::Upsert,
        base: None,
        follows: None,
        base_hash: None,
        proposed: clock::propose(EDIT_MS, 0),
        register: true,
        hash: hash::content(table, &row).to_string(),
        created_at: EDITED_AT.to_owned(),
        updated_at: EDITED_AT.to_owned(),
        row: Some(row),
        counters,
    }
}

/// Returns a change of a stored row to other columns, made at `at_ms` on the version `base`.
pub(crate) fn update(stored: &Stored, row: Row, base: Option<Version>, at_ms: i64) -> Change {
    let table = table(&stored.table);
    Change {
        table: stored.table.clone(),
        id: stored.id,
        op: Op::Upsert,
        base,
        follows: None,
        base_hash: None,
        proposed: clock::propose(at_ms, 0),
        register: true,
        hash: hash::content(table, &row).to_string(),
        created_at: stored.created_at.clone(),
        updated_at: canonical::time_from_ms(at_ms),
        row: Some(row),
        counters: BTreeMap::new(),
    }
}

/// Returns a delete of a stored row.
pub(crate) fn delete(stored: &Stored, base: Option<Version>, at_ms: i64) -> Change {
    Change {
        op: Op::Delete,
        hash: stored.hash.clone(),
        row: None,
        ..update(stored, Row::new(), base, at_ms)
    }
}

/// A device with its tokens and cursors.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) db: Db,
    pub(crate) caller: Caller,
    pub(crate) device: DeviceId,
    pub(crate) now_ms: i64,
    pub(crate) tokens: HashMap<File, String>,
    pub(crate) cursors: HashMap<(Scope, File), Cursor>,
    pub(crate) queue: PushQueue,
    secret: [u8; 32],
}

impl Peer {
    pub(crate) fn new(db: &TestDb, user: &TestUser) -> Self {
        Self::on(db, &user.caller)
    }

    pub(crate) fn on(db: &TestDb, caller: &Caller) -> Self {
        let key = TokenKey::new(db.secrets().file_token_key());
        Self {
            queue: PushQueue::new(db.db().clone(), Arc::new(key)),
            db: db.db().clone(),
            caller: caller.clone(),
            device: caller.device_id(),
            now_ms: NOW_MS,
            tokens: HashMap::new(),
            cursors: HashMap::new(),
            secret: *db.secrets().file_token_key(),
        }
    }

    /// Returns the scope of the person.
    pub(crate) fn own(&self) -> Scope {
        Scope::User(self.caller.user_id().get())
    }

    /// Returns the scope of the organisation.
    pub(crate) fn org(&self) -> Scope {
        Scope::Org(self.caller.tenant().get())
    }

    pub(crate) fn request(&self, scope: Scope, file: File, changes: Vec<Change>) -> PushRequest {
        PushRequest {
            api_version: API_VERSION.to_owned(),
            device: self.device,
            batch_id: BatchId::new(fresh_uuid()),
            sent_at_ms: self.now_ms,
            file,
            scope,
            epoch: None,
            token: self.tokens.get(&file).cloned(),
            changes,
        }
    }

    /// Sends a request and keeps no token.
    pub(crate) async fn send(&self, request: &PushRequest) -> Result<PushReply, SyncError> {
        let queue = &self.queue;
        queue.push(&self.caller, request.clone(), self.now_ms).await
    }

    /// Sends a request in a transaction of its own, past the queue, and keeps no token.
    pub(crate) async fn send_alone(&self, request: &PushRequest) -> Result<PushReply, SyncError> {
        let key = TokenKey::new(&self.secret);
        let context = &PushContext::new(self.now_ms, &key);
        self.db
            .tenant("sync.push", &self.caller, |mut tx| async move {
                sync::push(&mut tx, request, context).await
            })
            .await
    }

    /// Pushes changes of one file and keeps the token.
    pub(crate) async fn push(&mut self, scope: Scope, changes: Vec<Change>) -> Vec<Outcome> {
        let file = table(&changes[0].table).file;
        let request = self.request(scope, file, changes);
        let reply = self.send(&request).await.unwrap();
        self.tokens.insert(file, reply.token);
        reply.outcomes
    }

    /// Pushes one change and returns its outcome.
    pub(crate) async fn push_one(&mut self, scope: Scope, change: Change) -> Outcome {
        self.push(scope, vec![change]).await.remove(0)
    }

    /// Pushes a new row, which must be applied, and returns it as stored.
    pub(crate) async fn add(&mut self, scope: Scope, name: &str, value: Value) -> Stored {
        let change = insert(table(name), row(name, value), self.device);
        let outcome = self.push_one(scope, change).await;
        assert_eq!(outcome.status, Status::Applied, "{:?}", outcome.reason);
        outcome.stored.unwrap()
    }

    pub(crate) async fn ask(&self, request: &PullRequest) -> Result<PullReply, SyncError> {
        self.db
            .tenant_snapshot("sync.pull", &self.caller, |mut tx| async move {
                let (key, cache) = (TokenKey::new(&self.secret), PageCache::default());
                let pulled = sync::pull(&mut tx, request, &key, &cache).await?;
                Ok(pulled.into_reply().unwrap())
            })
            .await
    }

    pub(crate) fn pull_request(&self, positions: Vec<Position>) -> PullRequest {
        PullRequest {
            api_version: API_VERSION.to_owned(),
            device: self.device,
            positions,
            table: None,
        }
    }

    /// Pulls one page and keeps the cursor.
    pub(crate) async fn page(&mut self, scope: Scope, file: File) -> Page {
        let cursor = self.cursors.get(&(scope, file)).copied();
        let request = self.pull_request(vec![Position {
            scope,
            file,
            cursor,
            token: None,
            descent: None,
        }]);
        let page = self.ask(&request).await.unwrap().pages.remove(0);
        self.cursors.insert((scope, file), page.cursor);
        page
    }

    /// Pulls to the head and returns all changes.
    pub(crate) async fn pull(&mut self, scope: Scope, file: File) -> Vec<Stored> {
        let mut changes = Vec::new();
        loop {
            let page = self.page(scope, file).await;
            changes.extend(page.changes);
            if page.at_head {
                return changes;
            }
        }
    }
}

/// Returns a UUID that no other call returns.
pub(crate) fn fresh_uuid() -> Uuid {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Uuid::from_u128(0xba7c_0000_u128 << 64 | u128::from(NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Checks that the kept digests are those of the rows in the tables, for every stream, table and
/// origin. Reads past row security and uses none of the store's code.
pub(crate) async fn assert_digests(db: &TestDb) {
    let (kept, expected) = digests(db).await;
    assert_eq!(kept, expected);
}

/// Digests by tenant, scope, table and origin.
pub(crate) type Digests = BTreeMap<(Uuid, Uuid, String, Uuid), digest::Digest>;

/// Returns the kept digests and those of the rows in the tables.
pub(crate) async fn digests(db: &TestDb) -> (Digests, Digests) {
    let client = db.superuser_client().await;
    let mut expected = Digests::new();
    for table in pushed_tables() {
        let sql = format!(
            "select tenant_id, scope_id, origin_device, id, version, device_id, content_hash,
             deleted_at is not null from {}",
            table.cloud
        );
        for row in client.query_typed(&sql, &[]).await.unwrap() {
            let content: Vec<u8> = row.get(6);
            let deleted: bool = row.get(7);
            let term = digest::term(
                table.cloud,
                RowId::new(row.get(3)),
                Version::from_i64(row.get(4)),
                DeviceId::new(row.get(5)),
                &hash::ContentHash(content.try_into().unwrap()),
                deleted,
            );
            let key = (row.get(0), row.get(1), table.cloud.to_owned(), row.get(2));
            expected.entry(key).or_default().add(term, deleted);
        }
    }
    let sql = "select tenant_id, scope_id, table_name, origin_device, rows, count, xor
        from stream_digests";
    let mut kept = BTreeMap::new();
    for row in client.query_typed(sql, &[]).await.unwrap() {
        let digest = digest::Digest {
            rows: row.get(4),
            count: row.get(5),
            xor: row.get::<_, i64>(6).cast_unsigned(),
        };
        kept.insert((row.get(0), row.get(1), row.get(2), row.get(3)), digest);
    }
    (kept, expected)
}

/// Returns how many rows of the superuser's view meet a condition.
pub(crate) async fn count(db: &TestDb, from: &str) -> i64 {
    let client = db.superuser_client().await;
    let sql = format!("select count(*) from {from}");
    client.query_typed_one(&sql, &[]).await.unwrap().get(0)
}

/// Returns whether the id of the table's rows has the device in it.
pub(crate) const fn per_device(table: &Table) -> bool {
    matches!(table.identity, Identity::DerivedPerDevice(_))
}
