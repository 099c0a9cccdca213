//! What the server keeps about sync besides the rows: streams, digests, tokens, history.

use super::template::{Template, global_table, tenant_table};
use super::{Migration, Step};

pub(super) fn migration() -> Migration {
    let mut steps = Vec::new();
    steps.extend(streams());
    steps.extend(devices());
    steps.extend(history());
    steps.extend(platform());
    Migration {
        version: 20_261_120_000_002,
        name: "sync state",
        steps,
    }
}

/// One row per (tenant, scope), locked by every push until it commits: that is what keeps a
/// number from appearing behind a reader. No index beside the key, and room in the pages, so
/// that its updates stay heap-only.
fn streams() -> Vec<Step> {
    let mut steps = tenant_table(
        Template::Scoped,
        "streams",
        "
    n bigint not null default 0,
    head_platform bigint not null default 0,
    head_org bigint not null default 0,
    head_sessions bigint not null default 0,
    head_projects bigint not null default 0,
    row_count bigint not null default 0,
    byte_count bigint not null default 0,
    constraint streams_pkey primary key (tenant_id, scope_id)",
        "select, insert, update",
    );
    steps.push(Step::Sql(
        "alter table streams set (fillfactor = 40)".to_owned(),
    ));
    // Live rows, and the exclusive or of the first 64 bits of each row's fingerprint.
    steps.extend(tenant_table(
        Template::Scoped,
        "stream_digests",
        "
    table_name text not null,
    origin_device uuid not null,
    rows bigint not null default 0,
    xor bigint not null default 0,
    constraint stream_digests_pkey primary key (tenant_id, scope_id, table_name, origin_device)",
        "select, insert, update",
    ));
    steps.push(Step::Sql(
        "alter table stream_digests set (fillfactor = 60)".to_owned(),
    ));
    // What each device added to a counter column; the highest seq of a part wins.
    steps.extend(tenant_table(
        Template::Scoped,
        "counter_parts",
        "
    table_name text not null,
    row_id uuid not null,
    column_name text not null,
    device_id uuid not null,
    seq bigint not null,
    total bigint not null,
    constraint counter_parts_pkey
        primary key (tenant_id, scope_id, table_name, row_id, column_name, device_id)",
        "select, insert, update, delete",
    ));
    steps
}

fn devices() -> Vec<Step> {
    // The last token given out for each file of a device, and the one before with its batch.
    let mut steps = tenant_table(
        Template::Tenant,
        "device_tokens",
        "
    device_id uuid not null,
    file text not null,
    epoch text not null,
    counter bigint not null,
    nonce bytea not null,
    previous_counter bigint,
    previous_nonce bytea,
    batch_id uuid,
    fenced_at timestamptz,
    updated_at timestamptz not null default now(),
    constraint device_tokens_pkey primary key (tenant_id, device_id, file),
    constraint device_tokens_device_fkey foreign key (tenant_id, device_id)
        references devices (tenant_id, id) on delete cascade",
        "select, insert, update",
    );
    steps.push(Step::Sql(
        "alter table device_tokens set (fillfactor = 60)".to_owned(),
    ));
    // How far each device has read, which the purge floor must stay below, and its statistics.
    steps.extend(tenant_table(
        Template::Tenant,
        "device_cursors",
        "
    device_id uuid not null,
    scope_id uuid not null,
    file text not null,
    epoch text not null,
    n bigint not null,
    rows_pushed bigint not null default 0,
    rows_pulled bigint not null default 0,
    bytes_pushed bigint not null default 0,
    bytes_pulled bigint not null default 0,
    last_push_at timestamptz,
    last_pull_at timestamptz,
    constraint device_cursors_pkey primary key (tenant_id, device_id, scope_id, file),
    constraint device_cursors_device_fkey foreign key (tenant_id, device_id)
        references devices (tenant_id, id) on delete cascade",
        "select, insert, update",
    ));
    steps.push(Step::Sql(
        "alter table device_cursors set (fillfactor = 60)".to_owned(),
    ));
    steps
}

/// Nothing here is deleted but by `purge`, a system task.
fn history() -> Vec<Step> {
    let mut steps = tenant_table(
        Template::Scoped,
        "record_history",
        "
    id uuid not null,
    table_name text not null,
    row_id uuid not null,
    version bigint not null,
    device_id uuid not null,
    user_id uuid,
    deleted boolean not null default false,
    reason text not null,
    row jsonb not null,
    batch_id uuid,
    recorded_at timestamptz not null,
    constraint record_history_pkey primary key (tenant_id, scope_id, id)",
        "select, insert",
    );
    steps.push(Step::Sql(
        "create index record_history_row_idx
    on record_history (tenant_id, scope_id, table_name, row_id, version)"
            .to_owned(),
    ));
    steps.extend(tenant_table(
        Template::Scoped,
        "sync_conflicts",
        "
    id uuid not null,
    table_name text not null,
    row_id uuid not null,
    reason text not null,
    winner_version bigint not null,
    winner_device uuid not null,
    loser_version bigint not null,
    loser_device uuid not null,
    loser_user uuid,
    loser_deleted boolean not null default false,
    row jsonb not null,
    batch_id uuid,
    detected_at timestamptz not null,
    resolved_at timestamptz,
    resolved_by uuid,
    resolution text,
    constraint sync_conflicts_pkey primary key (tenant_id, scope_id, id)",
        "select, insert, update (resolved_at, resolved_by, resolution)",
    ));
    steps.push(Step::Sql(
        "create index sync_conflicts_row_idx
    on sync_conflicts (tenant_id, scope_id, table_name, row_id)"
            .to_owned(),
    ));
    steps
}

/// The platform catalogue's stream: one for all tenants, written by the system role.
fn platform() -> Vec<Step> {
    let mut steps = global_table(
        "platform_stream",
        "
    only_row boolean not null default true,
    n bigint not null default 0,
    constraint platform_stream_pkey primary key (only_row),
    constraint platform_stream_only_row_check check (only_row)",
        "select",
    );
    steps.push(Step::Sql(
        "insert into platform_stream default values".to_owned(),
    ));
    // Digests of the catalogue's tables; the same form as stream_digests, without an origin.
    steps.extend(global_table(
        "platform_digests",
        "
    table_name text not null,
    rows bigint not null default 0,
    xor bigint not null default 0,
    constraint platform_digests_pkey primary key (table_name)",
        "select",
    ));
    steps
}
