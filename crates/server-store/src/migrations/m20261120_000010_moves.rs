//! Where rows went that left a scope for another one.

use super::template::{CONVERSATION, narrow_select, shared_table};
use super::{Migration, Step};

pub(super) fn migration() -> Migration {
    // One line for each tombstone that stands for a move, in the scope that was left. The batch
    // makes sending a move again harmless, even where the row has come back since.
    let mut steps = shared_table(
        "row_moves",
        "
    table_name text not null,
    row_id uuid not null,
    version bigint not null,
    to_scope uuid not null,
    batch_id uuid not null,
    device_id uuid not null,
    user_id uuid not null,
    moved_at timestamptz not null,
    constraint row_moves_pkey primary key (tenant_id, scope_id, table_name, row_id, version)",
        "select, insert",
    );
    // Which rows of a conversation went away is known to those who could read it.
    steps.push(narrow_select("row_moves", CONVERSATION));
    // What came into a scope, for the history of a row.
    steps.push(Step::Sql(
        "create index row_moves_to_idx
    on row_moves (tenant_id, to_scope, table_name, row_id)"
            .to_owned(),
    ));
    Migration {
        version: 20_261_120_000_010,
        name: "moves",
        steps,
    }
}
