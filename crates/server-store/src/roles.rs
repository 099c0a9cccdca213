//! The three database roles: owner (migrations), app (bound by row security), system (not bound).
//!
//! Roles belong to the whole cluster, not to a database, so no migration makes them.

use tokio_postgres::{Client, NoTls};

use crate::StoreError;
use crate::db::encryption::{self, Target};

/// Owns schema and tables; used for migrations only. No superuser.
pub const OWNER: &str = "coditect_owner";
/// Serves requests: owns nothing, is bound by row security.
pub const APP: &str = "coditect_app";
/// Runs the listed system tasks: owns nothing, passes row security.
pub const SYSTEM: &str = "coditect_system";
/// Name of the database on an embedded server.
pub const DATABASE: &str = "coditect";

const SETUP_LOCK: &str = "select pg_advisory_lock(7310881)";
const SETUP_UNLOCK: &str = "select pg_advisory_unlock(7310881)";

/// Makes the roles that are missing and lets them into the connected database.
///
/// Runs under an advisory lock, so that several programs may do it at once.
///
/// # Errors
///
/// [`StoreError::Roles`] when the connection's user may not make a missing role.
pub async fn ensure(client: &Client) -> Result<(), StoreError> {
    client.simple_query(SETUP_LOCK).await?;
    let outcome = ensure_locked(client).await;
    client.simple_query(SETUP_UNLOCK).await?;
    outcome
}

async fn ensure_locked(client: &Client) -> Result<(), StoreError> {
    const WANTED: [(&str, &str); 3] = [
        (OWNER, "login nosuperuser nobypassrls"),
        (APP, "login nosuperuser nobypassrls nocreatedb nocreaterole"),
        (
            SYSTEM,
            "login nosuperuser bypassrls nocreatedb nocreaterole",
        ),
    ];
    let is_owner = is_true(client, &format!("current_user = '{OWNER}'")).await?;
    for (role, attributes) in WANTED {
        if !role_exists(client, role).await? {
            run(client, &format!("create role {role} {attributes}")).await?;
        }
        // The owner itself never acts as the others; any other login does, by SET LOCAL ROLE.
        if !is_owner && !may_act_as(client, role).await? {
            run(client, &format!("grant {role} to current_user")).await?;
        }
    }
    let owner_may_create = "has_schema_privilege('coditect_owner', 'public', 'create')";
    if !is_true(client, owner_may_create).await? {
        run(client, &format!("grant create on schema public to {OWNER}")).await?;
    }
    for role in [OWNER, APP, SYSTEM] {
        let may_use = format!("has_schema_privilege('{role}', 'public', 'usage')");
        if !is_true(client, &may_use).await? {
            run(client, &format!("grant usage on schema public to {role}")).await?;
        }
    }
    Ok(())
}

/// Makes roles and the database on a server of our own, given its superuser's connection string
/// for the database `postgres`.
///
/// # Errors
///
/// Whatever the server reports.
pub async fn ensure_database(superuser_url: &str, database: &str) -> Result<(), StoreError> {
    let client = connect(superuser_url).await?;
    client.simple_query(SETUP_LOCK).await?;
    let outcome = async {
        ensure_locked(&client).await?;
        let exists = format!("exists (select from pg_database where datname = '{database}')");
        if !is_true(&client, &exists).await? {
            client
                .batch_execute(&format!("create database {database} owner {OWNER}"))
                .await?;
        }
        Ok(())
    }
    .await;
    client.simple_query(SETUP_UNLOCK).await?;
    outcome
}

/// Opens a connection of its own; the connection's task ends with the client.
pub(crate) async fn connect(url: &str) -> Result<Client, StoreError> {
    let Target { config, tls } = encryption::read(url)?;
    match tls {
        Some(tls) => {
            let (client, connection) = config.connect(tls).await?;
            tokio::spawn(attend(connection));
            Ok(client)
        }
        None => {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(attend(connection));
            Ok(client)
        }
    }
}

/// Moves a connection's bytes until its client is gone.
async fn attend(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "database connection ended");
    }
}

async fn role_exists(client: &Client, role: &str) -> Result<bool, StoreError> {
    is_true(
        client,
        &format!("exists (select from pg_roles where rolname = '{role}')"),
    )
    .await
}

async fn may_act_as(client: &Client, role: &str) -> Result<bool, StoreError> {
    is_true(
        client,
        &format!("pg_has_role(current_user, '{role}', 'member')"),
    )
    .await
}

async fn is_true(client: &Client, condition: &str) -> Result<bool, StoreError> {
    let row = client
        .query_typed_one(&format!("select {condition}"), &[])
        .await?;
    Ok(row.try_get(0)?)
}

async fn run(client: &Client, statement: &str) -> Result<(), StoreError> {
    client
        .batch_execute(statement)
        .await
        .map_err(|error| StoreError::Roles {
            statement: statement.to_owned(),
            source: Box::new(error.into()),
        })
}
