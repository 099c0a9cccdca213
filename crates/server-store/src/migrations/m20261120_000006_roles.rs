//! Teams, projects, roles and invitations; what a role allows is enforced by row security.
//!
//! `enter` computes five lists from the membership tables. `app.scopes`: what the person reads;
//! `app.message_scopes`: where conversations too; `app.write_scopes`: where rows may be written;
//! `app.admin_scopes`: what the person manages, where the organisation's id stands for all teams
//! and projects; `app.permissions`: what the organisation role and grants allow. The roles and
//! permissions in it are those of `coditect_protocol::permissions`; a test compares them.

use super::template::{
    MANAGED, Template, UID, WRITABLE, narrow_delete, narrow_insert, narrow_select, narrow_update,
    tenant_table,
};
use super::{Migration, Step};

pub(super) fn migration() -> Migration {
    let mut steps = Vec::new();
    steps.extend(projects());
    steps.extend(invitations());
    steps.extend(scoped_rows());
    steps.extend(people());
    steps.extend(management());
    steps.extend(audit());
    steps.push(Step::Sql(ENTER.to_owned()));
    Migration {
        version: 20_261_120_000_006,
        name: "roles",
        steps,
    }
}

/// Tables with a scope at the time of this migration, of which auditors and executives see no
/// shared rows: conversations, and copies of any row.
const CONVERSATIONS: [&str; 9] = [
    "context_sessions",
    "context_messages",
    "context_task_tracking",
    "context_task_messages",
    "context_tool_analytics",
    "context_activity_associations",
    "context_token_economics",
    "record_history",
    "sync_conflicts",
];
/// The other tables with a scope.
const SHARED: [&str; 20] = [
    "context_checkpoints",
    "counter_parts",
    "org_calibration_history",
    "org_decisions",
    "org_error_solutions",
    "org_kg_edges",
    "org_kg_nodes",
    "org_project_tracks",
    "org_projects",
    "org_quality_metrics",
    "org_skill_learnings",
    "platform_usage_stats",
    "projects_content_hashes",
    "projects_embeddings",
    "projects_exclude_patterns",
    "projects_projects",
    "projects_sprints",
    "projects_sub_projects",
    "stream_digests",
    "streams",
];

/// A project is known by its repositories, not by a path; a team may be its member.
fn projects() -> Vec<Step> {
    let mut steps = tenant_table(
        Template::Tenant,
        "project_repositories",
        "
    kind text not null,
    identity text not null,
    scope_id uuid not null,
    created_at timestamptz not null default now(),
    constraint project_repositories_pkey primary key (tenant_id, kind, identity),
    constraint project_repositories_scope_fkey foreign key (tenant_id, scope_id)
        references scopes (tenant_id, scope_id) on delete cascade,
    constraint project_repositories_kind_check check (kind in ('remote', 'root_commit')),
    constraint project_repositories_identity_check
        check (octet_length(identity) between 1 and 500)",
        "select, insert, delete",
    );
    steps.push(Step::Sql(
        "create index project_repositories_scope_idx on project_repositories (tenant_id, scope_id)"
            .to_owned(),
    ));
    steps.extend(tenant_table(
        Template::Tenant,
        "project_teams",
        "
    scope_id uuid not null,
    team_id uuid not null,
    role text not null,
    created_at timestamptz not null default now(),
    constraint project_teams_pkey primary key (tenant_id, scope_id, team_id),
    constraint project_teams_scope_fkey foreign key (tenant_id, scope_id)
        references scopes (tenant_id, scope_id) on delete cascade,
    constraint project_teams_team_fkey foreign key (tenant_id, team_id)
        references scopes (tenant_id, scope_id) on delete cascade,
    constraint project_teams_role_check check (role in ('viewer', 'member', 'admin', 'owner'))",
        "select, insert, update, delete",
    ));
    steps.push(Step::Sql(
        "create index project_teams_team_idx on project_teams (tenant_id, team_id)".to_owned(),
    ));
    // Members of a scope are listed, and its owners counted.
    steps.push(Step::Sql(
        "create index scope_members_scope_idx on scope_members (tenant_id, scope_id)".to_owned(),
    ));
    steps
}

/// Into the organisation (its id is the scope) or a team. Only the secret's hash is kept, and
/// the app's role cannot read it.
fn invitations() -> Vec<Step> {
    let mut steps = tenant_table(
        Template::Tenant,
        "invitations",
        "
    id uuid not null,
    scope_id uuid not null,
    email text not null,
    role text not null,
    secret_hash bytea not null,
    invited_by uuid not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    accepted_at timestamptz,
    accepted_by uuid,
    revoked_at timestamptz,
    constraint invitations_pkey primary key (tenant_id, id),
    constraint invitations_scope_fkey foreign key (tenant_id, scope_id)
        references scopes (tenant_id, scope_id) on delete cascade,
    constraint invitations_role_check check (role in
        ('owner', 'admin', 'member', 'viewer', 'auditor', 'executive'))",
        "select (tenant_id, id, scope_id, email, role, invited_by, created_at, expires_at,
        accepted_at, accepted_by, revoked_at), insert, update (revoked_at)",
    );
    steps.push(Step::Sql(
        "create index invitations_scope_idx on invitations (tenant_id, scope_id)".to_owned(),
    ));
    steps
}

/// Rows with a scope are written where the person may write.
fn scoped_rows() -> Vec<Step> {
    let mut steps = Vec::new();
    for table in CONVERSATIONS {
        steps.push(narrow_select(table, super::template::CONVERSATION));
    }
    for table in CONVERSATIONS.into_iter().chain(SHARED) {
        steps.push(narrow_insert(table, WRITABLE));
        steps.push(narrow_update(table, WRITABLE, WRITABLE));
        steps.push(narrow_delete(table, WRITABLE));
    }
    steps
}

/// Teams, projects, and members that the caller knows of.
const KNOWN: &str = "array_cat(
    array_remove(nullif(current_setting('app.scopes', true), '')::uuid[], tenant_id),
    nullif(current_setting('app.admin_scopes', true), '')::uuid[])";
const PERMISSIONS: &str = "nullif(current_setting('app.permissions', true), '')::text[]";

/// One's own things, and for those who manage the organisation everybody's.
fn people() -> Vec<Step> {
    let own = &format!("array[user_id, tenant_id] && array_append({KNOWN}, {UID})");
    let of_organization = &format!("array[tenant_id] && {MANAGED}");
    vec![
        narrow_select("devices", own),
        narrow_update("devices", own, own),
        narrow_select("licenses", own),
        narrow_update("memberships", of_organization, of_organization),
        narrow_insert("memberships", of_organization),
        narrow_delete("memberships", of_organization),
        Step::Sql(
            "grant update (role, permissions, active) on memberships to coditect_app".to_owned(),
        ),
    ]
}

/// The tables that say who belongs where.
fn management() -> Vec<Step> {
    let known = &format!("array[scope_id, tenant_id] && {KNOWN}");
    let managed = &format!("array[scope_id, tenant_id] && {MANAGED}");
    let mut steps = vec![
        narrow_select("scopes", known),
        narrow_insert(
            "scopes",
            &format!("(kind || 's:create') = any ({PERMISSIONS})"),
        ),
        narrow_update("scopes", managed, managed),
        narrow_delete("scopes", managed),
        // Own memberships are there before `enter` knows anything else.
        narrow_select(
            "scope_members",
            &format!("array[user_id, scope_id, tenant_id] && array_append({KNOWN}, {UID})"),
        ),
        narrow_insert("scope_members", managed),
        narrow_update("scope_members", managed, managed),
        // Everybody may leave.
        narrow_delete(
            "scope_members",
            &format!("array[user_id, scope_id, tenant_id] && array_append({MANAGED}, {UID})"),
        ),
        narrow_select(
            "project_teams",
            &format!("array[team_id, scope_id, tenant_id] && {KNOWN}"),
        ),
        narrow_insert("project_teams", managed),
        narrow_update("project_teams", managed, managed),
        narrow_delete("project_teams", managed),
        narrow_select("project_repositories", known),
        narrow_insert("project_repositories", managed),
        narrow_update("project_repositories", managed, managed),
        narrow_delete("project_repositories", managed),
        narrow_select("invitations", managed),
        narrow_insert("invitations", managed),
        narrow_update("invitations", managed, managed),
        narrow_delete("invitations", managed),
    ];
    let grants = [
        "grant insert, update (name, archived_at) on scopes to coditect_app",
        "grant insert, update (role), delete on scope_members to coditect_app",
    ];
    steps.extend(grants.map(|sql| Step::Sql(sql.to_owned())));
    steps
}

/// Nobody writes an entry in somebody else's name; reading takes the permission.
fn audit() -> Vec<Step> {
    vec![
        narrow_select(
            "audit_log",
            &format!("'audit_logs:read' = any ({PERMISSIONS})"),
        ),
        narrow_insert("audit_log", &format!("user_id = {UID}")),
    ]
}

/// The function with two parameters, which that with three calls. A person without teams and
/// projects costs no look-up more than before.
const ENTER: &str = "create or replace function enter(tenant uuid, uid uuid) returns text
language plpgsql
set search_path = pg_catalog, public
as $body$
declare
    earlier text := nullif(current_setting('app.current_tenant', true), '');
    member_role text;
    granted jsonb;
    held text[];
    grantable constant text[] := '{sync:push,messages:read,tasks:read,audit_logs:read}';
    talks boolean;
    writes boolean;
    manages boolean;
    read_scopes uuid[];
    message_scopes uuid[];
    write_scopes uuid[];
    admin_scopes uuid[] := '{}';
begin
    if tenant is null or uid is null then
        raise exception 'no tenant or user' using errcode = 'CO001';
    end if;
    if earlier is not null and earlier <> tenant::text then
        raise exception 'the transaction has another tenant' using errcode = 'CO002';
    end if;
    execute format('set local app.current_tenant = %L', tenant);
    execute format('set local app.uid = %L', uid);
    select m.role, m.permissions into member_role, granted
    from memberships m join tenants t on t.tenant_id = m.tenant_id
    where m.tenant_id = tenant and m.user_id = uid and m.active
        and t.tenant_id = tenant and t.suspended_at is null;
    if member_role is null then
        execute 'set local app.scopes = ''''';
        execute 'set local app.message_scopes = ''''';
        execute 'set local app.write_scopes = ''''';
        execute 'set local app.admin_scopes = ''''';
        execute 'set local app.permissions = ''''';
        raise exception 'not an active member' using errcode = 'CO001';
    end if;
    -- Those permissions that row security looks at.
    held := case member_role
        when 'owner' then '{sync:push,messages:read,tasks:read,audit_logs:read,
            members:update,teams:create,projects:create}'::text[]
        when 'admin' then '{sync:push,messages:read,tasks:read,audit_logs:read,
            members:update,teams:create,projects:create}'::text[]
        when 'member' then '{sync:push,messages:read,tasks:read}'::text[]
        when 'viewer' then '{messages:read,tasks:read}'::text[]
        when 'auditor' then '{audit_logs:read}'::text[]
        else '{}'::text[]
    end;
    if granted <> '{}'::jsonb and jsonb_typeof(granted) = 'object' then
        select coalesce(array_agg(permission), '{}') into held
        from (
            select unnest(held) as permission
            except
            select key from jsonb_each(granted)
            where value = 'false'::jsonb and member_role <> 'owner'
                and key = any (grantable)
            union
            select key from jsonb_each(granted)
            where value = 'true'::jsonb and key = any (grantable)
        ) as effective;
    end if;
    talks := 'messages:read' = any (held) and 'tasks:read' = any (held);
    writes := talks and 'sync:push' = any (held);
    manages := 'members:update' = any (held);
    read_scopes := array[uid, tenant];
    message_scopes := array[uid];
    write_scopes := array[uid];
    if talks then
        message_scopes := message_scopes || tenant;
    end if;
    if writes then
        write_scopes := write_scopes || tenant;
    end if;
    if manages then
        admin_scopes := array[tenant];
    end if;
    perform from scope_members m where m.tenant_id = tenant and m.user_id = uid;
    if found then
        -- For the next statement only: it looks at the person's own memberships, and at what
        -- these lead to.
        execute format('set local app.admin_scopes = %L', array[tenant]);
        select read_scopes || coalesce(array_agg(distinct s.scope_id), '{}'),
            write_scopes || coalesce(array_agg(distinct s.scope_id)
                filter (where writes and s.archived_at is null and of.role <> 'viewer'), '{}'),
            message_scopes || coalesce(array_agg(distinct s.scope_id) filter (where talks), '{}'),
            admin_scopes || coalesce(array_agg(distinct s.scope_id)
                filter (where member_role in ('owner', 'admin', 'member')
                    and of.role in ('admin', 'owner')), '{}')
        into read_scopes, write_scopes, message_scopes, admin_scopes
        from (
            select m.scope_id, m.role from scope_members m
            where m.tenant_id = tenant and m.user_id = uid
            union all
            select l.scope_id, case when t.archived_at is null then l.role else 'viewer' end
            from scope_members m
            join project_teams l on l.tenant_id = m.tenant_id and l.team_id = m.scope_id
            join scopes t on t.tenant_id = m.tenant_id and t.scope_id = m.scope_id
            where m.tenant_id = tenant and m.user_id = uid
                and l.tenant_id = tenant and t.tenant_id = tenant
        ) as of (scope_id, role)
        join scopes s on s.scope_id = of.scope_id
        where s.tenant_id = tenant and s.kind in ('team', 'project');
    end if;
    execute format('set local app.scopes = %L', read_scopes);
    execute format('set local app.message_scopes = %L', message_scopes);
    execute format('set local app.write_scopes = %L', write_scopes);
    execute format('set local app.admin_scopes = %L', admin_scopes);
    execute format('set local app.permissions = %L', held);
    return member_role;
end
$body$";
