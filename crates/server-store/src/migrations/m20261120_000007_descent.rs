//! Sums over ranges of ids from an index alone, for finding rows that differ (ADR 0012).
//!
//! Each row keeps its term of the digest, computed by the database from the row's own columns:
//! whatever wrote the row, the term is that of the row. The key's index carries it, and for `up`
//! tables the origin, because those are compared for one device.

use super::{Migration, Step};

/// Tables of tenants at the time of this migration.
const BOTH_WAYS: [&str; 17] = [
    "context_checkpoints",
    "context_messages",
    "context_sessions",
    "context_task_messages",
    "context_task_tracking",
    "org_decisions",
    "org_error_solutions",
    "org_kg_edges",
    "org_kg_nodes",
    "org_project_tracks",
    "org_projects",
    "org_skill_learnings",
    "projects_embeddings",
    "projects_exclude_patterns",
    "projects_projects",
    "projects_sprints",
    "projects_sub_projects",
];
/// Those of them whose rows only go up.
const UP: [&str; 7] = [
    "context_activity_associations",
    "context_token_economics",
    "context_tool_analytics",
    "org_calibration_history",
    "org_quality_metrics",
    "platform_usage_stats",
    "projects_content_hashes",
];
/// The platform's catalogue, which has neither tenant nor device.
const CATALOGUE: [&str; 4] = [
    "platform_capabilities",
    "platform_components",
    "platform_relationships",
    "platform_triggers",
];

pub(super) fn migration() -> Migration {
    let mut steps = Vec::new();
    for name in BOTH_WAYS {
        steps.push(term(name, "uuid_send(device_id)"));
        steps.extend(key(name, "tenant_id, scope_id, id", "term"));
    }
    for name in UP {
        steps.push(term(name, "uuid_send(device_id)"));
        steps.extend(key(name, "tenant_id, scope_id, id", "term, origin_device"));
    }
    for name in CATALOGUE {
        steps.push(term(name, "'\\x00000000000000000000000000000000'::bytea"));
        steps.extend(key(name, "id", "term"));
    }
    Migration {
        version: 20_261_120_000_007,
        name: "descent",
        steps,
    }
}

/// First 64 bits of SHA-256 over the name with its length, id, version, device, hash and whether
/// the row is deleted; the same as `coditect_core::digest::term`.
fn term(name: &str, device: &str) -> Step {
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    let length = name.len();
    Step::Sql(format!(
        "alter table {name} add column term bigint generated always as (
    ('x' || encode(substr(sha256('\\x{length:016x}{hex}'::bytea || uuid_send(id)
        || int8send(version) || {device} || content_hash
        || case when deleted_at is null then '\\x00'::bytea else '\\x01'::bytea end),
    1, 8), 'hex'))::bit(64)::bigint) stored"
    ))
}

fn key(name: &str, columns: &str, included: &str) -> [Step; 2] {
    [
        Step::Sql(format!("alter table {name} drop constraint {name}_pkey")),
        Step::Sql(format!(
            "alter table {name} add constraint {name}_pkey
    primary key ({columns}) include ({included})"
        )),
    ]
}
