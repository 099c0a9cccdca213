//! Plans as data: how much an organisation may store, and how often its people may ask.

use super::template::{Template, global_table, tenant_table};
use super::{Migration, Step};

pub(super) fn migration() -> Migration {
    // A limit that is null is none.
    let mut steps = global_table(
        "plans",
        "
    name text not null,
    requests_per_minute bigint,
    storage_bytes bigint,
    rows bigint,
    constraint plans_pkey primary key (name),
    constraint plans_limits_check check (requests_per_minute >= 1 and storage_bytes >= 0
        and rows >= 0)",
        "select",
    );
    // What one person used of the running minute, over all servers. A server takes a number of
    // requests at once, so that not every request writes.
    steps.extend(tenant_table(
        Template::Tenant,
        "request_rates",
        "
    user_id uuid not null,
    minute bigint not null,
    used bigint not null,
    granted bigint not null,
    constraint request_rates_pkey primary key (tenant_id, user_id),
    constraint request_rates_user_fkey foreign key (tenant_id, user_id)
        references users (tenant_id, id) on delete cascade",
        "",
    ));
    let statements = [
        "alter table request_rates set (fillfactor = 50)",
        "insert into plans (name, requests_per_minute, storage_bytes, rows) values
    ('self_hosted', null, null, null),
    ('free', 600, 1073741824, 1000000),
    ('personal', 3000, 21474836480, 50000000),
    ('team', 6000, 214748364800, 500000000),
    ('enterprise', null, null, null)",
        // Until now a plan had no meaning, and every organisation the same. The owner is bound by
        // row security unless it is lifted.
        "alter table tenants no force row level security",
        "update tenants set plan = 'self_hosted'",
        "alter table tenants force row level security",
        "alter table tenants alter column plan set default 'self_hosted'",
    ];
    steps.extend(statements.map(|sql| Step::Sql(sql.to_owned())));
    Migration {
        version: 20_261_120_000_011,
        name: "plans",
        steps,
    }
}
