//! Bodies: long values of messages, stored once per scope apart from their rows (ADR 0018).

use super::template::{CONVERSATION, narrow_select, shared_table};
use super::{Migration, Step};

pub(super) fn migration() -> Migration {
    let mut steps = vec![Step::Sql(
        "alter table context_messages add column bodies jsonb".to_owned(),
    )];
    // `packed` is the text under zstd. `unused_since` is set while nothing links the body.
    steps.extend(shared_table(
        "bodies",
        "
    hash bytea not null,
    byte_count bigint not null,
    packed bytea not null,
    unused_since timestamptz,
    constraint bodies_pkey primary key (tenant_id, scope_id, hash)",
        "select, insert, update",
    ));
    // Which live row names which body.
    steps.extend(shared_table(
        "body_links",
        "
    hash bytea not null,
    table_name text not null,
    row_id uuid not null,
    constraint body_links_pkey primary key (tenant_id, scope_id, hash, table_name, row_id)",
        "select, insert, delete",
    ));
    // Bodies are parts of conversations: who reads those, reads them.
    for table in ["bodies", "body_links"] {
        steps.push(narrow_select(table, CONVERSATION));
    }
    steps.push(Step::Sql(
        "create index body_links_row_idx on body_links (tenant_id, scope_id, table_name, row_id)"
            .to_owned(),
    ));
    // What waits to be removed is little.
    steps.push(Step::Sql(
        "create index bodies_unused_idx on bodies (tenant_id, unused_since)
    where unused_since is not null"
            .to_owned(),
    ));
    // It is packed already.
    steps.push(Step::Sql(
        "alter table bodies alter column packed set storage external".to_owned(),
    ));
    Migration {
        version: 20_261_120_000_012,
        name: "bodies",
        steps,
    }
}
