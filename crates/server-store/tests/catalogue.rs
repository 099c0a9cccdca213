//! What the migrated database is like: guarded, distributable, and as the catalogue says.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

use std::collections::{BTreeMap, BTreeSet};

use coditect_protocol::catalogue::{Direction, File, TABLES, Table};
use coditect_server_store::migrations::sql_type;
use coditect_testkit::TestDb;
use tokio_postgres::Client;

/// All tables without a tenant. A new one needs a reason: what has a tenant belongs to it.
const GLOBAL: [&str; 11] = [
    "cluster",
    "logins",
    "platform_capabilities",
    "platform_components",
    "platform_digests",
    "platform_relationships",
    "platform_stream",
    "platform_triggers",
    "plans",
    "schema_migrations",
    "tenant_logins",
];

const TENANT: &str =
    "(tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid)";
/// Conditions besides the tenant, as PostgreSQL prints them; `LIST` stands for a setting's array.
const READ: &str = "(scope_id = ANY (LIST(app.scopes)))";
const TALK: &str = "(scope_id = ANY (LIST(app.message_scopes)))";
const WRITE: &str = "(scope_id = ANY (LIST(app.write_scopes)))";

/// Returns a condition without the tenant's part, and with settings in short; none for one that
/// looks at the tenant alone.
fn short(condition: &str) -> Option<String> {
    if condition == TENANT {
        return None;
    }
    let rest = condition.strip_prefix(&format!("({TENANT} AND "));
    let rest = rest.and_then(|rest| rest.strip_suffix(')'));
    let mut rest = rest
        .unwrap_or_else(|| panic!("not joined to the tenant: {condition}"))
        .to_owned();
    for (kind, name) in [("uuid[]", "LIST"), ("text[]", "LIST"), ("uuid", "ID")] {
        for setting in SETTINGS {
            let long =
                format!("(NULLIF(current_setting('{setting}'::text, true), ''::text))::{kind}");
            // `uuid` is also the beginning of `uuid[]`.
            rest = rest.replace(&format!("{long} "), &format!("{name}({setting}) "));
            rest = rest.replace(&format!("{long})"), &format!("{name}({setting}))"));
            rest = rest.replace(&format!("{long},"), &format!("{name}({setting}),"));
        }
    }
    Some(rest.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What `enter` sets.
const SETTINGS: [&str; 7] = [
    "app.current_tenant",
    "app.uid",
    "app.scopes",
    "app.message_scopes",
    "app.write_scopes",
    "app.admin_scopes",
    "app.permissions",
];

async fn names(client: &Client, query: &str) -> BTreeSet<String> {
    client
        .query_typed(query, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

async fn tables(client: &Client) -> BTreeSet<String> {
    names(
        client,
        "select relname::text from pg_class
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'f', 'm', 'v')",
    )
    .await
}

fn tenant_tables(all: &BTreeSet<String>) -> Vec<&String> {
    all.iter()
        .filter(|name| !GLOBAL.contains(&name.as_str()))
        .collect()
}

#[tokio::test]
async fn every_table_is_guarded_or_on_the_global_list() {
    let test = TestDb::new().await;
    let client = test.superuser_client().await;
    let all = tables(&client).await;
    let guarded = names(
        &client,
        "select relname::text from pg_class
         where relnamespace = 'public'::regnamespace and relrowsecurity and relforcerowsecurity
            and relkind = 'r' and relpersistence = 'p'",
    )
    .await;
    for name in &all {
        let global = GLOBAL.contains(&name.as_str());
        assert_ne!(global, guarded.contains(name), "{name}: global {global}");
    }
    for name in GLOBAL {
        assert!(all.contains(name), "{name} is on the list but not there");
    }
}

#[tokio::test]
async fn tenant_tables_have_one_permissive_policy_per_command() {
    let test = TestDb::new().await;
    let client = test.superuser_client().await;
    let rows = client
        .query_typed(
            "select tablename::text, cmd, permissive, roles::text[], qual, with_check
             from pg_policies order by tablename, cmd",
            &[],
        )
        .await
        .unwrap();
    let scoped = scoped_tables();
    let mut commands: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &rows {
        let (table, command): (String, String) = (row.get(0), row.get(1));
        assert_eq!(row.get::<_, &str>(2), "PERMISSIVE", "{table} {command}");
        assert_eq!(
            row.get::<_, Vec<String>>(3),
            ["coditect_app"],
            "{table} {command}"
        );
        let (using, check): (Option<String>, Option<String>) = (row.get(4), row.get(5));
        assert_eq!(using.is_some(), command != "INSERT", "{table} {command}");
        assert_eq!(
            check.is_some(),
            ["INSERT", "UPDATE"].contains(&command.as_str()),
            "{table}"
        );
        for condition in [using, check].into_iter().flatten() {
            for word in [" OR ", "SELECT", "EXISTS"] {
                assert!(!condition.contains(word), "{table} {command}: {condition}");
            }
            let known = condition.matches("current_setting").count();
            let ours = SETTINGS.iter().map(|name| {
                let call = format!("current_setting('{name}'::text, true)");
                condition.matches(&call).count()
            });
            assert_eq!(known, ours.sum::<usize>(), "{table} {command}: {condition}");
            let short = short(&condition);
            if scoped.contains(&table) {
                let expected: &[&str] = match command.as_str() {
                    "SELECT" => &[READ, TALK],
                    _ => &[WRITE],
                };
                let found = short.as_deref().unwrap_or("the tenant alone");
                assert!(expected.contains(&found), "{table} {command}: {found}");
            }
        }
        commands.entry(table).or_default().push(command);
    }
    let all = tables(&client).await;
    for table in tenant_tables(&all) {
        assert_eq!(
            commands[table],
            ["DELETE", "INSERT", "SELECT", "UPDATE"],
            "{table}"
        );
    }
    assert_eq!(commands.len(), tenant_tables(&all).len());
}

#[tokio::test]
async fn tables_with_rows_of_people_look_at_the_scope_too() {
    let test = TestDb::new().await;
    let client = test.superuser_client().await;
    let scoped = names(
        &client,
        "select distinct tablename::text from pg_policies
         where qual ~ 'scope_id = ANY .*app.(message_)?scopes'",
    )
    .await;
    assert_eq!(scoped, scoped_tables());
    let talks = names(
        &client,
        "select distinct tablename::text from pg_policies where qual like '%app.message_scopes%'",
    )
    .await;
    let conversations = TABLES
        .iter()
        .filter(|table| table.file == File::Sessions && table.cloud != "context_checkpoints")
        .map(|table| table.cloud)
        .chain(["record_history", "sync_conflicts"])
        .chain(["bodies", "body_links", "row_moves"]);
    assert_eq!(talks, conversations.map(str::to_owned).collect());
}

/// Returns the tables whose rows belong to a scope.
fn scoped_tables() -> BTreeSet<String> {
    let synced = TABLES
        .iter()
        .filter(|table| table.direction != Direction::Down);
    let others = [
        "bodies",
        "body_links",
        "row_moves",
        "scrub_findings",
        "streams",
        "stream_digests",
        "counter_parts",
        "record_history",
        "sync_conflicts",
        "history_floors",
    ];
    synced
        .map(|table| table.cloud)
        .chain(others)
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn keys_begin_with_the_tenant() {
    let test = TestDb::new().await;
    let client = test.superuser_client().await;
    let all = tables(&client).await;
    let rows = client
        .query_typed(
            "select c.relname::text, i.indexrelid::regclass::text, a.attname::text,
                a.atttypid::regtype::text, a.attnotnull
             from pg_index i join pg_class c on c.oid = i.indrelid
             left join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
             where c.relnamespace = 'public'::regnamespace and i.indisunique",
            &[],
        )
        .await
        .unwrap();
    let mut keyed = BTreeSet::new();
    for row in &rows {
        let table: String = row.get(0);
        if GLOBAL.contains(&table.as_str()) {
            continue;
        }
        let index: String = row.get(1);
        assert_eq!(row.get::<_, Option<&str>>(2), Some("tenant_id"), "{index}");
        assert_eq!(row.get::<_, Option<&str>>(3), Some("uuid"), "{index}");
        assert_eq!(row.get::<_, Option<bool>>(4), Some(true), "{index}");
        keyed.insert(table);
    }
    assert_eq!(keyed.iter().collect::<Vec<_>>(), tenant_tables(&all));
}

#[tokio::test]
async fn foreign_keys_stay_in_the_tenant() {
    let test = TestDb::new().await;
    let client = test.superuser_client().await;
    let rows = client
        .query_typed(
            "select k.conname::text, c.relname::text, f.relname::text, a.attname::text,
                b.attname::text, k.confdeltype::text
             from pg_constraint k
             join pg_class c on c.oid = k.conrelid join pg_class f on f.oid = k.confrelid
             join pg_attribute a on a.attrelid = c.oid and a.attnum = k.conkey[1]
             join pg_attribute b on b.attrelid = f.oid and b.attnum = k.confkey[1]
             where k.contype = 'f'",
            &[],
        )
        .await
        .unwrap();
    assert!(!rows.is_empty());
    let synced: Vec<&str> = TABLES.iter().map(|table| table.cloud).collect();
    for row in &rows {
        let [name, from, to, column, target, on_delete] =
            [0, 1, 2, 3, 4, 5].map(|index| row.get::<_, &str>(index));
        assert!(!["n", "d"].contains(&on_delete), "{name}");
        assert!(!synced.contains(&from) && !synced.contains(&to), "{name}");
        if GLOBAL.contains(&from) {
            assert!(
                GLOBAL.contains(&to),
                "{name}: a global table points into a tenant"
            );
        } else {
            assert_eq!((column, target), ("tenant_id", "tenant_id"), "{name}");
        }
    }
}

#[tokio::test]
async fn nothing_is_there_that_a_distributed_database_refuses() {
    let test = TestDb::new().await;
    let client = test.superuser_client().await;
    let checks = [
        (
            "sequences",
            "select relname::text from pg_class where relkind = 'S'",
        ),
        (
            "identity columns",
            "select attname::text from pg_attribute where attidentity <> ''",
        ),
        (
            "triggers",
            "select tgname::text from pg_trigger where not tgisinternal",
        ),
        (
            "functions that use set_config or pass row security",
            "select proname::text from pg_proc where pronamespace = 'public'::regnamespace
                and (prosrc ilike '%set_config%' or prosecdef or proconfig is null)",
        ),
        (
            "tables of another owner",
            "select relname::text from pg_class where relnamespace = 'public'::regnamespace
                and relowner <> 'coditect_owner'::regrole",
        ),
    ];
    for (what, query) in checks {
        assert_eq!(names(&client, query).await, BTreeSet::new(), "{what}");
    }
}

#[tokio::test]
async fn grants_of_the_app_role_are_the_expected_ones() {
    let test = TestDb::new().await;
    let client = test.superuser_client().await;
    let granted = |what: &'static str| {
        format!(
            "select relname::text from pg_class
             where relnamespace = 'public'::regnamespace and relkind = 'r'
                and has_any_column_privilege('coditect_app', oid, '{what}')"
        )
    };
    let hidden = [
        "logins",
        "tenant_logins",
        "refresh_tokens",
        "request_rates",
        "scrub_rounds",
        "history_retention",
        "audit_blocks",
        "erased_logins",
    ];
    let readable = names(&client, &granted("select")).await;
    for table in tables(&client).await {
        assert_eq!(
            readable.contains(&table),
            !hidden.contains(&table.as_str()),
            "{table}"
        );
    }
    let mut synced: BTreeSet<String> = TABLES
        .iter()
        .filter(|table| table.direction != Direction::Down)
        .map(|table| table.cloud.to_owned())
        .collect();
    synced.extend(["streams", "stream_digests", "counter_parts"].map(str::to_owned));
    synced.extend(["device_tokens", "device_cursors"].map(str::to_owned));
    let mut updated = synced.clone();
    updated.extend(["bodies", "devices", "sync_conflicts", "memberships"].map(str::to_owned));
    updated.extend(["scopes", "scope_members", "project_teams", "invitations"].map(str::to_owned));
    updated.insert("context_restores".to_owned());
    assert_eq!(names(&client, &granted("update")).await, updated);
    synced.extend(["audit_log", "record_history", "sync_conflicts"].map(str::to_owned));
    synced.extend(["scopes", "scope_members", "project_teams", "invitations"].map(str::to_owned));
    synced.extend(["project_repositories", "context_backups"].map(str::to_owned));
    synced.insert("context_restores".to_owned());
    synced.extend(["bodies", "body_links", "row_moves"].map(str::to_owned));
    assert_eq!(names(&client, &granted("insert")).await, synced);
    let deletable = "select relname::text from pg_class
        where relnamespace = 'public'::regnamespace and relkind = 'r'
            and has_table_privilege('coditect_app', oid, 'delete, truncate, trigger, references')";
    assert_eq!(
        names(&client, deletable).await,
        BTreeSet::from(
            [
                "body_links",
                "counter_parts",
                "project_repositories",
                "project_teams",
                "scope_members"
            ]
            .map(str::to_owned)
        )
    );
    for table in ["licenses", "invitations"] {
        let secret = format!(
            "select has_column_privilege('coditect_app', '{table}', 'secret_hash', 'select')"
        );
        let row = client.query_typed_one(&secret, &[]).await.unwrap();
        assert!(!row.get::<_, bool>(0), "{table}");
    }
}

const COMMON: [(&str, &str, bool); 13] = [
    ("tenant_id", "uuid", true),
    ("scope_id", "uuid", true),
    ("id", "uuid", true),
    ("user_id", "uuid", true),
    ("device_id", "uuid", true),
    ("origin_device", "uuid", true),
    ("content_hash", "bytea", true),
    ("version", "bigint", true),
    ("cursor", "bigint", true),
    ("created_at", "timestamptz", false),
    ("updated_at", "timestamptz", false),
    ("deleted_at", "timestamptz", false),
    ("extra", "jsonb", false),
];
/// Common columns that the platform's tables have no use for.
const NOT_PLATFORM: [&str; 5] = [
    "tenant_id",
    "scope_id",
    "user_id",
    "device_id",
    "origin_device",
];

/// Returns (name, type, not null) of each column that `table` must have.
fn expected_columns(table: &Table) -> Vec<(String, String, bool)> {
    let down = table.direction == Direction::Down;
    let common = COMMON
        .iter()
        .filter(|(name, ..)| !(down && NOT_PLATFORM.contains(name)));
    let own = table
        .columns
        .iter()
        .map(|column| (column.name, sql_type(column.ty), false));
    common
        .copied()
        .chain(own)
        .chain([("term", "bigint", false)])
        .map(|(name, ty, required)| (name.to_owned(), ty.to_owned(), required))
        .collect()
}

#[tokio::test]
async fn synced_tables_are_as_the_catalogue_says() {
    let test = TestDb::new().await;
    let client = test.superuser_client().await;
    let query = "select a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull
        from pg_attribute a join pg_class c on c.oid = a.attrelid
        where c.relnamespace = 'public'::regnamespace and c.relname = $1::text::name
            and a.attnum > 0 and not a.attisdropped order by a.attnum";
    for table in TABLES {
        let name = table.cloud;
        let rows = client
            .query_typed(query, &[(&name, tokio_postgres::types::Type::TEXT)])
            .await;
        let found: Vec<(String, String, bool)> = rows
            .unwrap()
            .iter()
            .map(|row| {
                let ty: String = row.get(1);
                let ty = ty.replace("timestamp with time zone", "timestamptz");
                (row.get(0), ty, row.get(2))
            })
            .collect();
        // A column that came later stands behind the others.
        let sorted = |mut columns: Vec<(String, String, bool)>| {
            columns.sort();
            columns
        };
        assert_eq!(
            sorted(found),
            sorted(expected_columns(table)),
            "{name}: the catalogue needs a migration"
        );
    }
}

#[tokio::test]
async fn synced_tables_have_their_indexes_and_defaults() {
    let test = TestDb::new().await;
    let client = test.superuser_client().await;
    let definitions = names(
        &client,
        "select indexdef from pg_indexes where schemaname = 'public'",
    )
    .await;
    let defaults = names(
        &client,
        "select c.relname || '.' || a.attname from pg_attrdef d
         join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
         join pg_class c on c.oid = d.adrelid",
    )
    .await;
    for table in TABLES {
        let (name, down) = (table.cloud, table.direction == Direction::Down);
        let (key, tenant) = if down {
            ("", "")
        } else {
            ("tenant_id, scope_id, ", "tenant_id, ")
        };
        let mut wanted = vec![format!("on public.{name} using btree ({key}cursor)")];
        for columns in table.indexes {
            wanted.push(format!(
                "on public.{name} using btree ({tenant}{})",
                columns.join(", ")
            ));
        }
        for part in wanted {
            let there = definitions
                .iter()
                .any(|found| found.to_lowercase().contains(&part));
            assert!(there, "no index {part}");
        }
        for column in table.columns {
            let there = defaults.contains(&format!("{name}.{}", column.name));
            assert_eq!(there, column.default.is_some(), "{name}.{}", column.name);
        }
    }
}
