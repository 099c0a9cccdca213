//! Tenants, people, devices, credentials, the audit trail, and the function `enter`.

use super::template::{Template, global_table, tenant_table};
use super::{Migration, Step};

pub(super) fn migration() -> Migration {
    let mut steps = Vec::new();
    steps.extend(people());
    steps.extend(scopes());
    steps.extend(devices_and_credentials());
    steps.extend(audit());
    steps.extend(globals());
    steps.extend(enter());
    Migration {
        version: 20_261_120_000_001,
        name: "identity",
        steps,
    }
}

/// Who belongs to what. The app's role reads only: administration is a system task.
fn people() -> Vec<Step> {
    let mut steps = tenant_table(
        Template::Tenant,
        "tenants",
        "
    name text not null,
    plan text not null default 'free',
    created_at timestamptz not null default now(),
    suspended_at timestamptz,
    constraint tenants_pkey primary key (tenant_id)",
        "select",
    );
    steps.extend(tenant_table(
        Template::Tenant,
        "users",
        "
    id uuid not null,
    email text not null,
    full_name text,
    created_at timestamptz not null default now(),
    constraint users_pkey primary key (tenant_id, id),
    constraint users_email_key unique (tenant_id, email)",
        "select",
    ));
    // One row per person and organisation: the role there, and single permissions beside it.
    steps.extend(tenant_table(
        Template::Tenant,
        "memberships",
        "
    user_id uuid not null,
    role text not null,
    permissions jsonb not null default '{}',
    active boolean not null default true,
    created_at timestamptz not null default now(),
    constraint memberships_pkey primary key (tenant_id, user_id),
    constraint memberships_user_fkey foreign key (tenant_id, user_id)
        references users (tenant_id, id) on delete cascade,
    constraint memberships_role_check check (role in
        ('owner', 'admin', 'member', 'viewer', 'auditor', 'executive'))",
        "select",
    ));
    steps
}

/// What rows belong to, and who may see what teams and projects share.
fn scopes() -> Vec<Step> {
    let mut steps = tenant_table(
        Template::Tenant,
        "scopes",
        "
    scope_id uuid not null,
    kind text not null,
    name text,
    created_at timestamptz not null default now(),
    archived_at timestamptz,
    constraint scopes_pkey primary key (tenant_id, scope_id),
    constraint scopes_kind_check check (kind in ('user', 'team', 'project', 'org'))",
        "select",
    );
    // Teams and projects only: the own scope and the organisation's need no row.
    steps.extend(tenant_table(
        Template::Tenant,
        "scope_members",
        "
    scope_id uuid not null,
    user_id uuid not null,
    role text not null,
    created_at timestamptz not null default now(),
    constraint scope_members_pkey primary key (tenant_id, user_id, scope_id),
    constraint scope_members_scope_fkey foreign key (tenant_id, scope_id)
        references scopes (tenant_id, scope_id) on delete cascade,
    constraint scope_members_user_fkey foreign key (tenant_id, user_id)
        references users (tenant_id, id) on delete cascade,
    constraint scope_members_role_check check (role in ('viewer', 'member', 'admin', 'owner'))",
        "select",
    ));
    steps
}

fn devices_and_credentials() -> Vec<Step> {
    let mut steps = tenant_table(
        Template::Tenant,
        "devices",
        "
    id uuid not null,
    user_id uuid not null,
    name text,
    hardware_id text,
    client_version text,
    created_at timestamptz not null default now(),
    last_seen_at timestamptz not null default now(),
    revoked_at timestamptz,
    constraint devices_pkey primary key (tenant_id, id),
    constraint devices_user_fkey foreign key (tenant_id, user_id)
        references users (tenant_id, id) on delete cascade",
        "select, update (name, client_version, last_seen_at)",
    );
    // Registration asks whether another tenant holds the id.
    steps.push(Step::Sql(
        "create index devices_id_idx on devices (id)".to_owned(),
    ));
    steps.extend(tenant_table(
        Template::Tenant,
        "licenses",
        "
    id uuid not null,
    user_id uuid not null,
    plan text not null default 'personal',
    secret_hash bytea not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    constraint licenses_pkey primary key (tenant_id, id),
    constraint licenses_user_fkey foreign key (tenant_id, user_id)
        references users (tenant_id, id) on delete cascade",
        "select (tenant_id, id, user_id, plan, created_at, expires_at, revoked_at)",
    ));
    // A family is one login; its tokens replace each other. The app's role has no business here.
    steps.extend(tenant_table(
        Template::Tenant,
        "refresh_tokens",
        "
    id uuid not null,
    family uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    secret_hash bytea not null,
    issued_at timestamptz not null,
    expires_at timestamptz not null,
    used_at timestamptz,
    revoked_at timestamptz,
    constraint refresh_tokens_pkey primary key (tenant_id, id),
    constraint refresh_tokens_device_fkey foreign key (tenant_id, device_id)
        references devices (tenant_id, id) on delete cascade",
        "",
    ));
    steps.push(Step::Sql(
        "create index refresh_tokens_family_idx on refresh_tokens (tenant_id, family)".to_owned(),
    ));
    steps
}

/// Append-only for both roles that write it: a matter of grants, not of triggers.
fn audit() -> Vec<Step> {
    let mut steps = tenant_table(
        Template::Tenant,
        "audit_log",
        "
    id uuid not null,
    at timestamptz not null,
    user_id uuid,
    device_id uuid,
    action text not null,
    resource_type text,
    resource_id text,
    detail jsonb not null default '{}',
    constraint audit_log_pkey primary key (tenant_id, id)",
        "select, insert",
    );
    steps.push(Step::Sql(
        "revoke update, delete on audit_log from coditect_system".to_owned(),
    ));
    steps.push(Step::Sql(
        "create index audit_log_at_idx on audit_log (tenant_id, at)".to_owned(),
    ));
    steps
}

/// What is needed before the tenant is known, or belongs to the whole installation.
fn globals() -> Vec<Step> {
    let mut steps = global_table(
        "logins",
        "
    email text not null,
    password_hash text not null,
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    constraint logins_pkey primary key (email)",
        "",
    );
    steps.extend(global_table(
        "tenant_logins",
        "
    email text not null,
    tenant_id uuid not null,
    user_id uuid not null,
    constraint tenant_logins_pkey primary key (email, tenant_id),
    constraint tenant_logins_login_fkey foreign key (email) references logins (email)
        on delete cascade",
        "",
    ));
    // One row: the life of this database. A restore writes another epoch.
    steps.extend(global_table(
        "cluster",
        "
    only_row boolean not null default true,
    epoch text not null,
    changed_at timestamptz not null default now(),
    constraint cluster_pkey primary key (only_row),
    constraint cluster_only_row_check check (only_row),
    constraint cluster_epoch_check check (epoch ~ '^[0-9a-f]{16}$')",
        "select",
    ));
    steps.push(Step::Sql(
        "insert into cluster (epoch)
    values (right(replace(gen_random_uuid()::text, '-', ''), 16))"
            .to_owned(),
    ));
    steps
}

/// The only way to set the context. Runs as the caller: it may read the memberships because it
/// has set tenant and user before. Plain SET LOCAL, because set_config does not reach the nodes
/// of a distributed database. Returns the user's role in the organisation.
fn enter() -> Vec<Step> {
    let create = "create function enter(tenant uuid, uid uuid) returns text
language plpgsql
set search_path = pg_catalog, public
as $body$
declare
    earlier text := nullif(current_setting('app.current_tenant', true), '');
    member_role text;
    scopes uuid[];
begin
    if tenant is null or uid is null then
        raise exception 'no tenant or user' using errcode = 'CO001';
    end if;
    if earlier is not null and earlier <> tenant::text then
        raise exception 'the transaction has another tenant' using errcode = 'CO002';
    end if;
    execute format('set local app.current_tenant = %L', tenant);
    execute format('set local app.uid = %L', uid);
    select m.role into member_role
    from memberships m join tenants t on t.tenant_id = m.tenant_id
    where m.tenant_id = tenant and m.user_id = uid and m.active
        and t.tenant_id = tenant and t.suspended_at is null;
    if member_role is null then
        execute 'set local app.scopes = ''''';
        raise exception 'not an active member' using errcode = 'CO001';
    end if;
    select array[uid, tenant] || coalesce(array_agg(s.scope_id order by s.scope_id), '{}')
    into scopes
    from scope_members s
    where s.tenant_id = tenant and s.user_id = uid;
    execute format('set local app.scopes = %L', scopes);
    return member_role;
end
$body$";
    [
        create,
        "revoke all on function enter(uuid, uuid) from public",
        "grant execute on function enter(uuid, uuid) to coditect_app, coditect_system",
    ]
    .map(|sql| Step::Sql(sql.to_owned()))
    .to_vec()
}
