//! The rolling look at every stored row: how far it has got, and what it found (ADR 0019).

use super::template::{Template, shared_table, tenant_table};
use super::{Migration, Step};

pub(super) fn migration() -> Migration {
    // Ids and counts, never content: whoever reads the stream may know of them. Rows are made and
    // changed by the system role alone.
    let mut steps = shared_table(
        "scrub_findings",
        "
    id uuid not null,
    table_name text not null,
    kind text not null,
    row_id uuid,
    origin_device uuid,
    detail jsonb not null,
    found_at timestamptz not null,
    mended_at timestamptz,
    mended_by text,
    constraint scrub_findings_pkey primary key (tenant_id, scope_id, id),
    constraint scrub_findings_kind_check check (kind in ('hash', 'digest', 'counter', 'term')),
    constraint scrub_findings_mended_check check ((mended_at is null) = (mended_by is null))",
        "select",
    );
    // A damaged row is one finding until it is mended, however often it is looked at.
    steps.push(Step::Sql(
        "create unique index scrub_findings_open_idx
    on scrub_findings (tenant_id, scope_id, table_name, row_id)
    where kind = 'hash' and mended_at is null"
            .to_owned(),
    ));
    // One round at a time for a tenant: a server holds it for as long as its lease lasts.
    steps.extend(tenant_table(
        Template::Tenant,
        "scrub_rounds",
        "
    started_at timestamptz not null,
    next_at timestamptz not null,
    table_name text,
    sums boolean not null default false,
    scope_id uuid,
    row_id uuid,
    rows_expected bigint not null default 0,
    rows_read bigint not null default 0,
    found bigint not null default 0,
    last_finished_at timestamptz,
    last_rows_read bigint,
    last_found bigint,
    lease_id uuid,
    lease_until timestamptz,
    constraint scrub_rounds_pkey primary key (tenant_id)",
        "",
    ));
    // How many rows of the table are damaged: a pull reads these rows anyway, and asks for the
    // findings only where there are some.
    steps.push(Step::Sql(
        "alter table stream_digests add column damaged bigint not null default 0".to_owned(),
    ));
    Migration {
        version: 20_261_120_000_014,
        name: "scrub",
        steps,
    }
}
