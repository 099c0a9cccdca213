//! The schema, as an append-only list of migrations, and the runner that applies them.
//!
//! Each statement is sent as a message of its own, because a distributed database refuses a file
//! of them; each migration is one transaction. A merged migration is never edited.

mod m20261120_000001_identity;
mod m20261120_000002_sync_state;
mod m20261120_000003_synced_tables;
mod m20261120_000004_digest_counts;
mod m20261120_000005_device_guard;
mod m20261120_000006_roles;
mod m20261120_000007_descent;
mod m20261120_000008_joined;
mod m20261120_000009_member_of;
mod m20261120_000010_moves;
mod m20261120_000011_plans;
mod m20261120_000012_bodies;
mod m20261120_000013_backups;
mod m20261120_000014_scrub;
mod m20261120_000015_backup_schedule;
mod m20261120_000017_audit_chain;
mod m20261120_000018_backup_trials;
mod m20261120_000019_erasures;
mod m20261120_000020_history_retention;
mod m20261120_000021_restores;
mod synced;
mod template;

use coditect_core::hex::hex;
use sha2::{Digest as _, Sha256};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::StoreError;
use crate::roles;
pub use synced::{INDEXED_TEXT_BYTES_MAX, sql_for, sql_type};

/// One statement of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Runs always.
    Sql(String),
    /// Runs only where the server was built with lz4; a faster way to store text, no more.
    WithLz4(String),
}

/// A numbered change of the schema.
#[derive(Debug, Clone)]
pub(crate) struct Migration {
    /// Date and number, such as `20261120000001`; applied in this order.
    pub(crate) version: i64,
    /// What it is about, for people.
    pub(crate) name: &'static str,
    /// Its statements in order.
    pub(crate) steps: Vec<Step>,
}

impl Migration {
    /// Returns the SHA-256 over all statements.
    fn hash(&self) -> Vec<u8> {
        let mut hasher = Sha256::new();
        for step in &self.steps {
            let (kind, sql) = match step {
                Step::Sql(sql) => (b's', sql),
                Step::WithLz4(sql) => (b'l', sql),
            };
            hasher.update([kind]);
            hasher.update(sql.as_bytes());
            hasher.update([0]);
        }
        hasher.finalize().to_vec()
    }
}

/// Returns all migrations, oldest first.
pub(crate) fn all() -> Vec<Migration> {
    vec![
        m20261120_000001_identity::migration(),
        m20261120_000002_sync_state::migration(),
        m20261120_000003_synced_tables::migration(),
        m20261120_000004_digest_counts::migration(),
        m20261120_000005_device_guard::migration(),
        m20261120_000006_roles::migration(),
        m20261120_000007_descent::migration(),
        m20261120_000008_joined::migration(),
        m20261120_000009_member_of::migration(),
        m20261120_000010_moves::migration(),
        m20261120_000011_plans::migration(),
        m20261120_000012_bodies::migration(),
        m20261120_000013_backups::migration(),
        m20261120_000014_scrub::migration(),
        m20261120_000015_backup_schedule::migration(),
        m20261120_000017_audit_chain::migration(),
        m20261120_000018_backup_trials::migration(),
        m20261120_000019_erasures::migration(),
        m20261120_000020_history_retention::migration(),
        m20261120_000021_restores::migration(),
    ]
}

/// Returns a name for the state after all migrations: 16 hexadecimal digits that change with
/// every statement.
#[must_use]
pub fn fingerprint() -> String {
    let mut hasher = Sha256::new();
    for migration in all() {
        hasher.update(migration.hash());
    }
    hex(&hasher.finalize()[..8])
}

const CREATE_LIST: &str = "create table if not exists schema_migrations (
    version bigint not null constraint schema_migrations_pkey primary key,
    name text not null,
    hash bytea not null,
    applied_at timestamptz not null default now()
)";
const GRANT_LIST: &str = "grant select on schema_migrations to coditect_app, coditect_system";
const LOCK: &str = "select pg_advisory_xact_lock(7310882)";
const APPLIED: &str = "select version, hash from schema_migrations order by version";
const RECORD: &str = "insert into schema_migrations (version, name, hash) values ($1, $2, $3)";
const HAS_LZ4: &str = "select coalesce((select 'lz4' = any (enumvals) from pg_settings
    where name = 'default_toast_compression'), false)";

/// Makes missing roles, applies the missing migrations and returns their versions.
///
/// `owner_url` is the connection string of the owner or of a role that may act as it.
///
/// # Errors
///
/// [`StoreError::UnknownMigration`] when the database is newer than this program,
/// [`StoreError::ChangedMigration`] when it was made by an edited one, [`StoreError::Roles`].
pub async fn migrate(owner_url: &str) -> Result<Vec<i64>, StoreError> {
    let client = roles::connect(owner_url).await?;
    roles::ensure(&client).await?;
    in_transaction(&client, async {
        client.simple_query(CREATE_LIST).await?;
        client.simple_query(GRANT_LIST).await?;
        Ok(())
    })
    .await?;
    let mut done = Vec::new();
    for migration in all() {
        if in_transaction(&client, apply(&client, &migration)).await? {
            tracing::info!(
                version = migration.version,
                name = migration.name,
                "migrated"
            );
            done.push(migration.version);
        }
    }
    check_applied(&client).await?;
    Ok(done)
}

/// Checks that the database has exactly the migrations of this program.
///
/// # Errors
///
/// [`StoreError::UnknownMigration`], [`StoreError::ChangedMigration`] or
/// [`StoreError::MissingMigration`].
pub(crate) async fn check_applied(client: &Client) -> Result<(), StoreError> {
    let known = all();
    let applied = applied(client).await?;
    check_known(&known, &applied)?;
    match known.iter().find(|wanted| {
        !applied
            .iter()
            .any(|(version, _)| *version == wanted.version)
    }) {
        Some(missing) => Err(StoreError::MissingMigration {
            version: missing.version,
        }),
        None => Ok(()),
    }
}

fn check_known(known: &[Migration], applied: &[(i64, Vec<u8>)]) -> Result<(), StoreError> {
    for (version, hash) in applied {
        match known.iter().find(|migration| migration.version == *version) {
            None => return Err(StoreError::UnknownMigration { version: *version }),
            Some(migration) if migration.hash() != *hash => {
                return Err(StoreError::ChangedMigration { version: *version });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Applies `migration` unless it is there already; returns whether it did.
async fn apply(client: &Client, migration: &Migration) -> Result<bool, StoreError> {
    client.simple_query(LOCK).await?;
    let applied = applied(client).await?;
    check_known(&all(), &applied)?;
    if applied
        .iter()
        .any(|(version, _)| *version == migration.version)
    {
        return Ok(false);
    }
    let has_lz4: bool = client.query_typed_one(HAS_LZ4, &[]).await?.try_get(0)?;
    for step in &migration.steps {
        match step {
            Step::Sql(sql) => run(client, sql).await?,
            Step::WithLz4(sql) if has_lz4 => run(client, sql).await?,
            Step::WithLz4(_) => {}
        }
    }
    let (version, name, hash) = (migration.version, migration.name, migration.hash());
    let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] = [
        (&version, Type::INT8),
        (&name, Type::TEXT),
        (&hash, Type::BYTEA),
    ];
    client.execute_typed(RECORD, &values).await?;
    Ok(true)
}

async fn run(client: &Client, sql: &str) -> Result<(), StoreError> {
    client
        .simple_query(sql)
        .await
        .map(drop)
        .inspect_err(|error| {
            let first_line = sql.lines().next().unwrap_or_default();
            tracing::error!(%error, statement = first_line, "migration failed");
        })?;
    Ok(())
}

/// Returns versions and hashes of what was applied; nothing in a database that is not ours yet.
async fn applied(client: &Client) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
    let rows = match client.query_typed(APPLIED, &[]).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(Vec::new()),
        rows => rows?,
    };
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// Runs `work` in a transaction of the owner's role; rolls back when it fails.
async fn in_transaction<T>(
    client: &Client,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    client.simple_query("begin").await?;
    client.simple_query("set local role coditect_owner").await?;
    match work.await {
        Ok(value) => {
            client.simple_query("commit").await?;
            Ok(value)
        }
        Err(error) => {
            client.simple_query("rollback").await?;
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A merged migration is never edited: what differs needs a new one.
    const FROZEN: [(i64, &str); 20] = [
        (20_261_120_000_001, "5217ae0fc134f326"),
        (20_261_120_000_002, "0d766bc94b7ead46"),
        (20_261_120_000_003, "362049d31a7ebb05"),
        (20_261_120_000_004, "5a95c093c93a7621"),
        (20_261_120_000_005, "b388720be1ff409b"),
        (20_261_120_000_006, "5323435e8c40e219"),
        (20_261_120_000_007, "05de84c4c300ed68"),
        (20_261_120_000_008, "b6965bb5ea5986c6"),
        (20_261_120_000_009, "a61c54dedb994d7f"),
        (20_261_120_000_010, "7e146656930c5a25"),
        (20_261_120_000_011, "217c81ef58c304e0"),
        (20_261_120_000_012, "cd7960bf9e949d07"),
        (20_261_120_000_013, "be0e2e42d82b98fa"),
        (20_261_120_000_014, "c1ccef69416cd765"),
        (20_261_120_000_015, "070730ceeeaefa23"),
        (20_261_120_000_017, "3c4839cb90d2d213"),
        (20_261_120_000_018, "d10bbe0ba0798a21"),
        (20_261_120_000_019, "9f0984a97f2b7d7d"),
        (20_261_120_000_020, "ee7540b527cef722"),
        (20_261_120_000_021, "4bcd5968425613c8"),
    ];

    #[test]
    fn migrations_are_in_order_and_unchanged() {
        let all = all();
        assert!(all.is_sorted_by(|left, right| left.version < right.version));
        let found: Vec<(i64, String)> = all
            .iter()
            .map(|migration| (migration.version, hex(&migration.hash()[..8])))
            .collect();
        for (version, hash) in FROZEN {
            let found = found.iter().find(|(found, _)| *found == version);
            let found = found.map(|(_, hash)| hash.as_str());
            assert_eq!(
                found,
                Some(hash),
                "{version}: write a new migration instead"
            );
        }
    }
}
