//! Who was erased, and by which tokens those devices ask that are still to be told (ADR 0034).

use super::template::{Template, tenant_table};
use super::{Migration, Step};

pub(super) fn migration() -> Migration {
    // What the ledger outside says, for statements to look at: without a person it is the whole
    // organisation.
    let mut steps = tenant_table(
        Template::Tenant,
        "erasures",
        "
    id uuid not null,
    user_id uuid,
    requested_at timestamptz not null,
    finished_at timestamptz,
    receipt jsonb,
    constraint erasures_pkey primary key (tenant_id, id),
    constraint erasures_receipt_check check ((finished_at is null) = (receipt is null))",
        "select (tenant_id, id, user_id, requested_at, finished_at)",
    );
    steps.push(Step::Sql(
        "create index erasures_user_idx on erasures (tenant_id, user_id)".to_owned(),
    ));
    // Refresh tokens of people who were erased: whoever shows one is told so.
    steps.extend(tenant_table(
        Template::Tenant,
        "erased_logins",
        "
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    secret_hash bytea not null,
    erasure_id uuid not null,
    constraint erased_logins_pkey primary key (tenant_id, id)",
        "",
    ));
    Migration {
        version: 20_261_120_000_019,
        name: "erasures",
        steps,
    }
}
