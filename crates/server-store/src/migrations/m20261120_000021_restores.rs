//! Restores as jobs (ADR 0036), and a pause between the attempts of backups and restores.

use super::template::{
    MANAGED, Template, UID, narrow_delete, narrow_insert, narrow_select, narrow_update,
    tenant_table,
};
use super::{Migration, Step};

pub(super) fn migration() -> Migration {
    // The row is the job: a server claims it, renews its lease while it works, and ends it in the
    // transaction that changes the scope. The number of the attempt tells servers apart that both
    // think it theirs. It is done in the name of who asked, on the same devices.
    let mut steps = tenant_table(
        Template::Scoped,
        "context_restores",
        "
    id uuid not null,
    scope_kind text not null,
    backup_id uuid not null,
    backup_created_at timestamptz not null,
    backup_records bigint not null,
    mode text not null,
    status text not null default 'queued',
    requested_by uuid not null,
    login_device uuid not null,
    device_id uuid not null,
    created_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz,
    attempts integer not null default 0,
    failures integer not null default 0,
    lease_until timestamptz,
    not_before timestamptz,
    safety_backup_id uuid,
    restored bigint,
    skipped bigint,
    removed bigint,
    code text,
    failure text,
    fault text,
    constraint context_restores_pkey primary key (tenant_id, scope_id, id),
    constraint context_restores_mode_check check (mode in ('merge', 'replace')),
    constraint context_restores_status_check
        check (status in ('queued', 'running', 'completed', 'failed')),
    constraint context_restores_completed_check check (status <> 'completed' or (restored
        is not null and skipped is not null and removed is not null and finished_at is not null)),
    constraint context_restores_failed_check
        check (status <> 'failed' or (code is not null and finished_at is not null))",
        "select, insert, update (status, lease_until, not_before, finished_at, safety_backup_id,
        restored, skipped, removed, code, failure, fault)",
    );
    // As for backups: whoever manages the scope; everybody manages the own one.
    let condition = format!("array[scope_id, tenant_id] && array_append({MANAGED}, {UID})");
    steps.push(narrow_select("context_restores", &condition));
    steps.push(narrow_insert("context_restores", &condition));
    steps.push(narrow_update("context_restores", &condition, &condition));
    steps.push(narrow_delete("context_restores", &condition));
    let more = [
        // One at a time for a scope, whoever claims what at the same moment.
        "create unique index context_restores_running_idx
    on context_restores (tenant_id, scope_id) where status = 'running'",
        "create index context_restores_open_idx on context_restores (tenant_id, created_at)
    where status in ('queued', 'running')",
        "create index context_restores_newest_idx
    on context_restores (tenant_id, scope_id, created_at desc)",
        // A kill is no failure: only what was recorded as one waits.
        "alter table context_backups add column failures integer not null default 0",
        "alter table context_backups add column not_before timestamptz",
    ];
    steps.extend(more.map(|sql| Step::Sql(sql.to_owned())));
    Migration {
        version: 20_261_120_000_021,
        name: "restores",
        steps,
    }
}
