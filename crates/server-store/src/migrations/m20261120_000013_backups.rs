//! Backups of scopes: what was archived where, and the jobs that do it.

use super::template::{
    MANAGED, Template, UID, narrow_delete, narrow_insert, narrow_select, narrow_update,
    tenant_table,
};
use super::{Migration, Step};

pub(super) fn migration() -> Migration {
    // The rows are the jobs as well: a pending one is claimed by a server, which renews its
    // lease while it works; a lease that ran out frees the job for another.
    let mut steps = tenant_table(
        Template::Scoped,
        "context_backups",
        "
    id uuid not null,
    scope_kind text not null,
    backup_type text not null,
    on_demand boolean not null,
    path text not null,
    base_id uuid,
    status text not null default 'pending',
    attempts integer not null default 0,
    lease_until timestamptz,
    failure text,
    epoch text,
    from_n bigint not null default 0,
    to_n bigint,
    size_bytes bigint,
    record_count bigint,
    checksum text,
    requested_by uuid not null,
    created_at timestamptz not null,
    completed_at timestamptz,
    expires_at timestamptz,
    constraint context_backups_pkey primary key (tenant_id, scope_id, id),
    constraint context_backups_type_check check (backup_type in ('full', 'incremental')),
    constraint context_backups_status_check
        check (status in ('pending', 'running', 'completed', 'failed')),
    constraint context_backups_completed_check check (status <> 'completed' or (epoch is not null
        and to_n is not null and size_bytes is not null and record_count is not null
        and checksum is not null and completed_at is not null))",
        "select, insert",
    );
    // Whoever manages the scope, in it or from outside; everybody manages the own one.
    let condition = format!("array[scope_id, tenant_id] && array_append({MANAGED}, {UID})");
    steps.push(narrow_select("context_backups", &condition));
    steps.push(narrow_insert("context_backups", &condition));
    steps.push(narrow_update("context_backups", &condition, &condition));
    steps.push(narrow_delete("context_backups", &condition));
    // What is still to be done is looked for all the time, and is always little.
    steps.push(Step::Sql(
        "create index context_backups_open_idx on context_backups (tenant_id, created_at)
    where status in ('pending', 'running')"
            .to_owned(),
    ));
    Migration {
        version: 20_261_120_000_013,
        name: "backups",
        steps,
    }
}
