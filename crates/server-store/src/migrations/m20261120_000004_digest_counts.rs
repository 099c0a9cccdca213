//! Digests also count tombstones: two sets of rows with equal exclusive ors and different sizes
//! are different.

use super::{Migration, Step};

pub(super) fn migration() -> Migration {
    let steps = ["stream_digests", "platform_digests"]
        .map(|table| format!("alter table {table} add column count bigint not null default 0"))
        .map(Step::Sql)
        .to_vec();
    Migration {
        version: 20_261_120_000_004,
        name: "digest counts",
        steps,
    }
}
