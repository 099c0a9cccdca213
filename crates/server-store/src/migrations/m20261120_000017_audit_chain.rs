//! The audit trail as a chain of blocks (ADR 0027).

use super::template::{Template, tenant_table};
use super::{Migration, Step};

pub(super) fn migration() -> Migration {
    let mut steps = Vec::new();
    let trail = [
        // Which block an entry is of; none until a job has put it into one. All else of an entry
        // stays append-only.
        "alter table audit_log add column block bigint",
        "grant update (block) on audit_log to coditect_system",
        "create index audit_log_block_idx on audit_log (tenant_id, block, id)",
        "create index audit_log_open_idx on audit_log (tenant_id) where block is null",
    ];
    steps.extend(trail.map(|sql| Step::Sql(sql.to_owned())));
    steps.extend(tenant_table(
        Template::Tenant,
        "audit_blocks",
        "
    number bigint not null,
    closed_at timestamptz not null,
    entries bigint not null,
    entries_total bigint not null,
    entries_hash bytea not null,
    hash bytea not null,
    constraint audit_blocks_pkey primary key (tenant_id, number),
    constraint audit_blocks_entries_check check (entries > 0 and number > 0)",
        "",
    ));
    steps.push(Step::Sql(
        "revoke update, delete on audit_blocks from coditect_system".to_owned(),
    ));
    Migration {
        version: 20_261_120_000_017,
        name: "audit chain",
        steps,
    }
}
