//! Trial restores of backups: what a restore must come to, and who tries one at this moment.

use super::{Migration, Step};

pub(super) fn migration() -> Migration {
    let steps = [
        // Rows, rows and tombstones, and XOR of the terms of the scope as of the backup's end,
        // read from the sums that are kept beside the rows: not from the archive.
        "alter table context_backups add column content_digest text",
        // A server that tries the backup holds it until then.
        "alter table context_backups add column trial_until timestamptz",
        "create index context_backups_tried_idx on context_backups (tenant_id, tried_at)
    where tried_at is not null",
    ];
    Migration {
        version: 20_261_120_000_018,
        name: "backup trials",
        steps: steps.map(|sql| Step::Sql(sql.to_owned())).into(),
    }
}
