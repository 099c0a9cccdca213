//! Tier 2, org.db: decisions, learnings, fixes and the knowledge graph. Critical.

use super::Merge::Counter;
use super::{Class, Direction, File, Identity, Table, integer, json, real, text, timestamp};

pub(super) const DECISIONS: Table = Table {
    file: File::Org,
    local: "decisions",
    cloud: "org_decisions",
    direction: Direction::Both,
    class: Class::Record,
    identity: Identity::Random,
    columns: &[
        text("decision_id"),
        text("title").required(),
        text("rationale"),
        text("decision_type"),
        text("status").default("'proposed'"),
        text("message_id"),
        text("session_id"),
        text("project_id"),
        text("project_path"),
        json("tags"),
        real("confidence"),
        text("source"),
    ],
    indexes: &[&["project_id"], &["decision_id"]],
    search: &["title", "rationale"],
    doc: "Decisions with their reasons: proposed, accepted or superseded.",
};

pub(super) const SKILL_LEARNINGS: Table = Table {
    file: File::Org,
    local: "skill_learnings",
    cloud: "org_skill_learnings",
    direction: Direction::Both,
    class: Class::Record,
    identity: Identity::Random,
    columns: &[
        text("skill_name").required(),
        text("learning").required(),
        text("category"),
        real("confidence").default("0.5"),
        integer("usage_count").default("1").merge(Counter),
        text("session_id"),
        text("project_id"),
        text("outcome"),
        integer("effectiveness_score"),
        text("errors"),
        timestamp("analyzed_at"),
    ],
    indexes: &[&["skill_name"]],
    search: &["skill_name", "learning"],
    doc: "What was learned about a skill, and how often it was of use.",
};

pub(super) const ERROR_SOLUTIONS: Table = Table {
    file: File::Org,
    local: "error_solutions",
    cloud: "org_error_solutions",
    direction: Direction::Both,
    class: Class::Record,
    identity: Identity::Random,
    columns: &[
        text("error_pattern").required(),
        text("solution").required(),
        integer("success_count").default("1").merge(Counter),
        text("language"),
        text("category"),
        text("session_id"),
        text("project_id"),
    ],
    indexes: &[],
    search: &["error_pattern", "solution"],
    doc: "Errors and the fixes that worked.",
};

pub(super) const KG_NODES: Table = Table {
    file: File::Org,
    local: "kg_nodes",
    cloud: "org_kg_nodes",
    direction: Direction::Both,
    class: Class::Record,
    identity: Identity::Derived(&["node_type", "node_key"]),
    columns: &[
        text("node_type").required(),
        text("node_key").required(),
        text("content"),
        text("project_id"),
        json("metadata"),
    ],
    indexes: &[&["node_type"]],
    search: &[],
    doc: "Nodes of the knowledge graph: decisions, files, sessions, tasks, errors, commits.",
};

pub(super) const KG_EDGES: Table = Table {
    file: File::Org,
    local: "kg_edges",
    cloud: "org_kg_edges",
    direction: Direction::Both,
    class: Class::Record,
    identity: Identity::Random,
    columns: &[
        text("from_node").required(),
        text("to_node").required(),
        text("edge_type").required(),
        real("weight").default("1.0"),
        json("metadata"),
    ],
    indexes: &[&["from_node"], &["to_node"]],
    search: &[],
    doc: "Edges of the knowledge graph, by the ids of their nodes.",
};

pub(super) const CALIBRATION_HISTORY: Table = Table {
    file: File::Org,
    local: "calibration_history",
    cloud: "org_calibration_history",
    direction: Direction::Up,
    class: Class::Fact,
    identity: Identity::Random,
    columns: &[
        text("model").required(),
        text("component_id"),
        text("metric"),
        real("predicted"),
        real("actual"),
        integer("sample_size"),
        timestamp("calibrated_at"),
        json("metadata"),
    ],
    indexes: &[&["model"]],
    search: &[],
    doc: "How well a model's confidence matched what happened.",
};

pub(super) const QUALITY_METRICS: Table = Table {
    file: File::Org,
    local: "quality_metrics",
    cloud: "org_quality_metrics",
    direction: Direction::Up,
    class: Class::Fact,
    identity: Identity::Random,
    columns: &[
        text("metric_name").required(),
        real("metric_value"),
        text("component_id"),
        text("project_id"),
        text("unit"),
        real("threshold"),
        timestamp("measured_at"),
        json("metadata"),
    ],
    indexes: &[&["metric_name"]],
    search: &[],
    doc: "Measured health of components and projects.",
};

pub(super) const PROJECTS: Table = Table {
    file: File::Org,
    local: "projects",
    cloud: "org_projects",
    direction: Direction::Both,
    class: Class::Record,
    identity: Identity::Random,
    columns: &[
        text("project_id"),
        text("name").required(),
        text("description"),
        text("status").default("'active'"),
        text("repository_url"),
        text("root_commit"),
        json("metadata"),
    ],
    indexes: &[&["project_id"]],
    search: &[],
    doc: "The organisation's register of projects.",
};

pub(super) const PROJECT_TRACKS: Table = Table {
    file: File::Org,
    local: "project_tracks",
    cloud: "org_project_tracks",
    direction: Direction::Both,
    class: Class::Record,
    identity: Identity::Random,
    columns: &[
        text("project_id").required(),
        text("track_id").required(),
        text("name"),
        text("description"),
        text("status").default("'active'"),
        integer("position"),
    ],
    indexes: &[&["project_id"]],
    search: &[],
    doc: "Tracks of work (A to AK) that a project follows.",
};
