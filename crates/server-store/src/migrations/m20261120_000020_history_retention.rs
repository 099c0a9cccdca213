//! Retention of versions: how long they are kept, what devices have said that they hold, and what
//! was removed (ADR 0037).

use super::template::{Template, shared_table, tenant_table};
use super::{Migration, Step};

pub(super) fn migration() -> Migration {
    let mut steps: Vec<Step> = [
        // Without a number versions are kept for good. A device that neither asked nor pushed for
        // so long holds none of them back.
        "alter table plans add column history_days integer default 365",
        "alter table plans add column device_days integer not null default 90",
        "alter table plans add constraint plans_days_check
    check (history_days >= 1 and device_days >= 1)",
        // Up to where a device says that it holds everything: the position of its last request
        // that was noted, in the life of the database that `epoch` names.
        "alter table device_cursors add column acked_n bigint",
        "create index device_cursors_scope_idx on device_cursors (tenant_id, scope_id)",
        // The number of the version that replaced this one. Older entries get the head of their
        // file when it is asked for: it is no lower.
        "alter table record_history add column cursor bigint",
    ]
    .map(|sql| Step::Sql(sql.to_owned()))
    .into();
    // What an organisation wants, and the round of its purge: one at a time, held by a lease.
    // Days are null where the server's or the plan's hold, and 0 for good.
    steps.extend(tenant_table(
        Template::Tenant,
        "history_retention",
        "
    days integer,
    next_at timestamptz not null,
    versions bigint not null default 0,
    conflicts bigint not null default 0,
    lease_id uuid,
    lease_until timestamptz,
    last_finished_at timestamptz,
    last_versions bigint,
    last_conflicts bigint,
    constraint history_retention_pkey primary key (tenant_id),
    constraint history_retention_days_check check (days >= 0)",
        "",
    ));
    // Since when a stream's history is complete. Whoever reads the stream may know.
    steps.extend(shared_table(
        "history_floors",
        "
    complete_since timestamptz not null,
    days integer not null,
    versions bigint not null,
    purged_at timestamptz not null,
    constraint history_floors_pkey primary key (tenant_id, scope_id)",
        "select",
    ));
    Migration {
        version: 20_261_120_000_020,
        name: "history retention",
        steps,
    }
}
