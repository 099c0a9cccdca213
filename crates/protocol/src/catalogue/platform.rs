//! Tier 1, platform.db: the component catalogue and how it is used.

use super::Merge::Owner;
use super::{Class, Direction, File, Identity, Table, integer, json, real, text, timestamp};

pub(super) const COMPONENTS: Table = Table {
    file: File::Platform,
    local: "components",
    cloud: "platform_components",
    direction: Direction::Down,
    class: Class::Catalogue,
    identity: Identity::Derived(&["component_id"]),
    columns: &[
        text("component_id").required(),
        text("component_type").required(),
        text("name").required(),
        text("description"),
        text("component_version"),
        text("status").default("'operational'"),
        text("path"),
        text("category"),
        text("subcategory"),
        json("metadata"),
    ],
    indexes: &[&["component_type"]],
    search: &[],
    doc: "Agents, commands, skills, scripts, hooks and workflows that the platform offers.",
};

pub(super) const CAPABILITIES: Table = Table {
    file: File::Platform,
    local: "capabilities",
    cloud: "platform_capabilities",
    direction: Direction::Down,
    class: Class::Catalogue,
    identity: Identity::Derived(&["component_id", "capability", "capability_type"]),
    columns: &[
        text("component_id").required(),
        text("capability").required(),
        text("capability_type").required(),
    ],
    indexes: &[&["capability_type"], &["component_id"]],
    search: &[],
    doc: "What a component can do, as tags, domains and actions.",
};

pub(super) const TRIGGERS: Table = Table {
    file: File::Platform,
    local: "triggers",
    cloud: "platform_triggers",
    direction: Direction::Down,
    class: Class::Catalogue,
    identity: Identity::Derived(&["component_id", "trigger_type", "pattern"]),
    columns: &[
        text("component_id").required(),
        text("trigger_type").required(),
        text("pattern").required(),
        real("weight"),
    ],
    indexes: &[&["component_id"]],
    search: &[],
    doc: "When a component should be used or avoided.",
};

pub(super) const COMPONENT_RELATIONSHIPS: Table = Table {
    file: File::Platform,
    local: "component_relationships",
    cloud: "platform_relationships",
    direction: Direction::Down,
    class: Class::Catalogue,
    identity: Identity::Derived(&["source_id", "target_id", "relationship"]),
    columns: &[
        text("source_id").required(),
        text("target_id").required(),
        text("relationship").required(),
        json("metadata"),
    ],
    indexes: &[&["source_id"], &["target_id"]],
    search: &[],
    doc: "Dependencies and compositions between components.",
};

pub(super) const COMPONENT_USAGE_STATS: Table = Table {
    file: File::Platform,
    local: "component_usage_stats",
    cloud: "platform_usage_stats",
    direction: Direction::Up,
    class: Class::Record,
    identity: Identity::DerivedPerDevice(&["component_id"]),
    columns: &[
        text("component_id").required(),
        integer("invocation_count").default("0").merge(Owner),
        integer("success_count").default("0").merge(Owner),
        integer("error_count").default("0").merge(Owner),
        integer("total_duration_ms").default("0").merge(Owner),
        timestamp("last_used_at").merge(Owner),
    ],
    indexes: &[&["component_id"]],
    search: &[],
    doc: "How often this device used a component, and how it went.",
};
