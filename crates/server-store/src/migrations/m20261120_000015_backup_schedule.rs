//! Backups by schedule: jobs that nobody asked for, and archives that go.

use super::{Migration, Step};

pub(super) fn migration() -> Migration {
    let steps = [
        // The schedule asks for nobody.
        "alter table context_backups alter column requested_by drop not null",
        "alter table context_backups drop constraint context_backups_status_check",
        "alter table context_backups add constraint context_backups_status_check
    check (status in ('pending', 'running', 'completed', 'failed', 'expiring'))",
        // Which key the archive was encrypted with, and when it was last restored on trial.
        "alter table context_backups add column key_id text",
        "alter table context_backups add column tried_at timestamptz",
        "alter table context_backups add column trial_failure text",
        // Several servers keep the schedule: what one has asked for the others do not.
        "create unique index context_backups_schedule_idx
    on context_backups (tenant_id, scope_id, path) where not on_demand",
        "create index context_backups_newest_idx
    on context_backups (tenant_id, scope_id, completed_at desc)
    where status = 'completed'",
        "create index context_backups_expiry_idx on context_backups (tenant_id, expires_at)
    where expires_at is not null",
    ];
    Migration {
        version: 20_261_120_000_015,
        name: "backup schedule",
        steps: steps.map(|sql| Step::Sql(sql.to_owned())).into(),
    }
}
